//! Whether good parts still score as they did: a sequential test with a stated rate of false alarms.
//!
//! Two kinds of bet are placed against it. The first is on the scores of frames that are not flagged, so that defective parts do not
//! count: each gets a conformal p-value, its rank among the calibration scores up to the threshold and all such scores before it (ties
//! broken at random). While good parts score as they did these are independent and uniform (Vovk, Gammerman, Shafer 2005, theorem 8.2).
//! Bets on higher and on lower scores share their capital (the Simple Jumper of Vovk et al. 2021). They allow for a margin: good scores
//! may lie so close together that a change of no consequence, or the calibration's other heads (each fitted on four fifths of the images),
//! would be told apart in time. The second is that more than a fifth of the frames are flagged, as where nothing looks good any more; it is
//! also placed together with the first, for a change that takes scores to about the threshold.
//!
//! All are summed over all times at which a change may have begun (Shiryaev 1963, Roberts 1966). The sum less the number of scores is a
//! supermartingale, so until a false alarm it takes `limit` scores on average at least, whatever the distribution, where each score is of a
//! part of its own.

use super::calibration::Calibration;

/// Bins of the scores, evenly spaced in logarithms.
const BINS: usize = 1024;
/// How far the bins reach below the lowest and above the highest calibration score, as a factor.
const REACH: f32 = 16.0;
/// Share of the capital that moves between bets with each score.
const JUMP: f64 = 0.01;

/// A way to bet: what is staked on higher scores (negative) or on lower ones, and whether on many flagged frames as well.
struct Bet {
    scores: f64,
    flagged: bool,
}

const fn bet(scores: f64, flagged: bool) -> Bet {
    Bet { scores, flagged }
}

/// High stakes win soon where much has changed, low ones where little has. The one without any keeps its capital.
const BETS: [Bet; 7] = [
    bet(0.0, false),
    bet(-1.8, false),
    bet(-1.0, false),
    bet(1.0, false),
    bet(1.8, false),
    bet(0.0, true),
    bet(-1.8, true),
];

/// By how much scores have to move for a change: a share of the way from the median of the good to the threshold, in logarithms.
const MARGIN: f32 = 0.25;

/// Share of flagged frames up to which they count as defects; a threshold that flags more is of no use.
const FLAGGED: f64 = 0.2;

/// What has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Scores are higher than they were, or most are above the threshold: dirt, another lamp, another product.
    Up,
    /// Scores are lower: the picture shows less than it did.
    Down,
}

/// The test's state. Taking a score in allocates nothing.
#[derive(Debug, Clone)]
pub struct Drift {
    lowest: f32,
    step: f32,
    /// Of the calibration scores.
    median: f32,
    /// [`MARGIN`].
    margin: f32,
    /// Scores so far per bin, as a Fenwick tree; and those of the calibration alone.
    counts: Vec<u32>,
    calibration: Vec<u32>,
    limit: f64,
    /// One for each of [`BETS`].
    capital: [f64; BETS.len()],
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
            median: calibration.quantile(0.5),
            margin: MARGIN,
            counts: vec![0; BINS + 1],
            calibration: Vec::new(),
            limit,
            capital: [0.0; BETS.len()],
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

    /// Takes a score in, and says what has changed where enough speaks for it; then begins again from the calibration scores. Scores above
    /// `threshold` are those of flagged frames.
    pub fn observe(&mut self, score: f32, threshold: f32) -> Option<Direction> {
        let flagged = score > threshold;
        let (mut higher, mut lower) = (0.5, 0.5);
        if !flagged {
            let margin = (threshold / self.median).max(1.0).powf(self.margin);
            let tie = self.random.f64();
            higher = self.higher(score / margin, threshold, tie);
            lower = self.higher(score * margin, threshold, tie);
            self.count(self.bin(score));
        }
        let bets = BETS.len() as f64;
        let mean = self.capital.iter().sum::<f64>() / bets;
        for (capital, bet) in self.capital.iter_mut().zip(&BETS) {
            // One more bettor, with a share for each bet, begins with every score.
            *capital = (1.0 - JUMP) * *capital + JUMP * mean + 1.0 / bets;
            let p = if bet.scores < 0.0 { higher } else { lower };
            *capital *= 1.0 + bet.scores * (p - 0.5);
            if bet.flagged {
                *capital *= f64::from(u8::from(flagged)) + 1.0 - FLAGGED;
            }
        }
        if self.capital.iter().sum::<f64>() < self.limit {
            return None;
        }
        // Which kind of bet has won.
        let won: f64 = BETS
            .iter()
            .zip(self.capital)
            .map(|(bet, capital)| match bet.scores {
                lower if lower > 0.0 => -capital,
                higher if higher < 0.0 || bet.flagged => capital,
                _ => 0.0,
            })
            .sum();
        self.capital = [0.0; BETS.len()];
        self.counts.clone_from(&self.calibration);
        Some(if won > 0.0 {
            Direction::Up
        } else {
            Direction::Down
        })
    }

