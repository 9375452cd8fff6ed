//! Position-wise whitening: a shared projection to a few dimensions, and in it a full covariance per position in two bits an entry.
//!
//! Why this shape: the diagonal of the paper cannot see that features vary together, and many defects show in directions in which good
//! parts hardly vary. A full covariance sees them, but costs 10 MB at 224 dimensions. Most of the dimensions kept here are those in
//! which good parts vary most (they carry the texture, on which unaligned surfaces need a covariance of their own at each position),
//! the others those in which they vary least. The factor of the inverse covariance survives storage in two bits when each rounding
//! error is passed on to the entries not yet rounded (as Frantar et al. 2023 do for network weights, GPTQ).
//!
//! With x the embedding of a patch (blended with its neighbours), P the projection and m the position's mean: y = P x - m and z = F y,
//! where Fᵀ F is the inverse of the position's covariance of y. For good parts, z has a covariance near the identity everywhere.

use super::gaussian::GaussianStatistics;
use super::padim::inverse_factor;
use crate::detector::embedding::{Embedding, EmbeddingShape};
use crate::detector::error::{FitError, TensorError};
use crate::detector::head_tensors::{HeadTensor, TensorReader};
use crate::detector::progress::Cancel;
use crate::detector::search::distance::{LANES, Lanes, ROWS, dot_products, gather_panel};
use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{self, BlockStructure};
use faer::{Accum, Mat, Par, Side};
use half::f16;
use rayon::prelude::*;

/// How much is kept, and how far position-wise covariances are trusted.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Dimensions after the projection: those of the smallest and of the largest pooled variance.
    pub lowest: usize,
    pub highest: usize,
}

impl Shape {
    /// Dimensions after the projection of `full`.
    pub fn reduced(self, full: usize) -> usize {
        full.min(self.lowest + self.highest)
    }
}

/// Two-bit codes stand for these multiples of a scale: the Lloyd-Max levels of a Gaussian (+-0.4528, +-1.510) in whole numbers.
const LEVELS: [i8; 4] = [-10, -3, 3, 10];
const LEVEL_UNIT: f64 = 0.151;
/// Variances below this share of the largest count as this much: features that never varied must not divide by zero.
const SMALLEST_VARIANCE: f64 = 1e-6;

/// Number of entries below the diagonal, and the number of the first one in row `dimensions`.
fn pairs(dimensions: usize) -> usize {
    dimensions * dimensions.saturating_sub(1) / 2
}

/// All `(row, column)` below the diagonal, row by row.
fn below(dimensions: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..dimensions).flat_map(|i| (0..i).map(move |j| (i, j)))
}

