//! Times as properties: nanoseconds, as everywhere in GStreamer.

use gst::prelude::*;
use std::fmt::Display;

/// A time that is meant as milliseconds or seconds: shorter than a millisecond is nothing on a belt.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "the property {name}: {time} ns is less than a millisecond; times are in nanoseconds: {time}000000 is {time} ms"
)]
pub struct UnitError {
    name: &'static str,
    time: u64,
}

/// Refuses a time that is meant in another unit.
///
/// # Errors
/// Names the property and what would be right.
pub fn check(name: &'static str, time: u64) -> Result<(), UnitError> {
    match (1..1_000_000).contains(&time) {
        true => Err(UnitError { name, time }),
        false => Ok(()),
    }
}

/// A time in a log, as GStreamer writes it.
pub fn display(time: u64) -> impl Display {
    // The largest number means none.
    let time = (time != u64::MAX).then(|| gst::ClockTime::from_nseconds(time));
    time.display()
}
