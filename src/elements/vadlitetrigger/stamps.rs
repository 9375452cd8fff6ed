//! When frames were taken: their time stamps, as far as these can be believed, on the gate's clock.
//!
//! The belt goes on in a pause, and whatever clock a camera has. So parts go by a clock of the gate's own, which is monotonic, and a stamp
//! only says how old a frame is.

/// How far a frame may be ahead of the clock: of a source that is live, for the jitter of its stamps; of another one, what queues hold.
pub const AHEAD_LIVE: u64 = 100_000_000;
pub const AHEAD: u64 = 2_000_000_000;
/// How old a frame may be.
pub const OLDEST: u64 = 30_000_000_000;
/// How far apart two frames may be taken by their stamps: a day. What is further says nothing, and would leave no room for the frames to come.
const APART: u64 = 86_400_000_000_000;

/// How a frame arrives. Running times in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Arrival {
    /// Its time stamp.
    pub stamp: Option<u64>,
    /// The time that it is; `None` where no clock runs.
    pub running: Option<u64>,
    /// The source waits for nobody.
    pub live: bool,
}

/// What is wrong with a time stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Implausible {
    #[error("{} ms ahead of the pipeline's clock", .0 / 1_000_000)]
    Ahead(u64),
    #[error("{} s behind the pipeline's clock", .0 / 1_000_000_000)]
    Behind(u64),
    #[error("not later than that of the frame before")]
    NotLater,
}

/// When a frame was taken.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Taken {
    /// On the gate's clock.
    pub at: u64,
    /// The same on a line of its own, on which frames are as far apart as their stamps say, wherever these begin.
    pub along: u64,
    /// It is taken to be now for this reason.
    pub implausible: Option<Implausible>,
}

/// The stamps of one stream.
#[derive(Debug, Default)]
pub struct Stamps {
    last: Option<Last>,
    /// The last pause: running time, and the gate's. What was taken before it is older than its stamp says.
    paused: Option<(u64, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    stamp: Option<u64>,
    now: u64,
    along: u64,
}

impl Stamps {
    /// Takes in the next frame, which arrives at `now` on the gate's clock.
    pub fn read(&mut self, arrival: Arrival, now: u64) -> Taken {
        let (at, implausible) = self.at(arrival, now);
        let along = match self.last {
            None => at,
            Some(last) => {
                let since = match last.stamp.zip(arrival.stamp) {
                    Some((last, stamp)) if stamp > last && stamp - last < APART => stamp - last,
                    _ => now.saturating_sub(last.now),
                };
                last.along.saturating_add(since)
            }
        };
        self.last = Some(Last {
            stamp: arrival.stamp,
            now,
            along,
        });
        Taken {
            at,
            along,
            implausible,
        }
    }

    fn at(&self, arrival: Arrival, now: u64) -> (u64, Option<Implausible>) {
        let Some((stamp, running)) = arrival.stamp.zip(arrival.running) else {
            return (now, None);
        };
        let before = self.last.and_then(|last| last.stamp);
        if before.is_some_and(|before| stamp <= before) {
            return (now, Some(Implausible::NotLater));
        }
        if let Some(ahead) = stamp.checked_sub(running) {
            let most = if arrival.live { AHEAD_LIVE } else { AHEAD };
            return match ahead > most {
                true => (now, Some(Implausible::Ahead(ahead))),
                // Nothing that a camera shows is yet to come.
                false if arrival.live => (now, None),
                false => (now.saturating_add(ahead), None),
            };
        }
        let age = match self.paused {
            Some((then, gate)) if stamp <= then => now.saturating_sub(gate) + (then - stamp),
            _ => running - stamp,
        };
        match age > OLDEST {
            true => (now, Some(Implausible::Behind(age))),
            false => (now.saturating_sub(age), None),
        }
    }

    /// Running time stands still from here on, and the gate's does not.
    pub fn pause(&mut self, running: Option<u64>, now: u64) {
        self.paused = running.map(|running| (running, now));
    }

