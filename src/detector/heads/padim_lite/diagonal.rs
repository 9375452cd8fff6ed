//! Preset `paper`: mean and variance of every dimension at every position; the score is the squared Mahalanobis distance with a
//! diagonal covariance (paper, eqs 2 to 5).

use crate::detector::embedding::{Embedding, EmbeddingShape};
use crate::detector::error::{FitError, TensorError};
use crate::detector::head_tensors::{HeadTensor, TensorReader};
use crate::detector::heads::gaussian::GaussianStatistics;
use crate::detector::heads::head::Head;
use crate::detector::progress::Cancel;

/// Added to every variance (the paper's code; PaDiM adds the same to its covariance's diagonal).
const REGULARIZATION: f64 = 0.01;

/// Tensors `mean` and `precision` = 1 / (variance + 0.01), both dimensions x positions.
///
/// # Errors
/// None; the signature is that of every Gaussian head.
pub fn fit(statistics: &GaussianStatistics, _: &Cancel) -> Result<Vec<HeadTensor>, FitError> {
    let (dimensions, positions) = (statistics.dimensions(), statistics.positions());
    let mut mean = vec![0.0; dimensions * positions];
    let mut precision = vec![0.0; dimensions * positions];
    for position in 0..positions {
        let scatter = statistics.scatter(position);
        let mut diagonal = 0;
        for dimension in 0..dimensions {
            let variance = f64::from(scatter[diagonal]) / (statistics.count() as f64 - 1.0);
            mean[dimension * positions + position] = statistics.mean(position)[dimension] as f32;
            precision[dimension * positions + position] =
                (1.0 / (variance + REGULARIZATION)) as f32;
            diagonal += dimensions - dimension;
        }
    }
    let size = [dimensions, positions];
    Ok(vec![
        HeadTensor::f16("mean", &size, &mean),
        HeadTensor::f16("precision", &size, &precision),
    ])
}

/// The fitted head.
pub struct Diagonal {
    mean: Vec<f32>,
    precision: Vec<f32>,
}

impl Diagonal {
    pub fn load(shape: EmbeddingShape, tensors: &TensorReader<'_>) -> Result<Self, TensorError> {
        let size = [shape.dimensions, shape.positions()];
        Ok(Self {
            mean: tensors.f16("mean", &size)?,
            precision: tensors.f16("precision", &size)?,
        })
    }
}

impl Head for Diagonal {
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]) {
        squared_distances(embedding.values(), &self.mean, &self.precision, scores);
    }
}

/// Per position: the sum over dimensions of precision * (value - mean)².
#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn squared_distances(values: &[f32], mean: &[f32], precision: &[f32], scores: &mut [f32]) {
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
