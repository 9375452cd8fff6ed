//! What the element counts, for the property `stats`.

use super::observation::{Inspection, Observation};
use super::parts::{Part, Reason};
use super::schedule::Seen;
use hdrhistogram::Histogram;
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Debug)]
pub struct Stats {
    pub pulses: u64,
    pub late: u64,
    pub missed: u64,
    pub dropped: u64,
    pub lost: u64,
    pub fail_safe: u64,
    pub reconnects: u64,
    /// Threads of outputs that have failed and begun anew.
    failures: u64,
    /// Frames that passed without the inspection that they should have had, and frames missing.
    pub uninspected: u64,
    pub frames_lost: u64,
    /// Frames whose time stamps could not be believed.
    pub implausible: u64,
    /// Times that no inspected frame came for the watchdog's time.
    pub silences: u64,
    /// How long the gate was held, in nanoseconds, and since when it is.
    held: u64,
    held_since: Option<u64>,
    /// Outputs that are connected, and those that are not any more.
    connected: BTreeSet<String>,
    away: BTreeSet<String>,
    error: Histogram<u64>,
}

impl Default for Stats {
    fn default() -> Self {
        let error = Histogram::new_with_bounds(1_000, 60_000_000_000, 2)
            .expect("bounds and digits are in the range that the crate documents");
        Self {
            pulses: 0,
            late: 0,
            missed: 0,
            dropped: 0,
            lost: 0,
            fail_safe: 0,
            reconnects: 0,
            failures: 0,
            uninspected: 0,
            frames_lost: 0,
            implausible: 0,
            silences: 0,
            held: 0,
            held_since: None,
            connected: BTreeSet::new(),
            away: BTreeSet::new(),
            error,
        }
    }
}

impl Stats {
    /// Takes in a pulse that was fired so long after its part was at the gate, and for which so many had to go in full queues.
    pub fn count_pulse(&mut self, part: &Part, after: Duration, dropped: u64) {
        self.pulses += 1;
        self.dropped += dropped;
        self.fail_safe += u64::from(part.reason == Reason::FailSafe);
        if part.late {
            self.late += 1;
        } else {
            self.error.saturating_record(after.as_nanos() as u64);
        }
    }

    /// Takes in a frame that has come.
    pub fn count_frame(&mut self, observation: &Observation, seen: &Seen) {
        self.uninspected += u64::from(observation.inspection == Inspection::Failed);
        self.frames_lost = self.frames_lost.saturating_add(observation.lost);
        self.implausible += u64::from(seen.taken.implausible.is_some());
        self.lost += seen.too_many;
    }

    /// Takes in that the gate is held, or let go, at this time on its clock.
    pub fn set_held(&mut self, held: bool, now: u64) {
        if let Some(since) = self.held_since.take() {
            self.held += now.saturating_sub(since);
        }
        self.held_since = held.then_some(now);
    }

    /// Takes in that an output is connected, or is not any more.
    pub fn set_connected(&mut self, output: &str, connected: bool) {
        if connected {
            self.reconnects += u64::from(self.away.remove(output));
            self.connected.insert(output.to_owned());
        } else {
            self.connected.remove(output);
            self.away.insert(output.to_owned());
        }
    }

    /// Takes in that the thread of an output has failed.
    pub fn count_failure(&mut self, output: &str) {
        self.failures += 1;
        if self.connected.contains(output) {
            self.set_connected(output, false);
        }
    }

    /// The value of the property, at this time on the gate's clock.
    pub fn structure(&self, now: Option<u64>) -> gst::Structure {
        let since = self.held_since.zip(now);
        let held = self.held + since.map_or(0, |(since, now)| now.saturating_sub(since));
        gst::Structure::builder("stats")
            .field("pulses", self.pulses)
            .field("late", self.late)
            .field("missed", self.missed)
            .field("dropped", self.dropped)
            .field("lost", self.lost)
            .field("fail-safe", self.fail_safe)
            .field("uninspected", self.uninspected)
            .field("frames-lost", self.frames_lost)
            .field("implausible-times", self.implausible)
            .field("silences", self.silences)
            .field("held", held)
            .field("reconnects", self.reconnects)
            .field("failures", self.failures)
            .field("connected", self.connected.len() as u64)
            .field("error-median", self.error.value_at_quantile(0.5))
            .field("error-p99", self.error.value_at_quantile(0.99))
            .field("error-max", self.error.max())
            .build()
    }
}
