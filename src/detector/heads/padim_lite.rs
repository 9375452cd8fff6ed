//! PaDiM-Lite: per-position Gaussian statistics without a full covariance matrix.

use super::gaussian::GaussianStatistics;
use super::{Head, HeadFitter, Preset};
use crate::detector::embedding::Embedding;
use crate::detector::error::{Error, Result};
use crate::detector::model_file::{HeadTensor, TensorReader};

/// Added to every variance (the paper's code; PaDiM adds the same to its covariance's diagonal).
const REGULARIZATION: f64 = 0.01;
/// Gaussian smoothing of the map: 4 pixels at 224 (PaDiM), here at the map's 112.
const PAPER_MAP_SIGMA: f32 = 2.0;

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

    fn fit(&mut self, without: Option<usize>) -> Result<Box<dyn Head>> {
        self.folds.iter_mut().for_each(GaussianStatistics::flush);
        let mut parts = self
            .folds
            .iter()
            .enumerate()
            .filter(|(fold, _)| Some(*fold) != without)
            .map(|(_, part)| part);
        let mut statistics = parts
            .next()
            .cloned()
            .ok_or_else(|| Error::Fit("no images to fit on".into()))?;
        for part in parts {
            statistics.merge(part);
        }
        if statistics.count() < 2 {
            return Err(Error::Fit(format!(
                "{} good image is too few for a variance",
                statistics.count()
            )));
        }
        let head = match self.preset {
            Preset::Paper => Diagonal::fit(&statistics),
            Preset::Default => return Err(Error::Fit("not yet".into())),
        };
        Ok(Box::new(head))
    }
}

pub fn load(
    preset: Preset,
    shape: &Embedding,
    tensors: &TensorReader<'_>,
) -> Result<Box<dyn Head>, String> {
    match preset {
        Preset::Paper => Ok(Box::new(Diagonal::load(shape, tensors)?)),
        Preset::Default => Err("not yet".into()),
    }
}

/// Preset `paper`: mean and variance of every dimension at every position; the score is the squared Mahalanobis distance with a
/// diagonal covariance (paper, eqs 2 to 5).
#[derive(Debug, Clone)]
struct Diagonal {
    /// dimensions x positions
    mean: Vec<f32>,
    /// dimensions x positions: 1 / (variance + 0.01)
    precision: Vec<f32>,
    positions: usize,
}

impl Diagonal {
    fn fit(statistics: &GaussianStatistics) -> Self {
        let (dimensions, positions) = (statistics.dimensions(), statistics.positions());
        let mut mean = vec![0.0; dimensions * positions];
        let mut precision = vec![0.0; dimensions * positions];
        for position in 0..positions {
            let scatter = statistics.scatter(position);
            let mut diagonal = 0;
            for dimension in 0..dimensions {
                let variance = f64::from(scatter[diagonal]) / (statistics.count() as f64 - 1.0);
                mean[dimension * positions + position] =
                    statistics.mean(position)[dimension] as f32;
                precision[dimension * positions + position] =
                    (1.0 / (variance + REGULARIZATION)) as f32;
                diagonal += dimensions - dimension;
            }
        }
        Self {
            mean,
            precision,
            positions,
        }
    }

    fn load(shape: &Embedding, tensors: &TensorReader<'_>) -> Result<Self, String> {
        let positions = shape.positions();
        let size = [shape.dimensions(), positions];
        Ok(Self {
            mean: tensors.f16("mean", &size)?,
            precision: tensors.f16("precision", &size)?,
            positions,
        })
    }
}

impl Head for Diagonal {
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]) {
        mahalanobis_diagonal(embedding.values(), &self.mean, &self.precision, scores);
    }

    fn tensors(&self) -> Vec<HeadTensor> {
        let size = [self.mean.len() / self.positions, self.positions];
        vec![
            HeadTensor::f16("mean", &size, &self.mean),
            HeadTensor::f16("precision", &size, &self.precision),
        ]
    }

    fn map_sigma(&self) -> f32 {
        PAPER_MAP_SIGMA
    }
}

/// Per position: the sum over dimensions of precision * (value - mean)².
#[multiversion::multiversion(targets("x86_64+avx2+fma", "x86_64+avx512f"))]
fn mahalanobis_diagonal(values: &[f32], mean: &[f32], precision: &[f32], scores: &mut [f32]) {
    scores.fill(0.0);
    let positions = scores.len();
    let rows = values
        .chunks_exact(positions)
        .zip(mean.chunks_exact(positions))
        .zip(precision.chunks_exact(positions));
    for ((values, mean), precision) in rows {
        for (((score, value), mean), precision) in
            scores.iter_mut().zip(values).zip(mean).zip(precision)
        {
            let difference = value - mean;
            *score += precision * difference * difference;
        }
    }
}
