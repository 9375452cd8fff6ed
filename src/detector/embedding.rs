//! The patch embedding: the feature taps of one image side by side on one grid.

use crate::geometry::Size;
use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// Channels that are transposed together.
const TRANSPOSED: usize = 16;

/// Shape of an embedding: what heads are fitted and loaded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingShape {
    /// Number of channels of all taps together.
    pub dimensions: usize,
    /// Height and width of the patch grid.
    pub grid: Size,
}

impl EmbeddingShape {
    /// Number of patches.
    pub fn positions(self) -> usize {
        self.grid.area()
    }

    /// How many numbers an embedding holds.
    pub fn size(self) -> usize {
        self.dimensions * self.positions()
    }
}

/// Taps concatenated over channels: dimensions x height x width of the patch grid, row-major.
#[derive(Debug, Clone)]
pub struct Embedding {
    shape: EmbeddingShape,
    values: Vec<f32>,
}

impl Embedding {
    /// All zeros.
    pub fn new(shape: EmbeddingShape) -> Self {
        Self {
            shape,
            values: vec![0.0; shape.size()],
        }
    }

    pub fn shape(&self) -> EmbeddingShape {
        self.shape
    }

    pub fn dimensions(&self) -> usize {
        self.shape.dimensions
    }

    /// Number of patches.
    pub fn positions(&self) -> usize {
        self.shape.positions()
    }

    /// dimensions x positions, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The values patch by patch, positions x dimensions, as 16-bit floats.
    pub fn to_patches(&self) -> Vec<f16> {
        let (dimensions, positions) = (self.dimensions(), self.positions());
        let mut transposed = vec![0.0; self.values.len()];
        // Some channels at a time, so that what is written stays in the cache.
        for (first, channels) in self.values.chunks(TRANSPOSED * positions).enumerate() {
            for (position, patch) in transposed.chunks_exact_mut(dimensions).enumerate() {
                let values = channels.iter().skip(position).step_by(positions);
                for (value, &channel) in patch[first * TRANSPOSED..].iter_mut().zip(values) {
                    *value = channel;
                }
            }
        }
        let mut patches = vec![f16::ZERO; transposed.len()];
        patches.convert_from_f32_slice(&transposed);
        patches
    }
}
