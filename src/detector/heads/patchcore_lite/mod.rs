//! PatchCore-Lite: a memory bank of good patches in little memory.

mod residual_bank;
mod two_stage;

pub use residual_bank::Fitter as DefaultFitter;
pub use two_stage::fitter as paper_fitter;

use super::{Head, Preset};
use crate::detector::embedding::Embedding;
use crate::detector::model_file::TensorReader;

pub fn load(
    preset: Preset,
    shape: &Embedding,
    tensors: &TensorReader<'_>,
) -> Result<Box<dyn Head>, String> {
    Ok(match preset {
        Preset::Paper => Box::new(two_stage::TwoStage::load(shape, tensors)?),
        Preset::Default => Box::new(residual_bank::ResidualBank::load(shape, tensors)?),
    })
}
