//! The frames of one stream: their numbers, and what was lost between them.

/// How far a frame's time may be from where it belongs, in frames, to be taken for that frame: a live source stamps late and early.
const JITTER: f64 = 0.45;
/// How far a frame may be from the middle of where it may belong, in frames: two of opposite jitter at first.
const UNSETTLED: f64 = 0.82;
/// The same once so many frames have shown where they belong. Over a half, since jitter is to be no loss.
const SETTLED: (u32, f64) = (32, 0.6);
/// By how much a source's clock may go wrong with each frame, in frames.
const CLOCK: f64 = 0.01;
/// Frames of which each has begun where the one before it ended, until a later one says that some are missing: where the frame rate
/// varies, and durations may mean anything.
const TRUSTED: u32 = 3;
/// A jump by more frames is one of the numbers or of the clock.
const MOST: u64 = 1_000_000;

/// What is known of a stream between start and stop, whatever is done with its frames.
#[derive(Default)]
pub struct Stream {
    next_frame: u64,
    losses: Losses,
}

impl Stream {
    /// Takes the number of the next frame, from 0.
    pub fn count_frame(&mut self) -> u64 {
        self.next_frame += 1;
        self.next_frame - 1
    }

    /// The number that the next frame will have.
    pub fn next_frame(&self) -> u64 {
        self.next_frame
    }

    /// Frames per second by the caps; 0 where they vary.
    pub fn set_rate(&mut self, rate: gst::Fraction) {
        let period = 1e9 * f64::from(rate.denom()) / f64::from(rate.numer());
        self.losses.period = Some(period).filter(|period| period.is_finite() && *period >= 1.0);
    }

    /// Forgets the last buffer: the next one follows on a seek or a new stream, not on it.
    pub fn forget_last(&mut self) {
        self.losses.last = None;
        self.losses.interrupted = false;
    }

    /// The source says that it has nothing to send for a while.
    pub fn interrupt(&mut self) {
        self.losses.interrupted = true;
    }

    /// Frames missing before this one.
    pub fn frames_lost(&mut self, buffer: &gst::BufferRef) -> u64 {
        self.losses.before(Place {
            // The offset of a frame is its number; of a parsed file, its place in bytes. Only frames end one further on.
            number: Some(buffer.offset())
                .filter(|offset| offset.checked_add(1) == Some(buffer.offset_end())),
            time: buffer.pts().map(gst::ClockTime::nseconds),
            duration: buffer.duration().map(gst::ClockTime::nseconds),
            discont: buffer.flags().contains(gst::BufferFlags::DISCONT),
        })
    }
}

/// What a buffer says of its place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Place {
    /// Counted by the source.
    number: Option<u64>,
    /// Nanoseconds.
    time: Option<u64>,
    duration: Option<u64>,
    discont: bool,
}

/// How many frames are missing, frame by frame.
#[derive(Debug, Default)]
struct Losses {
    /// Nanoseconds from frame to frame, where the caps tell.
    period: Option<f64>,
    /// Of the last frame.
    last: Option<(Option<u64>, Option<Times>)>,
    interrupted: bool,
}

/// What the times of the frames up to one say of when the next one is due.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// When the frame came, in nanoseconds.
    time: u64,
    /// How long it lasts, in nanoseconds.
    length: f64,
    /// Where it belongs, from its time on, in lengths: the earliest and the latest.
    place: (f64, f64),
    /// Frames from which that is known.
    frames: u32,
    /// Frames that have met, as they do where durations are true.
    met: u32,
}

