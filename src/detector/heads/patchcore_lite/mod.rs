//! PatchCore-Lite: a memory bank of good patches in little memory.

pub mod paper;
mod residual_bank;

pub use paper::fitter as paper_fitter;
pub use residual_bank::{Fitter as DefaultFitter, MAP_SIGMA as DEFAULT_MAP_SIGMA};

use super::head::Head;
use crate::detector::embedding::EmbeddingShape;
use crate::detector::error::TensorError;
use crate::detector::head_tensors::TensorReader;
use crate::detector::method::Preset;

pub fn load(
    preset: Preset,
    shape: EmbeddingShape,
    tensors: &TensorReader<'_>,
) -> Result<Box<dyn Head>, TensorError> {
    Ok(match preset {
        Preset::Paper => Box::new(paper::Paper::load(shape, tensors)?),
        Preset::Default => Box::new(residual_bank::ResidualBank::load(shape, tensors)?),
    })
}
