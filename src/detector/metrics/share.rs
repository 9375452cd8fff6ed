//! A share of images, and what so many images say of it.

use std::fmt;

/// The normal distribution's 97.5 % quantile.
const Z: f64 = 1.959_963_984_540_054;

/// So many of so many images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Share {
    pub part: usize,
    pub whole: usize,
}

impl Share {
    /// In 0..1; `None` of nothing.
    pub fn value(self) -> Option<f64> {
        (self.whole > 0).then(|| self.part as f64 / self.whole as f64)
    }

    /// In words, with the value and the interval; `what` follows the number of images.
    pub fn of<'a>(self, what: &'a str) -> Of<'a> {
        Of(self, what)
    }

    /// The shares of all images that there might be, of which these are a sample, at a confidence of 95 % (Wilson 1927).
    pub fn interval(self) -> Option<[f64; 2]> {
        let (share, count) = (self.value()?, self.whole as f64);
        let scale = 1.0 + Z * Z / count;
        let centre = (share + Z * Z / (2.0 * count)) / scale;
        let half = Z / scale * (share * (1.0 - share) / count + (Z / (2.0 * count)).powi(2)).sqrt();
        // At the ends by definition, whatever the rounding.
        let low = if self.part == 0 { 0.0 } else { centre - half };
        let high = if self.part == self.whole {
            1.0
        } else {
            centre + half
        };
        Some([low, high])
    }
}

/// `45 of 141 defective images (0.319; 95 %: 0.248 to 0.400)`
pub struct Of<'a>(Share, &'a str);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(share, what) = self;
        write!(f, "{} of {}{what}", share.part, share.whole)?;
        match (share.value(), share.interval()) {
            (Some(value), Some([low, high])) => {
                write!(f, " ({value:.3}; 95 %: {low:.3} to {high:.3})")
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn none_and_all_have_an_end_of_their_own() {
        let none = Share { part: 0, whole: 26 }.interval().unwrap();
        let all = Share {
            part: 26,
            whole: 26,
        }
        .interval()
        .unwrap();
        assert_eq!((none[0], all[1]), (0.0, 1.0));
        for end in [none[1], 1.0 - all[0]] {
            assert!((end - Z * Z / (26.0 + Z * Z)).abs() < 1e-12, "{end}");
        }
        assert_eq!(Share::default().value(), None);
        assert_eq!(Share::default().interval(), None);
    }

    proptest! {
        /// By its definition: the shares from which the one seen is not further than 1.96 of their standard deviations.
        #[test]
        fn the_ends_are_where_the_score_test_turns(whole in 1usize..500, part in 0usize..500) {
            let part = part % (whole + 1);
            let share = part as f64 / whole as f64;
            for (end, fixed) in (Share { part, whole }).interval().unwrap().into_iter().zip([0, whole]) {
                if part != fixed {
                    let deviation = (end * (1.0 - end) / whole as f64).sqrt();
                    prop_assert!(((share - end).abs() - Z * deviation).abs() < 1e-9);
                }
            }
        }
    }
}
