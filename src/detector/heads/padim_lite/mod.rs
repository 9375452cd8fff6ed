//! PaDiM-Lite: per-position Gaussian statistics small enough for the edge.

mod diagonal;
mod factored;

use super::gaussian::GaussianStatistics;
use super::{Head, HeadFitter, Preset};
use crate::detector::embedding::Embedding;
use crate::detector::error::{Error, Result};
use crate::detector::model_file::{HeadTensor, TensorReader};

/// Gathers the statistics of each fold; both presets are fitted from them.
pub struct Fitter {
    preset: Preset,
    folds: Vec<GaussianStatistics>,
}

impl Fitter {
    pub fn new(preset: Preset, shape: &Embedding, folds: usize) -> Self {
        Self { preset, folds: vec![GaussianStatistics::new(shape.dimensions(), shape.positions()); folds] }
    }
}

impl HeadFitter for Fitter {
    fn add(&mut self, fold: usize, embedding: &Embedding) {
        self.folds[fold].add(embedding);
    }

    fn fit(&mut self, without: Option<usize>) -> Result<Vec<HeadTensor>> {
        self.folds.iter_mut().for_each(GaussianStatistics::flush);
        let mut parts = self.folds.iter().enumerate().filter(|(fold, _)| Some(*fold) != without).map(|(_, part)| part);
        let mut statistics = parts.next().cloned().ok_or_else(|| Error::Fit("no images to fit on".into()))?;
        for part in parts {
            statistics.merge(part);
        }
        if statistics.count() < 2 {
            return Err(Error::Fit(format!("{} good image is too few for a variance", statistics.count())));
        }
        match self.preset {
            Preset::Paper => Ok(diagonal::fit(&statistics)),
            Preset::Default => factored::fit(&statistics),
        }
    }
}

pub fn load(preset: Preset, shape: &Embedding, tensors: &TensorReader<'_>) -> Result<Box<dyn Head>, String> {
    match preset {
        Preset::Paper => Ok(Box::new(diagonal::Diagonal::load(shape, tensors)?)),
        Preset::Default => Ok(Box::new(factored::Factored::load(shape, tensors)?)),
    }
}

/// Smoothing of the anomaly map in its pixels (the map has half the input's side).
pub fn map_sigma(preset: Preset) -> f32 {
    match preset {
        // 4 pixels at 224 (PaDiM's reference code).
        Preset::Paper => 2.0,
        Preset::Default => factored::MAP_SIGMA,
    }
}
