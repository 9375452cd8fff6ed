//! From an image tensor to its patch embedding, tile by tile: the way that fitting and inspecting share.

use super::backbone::Backbone;
use super::embedding::{Embedding, EmbeddingShape};
use super::error::{ChannelError, InferenceError};
use super::taps::{Tap, TapShape};
use crate::geometry::{Grid, Size};
use ndarray::{Array3, ArrayView3, s};
use std::time::{Duration, Instant};

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

/// Which channels of the taps are taken, what is done to them, and how they come to lie on one grid: that of the largest tap. Smaller
/// taps are upsampled by the nearest neighbour, as PatchCore's and PaDiM's reference code does. Large images are cut into tiles: each
/// goes through the backbone by itself, and their grids lie side by side, so that a head keeps statistics per position of the whole
/// image, and there is one map and one score.
#[derive(Debug, Clone)]
pub struct Features {
    tiles: Grid,
    pooling: Pooling,
    /// Whether a channel of the taps is taken.
    taken: Vec<bool>,
    /// The patch grid of one tile.
    grid: Size,
    /// One tile's pixels; empty where the image is one tile.
    pixels: Array3<f32>,
    /// One pooled channel, and a row of column sums.
    pooled: Vec<f32>,
    row: Vec<f32>,
}

impl Features {
    /// For the taps of a backbone (of one tile), with all of their channels or only some, given by their numbers in ascending order.
    ///
    /// # Errors
    /// Numbers that do not ascend, or that the taps do not have.
    pub fn new(
        shapes: &[TapShape],
        pooling: Pooling,
        channels: Option<&[usize]>,
        tiles: Grid,
    ) -> Result<Self, ChannelError> {
        let all: usize = shapes.iter().map(|shape| shape[0]).sum();
        let side = |axis: usize| shapes.iter().map(|shape| shape[axis]).max().unwrap_or(0);
        let grid = Size::new(side(1), side(2));
        let mut taken = vec![channels.is_none(); all];
        if let Some(channels) = channels {
            let ascend = channels.windows(2).all(|pair| pair[0] < pair[1]);
            if channels.is_empty() || !ascend || channels.last().is_some_and(|&last| last >= all) {
                return Err(ChannelError { all });
            }
            for &channel in channels {
                taken[channel] = true;
            }
        }
        Ok(Self {
            tiles,
            pooling,
            taken,
            grid,
            pixels: Array3::zeros((0, 0, 0)),
            pooled: vec![0.0; grid.area()],
            row: vec![0.0; grid.width + 2],
        })
    }

    /// Shape of the embeddings, all tiles together.
    pub fn shape(&self) -> EmbeddingShape {
        EmbeddingShape {
            dimensions: self.taken.iter().filter(|taken| **taken).count(),
            grid: self.tiles.whole(self.grid),
        }
    }

    /// Fills `embedding`, of [`Features::shape`], with what `backbone` sees in `image` (3 x height x width, all tiles), and says how long
    /// the filling took.
    ///
    /// # Errors
    /// As [`Backbone::run`].
    pub fn extract(
        &mut self,
        backbone: &mut Backbone,
        image: ArrayView3<'_, f32>,
        embedding: &mut Embedding,
    ) -> Result<Duration, InferenceError> {
        if self.tiles == Grid::ONE {
            return backbone.run(image, |taps| self.fill(taps, 0, embedding));
        }
        let size = backbone.input();
        let whole = self.tiles.whole(size);
        if image.dim() != (3, whole.height, whole.width) {
            return Err(InferenceError::Image {
                shape: image.dim(),
                size: whole,
            });
        }
        let mut pixels = std::mem::take(&mut self.pixels);
        if pixels.dim() != (3, size.height, size.width) {
            pixels = Array3::zeros((3, size.height, size.width));
        }
        let mut filling = Ok(Duration::ZERO);
        for tile in 0..self.tiles.count() {
            pixels.assign(&tile_of(image, self.tiles, size, tile));
            filling = filling.and_then(|before| {
                let filled =
                    backbone.run(pixels.view(), |taps| self.fill(taps, tile, embedding))?;
                Ok(before + filled)
            });
        }
        self.pixels = pixels;
        filling
    }

    /// Takes over the taps of the tile with this number, counted along the rows, and says how long that took.
    pub fn fill(&mut self, taps: &[Tap<'_>], tile: usize, embedding: &mut Embedding) -> Duration {
        let start = Instant::now();
        let stride = embedding.shape().grid.width;
        let positions = embedding.positions();
        let Size { height, width } = self.grid;
        let (row, column) = (tile / self.tiles.columns(), tile % self.tiles.columns());
        let first = row * height * stride + column * width;
        let mut channels = embedding.values_mut().chunks_exact_mut(positions);
        let mut taken = self.taken.iter();
        for tap in taps {
            let (_, tap_height, tap_width) = tap.dim();
            let size = tap_height * tap_width;
            // Row-major, as the backbone gives them: what it does not give is all zeros here, and found out by every test.
            let values = tap.as_slice().unwrap_or_default();
            debug_assert!(tap.is_standard_layout());
            let sources = values.chunks_exact(size).zip(taken.by_ref());
            for (source, out) in sources
                .filter(|(_, taken)| **taken)
                .map(|(source, _)| source)
                .zip(channels.by_ref())
            {
                let pooled = &mut self.pooled[..size.min(height * width)];
                let source = match self.pooling {
                    Pooling::None => source,
                    Pooling::Average3x3 => {
                        sum_3x3(source, tap_width, &mut self.row, pooled);
                        pooled.iter_mut().for_each(|value| *value /= 9.0);
                        &*pooled
                    }
                    Pooling::Blend3x3 => {
                        sum_3x3(source, tap_width, &mut self.row, pooled);
                        blend(source, tap_width, pooled);
                        &*pooled
                    }
                };
                let out = &mut out[first..];
                if (tap_height, tap_width) == (height, stride) {
                    out[..source.len()].copy_from_slice(source);
                    continue;
                }
                for (y, out) in out.chunks_mut(stride).take(height).enumerate() {
                    let row = &source[y * tap_height / height * tap_width..][..tap_width];
                    for (x, out) in out[..width].iter_mut().enumerate() {
                        *out = row[x * tap_width / width];
                    }
                }
            }
        }
        start.elapsed()
    }
}

/// The pixels of a tile, counted along the rows, of an image of tiles of this size (channels x height x width).
fn tile_of(
    image: ArrayView3<'_, f32>,
    tiles: Grid,
    Size { height, width }: Size,
    number: usize,
) -> ArrayView3<'_, f32> {
    let (y, x) = (
        number / tiles.columns() * height,
        number % tiles.columns() * width,
    );
    image.slice_move(s![.., y..y + height, x..x + width])
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
    use ndarray::Array;
    use proptest::prelude::*;

