//! Preset `paper`: product quantisation with m = 8 subspaces and 256 centroids (eqs 7, 8), a coarse search by the distances between
//! centroids (eqs 9, 10) for k = 1000 candidates, and the exact distance to their decoded vectors (eqs 11, 12). The image score is the
//! largest patch score.

use crate::detector::embedding::Embedding;
use crate::detector::error::{Error, Result};
use crate::detector::heads::Head;
use crate::detector::heads::memory_bank::BankFitter;
use crate::detector::model_file::{HeadTensor, TensorReader};
use crate::detector::search::distance::squared_distance;
use crate::detector::search::product_quantizer::{CENTROIDS, ProductQuantizer};

/// Vectors in the bank (K).
const BANK: usize = 10_000;
/// Subspaces (m).
const SUBSPACES: usize = 8;
/// Candidates that the coarse search leaves (k).
const CANDIDATES: usize = 1000;

/// Tensors: `codebooks` (m x 256 x length, 16-bit floats) and `codes` (K x m).
///
/// # Errors
/// [`Error::Fit`] where the embedding cannot be cut into m subvectors.
fn compress(bank: &[f32], dimensions: usize) -> Result<Vec<HeadTensor>> {
    if !dimensions.is_multiple_of(SUBSPACES) {
        return Err(Error::Fit(format!(
            "{dimensions} feature channels cannot be cut into {SUBSPACES} subspaces; choose other --taps"
        )));
    }
    let quantizer = ProductQuantizer::fit(bank, dimensions, SUBSPACES, 0);
    let rows = bank.len() / dimensions;
    let mut codes = vec![0; rows * SUBSPACES];
    for (vector, codes) in bank
        .chunks_exact(dimensions)
        .zip(codes.chunks_exact_mut(SUBSPACES))
    {
        quantizer.encode(vector, codes);
    }
    Ok(vec![
        HeadTensor::f16(
            "codebooks",
            &[SUBSPACES, CENTROIDS, dimensions / SUBSPACES],
            quantizer.centroids(),
        ),
        HeadTensor::u8("codes", &[rows, SUBSPACES], &codes),
    ])
}

/// Compresses a coreset of all patches.
pub fn fitter() -> BankFitter {
    BankFitter::new(BANK, compress)
}

/// The fitted head.
pub struct TwoStage {
    quantizer: ProductQuantizer,
    positions: usize,
    /// bank x m
    codes: Vec<[u8; SUBSPACES]>,
    /// m x 256 x 256: squared distances between centroids (eq. 9)
    between: Vec<f32>,
    /// m x 256: squared distances of the query's subvectors to all centroids
    tables: Vec<f32>,
    query: Vec<f32>,
    coarse: Vec<(f32, u32)>,
}

impl TwoStage {
    pub fn load(shape: &Embedding, tensors: &TensorReader<'_>) -> Result<Self, String> {
        let length = shape.dimensions() / SUBSPACES;
        let rows = tensors.rows("codes")?;
        let codes = tensors.u8("codes", &[rows, SUBSPACES])?;
        let centroids = tensors.f16("codebooks", &[SUBSPACES, CENTROIDS, length])?;
        let quantizer = ProductQuantizer::from_centroids(centroids, SUBSPACES, length);
        let mut between = Vec::with_capacity(SUBSPACES * CENTROIDS * CENTROIDS);
        for subspace in 0..SUBSPACES {
            let codebook = quantizer.codebook(subspace);
            for a in codebook.chunks_exact(length) {
                between.extend(
                    codebook
                        .chunks_exact(length)
                        .map(|b| squared_distance(a, b)),
                );
            }
        }
        Ok(Self {
            query: vec![0.0; quantizer.dimensions()],
            quantizer,
            positions: shape.positions(),
            codes: codes.as_chunks().0.to_vec(),
            between,
            tables: vec![0.0; SUBSPACES * CENTROIDS],
            coarse: Vec::with_capacity(rows),
        })
    }

    /// Squared distance of the query to the decoded vector that the two stages find, and that vector's number.
    fn search(&mut self) -> (f32, u32) {
        let length = self.query.len() / SUBSPACES;
        let mut rows: [&[f32]; SUBSPACES] = [&[]; SUBSPACES];
        for (subspace, part) in self.query.chunks_exact(length).enumerate() {
            let table = &mut self.tables[subspace * CENTROIDS..][..CENTROIDS];
            let mut nearest = (0, f32::INFINITY);
            for (index, (distance, centroid)) in table
                .iter_mut()
                .zip(self.quantizer.codebook(subspace).chunks_exact(length))
                .enumerate()
            {
                *distance = squared_distance(part, centroid);
                if *distance < nearest.1 {
                    nearest = (index, *distance);
                }
            }
            rows[subspace] =
                &self.between[(subspace * CENTROIDS + nearest.0) * CENTROIDS..][..CENTROIDS];
        }
        self.coarse.clear();
        self.coarse
            .extend(self.codes.iter().zip(0u32..).map(|(codes, index)| {
                let distance: f32 = codes
                    .iter()
                    .zip(rows)
                    .map(|(&code, row)| row[usize::from(code)])
                    .sum();
                (distance, index)
            }));
        if self.coarse.len() > CANDIDATES {
            self.coarse
                .select_nth_unstable_by(CANDIDATES - 1, |a, b| a.0.total_cmp(&b.0));
            self.coarse.truncate(CANDIDATES);
        }
        let exact = |index: u32| -> f32 {
            let codes = &self.codes[index as usize];
            codes
                .iter()
                .zip(self.tables.chunks_exact(CENTROIDS))
                .map(|(&code, table)| table[usize::from(code)])
                .sum()
        };
        let nearest = self
            .coarse
            .iter()
            .map(|&(_, index)| (exact(index), index))
            .min_by(|a, b| a.0.total_cmp(&b.0));
        nearest.unwrap_or((0.0, 0))
    }
}

impl Head for TwoStage {
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]) {
        for (position, score) in scores.iter_mut().enumerate() {
            for (value, row) in self
                .query
                .iter_mut()
                .zip(embedding.values().chunks_exact(self.positions))
            {
                *value = row[position];
            }
            *score = self.search().0.sqrt();
        }
    }
}
