//! Which good images are none: a hand in a video, a crate of rejects in the wrong folder.
//!
//! What is rare but good has to stay, or the threshold would be too low and its promise broken. So images are left out by themselves only
//! where there can be no doubt; what is merely unusual is named, and a person decides.

/// Images this many times above the score that a tenth of all exceed, and above the outer fence, are foreign.
const FAR: f32 = 3.0;
/// So large a share of images above what the tail of the others explains is foreign, where two thirds of all above are in excess. In
/// draws of 100 clean images of four products it was above 0.02 in less than one of 100.
const EXCESS: f64 = 0.03;
const EXPLAINED: f64 = 1.0 / 3.0;
/// Fewer images than this say nothing by their tail.
const FEWEST: usize = 60;
/// Images that are unusual by their rank: the largest share of defective ones that a set should be able to hold.
pub const SUSPECTS: f64 = 0.15;
/// Above the upper half of the others, in distances of their quartiles, a suspect is left out on demand.
const UNUSUAL: f32 = 3.0;

/// The held-out score above which images are foreign; `None` where none are.
///
/// A few: those above the outer fence (Tukey 1977) of the logarithms and above [`FAR`] times the score that a tenth exceeds. Many: where
/// the logarithms' tail holds at least [`EXCESS`] more of the images than an exponential one through their quartiles, those above the
/// score at which the excess is largest, of the scores above which it explains at most [`EXPLAINED`].
pub fn fence(scores: &[f32]) -> Option<f32> {
    let logarithms = sorted_logarithms(scores);
    let quantile = |share| quantile(&logarithms, share);
    let (lower, upper) = (quantile(0.25), quantile(0.75));
    let few = (upper + 3.0 * (upper - lower)).max(quantile(0.9) + FAR.ln());
    let few = logarithms
        .last()
        .is_some_and(|last| *last > few)
        .then_some(few);
    let fence = match (few, excess(&logarithms, lower, upper)) {
        (Some(few), Some(many)) => few.min(many),
        (few, many) => few.or(many)?,
    };
    Some(fence.exp())
}

fn excess(logarithms: &[f32], lower: f32, upper: f32) -> Option<f32> {
    let count = logarithms.len();
    let scale = f64::from(upper - lower) / 3.0f64.ln();
    if count < FEWEST || scale <= 0.0 {
        return None;
    }
    let (most, fence) = logarithms
        .iter()
        .enumerate()
        .filter(|(_, value)| **value >= upper)
        .map(|(rank, &value)| {
            let expected = 0.25 * count as f64 * (-f64::from(value - upper) / scale).exp();
            ((count - 1 - rank) as f64, expected, value)
        })
        .filter(|(above, expected, _)| *expected <= EXPLAINED * above)
        .map(|(above, expected, value)| (above - expected, value))
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    (most >= EXCESS * count as f64).then_some(fence)
}

/// The numbers of the [`SUSPECTS`] with the highest scores.
pub fn suspects(scores: &[f32]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate((SUSPECTS * scores.len() as f64) as usize);
    order
}

/// Above which score of a head that has learnt from no suspect one of them is to go, by the held-out scores of the others.
pub fn unusual_above(others: &[f32]) -> f32 {
    let logarithms = sorted_logarithms(others);
    let quantile = |share| quantile(&logarithms, share);
    (quantile(0.5) + UNUSUAL * (quantile(0.75) - quantile(0.25))).exp()
}

fn sorted_logarithms(scores: &[f32]) -> Vec<f32> {
    let mut logarithms: Vec<f32> = scores.iter().map(|score| score.max(1e-6).ln()).collect();
    logarithms.sort_by(f32::total_cmp);
    logarithms
}

fn quantile(sorted: &[f32], share: f64) -> f32 {
    let rank = (sorted.len().saturating_sub(1) as f64 * share) as usize;
    sorted.get(rank).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use proptest::test_runner::RngSeed;

    /// Log-normal scores, as good images have them.
    fn good(count: usize, random: &mut fastrand::Rng) -> Vec<f32> {
        let normal = |random: &mut fastrand::Rng| (0..12).map(|_| random.f32()).sum::<f32>() - 6.0;
        (0..count).map(|_| (0.15 * normal(random)).exp()).collect()
    }

    proptest! {
        // What is true by chance is true of most seeds and not of each: always the same ones.
        #![proptest_config(ProptestConfig { rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

        #[test]
        fn what_is_rare_but_good_stays(count in 10usize..400, seed: u64) {
            let scores = good(count, &mut fastrand::Rng::with_seed(seed));
            prop_assert_eq!(fence(&scores), None);
        }

        #[test]
        fn a_tenth_of_foreign_images_goes_and_no_good_one(count in 60usize..400, seed: u64, factor in 2.0f32..9.0) {
            let mut scores = good(count, &mut fastrand::Rng::with_seed(seed));
            let foreign = count / 10;
            scores.truncate(count - foreign);
            let highest = scores.iter().copied().fold(0.0, f32::max);
            scores.extend((0..foreign).map(|number| highest * factor * (1.0 + 0.01 * number as f32)));
            let fence = fence(&scores);
            let gone = fence.map_or(0, |fence| scores.iter().filter(|score| **score > fence).count());
            // The fence is one of the scores: that one stays at most.
            prop_assert!((foreign - 1..=foreign + 1).contains(&gone), "{} of {} at {:?}", gone, foreign, fence);
        }
    }

    #[test]
    fn a_single_hand_goes() {
        let mut scores = good(50, &mut fastrand::Rng::with_seed(1));
        scores[7] = 20.0;
        let fence = fence(&scores).unwrap();
        assert_eq!(scores.iter().filter(|score| **score > fence).count(), 1);
        assert_eq!(suspects(&scores)[0], 7);
        assert_eq!(suspects(&scores).len(), 7);
        let others: Vec<f32> = scores
            .iter()
            .copied()
            .filter(|score| *score < 20.0)
            .collect();
        assert!(unusual_above(&others) < 3.0);
    }

    #[test]
    fn images_that_do_not_differ_are_not_foreign() {
        assert_eq!(fence(&[1.0; 100]), None);
        assert_eq!(fence(&[0.0; 10]), None);
        assert_eq!(fence(&[]), None);
    }
}
