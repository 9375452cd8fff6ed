//! PatchCore-Lite: a memory bank of good patches, compressed.

mod two_stage;

use super::memory_bank::{Coreset, GATHERED_BYTES, Patches};
use super::{Head, HeadFitter, Preset};
use crate::detector::embedding::Embedding;
use crate::detector::error::{Error, Result};
use crate::detector::model_file::{HeadTensor, TensorReader};

pub struct Fitter {
    patches: Patches,
    coreset: Option<Coreset>,
}

impl Fitter {
    pub fn new(_preset: Preset, shape: &Embedding) -> Self {
        Self {
            patches: Patches::new(shape, GATHERED_BYTES),
            coreset: None,
        }
    }
}

impl HeadFitter for Fitter {
    fn add(&mut self, fold: usize, embedding: &Embedding) {
        self.patches.add(fold, embedding);
    }

    fn fit(&mut self, without: Option<usize>) -> Result<Vec<HeadTensor>> {
        let patches = &self.patches;
        let dimensions = patches.dimensions();
        let coreset = self.coreset.get_or_insert_with(|| {
            Coreset::select(patches, &patches.to_f32(), dimensions, two_stage::BANK)
        });
        let bank = coreset.without(without);
        if bank.is_empty() {
            return Err(Error::Fit("no patches to fit on".into()));
        }
        two_stage::fit(&bank, dimensions)
    }
}

pub fn load(
    _preset: Preset,
    shape: &Embedding,
    tensors: &TensorReader<'_>,
) -> Result<Box<dyn Head>, String> {
    Ok(Box::new(two_stage::TwoStage::load(shape, tensors)?))
}
