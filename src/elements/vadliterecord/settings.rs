//! The properties of `vadliterecord`.

use super::error::StartError;
use crate::elements::time;
use gst::prelude::*;
use std::path::PathBuf;
use std::sync::LazyLock;

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub location: PathBuf,
    /// Nanoseconds.
    pub pre_roll: u64,
    pub post_roll: u64,
    pub max_duration: u64,
    pub max_bytes: u64,
    pub max_files: u64,
    /// Name of an encoder element; empty: the first found.
    pub encoder: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            location: PathBuf::from("."),
            pre_roll: 2_000_000_000,
            post_roll: 2_000_000_000,
            max_duration: 300_000_000_000,
            max_bytes: 0,
            max_files: 0,
            encoder: String::new(),
        }
    }
}

impl Settings {
    /// Takes a value, or leaves the one that is there.
    ///
    /// # Errors
    /// A time that is meant in another unit, or an encoder that GStreamer does not have.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> Result<(), StartError> {
        let text = || value.get::<Option<String>>().ok().flatten();
        let text = || text().filter(|text| !text.is_empty());
        let number = || value.get::<u64>().unwrap_or_default();
        let time = |name| {
            let time = number();
            time::check(name, time).map(|()| time)
        };
        match name {
            "location" => self.location = text().unwrap_or_else(|| ".".into()).into(),
            "pre-roll" => self.pre_roll = time("pre-roll")?,
            "post-roll" => self.post_roll = time("post-roll")?,
            "max-duration" => self.max_duration = time("max-duration")?,
            "max-bytes" => self.max_bytes = number(),
            "max-files" => self.max_files = number(),
            "encoder" => {
                let name = text().unwrap_or_default();
                if !name.is_empty() && gst::ElementFactory::find(&name).is_none() {
                    return Err(StartError::NoSuchEncoder(name));
                }
                self.encoder = name;
            }
            _ => {}
        }
        Ok(())
    }

    pub fn get(&self, name: &str) -> Option<glib::Value> {
        Some(match name {
            "location" => self.location.to_string_lossy().to_value(),
            "pre-roll" => self.pre_roll.to_value(),
            "post-roll" => self.post_roll.to_value(),
            "max-duration" => self.max_duration.to_value(),
            "max-bytes" => self.max_bytes.to_value(),
            "max-files" => self.max_files.to_value(),
            "encoder" => self.encoder.to_value(),
            _ => return None,
        })
    }
}

/// The property specifications, with the defaults of [`Settings`].
pub fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let defaults = Settings::default();
        let number = |name: &str, nick: &str, default: u64, blurb: &str| {
            glib::ParamSpecUInt64::builder(name)
                .nick(nick)
                .blurb(blurb)
                .default_value(default)
                .mutable_ready()
                .build()
        };
        vec![
            glib::ParamSpecString::builder("location")
                .nick("Location")
                .blurb("Folder of the incidents, made where it is missing")
                .default_value(".")
                .mutable_ready()
                .build(),
            number("pre-roll", "Pre-roll", defaults.pre_roll, "Time recorded before the first flagged frame, in ns; up to a second more. At most 256 MiB of encoded frames are kept for it"),
            number("post-roll", "Post-roll", defaults.post_roll, "Time recorded after the last flagged frame, in ns"),
            number("max-duration", "Longest recording", defaults.max_duration, "Time after which an incident that goes on continues in another file, in ns. 0: no limit"),
            number("max-bytes", "Largest size", 0, "Bytes that all incidents in the folder may take; the oldest are removed first. 0: no limit"),
            number("max-files", "Most incidents", 0, "Incidents that the folder may hold; the oldest are removed first. 0: no limit"),
            glib::ParamSpecString::builder("encoder")
                .nick("Encoder")
                .blurb("Name of the encoder element. Default: the first that works here of nvv4l2h264enc, v4l2h264enc, x264enc, openh264enc and jpegenc")
                .mutable_ready()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Counts since the start: incidents on the disk, flagged frames, bytes of videos, incidents that failed, other files that could not be written or removed, incidents removed for the limits, frames dropped, frames without a time stamp, jumps of time stamps and results that could not be read")
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
