//! How good a detector is: image and pixel AUROC, AUPRO, the best F1.
//!
//! Everything is exact: each distinct score is a threshold, nothing is binned, and a pixel or image counts as flagged when its score is
//! *at least* the threshold. Scores may be infinite; where one of them is NaN no order exists and every function here answers `None`.
//!
//! Sources: AUROC as the Mann-Whitney statistic with ties at half weight (Fawcett 2006, "An introduction to ROC analysis"); the
//! per-region overlap of Bergmann et al. 2021, "The MVTec Anomaly Detection Dataset", as MVTec's evaluation code computes it.

mod image;
mod pixel;
mod ranking;
mod share;

pub use image::{auroc, f1_max, roc_curve};
pub use pixel::{AUPRO_LIMIT, aupro, pixel_auroc, pro_curve};
pub use share::Share;

/// One threshold of a ROC or PRO curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Scores of at least this much are flagged; infinite at the curve's first point, where nothing is.
    pub threshold: f32,
    /// Share of the good images or pixels that are flagged, 0..1.
    pub false_positive_rate: f64,
    /// ROC: share of the defective ones that are flagged. PRO: mean share of each defect region that is flagged. 0..1.
    pub recall: f64,
}
