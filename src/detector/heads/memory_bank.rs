//! Fits heads that keep a coreset of good patches as they are.

use super::head::HeadFitter;
use crate::detector::error::{FitError, Result};
use crate::detector::head_tensors::HeadTensor;
use crate::detector::progress::{Cancel, Progress};
use crate::detector::samples::Samples;
use crate::detector::search::coreset::greedy_k_center;
use half::f16;

/// Makes the tensors of a head from the vectors of its bank (rows x dimensions), and what else there is outside of one fold.
type Store = fn(&[f32], &Samples, Option<usize>, &Cancel) -> Result<Vec<HeadTensor>, FitError>;

/// Picks a coreset once, and stores it whole or without the patches of one fold.
pub struct BankFitter {
    size: usize,
    store: Store,
    coreset: Option<Coreset>,
}

impl BankFitter {
    /// A bank of at most `size` vectors, stored by `store`.
    pub fn new(size: usize, store: Store) -> Self {
        Self {
            size,
            store,
            coreset: None,
        }
    }
}

impl HeadFitter for BankFitter {
    fn add(&mut self, _: &[f16]) {}

    fn fit(
        &mut self,
        samples: &Samples,
        without: Option<usize>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<HeadTensor>> {
        let coreset = match self.coreset.take() {
            Some(coreset) => coreset,
            None => Coreset::select(samples, self.size, progress)?,
        };
        let bank = self.coreset.insert(coreset).without(without);
        if bank.is_empty() {
            return Err(FitError::NoPatches.into());
        }
        Ok((self.store)(&bank, samples, without, progress.cancel())?)
    }
}

/// A coreset of patches, from which a head is made that has not seen a fold by leaving that fold's patches out.
pub struct Coreset {
    dimensions: usize,
    /// selected x dimensions, in the order picked
    vectors: Vec<f32>,
    folds: Vec<usize>,
}

impl Coreset {
    /// Picks `count` patches by greedy k-center. The first n of them are what it picks for n.
    ///
    /// # Errors
    /// An end that was asked for.
    pub fn select(
        samples: &Samples,
        count: usize,
        progress: &mut Progress<'_>,
    ) -> Result<Self, FitError> {
        let dimensions = samples.dimensions();
        let picked = greedy_k_center(samples.patches(), dimensions, count, |done| {
            progress.at("selecting patches", done, count)
        })?;
        let selected = picked
            .iter()
            .flat_map(|&index| samples.patch(index).iter().map(|value| value.to_f32()));
        Ok(Self {
            dimensions,
            vectors: selected.collect(),
            folds: picked
                .iter()
                .map(|&index| samples.fold_of_patch(index))
                .collect(),
        })
    }

    /// The selected vectors (rows x dimensions, in the order picked), without those of one fold.
    pub fn without(&self, fold: Option<usize>) -> Vec<f32> {
        self.first_without(usize::MAX, fold)
    }

    /// The first `count` of these.
    pub fn first_without(&self, count: usize, fold: Option<usize>) -> Vec<f32> {
        let rows = self.vectors.chunks_exact(self.dimensions).zip(&self.folds);
        rows.filter(|(_, of)| Some(**of) != fold)
            .take(count)
            .flat_map(|(row, _)| row.iter().copied())
            .collect()
    }
}
