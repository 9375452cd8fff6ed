//! What the report's script works with.

use super::charts::{self, ScoreAxis};
use super::{Kind, Report};
use crate::detector::metrics::{AUPRO_LIMIT, f1_max};

/// What the script reads.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Data<'a> {
    axis: &'a ScoreAxis,
    kinds: &'a [Kind],
    /// Threshold, false positive rate and recall of each point.
    pro: Vec<(f32, f64, f64)>,
    pro_limit: f64,
    /// Whether there are good and defective images.
    has_roc: bool,
    plot: [f64; 4],
    thresholds: Thresholds,
}

/// Thresholds to choose from.
#[derive(serde::Serialize)]
struct Thresholds {
    own: f32,
    f1: Option<f64>,
    /// Finds every defective image.
    all: Option<f64>,
    /// Flags no good one.
    quiet: Option<f64>,
}

impl<'a> Data<'a> {
    /// `labels` tell which of the `scores` are defective images'.
    pub fn new(report: &'a Report, axis: &'a ScoreAxis, scores: &[f32], labels: &[bool]) -> Self {
        let pro = report.pro.as_deref().unwrap_or_default();
        let pro = pro
            .iter()
            .filter(|point| point.threshold.is_finite())
            .map(|point| (point.threshold, point.false_positive_rate, point.recall))
            .collect();
        let of = |wanted| {
            let labelled = scores.iter().zip(labels);
            labelled.filter_map(move |(&score, &label)| (label == wanted).then_some(score))
        };
        // The next scores on either side.
        let below = |score: f32| {
            let lower = scores.iter().copied().filter(|&other| other < score);
            let lower = lower.reduce(f32::max).unwrap_or(0.99 * score);
            between(lower, score)
        };
        let above = |score: f32| {
            let higher = scores.iter().copied().filter(|&other| other > score);
            let higher = higher.reduce(f32::min).unwrap_or(1.01 * score);
            between(score, higher)
        };
        Self {
            axis,
            kinds: &report.kinds,
            pro,
            pro_limit: AUPRO_LIMIT,
            has_roc: labels.contains(&false) && labels.contains(&true),
            plot: charts::PLOT,
            thresholds: Thresholds {
                own: report.metadata.threshold,
                f1: f1_max(scores, labels).map(|(_, score)| below(score)),
                all: of(true).reduce(f32::min).map(below),
                quiet: of(false).reduce(f32::max).map(above),
            },
        }
    }
}

/// A number with few digits in `lower..upper`: scores above it are `upper` and more.
fn between(lower: f32, upper: f32) -> f64 {
    let (lower, upper) = (f64::from(lower), f64::from(upper));
    let middle = lower + (upper - lower) / 2.0;
    (2..17)
        .filter_map(|digits| format!("{middle:.digits$e}").parse().ok())
        .find(|&number| lower <= number && number < upper)
        .unwrap_or(lower)
}