impl Losses {
    /// Frames missing before this one: by the numbers that the source gives, where both frames have them; else by the times; and one at
    /// least for a discontinuity. None before the first frame.
    fn before(&mut self, place: Place) -> u64 {
        let discont = place.discont | std::mem::take(&mut self.interrupted);
        let duration = place.duration.map(|duration| duration as f64);
        let length = self.period.or(duration).filter(|length| *length >= 1.0);
        let begun = place.time.zip(length).map(|(time, length)| Times {
            time,
            length,
            place: (-JITTER, JITTER),
            frames: 1,
            met: 0,
        });
        let Some((number, times)) = self.last.take() else {
            self.last = Some((place.number, begun));
            return 0;
        };
        let by_numbers = place
            .number
            .zip(number)
            .and_then(|(this, last)| this.checked_sub(last)?.checked_sub(1))
            .filter(|missing| *missing <= MOST);
        let (times, missing) = match times.zip(begun) {
            Some((last, begun)) => last.next(begun),
            None => (begun, 0),
        };
        let certain = self.period.is_some() || times.is_some_and(|times| times.met >= TRUSTED);
        let missing = if missing > MOST { 1 } else { missing };
        // Of durations that have not proved true nothing follows.
        let times = match missing {
            0 => times,
            _ if certain => times,
            _ => begun,
        };
        self.last = Some((place.number, times));
        match by_numbers {
            // What counts frames anew, such as videorate, does not count those that were lost before it.
            Some(0) if discont => missing,
            Some(missing) => missing,
            None if discont => missing.max(1),
            None if certain => missing,
            None => 0,
        }
    }
}

