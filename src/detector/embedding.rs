//! The patch embedding: the feature taps of one image side by side on one grid.

use super::backbone::{Tap, TapShape};

/// Taps concatenated over channels, `dimensions` x `height` x `width` (row-major), on the grid of the largest tap. Smaller taps are
/// upsampled by the nearest neighbour, as PatchCore's and PaDiM's reference code does.
#[derive(Debug, Clone)]
pub struct Embedding {
    dimensions: usize,
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Embedding {
    /// A zeroed embedding for taps of these shapes.
    pub fn new(shapes: &[TapShape]) -> Self {
        let dimensions = shapes.iter().map(|shape| shape[0]).sum();
        let height = shapes.iter().map(|shape| shape[1]).max().unwrap_or(0);
        let width = shapes.iter().map(|shape| shape[2]).max().unwrap_or(0);
        Self {
            dimensions,
            height,
            width,
            values: vec![0.0; dimensions * height * width],
        }
    }

    /// Takes over the taps of one image; their shapes are those given to [`Embedding::new`].
    pub fn fill(&mut self, taps: &[Tap<'_>]) {
        let (height, width) = (self.height, self.width);
        let mut rest = self.values.as_mut_slice();
        for tap in taps {
            let (here, after) = rest.split_at_mut(tap.channels * height * width);
            rest = after;
            if (tap.height, tap.width) == (height, width) {
                here.copy_from_slice(tap.values);
                continue;
            }
            for (row, out) in here.chunks_exact_mut(width).enumerate() {
                let (channel, y) = (row / height, row % height);
                let source = &tap.values
                    [(channel * tap.height + y * tap.height / height) * tap.width..][..tap.width];
                for (x, out) in out.iter_mut().enumerate() {
                    *out = source[x * tap.width / width];
                }
            }
        }
    }

    /// Number of channels of all taps together.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Height and width of the patch grid.
    pub fn grid(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Number of patches.
    pub fn positions(&self) -> usize {
        self.height * self.width
    }

    /// `dimensions` x `positions`, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_taps_repeat_their_nearest_patch() {
        let mut embedding = Embedding::new(&[[1, 4, 4], [2, 2, 2]]);
        let large: Vec<f32> = (0..16u8).map(f32::from).collect();
        let small = [10.0, 11.0, 12.0, 13.0, 20.0, 21.0, 22.0, 23.0];
        embedding.fill(&[
            Tap {
                channels: 1,
                height: 4,
                width: 4,
                values: &large,
            },
            Tap {
                channels: 2,
                height: 2,
                width: 2,
                values: &small,
            },
        ]);
        assert_eq!((embedding.dimensions(), embedding.positions()), (3, 16));
        assert_eq!(&embedding.values()[..16], &large[..]);
        let up = |a: f32| {
            [
                a,
                a,
                a + 1.0,
                a + 1.0,
                a,
                a,
                a + 1.0,
                a + 1.0,
                a + 2.0,
                a + 2.0,
                a + 3.0,
                a + 3.0,
                a + 2.0,
                a + 2.0,
                a + 3.0,
                a + 3.0,
            ]
        };
        assert_eq!(&embedding.values()[16..32], &up(10.0));
        assert_eq!(&embedding.values()[32..], &up(20.0));
    }
}
