//! What is to be done and when: parts at the gate, and what nobody has seen. It knows no clock; every call is told what time it is.
//!
//! Times are nanoseconds on the gate's clock, which goes on in a pause as the belt does.

use super::belt::Belt;
use super::observation::{Inspection, Observation};
use super::parts::{Association, AtGate, Part, Parts, Reason, View};
use super::settings::{FailSafe, LiveSettings};
use super::stamps::{Arrival, Stamps, Taken};
use std::collections::VecDeque;

/// Frames lost in a row that are placed one by one; of more, each stands for several.
const PLACED: u64 = 100;
/// Silences on their way to the gate that are told apart; more become one.
const SILENCES: usize = 1000;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Action {
    /// The part is at the gate and is rejected.
    Fire(Part),
    /// The part is at the gate and passes: it has turned out good on its way.
    Pass(Part),
    /// No inspected frame has come for the watchdog's time.
    Alarm,
    /// What nobody has seen begins to pass the gate, which is to reject all of it; or has passed.
    Hold(bool),
    /// Nothing until this time; `None`: until something changes.
    Wait(Option<u64>),
}

/// What has become of a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seen {
    pub association: Association,
    pub taken: Taken,
    /// Parts that pass because too many are on their way.
    pub too_many: u64,
}

/// The parts on their way, and what nobody has seen.
#[derive(Debug, Default)]
pub struct Schedule {
    parts: Parts,
    belt: Belt,
    stamps: Stamps,
    /// The last frame.
    last: Option<Taken>,
    /// The last inspected frame, or the start; `None` before the start.
    covered: Option<Covered>,
    /// The stream has ended, and its last parts are on their way: no frames are waited for until they are at the gate.
    draining: bool,
    /// The watchdog's time has passed since then.
    alarmed: bool,
    /// What passed the camera while none was inspected, in its order. Only the last may be open.
    silences: VecDeque<Silence>,
    /// The first of them is at the gate.
    holding: bool,
    /// It has been started: in a pause it goes on.
    started: bool,
}

#[derive(Debug, Clone, Copy)]
struct Covered {
    taken: u64,
    arrived: u64,
}

#[derive(Debug, Clone, Copy)]
struct Silence {
    from: AtGate,
    /// `None` while it lasts.
    to: Option<AtGate>,
}

/// When what was taken at this time is at the gate.
fn at_gate(taken: u64, settings: &LiveSettings, belt: &Belt) -> AtGate {
    match settings.goes_by_belt() {
        true => AtGate::Position(belt.position(taken) + settings.distance),
        false => AtGate::Time(taken.saturating_add(settings.delay)),
    }
}

impl Schedule {
    /// Takes in what a frame shows that arrives at `now`.
    pub fn frame(
        &mut self,
        observation: Observation,
        arrival: Arrival,
        settings: &LiveSettings,
        now: u64,
    ) -> Seen {
        self.belt.set_speed(now, settings.belt_speed);
        let taken = self.stamps.read(arrival, now);
        let reject = settings.fail_safe == FailSafe::Reject;
        let before = self.last.replace(taken);
        let mut too_many = 0;
        // What a silence covers need not be covered again.
        if observation.lost > 0 && reject && !self.alarmed {
            too_many += self.lost(observation.lost, before, taken, settings, now);
        }
        if observation.inspection == Inspection::Inspected {
            self.cover(taken, settings, now);
        }
        let failed = observation.inspection == Inspection::Failed && reject && !self.alarmed;
        let reject = match observation.flagged {
            true => Some(Reason::Flagged),
            false => failed.then_some(Reason::FailSafe),
        };
        // Until the next frame, of which nobody knows yet whether it will be inspected.
        let unseen = before.map_or(0, |before| taken.along.saturating_sub(before.along));
        let view = View {
            along: taken.along,
            at_gate: at_gate(taken.at, settings, &self.belt),
            reject,
            unseen: if failed {
                unseen.min(settings.merge_window)
            } else {
                0
            },
        };
        let association = self.add(&observation, view, settings, now);
        too_many += u64::from(association == Association::TooMany);
        Seen {
            association,
            taken,
            too_many,
        }
    }

    /// Frames that are missing between two others: evenly spaced, as nothing else is known. Returns how many pass as there are too many.
    fn lost(
        &mut self,
        lost: u64,
        before: Option<Taken>,
        taken: Taken,
        settings: &LiveSettings,
        now: u64,
    ) -> u64 {
        let before = before.unwrap_or(taken);
        let steps = lost.min(PLACED);
        let apart = |from: u64, to: u64| to.saturating_sub(from) / (steps + 1);
        let (at, along) = (apart(before.at, taken.at), apart(before.along, taken.along));
        let unseen = Observation::uninspected(None);
        let mut too_many = 0;
        for step in 1..=steps {
            let view = View {
                along: before.along + step * along,
                at_gate: at_gate(before.at + step * at, settings, &self.belt),
                reject: Some(Reason::FailSafe),
                // The frame behind the last of them is there.
                unseen: if step < steps { along } else { 0 },
            };
            let association = self.add(&unseen, view, settings, now);
            too_many += u64::from(association == Association::TooMany);
        }
        too_many
    }

