//! What is to be done and when: parts at the gate, and the watchdog. It knows no clock; every call is told what time it is.

use super::observation::{Inspection, Observation};
use super::parts::{Association, Part, Parts, Reason};
use super::settings::{FailSafe, LiveSettings};

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// The part is at the gate and is rejected.
    Fire(Part),
    /// The part is at the gate and passes: it has turned out good on its way.
    Pass(Part),
    /// No inspected frame has come for the watchdog's time.
    Alarm {
        /// Since the last inspected frame, or since the start.
        first: bool,
        /// The part that is rejected for it, where that is asked for.
        part: Association,
    },
    /// Nothing until this running time; `None`: until something changes.
    Wait(Option<u64>),
}

/// The parts on their way and the watchdog. Times are running times in nanoseconds.
#[derive(Debug, Default)]
pub struct Schedule {
    parts: Parts,
    /// Running time goes on.
    playing: bool,
    /// The last inspected frame's arrival, or of what took its place: the start, or the last alarm.
    inspected: Option<u64>,
    /// There has been an alarm since the last inspected frame.
    alarmed: bool,
}

impl Schedule {
    /// Takes in what a frame shows that arrives at `now`; `None` where there is no clock.
    pub fn frame(
        &mut self,
        observation: Observation,
        settings: &LiveSettings,
        now: Option<u64>,
    ) -> Association {
        if observation.inspection == Inspection::Inspected {
            self.alarmed = false;
            self.inspected = now;
        } else if self.inspected.is_none() {
            self.inspected = now;
        }
        let fail_safe = observation.inspection == Inspection::Failed
            && settings.fail_safe == FailSafe::Reject
            && !observation.flagged;
        if fail_safe {
            self.reject_unseen(observation.frame, observation.time, settings, now)
        } else {
            let reject = observation.flagged.then_some(Reason::Flagged);
            self.add(&observation, reject, settings, now)
        }
    }

    /// What is to be done at `now`. To be asked until it says [`Action::Wait`], and again whenever something has changed.
    pub fn next(&mut self, now: u64, settings: &LiveSettings) -> Action {
        if !self.playing {
            return Action::Wait(None);
        }
        if let Some(part) = self.parts.at_gate(now) {
            return match part.rejected(settings.decision) {
                true => Action::Fire(part),
                false => Action::Pass(part),
            };
        }
        let alarm = match settings.watchdog {
            0 => None,
            limit => Some(self.inspected.get_or_insert(now).saturating_add(limit)),
        };
        if alarm.is_some_and(|alarm| alarm <= now) {
            let first = !std::mem::replace(&mut self.alarmed, true);
            self.inspected = Some(now);
            let part = match settings.fail_safe {
                FailSafe::Pass => Association::None,
                FailSafe::Reject => self.reject_unseen(None, now, settings, Some(now)),
            };
            return Action::Alarm { first, part };
        }
        Action::Wait(self.parts.next_due().into_iter().chain(alarm).min())
    }

    /// Running time goes on, or stands still.
    pub fn set_playing(&mut self, playing: bool) {
        self.playing = playing;
        // What was before a pause does not count.
        self.inspected = None;
    }

    /// Whether parts will come to the gate without anything else happening.
    pub fn has_parts_to_come(&self) -> bool {
        self.playing && self.parts.next_due().is_some()
    }

    /// Forgets the parts on their way.
    pub fn clear(&mut self) {
        self.parts.clear();
    }

    /// Counts something to a part that is rejected because nobody knows what it shows.
    fn reject_unseen(
        &mut self,
        frame: Option<u64>,
        time: u64,
        settings: &LiveSettings,
        now: Option<u64>,
    ) -> Association {
        let unseen = Observation::uninspected(frame, time);
        self.add(&unseen, Some(Reason::FailSafe), settings, now)
    }

    fn add(
        &mut self,
        observation: &Observation,
        reject: Option<Reason>,
        settings: &LiveSettings,
        now: Option<u64>,
    ) -> Association {
        self.parts.add(
            observation,
            reject,
            settings.merge_window,
            settings.way_to_gate(),
            now.unwrap_or(0),
        )
    }
}

#[cfg(test)]
mod tests;
