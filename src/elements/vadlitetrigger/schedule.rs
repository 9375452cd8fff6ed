//! What is to be done and when: parts at the gate, and what nobody has seen. It knows no clock; every call is told what time it is.
//!
//! Times are nanoseconds on the gate's clock, which goes on in a pause as the belt does.

use super::belt::Belt;
use super::located::Located;
use super::observation::{Inspection, Observation, PartView};
use super::parts::{Association, AtGate, Behind, Part, Parts, Reason, View};
use super::settings::{FailSafe, LiveSettings};
use super::stamps::{Arrival, Stamps, Taken};
use std::collections::VecDeque;

/// Frames lost in a row that are placed one by one; of more, each stands for several.
const PLACED: u64 = 100;
/// Silences on their way to the gate that are told apart; more become one.
const SILENCES: usize = 1000;
/// How long before the end of a pulse the gate is held where there is more that nobody has seen: time enough for that to reach the output.
const BEFORE_END: u64 = 5_000_000;

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
    /// Those that `vadlite` has located; the others are told apart by their time.
    located: Located,
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
    /// That has yet to be told.
    untold: bool,
    /// The last frame that was to be inspected was not.
    failing: bool,
    /// What passed the camera while none was inspected, in its order. Only the last may be open.
    silences: VecDeque<Silence>,
    /// What nobody has seen behind the last part that was fired, beyond its pulse.
    rest: Option<Silence>,
    /// One of them is at the gate.
    holding: bool,
    /// It has been started: in a pause it goes on.
    started: bool,
}

#[derive(Debug, Clone, Copy)]
struct Covered {
    taken: u64,
    arrived: u64,
}

/// What nobody has seen, by when it is at the gate.
#[derive(Debug, Clone, Copy)]
struct Silence {
    from: AtGate,
    /// `None` while it lasts.
    to: Option<AtGate>,
}

impl Silence {
    fn has_begun(&self, belt: &Belt, now: u64) -> bool {
        self.from.time(belt).is_some_and(|from| from <= now)
    }

    fn is_over(&self, belt: &Belt, now: u64) -> bool {
        self.ends(belt).is_some_and(|to| to <= now)
    }

    /// When it is over, as far as that is known.
    fn ends(&self, belt: &Belt) -> Option<u64> {
        self.to?.time(belt)
    }
}

/// When what was taken at this time is at the gate.
fn at_gate(taken: u64, settings: &LiveSettings, belt: &Belt) -> AtGate {
    match settings.goes_by_belt() {
        true => AtGate::Position(belt.position(taken) + settings.distance),
        false => AtGate::Time(taken.saturating_add(settings.delay)),
    }
}

impl Schedule {
    /// Takes in what a frame shows that arrives at `now`: as a whole, and of each part that is located.
    pub fn frame(
        &mut self,
        observation: Observation,
        located: &[PartView],
        arrival: Arrival,
        settings: &LiveSettings,
        now: u64,
    ) -> Seen {
        self.set_speed(settings, now);
        let taken = self.stamps.read(arrival, now);
        let reject = settings.fail_safe == FailSafe::Reject;
        let before = self.last.replace(taken);
        // The thread that asks may be late.
        self.notice_silence(settings, now);
        let (belt, parts) = (&mut self.belt, &mut self.parts);
        let number = || parts.number();
        let mut too_many = self
            .located
            .frame(located, taken, settings, belt, now, number);
        // What a silence covers need not be covered again.
        if observation.lost > 0 && reject && !self.is_silence_open() {
            too_many += self.lost(observation.lost, before, taken, settings, now);
        }
        self.close(&observation, taken, settings, now);
        let failed = observation.inspection == Inspection::Failed;
        let failed = failed && reject && !self.is_silence_open();
        let reject = match observation.flagged {
            true => Some(Reason::Flagged),
            false => failed.then_some(Reason::FailSafe),
        };
        // Until the next frame, of which nobody knows yet when it comes: as far from this one as this from the one before. Where that is
        // longer than a part takes, the gate is held from then on.
        let unseen = before.map_or(0, |before| taken.along.saturating_sub(before.along));
        let view = View {
            along: taken.along,
            at_gate: at_gate(taken.at, settings, &self.belt),
            reject,
            unseen: unseen.min(settings.merge_window).max(settings.pulse),
            behind: if failed { Behind::Unseen } else { Behind::Seen },
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
            let place = before.at.saturating_add(step * at);
            let end = at_gate(place.saturating_add(settings.pulse), settings, &self.belt);
            let view = View {
                along: before.along.saturating_add(step * along),
                at_gate: at_gate(place, settings, &self.belt),
                reject: Some(Reason::FailSafe),
                unseen: along.max(settings.pulse),
                behind: Behind::Unseen,
            };
            // The frame behind the last of them is there.
            let view = match step < steps {
                true => view,
                false => View {
                    unseen: settings.pulse,
                    behind: Behind::UnseenTo(end),
                    ..view
                },
            };
            let association = self.add(&unseen, view, settings, now);
            too_many += u64::from(association == Association::TooMany);
        }
        too_many
    }

    /// Ends what nobody has seen, as far as a frame does.
    fn close(
        &mut self,
        observation: &Observation,
        taken: Taken,
        settings: &LiveSettings,
        now: u64,
    ) {
        if observation.inspection == Inspection::Skipped {
            return;
        }
        let here = at_gate(taken.at, settings, &self.belt);
        self.failing = observation.inspection == Inspection::Failed;
        // From here on it is another frame that nobody has seen, with a part of its own.
        if let Some(rest) = self.rest.as_mut().filter(|rest| rest.to.is_none()) {
            rest.to = Some(here);
        }
        if !self.failing || settings.watchdog == 0 {
            self.end_silence(here);
        }
        if self.failing {
            return;
        }
        self.alarmed = false;
        if self.started {
            self.covered = Some(Covered {
                taken: taken.at,
                arrived: now,
            });
        }
    }