/// Tensors, with d the dimensions after the projection and D before:
/// `projection` d x D, 8 bits, and a scale per row; `mean` d x positions, 8 bits, and scale and offset per row;
/// `diagonal` positions x d, 8 bits, and a scale per position; `lower` positions x packed pairs, 2 bits an entry, row by row below the
/// diagonal, scaled by the product of a scale per position and one per pair (`lower_table`, 8 bits).
///
/// `shrinkage` is the share of the identity in each position's covariance, in the space in which the pooled covariance is the identity.
///
/// # Errors
/// The statistics are not finite, or an end was asked for.
pub fn fit(
    statistics: &GaussianStatistics,
    shape: Shape,
    shrinkage: f64,
    cancel: &Cancel,
) -> Result<Vec<HeadTensor>, FitError> {
    let (full, positions) = (statistics.dimensions(), statistics.positions());
    let reduced = shape.reduced(full);
    let degrees = statistics.count() as f64 - 1.0;
    cancel.check()?;
    let (projection, projection_scale) =
        projection(&statistics.pooled_covariance(), shape).ok_or(FitError::NotFactored)?;
    // From here on with the projection as stored, so that its rounding is part of what is fitted.
    let stored = Mat::from_fn(reduced, full, |i, j| {
        f64::from(projection[i * full + j]) * f64::from(projection_scale[i])
    });
    let means = &stored * Mat::from_fn(full, positions, |j, p| statistics.mean(p)[j]);
    let (mean, mean_scale, mean_offset) = quantize_means(&means);

    let scratch = || {
        (
            Mat::zeros(full, full),
            Mat::zeros(full, reduced),
            Mat::zeros(reduced, reduced),
        )
    };
    let factors: Vec<Mat<f64>> = (0..positions)
        .into_par_iter()
        .map_init(scratch, |(half, product, covariance), position| {
            cancel.check()?;
            statistics.half_covariance(position, degrees, half);
            triangular::matmul(
                &mut *product,
                BlockStructure::Rectangular,
                Accum::Replace,
                &*half,
                BlockStructure::TriangularLower,
                stored.transpose(),
                BlockStructure::Rectangular,
                1.0,
                Par::Seq,
            );
            matmul(
                &mut *covariance,
                Accum::Replace,
                &stored,
                &*product,
                1.0,
                Par::Seq,
            );
            inverse_factor(&Mat::from_fn(reduced, reduced, |i, j| {
                (1.0 - shrinkage) * (covariance[(i, j)] + covariance[(j, i)])
                    + if i == j { shrinkage } else { 0.0 }
            }))
            .ok_or(FitError::NotFactored)
        })
        .collect::<Result<_, _>>()?;
    let spreads: Vec<f64> = factors.par_iter().map(spread).collect();
    let (table, table_scale) = pair_scales(&factors, &spreads, reduced);
    let scaled: Vec<f64> = table
        .iter()
        .map(|&code| f64::from(code) * f64::from(table_scale))
        .collect();
    let packed: Vec<PackedFactor> = factors
        .par_iter()
        .zip(&spreads)
        .map(|(factor, &spread)| PackedFactor::new(factor, spread, &scaled))
        .collect();

    let diagonal: Vec<u8> = packed
        .iter()
        .flat_map(|factor| factor.diagonal.iter().copied())
        .collect();
    let lower: Vec<u8> = packed
        .iter()
        .flat_map(|factor| factor.lower.iter().copied())
        .collect();
    let diagonal_scale: Vec<f32> = packed.iter().map(|factor| factor.diagonal_scale).collect();
    let lower_scale: Vec<f32> = packed.iter().map(|factor| factor.lower_scale).collect();
    Ok(vec![
        HeadTensor::i8("projection", &[reduced, full], &projection),
        HeadTensor::f32("projection_scale", &[reduced], &projection_scale),
        HeadTensor::i8("mean", &[reduced, positions], &mean),
        HeadTensor::f32("mean_scale", &[reduced], &mean_scale),
        HeadTensor::f32("mean_offset", &[reduced], &mean_offset),
        HeadTensor::u8("diagonal", &[positions, reduced], &diagonal),
        HeadTensor::f16("diagonal_scale", &[positions], &diagonal_scale),
        HeadTensor::u8("lower", &[positions, pairs(reduced).div_ceil(4)], &lower),
        HeadTensor::f16("lower_scale", &[positions], &lower_scale),
        HeadTensor::u8("lower_table", &[pairs(reduced)], &table),
        HeadTensor::f32("lower_table_scale", &[1], &[table_scale]),
    ])
}

/// The eigenvectors of the pooled covariance with the smallest and the largest eigenvalues, in ascending order, scaled so that the
/// pooled covariance of the projected features is the identity. Rows in 8 bits with a scale each; `None` where a number is not finite.
fn projection(pooled: &Mat<f64>, shape: Shape) -> Option<(Vec<i8>, Vec<f32>)> {
    let full = pooled.nrows();
    let eigen = pooled.self_adjoint_eigen(Side::Lower).ok()?;
    let variance = |index: usize| eigen.S()[index];
    let smallest = (variance(full - 1) * SMALLEST_VARIANCE).max(f64::from(f32::MIN_POSITIVE));
    let reduced = shape.reduced(full);
    let lowest = shape.lowest.min(reduced);
    let (mut rows, mut scales) = (Vec::new(), Vec::new());
    for index in (0..lowest).chain(full + lowest - reduced..full) {
        let deviation = variance(index).max(smallest).sqrt();
        let row: Vec<f64> = (0..full)
            .map(|feature| eigen.U()[(feature, index)] / deviation)
            .collect();
        let scale = (row
            .iter()
            .fold(0.0f64, |largest, value| largest.max(value.abs()))
            / 127.0) as f32;
        if !(scale.is_finite() && scale > 0.0) || row.iter().any(|value| !value.is_finite()) {
            return None;
        }
        rows.extend(
            row.iter()
                .map(|value| (value / f64::from(scale)).round() as i8),
        );
        scales.push(scale);
    }
    Some((rows, scales))
}

