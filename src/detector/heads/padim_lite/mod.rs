//! PaDiM-Lite: per-position Gaussian statistics small enough for the edge.

mod diagonal;
mod whitened;

pub use whitened::MAP_SIGMA as DEFAULT_MAP_SIGMA;

use super::gaussian::GaussianStatistics;
use super::{Head, HeadFitter, Preset};
use crate::detector::embedding::Embedding;
use crate::detector::error::Result;
use crate::detector::model_file::{HeadTensor, TensorReader};

/// Gathers the statistics of each fold; both presets are fitted from them.
pub struct Fitter {
    preset: Preset,
    folds: Vec<GaussianStatistics>,
}

impl Fitter {
    pub fn new(preset: Preset, shape: &Embedding, folds: usize) -> Self {
        Self {
            preset,
            folds: vec![GaussianStatistics::new(shape.dimensions(), shape.positions()); folds],
        }
    }
}

impl HeadFitter for Fitter {
    fn add(&mut self, fold: usize, embedding: &Embedding) {
        self.folds[fold].add(embedding);
    }

    fn fit(&mut self, without: Option<usize>) -> Result<Vec<HeadTensor>> {
        let statistics = GaussianStatistics::without_fold(&mut self.folds, without)?;
        match self.preset {
            Preset::Paper => Ok(diagonal::fit(&statistics)),
            Preset::Default => whitened::fit(&statistics),
        }
    }
}

pub fn load(
    preset: Preset,
    shape: &Embedding,
    tensors: &TensorReader<'_>,
) -> Result<Box<dyn Head>, String> {
    match preset {
        Preset::Paper => Ok(Box::new(diagonal::Diagonal::load(shape, tensors)?)),
        Preset::Default => Ok(Box::new(whitened::Whitened::load(shape, tensors)?)),
    }
}
