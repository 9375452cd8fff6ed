//! Times as properties: nanoseconds, as everywhere in GStreamer.

use gst::prelude::*;
use std::fmt::Display;

/// Refuses what is meant as milliseconds or seconds: shorter than a millisecond is nothing on a belt.
///
/// # Errors
/// Names the property and what would be right.
pub fn check(name: &str, time: u64) -> Result<(), String> {
    if (1..1_000_000).contains(&time) {
        return Err(format!(
            "the property {name}: {time} ns is less than a millisecond; times are in nanoseconds: {time}000000 is {time} ms"
        ));
    }
    Ok(())
}

/// A time in a log, as GStreamer writes it.
pub fn display(time: u64) -> impl Display {
    // The largest number means none.
    let time = (time != u64::MAX).then(|| gst::ClockTime::from_nseconds(time));
    time.display()
}
