//! Preset `paper`: product quantisation with m = 8 subspaces and 256 centroids (eqs 7, 8), a coarse search by the distances between
//! centroids (eqs 9, 10) for k = 1000 candidates, and the exact distance to their decoded vectors (eqs 11, 12). The image score is the
//! largest patch score.
//!
//! With k = 1000 the two stages find the nearest decoded vector itself (docs/accuracy.md), so inspection takes the quicker way to the same
//! distance, [`FastScan`]; `vadlite sweep` measures the paper's way to the letter, `search::two_stage`.

use crate::detector::embedding::{Embedding, EmbeddingShape};
use crate::detector::error::{FitError, TensorError};
use crate::detector::head_tensors::{HeadTensor, TensorReader};
use crate::detector::heads::head::Head;
use crate::detector::heads::memory_bank::BankFitter;
use crate::detector::progress::Cancel;
use crate::detector::samples::Samples;
use crate::detector::search::fast_scan::FastScan;
use crate::detector::search::product_quantizer::ProductQuantizer;
use crate::geometry::Size;

/// Vectors in the bank (K).
pub const BANK: usize = 10_000;
/// Subspaces (m).
pub const SUBSPACES: usize = 8;
/// Bits of a code in each subspace (b).
pub const BITS: u32 = 8;

/// Tensors: `codebooks` (m x 256 x length, 16-bit floats) and `codes` (K x m).
///
/// # Errors
/// The embedding cannot be cut into m subvectors, or an end was asked for.
fn compress(
    bank: &[f32],
    samples: &Samples,
    without: Option<usize>,
    cancel: &Cancel,
) -> Result<Vec<HeadTensor>, FitError> {
    let training = training(bank, samples, without);
    let dimensions = samples.dimensions();
    let (quantizer, codes) = quantize(&training, bank, dimensions, SUBSPACES, BITS, cancel)?;
    Ok(vec![
        HeadTensor::f16(
            "codebooks",
            &[SUBSPACES, quantizer.count(), dimensions / SUBSPACES],
            quantizer.centroids(),
        ),
        HeadTensor::u8("codes", &[codes.len() / SUBSPACES, SUBSPACES], &codes),
    ])
}

/// What the codebooks are fitted to: the bank, and as many patches evenly spread over the good images of all folds but one. A coreset
/// seeks out what is rare; codebooks fitted to it alone blur what good parts mostly look like, which the queries resemble.
pub fn training(bank: &[f32], samples: &Samples, without: Option<usize>) -> Vec<f32> {
    let dimensions = samples.dimensions();
    let step = samples.patches().len().div_ceil(bank.len().max(1));
    let rows = samples.patches().chunks_exact(dimensions).enumerate();
    let spread = rows
        .step_by(step.max(1))
        .filter(|&(index, _)| Some(samples.fold_of_patch(index)) != without)
        .flat_map(|(_, row)| row.iter().map(|value| value.to_f32()));
    bank.iter().copied().chain(spread).collect()
}

/// Fits a quantiser to `training` (rows x `dimensions`), and gives the vectors of a bank (rows x `dimensions`) their codes (rows x
/// `subspaces`).
///
/// # Errors
/// The vectors cannot be cut into so many subvectors, or an end was asked for.
pub fn quantize(
    training: &[f32],
    bank: &[f32],
    dimensions: usize,
    subspaces: usize,
    bits: u32,
    cancel: &Cancel,
) -> Result<(ProductQuantizer, Vec<u8>), FitError> {
    if !dimensions.is_multiple_of(subspaces) {
        return Err(FitError::Subspaces {
            dimensions,
            subspaces,
        });
    }
    let quantizer = ProductQuantizer::fit(training, dimensions, subspaces, bits, 0, cancel)?;
    let mut codes = vec![0; bank.len() / dimensions * subspaces];
    let rows = codes.chunks_exact_mut(subspaces);
    for (vector, codes) in bank.chunks_exact(dimensions).zip(rows) {
        quantizer.encode(vector, codes);
    }
    Ok((quantizer, codes))
}

/// Compresses a coreset of all patches.
pub fn fitter() -> BankFitter {
    BankFitter::new(BANK, compress)
}

/// The fitted head.
pub struct Paper {
    search: FastScan,
    grid: Size,
    query: Vec<f32>,
}

impl Paper {
    pub fn load(shape: EmbeddingShape, tensors: &TensorReader<'_>) -> Result<Self, TensorError> {
        let length = shape.dimensions / SUBSPACES;
        let codes = tensors.u8("codes", &[tensors.rows("codes")?, SUBSPACES])?;
        let centroids = tensors.f16("codebooks", &[SUBSPACES, 1 << BITS, length])?;
        let quantizer = ProductQuantizer::from_centroids(centroids, SUBSPACES, length);
        Ok(Self {
            search: FastScan::new(&quantizer, codes)
                .ok_or_else(|| TensorError::Empty("head.codes".into()))?,
            grid: shape.grid,
            query: vec![0.0; shape.dimensions],
        })
    }
}

impl Head for Paper {
    /// Four neighbours in turn: features of a tap of half the grid's resolution are the same for them.
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]) {
        let Size { height, width } = self.grid;
        for y in (0..height).step_by(2) {
            for x in (0..width).step_by(2) {
                for (y, x) in [(y, x), (y, x + 1), (y + 1, x), (y + 1, x + 1)] {
                    if y < height && x < width {
                        let position = y * width + x;
                        gather(embedding, position, &mut self.query);
                        scores[position] = self.search.nearest(&self.query).sqrt();
                    }
                }
            }
        }
    }
}

/// Copies the patch at a position.
pub fn gather(embedding: &Embedding, position: usize, patch: &mut [f32]) {
    let rows = embedding.values().chunks_exact(embedding.positions());
    for (value, row) in patch.iter_mut().zip(rows) {
        *value = row[position];
    }
}
