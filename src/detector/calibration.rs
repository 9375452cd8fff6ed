//! The threshold from good images alone: a conformal quantile of the scores of held-out good images.

use super::error::FitError;
use super::long_tail::too_far;

/// False reject rate that a threshold is set for unless asked otherwise, where the number of good images supports it.
pub const DEFAULT_FALSE_REJECT_RATE: f64 = 0.01;

/// Scores of good images that the head which scored them was not fitted on.
#[derive(Debug, Clone, PartialEq)]
pub struct Calibration {
    /// Ascending.
    scores: Vec<f32>,
}

/// A few images that set the threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LongTail {
    pub images: usize,
    /// The threshold without them.
    pub without: f32,
}

impl Calibration {
    /// # Errors
    /// No scores, or one that is not finite.
    pub fn new(mut scores: Vec<f32>) -> Result<Self, FitError> {
        if scores.is_empty() || scores.iter().any(|score| !score.is_finite()) {
            return Err(FitError::Scores(scores.len()));
        }
        scores.sort_by(f32::total_cmp);
        Ok(Self { scores })
    }

    /// Ascending scores.
    pub fn scores(&self) -> &[f32] {
        &self.scores
    }

    /// The smallest false reject rate that this many good images can support: 1 / (n + 1).
    pub fn smallest_rate(&self) -> f64 {
        1.0 / (self.scores.len() as f64 + 1.0)
    }

    /// The threshold that a new good image exceeds with a probability of at most `rate`: the ⌈(n + 1)(1 - rate)⌉-th smallest of the
    /// n held-out scores (split conformal prediction; Vovk, Gammerman, Shafer 2005; Lei et al. 2018, eq. 2). A frame is flagged above it.
    ///
    /// # Errors
    /// `rate` is not in 0..1, or smaller than n good images can support; scores that no threshold above 0 comes of.
    pub fn threshold(&self, rate: f64) -> Result<f32, FitError> {
        if !(rate > 0.0 && rate < 1.0) {
            return Err(FitError::Rate(rate));
        }
        let n = self.scores.len();
        // The product is a whole number for many natural rates (0.01 of 99 + 1): rounding errors must not lift it to the next.
        let rank = ((n as f64 + 1.0) * (1.0 - rate) - 1e-9).ceil().max(1.0) as usize;
        match self.scores.get(rank - 1) {
            Some(&threshold) if threshold > 0.0 => Ok(threshold),
            Some(&threshold) => Err(FitError::Threshold(threshold)),
            None => Err(FitError::RateTooSmall {
                rate,
                needed: (1.0 / rate - 1.0 - 1e-9).ceil(),
                images: n,
                smallest: self.smallest_rate(),
            }),
        }
    }

    /// [`DEFAULT_FALSE_REJECT_RATE`], or the smallest rate that the number of images supports.
    pub fn default_rate(&self) -> f64 {
        Self::default_rate_of(self.scores.len())
    }

    /// The same of so many images.
    pub fn default_rate_of(images: usize) -> f64 {
        DEFAULT_FALSE_REJECT_RATE.max(1.0 / (images as f64 + 1.0))
    }

    /// The best that so many good images can promise, in words, where it is less than [`DEFAULT_FALSE_REJECT_RATE`].
    pub fn few(images: usize) -> Option<String> {
        let smallest = 1.0 / (images as f64 + 1.0);
        // 99 support 0.01, whatever the rounding.
        (smallest > DEFAULT_FALSE_REJECT_RATE + 1e-9).then(|| {
            format!(
                "{images} good images that differ: at most {:.1} % of good parts falsely rejected can be promised; for {} % show {:.0} or more",
                (1000.0 * smallest - 1e-9).ceil() / 10.0,
                100.0 * DEFAULT_FALSE_REJECT_RATE,
                1.0 / DEFAULT_FALSE_REJECT_RATE - 1.0
            )
        })
    }

