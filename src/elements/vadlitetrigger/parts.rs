//! Which frames show the same part, and whether it is rejected: one part, one decision, made when the part is at the gate.

use super::observation::Observation;
use std::collections::BTreeMap;

/// Parts between camera and gate that are remembered; more is a mistaken `delay`.
pub const MOST: usize = 10_000;

/// How the frames of a part make one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVadLiteTriggerDecision")]
pub enum Decision {
    /// One flagged frame rejects the part
    #[default]
    #[enum_value(name = "Any: one flagged frame rejects the part", nick = "any")]
    Any,
    /// More than half of the part's frames are flagged, counted from the first flagged one on
    #[enum_value(
        name = "Majority: more than half of the frames from the first flagged one on",
        nick = "majority"
    )]
    Majority,
    /// The frame with the highest score speaks for the part
    #[enum_value(
        name = "Max: the frame with the highest score, against its threshold",
        nick = "max"
    )]
    Max,
}

/// Why a part is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Flagged,
    /// It passed uninspected.
    FailSafe,
}

impl Reason {
    /// The word of messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flagged => "flagged",
            Self::FailSafe => "fail-safe",
        }
    }
}

/// A part on its way to the gate. Times are running times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Counted from 0 since the element started.
    pub number: u64,
    /// When the first frame was taken that speaks for rejecting it.
    pub since: u64,
    /// When it is at the gate.
    pub due: u64,
    /// Frames that show it, and those of them that speak for rejecting it.
    pub frames: u32,
    pub flagged: u32,
    /// The frame with the highest score; `None` where no frame with a number shows the part.
    pub worst_frame: Option<u64>,
    pub score: f64,
    pub threshold: f64,
    pub reason: Reason,
    /// It was at the gate before it was known to be bad.
    pub late: bool,
}

impl Part {
    /// Whether the part is to be rejected, by the frames that have come.
    pub fn rejected(&self, decision: Decision) -> bool {
        match decision {
            // It exists because a frame was flagged.
            Decision::Any => true,
            Decision::Majority => 2 * self.flagged > self.frames,
            Decision::Max => self.score > self.threshold || self.reason == Reason::FailSafe,
        }
    }

    fn add(&mut self, observation: &Observation, reject: Option<Reason>) {
        self.frames += 1;
        self.flagged += u32::from(reject.is_some());
        if observation.score > self.score {
            self.score = observation.score;
            self.threshold = observation.threshold;
            self.worst_frame = observation.frame;
        }
        if reject == Some(Reason::Flagged) {
            self.reason = Reason::Flagged;
        }
    }
}

/// Which part a frame was counted to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Association {
    /// None: it shows nothing to be rejected.
    None,
    /// The one that it begins.
    New(Part),
    /// The one that frames before it have begun.
    Known(Part),
    /// One that has been at the gate already, or passes because there were too many.
    Gone,
    /// None, though it would begin one: [`MOST`] are on their way, and this one passes.
    TooMany,
}

/// The parts between camera and gate.
#[derive(Debug, Default)]
pub struct Parts {
    next: u64,
    /// By the time at the gate.
    waiting: BTreeMap<(u64, u64), Part>,
    /// The part that frames are counted to, until its window ends.
    open: Option<(u64, u64)>,
    /// When that part began; stays when it has come to the gate before its window ends.
    last: Option<u64>,
}

impl Parts {
    /// Counts a frame to its part. One that speaks for rejecting (`reject` says why) and lies outside of the last part's window
    /// (`window` from its first such frame on) begins a part, which is at the gate `delay` after it. `now` tells whether that is over
    /// already.
    pub fn add(
        &mut self,
        observation: &Observation,
        reject: Option<Reason>,
        window: u64,
        delay: u64,
        now: u64,
    ) -> Association {
        if let Some(part) = self.open.and_then(|key| self.waiting.get_mut(&key))
            && observation.time.abs_diff(part.since) < window
        {
            part.add(observation, reject);
            return Association::Known(*part);
        }
        let Some(reason) = reject else {
            return Association::None;
        };
        if self.in_last_window(observation.time, window) {
            return Association::Gone;
        }
        self.last = Some(observation.time);
        if self.waiting.len() >= MOST {
            return Association::TooMany;
        }
        let due = observation.time.saturating_add(delay);
        let part = Part {
            number: self.next,
            since: observation.time,
            due,
            frames: 1,
            flagged: 1,
            worst_frame: observation.frame,
            score: observation.score,
            threshold: observation.threshold,
            reason,
            late: due < now,
        };
        let key = (due, self.next);
        self.waiting.insert(key, part);
        self.open = Some(key);
        self.next += 1;
        Association::New(part)
    }

