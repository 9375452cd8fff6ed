//! What is fired at the gate.

use super::parts::Part;
use std::time::{Duration, Instant};

/// One part rejected.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    pub part: Part,
    /// The running time at which the part is at the gate, in nanoseconds.
    pub due: u64,
    /// When it was fired, and for how long the gate is to stay open.
    pub fired: Instant,
    pub width: Duration,
    /// By how much it was fired after the part had come to the gate; zero where in time.
    pub late: Duration,
}

impl Pulse {
    /// The reason in the words of messages.
    pub fn reason(&self) -> &'static str {
        self.part.reason.name()
    }
}