    /// The p-value of a score: the share of those up to the threshold that are higher, `tie` of its equals (it is one) among them.
    fn higher(&self, score: f32, threshold: f32, tie: f64) -> f64 {
        let bin = self.bin(score);
        let total = self.below(self.bin(threshold) + 1);
        let (below, until) = (self.below(bin).min(total), self.below(bin + 1).min(total));
        let equal = f64::from(until - below + 1);
        (f64::from(total - until) + tie * equal) / f64::from(total + 1)
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

    /// What one in a hundred of the good exceeds.
    const THRESHOLD: f32 = 1.6;

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
            // With a margin they are rarer by far.
            drift.margin = 0.0;
            // Until the first alarm: what follows one begins from the calibration alone, as in use.
            for _ in 0..5000 {
                alarms += usize::from(drift.observe(score(&mut random, 0.0), THRESHOLD).is_some());
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
                    assert_eq!(drift.observe(score(&mut random, 0.0), THRESHOLD), None);
                }
                let noticed = (1..=100).find_map(|after| {
                    Some((after, drift.observe(score(&mut random, shift), THRESHOLD)?))
                });
                assert_eq!(noticed.unwrap().1, direction);
            }
        }
    }

    /// Scores that lie close together, each a little higher than those before; far from the threshold that says nothing.
    #[test]
    fn a_change_of_no_consequence_is_no_drift() {
        let mut random = fastrand::Rng::with_seed(5);
        let close = |random: &mut fastrand::Rng| score(random, 0.0).powf(0.1);
        let scores = (0..300).map(|_| close(&mut random)).collect();
        let calibration = Calibration::new(scores).unwrap();
        let mut drift = Drift::new(&calibration, 10_000.0);
        for number in 0..3000 {
            let score = 1.02 * close(&mut random);
            assert_eq!(drift.observe(score, THRESHOLD), None, "{number}");
        }
        let noticed = (1..=100).find_map(|_| drift.observe(1.2 * close(&mut random), THRESHOLD));
        assert_eq!(noticed, Some(Direction::Up));
    }

    /// A tenth of defective frames, and thresholds that flag many.
    #[test]
    fn defects_are_no_drift() {
        let mut random = fastrand::Rng::with_seed(3);
        let mut drift = test(&mut random, 300, 10_000.0);
        for number in 0..3000 {
            let shift = if number % 10 == 0 { 20.0 } else { 0.0 };
            let score = score(&mut random, shift);
            assert_eq!(drift.observe(score, THRESHOLD), None, "{number}");
        }
        let mut drift = test(&mut random, 300, 10_000.0);
        for number in 0..3000 {
            // Flags a tenth of the good.
            assert_eq!(
                drift.observe(score(&mut random, 0.0), 1.29),
                None,
                "{number}"
            );
        }
    }

    #[test]
    fn a_threshold_that_flags_everything_is_noticed() {
        let mut random = fastrand::Rng::with_seed(4);
        let mut drift = test(&mut random, 300, 10_000.0);
        let noticed = (1..=30).find_map(|after| {
            let alarm = drift.observe(score(&mut random, 40.0), THRESHOLD)?;
            Some((after, alarm))
        });
        // 17 times 1.8 is more than 20,000.
        assert!(
            matches!(noticed, Some((..=18, Direction::Up))),
            "{noticed:?}"
        );
    }
}
