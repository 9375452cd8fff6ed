//! PatchCore-Lite: a memory bank of good patches in little memory.

pub mod paper;
mod residual_bank;

pub use paper::fitter as paper_fitter;
pub use residual_bank::{Fitter as DefaultFitter, MAP_SIGMA as DEFAULT_MAP_SIGMA};

use super::{Head, Preset};
use crate::detector::embedding::Embedding;
use crate::detector::head_tensors::TensorReader;

pub fn load(
    preset: Preset,
    shape: &Embedding,
    tensors: &TensorReader<'_>,
) -> Result<Box<dyn Head>, String> {
    Ok(match preset {
        Preset::Paper => Box::new(paper::Paper::load(shape, tensors)?),
        Preset::Default => Box::new(residual_bank::ResidualBank::load(shape, tensors)?),
    })
}
