//! Preset `default`: a shared random projection to a few dimensions, and in it a full covariance per position in two bits an entry.
//!
//! Why this shape: the diagonal of the paper cannot see that features vary together, and the directions in which good parts hardly
//! vary are those in which defects show. A full covariance sees them, but costs 4 MB per 100 dimensions. Projected at random, most of
//! what it sees remains (Johnson and Lindenstrauss; PaDiM itself takes random dimensions), and the factor of its inverse survives
//! storage in two bits when each rounding error is passed on to the entries not yet rounded (as Frantar and Alistarh do in OBQ/GPTQ).
//!
//! With x the embedding of a patch, P the projection and m the position's mean: y = xᵀP - m, score = sqrt(|F y|² / d), where Fᵀ F is the
//! inverse of the position's covariance of y. A good patch scores about 1.

use crate::detector::embedding::Embedding;
use crate::detector::error::{Error, Result};
use crate::detector::heads::Head;
use crate::detector::heads::gaussian::GaussianStatistics;
use crate::detector::model_file::{HeadTensor, TensorReader};
use faer::{Mat, Side};
use rayon::prelude::*;

/// Dimensions after the projection: what fits into 131,072 bytes for 224 dimensions at 14 x 14 positions.
const DIMENSIONS: usize = 61;
/// Share of the identity in each position's covariance, in the space in which the pooled covariance is the identity.
const SHRINKAGE: f64 = 0.4;
/// Gaussian smoothing of the map, in pixels of half the input's side.
pub const MAP_SIGMA: f32 = 3.0;
/// Seed of the projection.
const SEED: u64 = 0;
/// Two-bit codes stand for these multiples of a position's scale: the Lloyd-Max levels of a Gaussian (+-0.4528, +-1.510) in whole numbers.
const LEVELS: [i8; 4] = [-10, -3, 3, 10];
const LEVEL_UNIT: f64 = 0.151;
/// Variances below this share of the largest count as this much: features that never varied must not divide by zero.
const SMALLEST_VARIANCE: f64 = 1e-6;

/// Number of entries below the diagonal.
fn pairs(dimensions: usize) -> usize {
    dimensions * dimensions.saturating_sub(1) / 2
}

/// Tensors: `projection` (d x D, 8 bits, a scale per row), `mean` (d x positions, 8 bits, scale and offset per row), `diagonal`
/// (positions x d, 8 bits) and `lower` (positions x packed pairs, 2 bits, row by row below the diagonal), each with a scale per position.
///
/// # Errors
/// [`Error::Fit`] where the statistics are not finite.
pub fn fit(statistics: &GaussianStatistics) -> Result<Vec<HeadTensor>> {
    let (full, positions) = (statistics.dimensions(), statistics.positions());
    let reduced = DIMENSIONS.min(full);
    let degrees = statistics.count() as f64 - 1.0;
    let failed = || Error::Fit("the covariance of the good images cannot be factored: a feature is not a finite number".into());

    let pooled = symmetric(full, |entry| (0..positions).map(|p| f64::from(statistics.scatter(p)[entry])).sum::<f64>() / (degrees * positions as f64));
    let (projection, projection_scale) = projection(&pooled, reduced).ok_or_else(failed)?;
    // From here on with the projection as stored, so that its rounding is part of what is fitted.
    let stored = Mat::from_fn(reduced, full, |i, j| f64::from(projection[i * full + j]) * f64::from(projection_scale[i]));

    let means = Mat::from_fn(full, positions, |j, p| statistics.mean(p)[j]);
    let means = &stored * &means;
    let (mean, mean_scale, mean_offset) = quantize_means(&means);

    let factors: Option<Vec<PackedFactor>> = (0..positions)
        .into_par_iter()
        .map(|position| {
            let scatter = statistics.scatter(position);
            let covariance = symmetric(full, |entry| f64::from(scatter[entry]) / degrees);
            let small = &stored * covariance * stored.transpose();
            let shrunk = Mat::from_fn(reduced, reduced, |i, j| (1.0 - SHRINKAGE) * small[(i, j)] + if i == j { SHRINKAGE } else { 0.0 });
            PackedFactor::of_inverse(&shrunk)
        })
        .collect();
    let factors = factors.ok_or_else(failed)?;
    let packed = pairs(reduced).div_ceil(4);
    let flat = |part: fn(&PackedFactor) -> &[u8]| -> Vec<u8> { factors.iter().flat_map(|factor| part(factor).iter().copied()).collect() };
    let scales = |part: fn(&PackedFactor) -> f32| -> Vec<f32> { factors.iter().map(part).collect() };
    Ok(vec![
        HeadTensor::i8("projection", &[reduced, full], &projection),
        HeadTensor::f32("projection_scale", &[reduced], &projection_scale),
        HeadTensor::i8("mean", &[reduced, positions], &mean),
        HeadTensor::f32("mean_scale", &[reduced], &mean_scale),
        HeadTensor::f32("mean_offset", &[reduced], &mean_offset),
        HeadTensor::u8("diagonal", &[positions, reduced], &flat(|factor| &factor.diagonal)),
        HeadTensor::f16("diagonal_scale", &[positions], &scales(|factor| factor.diagonal_scale)),
        HeadTensor::u8("lower", &[positions, packed], &flat(|factor| &factor.lower)),
        HeadTensor::f16("lower_scale", &[positions], &scales(|factor| factor.lower_scale)),
    ])
}

