//! Whether good parts still score as they did: a sequential test with a stated rate of false alarms.
//!
//! Each score gets a conformal p-value, its rank among the calibration scores and all scores before it (ties broken at random): while they
//! come from one distribution these are independent and uniform (Vovk, Gammerman, Shafer 2005, theorem 8.2). Bets against that, which grow
//! where scores have become higher or lower (the Simple Jumper of Vovk et al. 2021), are summed over all times at which a change may have
//! begun (Shiryaev 1963, Roberts 1966). The sum less the number of scores is a martingale, so until a false alarm it takes `limit` scores
//! on average at least, whatever the distribution.

use super::calibration::Calibration;

/// Bins of the scores, evenly spaced in logarithms.
const BINS: usize = 1024;
/// How far the bins reach below the lowest and above the highest calibration score, as a factor.
const REACH: f32 = 16.0;
/// Share of the capital that moves between bets with each score.
const JUMP: f64 = 0.01;
/// The bets: on higher scores, on nothing, on lower ones.
const BETS: [f64; 3] = [-1.0, 0.0, 1.0];

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Scores are higher than they were: dirt, another lamp, another product.
    Up,
    /// Scores are lower: the picture shows less than it did.
    Down,
}

/// The test's state. Taking a score in allocates nothing.
#[derive(Debug, Clone)]
pub struct Drift {
    lowest: f32,
    step: f32,
    /// Scores so far per bin, as a Fenwick tree; and those of the calibration alone.
    counts: Vec<u32>,
    calibration: Vec<u32>,
    total: u32,
    limit: f64,
    capital: [f64; 3],
    random: fastrand::Rng,
}

impl Drift {
    /// The test against a model's calibration scores, with at least `limit` scores until a false alarm on average.
    pub fn new(calibration: &Calibration, limit: f64) -> Self {
        let scores = calibration.scores();
        let (first, last) = match scores {
            [first, .., last] => (*first, *last),
            [only] => (*only, *only),
            [] => (1.0, 1.0),
        };
        let lowest = (first.max(1e-6) / REACH).ln();
        let highest = (last.max(1e-6) * REACH).ln();
        let mut drift = Self {
            lowest,
            step: (highest - lowest) / BINS as f32,
            counts: vec![0; BINS + 1],
            calibration: Vec::new(),
            total: 0,
            limit,
            capital: [0.0; 3],
            random: fastrand::Rng::with_seed(0),
        };
        for score in scores {
            drift.count(drift.bin(*score));
        }
        drift.calibration.clone_from(&drift.counts);
        drift
    }

    fn bin(&self, score: f32) -> usize {
        let at = (score.max(1e-6).ln() - self.lowest) / self.step;
        (at.max(0.0) as usize).min(BINS - 1)
    }

    fn count(&mut self, bin: usize) {
        let mut at = bin + 1;
        while at <= BINS {
            self.counts[at] += 1;
            at += at & at.wrapping_neg();
        }
        self.total += 1;
    }

    /// Scores in the bins before this one.
    fn below(&self, bin: usize) -> u32 {
        let (mut at, mut sum) = (bin, 0);
        while at > 0 {
            sum += self.counts[at];
            at &= at - 1;
        }
        sum
    }

    /// How much speaks for a change, as the share of the limit in 0..1, by its logarithm.
    pub fn level(&self) -> f64 {
        let capital: f64 = self.capital.iter().sum();
        ((1.0 + capital).ln() / self.limit.ln()).clamp(0.0, 1.0)
    }

    /// Takes a score in, and says what has changed where enough speaks for it; then begins again from the calibration scores.
    pub fn take(&mut self, score: f32) -> Option<Direction> {
        let bin = self.bin(score);
        let (below, until) = (self.below(bin), self.below(bin + 1));
        // The share of scores that are higher, this one among its equals at random.
        let higher = f64::from(self.total - until);
        let equal = f64::from(until - below + 1);
        let p = (higher + self.random.f64() * equal) / f64::from(self.total + 1);
        self.count(bin);

        let mean: f64 = self.capital.iter().sum::<f64>() / 3.0;
        for (capital, bet) in self.capital.iter_mut().zip(BETS) {
            // A third of one more bettor for each bet begins with every score.
            let staked = (1.0 - JUMP) * *capital + JUMP * mean + 1.0 / 3.0;
            *capital = staked * (1.0 + bet * (p - 0.5));
        }
        if self.capital.iter().sum::<f64>() < self.limit {
            return None;
        }
        let direction = if self.capital[0] > self.capital[2] {
            Direction::Up
        } else {
            Direction::Down
        };
        self.capital = [0.0; 3];
        self.counts.clone_from(&self.calibration);
        self.total = self.below(BINS);
        Some(direction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores that are log-normal, as those of good parts roughly are.
    fn score(random: &mut fastrand::Rng, shift: f64) -> f32 {
        let normal: f64 = (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        (0.2 * (normal + shift)).exp() as f32
    }

    fn test(random: &mut fastrand::Rng, images: usize, limit: f64) -> Drift {
        let scores = (0..images).map(|_| score(random, 0.0)).collect();
        Drift::new(&Calibration::new(scores).unwrap(), limit)
    }

    #[test]
    fn false_alarms_are_as_rare_as_promised() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut alarms = 0;
        for run in 0..60 {
            let mut drift = test(&mut random, 20 + 5 * run, 500.0);
            // Until the first alarm: what follows one begins from the calibration alone, as in use.
            for _ in 0..5000 {
                alarms += usize::from(drift.take(score(&mut random, 0.0)).is_some());
            }
        }
        // 300,000 scores allow 600 alarms on average; the sum's standard deviation is about as many's square root.
        assert!(alarms < 675, "{alarms}");
        // A test that never raises an alarm would pass as well.
        assert!(alarms > 0);
    }

    #[test]
    fn a_change_is_noticed_soon_and_its_direction_said() {
        let mut random = fastrand::Rng::with_seed(2);
        for (shift, direction) in [(2.0, Direction::Up), (-2.0, Direction::Down)] {
            for _ in 0..50 {
                let mut drift = test(&mut random, 200, 10_000.0);
                for _ in 0..300 {
                    assert_eq!(drift.take(score(&mut random, 0.0)), None);
                }
                let noticed = (1..=100)
                    .find_map(|after| Some((after, drift.take(score(&mut random, shift))?)));
                assert_eq!(noticed.unwrap().1, direction);
            }
        }
    }

    #[test]
    fn rare_defects_are_no_drift() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut drift = test(&mut random, 300, 10_000.0);
        for number in 0..3000 {
            let shift = if number % 30 == 0 { 20.0 } else { 0.0 };
            assert_eq!(drift.take(score(&mut random, shift)), None, "{number}");
        }
    }
}
