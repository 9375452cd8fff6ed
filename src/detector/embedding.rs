//! The patch embedding: the feature taps of one image side by side on one grid.

use super::backbone::{Tap, TapShape};
use super::tiles::Tiles;
use half::f16;
use half::slice::HalfFloatSliceExt as _;

/// What is done to each tap before it is put on the grid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pooling {
    None,
    /// Mean over 3 x 3 patches, zeros beyond the edge (PatchCore's locally aware features, as `AvgPool2d(3, 1, 1)`).
    Average3x3,
    /// 0.7 of the patch and 0.3 of the mean over the up to 3 x 3 patches around it: neighbours damp the noise of a single patch.
    Blend3x3,
}

/// Share of the neighbourhood in [`Pooling::Blend3x3`].
const BLEND: f32 = 0.3;

/// Channels that are transposed together.
const TRANSPOSED: usize = 16;

/// Taps concatenated over channels, `dimensions` x `height` x `width` (row-major), on the grid of the largest tap. Smaller taps are
/// upsampled by the nearest neighbour, as PatchCore's and PaDiM's reference code does.
#[derive(Debug, Clone)]
pub struct Embedding {
    dimensions: usize,
    height: usize,
    width: usize,
    tiles: Tiles,
    values: Vec<f32>,
    pooling: Pooling,
    /// Which channels of the taps are taken.
    taken: Vec<bool>,
    /// One pooled channel, and a row of column sums.
    pooled: Vec<f32>,
    row: Vec<f32>,
}

impl Embedding {
    /// A zeroed embedding for taps of these shapes.
    pub fn new(shapes: &[TapShape], pooling: Pooling) -> Self {
        let dimensions: usize = shapes.iter().map(|shape| shape[0]).sum();
        let height = shapes.iter().map(|shape| shape[1]).max().unwrap_or(0);
        let width = shapes.iter().map(|shape| shape[2]).max().unwrap_or(0);
        let positions = height * width;
        Self {
            dimensions,
            height,
            width,
            tiles: Tiles::ONE,
            values: vec![0.0; dimensions * positions],
            pooling,
            taken: vec![true; dimensions],
            pooled: vec![0.0; positions],
            row: vec![0.0; width + 2],
        }
    }

    /// The same with only some of the channels, given by their numbers among those of all taps, in ascending order.
    ///
    /// # Errors
    /// Numbers that do not ascend, or that the taps do not have.
    pub fn with_channels(mut self, channels: &[usize]) -> Result<Self, String> {
        let all = self.taken.len();
        let ascend = channels.windows(2).all(|pair| pair[0] < pair[1]);
        if channels.is_empty() || !ascend || channels.last().is_some_and(|&last| last >= all) {
            return Err(format!(
                "channels are not ascending numbers below the {all} that the taps have"
            ));
        }
        self.taken.fill(false);
        for &channel in channels {
            self.taken[channel] = true;
        }
        self.dimensions = channels.len();
        self.values
            .truncate(self.dimensions * self.height * self.width);
        Ok(self)
    }

    /// The same for an image of several tiles, whose grids lie side by side.
    pub fn with_tiles(mut self, tiles: Tiles) -> Self {
        self.tiles = tiles;
        let [height, width] = tiles.whole([self.height, self.width]);
        (self.height, self.width) = (height, width);
        self.values = vec![0.0; self.dimensions * height * width];
        self
    }

