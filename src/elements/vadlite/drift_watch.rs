//! Which scores are tested for drift: those of frames so far apart that they show different parts.

use crate::detector::calibration::Calibration;
use crate::detector::drift::{Direction, Drift};

/// What the test says after a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DriftReading {
    /// How much speaks for a drift, 0 to 1.
    pub level: f64,
    /// The drift, where enough speaks for one.
    pub alarm: Option<Direction>,
}

/// The test for drift, fed at times of its own.
pub struct DriftWatch {
    test: Drift,
    /// When a score was last tested, and how long after that the next one is, in nanoseconds.
    tested: Option<(u64, u64)>,
    random: fastrand::Rng,
}

impl DriftWatch {
    /// The test against a model's calibration scores, with at least `limit` scores until a false alarm on average.
    pub fn new(calibration: &Calibration, limit: u32) -> Self {
        Self {
            test: Drift::new(calibration, limit.into()),
            tested: None,
            random: fastrand::Rng::with_seed(0),
        }
    }

    /// Tests a score, where it is time to: `interval` nanoseconds after the last one on average, or always where frames have no time.
    pub fn observe(
        &mut self,
        score: f32,
        threshold: f32,
        time: Option<u64>,
        interval: u64,
    ) -> Option<DriftReading> {
        // Time that has gone back begins anew.
        if let Some((time, (last, wait))) = time.zip(self.tested)
            && time.checked_sub(last).is_some_and(|passed| passed < wait)
        {
            return None;
        }
        // Half to one and a half times the interval: in step with the parts it would see the same of each.
        let wait = (interval as f64 * (0.5 + self.random.f64())) as u64;
        self.tested = time.map(|time| (time, wait));
        let alarm = self.test.observe(score, threshold);
        Some(DriftReading {
            level: self.test.level(),
            alarm,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> DriftWatch {
        let calibration = Calibration::new((1..=100).map(|score| score as f32).collect());
        DriftWatch::new(&calibration.unwrap(), 1000)
    }

    /// Frames that are tested, of those at these times.
    fn tested(times: impl Iterator<Item = Option<u64>>, interval: u64) -> Vec<usize> {
        let mut watch = watch();
        let mut observe = |time| watch.observe(50.0, 200.0, time, interval).is_some();
        times
            .enumerate()
            .filter_map(|(index, time)| observe(time).then_some(index))
            .collect()
    }

    #[test]
    fn scores_are_tested_at_irregular_times_an_interval_apart_on_average() {
        let tested = tested((0..100_000).map(Some), 50);
        let distances: Vec<_> = tested.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(
            distances
                .iter()
                .all(|distance| (25..=75).contains(distance))
        );
        assert!(distances.iter().any(|distance| *distance < 35));
        assert!(distances.iter().any(|distance| *distance > 65));
        // Of 2,000 uniform distances the mean's standard deviation is 14 / 45.
        assert!(tested.len().abs_diff(2000) < 60, "{}", tested.len());
    }

    #[test]
    fn without_an_interval_or_times_every_score_is_tested() {
        assert_eq!(tested((0..10).map(Some), 0).len(), 10);
        assert_eq!(tested((0..10).map(|_| None), 50).len(), 10);
    }

    #[test]
    fn time_that_goes_back_begins_anew() {
        let times = [1000, 1001, 5, 6].map(Some).into_iter();
        assert_eq!(tested(times, 50), [0, 2]);
    }

    #[test]
    fn the_longest_interval_waits_for_ever() {
        let times = [0, 1 << 62].map(Some).into_iter();
        assert_eq!(tested(times, u64::MAX), [0]);
    }
}
