//! PaDiM-Lite: per-position Gaussian statistics small enough for the edge.

mod diagonal;
mod whitened;

pub use whitened::MAP_SIGMA as DEFAULT_MAP_SIGMA;

use super::gaussian::GaussianFitter;
use super::head::Head;
use crate::detector::embedding::EmbeddingShape;
use crate::detector::error::{FitError, TensorError};
use crate::detector::head_tensors::TensorReader;
use crate::detector::method::Preset;

/// A fitter for embeddings of this shape.
///
/// # Errors
/// Their covariances would not fit into memory.
pub fn fitter(preset: Preset, shape: EmbeddingShape) -> Result<GaussianFitter, FitError> {
    let fit = match preset {
        Preset::Paper => diagonal::fit,
        Preset::Default => whitened::fit,
    };
    GaussianFitter::new(shape, fit)
}

pub fn load(
    preset: Preset,
    shape: EmbeddingShape,
    tensors: &TensorReader<'_>,
) -> Result<Box<dyn Head>, TensorError> {
    match preset {
        Preset::Paper => Ok(Box::new(diagonal::Diagonal::load(shape, tensors)?)),
        Preset::Default => Ok(Box::new(whitened::Whitened::load(shape, tensors)?)),
    }
}