    /// The frames to come do not follow on those before: a seek, or another stream.
    pub fn restart(&mut self) {
        self.paused = None;
        if let Some(last) = &mut self.last {
            last.stamp = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: u64 = 1_000_000;

    fn arrival(stamp: u64, running: u64, live: bool) -> Arrival {
        Arrival {
            stamp: Some(stamp),
            running: Some(running),
            live,
        }
    }

    /// Of a first frame, at the gate's time 100 s.
    fn first(stamp: u64, running: u64, live: bool) -> (i64, Option<Implausible>) {
        let now = 100_000 * MS;
        let taken = Stamps::default().read(arrival(stamp * MS, running * MS, live), now);
        (
            (taken.at as i64 - now as i64) / MS as i64,
            taken.implausible,
        )
    }

    #[test]
    fn a_frame_is_as_old_as_its_stamp_says_and_never_of_the_future_of_a_live_source() {
        assert_eq!(first(5000, 5040, true), (-40, None));
        assert_eq!(first(5000, 4950, true), (0, None));
        assert_eq!(first(5000, 4000, false), (1000, None));
        let hour = 3_600_000;
        let ahead = Some(Implausible::Ahead(hour * MS));
        assert_eq!(first(hour + 10, 10, true), (0, ahead));
        assert_eq!(first(hour + 10, 10, false), (0, ahead));
        let ahead = Some(Implausible::Ahead(200 * MS));
        assert_eq!(first(300, 100, true), (0, ahead));
        let behind = Some(Implausible::Behind(50_000 * MS));
        assert_eq!(first(10_000, 60_000, true), (0, behind));
        let unstamped = Stamps::default().read(Arrival::default(), 7);
        assert_eq!((unstamped.at, unstamped.implausible), (7, None));
    }

    #[test]
    fn stamps_that_stand_or_go_back_are_taken_for_now() {
        let mut stamps = Stamps::default();
        stamps.read(arrival(50 * MS, 50 * MS, true), 1000 * MS);
        for (stamp, now) in [(50, 1033), (20, 1066)] {
            let taken = stamps.read(arrival(stamp * MS, (now - 950) * MS, true), now * MS);
            assert_eq!(taken.implausible, Some(Implausible::NotLater));
            assert_eq!((taken.at, taken.along), (now * MS, now * MS));
        }
        // After a seek they begin anew.
        stamps.restart();
        let taken = stamps.read(arrival(5 * MS, 5 * MS, true), 1100 * MS);
        assert_eq!((taken.at, taken.implausible), (1100 * MS, None));
    }

    /// One absurd stamp, and the frames behind it are as far apart as they come: else all of them would show one part.
    #[test]
    fn a_stamp_that_is_no_time_leaves_the_others_apart() {
        let mut stamps = Stamps::default();
        let mut last = None;
        for (frame, stamp) in [50 * MS, u64::MAX - 1, 130 * MS, 170 * MS]
            .into_iter()
            .enumerate()
        {
            let now = 1000 * MS + frame as u64 * 40 * MS;
            let arrival = Arrival {
                stamp: Some(stamp),
                running: Some(now - 950 * MS),
                live: true,
            };
            let along = stamps.read(arrival, now).along;
            assert!(last.is_none_or(|last| along - last == 40 * MS), "{frame}");
            last = Some(along);
        }
    }

    #[test]
    fn what_was_taken_before_a_pause_is_older_than_its_stamp_says() {
        let mut stamps = Stamps::default();
        stamps.read(arrival(900 * MS, 900 * MS, true), 5000 * MS);
        stamps.pause(Some(1000 * MS), 5100 * MS);
        // Three seconds later running time goes on at 1 s.
        let before = stamps.read(arrival(960 * MS, 1010 * MS, true), 8110 * MS);
        assert_eq!(before.at, 5060 * MS);
        let after = stamps.read(arrival(1050 * MS, 1070 * MS, true), 8170 * MS);
        assert_eq!(after.at, 8150 * MS);
    }

    proptest! {
        /// A camera's own clock, whatever it shows: frames stay as far apart as they were taken, and none is taken later than now.
        #[test]
        fn frames_stay_apart_on_any_clock(offset in -100_000i64..10_000_000, gaps in prop::collection::vec(1u64..500, 1..50)) {
            let mut stamps = Stamps::default();
            let start = 1_000_000;
            let mut time = 200_000;
            let mut last: Option<(u64, u64)> = None;
            for gap in gaps {
                time += gap;
                let stamp = (time as i64 + offset) as u64;
                let taken = stamps.read(arrival(stamp * MS, time * MS, true), (start + time) * MS);
                prop_assert!(taken.at <= (start + time) * MS);
                if let Some((before, along)) = last {
                    prop_assert_eq!(taken.along - along, (time - before) * MS);
                }
                last = Some((time, taken.along));
            }
        }
    }
}