/// A symmetric matrix from its upper triangle, entry numbers row by row.
fn symmetric(size: usize, entry: impl Fn(usize) -> f64) -> Mat<f64> {
    let mut matrix = Mat::zeros(size, size);
    let mut next = 0;
    for i in 0..size {
        for j in i..size {
            let value = entry(next);
            matrix[(i, j)] = value;
            matrix[(j, i)] = value;
            next += 1;
        }
    }
    matrix
}

/// A random subspace of the space in which every feature has a pooled variance of 1, turned and scaled so that the pooled covariance of
/// the projected features is the identity. Rows in 8 bits with a scale each; `None` where a number is not finite.
fn projection(pooled: &Mat<f64>, reduced: usize) -> Option<(Vec<i8>, Vec<f32>)> {
    let full = pooled.nrows();
    let largest = (0..full).map(|i| pooled[(i, i)]).fold(0.0, f64::max).max(f64::MIN_POSITIVE);
    let mut random = gaussian_numbers(SEED);
    let random = Mat::from_fn(full, reduced, |_, _| random());
    let orthogonal = random.qr().compute_thin_Q();
    let scaled = Mat::from_fn(full, reduced, |i, j| orthogonal[(i, j)] / pooled[(i, i)].max(largest * SMALLEST_VARIANCE).sqrt());
    let eigen = (scaled.transpose() * pooled * &scaled).self_adjoint_eigen(Side::Lower).ok()?;
    let variances: Vec<f64> = (0..reduced).map(|i| eigen.S()[i]).collect();
    let floor = variances.iter().copied().fold(0.0, f64::max).max(f64::MIN_POSITIVE.sqrt()) * SMALLEST_VARIANCE;
    let whitened = scaled * eigen.U();
    let mut rows = Vec::with_capacity(reduced * full);
    let mut scales = Vec::with_capacity(reduced);
    for i in 0..reduced {
        let deviation = variances[i].max(floor).sqrt();
        let row: Vec<f64> = (0..full).map(|j| whitened[(j, i)] / deviation).collect();
        let scale = (row.iter().fold(0.0f64, |largest, value| largest.max(value.abs())) / 127.0) as f32;
        if !scale.is_finite() || row.iter().any(|value| !value.is_finite()) {
            return None;
        }
        let scale = scale.max(f32::MIN_POSITIVE);
        rows.extend(row.iter().map(|value| (value / f64::from(scale)).round() as i8));
        scales.push(scale);
    }
    Some((rows, scales))
}

/// Rows of a matrix in 8 bits over each row's range.
fn quantize_means(means: &Mat<f64>) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
    let (mut codes, mut scales, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..means.nrows() {
        let row = (0..means.ncols()).map(|p| means[(i, p)]);
        let (low, high) = row.clone().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let scale = (((high - low) / 254.0) as f32).max(f32::MIN_POSITIVE);
        let offset = ((high + low) / 2.0) as f32;
        codes.extend(row.map(|value| ((value - f64::from(offset)) / f64::from(scale)).round().clamp(-127.0, 127.0) as i8));
        scales.push(scale);
        offsets.push(offset);
    }
    (codes, scales, offsets)
}

/// The lower triangular F with Fᵀ F = C⁻¹, rounded to what is stored.
struct PackedFactor {
    diagonal: Vec<u8>,
    diagonal_scale: f32,
    /// Four codes a byte, the first in the lowest bits.
    lower: Vec<u8>,
    lower_scale: f32,
}