/// Rows of a matrix in 8 bits over each row's range.
fn quantize_means(means: &Mat<f64>) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
    let (mut codes, mut scales, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..means.nrows() {
        let row = (0..means.ncols()).map(|p| means[(i, p)]);
        let (low, high) = row
            .clone()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        let scale = (((high - low) / 254.0) as f32).max(f32::MIN_POSITIVE);
        let offset = ((high + low) / 2.0) as f32;
        codes.extend(row.map(|value| {
            ((value - f64::from(offset)) / f64::from(scale))
                .round()
                .clamp(-127.0, 127.0) as i8
        }));
        scales.push(scale);
        offsets.push(offset);
    }
    (codes, scales, offsets)
}

/// Standard deviation of a factor's entries below the diagonal.
fn spread(factor: &Mat<f64>) -> f64 {
    let count = pairs(factor.nrows()).max(1) as f64;
    let mean = below(factor.nrows()).map(|at| factor[at]).sum::<f64>() / count;
    let variance = below(factor.nrows())
        .map(|at| (factor[at] - mean).powi(2))
        .sum::<f64>()
        / count;
    variance.sqrt().max(f64::MIN_POSITIVE.sqrt())
}

/// How large an entry of the factors is over all positions, relative to each position's spread: 8 bits, at least 1, and their scale.
fn pair_scales(factors: &[Mat<f64>], spreads: &[f64], reduced: usize) -> (Vec<u8>, f32) {
    let entries: Vec<(usize, usize)> = below(reduced).collect();
    let typical: Vec<f64> = entries
        .into_par_iter()
        .map(|at| {
            let squares = factors
                .iter()
                .zip(spreads)
                .map(|(factor, spread)| (factor[at] / spread).powi(2));
            (squares.sum::<f64>() / factors.len() as f64).sqrt()
        })
        .collect();
    let scale =
        ((typical.iter().copied().fold(0.0, f64::max) / 255.0) as f32).max(f32::MIN_POSITIVE);
    (
        typical
            .iter()
            .map(|value| (value / f64::from(scale)).round().clamp(1.0, 255.0) as u8)
            .collect(),
        scale,
    )
}

/// A factor F as it is stored.
struct PackedFactor {
    diagonal: Vec<u8>,
    diagonal_scale: f32,
    /// Four codes a byte, the first in the lowest bits.
    lower: Vec<u8>,
    lower_scale: f32,
}

