//! Which frames show the same part, and whether it is rejected: one part, one decision, made when the part is at the gate.

use std::collections::BTreeMap;

/// Parts between camera and gate that are remembered; more is a mistaken `delay`.
pub const MOST: usize = 10_000;

/// How the frames of a part make one decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// One flagged frame rejects the part.
    Any,
    /// More than half of the part's inspected frames, from the first flagged one on.
    Majority,
    /// The frame with the highest score speaks for the part.
    Max,
}

/// Why a part is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    Flagged,
    /// It passed uninspected.
    FailSafe,
}

/// One frame's result. Times are running times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub number: u64,
    pub time: u64,
    pub score: f64,
    pub threshold: f64,
    pub flagged: bool,
    /// Flagged because it could not be inspected.
    pub reason: Reason,
}

/// A part on its way to the gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    pub number: u64,
    /// When its first flagged frame was taken.
    pub since: u64,
    /// When it is at the gate.
    pub due: u64,
    pub frames: u32,
    pub flagged: u32,
    /// The frame with the highest score.
    pub worst_frame: u64,
    pub score: f64,
    pub threshold: f64,
    pub reason: Reason,
    /// It was at the gate before it was known to be bad.
    pub late: bool,
}

impl Part {
    fn rejected(&self, decision: Decision) -> bool {
        match decision {
            // It exists because a frame was flagged.
            Decision::Any => true,
            Decision::Majority => 2 * self.flagged > self.frames,
            Decision::Max => self.score > self.threshold || self.reason == Reason::FailSafe,
        }
    }
}

/// What a frame is to the parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It shows a part that is known, or nothing bad.
    Nothing,
    /// It begins a part.
    Part,
    /// It would begin one, but [`MOST`] are on their way: this one passes.
    Lost,
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
    /// Takes a frame in. A flagged frame outside of the last part's window (`window` from its first flagged frame on) begins a part, which
    /// is at the gate `delay` after it. `now` tells whether that is over already.
    pub fn frame(&mut self, frame: Frame, window: u64, delay: u64, now: u64) -> Taken {
        if let Some(part) = self.open.and_then(|key| self.waiting.get_mut(&key))
            && frame.time.abs_diff(part.since) < window
        {
            part.frames += 1;
            part.flagged += u32::from(frame.flagged);
            if frame.score > part.score {
                part.score = frame.score;
                part.threshold = frame.threshold;
                part.worst_frame = frame.number;
            }
            if frame.flagged && frame.reason == Reason::Flagged {
                part.reason = Reason::Flagged;
            }
            return Taken::Nothing;
        }
        if !frame.flagged || self.in_last_window(frame.time, window) {
            return Taken::Nothing;
        }
        if self.waiting.len() >= MOST {
            self.last = Some(frame.time);
            return Taken::Lost;
        }
        let due = frame.time.saturating_add(delay);
        let part = Part {
            number: self.next,
            since: frame.time,
            due,
            frames: 1,
            flagged: 1,
            worst_frame: frame.number,
            score: frame.score,
            threshold: frame.threshold,
            reason: frame.reason,
            late: due < now,
        };
        let key = (due, self.next);
        self.waiting.insert(key, part);
        (self.open, self.last) = (Some(key), Some(frame.time));
        self.next += 1;
        Taken::Part
    }

    fn in_last_window(&self, time: u64, window: u64) -> bool {
        self.last.is_some_and(|last| time.abs_diff(last) < window)
    }

    /// When the next part is at the gate.
    pub fn next_due(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((due, _), _)| *due)
    }

    /// Takes out the part that is at the gate at `now`, where it is to be rejected. Parts that turn out good on the way are dropped.
    pub fn at_gate(&mut self, now: u64, decision: Decision) -> Option<Part> {
        while self.next_due().is_some_and(|due| due <= now) {
            let (_, part) = self.waiting.pop_first()?;
            if part.rejected(decision) {
                return Some(part);
            }
        }
        None
    }

    /// Forgets all parts: the frames to come do not follow on those before.
    pub fn clear(&mut self) {
        self.waiting.clear();
        (self.open, self.last) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(number: u64, time: u64, score: f64) -> Frame {
        Frame {
            number,
            time,
            score,
            threshold: 1.0,
            flagged: score > 1.0,
            reason: Reason::Flagged,
        }
    }

    /// Frames in turn, each followed by what is at the gate then.
    fn run(frames: &[Frame], decision: Decision, window: u64, delay: u64) -> Vec<Part> {
        let mut parts = Parts::default();
        let mut rejected = Vec::new();
        for frame in frames {
            rejected.extend(std::iter::from_fn(|| parts.at_gate(frame.time, decision)));
            parts.frame(*frame, window, delay, frame.time);
        }
        rejected.extend(std::iter::from_fn(|| parts.at_gate(u64::MAX, decision)));
        rejected
    }

    #[test]
    fn decisions_are_those_of_their_names() {
        let scores = [0.5, 1.5, 0.6, 3.0, 0.7, 0.2, 0.1];
        let frames: Vec<_> = (0..)
            .zip(scores)
            .map(|(n, score)| frame(n, 10 * n, score))
            .collect();
        let [any] = run(&frames, Decision::Any, 100, 100)[..] else {
            panic!()
        };
        assert_eq!(
            (any.since, any.due, any.frames, any.flagged),
            (10, 110, 6, 2)
        );
        assert_eq!((any.worst_frame, any.score), (3, 3.0));
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
            let taken = parts.frame(frame(number, 10 * number, 2.0), 5, u64::MAX, 0);
            assert_eq!(taken, Taken::Part);
        }
        let time = 10 * MOST as u64;
        let frames = [
            (time, 2.0),
            (time + 1, 2.0),
            (time + 6, 0.5),
            (time + 7, 2.0),
        ];
        let taken = frames.map(|(time, score)| parts.frame(frame(0, time, score), 5, 1, 0));
        use Taken::{Lost, Nothing};
        assert_eq!(taken, [Lost, Nothing, Nothing, Lost]);
    }

    proptest! {
        /// Parts that pass one after the other, flagged in some of their frames or in none: as many pulses as parts with a flagged frame,
        /// in their order, each `delay` after the first such frame.
        #[test]
        fn one_part_one_pulse(parts in prop::collection::vec(prop::collection::vec(0.0f64..2.0, 1..8), 1..40), delay in 0u64..500) {
            // A part takes up to 8 frames of 10, and the next comes 200 after it.
            let frames: Vec<_> = parts.iter().enumerate().flat_map(|(part, scores)| {
                scores.iter().enumerate().map(move |(n, &score)| frame((8 * part + n) as u64, (200 * part + 10 * n) as u64, score))
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
