//! PatchCore (Roth et al. 2022): the distance of each patch to the nearest of a memory bank of good patches.

use super::head::Head;
use super::memory_bank::BankFitter;
use crate::detector::embedding::{Embedding, EmbeddingShape};
use crate::detector::error::TensorError;
use crate::detector::head_tensors::{HeadTensor, TensorReader};
use crate::detector::search::distance::{Bank, LANES, Lanes, gather_panel, squared_distance};

/// Vectors in the bank (the paper's K).
const BANK: usize = 10_000;
/// Neighbours that re-weight the image score (PatchCore, eq. 7: b).
const NEIGHBOURS: usize = 9;

/// Keeps a coreset of all patches, in the tensor `bank` (K x dimensions, 16-bit floats).
pub fn fitter() -> BankFitter {
    BankFitter::new(BANK, |bank, samples, _, _| {
        let dimensions = samples.dimensions();
        let size = [bank.len() / dimensions, dimensions];
        Ok(vec![HeadTensor::f16("bank", &size, bank)])
    })
}

/// The fitted head.
pub struct PatchCore {
    bank: Bank,
    positions: usize,
    panel: Vec<Lanes>,
    /// Of the patch that is farthest from the bank: itself and its nearest vector.
    farthest: Vec<f32>,
    nearest: usize,
    distance: f32,
    support: Vec<(f32, usize)>,
}

impl PatchCore {
    pub fn load(shape: EmbeddingShape, tensors: &TensorReader<'_>) -> Result<Self, TensorError> {
        let dimensions = shape.dimensions;
        let rows = tensors.rows("bank")?;
        let bank = Bank::new(tensors.f16("bank", &[rows, dimensions])?, dimensions);
        Ok(Self {
            support: Vec::with_capacity(bank.count()),
            bank,
            positions: shape.positions(),
            panel: vec![[0.0; LANES]; dimensions],
            farthest: vec![0.0; dimensions],
            nearest: 0,
            distance: 0.0,
        })
    }
}

impl Head for PatchCore {
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]) {
        self.distance = -1.0;
        for (block, scores) in scores.chunks_mut(LANES).enumerate() {
            gather_panel(
                embedding.values(),
                self.positions,
                block * LANES,
                &mut self.panel,
            );
            let (squared, index) = self.bank.nearest(&self.panel);
            for (lane, score) in scores.iter_mut().enumerate() {
                *score = squared[lane].sqrt();
                if *score > self.distance {
                    (self.distance, self.nearest) = (*score, index[lane] as usize);
                    for (value, row) in self.farthest.iter_mut().zip(&self.panel) {
                        *value = row[lane];
                    }
                }
            }
        }
    }

    /// PatchCore, eq. 7: the less usual the nearest bank vector itself is, the less is taken off.
    fn image_weight(&mut self) -> f32 {
        let near = self.bank.vector(self.nearest);
        self.support.clear();
        self.support.extend(
            (0..self.bank.count())
                .map(|index| (squared_distance(near, self.bank.vector(index)), index)),
        );
        let count = NEIGHBOURS.min(self.support.len());
        self.support
            .select_nth_unstable_by(count - 1, |a, b| a.0.total_cmp(&b.0));
        // exp of a distance overflows: all are taken relative to the nearest one's.
        let sum: f32 = self.support[..count]
            .iter()
            .map(|&(_, index)| {
                (squared_distance(&self.farthest, self.bank.vector(index)).sqrt() - self.distance)
                    .exp()
            })
            .sum();
        1.0 - 1.0 / sum.max(1.0)
    }
}
