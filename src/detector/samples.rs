//! Embeddings of good images held while fitting, in bounded memory: what a memory bank is chosen from and the threshold is set on.

use super::embedding::{Embedding, EmbeddingShape};
use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// Bytes of embeddings that are held. Of more images than fit, a uniform random sample is kept (reservoir sampling, Vitter 1985).
pub const BYTES: usize = 1 << 30;

/// Embeddings as 16-bit floats, patch by patch, each image with the fold that it belongs to.
pub struct Samples {
    dimensions: usize,
    positions: usize,
    capacity: usize,
    /// images x positions x dimensions
    values: Vec<f16>,
    folds: Vec<usize>,
    /// The number of each image held, in the order in which all came.
    numbers: Vec<usize>,
    seen: usize,
    random: fastrand::Rng,
}

impl Samples {
    /// None yet, of embeddings of this shape; at most `bytes` of them, but one at least.
    pub fn new(shape: EmbeddingShape, bytes: usize) -> Self {
        let image = shape.size() * size_of::<f16>();
        Self {
            dimensions: shape.dimensions,
            positions: shape.positions(),
            capacity: (bytes / image.max(1)).max(1),
            values: Vec::new(),
            folds: Vec::new(),
            numbers: Vec::new(),
            seen: 0,
            random: fastrand::Rng::with_seed(0),
        }
    }

    /// Takes in one image (positions x dimensions), or leaves it out where the sample says so.
    pub fn add(&mut self, fold: usize, patches: &[f16]) {
        let number = self.seen;
        self.seen += 1;
        let image = self.positions * self.dimensions;
        if self.folds.len() < self.capacity {
            self.values.extend_from_slice(patches);
            self.folds.push(fold);
            self.numbers.push(number);
            return;
        }
        let slot = self.random.usize(..self.seen);
        if slot < self.capacity {
            self.folds[slot] = fold;
            self.numbers[slot] = number;
            self.values[slot * image..][..image].copy_from_slice(patches);
        }
    }

    /// Number of images held.
    pub fn images(&self) -> usize {
        self.folds.len()
    }

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The fold of each image held.
    pub fn folds(&self) -> &[usize] {
        &self.folds
    }

    /// The number of each image held, in the order in which all came.
    pub fn numbers(&self) -> &[usize] {
        &self.numbers
    }

    /// Puts the images into other folds, by their numbers. To be done before anything is fitted without a fold.
    pub fn put_into_folds(&mut self, fold_of: impl Fn(usize) -> usize) {
        for (fold, &number) in self.folds.iter_mut().zip(&self.numbers) {
            *fold = fold_of(number);
        }
    }

    /// The fold of the image that a patch comes from.
    pub fn fold_of_patch(&self, patch: usize) -> usize {
        self.folds[patch / self.positions]
    }

    /// All patches, (images x positions) x dimensions.
    pub fn patches(&self) -> &[f16] {
        &self.values
    }

    /// One patch.
    pub fn patch(&self, index: usize) -> &[f16] {
        &self.values[index * self.dimensions..][..self.dimensions]
    }

    /// The patches of a held image, positions x dimensions.
    pub fn image(&self, image: usize) -> &[f16] {
        let size = self.positions * self.dimensions;
        &self.values[image * size..][..size]
    }

    /// Brings the embedding of a held image back.
    pub fn restore(&self, image: usize, embedding: &mut Embedding) {
        restore(self.image(image), embedding);
    }
}

/// Makes an embedding of patches again (positions x dimensions).
pub fn restore(patches: &[f16], embedding: &mut Embedding) {
    let (dimensions, positions) = (embedding.dimensions(), embedding.positions());
    let mut values = vec![0.0; positions * dimensions];
    patches.convert_to_f32_slice(&mut values);
    for (dimension, row) in embedding
        .values_mut()
        .chunks_exact_mut(positions)
        .enumerate()
    {
        for (position, value) in row.iter_mut().enumerate() {
            *value = values[position * dimensions + dimension];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;

    /// Every image has the same chance to be among those held, and is given back as it came, with its fold.
    #[test]
    fn more_images_than_fit_leave_a_uniform_sample() {
        let shape = EmbeddingShape {
            dimensions: 2,
            grid: Size::new(1, 3),
        };
        let mut embedding = Embedding::new(shape);
        let (capacity, images) = (500, 5000);
        let mut samples = Samples::new(shape, capacity * 6 * size_of::<f16>());
        for image in 0..images {
            embedding.values_mut().fill(image as f32 / 8.0);
            embedding.values_mut()[4] = 1.0;
            samples.add(image % 5, &embedding.to_patches());
        }
        assert_eq!(samples.images(), capacity);
        assert_eq!(samples.patches().len(), capacity * 6);
        let mut late = 0;
        for sample in 0..capacity {
            samples.restore(sample, &mut embedding);
            let image = (embedding.values()[0] * 8.0) as usize;
            // 16-bit floats hold 11 bits: images up to 2048 exactly.
            if image < 2048 {
                assert_eq!(samples.folds()[sample], image % 5);
                assert_eq!(samples.numbers()[sample], image);
                assert_eq!(samples.fold_of_patch(sample * 3 + 2), image % 5);
            }
            assert_eq!(embedding.values()[4], 1.0);
            late += usize::from(image >= images / 2);
        }
        // Binomial with n = 500 and p = 1/2: five standard deviations are 56.
        assert!(late.abs_diff(capacity / 2) < 56, "{late} of the later half");
    }
}