    /// The images that lie further up than the tail of the others explains (`long_tail.rs`), where the threshold for a rate is one of
    /// their scores.
    pub fn long_tail(&self, rate: f64) -> Option<LongTail> {
        let threshold = self.threshold(rate).ok()?;
        let below = self.scores.partition_point(|score| *score < threshold);
        let count = self.scores.len();
        let images = too_far(&self.scores, count - below);
        let others = Self {
            scores: self.scores[..count - images].to_vec(),
        };
        let without = others.threshold(rate.max(others.smallest_rate())).ok()?;
        (images > 0).then_some(LongTail { images, without })
    }

    /// The score below which a fraction `q` of the held-out good images lies (nearest rank).
    pub fn quantile(&self, q: f64) -> f32 {
        let index = (q.clamp(0.0, 1.0) * (self.scores.len() - 1) as f64).round() as usize;
        self.scores[index]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn up_to(n: u16) -> Calibration {
        Calibration::new((1..=n).rev().map(f32::from).collect()).unwrap()
    }

    #[test]
    fn rank_has_the_finite_sample_correction() {
        assert_eq!(up_to(99).threshold(0.01).unwrap(), 99.0);
        assert_eq!(up_to(199).threshold(0.01).unwrap(), 198.0);
        assert_eq!(up_to(100).threshold(0.05).unwrap(), 96.0);
        let error = up_to(98).threshold(0.01).unwrap_err().to_string();
        assert!(
            error.contains("at least 99") && error.contains("0.0101"),
            "{error}"
        );
        assert_eq!(up_to(9).threshold(up_to(9).default_rate()).unwrap(), 9.0);
    }

    #[test]
    fn few_images_promise_little_and_say_so() {
        let said = Calibration::few(20).unwrap();
        assert!(
            said.contains("20 good")
                && said.contains("at most 4.8 %")
                && said.contains("1 % show 99"),
            "{said}"
        );
        // Rounded up, or it would be more than can be promised.
        assert!(Calibration::few(30).unwrap().contains("at most 3.3 %"));
        assert!(Calibration::few(98).unwrap().contains("at most 1.1 %"));
        assert_eq!(Calibration::few(99), None);
        for images in 10..200u16 {
            let supported = up_to(images).threshold(DEFAULT_FALSE_REJECT_RATE).is_ok();
            assert_eq!(Calibration::few(images.into()).is_none(), supported);
        }
    }

    #[test]
    fn few_images_that_set_the_threshold_are_counted() {
        assert_eq!(up_to(300).long_tail(0.01), None);
        let mut scores: Vec<f32> = (0..300u16).map(|n| 1.0 + f32::from(n) / 1000.0).collect();
        scores.splice(0..3, [3.0, 4.0, 5.0]);
        let tail = Calibration::new(scores).unwrap().long_tail(0.01).unwrap();
        assert_eq!(tail.images, 3);
        assert!((tail.without - 1.297).abs() < 0.01, "{tail:?}");
    }

    #[test]
    fn nonsense_is_refused() {
        assert!(Calibration::new(vec![]).is_err());
        assert!(Calibration::new(vec![1.0, f32::NAN]).is_err());
        for rate in [0.0, 1.0, -0.1, f64::NAN] {
            assert!(up_to(50).threshold(rate).is_err());
        }
        // Everything would be flagged, and the overlay divide by it.
        let still = Calibration::new(vec![0.0; 30]).unwrap();
        let error = still.threshold(0.1).unwrap_err().to_string();
        assert!(error.contains("would be 0"), "{error}");
    }

    proptest! {
        /// The guarantee itself, by exchangeability: of n + 1 scores, each left out once and compared with the threshold of the others,
        /// at most a fraction `rate` lies above.
        #[test]
        fn at_most_the_rate_is_rejected(scores in prop::collection::vec(0.0f32..1.0, 20..120), rate in 0.05f64..0.5) {
            let rejected = (0..scores.len()).filter(|&left_out| {
                let mut others = scores.clone();
                let new = others.remove(left_out);
                new > Calibration::new(others).unwrap().threshold(rate).unwrap()
            }).count();
            prop_assert!(rejected as f64 <= rate * scores.len() as f64 + 1e-9);
        }
    }
}