impl PackedFactor {
    fn new(factor: &Mat<f64>, spread: f64, table: &[f64]) -> Self {
        let size = factor.nrows();
        let half = |value: f64| {
            f64::from(f16::from_f64(value)).max(f64::from(f16::MIN_POSITIVE_SUBNORMAL))
        };
        // The scale at which entry / (scale * table) has a mean square of 1.
        let squares = below(size)
            .zip(table)
            .map(|(at, entry)| (factor[at] / (spread * entry)).powi(2));
        let lower_scale =
            half(spread * (squares.sum::<f64>() / table.len().max(1) as f64).sqrt() * LEVEL_UNIT);
        let diagonal_scale = half((0..size).map(|i| factor[(i, i)]).fold(0.0, f64::max) / 255.0);

        // Columns from the last to the first: the error of an entry is made up for in the entries of its row that are still to come,
        // weighted as the covariance couples them.
        let mut open = rows(factor);
        let rows = open.clone();
        let mut codes = vec![0u8; pairs(size)];
        let mut diagonal = vec![0u8; size];
        for j in (0..size).rev() {
            for i in j..size {
                let wanted = open[i * size + j];
                let stored = if i == j {
                    diagonal[j] = (wanted / diagonal_scale).round().clamp(1.0, 255.0) as u8;
                    f64::from(diagonal[j]) * diagonal_scale
                } else {
                    let pair = pairs(i) + j;
                    let scale = lower_scale * table[pair];
                    codes[pair] = nearest_level(wanted / scale);
                    f64::from(LEVELS[usize::from(codes[pair])]) * scale
                };
                let error = (wanted - stored) / rows[j * size + j];
                let following = open[i * size..][..j].iter_mut();
                for (value, factor) in following.zip(&rows[j * size..]) {
                    *value -= error * factor;
                }
            }
        }
        let byte = |codes: &[u8]| codes.iter().rev().fold(0, |byte, code| byte << 2 | code);
        Self {
            diagonal,
            diagonal_scale: diagonal_scale as f32,
            lower: codes.chunks(4).map(byte).collect(),
            lower_scale: lower_scale as f32,
        }
    }
}

/// The entries of a square matrix, row by row.
fn rows(matrix: &Mat<f64>) -> Vec<f64> {
    let transposed = matrix.transpose();
    (0..matrix.nrows())
        .flat_map(|i| transposed.col(i).iter().copied())
        .collect()
}

fn nearest_level(value: f64) -> u8 {
    let distance = |code: &u8| (f64::from(LEVELS[usize::from(*code)]) - value).abs();
    (0..LEVELS.len() as u8)
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .unwrap_or(0)
}

/// The fitted transformation, laid out in blocks of [`LANES`] positions, so that a block's working set stays in the cache, and as small
/// in memory as it is in the file: only the projection is unpacked.
pub struct Whitening {
    reduced: usize,
    positions: usize,
    /// reduced (rounded up to whole [`ROWS`]) x full
    projection: Vec<f32>,
    /// Scale and offset of each row's mean codes.
    mean_scale: Vec<f32>,
    mean_offset: Vec<f32>,
    /// One scale per pair.
    table: Vec<f32>,
    blocks: Vec<Block>,
    /// full x LANES: a block's embedding
    panel: Vec<Lanes>,
    projected: Vec<Lanes>,
    whitened: Vec<Lanes>,
}

struct Block {
    mean: Vec<[i8; LANES]>,
    diagonal: Vec<[u8; LANES]>,
    diagonal_scale: Lanes,
    /// The codes of one pair at all positions, two bits each, that of the first position in the lowest.
    lower: Vec<u32>,
    lower_scale: Lanes,
}

