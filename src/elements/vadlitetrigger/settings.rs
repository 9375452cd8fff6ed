//! The properties of `vadlitetrigger`.

use super::parts::Decision;
use crate::elements::{text, time};
use gst::prelude::*;
use std::sync::LazyLock;
use std::time::Duration;

/// What happens to parts that pass uninspected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVadLiteTriggerFailSafe")]
pub enum FailSafe {
    /// They are reported, and pass
    #[default]
    #[enum_value(name = "Pass: they are reported, and pass", nick = "pass")]
    Pass,
    /// They are reported, and rejected
    #[enum_value(name = "Reject: they are reported, and rejected", nick = "reject")]
    Reject,
}

impl FailSafe {
    /// What it means for parts, in the words of warnings.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Pass => "parts pass (fail-safe=pass)",
            Self::Reject => "parts are rejected (fail-safe=reject)",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub output: String,
    pub credentials: Option<String>,
    pub queue_size: u32,
    pub live: LiveSettings,
}

/// What may change while playing. Times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LiveSettings {
    pub delay: u64,
    pub distance: f64,
    pub belt_speed: f64,
    pub pulse: u64,
    pub merge_window: u64,
    pub decision: Decision,
    pub fail_safe: FailSafe,
    pub watchdog: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            output: String::new(),
            credentials: None,
            queue_size: 100,
            live: LiveSettings {
                delay: 0,
                distance: 0.0,
                belt_speed: 0.0,
                pulse: 50_000_000,
                merge_window: 200_000_000,
                decision: Decision::default(),
                fail_safe: FailSafe::default(),
                watchdog: 0,
            },
        }
    }
}

impl LiveSettings {
    /// From camera to gate.
    pub fn way_to_gate(&self) -> u64 {
        if self.distance > 0.0 && self.belt_speed > 0.0 {
            let seconds = self.distance / self.belt_speed;
            Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |time| time.as_nanos() as u64)
        } else {
            self.delay
        }
    }
}

impl Settings {
    /// # Errors
    /// A time that is meant in another unit.
    pub fn check(&self) -> Result<(), String> {
        let live = &self.live;
        for (name, time) in [
            ("delay", live.delay),
            ("pulse", live.pulse),
            ("merge-window", live.merge_window),
            ("watchdog", live.watchdog),
        ] {
            time::check(name, time)?;
        }
        Ok(())
    }

    pub fn set(&mut self, name: &str, value: &glib::Value) {
        let text = || value.get::<Option<String>>().ok().flatten();
        let time = || value.get::<u64>().unwrap_or_default();
        let number = || value.get::<f64>().unwrap_or_default();
        let live = &mut self.live;
        match name {
            "output" => self.output = text().unwrap_or_default(),
            "credentials" => self.credentials = text().filter(|file| !file.is_empty()),
            "queue-size" => self.queue_size = value.get().unwrap_or_default(),
            "delay" => live.delay = time(),
            "distance" => live.distance = number(),
            "belt-speed" => live.belt_speed = number(),
            "pulse" => live.pulse = time(),
            "merge-window" => live.merge_window = time(),
            "decision" => live.decision = value.get().unwrap_or_default(),
            "fail-safe" => live.fail_safe = value.get().unwrap_or_default(),
            "watchdog" => live.watchdog = time(),
            _ => {}
        }
    }

    pub fn get(&self, name: &str) -> Option<glib::Value> {
        let live = &self.live;
        Some(match name {
            "output" => self.output.to_value(),
            "credentials" => self.credentials.to_value(),
            "queue-size" => self.queue_size.to_value(),
            "delay" => live.delay.to_value(),
            "distance" => live.distance.to_value(),
            "belt-speed" => live.belt_speed.to_value(),
            "pulse" => live.pulse.to_value(),
            "merge-window" => live.merge_window.to_value(),
            "decision" => live.decision.to_value(),
            "fail-safe" => live.fail_safe.to_value(),
            "watchdog" => live.watchdog.to_value(),
            _ => return None,
        })
    }
}

/// The property specifications, with the defaults of [`Settings`].
pub fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let defaults = Settings::default();
        let live = defaults.live;
        let time = |name: &str, nick: &str, default: u64, blurb: &str| {
            glib::ParamSpecUInt64::builder(name)
                .nick(nick)
                .blurb(blurb)
                .default_value(default)
                .mutable_playing()
                .build()
        };
        let number = |name: &str, nick: &str, blurb: &str| {
            glib::ParamSpecDouble::builder(name)
                .nick(nick)
                .blurb(blurb)
                .minimum(0.0)
                .maximum(1e9)
                .mutable_playing()
                .build()
        };
        vec![
            text("output", "Output", "Where pulses go besides the bus, several separated by spaces: mqtt://HOST[:PORT]/TOPIC (JSON at QoS 1, and online or offline on TOPIC/status), mqtts:// for TLS, modbus-tcp://HOST[:PORT]/COIL[?unit=N], gpio://CHIP/LINE[?active-low]. None holds up the pipeline"),
            text("credentials", "Credentials", "File with lines user=, password= and ca= for MQTT. Default: the variables VADLITE_MQTT_USER, VADLITE_MQTT_PASSWORD and VADLITE_MQTT_CA"),
            glib::ParamSpecUInt::builder("queue-size")
                .nick("Queue size")
                .blurb("Pulses that wait for an output. MQTT delivers them when the broker is back, marked as late; Modbus and GPIO leave out those whose part has passed the gate. Full, the oldest is dropped and counted")
                .minimum(1)
                .maximum(100_000)
                .default_value(defaults.queue_size)
                .mutable_ready()
                .build(),
            time("delay", "Delay", live.delay, "Time of a part from the camera to the gate, in ns. The pulse comes so long after the first flagged frame was taken"),
            number("distance", "Distance", "Distance from the camera to the gate, in m. With belt-speed it sets the delay"),
            number("belt-speed", "Belt speed", "Speed of the belt, in m/s"),
            time("pulse", "Pulse", live.pulse, "How long the gate stays open, in ns"),
            time("merge-window", "Merge window", live.merge_window, "Frames within so many ns of a part's first flagged frame show the same part, which gets one pulse. At least as long as a part is seen, and at most from its end to the next part"),
            glib::ParamSpecEnum::builder_with_default("decision", live.decision).nick("Decision").blurb("How several frames of a part make one decision. It is made when the part is at the gate, from the frames that have come by then").mutable_playing().build(),
            glib::ParamSpecEnum::builder_with_default("fail-safe", live.fail_safe).nick("Fail safe").blurb("What happens to parts that pass uninspected: frames that could not be inspected (those left out by vadlite's interval are none of these), and no inspected frame for watchdog").mutable_playing().build(),
            time("watchdog", "Watchdog", live.watchdog, "Longest time without an inspected frame, in ns; 0: any. After that fail-safe holds"),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("pulses: fired; late: of these, known after the part was at the gate; missed: by an output that was away; dropped: by a full queue; lost: parts that pass because 10,000 others are on their way; fail-safe: pulses for uninspected parts; reconnects; connected: outputs that are; error-median, error-p99, error-max: of the time of firing in ns, but for the late")
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
