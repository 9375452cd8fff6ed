//! Preset `default`: a bank of whitened residuals that all positions share.
//!
//! A bank in one feature space for all positions knows what occurs somewhere, but not what varies at this place; a Gaussian per position
//! knows that, but has a single mode. So the position-wise whitening comes first, and the bank holds what good residuals look like
//! after it: few vectors suffice, and these are searched exactly.

use crate::detector::embedding::{Embedding, EmbeddingShape};
use crate::detector::error::{FitError, Result, TensorError};
use crate::detector::head_tensors::{HeadTensor, TensorReader};
use crate::detector::heads::gaussian::GaussianStatistics;
use crate::detector::heads::head::{Head, HeadFitter};
use crate::detector::heads::whitening::{self, Shape, Whitening};
use crate::detector::progress::Progress;
use crate::detector::samples::Samples;
use crate::detector::search::coreset::greedy_k_center;
use crate::detector::search::distance::{Bank, LANES};
use half::f16;

/// What fits, with the bank, into 262,144 bytes for 224 dimensions at 14 x 14 positions.
const SHAPE: Shape = Shape {
    lowest: 10,
    highest: 62,
};
/// Vectors in the bank.
const BANK: usize = 1200;
/// Patches that the bank is selected from: all of 400 images, evenly spread ones of more. Rare good patches are what the bank is for, so
/// that fewer candidates cost accuracy.
const CANDIDATES: usize = 80_000;
/// Standard deviation of the Gaussian that smooths the map, in its pixels.
pub const MAP_SIGMA: f32 = 1.0;

/// Share of the identity in each position's covariance: the more good images, the more their own covariance is trusted, since what it
/// does not describe the bank does.
fn shrinkage(images: usize) -> f64 {
    (60.0 / images as f64).min(0.3)
}

pub struct Fitter {
    statistics: GaussianStatistics,
    embedding: Embedding,
}

impl Fitter {
    /// # Errors
    /// As [`GaussianStatistics::new`].
    pub fn new(shape: EmbeddingShape) -> Result<Self, FitError> {
        Ok(Self {
            statistics: GaussianStatistics::new(shape)?,
            embedding: Embedding::new(shape),
        })
    }
}

impl HeadFitter for Fitter {
    fn add(&mut self, patches: &[f16]) {
        self.statistics.add(patches);
    }

    fn fit(
        &mut self,
        samples: &Samples,
        without: Option<usize>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<HeadTensor>> {
        let statistics = self.statistics.without(samples, without)?;
        let shrinkage = shrinkage(statistics.count());
        let mut tensors = whitening::fit(statistics, SHAPE, shrinkage, progress.cancel())?;
        let reader = TensorReader::new(&tensors);
        let mut whitening =
            Whitening::load(SHAPE, self.embedding.shape(), &reader).map_err(FitError::from)?;
        let images: Vec<usize> = (0..samples.images())
            .filter(|&image| Some(samples.folds()[image]) != without)
            .collect();
        let positions = self.embedding.positions();
        let (all, reduced) = (images.len() * positions, whitening.reduced());
        let mut wanted = (0..all.min(CANDIDATES))
            .map(|index| index * all / all.min(CANDIDATES))
            .peekable();
        let mut candidates = Vec::with_capacity(all.min(CANDIDATES) * reduced);
        for (number, &image) in images.iter().enumerate() {
            progress.cancel().check()?;
            samples.restore(image, &mut self.embedding);
            for block in 0..positions.div_ceil(LANES) {
                let first = number * positions + block * LANES;
                let end = first + LANES.min(positions - block * LANES);
                let z = whitening.block(&self.embedding, block);
                while let Some(index) = wanted.next_if(|&index| index < end) {
                    candidates.extend(z.iter().map(|row| row[index - first]));
                }
            }
        }
        let bank: Vec<f32> = greedy_k_center(&candidates, reduced, BANK, |done| {
            progress.at("selecting patches", done, BANK)
        })?
        .iter()
        .flat_map(|&index| candidates[index * reduced..][..reduced].iter().copied())
        .collect();
        let largest = bank
            .iter()
            .fold(0.0f32, |largest, value| largest.max(value.abs()));
        let scale = (largest / 127.0).max(f32::MIN_POSITIVE);
        let codes: Vec<i8> = bank
            .iter()
            .map(|value| (value / scale).round() as i8)
            .collect();
        tensors.push(HeadTensor::i8(
            "bank",
            &[codes.len() / reduced, reduced],
            &codes,
        ));
        tensors.push(HeadTensor::f32("bank_scale", &[1], &[scale]));
        Ok(tensors)
    }
}

/// The fitted head.
pub struct ResidualBank {
    whitening: Whitening,
    bank: Bank,
}

impl ResidualBank {
    pub fn load(shape: EmbeddingShape, tensors: &TensorReader<'_>) -> Result<Self, TensorError> {
        let whitening = Whitening::load(SHAPE, shape, tensors)?;
        let size = [tensors.rows("bank")?, whitening.reduced()];
        let scale = tensors.f32("bank_scale", &[1])?[0];
        let vectors = tensors
            .i8("bank", &size)?
            .iter()
            .map(|&code| f32::from(code) * scale)
            .collect();
        Ok(Self {
            bank: Bank::new(vectors, whitening.reduced()),
            whitening,
        })
    }
}

impl Head for ResidualBank {
    /// The square root of the distance to the nearest bank vector: a plain distance would let a few strong patches outshine the map.
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]) {
        for (block, scores) in scores.chunks_mut(LANES).enumerate() {
            let (squared, _) = self.bank.nearest(self.whitening.block(embedding, block));
            for (score, squared) in scores.iter_mut().zip(squared) {
                *score = squared.sqrt().sqrt();
            }
        }
    }
}
