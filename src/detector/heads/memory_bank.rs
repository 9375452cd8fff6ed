//! The patches of good images that a memory bank is chosen from, in bounded memory, each with the fold that its image belongs to.

use super::HeadFitter;
use crate::detector::embedding::Embedding;
use crate::detector::error::{Error, Result};
use crate::detector::model_file::HeadTensor;
use crate::detector::search::coreset::greedy_k_center;
use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// Bytes of patches that are held while fitting. Of more images than fit, a uniform random sample is kept (reservoir sampling).
pub const GATHERED_BYTES: usize = 1 << 30;

/// Patches of good images, as 16-bit floats.
pub struct Patches {
    dimensions: usize,
    positions: usize,
    capacity: usize,
    /// images x positions x dimensions
    values: Vec<f16>,
    /// Fold of each image held.
    folds: Vec<usize>,
    seen: usize,
    random: u64,
}

impl Patches {
    pub fn new(shape: &Embedding, bytes: usize) -> Self {
        let image = shape.values().len() * size_of::<f16>();
        let capacity = (bytes / image).max(1);
        Self {
            dimensions: shape.dimensions(),
            positions: shape.positions(),
            capacity,
            values: Vec::new(),
            folds: Vec::new(),
            seen: 0,
            random: 0,
        }
    }

    /// Takes in the patches of one image, or leaves them out where the sample says so.
    pub fn add(&mut self, fold: usize, embedding: &Embedding) {
        self.seen += 1;
        let slot = if self.folds.len() < self.capacity {
            self.values.resize(
                self.values.len() + self.positions * self.dimensions,
                f16::ZERO,
            );
            self.folds.push(fold);
            self.folds.len() - 1
        } else {
            let slot = (self.random() % self.seen as u64) as usize;
            if slot >= self.capacity {
                return;
            }
            self.folds[slot] = fold;
            slot
        };
        let image = self.positions * self.dimensions;
        let target = &mut self.values[slot * image..][..image];
        for (dimension, row) in embedding.values().chunks_exact(self.positions).enumerate() {
            for (position, &value) in row.iter().enumerate() {
                target[position * self.dimensions + dimension] = f16::from_f32(value);
            }
        }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    /// All patches held, (images x positions) x dimensions.
    fn to_f32(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.values.len()];
        self.values.convert_to_f32_slice(&mut values);
        values
    }

    /// Number of images held.
    pub fn images(&self) -> usize {
        self.folds.len()
    }

    /// Restores the embedding of a held image.
    pub fn restore(&self, image: usize, embedding: &mut Embedding) {
        let (dimensions, positions) = (self.dimensions, self.positions);
        let values = &self.values[image * positions * dimensions..][..positions * dimensions];
        for (dimension, row) in embedding
            .values_mut()
            .chunks_exact_mut(positions)
            .enumerate()
        {
            for (position, value) in row.iter_mut().enumerate() {
                *value = values[position * dimensions + dimension].to_f32();
            }
        }
    }

    /// The fold of a held image.
    pub fn fold_of_image(&self, image: usize) -> usize {
        self.folds[image]
    }

    /// The fold of the image that a patch comes from.
    fn fold(&self, patch: usize) -> usize {
        self.folds[patch / self.positions]
    }
}

/// Makes the tensors of a head from the vectors of its bank (rows x dimensions).
type Store = fn(&[f32], usize) -> Result<Vec<HeadTensor>>;

/// Fits a bank of patches as they are: gathers them, picks a coreset once, and stores it whole or without the patches of one fold.
pub struct BankFitter {
    patches: Patches,
    size: usize,
    store: Store,
    coreset: Option<Coreset>,
}

impl BankFitter {
    /// A bank of at most `size` vectors, stored by `store`.
    pub fn new(shape: &Embedding, size: usize, store: Store) -> Self {
        Self {
            patches: Patches::new(shape, GATHERED_BYTES),
            size,
            store,
            coreset: None,
        }
    }
}

impl HeadFitter for BankFitter {
    fn add(&mut self, fold: usize, embedding: &Embedding) {
        self.patches.add(fold, embedding);
    }

    fn fit(&mut self, without: Option<usize>) -> Result<Vec<HeadTensor>> {
        let coreset = self
            .coreset
            .get_or_insert_with(|| Coreset::select(&self.patches, self.size));
        let bank = coreset.without(without);
        if bank.is_empty() {
            return Err(Error::Fit("no patches to fit on".into()));
        }
        (self.store)(&bank, self.patches.dimensions)
    }
}

/// A coreset of patches, from which a head is made that has not seen a fold by leaving that fold's patches out.
struct Coreset {
    dimensions: usize,
    /// selected x dimensions, in the order picked
    vectors: Vec<f32>,
    folds: Vec<usize>,
}

impl Coreset {
    /// Picks `count` patches by greedy k-center.
    fn select(patches: &Patches, count: usize) -> Self {
        let (vectors, dimensions) = (patches.to_f32(), patches.dimensions);
        let picked = greedy_k_center(&vectors, dimensions, count);
        let selected = picked
            .iter()
            .flat_map(|&index| vectors[index * dimensions..][..dimensions].iter().copied());
        Self {
            dimensions,
            vectors: selected.collect(),
            folds: picked.iter().map(|&index| patches.fold(index)).collect(),
        }
    }

    /// The selected vectors, without those of one fold.
    fn without(&self, fold: Option<usize>) -> Vec<f32> {
        let rows = self.vectors.chunks_exact(self.dimensions).zip(&self.folds);
        rows.filter(|(_, of)| Some(**of) != fold)
            .flat_map(|(row, _)| row.iter().copied())
            .collect()
    }
}
