//! What the element and the log are told of an output's connection, and when a peer that has failed is tried again.

use super::{Event, Report};
use crate::elements::vadlitetrigger::CAT;
use crate::elements::vadlitetrigger::pulse::Pulse;
use crate::net::backoff::Standing;
use std::fmt::Display;
use std::time::Duration;

pub struct Link {
    /// The output's, for messages.
    name: String,
    report: Report,
    /// What the element has been told last: that it is connected, or not.
    told: Option<bool>,
    /// A failure has been warned of since the peer last did what it was asked for.
    warned: bool,
    standing: Standing,
}

impl Link {
    pub fn new(name: String, report: Report) -> Self {
        Self {
            name,
            report,
            told: None,
            warned: false,
            standing: Standing::default(),
        }
    }

    /// The peer has answered; a connection alone is no sign that it does what it is asked for.
    pub fn answered(&mut self) {
        self.standing.answered();
        if self.told.replace(true) != Some(true) {
            gst::debug!(CAT, "{}: connected", self.name);
            (self.report)(&self.name, Event::Connected);
        }
    }

    /// The peer has done what matters: it has answered a pulse, or switched on.
    pub fn served(&mut self) {
        self.standing.served();
        self.warned = false;
        self.answered();
    }

    /// Something has failed. The element is told once until there is an answer again, and warns once until a pulse is answered or a
    /// connection has proved good.
    pub fn failed(&mut self, reason: impl Display) {
        gst::debug!(CAT, "{}: {reason}", self.name);
        if self.told.replace(false) != Some(false) {
            let event = Event::Disconnected {
                reason: reason.to_string(),
                again: std::mem::replace(&mut self.warned, true),
            };
            (self.report)(&self.name, event);
        }
    }

    /// There is nobody: how long to wait before the next attempt.
    pub fn unreachable(&mut self, reason: impl Display) -> Duration {
        self.failed(reason);
        let wait = self.standing.unreachable();
        self.log_wait(wait);
        wait
    }

    /// A connection has failed that has lived for so long after its first answer, and maybe failed at a pulse: how long to wait, or `None`
    /// where another one is tried at once, of which nothing needs to be told yet.
    pub fn broke(
        &mut self,
        reason: impl Display,
        life: Option<Duration>,
        at_pulse: bool,
    ) -> Option<Duration> {
        self.lived(life);
        let wait = self.standing.broke(at_pulse);
        match wait {
            None => gst::debug!(CAT, "{}: {reason}; tried again at once", self.name),
            Some(wait) => {
                self.failed(reason);
                self.log_wait(wait);
            }
        }
        wait
    }

    /// A connection that has lived for so long after its first answer was closed while nothing was asked for, which is no failure: how long
    /// to wait before another one that nothing needs yet, or `None`; and whether a pulse has to wait too, since something has failed.
    pub fn closed_idle(&mut self, life: Duration) -> (Option<Duration>, bool) {
        gst::debug!(CAT, "{}: closed while idle, after {life:?}", self.name);
        self.lived(Some(life));
        (self.standing.closed_idle(), self.standing.has_failed())
    }

    fn lived(&mut self, life: Option<Duration>) {
        if life.is_some_and(|life| self.standing.lived(life)) {
            self.warned = false;
        }
    }

    /// The pulse came too late to be of use, or was refused.
    pub fn missed(&self, pulse: Pulse) {
        gst::debug!(CAT, "{}: missed part {}", self.name, pulse.part.number);
        (self.report)(&self.name, Event::Missed(pulse));
    }

    /// The element has ended, and what has been switched on could not be switched off.
    pub fn left_on(&self, reason: &str) {
        let reason = match reason {
            "" => "there is no answer",
            reason => reason,
        };
        gst::debug!(CAT, "{}: it may be on at the end: {reason}", self.name);
        (self.report)(&self.name, Event::LeftOn(reason.to_owned()));
    }

    fn log_wait(&self, wait: Duration) {
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
