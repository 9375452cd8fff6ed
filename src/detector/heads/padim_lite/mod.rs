//! PaDiM-Lite: per-position Gaussian statistics small enough for the edge.

mod diagonal;
mod whitened;

pub use whitened::MAP_SIGMA as DEFAULT_MAP_SIGMA;

use super::gaussian::GaussianFitter;
use super::{Head, Preset};
use crate::detector::embedding::Embedding;
use crate::detector::error::Result;
use crate::detector::head_tensors::TensorReader;

/// A fitter for embeddings like `shape`.
///
/// # Errors
/// [`Error::Fit`](crate::detector::error::Error::Fit) where their covariances would not fit into memory.
pub fn fitter(preset: Preset, shape: &Embedding) -> Result<GaussianFitter> {
    let fit = match preset {
        Preset::Paper => diagonal::fit,
        Preset::Default => whitened::fit,
    };
    GaussianFitter::new(shape, fit)
}

pub fn load(
    preset: Preset,
    shape: &Embedding,
    tensors: &TensorReader<'_>,
) -> std::result::Result<Box<dyn Head>, String> {
    match preset {
        Preset::Paper => Ok(Box::new(diagonal::Diagonal::load(shape, tensors)?)),
        Preset::Default => Ok(Box::new(whitened::Whitened::load(shape, tensors)?)),
    }
}