impl Whitening {
    pub fn load(
        shape: Shape,
        embedding: EmbeddingShape,
        tensors: &TensorReader<'_>,
    ) -> Result<Self, TensorError> {
        let (full, positions) = (embedding.dimensions, embedding.positions());
        let reduced = shape.reduced(full);
        let packed = pairs(reduced).div_ceil(4);
        let codes = tensors.i8("projection", &[reduced, full])?;
        let scale = tensors.f32("projection_scale", &[reduced])?;
        let mut projection: Vec<f32> = codes
            .iter()
            .enumerate()
            .map(|(index, &code)| f32::from(code) * scale[index / full])
            .collect();
        projection.resize(reduced.next_multiple_of(ROWS) * full, 0.0);
        let mean = tensors.i8("mean", &[reduced, positions])?;
        let mean_scale = tensors.f32("mean_scale", &[reduced])?;
        let mean_offset = tensors.f32("mean_offset", &[reduced])?;
        let diagonal = tensors.u8("diagonal", &[positions, reduced])?;
        let diagonal_scale = tensors.f16("diagonal_scale", &[positions])?;
        let lower = tensors.u8("lower", &[positions, packed])?;
        let lower_scale = tensors.f16("lower_scale", &[positions])?;
        let table_scale = tensors.f32("lower_table_scale", &[1])?[0];
        let table = tensors
            .u8("lower_table", &[pairs(reduced)])?
            .iter()
            .map(|&code| f32::from(code) * table_scale)
            .collect();

        let blocks = (0..positions.div_ceil(LANES)).map(|block| {
            // Lanes beyond the last position repeat it; what becomes of them is not read.
            let position = |lane: usize| (block * LANES + lane).min(positions - 1);
            let code = |pair: usize, p: usize| {
                u32::from(lower[p * packed + pair / 4] >> (2 * (pair % 4)) & 3)
            };
            Block {
                mean: (0..reduced)
                    .map(|i| std::array::from_fn(|lane| mean[i * positions + position(lane)]))
                    .collect(),
                diagonal: (0..reduced)
                    .map(|i| std::array::from_fn(|lane| diagonal[position(lane) * reduced + i]))
                    .collect(),
                diagonal_scale: std::array::from_fn(|lane| diagonal_scale[position(lane)]),
                lower: (0..pairs(reduced))
                    .map(|pair| {
                        (0..LANES).fold(0, |word, lane| {
                            word | code(pair, position(lane)) << (2 * lane)
                        })
                    })
                    .collect(),
                lower_scale: std::array::from_fn(|lane| lower_scale[position(lane)]),
            }
        });
        Ok(Self {
            reduced,
            positions,
            projection,
            mean_scale,
            mean_offset,
            table,
            blocks: blocks.collect(),
            panel: vec![[0.0; LANES]; full],
            projected: vec![[0.0; LANES]; reduced.next_multiple_of(ROWS)],
            whitened: vec![[0.0; LANES]; reduced],
        })
    }

    /// Dimensions after the projection.
    pub fn reduced(&self) -> usize {
        self.reduced
    }

    /// z of the positions `block * LANES..` of an embedding: reduced x [`LANES`]. Lanes beyond the last position hold nothing of use.
    pub fn block(&mut self, embedding: &Embedding, block: usize) -> &[Lanes] {
        gather_panel(
            embedding.values(),
            self.positions,
            block * LANES,
            &mut self.panel,
        );
        dot_products(&self.projection, &self.panel, &mut self.projected);
        let block = &self.blocks[block];
        let scales = self.mean_scale.iter().zip(&self.mean_offset);
        for ((projected, codes), (&scale, &offset)) in
            self.projected.iter_mut().zip(&block.mean).zip(scales)
        {
            for (value, &code) in projected.iter_mut().zip(codes) {
                *value -= f32::from(code) * scale + offset;
            }
        }
        apply_factor(
            block,
            &self.table,
            &self.projected[..self.reduced],
            &mut self.whitened,
        );
        &self.whitened
    }
}

/// z = F y for each lane.
#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn apply_factor(block: &Block, table: &[f32], y: &[Lanes], z: &mut [Lanes]) {
    let mut entries = block.lower.iter().zip(table);
    for (i, (z, diagonal)) in z.iter_mut().zip(&block.diagonal).enumerate() {
        let mut sum = [0.0f32; LANES];
        for (y, (&word, &scale)) in y[..i].iter().zip(entries.by_ref().take(i)) {
            for lane in 0..LANES {
                let code = (word >> (2 * lane) & 3) as i32;
                sum[lane] += level(code) as f32 * (scale * y[lane]);
            }
        }
        for lane in 0..LANES {
            z[lane] = f32::from(diagonal[lane]) * block.diagonal_scale[lane] * y[i][lane]
                + block.lower_scale[lane] * sum[lane];
        }
    }
}

/// [`LEVELS`] in arithmetic that works on all lanes at once.
#[inline(always)]
fn level(code: i32) -> i32 {
    (code << 3) - code - 10 - (code >> 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_in_arithmetic_are_those_of_the_table() {
        let levels = [0, 1, 2, 3].map(level);
        assert_eq!(levels, LEVELS.map(i32::from));
    }
}