impl Times {
    /// Goes on to the next frame. Returns what is known then, and the frames missing in between.
    ///
    /// Every frame belongs where a whole number of lengths after the others takes it, give or take [`JITTER`] of its time. That narrows
    /// down where frames belong, the more the wilder they are stamped.
    fn next(self, begun: Self) -> (Option<Self>, u64) {
        let unit = self.length;
        let step = (i128::from(begun.time) - i128::from(self.time)) as f64 / unit;
        // Of another length, at another rate: when it is due is known, where the next ones belong is not.
        if (begun.length / unit - 1.0).abs() > 0.05 {
            let missing = (step - begun.length.max(unit) / unit - 2.0 * JITTER).ceil();
            return (Some(begun), missing.max(0.0) as u64);
        }
        let (first, last) = self.place;
        let late = step - 1.0 - f64::midpoint(first, last);
        let consistent = (last - first) / 2.0 + JITTER;
        let limit = match self.frames >= SETTLED.0 {
            true => consistent.min(SETTLED.1),
            false => consistent.min(UNSETTLED),
        };
        let missing = (late - limit).ceil().max(0.0);
        let due = 1.0 + missing - step;
        let place = (
            (first + due - CLOCK).max(-JITTER),
            (last + due + CLOCK).min(JITTER),
        );
        if place.0 > place.1 {
            // Earlier than all others said: what they said is over.
            return (Some(begun), missing as u64);
        }
        let next = Self {
            place,
            frames: self.frames.saturating_add(1),
            met: match missing > 0.0 {
                true => self.met,
                false => self.met.saturating_add(1),
            },
            ..begun
        };
        (Some(next), missing as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PERIOD: f64 = 1e9 / 30.0;

    fn losses(period: Option<f64>) -> Losses {
        Losses {
            period,
            ..Losses::default()
        }
    }

    /// The frame of this number on the source's grid.
    fn at(number: u64, jitter: f64) -> Place {
        let time = 3_600e9 + (number as f64 + jitter) * PERIOD;
        Place {
            time: Some(time as u64),
            ..Place::default()
        }
    }

    fn numbered(number: u64, time: u64) -> Place {
        Place {
            number: Some(number),
            ..at(time, 0.0)
        }
    }

    /// The losses that are told before each of these frames.
    fn told(losses: &mut Losses, places: impl IntoIterator<Item = Place>) -> Vec<u64> {
        let places = places.into_iter();
        places.map(|place| losses.before(place)).collect()
    }

    /// Frames of which some are missing, and how many before each that is left, but for the first.
    fn gappy() -> impl Strategy<Value = Vec<u64>> {
        let missing = prop_oneof![6 => Just(0u64), 1 => 1u64..4, 1 => 4u64..200];
        prop::collection::vec(missing, 1..300)
    }

    fn numbers(missing: &[u64]) -> Vec<u64> {
        let mut number = 7;
        let after = missing.iter().map(|missing| {
            number += missing + 1;
            number
        });
        std::iter::once(7)
            .chain(after.collect::<Vec<_>>())
            .collect()
    }

    proptest! {
        /// Any frames dropped before the element are counted, each where it is missing, whatever else the buffers say.
        #[test]
        fn numbers_tell_every_loss(missing in gappy(), times in any::<bool>(), discont in any::<bool>(), rate in any::<bool>()) {
            let mut losses = losses(rate.then_some(PERIOD));
            let places = numbers(&missing).into_iter().enumerate().map(|(index, number)| Place {
                number: Some(number),
                // A camera that is slower than its caps say.
                time: times.then_some((index as f64 * 2.3 * PERIOD) as u64),
                discont: discont && index > 0 && missing[index - 1] > 0,
                ..Place::default()
            });
            let told = told(&mut losses, places);
            prop_assert_eq!(&told[1..], &missing[..]);
        }

        /// The same by the times alone, without a flag, with some jitter and a clock that is not the caps'.
        #[test]
        fn times_tell_every_loss_at_a_known_rate(missing in gappy(), jitter in 0.0f64..0.04, seed in any::<u64>(), drift in -2e-4f64..2e-4) {
            let mut random = fastrand::Rng::with_seed(seed);
            let places = numbers(&missing).into_iter().map(|number| {
                let jitter = jitter * (2.0 * random.f64() - 1.0);
                let time = (number as f64 * (1.0 + drift) + jitter) * PERIOD + 1e9;
                Place { time: Some(time as u64), ..Place::default() }
            });
            let told = told(&mut losses(Some(PERIOD)), places);
            prop_assert_eq!(&told[1..], &missing[..]);
        }

        /// Times that are late and early by up to 40 % of a frame are no loss, from the first frame on.
        #[test]
        fn jitter_is_no_loss(seed in any::<u64>(), frames in 2u64..2000) {
            let mut random = fastrand::Rng::with_seed(seed);
            let places = (0..frames).map(|number| at(number, 0.8 * random.f64() - 0.4));
            let told = told(&mut losses(Some(PERIOD)), places);
            prop_assert!(told.iter().all(|lost| *lost == 0), "{:?}", told);
        }

        /// Whatever buffers say, nothing panics, and a count stays one that may be true.
        #[test]
        fn nothing_breaks_it(
            places in prop::collection::vec((prop::option::of(extreme()), prop::option::of(extreme()), prop::option::of(extreme()), any::<bool>()), 0..20),
            period in prop::option::of(prop_oneof![Just(1.0), Just(PERIOD), Just(2e18)]),
        ) {
            let mut losses = losses(period);
            for (number, time, duration, discont) in places {
                let lost = losses.before(Place { number, time, duration, discont });
                prop_assert!(lost <= MOST, "{lost} lost");
            }
        }
    }

    fn extreme() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..3, any::<u64>(), (u64::MAX - 3)..=u64::MAX]
    }

    /// Of the frames of a stream that is dropped at random half are missing, however wildly it is stamped: all in all they are counted.
    #[test]
    fn all_in_all_losses_are_counted_in_wild_times_too() {
        for seed in 0..20 {
            let mut random = fastrand::Rng::with_seed(seed);
            let left: Vec<u64> = (0..2000).filter(|_| random.bool()).collect();
            let missing = left[left.len() - 1] - left[0] + 1 - left.len() as u64;
            let places: Vec<_> = left
                .iter()
                .map(|number| at(*number, 0.8 * random.f64() - 0.4))
                .collect();
            let told: u64 = told(&mut losses(Some(PERIOD)), places).iter().sum();
            let wrong = told.abs_diff(missing) as f64 / missing as f64;
            assert!(wrong < 0.02, "seed {seed}: {told} of {missing}");
        }
    }

