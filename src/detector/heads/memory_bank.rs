//! The patches of good images that a memory bank is chosen from, in bounded memory, each with the fold that its image belongs to.

use crate::detector::embedding::Embedding;
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

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// All patches held, (images x positions) x dimensions.
    pub fn to_f32(&self) -> Vec<f32> {
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
    pub fn fold(&self, patch: usize) -> usize {
        self.folds[patch / self.positions]
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
    /// Picks `count` of `vectors` (one per patch of `patches`, after whatever transformation) by greedy k-center.
    pub fn select(patches: &Patches, vectors: &[f32], dimensions: usize, count: usize) -> Self {
        let picked = greedy_k_center(vectors, dimensions, count);
        let selected = picked
            .iter()
            .flat_map(|&index| vectors[index * dimensions..][..dimensions].iter().copied())
            .collect();
        Self {
            dimensions,
            vectors: selected,
            folds: picked.iter().map(|&index| patches.fold(index)).collect(),
        }
    }

    /// The selected vectors, without those of one fold.
    pub fn without(&self, fold: Option<usize>) -> Vec<f32> {
        let rows = self.vectors.chunks_exact(self.dimensions).zip(&self.folds);
        rows.filter(|(_, of)| Some(**of) != fold)
            .flat_map(|(row, _)| row.iter().copied())
            .collect()
    }
}
