//! What the element and the log are told of an output's connection.

use super::{Event, Report};
use crate::elements::vadlitetrigger::CAT;
use crate::elements::vadlitetrigger::pulse::Pulse;
use std::fmt::Display;
use std::time::Duration;

pub struct Link {
    /// The output's, for messages.
    name: String,
    report: Report,
    /// What the element has been told last.
    told: Option<Told>,
}

#[derive(PartialEq)]
enum Told {
    Connected,
    Disconnected,
}

impl Link {
    pub fn new(name: String, report: Report) -> Self {
        Self {
            name,
            report,
            told: None,
        }
    }

    /// The peer has answered; a connection alone is no sign that it does what it is asked for.
    pub fn answered(&mut self) {
        if self.told.replace(Told::Connected) != Some(Told::Connected) {
            gst::debug!(CAT, "{}: connected", self.name);
            (self.report)(&self.name, Event::Connected);
        }
    }

    /// The connection, or an attempt at one, has failed. The element is told once until there is an answer again.
    pub fn failed(&mut self, reason: impl Display) {
        gst::debug!(CAT, "{}: {reason}", self.name);
        if self.told.replace(Told::Disconnected) != Some(Told::Disconnected) {
            (self.report)(&self.name, Event::Disconnected(reason.to_string()));
        }
    }

    /// The pulse came too late to be of use.
    pub fn missed(&self, pulse: Pulse) {
        gst::debug!(CAT, "{}: missed part {}", self.name, pulse.part.number);
        (self.report)(&self.name, Event::Missed(pulse));
    }

    /// It is tried again after `wait`.
    pub fn waits(&self, wait: Duration) {
        gst::debug!(CAT, "{}: tried again in {wait:?}", self.name);
    }

    /// The pulse has gone out, or what goes out with it has been done.
    pub fn log(&self, pulse: Option<&Pulse>, what: impl Display) {
        match pulse {
            Some(pulse) => {
                let since = pulse.fired.elapsed();
                gst::log!(
                    CAT,
                    "{}: part {}: {what} {since:?} after it was fired",
                    self.name,
                    pulse.part.number
                );
            }
            None => gst::log!(CAT, "{}: {what}", self.name),
        }
    }
}
