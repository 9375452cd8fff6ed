//! Preset `default`: the length of the patch's whitened residual, sqrt(|z|² / d). A good patch scores about 1.

use crate::detector::embedding::{Embedding, EmbeddingShape};
use crate::detector::error::{FitError, TensorError};
use crate::detector::head_tensors::{HeadTensor, TensorReader};
use crate::detector::heads::gaussian::GaussianStatistics;
use crate::detector::heads::head::Head;
use crate::detector::heads::whitening::{self, Shape, Whitening};
use crate::detector::progress::Cancel;
use crate::detector::search::distance::LANES;

/// What fits into 131,072 bytes for 224 dimensions at 14 x 14 positions.
const SHAPE: Shape = Shape {
    lowest: 21,
    highest: 40,
};
/// Share of the identity in each position's covariance; between 20 and 400 good images the best share does not depend on their number.
const SHRINKAGE: f64 = 0.3;
/// Gaussian smoothing of the map, in pixels of half the input's side.
pub const MAP_SIGMA: f32 = 3.0;

pub fn fit(statistics: &GaussianStatistics, cancel: &Cancel) -> Result<Vec<HeadTensor>, FitError> {
    whitening::fit(statistics, SHAPE, SHRINKAGE, cancel)
}

/// The fitted head.
pub struct Whitened(Whitening);

impl Whitened {
    pub fn load(shape: EmbeddingShape, tensors: &TensorReader<'_>) -> Result<Self, TensorError> {
        Whitening::load(SHAPE, shape, tensors).map(Self)
    }
}

impl Head for Whitened {
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]) {
        let dimensions = self.0.reduced() as f32;
        for (block, scores) in scores.chunks_mut(LANES).enumerate() {
            let mut squared = [0.0f32; LANES];
            for row in self.0.block(embedding, block) {
                for (sum, value) in squared.iter_mut().zip(row) {
                    *sum += value * value;
                }
            }
            for (score, squared) in scores.iter_mut().zip(squared) {
                *score = (squared / dimensions).sqrt();
            }
        }
    }
}
