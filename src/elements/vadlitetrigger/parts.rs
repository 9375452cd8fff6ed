//! Which frames show the same part, and whether it is rejected: one part, one decision, made when the part is at the gate.

use super::belt::Belt;
use super::observation::{Inspection, Observation, PartView};

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
    /// More than half of the part's inspected frames are flagged; of one that is not located, counted from the first flagged one on
    #[enum_value(
        name = "Majority: more than half of the inspected frames; of a part that is not located, from the first flagged one on",
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

/// Where on its way a part, or the edge of something that nobody has seen, is at the gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum AtGate {
    /// At this time on the gate's clock, in nanoseconds.
    Time(u64),
    /// When the belt has come to this position, in metres.
    Position(f64),
}

impl AtGate {
    /// When that is, if the belt goes on as it does; `None` while it stands.
    pub fn time(self, belt: &Belt) -> Option<u64> {
        match self {
            Self::Time(time) => Some(time),
            Self::Position(position) => belt.time_at(position),
        }
    }
}

/// What a frame says about the part that it shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// When it was taken, along the stream: see [`Taken`](super::stamps::Taken).
    pub along: u64,
    /// When what it shows is at the gate.
    pub at_gate: AtGate,
    /// Why it speaks for rejecting its part.
    pub reject: Option<Reason>,
    /// For how long from then on its part is to be rejected where nobody has seen it, in nanoseconds, as far as that can be told.
    pub unseen: u64,
    pub behind: Behind,
}

/// What is behind the last frame of a part that was not inspected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Behind {
    /// Nothing that nobody has seen, or there is no such frame.
    Seen,
    /// Nobody has seen what comes to the gate up to here.
    UnseenTo(AtGate),
    /// The next frame has not come.
    Unseen,
}

/// A part on its way to the gate. Times are on the gate's clock in nanoseconds, but for `since`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// Counted from 0 since the element started.
    pub number: u64,
    /// Where `vadlite` has located it: the number that it has there.
    pub id: Option<u64>,
    /// When the first frame was taken that speaks for rejecting it, along the stream; of one that is located, that shows it.
    pub since: u64,
    at_gate: AtGate,
    /// When it is at the gate; the largest number while the belt stands.
    pub due: u64,
    /// Frames that show it.
    pub frames: u32,
    /// Of these, the inspected ones, and those of them that are flagged.
    pub inspected: u32,
    pub flagged: u32,
    /// Frames that should have been inspected and were not, where that speaks for rejecting it.
    pub unseen: u32,
    /// For how long from `since` on frames are of that kind, in nanoseconds, as far as that could be told when they came.
    pub unseen_for: u64,
    /// Where that ends.
    pub behind: Behind,
    /// The frame with the highest score; `None` where no frame with a number shows the part.
    pub worst_frame: Option<u64>,
    pub score: f64,
    pub threshold: f64,
    pub reason: Reason,
    /// It was at the gate before it was known to be bad.
    pub late: bool,
}

impl Part {
    /// One that a single frame has flagged, for tests of what is done with it.
    #[cfg(test)]
    pub fn flagged(number: u64) -> Self {
        Self {
            due: 0,
            frames: 1,
            inspected: 1,
            flagged: 1,
            score: 2.0,
            threshold: 1.0,
            ..Self::new(number, None, 0)
        }
    }

    /// One of which no frame is counted yet. `since`: when its first was taken, along the stream.
    pub fn new(number: u64, id: Option<u64>, since: u64) -> Self {
        Self {
            number,
            id,
            since,
            at_gate: AtGate::Time(0),
            due: u64::MAX,
            frames: 0,
            inspected: 0,
            flagged: 0,
            unseen: 0,
            unseen_for: 0,
            behind: Behind::Seen,
            worst_frame: None,
            score: 0.0,
            threshold: 0.0,
            reason: Reason::Flagged,
            late: false,
        }
    }

    /// Counts a frame that shows it, as one that is located.
    pub fn count(&mut self, view: &PartView) {
        self.frames += 1;
        self.inspected += u32::from(view.inspected);
        self.flagged += u32::from(view.flagged);
        if self.worst_frame.is_none() || view.score > self.score {
            (self.score, self.threshold) = (view.score, view.threshold);
            self.worst_frame = Some(view.frame);
        }
    }

    /// Whether the part is to be rejected, by the frames that have come. A frame that was not inspected may have shown anything.
    pub fn rejected(&self, decision: Decision) -> bool {
        match decision {
            Decision::Any => self.flagged + self.unseen > 0,
            Decision::Majority => 2 * (self.flagged + self.unseen) > self.inspected + self.unseen,
            Decision::Max => self.score > self.threshold || self.unseen > 0,
        }
    }