    /// A frame has been inspected, which ends a silence.
    fn cover(&mut self, taken: Taken, settings: &LiveSettings, now: u64) {
        self.alarmed = false;
        if let Some(last) = self.silences.back_mut()
            && last.to.is_none()
        {
            last.to = Some(at_gate(taken.at, settings, &self.belt));
        }
        if self.started {
            self.covered = Some(Covered {
                taken: taken.at,
                arrived: now,
            });
        }
    }

    fn add(
        &mut self,
        observation: &Observation,
        view: View,
        settings: &LiveSettings,
        now: u64,
    ) -> Association {
        self.parts
            .add(observation, view, settings.merge_window, &self.belt, now)
    }

    /// What is to be done at `now`. To be asked until it says [`Action::Wait`], and again whenever something has changed.
    pub fn next(&mut self, now: u64, settings: &LiveSettings) -> Action {
        self.belt.set_speed(now, settings.belt_speed);
        if let Some(part) = self.parts.at_gate(now, &self.belt) {
            return match part.rejected(settings.decision) {
                true => Action::Fire(part),
                false => Action::Pass(part),
            };
        }
        self.open_silence(settings);
        if let Some(held) = self.hold(now) {
            return Action::Hold(held);
        }
        let alarm = self.covered.and_then(|covered| match settings.watchdog {
            0 => None,
            _ if self.alarmed || self.draining => None,
            limit => Some(covered.arrived.saturating_add(limit)),
        });
        if alarm.is_some_and(|alarm| alarm <= now) {
            self.alarmed = true;
            return Action::Alarm;
        }
        let silence = self.silences.front().and_then(|silence| {
            let edge = if self.holding {
                silence.to
            } else {
                Some(silence.from)
            };
            edge?.time(&self.belt)
        });
        let part = self.parts.next_due(&self.belt);
        Action::Wait([part, silence, alarm].into_iter().flatten().min())
    }

    /// After an alarm, what has passed the camera since the last inspected frame is on its way unseen.
    fn open_silence(&mut self, settings: &LiveSettings) {
        if settings.fail_safe == FailSafe::Pass || settings.watchdog == 0 {
            self.silences.clear();
            return;
        }
        let Some(covered) = self.covered.filter(|_| self.alarmed) else {
            return;
        };
        let full = self.silences.len() >= SILENCES;
        match self.silences.back_mut() {
            Some(last) if last.to.is_none() => {}
            Some(last) if full => last.to = None,
            _ => self.silences.push_back(Silence {
                from: at_gate(covered.taken, settings, &self.belt),
                to: None,
            }),
        }
    }

    /// Whether the gate is to be held from now on, or let go; `None` where it stays as it is.
    fn hold(&mut self, now: u64) -> Option<bool> {
        let come = |edge: AtGate, belt: &Belt| edge.time(belt).is_some_and(|time| time <= now);
        while let Some(first) = self.silences.front()
            && first.to.is_some_and(|to| come(to, &self.belt))
        {
            self.silences.pop_front();
        }
        let hold = self
            .silences
            .front()
            .is_some_and(|first| come(first.from, &self.belt));
        (std::mem::replace(&mut self.holding, hold) != hold).then_some(hold)
    }

    /// The belt goes at this speed from `now` on, in m/s.
    pub fn set_speed(&mut self, speed: f64, now: u64) {
        self.belt.set_speed(now, speed);
    }

    /// Frames are waited for from the first time on that the pipeline plays.
    pub fn play(&mut self, now: u64) {
        if !self.started {
            self.started = true;
            self.covered = Some(Covered {
                taken: now,
                arrived: now,
            });
        }
    }

    /// Running time stands still. The belt does not, and no frames come.
    pub fn pause(&mut self, running: Option<u64>, now: u64) {
        self.stamps.pause(running, now);
    }

    /// The stream has ended. What is on its way is waited for, and no frames are.
    pub fn end(&mut self) {
        self.draining = true;
    }

    /// It has been waited for. Where the element goes on to play, as it does when a network camera has ended its stream, the belt may too:
    /// from here on frames are waited for again.
    pub fn drained(&mut self, now: u64) {
        self.draining = false;
        if let Some(covered) = &mut self.covered {
            covered.arrived = covered.arrived.max(now);
        }
    }

    /// Frames to come do not follow on those before. What is on the belt stays there.
    pub fn flush(&mut self) {
        self.stamps.restart();
        self.parts.close();
    }

    /// Whether something will come to the gate without anything else happening.
    pub fn has_more_to_come(&self) -> bool {
        let ends = self.silences.iter().filter_map(|silence| silence.to);
        self.parts.next_due(&self.belt).is_some()
            || ends.into_iter().any(|to| to.time(&self.belt).is_some())
    }

    /// No inspected frame has come for the watchdog's time: the next one changes what is waited for.
    pub fn is_silent(&self) -> bool {
        self.alarmed
    }

    /// Parts that are on their way.
    pub fn parts_on_their_way(&self) -> usize {
        self.parts.len()
    }
}

#[cfg(test)]
mod tests;
