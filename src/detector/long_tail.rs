//! Whether few images set the threshold: scores that lie further above the others than the others' own tail explains.

/// This share of the scores may be odd, the highest ones; from those below it the tail is measured.
const ODD: f64 = 0.05;
/// The tail is measured down to the score that this share exceeds, on so many scores at least.
const TAIL: f64 = 0.25;
const FEWEST: usize = 15;
/// What is so many standard deviations further up than the tail makes it on average is too far.
const DEVIATIONS: f64 = 3.0;

/// How many of the scores are too far up, from the highest one on, where the `rank`-th highest (from 1) is; 0 where it is not.
///
/// The tail of the scores' logarithms is taken to be exponential, which that of good images hardly exceeds: of its order statistics
/// x₁ ≥ x₂ ≥ … the spacings j (xⱼ - xⱼ₊₁) are then independent and have the tail's scale b as their mean (Rényi 1953). With b from the
/// spacings below the odd share, which ends at the R-th highest, xⱼ is too far up where
///
/// xⱼ - x_{R+1} > b (Σ 1/i + 3 √(Σ 1/i²)), i = j … R.
///
/// Odd images do not hide each other, as they are in none of the spacings. Of exponential tails 4 % are too long by that at 50 scores,
/// 2 % at 150 and 1 % at 400; of normal ones fewer.
pub fn too_far(scores: &[f32], rank: usize) -> usize {
    let count = scores.len();
    let odd = ((ODD * count as f64).ceil() as usize).max(rank);
    let end = ((TAIL * count as f64) as usize).max(FEWEST).max(2 * odd);
    let end = end.min(count);
    if rank == 0 || end < odd + 2 {
        return 0;
    }
    let mut logarithms: Vec<f64> = scores
        .iter()
        .map(|score| f64::from(score.max(1e-6)).ln())
        .collect();
    logarithms.sort_by(|a, b| b.total_cmp(a));
    // The number of a score, from 1, in its place.
    let at = |number: usize| logarithms[number - 1];
    let spacings = (odd + 1..end).map(|number| number as f64 * (at(number) - at(number + 1)));
    let scale = spacings.sum::<f64>() / (end - odd - 1) as f64;
    let too_far = |number: usize| {
        let inverse = (number..=odd).map(|number| 1.0 / number as f64);
        let mean: f64 = inverse.clone().sum();
        let deviation = inverse.map(|inverse| inverse * inverse).sum::<f64>().sqrt();
        at(number) - at(odd + 1) > scale * (mean + DEVIATIONS * deviation)
    };
    (rank..=odd)
        .take_while(|number| too_far(*number))
        .last()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::calibration::Calibration;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    fn exponential(random: &mut fastrand::Rng) -> f64 {
        -(1.0 - random.f64()).ln()
    }

    fn normal(random: &mut fastrand::Rng) -> f64 {
        (-2.0 * (1.0 - random.f64()).ln()).sqrt() * (std::f64::consts::TAU * random.f64()).cos()
    }

    /// Share of clean sets of so many images that are said to have a long tail, at the rate that a fit takes.
    fn false_alarms(count: usize, logarithm: fn(&mut fastrand::Rng) -> f64) -> f64 {
        let mut random = fastrand::Rng::with_seed(1);
        let draws = 4000;
        let rate = Calibration::default_rate_of(count);
        let alarms = (0..draws).filter(|_| {
            let scores = (0..count).map(|_| (0.2 * logarithm(&mut random)).exp() as f32);
            let calibration = Calibration::new(scores.collect()).unwrap();
            calibration.long_tail(rate).is_some()
        });
        alarms.count() as f64 / f64::from(draws)
    }

    /// One in twenty at most, which is also what the documentation says. The deviation of a share from 4000 draws is .0034 at most.
    #[test]
    fn clean_sets_are_seldom_said_to_have_a_long_tail() {
        for (count, expected) in [(20, 0.04), (50, 0.04), (150, 0.02), (400, 0.01)] {
            let alarms = false_alarms(count, exponential);
            assert!(
                alarms <= 0.05 && (alarms - expected).abs() < 0.015,
                "{alarms} of {count}"
            );
            let alarms = false_alarms(count, normal);
            assert!(alarms < 0.02, "{alarms} of {count} normal ones");
        }
    }

    proptest! {
        // What is true by chance is true of most seeds and not of each: always the same ones.
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        /// Up to a twentieth of the images at three times the highest score of the others and more: all of them, and no more than that.
        #[test]
        fn odd_images_are_counted(count in 50usize..400, share in 0.0f64..1.0, factor in 3.0f64..9.0, seed: u64) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut scores: Vec<f32> = (0..count).map(|_| (0.15 * normal(&mut random)).exp() as f32).collect();
            let highest = scores.iter().copied().fold(0.0, f32::max);
            // Fewer than the threshold's rank do not set it.
            let rank = count / 100;
            let odd = (rank + 1).max((share * 0.05 * count as f64) as usize);
            for score in &mut scores[..odd] {
                *score = highest * (factor * (1.0 + 0.3 * random.f64())) as f32;
            }
            let calibration = Calibration::new(scores).unwrap();
            let tail = calibration.long_tail(Calibration::default_rate_of(count)).expect("not seen");
            let most = (0.05 * count as f64).ceil() as usize;
            prop_assert!((odd..=most).contains(&tail.images), "{} of {}", tail.images, odd);
            prop_assert!(tail.without <= highest);
        }
    }

    #[test]
    fn few_or_equal_scores_have_no_tail() {
        assert_eq!(too_far(&[], 1), 0);
        assert_eq!(too_far(&[1.0, 9.0], 1), 0);
        assert_eq!(too_far(&[1.0; 40], 1), 0);
        assert_eq!(too_far(&[1.0; 40], 40), 0);
        let mut scores = [1.0; 40];
        scores[7] = 1.5;
        assert_eq!(too_far(&scores, 1), 1);
    }
}