    fn add(&mut self, observation: &Observation, view: &View) {
        self.frames += 1;
        self.inspected += u32::from(observation.inspection == Inspection::Inspected);
        if view.behind != Behind::Seen {
            let until = view.along.saturating_add(view.unseen);
            self.unseen_for = self.unseen_for.max(until.saturating_sub(self.since));
            self.behind = view.behind;
        }
        match view.reject {
            Some(Reason::Flagged) => {
                self.flagged += 1;
                self.reason = Reason::Flagged;
                // Another vadlite has failed on the frame that this one flags.
                if observation.inspection != Inspection::Inspected {
                    self.inspected += 1;
                }
            }
            Some(Reason::FailSafe) => self.unseen += 1,
            None => {}
        }
        if observation.score > self.score {
            self.score = observation.score;
            self.threshold = observation.threshold;
            self.worst_frame = observation.frame;
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
    /// In the order of their numbers.
    waiting: Vec<Part>,
    /// The part that frames are counted to, until its window ends.
    open: Option<u64>,
    /// When that part began, and why it is rejected; stays when it has come to the gate before its window ends.
    last: Option<(u64, Reason)>,
    /// The part of the last frame, where nobody has seen what is behind that.
    unseen: Option<u64>,
}

impl Parts {
    /// Counts a frame to its part. One that speaks for rejecting and lies outside of the last part's window (`window` nanoseconds from its
    /// first such frame on) begins a part. `now` tells whether that has passed the gate already.
    pub fn add(
        &mut self,
        observation: &Observation,
        view: View,
        window: u64,
        belt: &Belt,
        now: u64,
    ) -> Association {
        // What was left out on purpose has not been seen either.
        if observation.inspection != Inspection::Skipped
            && let Some(number) = self.unseen.take()
            && let Some(part) = self.waiting.iter_mut().rfind(|part| part.number == number)
        {
            part.behind = Behind::UnseenTo(view.at_gate);
        }
        if let Some(number) = self.open
            && let Some(part) = self.waiting.iter_mut().rfind(|part| part.number == number)
            && view.along.abs_diff(part.since) < window
        {
            part.add(observation, &view);
            self.last = Some((part.since, part.reason));
            self.unseen = (view.behind == Behind::Unseen)
                .then_some(number)
                .or(self.unseen);
            return Association::Known(*part);
        }
        let Some(reason) = view.reject else {
            return Association::None;
        };
        if let Some((last, why)) = self.last
            && view.along.abs_diff(last) < window
            // Of what nobody has seen nobody knows that it is the same part, whichever of the two that is.
            && (why, reason) == (Reason::Flagged, Reason::Flagged)
        {
            return Association::Gone;
        }
        self.last = Some((view.along, reason));
        if self.waiting.len() >= MOST {
            return Association::TooMany;
        }
        let due = view.at_gate.time(belt);
        let mut part = Part {
            at_gate: view.at_gate,
            due: due.unwrap_or(u64::MAX),
            worst_frame: observation.frame,
            score: observation.score,
            threshold: observation.threshold,
            reason,
            late: due.is_some_and(|due| due < now),
            ..Part::new(self.next, None, view.along)
        };
        part.add(observation, &view);
        self.waiting.push(part);
        self.unseen = (view.behind == Behind::Unseen).then_some(part.number);
        self.open = Some(part.number);
        self.next += 1;
        Association::New(part)
    }

    /// When the next part is at the gate, if the belt goes on as it does.
    pub fn next_due(&self, belt: &Belt) -> Option<u64> {
        self.waiting
            .iter()
            .filter_map(|part| part.at_gate.time(belt))
            .min()
    }

    /// Takes out the first part that is at the gate at `now`.
    pub fn at_gate(&mut self, now: u64, belt: &Belt) -> Option<Part> {
        let due = |part: &Part| part.at_gate.time(belt);
        let times = self.waiting.iter().enumerate();
        let (due, first) = times
            .filter_map(|(index, part)| Some((due(part)?, index)))
            .min()?;
        (due <= now).then(|| Part {
            due,
            ..self.waiting.remove(first)
        })
    }

    /// A number for a part, each once.
    pub fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// How many are on their way.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The frames to come show no part that those before have shown.
    pub fn close(&mut self) {
        (self.open, self.last) = (None, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A frame and when it was taken.
    type Seen = (Observation, u64);

    fn seen(frame: u64, time: u64, score: f64) -> Seen {
        let observation = Observation {
            frame: Some(frame),
            lost: 0,
            score,
            threshold: 1.0,
            flagged: score > 1.0,
            inspection: Inspection::Inspected,
            located: false,
        };
        (observation, time)
    }

    fn add(
        parts: &mut Parts,
        (observation, time): Seen,
        window: u64,
        delay: u64,
        now: u64,
    ) -> Association {
        let view = View {
            along: time,
            at_gate: AtGate::Time(time.saturating_add(delay)),
            reject: observation.flagged.then_some(Reason::Flagged),
            unseen: 0,
            behind: Behind::Seen,
        };
        parts.add(&observation, view, window, &Belt::default(), now)
    }

    /// Frames in turn, each followed by what is rejected at the gate then.
    fn run(frames: &[Seen], decision: Decision, window: u64, delay: u64) -> Vec<Part> {
        let mut parts = Parts::default();
        let mut at_gate = Vec::new();
        let belt = Belt::default();
        for frame in frames {
            let (_, time) = *frame;
            at_gate.extend(std::iter::from_fn(|| parts.at_gate(time, &belt)));
            add(&mut parts, *frame, window, delay, time);
        }
        at_gate.extend(std::iter::from_fn(|| parts.at_gate(u64::MAX, &belt)));
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
