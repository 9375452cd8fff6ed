//! When a frame is: one line of times that only goes forward, whatever the time stamps do.

/// Least time between two frames, in nanoseconds: Matroska keeps milliseconds.
const STEP: u64 = 1_000_000;
/// No frame is later, in 292 years: what is added to times stays a number, and the largest one means none.
const LATEST: u64 = i64::MAX as u64;
/// How far time stamps of a live source may be ahead of the time that has passed before they have jumped.
const AHEAD: i128 = 30_000_000_000;
/// How far time stamps may go back before they have jumped.
const BACK: i128 = 2_000_000_000;

/// What is wrong with a time stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There is none, or none within its segment, or none that can be meant.
    Missing,
    /// It does not follow on the one before; the times go on from there.
    Jumped,
}

/// What is known when a frame comes. Times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Running time by the frame's time stamp.
    pub stamp: Option<u64>,
    /// By the pipeline's clock, or another one of any beginning.
    pub at: u64,
    /// Running time by the pipeline's clock, where it has one.
    pub clock: Option<u64>,
    /// How long a frame lasts by the caps.
    pub duration: u64,
    /// The source does not wait for anybody.
    pub live: bool,
}

/// The running times of a stream's frames, made to follow on each other.
#[derive(Debug, Default)]
pub struct Timeline {
    /// The last frame's time and when it came.
    last: Option<(u64, u64)>,
    /// What is added to time stamps since they have jumped.
    offset: i128,
    /// There has been a time stamp: frames without one go on from there.
    stamped: bool,
}

impl Timeline {
    /// The time of a frame, and what is wrong with its time stamp.
    pub fn time(&mut self, frame: Arrival) -> (u64, Option<Fault>) {
        // A number that is no time says nothing.
        let frame = Arrival {
            stamp: frame.stamp.filter(|stamp| *stamp <= LATEST),
            ..frame
        };
        let (time, fault) = match (frame.stamp, self.last) {
            (None, None) => (frame.clock.unwrap_or(0), Some(Fault::Missing)),
            (None, Some((last, before))) => {
                let time = match frame.clock {
                    Some(_) if frame.live => last.saturating_add(frame.at.saturating_sub(before)),
                    // Among time stamps of a file, the clock is another.
                    Some(now) if !self.stamped => now,
                    _ => last.saturating_add(frame.duration),
                };
                (time, Some(Fault::Missing))
            }
            (Some(stamp), None) => (stamp, None),
            (Some(stamp), Some(last)) => self.follow(stamp, last, frame),
        };
        let least = self.last.map_or(0, |(last, _)| last.saturating_add(STEP));
        let time = time.max(least).min(LATEST);
        self.stamped |= frame.stamp.is_some();
        self.last = Some((time, frame.at));
        (time, fault)
    }