    fn filled(shapes: &[TapShape], pooling: Pooling, taps: &[&[f32]]) -> Embedding {
        filled_with(shapes, pooling, None, taps).unwrap()
    }

    fn filled_with(
        shapes: &[TapShape],
        pooling: Pooling,
        channels: Option<&[usize]>,
        taps: &[&[f32]],
    ) -> Result<Embedding, ChannelError> {
        let mut features = Features::new(shapes, pooling, channels, Grid::ONE)?;
        let mut embedding = Embedding::new(features.shape());
        let taps: Vec<_> = shapes
            .iter()
            .zip(taps)
            .map(|(&[c, h, w], values)| Tap::from_shape((c, h, w), values).unwrap())
            .collect();
        features.fill(&taps, 0, &mut embedding);
        Ok(embedding)
    }

    fn assert_close(values: &[f32], expected: &[f32]) {
        assert_eq!(values.len(), expected.len());
        let close = values
            .iter()
            .zip(expected)
            .all(|(a, b)| (a - b).abs() < 1e-6);
        assert!(close, "{values:?}, not {expected:?}");
    }

    #[test]
    fn smaller_taps_repeat_their_nearest_patch() {
        let large: Vec<f32> = (0..16u8).map(f32::from).collect();
        let small = [10.0, 11.0, 12.0, 13.0, 20.0, 21.0, 22.0, 23.0];
        let embedding = filled(&[[1, 4, 4], [2, 2, 2]], Pooling::None, &[&large, &small]);
        assert_eq!((embedding.dimensions(), embedding.positions()), (3, 16));
        assert_eq!(&embedding.values()[..16], &large[..]);
        let up = |a: f32| {
            [
                0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 2.0, 2.0, 3.0, 3.0,
            ]
            .map(|step| a + step)
        };
        assert_eq!(&embedding.values()[16..32], &up(10.0));
        assert_eq!(&embedding.values()[32..], &up(20.0));
    }

    #[test]
    fn only_the_channels_asked_for_are_taken() {
        let values: Vec<f32> = (0..6u8).map(f32::from).collect();
        let with = |channels: &[usize]| {
            let taps = [&values[..4], &values[4..]];
            filled_with(
                &[[2, 1, 2], [1, 1, 2]],
                Pooling::None,
                Some(channels),
                &taps,
            )
        };
        let embedding = with(&[1, 2]).unwrap();
        assert_eq!(embedding.dimensions(), 2);
        assert_eq!(embedding.values(), [2.0, 3.0, 4.0, 5.0]);
        for wrong in [&[][..], &[1, 1], &[2, 1], &[3]] {
            assert!(with(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn pooling_averages_nine_with_zeros_outside() {
        let values: Vec<f32> = (1..10u8).map(f32::from).collect();
        let embedding = filled(&[[1, 3, 3]], Pooling::Average3x3, &[&values]);
        let expected = [12.0, 21.0, 16.0, 27.0, 45.0, 33.0, 24.0, 39.0, 28.0];
        assert_close(embedding.values(), &expected.map(|sum: f32| sum / 9.0));
    }

    #[test]
    fn blending_keeps_constants_up_to_the_edge() {
        let embedding = filled(&[[1, 2, 3]], Pooling::Blend3x3, &[&[4.0; 6]]);
        assert_close(embedding.values(), &[4.0; 6]);
        let spot = [6.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        let embedding = filled(&[[1, 2, 3]], Pooling::Blend3x3, &[&spot]);
        let expected = [0.7 * 6.0 + 0.3 * 6.0 / 4.0, 0.3, 0.0, 0.45, 0.3, 0.0];
        assert_close(embedding.values(), &expected);
    }

    proptest! {
        /// Every pixel of the image is in the tile and at the place that its coordinates say.
        #[test]
        fn tiles_hold_the_pixels_of_their_place(columns in 1usize..5, rows in 1usize..5, height in 1usize..5, width in 1usize..5) {
            let tiles = Grid::try_from([columns, rows]).unwrap();
            let size = Size::new(height, width);
            let whole = tiles.whole(size);
            let image = Array::from_shape_fn((2, whole.height, whole.width), |(c, y, x)| ((c * 100 + y) * 100 + x) as f32);
            for number in 0..tiles.count() {
                let tile = tile_of(image.view(), tiles, size, number);
                prop_assert_eq!(tile.dim(), (2, height, width));
                for ((channel, y, x), value) in tile.indexed_iter() {
                    let (y, x) = (number / columns * height + y, number % columns * width + x);
                    prop_assert_eq!(*value, image[[channel, y, x]]);
                }
            }
        }
    }
}
