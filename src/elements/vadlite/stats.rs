//! What the element counts, for the property `stats`.

use hdrhistogram::Histogram;

/// One frame's share in the counts.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct FrameCount {
    /// Nanoseconds, where it was inspected.
    pub latency: Option<u64>,
    pub flagged: bool,
    /// It could not be used.
    pub failed: bool,
    /// It was left out on purpose, by `interval`.
    pub skipped: bool,
    /// Frames missing before it.
    pub lost: u64,
    /// How much speaks for a drift, 0 to 1, where its score was tested.
    pub drift: Option<f64>,
    pub drift_alarm: bool,
}

/// Counts since the start, and how long inspections took.
#[derive(Debug)]
pub struct Stats {
    frames: u64,
    inspected: u64,
    flagged: u64,
    failed: u64,
    /// Not inspected, though not left out on purpose.
    uninspected: u64,
    frames_lost: u64,
    latency: Histogram<u64>,
    /// Of all inspections, in nanoseconds.
    latency_sum: u64,
    device: &'static str,
    model: String,
    reloads: u64,
    reloads_refused: u64,
    drift: f64,
    drift_alarms: u64,
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
            uninspected: 0,
            frames_lost: 0,
            latency,
            latency_sum: 0,
            device,
            model: String::new(),
            reloads: 0,
            reloads_refused: 0,
            drift: 0.0,
            drift_alarms: 0,
        }
    }

    /// Takes in one frame.
    pub fn count(&mut self, frame: &FrameCount) {
        self.frames += 1;
        self.flagged += u64::from(frame.flagged);
        self.failed += u64::from(frame.failed);
        self.frames_lost = self.frames_lost.saturating_add(frame.lost);
        match frame.latency {
            Some(latency) => {
                self.inspected += 1;
                self.latency.saturating_record(latency);
                self.latency_sum = self.latency_sum.saturating_add(latency);
            }
            None => self.uninspected += u64::from(!frame.skipped),
        }
        self.drift = frame.drift.unwrap_or(self.drift);
        self.drift_alarms += u64::from(frame.drift_alarm);
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

    /// The same as JSON, with the time of day.
    pub fn json(&self) -> String {
        let time = humantime::format_rfc3339_millis(std::time::SystemTime::now());
        let seconds = |q| seconds(self.latency.value_at_quantile(q));
        serde_json::json!({
            "time": time.to_string(),
            "model": self.model,
            "device": self.device,
            "frames": self.frames,
            "inspected": self.inspected,
            "flagged": self.flagged,
            "failed": self.failed,
            "uninspected": self.uninspected,
            "frames_lost": self.frames_lost,
            "reloads": self.reloads,
            "reloads_refused": self.reloads_refused,
            "drift": self.drift,
            "drift_alarms": self.drift_alarms,
            "latency_median": seconds(0.5),
            "latency_p99": seconds(0.99),
        })
        .to_string()
    }

    /// The same in Prometheus' text format, for the element of this name.
    ///
    /// Model and device are labels of `vadlite_info` alone: as labels of the counters they would begin new series at each reload.
    pub fn prometheus(&self, element: &str) -> String {
        let element = format!("element=\"{}\"", escaped(element));
        let mut text = String::new();
        let info = format!(
            "{element},model=\"{}\",device=\"{}\"",
            escaped(&self.model),
            escaped(self.device)
        );
        family(
            &mut text,
            "info",
            "gauge",
            "The model and the device in use.",
        );
        sample(&mut text, "info", &info, 1.0);
        for (name, help, value) in [
            ("frames_total", "Frames that have passed.", self.frames),
            ("inspected_total", "Frames inspected.", self.inspected),
            ("flagged_total", "Frames above the threshold.", self.flagged),
            (
                "failed_total",
                "Frames that could not be inspected.",
                self.failed,
            ),
            (
                "uninspected_total",
                "Frames that passed uninspected, but for those left out by interval.",
                self.uninspected,
            ),
            (
                "lost_total",
                "Frames missing before the element.",
                self.frames_lost,
            ),
            (
                "reloads_total",
                "Models that have taken over.",
                self.reloads,
            ),
            (
                "reloads_refused_total",
                "Models that could not take over.",
                self.reloads_refused,
            ),
            (
                "drift_alarms_total",
                "Drifts of the scores reported.",
                self.drift_alarms,
            ),
        ] {
            family(&mut text, name, "counter", help);
            sample(&mut text, name, &element, value as f64);
        }
        let help = "How much speaks for a drift, 0 to 1.";
        family(&mut text, "drift", "gauge", help);
        sample(&mut text, "drift", &element, self.drift);

        let name = "latency_seconds";
        family(&mut text, name, "summary", "Time of an inspection.");
        for quantile in [0.5, 0.99] {
            let seconds = match self.inspected {
                // What the format has for no observations.
                0 => f64::NAN,
                _ => seconds(self.latency.value_at_quantile(quantile)),
            };
            let labels = format!("{element},quantile=\"{quantile}\"");
            sample(&mut text, name, &labels, seconds);
        }
        sample(
            &mut text,
            "latency_seconds_sum",
            &element,
            seconds(self.latency_sum),
        );
        sample(
            &mut text,
            "latency_seconds_count",
            &element,
            self.inspected as f64,
        );
        text
    }

    /// The value of the property.
    pub fn structure(&self) -> gst::Structure {
        gst::Structure::builder("stats")
            .field("frames", self.frames)
            .field("inspected", self.inspected)
            .field("flagged", self.flagged)
            .field("failed", self.failed)
            .field("uninspected", self.uninspected)
            .field("frames-lost", self.frames_lost)
            .field("latency-median", self.latency.value_at_quantile(0.5))
            .field("latency-p99", self.latency.value_at_quantile(0.99))
            .field("device", self.device)
            .field("model", &self.model)
            .field("reloads", self.reloads)
            .field("reloads-refused", self.reloads_refused)
            .field("drift", self.drift)
            .field("drift-alarms", self.drift_alarms)
            .build()
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// As the value of a label, where backslash, quote and newline have a meaning.
fn escaped(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

/// Begins a family of samples.
fn family(text: &mut String, name: &str, kind: &str, help: &str) {
    *text += &format!("# HELP vadlite_{name} {help}\n# TYPE vadlite_{name} {kind}\n");
}

fn sample(text: &mut String, name: &str, labels: &str, value: f64) {
    *text += &format!("vadlite_{name}{{{labels}}} {value}\n");
}

impl Default for Stats {
    fn default() -> Self {
        Self::new("")
    }
}