    #[test]
    fn where_the_rate_varies_numbers_discontinuities_and_true_durations_tell() {
        let place = |time: u64, duration, discont| Place {
            time: Some(1_000_000_000 + time * 1_000_000),
            duration,
            discont,
            number: None,
        };
        let frame = Some(40_000_000);
        // Neither a rate nor durations: a gap is none, a discontinuity one at least.
        let mut variable = losses(None);
        let places = [(0, false), (40, false), (500, false), (540, true)]
            .map(|(time, discont)| place(time, None, discont));
        assert_eq!(told(&mut variable, places), [0, 0, 0, 1]);
        // Durations that frames do not keep to.
        let mut variable = losses(None);
        let times = [0, 90, 130, 500, 640, 680, 1000];
        let places = times.map(|time| place(time, frame, false));
        assert_eq!(told(&mut variable, places), [0; 7]);
        assert_eq!(variable.before(place(1200, frame, true)), 4);
        // Those that they do keep to.
        let mut variable = losses(None);
        let times = [0, 41, 80, 119, 280, 320];
        let places = times.map(|time| place(time, frame, false));
        assert_eq!(told(&mut variable, places), [0, 0, 0, 0, 3, 0]);
        // Each of its own.
        let mut variable = losses(None);
        let lengths: [(u64, u64); 6] = [
            (0, 40),
            (40, 400),
            (440, 20),
            (460, 40),
            (500, 33),
            (533, 40),
        ];
        let places = lengths.map(|(time, length)| place(time, Some(length * 1_000_000), false));
        assert_eq!(told(&mut variable, places), [0; 6]);
    }

    #[test]
    fn a_rate_that_changes_is_no_loss_and_hides_none() {
        let mut changing = losses(Some(40e6));
        let time = |milliseconds: u64| Place {
            time: Some(milliseconds * 1_000_000),
            ..Place::default()
        };
        assert_eq!(told(&mut changing, [0, 40, 80].map(time)), [0, 0, 0]);
        changing.period = Some(20e6);
        assert_eq!(told(&mut changing, [120, 140, 200].map(time)), [0, 0, 2]);
        changing.period = Some(80e6);
        assert_eq!(told(&mut changing, [280, 360, 600].map(time)), [0, 0, 2]);
        changing.period = None;
        assert_eq!(told(&mut changing, [900, 2000].map(time)), [0, 0]);
    }

    #[test]
    fn what_begins_anew_or_goes_back_is_no_loss() {
        let mut stream = losses(Some(PERIOD));
        let places = [0, 1, 2, 1, 0, 1, 2].map(|number| at(number, 0.0));
        assert_eq!(told(&mut stream, places), [0; 7]);
        // Numbers that begin again leave it to the times.
        let places =
            [(90, 3), (0, 4), (1, 7), (0, 10)].map(|(number, time)| numbered(number, time));
        assert_eq!(told(&mut stream, places), [0, 0, 0, 2]);
        // So do numbers that jump as none count.
        let places = [(1 << 40, 11), (1 << 50, 13)].map(|(number, time)| numbered(number, time));
        assert_eq!(told(&mut stream, places), [0, 1]);
        // A clock that is set is a discontinuity at most.
        assert_eq!(stream.before(at(1 << 40, 0.0)), 1);
    }

    #[test]
    fn a_gap_that_the_source_tells_of_is_a_discontinuity() {
        let mut stream = Stream::default();
        stream.losses.before(Place::default());
        stream.interrupt();
        assert_eq!(stream.losses.before(Place::default()), 1);
        assert_eq!(stream.losses.before(Place::default()), 0);
        stream.interrupt();
        stream.forget_last();
        assert_eq!(told(&mut stream.losses, [Place::default(); 2]), [0, 0]);
    }

    #[test]
    fn the_numbers_of_what_counts_anew_do_not_hide_a_discontinuity() {
        let mut stream = losses(Some(PERIOD));
        let places = [(0, 0, true), (1, 1, true), (2, 5, true), (3, 9, false)].map(
            |(number, time, discont)| Place {
                discont,
                ..numbered(number, time)
            },
        );
        assert_eq!(told(&mut stream, places), [0, 0, 3, 0]);
    }
}
