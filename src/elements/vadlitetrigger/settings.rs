//! The values of the properties of `vadlitetrigger`, and their defaults.

use super::parts::Decision;
use crate::elements::time::{self, UnitError};
use gst::prelude::*;
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
    pub fn check(&self) -> Result<(), UnitError> {
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