impl PackedFactor {
    /// `None` where `covariance` is not positive definite.
    fn of_inverse(covariance: &Mat<f64>) -> Option<Self> {
        let size = covariance.nrows();
        let cholesky = covariance.llt(Side::Lower).ok()?;
        let mut factor = Mat::<f64>::identity(size, size);
        cholesky.L().solve_lower_triangular_in_place(factor.as_mut());
        let below = || (0..size).flat_map(|i| (0..i).map(move |j| (i, j)));
        let count = pairs(size).max(1) as f64;
        let average = below().map(|at| factor[at]).sum::<f64>() / count;
        let spread = (below().map(|at| (factor[at] - average).powi(2)).sum::<f64>() / count).sqrt();
        let half = |value: f64| half::f16::from_f64(value).to_f32();
        let lower_scale = half(spread * LEVEL_UNIT);
        let diagonal_scale = half((0..size).map(|i| factor[(i, i)]).fold(0.0, f64::max) / 255.0);

        // Columns from the last to the first: the error of an entry is made up for in the entries of its row that are still to come,
        // weighted as the covariance couples them.
        let mut open = factor.clone();
        let mut codes = vec![0u8; pairs(size)];
        let mut diagonal = vec![0u8; size];
        for j in (0..size).rev() {
            for i in j..size {
                let wanted = open[(i, j)];
                let stored = if i == j {
                    diagonal[j] = (wanted / f64::from(diagonal_scale)).round().clamp(0.0, 255.0) as u8;
                    f64::from(diagonal[j]) * f64::from(diagonal_scale)
                } else {
                    let code = nearest_level(wanted, f64::from(lower_scale));
                    codes[pairs(i) + j] = code;
                    f64::from(LEVELS[usize::from(code)]) * f64::from(lower_scale)
                };
                let error = (wanted - stored) / factor[(j, j)];
                for k in 0..j {
                    open[(i, k)] -= error * factor[(j, k)];
                }
            }
        }
        let lower = codes.chunks(4).map(|codes| codes.iter().enumerate().fold(0, |byte, (index, code)| byte | code << (2 * index))).collect();
        Some(Self { diagonal, diagonal_scale, lower, lower_scale })
    }
}

