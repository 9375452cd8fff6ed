//! How well scores tell defective images from good ones.

use super::CurvePoint;
use super::ranking::Ranking;

/// Area under the ROC curve, 0..1; `None` if `labels` (true: defective) are all alike.
///
/// # Panics
/// If there are not as many labels as scores.
pub fn auroc(scores: &[f32], labels: &[bool]) -> Option<f64> {
    ranking(scores, labels)?.auroc()
}

/// The largest F1 score that a threshold reaches, and that threshold (the highest one if several do); `None` without a defective image.
///
/// # Panics
/// If there are not as many labels as scores.
pub fn f1_max(scores: &[f32], labels: &[bool]) -> Option<(f64, f32)> {
    ranking(scores, labels)?.f1_max()
}

/// The ROC curve from (0, 0) to (1, 1), one point for each distinct score; `None` if `labels` are all alike.
///
/// # Panics
/// If there are not as many labels as scores.
pub fn roc_curve(scores: &[f32], labels: &[bool]) -> Option<Vec<CurvePoint>> {
    ranking(scores, labels)?.roc_curve()
}

fn ranking(scores: &[f32], labels: &[bool]) -> Option<Ranking> {
    assert_eq!(scores.len(), labels.len(), "scores and labels");
    let labels = labels.iter().map(|defective| defective.then_some(0));
    Ranking::of(scores.iter().copied().zip(labels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn hand_counted() {
        // Of the 2 x 3 pairs the defective one wins 4, loses 1 and ties 1.
        let (scores, labels) = ([0.9, 0.4, 0.4, 0.5, 0.1], [true, true, false, false, false]);
        assert_eq!(auroc(&scores, &labels), Some(4.5 / 6.0));
        // At 0.9: P 1, R 1/2, F1 2/3. At 0.4: P 2/4, R 1, F1 2/3. The higher threshold is taken.
        assert_eq!(f1_max(&scores, &labels), Some((2.0 / 3.0, 0.9)));
        let roc: Vec<_> = roc_curve(&scores, &labels)
            .unwrap()
            .iter()
            .map(|p| (p.threshold, p.false_positive_rate, p.recall))
            .collect();
        let third = 1.0 / 3.0;
        assert_eq!(
            roc,
            [
                (f32::INFINITY, 0.0, 0.0),
                (0.9, 0.0, 0.5),
                (0.5, third, 0.5),
                (0.4, 2.0 * third, 1.0),
                (0.1, 1.0, 1.0)
            ]
        );
    }

    #[test]
    fn undefined_cases() {
        assert_eq!(auroc(&[], &[]), None);
        assert_eq!(auroc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(auroc(&[1.0, 2.0], &[false, false]), None);
        assert_eq!(auroc(&[1.0, f32::NAN], &[true, false]), None);
        assert_eq!(f1_max(&[1.0, 2.0], &[false, false]), None);
        assert_eq!(f1_max(&[1.0, 2.0], &[true, true]), Some((1.0, 1.0)));
    }

    /// Scores from few levels, so that ties are common.
    fn samples(len: usize) -> impl Strategy<Value = (Vec<f32>, Vec<bool>)> {
        let scores = proptest::collection::vec((0..12i32).prop_map(|s| s as f32 * 0.3 - 1.0), len);
        (scores, proptest::collection::vec(any::<bool>(), len))
    }

    proptest! {
        #[test]
        fn auroc_counts_pairs((scores, labels) in samples(40)) {
            let (mut won, mut pairs) = (0.0, 0.0);
            for i in (0..40).filter(|&i| labels[i]) {
                for j in (0..40).filter(|&j| !labels[j]) {
                    pairs += 1.0;
                    won += if scores[i] > scores[j] { 1.0 } else if scores[i] == scores[j] { 0.5 } else { 0.0 };
                }
            }
            prop_assert_eq!(auroc(&scores, &labels), (pairs > 0.0).then(|| won / pairs));
        }

        #[test]
        fn f1_is_the_best_of_all_thresholds((scores, labels) in samples(30)) {
            let f1_at = |threshold: f32| {
                let flagged = |i: &usize| scores[*i] >= threshold;
                let hits = (0..30).filter(flagged).filter(|&i| labels[i]).count() as f64;
                let alarms = (0..30).filter(flagged).count() as f64;
                let defective = labels.iter().filter(|&&label| label).count() as f64;
                2.0 * hits / (alarms + defective)
            };
            if let Some((f1, threshold)) = f1_max(&scores, &labels) {
                prop_assert!((f1_at(threshold) - f1).abs() < 1e-12);
                for &other in &scores {
                    prop_assert!(f1_at(other) <= f1 + 1e-12);
                }
            }
        }
    }
}