    fn is_silence_open(&self) -> bool {
        self.silences.back().is_some_and(|last| last.to.is_none())
    }

    fn end_silence(&mut self, to: AtGate) {
        if let Some(last) = self.silences.back_mut() {
            last.to.get_or_insert(to);
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
        self.set_speed(settings, now);
        let part = self.parts.at_gate(now, &self.belt);
        let located = &mut self.located;
        if let Some(part) = part.or_else(|| located.at_gate(now, &self.belt, settings)) {
            if !part.rejected(settings.decision) {
                return Action::Pass(part);
            }
            self.hold_behind(&part, settings, now);
            return Action::Fire(part);
        }
        self.notice_silence(settings, now);
        if std::mem::take(&mut self.untold) {
            return Action::Alarm;
        }
        self.open_silence(settings, now);
        if let Some(held) = self.hold(now) {
            return Action::Hold(held);
        }
        let part = self.next_part();
        let silences = self.silences.front().into_iter().chain(&self.rest);
        let edges = silences.flat_map(|silence| [Some(silence.from), silence.to]);
        let edges = edges.filter_map(|edge| edge?.time(&self.belt));
        let times = edges.chain(part).chain(self.alarm(settings));
        Action::Wait(times.filter(|time| *time > now).min())
    }

    /// When the watchdog barks, if no frame is inspected until then.
    fn alarm(&self, settings: &LiveSettings) -> Option<u64> {
        let waits = settings.watchdog > 0 && !self.alarmed && !self.draining;
        let covered = self.covered.filter(|_| waits)?;
        Some(covered.arrived.saturating_add(settings.watchdog))
    }

    /// Takes in that the watchdog's time has passed.
    fn notice_silence(&mut self, settings: &LiveSettings, now: u64) {
        if self.alarm(settings).is_some_and(|alarm| alarm <= now) {
            (self.alarmed, self.untold) = (true, true);
            self.open_silence(settings, now);
        }
    }

    /// After an alarm, what has passed the camera since the last inspected frame is on its way unseen.
    fn open_silence(&mut self, settings: &LiveSettings, now: u64) {
        if settings.fail_safe == FailSafe::Pass {
            self.silences.clear();
            self.rest = None;
            return;
        }
        if settings.watchdog == 0 {
            // What has passed the camera until now is on its way all the same; and a frame that was not inspected says nothing of what is
            // behind it.
            if !self.failing {
                self.end_silence(at_gate(now, settings, &self.belt));
            }
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

    /// Behind a part that is fired at `now`, the gate is held where there will be more that nobody has seen than its pulse covers: frames
    /// come later than was thought, or the belt goes slower.
    fn hold_behind(&mut self, part: &Part, settings: &LiveSettings, now: u64) {
        let width = settings.pulse.max(part.unseen_for);
        let end = now.saturating_add(width);
        let to = match part.behind {
            Behind::Seen => return,
            Behind::Unseen => None,
            Behind::UnseenTo(to) => Some(to),
        };
        let held = self.rest.filter(|rest| rest.has_begun(&self.belt, now));
        let from = end.saturating_sub(BEFORE_END.min(width / 2));
        self.rest = Some(Silence {
            from: held.map_or(AtGate::Time(from), |rest| rest.from),
            // One that lasts ends with the next frame.
            to: held.map_or(to, |rest| rest.to.and(to)),
        });
    }

    /// Whether the gate is to be held from now on, or let go; `None` where it stays as it is.
    fn hold(&mut self, now: u64) -> Option<bool> {
        let belt = &self.belt;
        while let Some(first) = self.silences.front()
            && first.is_over(belt, now)
        {
            self.silences.pop_front();
        }
        self.rest = self.rest.filter(|rest| !rest.is_over(belt, now));
        let mut silences = self.silences.front().into_iter().chain(&self.rest);
        let hold = silences.any(|silence| silence.has_begun(belt, now));
        (std::mem::replace(&mut self.holding, hold) != hold).then_some(hold)
    }

    /// The belt goes at the speed of the settings from `now` on, unless that is measured.
    pub fn set_speed(&mut self, settings: &LiveSettings, now: u64) {
        if !settings.measures_speed() {
            self.belt.set_speed(now, settings.belt_speed);
        }
    }

    /// When the next part is at the gate, if the belt goes on as it does.
    pub fn next_part(&self) -> Option<u64> {
        let parts = self.parts.next_due(&self.belt);
        let located = self.located.next_due(&self.belt);
        parts.into_iter().chain(located).min()
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
        let mut silences = self.silences.iter().chain(&self.rest);
        self.next_part().is_some() || silences.any(|silence| silence.ends(&self.belt).is_some())
    }

    /// The next frame changes what is waited for: the watchdog's time has passed, or the gate is held until then.
    pub fn waits_for_frame(&self) -> bool {
        self.alarmed || self.rest.is_some_and(|rest| rest.to.is_none())
    }

    /// Parts that are on their way; of those that are located, the bad ones.
    pub fn parts_on_their_way(&self) -> usize {
        self.parts.len() + self.located.bad()
    }
}

#[cfg(test)]
mod located_tests;
#[cfg(test)]
mod tests;