    fn in_last_window(&self, time: u64, window: u64) -> bool {
        self.last.is_some_and(|last| time.abs_diff(last) < window)
    }

    /// When the next part is at the gate.
    pub fn next_due(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes out the first part that is at the gate at `now`.
    pub fn at_gate(&mut self, now: u64) -> Option<Part> {
        let first = self.waiting.first_entry()?;
        (first.get().due <= now).then(|| first.remove())
    }

    /// Forgets all parts: the frames to come do not follow on those before.
    pub fn clear(&mut self) {
        self.waiting.clear();
        (self.open, self.last) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::super::observation::Inspection;
    use super::*;
    use proptest::prelude::*;

    fn seen(frame: u64, time: u64, score: f64) -> Observation {
        Observation {
            time,
            frame: Some(frame),
            score,
            threshold: 1.0,
            flagged: score > 1.0,
            inspection: Inspection::Inspected,
        }
    }

    fn add(
        parts: &mut Parts,
        observation: Observation,
        window: u64,
        delay: u64,
        now: u64,
    ) -> Association {
        let reject = observation.flagged.then_some(Reason::Flagged);
        parts.add(&observation, reject, window, delay, now)
    }

    /// Frames in turn, each followed by what is rejected at the gate then.
    fn run(frames: &[Observation], decision: Decision, window: u64, delay: u64) -> Vec<Part> {
        let mut parts = Parts::default();
        let mut at_gate = Vec::new();
        for frame in frames {
            at_gate.extend(std::iter::from_fn(|| parts.at_gate(frame.time)));
            add(&mut parts, *frame, window, delay, frame.time);
        }
        at_gate.extend(std::iter::from_fn(|| parts.at_gate(u64::MAX)));
        at_gate.retain(|part| part.rejected(decision));
        at_gate
    }

    #[test]
    fn decisions_are_those_of_their_names() {
        let scores = [0.5, 1.5, 0.6, 3.0, 0.7, 0.2, 0.1];
        let frames: Vec<_> = (0..)
            .zip(scores)
            .map(|(n, score)| seen(n, 10 * n, score))
            .collect();
        let [any] = run(&frames, Decision::Any, 100, 100)[..] else {
            panic!()
        };
        assert_eq!(
            (any.since, any.due, any.frames, any.flagged),
            (10, 110, 6, 2)
        );
        assert_eq!((any.worst_frame, any.score), (Some(3), 3.0));
        assert!(run(&frames, Decision::Majority, 100, 100).is_empty());
        assert_eq!(run(&frames, Decision::Majority, 30, 100).len(), 1);
        assert_eq!(run(&frames, Decision::Max, 100, 100).len(), 1);
        // At a gate that is nearer than the window is long, a part that has come is not begun again by the frames that follow.
        assert_eq!(run(&frames, Decision::Any, 100, 5).len(), 1);
    }

    #[test]
    fn what_is_too_much_is_told() {
        let mut parts = Parts::default();
        for number in 0..MOST as u64 {
            let association = add(&mut parts, seen(number, 10 * number, 2.0), 5, u64::MAX, 0);
            assert!(matches!(association, Association::New(part) if part.number == number));
        }
        let time = 10 * MOST as u64;
        let frames = [
            (time, 2.0),
            (time + 1, 2.0),
            (time + 6, 0.5),
            (time + 7, 2.0),
        ];
        let associations =
            frames.map(|(time, score)| add(&mut parts, seen(0, time, score), 5, 1, 0));
        use Association::{Gone, None, TooMany};
        assert_eq!(associations, [TooMany, Gone, None, TooMany]);
    }

    proptest! {
        /// Parts that pass one after the other, flagged in some of their frames or in none: as many pulses as parts with a flagged frame,
        /// in their order, each `delay` after the first such frame.
        #[test]
        fn one_part_one_pulse(parts in prop::collection::vec(prop::collection::vec(0.0f64..2.0, 1..8), 1..40), delay in 0u64..500) {
            // A part takes up to 8 frames of 10, and the next comes 200 after it.
            let frames: Vec<_> = parts.iter().enumerate().flat_map(|(part, scores)| {
                scores.iter().enumerate().map(move |(n, &score)| seen((8 * part + n) as u64, (200 * part + 10 * n) as u64, score))
            }).collect();
            let expected: Vec<u64> = parts.iter().enumerate().filter_map(|(part, scores)| {
                let first = scores.iter().position(|&score| score > 1.0)?;
                Some((200 * part + 10 * first) as u64 + delay)
            }).collect();
            let fired: Vec<u64> = run(&frames, Decision::Any, 80, delay).iter().map(|part| part.due).collect();
            prop_assert_eq!(fired, expected);
        }
    }
}