    /// The time of a frame with this time stamp after one at `last`, which came `before`.
    fn follow(
        &mut self,
        stamp: u64,
        (last, before): (u64, u64),
        frame: Arrival,
    ) -> (u64, Option<Fault>) {
        let time = i128::from(stamp) + self.offset;
        let ahead = time - i128::from(last);
        let passed = frame.at.saturating_sub(before);
        let jumped = ahead < -BACK || (frame.live && ahead > i128::from(passed) + AHEAD);
        if !jumped {
            return (u64::try_from(time).unwrap_or(0), None);
        }
        let step = if frame.live { passed } else { frame.duration };
        let time = last.saturating_add(step.max(STEP));
        self.offset = i128::from(time) - i128::from(stamp);
        (time, Some(Fault::Jumped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;
    const FRAME: u64 = SECOND / 25;

    fn arrival(stamp: Option<u64>, at: u64) -> Arrival {
        Arrival {
            stamp,
            at,
            clock: None,
            duration: FRAME,
            live: true,
        }
    }

    #[test]
    fn good_time_stamps_stay_as_they_are() {
        let mut timeline = Timeline::default();
        // With a pause, a burst of frames that were held up, and a source without a clock.
        let stamps = [7, 8, 9, 400, 401, 402, 403].map(|frame| frame * FRAME);
        let ats = [0, 1, 2, 393, 500, 500, 500].map(|frame| frame * FRAME);
        for (stamp, at) in stamps.into_iter().zip(ats) {
            assert_eq!(timeline.time(arrival(Some(stamp), at)), (stamp, None));
        }
        let file = Arrival {
            live: false,
            ..arrival(Some(3600 * SECOND), 500 * FRAME)
        };
        assert_eq!(timeline.time(file), (3600 * SECOND, None));
    }

    #[test]
    fn a_jump_in_either_direction_goes_on_by_the_time_that_has_passed() {
        let mut timeline = Timeline::default();
        assert_eq!(
            timeline.time(arrival(Some(10 * SECOND), 0)),
            (10 * SECOND, None)
        );
        let hour = 3600 * SECOND;
        let mut time = 10 * SECOND;
        for (frame, (base, fault)) in [
            (hour, Some(Fault::Jumped)),
            (hour, None),
            (0, Some(Fault::Jumped)),
            (0, None),
        ]
        .into_iter()
        .enumerate()
        {
            let at = FRAME * (frame as u64 + 1);
            time += FRAME;
            assert_eq!(
                timeline.time(arrival(Some(base + 10 * SECOND + at), at)),
                (time, fault)
            );
        }
    }

    #[test]
    fn without_time_stamps_the_clock_counts_or_the_frame_rate() {
        let missing = Some(Fault::Missing);
        let clock = |at| Arrival {
            clock: Some(at),
            ..arrival(None, at)
        };
        let file = |stamp, at| Arrival {
            live: false,
            stamp,
            ..clock(at)
        };
        let mut timeline = Timeline::default();
        assert_eq!(timeline.time(arrival(None, 0)), (0, missing));
        assert_eq!(timeline.time(arrival(None, 0)), (FRAME, missing));
        // As soon as there is a clock; a first time stamp makes no difference.
        for first in [None, Some(SECOND)] {
            let mut timeline = Timeline::default();
            let first = Arrival {
                stamp: first,
                ..clock(SECOND)
            };
            assert_eq!(timeline.time(first).0, SECOND);
            assert_eq!(timeline.time(clock(3 * SECOND)), (3 * SECOND, missing));
        }
        // A file without time stamps, and one with some.
        let mut timeline = Timeline::default();
        assert_eq!(timeline.time(file(None, SECOND)), (SECOND, missing));
        assert_eq!(timeline.time(file(None, 2 * SECOND)), (2 * SECOND, missing));
        let stamp = Some(9 * SECOND);
        assert_eq!(timeline.time(file(stamp, 3 * SECOND)), (9 * SECOND, None));
        let next = 9 * SECOND + FRAME;
        assert_eq!(timeline.time(file(None, 5 * SECOND)), (next, missing));
    }

    /// The largest number means no time, and to add anything to such times is a fault of the program.
    #[test]
    fn a_stamp_that_is_no_time_is_none() {
        for live in [true, false] {
            let mut timeline = Timeline::default();
            for at in 0..3 {
                let frame = Arrival {
                    live,
                    ..arrival(Some(u64::MAX - 2 + at), at * FRAME)
                };
                let (time, fault) = timeline.time(frame);
                assert_eq!((time, fault), (at * FRAME, Some(Fault::Missing)));
            }
            let mut timeline = Timeline::default();
            for at in 0..3 {
                let frame = Arrival {
                    live,
                    duration: u64::MAX,
                    ..arrival(Some(LATEST), 0)
                };
                assert_eq!(timeline.time(frame).0, LATEST, "{at}");
            }
        }
    }

    proptest! {
        /// Whatever comes, time goes forward, until no time is left.
        #[test]
        fn time_goes_forward(frames in prop::collection::vec((prop::option::of(0..u64::MAX / 4), 0..SECOND, prop::option::of(0..u64::MAX / 4), any::<bool>()), 1..50)) {
            let mut timeline = Timeline::default();
            let mut at = 0;
            let mut last = None;
            for (stamp, passed, clock, live) in frames {
                at += passed;
                let (time, fault) = timeline.time(Arrival { stamp, at, clock, duration: FRAME, live });
                prop_assert!(last.is_none_or(|last| time > last || time == LATEST));
                prop_assert_eq!(stamp.is_none(), fault == Some(Fault::Missing));
                last = Some(time);
            }
        }
    }
}