fn nearest_level(value: f64, scale: f64) -> u8 {
    let distance = |code: &u8| (f64::from(LEVELS[usize::from(*code)]) * scale - value).abs();
    (0..LEVELS.len() as u8).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

/// Standard normal numbers, the same on every machine: SplitMix64 (Steele, Lea, Flood 2014) through Box and Muller's transform.
fn gaussian_numbers(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut second = None;
    move || {
        second.take().unwrap_or_else(|| {
            let (a, b) = (uniform(), uniform());
            let (radius, angle) = ((-2.0 * (1.0 - a).ln()).sqrt(), std::f64::consts::TAU * b);
            second = Some(radius * angle.sin());
            radius * angle.cos()
        })
    }
}

/// Positions that are worked on together: two AVX2 or four NEON registers.
const LANES: usize = 16;
/// Output dimensions that the projection accumulates at a time.
const ROWS: usize = 4;
type Lanes = [f32; LANES];

/// The fitted head, laid out in blocks of [`LANES`] positions, so that a block's working set stays in the first-level cache.
pub struct Factored {
    reduced: usize,
    positions: usize,
    /// reduced (rounded up to whole [`ROWS`]) x full
    projection: Vec<f32>,
    blocks: Vec<Block>,
    /// full x LANES: a block's embedding
    panel: Vec<Lanes>,
    /// reduced x LANES
    projected: Vec<Lanes>,
}

struct Block {
    mean: Vec<Lanes>,
    diagonal: Vec<Lanes>,
    lower: Vec<[i8; LANES]>,
    lower_scale: Lanes,
}

impl Factored {
    pub fn load(shape: &Embedding, tensors: &TensorReader<'_>) -> Result<Self, String> {
        let (full, positions) = (shape.dimensions(), shape.positions());
        let reduced = DIMENSIONS.min(full);
        let packed = pairs(reduced).div_ceil(4);
        let codes = tensors.i8("projection", &[reduced, full])?;
        let scale = tensors.f32("projection_scale", &[reduced])?;
        let mut projection: Vec<f32> = codes.iter().enumerate().map(|(index, &code)| f32::from(code) * scale[index / full]).collect();
        projection.resize(reduced.next_multiple_of(ROWS) * full, 0.0);
        let mean = tensors.i8("mean", &[reduced, positions])?;
        let (mean_scale, mean_offset) = (tensors.f32("mean_scale", &[reduced])?, tensors.f32("mean_offset", &[reduced])?);
        let diagonal = tensors.u8("diagonal", &[positions, reduced])?;
        let diagonal_scale = tensors.f16("diagonal_scale", &[positions])?;
        let lower = tensors.u8("lower", &[positions, packed])?;
        let lower_scale = tensors.f16("lower_scale", &[positions])?;

        let blocks = (0..positions.div_ceil(LANES)).map(|block| {
            // Lanes beyond the last position repeat it; their scores are not read.
            let position = |lane: usize| (block * LANES + lane).min(positions - 1);
            let lanes = |value: &dyn Fn(usize) -> f32| -> Lanes { std::array::from_fn(|lane| value(position(lane))) };
            Block {
                mean: (0..reduced).map(|i| lanes(&|p| f32::from(mean[i * positions + p]) * mean_scale[i] + mean_offset[i])).collect(),
                diagonal: (0..reduced).map(|i| lanes(&|p| f32::from(diagonal[p * reduced + i]) * diagonal_scale[p])).collect(),
                lower: (0..pairs(reduced))
                    .map(|pair| std::array::from_fn(|lane| LEVELS[usize::from(lower[position(lane) * packed + pair / 4] >> (2 * (pair % 4)) & 3)]))
                    .collect(),
                lower_scale: lanes(&|p| lower_scale[p]),
            }
        });
        Ok(Self {
            reduced,
            positions,
            projection,
            blocks: blocks.collect(),
            panel: vec![[0.0; LANES]; full],
            projected: vec![[0.0; LANES]; reduced.next_multiple_of(ROWS)],
        })
    }
}

impl Head for Factored {
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]) {
        for (index, (block, scores)) in self.blocks.iter().zip(scores.chunks_mut(LANES)).enumerate() {
            let first = index * LANES;
            for (panel, row) in self.panel.iter_mut().zip(embedding.values().chunks_exact(self.positions)) {
                panel[..scores.len()].copy_from_slice(&row[first..first + scores.len()]);
            }
            project(&self.projection, &self.panel, &mut self.projected);
            for (projected, mean) in self.projected.iter_mut().zip(&block.mean) {
                for (value, mean) in projected.iter_mut().zip(mean) {
                    *value -= mean;
                }
            }
            let squared = squared_norms(block, &self.projected[..self.reduced]);
            for (score, squared) in scores.iter_mut().zip(squared) {
                *score = (squared / self.reduced as f32).sqrt();
            }
        }
    }
}

/// `out` = `projection` times `panel`, four rows at a time.
#[multiversion::multiversion(targets("x86_64+avx2+fma", "x86_64+avx512f"))]
fn project(projection: &[f32], panel: &[Lanes], out: &mut [Lanes]) {
    let full = panel.len();
    let (rows, _) = out.as_chunks_mut::<ROWS>();
    for (weights, rows) in projection.chunks_exact(ROWS * full).zip(rows) {
        let mut sums = [[0.0f32; LANES]; ROWS];
        let (a, rest) = weights.split_at(full);
        let (b, rest) = rest.split_at(full);
        let (c, d) = rest.split_at(full);
        for ((((values, &a), &b), &c), &d) in panel.iter().zip(a).zip(b).zip(c).zip(d) {
            for lane in 0..LANES {
                sums[0][lane] += a * values[lane];
                sums[1][lane] += b * values[lane];
                sums[2][lane] += c * values[lane];
                sums[3][lane] += d * values[lane];
            }
        }
        *rows = sums;
    }
}

/// |F y|² for each lane.
#[multiversion::multiversion(targets("x86_64+avx2+fma", "x86_64+avx512f"))]
fn squared_norms(block: &Block, y: &[Lanes]) -> Lanes {
    let mut total = [0.0f32; LANES];
    let mut lower = block.lower.iter();
    for (i, (value, diagonal)) in y.iter().zip(&block.diagonal).enumerate() {
        let mut sum = [0.0f32; LANES];
        for (y, levels) in y[..i].iter().zip(lower.by_ref().take(i)) {
            for lane in 0..LANES {
                sum[lane] += f32::from(levels[lane]) * y[lane];
            }
        }
        for lane in 0..LANES {
            let z = diagonal[lane] * value[lane] + block.lower_scale[lane] * sum[lane];
            total[lane] += z * z;
        }
    }
    total
}
