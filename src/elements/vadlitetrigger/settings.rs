//! The values of the properties of `vadlitetrigger`, and their defaults.

use super::output::Target;
use super::parts::Decision;
use crate::elements::time::{self, UnitError};
use crate::net::address::AddressError;
use gst::prelude::*;

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

/// From when on the way of a part to the gate counts, where `vadlite` locates parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVadLiteTriggerReference")]
pub enum Reference {
    /// When its middle passes the line through the frame's middle, across the belt's motion
    #[default]
    #[enum_value(
        name = "Centre: its middle passes the line through the frame's, across the belt",
        nick = "centre"
    )]
    Centre,
    /// When the first frame was taken that flags it, as for whole frames
    #[enum_value(
        name = "First flagged: the first frame was taken that flags it",
        nick = "first-flagged"
    )]
    FirstFlagged,
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub output: String,
    pub credentials: Option<String>,
    pub queue_size: u32,
    pub live: LiveSettings,
}

/// The value of `belt-speed` that has it measured.
pub const MEASURED: f64 = -1.0;

/// What may change while playing. Times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LiveSettings {
    pub delay: u64,
    pub distance: f64,
    /// In m/s; [`MEASURED`]: by what located parts do.
    pub belt_speed: f64,
    /// What a frame shows in its width, in m.
    pub field_of_view: f64,
    pub reference: Reference,
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
                field_of_view: 0.0,
                reference: Reference::default(),
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
    /// Whether parts come to the gate by the distance that the belt has gone, and not after a time.
    pub fn goes_by_belt(&self) -> bool {
        self.distance > 0.0
    }

    /// Whether the belt's speed is that of the parts that are located.
    pub fn measures_speed(&self) -> bool {
        self.belt_speed == MEASURED
    }
}

/// Why a value is refused.
#[derive(Debug, thiserror::Error)]
pub enum SettingError {
    #[error(transparent)]
    Time(#[from] UnitError),
    #[error("the property pulse: the gate would not open in 0 ns; 50000000 are 50 ms")]
    Pulse,
    #[error(
        "the property belt-speed: {0} m/s is no speed; -1 has it measured by the parts that vadlite locates"
    )]
    Speed(f64),
    #[error("the property output: {0}")]
    Output(#[from] AddressError),
}

fn checked(name: &'static str, value: &glib::Value) -> Result<u64, SettingError> {
    let time = value.get::<u64>().unwrap_or_default();
    time::check(name, time)?;
    Ok(time)
}

impl Settings {
    /// # Errors
    /// A value that cannot be meant; the one before it stays.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> Result<(), SettingError> {
        let text = || value.get::<Option<String>>().ok().flatten();
        let number = || value.get::<f64>().unwrap_or_default();
        let live = &mut self.live;
        match name {
            "output" => {
                let output = text().unwrap_or_default();
                Target::parse_all(&output)?;
                self.output = output;
            }
            "credentials" => self.credentials = text().filter(|file| !file.is_empty()),
            "queue-size" => self.queue_size = value.get().unwrap_or_default(),
            "delay" => live.delay = checked("delay", value)?,
            "distance" => live.distance = number(),
            "belt-speed" => {
                live.belt_speed = match number() {
                    speed if speed >= 0.0 || speed == MEASURED => speed,
                    speed => return Err(SettingError::Speed(speed)),
                }
            }
            "field-of-view" => live.field_of_view = number(),
            "reference" => live.reference = value.get().unwrap_or_default(),
            "pulse" => {
                live.pulse = match checked("pulse", value)? {
                    0 => return Err(SettingError::Pulse),
                    pulse => pulse,
                }
            }
            "merge-window" => live.merge_window = checked("merge-window", value)?,
            "decision" => live.decision = value.get().unwrap_or_default(),
            "fail-safe" => live.fail_safe = value.get().unwrap_or_default(),
            "watchdog" => live.watchdog = checked("watchdog", value)?,
            _ => {}
        }
        Ok(())
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
            "field-of-view" => live.field_of_view.to_value(),
            "reference" => live.reference.to_value(),
            "pulse" => live.pulse.to_value(),
            "merge-window" => live.merge_window.to_value(),
            "decision" => live.decision.to_value(),
            "fail-safe" => live.fail_safe.to_value(),
            "watchdog" => live.watchdog.to_value(),
            _ => return None,
        })
    }
}