    /// Takes over the taps of an image that is one tile; their shapes are those given to [`Embedding::new`].
    pub fn fill(&mut self, taps: &[Tap<'_>]) {
        self.fill_tile(taps, 0);
    }

    /// Takes over the taps of the tile with this number.
    pub fn fill_tile(&mut self, taps: &[Tap<'_>], tile: usize) {
        let stride = self.width;
        let (row, column) = (tile / self.tiles.columns(), tile % self.tiles.columns());
        let (height, width) = (
            self.height / self.tiles.rows(),
            stride / self.tiles.columns(),
        );
        let first = row * height * stride + column * width;
        let mut channels = self.values.chunks_exact_mut(self.height * stride);
        let mut taken = self.taken.iter();
        for tap in taps {
            let size = tap.height * tap.width;
            let sources = tap.values.chunks_exact(size).zip(taken.by_ref());
            for (source, out) in sources
                .filter(|(_, taken)| **taken)
                .map(|(source, _)| source)
                .zip(channels.by_ref())
            {
                let pooled = &mut self.pooled[..size.min(height * width)];
                let source = match self.pooling {
                    Pooling::None => source,
                    Pooling::Average3x3 => {
                        sum_3x3(source, tap.width, &mut self.row, pooled);
                        pooled.iter_mut().for_each(|value| *value /= 9.0);
                        &*pooled
                    }
                    Pooling::Blend3x3 => {
                        sum_3x3(source, tap.width, &mut self.row, pooled);
                        blend(source, tap.width, pooled);
                        &*pooled
                    }
                };
                let out = &mut out[first..];
                if (tap.height, tap.width) == (height, stride) {
                    out[..source.len()].copy_from_slice(source);
                    continue;
                }
                for (y, out) in out.chunks_mut(stride).take(height).enumerate() {
                    let row = &source[y * tap.height / height * tap.width..][..tap.width];
                    for (x, out) in out[..width].iter_mut().enumerate() {
                        *out = row[x * tap.width / width];
                    }
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

    /// The values patch by patch, `positions` x `dimensions`, as 16-bit floats.
    pub fn to_patches(&self) -> Vec<f16> {
        let positions = self.positions();
        let mut transposed = vec![0.0; self.values.len()];
        // Some channels at a time, so that what is written stays in the cache.
        for (first, channels) in self.values.chunks(TRANSPOSED * positions).enumerate() {
            for (position, patch) in transposed.chunks_exact_mut(self.dimensions).enumerate() {
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

    pub(super) fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }
}

/// Sums over 3 x 3, zeros beyond the edge: first down the columns, then along the rows. `row` has two entries more than a row.
#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn sum_3x3(source: &[f32], width: usize, row: &mut [f32], out: &mut [f32]) {
    let height = source.len() / width;
    let column = &mut row[..width + 2];
    column[0] = 0.0;
    column[width + 1] = 0.0;
    for (y, out) in out.chunks_exact_mut(width).enumerate() {
        column[1..=width].copy_from_slice(&source[y * width..][..width]);
        for near in [y.wrapping_sub(1), y + 1] {
            if near < height {
                for (sum, value) in column[1..=width]
                    .iter_mut()
                    .zip(&source[near * width..][..width])
                {
                    *sum += value;
                }
            }
        }
        for (x, out) in out.iter_mut().enumerate() {
            *out = column[x] + column[x + 1] + column[x + 2];
        }
    }
}

/// Turns sums over 3 x 3 into [`Pooling::Blend3x3`].
fn blend(source: &[f32], width: usize, sums: &mut [f32]) {
    let height = source.len() / width;
    let inside =
        |at: usize, size: usize| (1 + usize::from(at > 0) + usize::from(at + 1 < size)) as f32;
    for (y, (out, source)) in sums
        .chunks_exact_mut(width)
        .zip(source.chunks_exact(width))
        .enumerate()
    {
        let rows = inside(y, height);
        for (x, (out, value)) in out.iter_mut().zip(source).enumerate() {
            *out = (1.0 - BLEND) * value + BLEND / (rows * inside(x, width)) * *out;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smaller_taps_repeat_their_nearest_patch() {
        let mut embedding = Embedding::new(&[[1, 4, 4], [2, 2, 2]], Pooling::None);
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

    #[test]
    fn only_the_channels_asked_for_are_taken() {
        let values: Vec<f32> = (0..6u8).map(f32::from).collect();
        let taps = [&values[..4], &values[4..]].map(|values| Tap {
            channels: values.len() / 2,
            height: 1,
            width: 2,
            values,
        });
        let all = || Embedding::new(&[[2, 1, 2], [1, 1, 2]], Pooling::None);
        let mut embedding = all().with_channels(&[1, 2]).unwrap();
        embedding.fill(&taps);
        assert_eq!(embedding.dimensions(), 2);
        assert_eq!(embedding.values(), [2.0, 3.0, 4.0, 5.0]);
        for wrong in [&[][..], &[1, 1], &[2, 1], &[3]] {
            assert!(all().with_channels(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn pooling_averages_nine_with_zeros_outside() {
        let mut embedding = Embedding::new(&[[1, 3, 3]], Pooling::Average3x3);
        let values: Vec<f32> = (1..10u8).map(f32::from).collect();
        embedding.fill(&[Tap {
            channels: 1,
            height: 3,
            width: 3,
            values: &values,
        }]);
        let expected =
            [12.0, 21.0, 16.0, 27.0, 45.0, 33.0, 24.0, 39.0, 28.0].map(|sum: f32| sum / 9.0);
        assert!(
            embedding
                .values()
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6),
            "{:?}",
            embedding.values()
        );
    }

    #[test]
    fn blending_keeps_constants_up_to_the_edge() {
        let mut embedding = Embedding::new(&[[1, 2, 3]], Pooling::Blend3x3);
        embedding.fill(&[Tap {
            channels: 1,
            height: 2,
            width: 3,
            values: &[4.0; 6],
        }]);
        assert!(
            embedding
                .values()
                .iter()
                .all(|value| (value - 4.0).abs() < 1e-6),
            "{:?}",
            embedding.values()
        );
        embedding.fill(&[Tap {
            channels: 1,
            height: 2,
            width: 3,
            values: &[6.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        }]);
        let expected = [0.7 * 6.0 + 0.3 * 6.0 / 4.0, 0.3, 0.0, 0.45, 0.3, 0.0];
        assert!(
            embedding
                .values()
                .iter()
                .zip(expected)
                .all(|(a, b)| (a - b).abs() < 1e-6),
            "{:?}",
            embedding.values()
        );
    }
}
