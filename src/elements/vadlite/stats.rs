//! What the element counts, for the property `stats`.

use hdrhistogram::Histogram;

/// Counts since the start, and how long inspections took.
#[derive(Debug)]
pub struct Stats {
    frames: u64,
    inspected: u64,
    flagged: u64,
    failed: u64,
    frames_lost: u64,
    latency: Histogram<u64>,
    device: &'static str,
    model: String,
    reloads: u64,
    reloads_refused: u64,
}

impl Stats {
    pub fn new(device: &'static str) -> Self {
        // One microsecond to one minute with two digits: a few tens of kB, never reallocated.
        let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 2)
            .expect("bounds and digits are in the range that the crate documents");
        Self {
            frames: 0,
            inspected: 0,
            flagged: 0,
            failed: 0,
            frames_lost: 0,
            latency,
            device,
            model: String::new(),
            reloads: 0,
            reloads_refused: 0,
        }
    }
}

impl Stats {
    /// Takes in one frame; `latency` in nanoseconds where it was inspected.
    pub fn count(&mut self, latency: Option<u64>, flagged: bool, failed: bool, lost: u64) {
        self.frames += 1;
        self.flagged += u64::from(flagged);
        self.failed += u64::from(failed);
        self.frames_lost += lost;
        if let Some(latency) = latency {
            self.inspected += 1;
            self.latency.saturating_record(latency);
        }
    }

    /// The model in use from here on.
    pub fn set_model(&mut self, name: &str) {
        name.clone_into(&mut self.model);
    }

    /// Takes in that a model took over from another one, or could not.
    pub fn count_reload(&mut self, taken: bool) {
        *if taken {
            &mut self.reloads
        } else {
            &mut self.reloads_refused
        } += 1;
    }

    /// The value of the property.
    pub fn structure(&self) -> gst::Structure {
        gst::Structure::builder("stats")
            .field("frames", self.frames)
            .field("inspected", self.inspected)
            .field("flagged", self.flagged)
            .field("failed", self.failed)
            .field("frames-lost", self.frames_lost)
            .field("latency-median", self.latency.value_at_quantile(0.5))
            .field("latency-p99", self.latency.value_at_quantile(0.99))
            .field("device", self.device)
            .field("model", &self.model)
            .field("reloads", self.reloads)
            .field("reloads-refused", self.reloads_refused)
            .build()
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new("")
    }
}
