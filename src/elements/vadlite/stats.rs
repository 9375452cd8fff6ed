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
            frames_lost: 0,
            latency,
            device,
            model: String::new(),
            reloads: 0,
            reloads_refused: 0,
            drift: 0.0,
            drift_alarms: 0,
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

    /// Takes in the state of the test for drift.
    pub fn set_drift(&mut self, level: f64, alarm: bool) {
        self.drift = level;
        self.drift_alarms += u64::from(alarm);
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
        let seconds = |q| self.latency.value_at_quantile(q) as f64 / 1e9;
        serde_json::json!({
            "time": time.to_string(),
            "model": self.model,
            "device": self.device,
            "frames": self.frames,
            "inspected": self.inspected,
            "flagged": self.flagged,
            "failed": self.failed,
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
    pub fn prometheus(&self, element: &str) -> String {
        // Backslash, quote and newline have a meaning in labels.
        let escape = |text: &str| {
            text.replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n")
        };
        let labels = format!(
            "element=\"{}\",model=\"{}\",device=\"{}\"",
            escape(element),
            escape(&self.model),
            self.device
        );
        let mut text = String::new();
        let mut add = |name: &str, kind: &str, help: &str, value: f64| {
            text += &format!(
                "# HELP vadlite_{name} {help}\n# TYPE vadlite_{name} {kind}\nvadlite_{name}{{{labels}}} {value}\n"
            );
        };
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
            add(name, "counter", help, value as f64);
        }
        add(
            "drift",
            "gauge",
            "How much speaks for a drift, 0 to 1.",
            self.drift,
        );
        let seconds = |q| self.latency.value_at_quantile(q) as f64 / 1e9;
        for (name, q) in [
            ("latency_median_seconds", 0.5),
            ("latency_p99_seconds", 0.99),
        ] {
            add(name, "gauge", "Time of an inspection.", seconds(q));
        }
        text
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
            .field("drift", self.drift)
            .field("drift-alarms", self.drift_alarms)
            .build()
    }
}

impl Default for Stats {
    fn default() -> Self {
        Self::new("")
    }
}
