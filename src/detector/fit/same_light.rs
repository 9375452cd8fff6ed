//! Whether images are brought to one level of light before anything else: where good ones in other light would be rejected, and fewer are
//! if all are.

use crate::detector::image_score::ImageScore;
use crate::detector::model_file::Metadata;

/// Share of good images in other light that may be rejected, above the rate that is promised.
const REJECTS: f64 = 0.02;

/// Fits once, or a second time with images brought to one level of light, and gives what rejects fewer good images in other light. `fit` is
/// told whether to bring them there, `metadata` says what came of it. `asked` is what somebody wants, and is done.
///
/// # Errors
/// Those of `fit`.
pub fn fit_in_other_light<T, E>(
    asked: Option<bool>,
    mut fit: impl FnMut(bool) -> Result<T, E>,
    metadata: impl Fn(&T) -> &Metadata,
) -> Result<T, E> {
    let fitted = fit(asked.unwrap_or(false))?;
    // What is published takes images as they are.
    let as_published = metadata(&fitted).image_score() == ImageScore::MapMaximum;
    if asked.is_some() || as_published || !rejects_other_light(metadata(&fitted)) {
        return Ok(fitted);
    }
    let again = fit(true)?;
    match beyond(metadata(&again)) < beyond(metadata(&fitted)) {
        true => Ok(again),
        false => Ok(fitted),
    }
}

/// Whether a model rejects more good images in other light than it may.
pub fn rejects_other_light(metadata: &Metadata) -> bool {
    beyond(metadata) > REJECTS
}

/// Share of good images in other light that are rejected beyond the rate that is promised.
fn beyond(metadata: &Metadata) -> f64 {
    metadata.light_rejects.unwrap_or(0.0) - metadata.false_reject_rate
}
