//! Preset `default`: a shared projection to a few dimensions, and in it a full covariance per position in two bits an entry.
//!
//! Why this shape: the diagonal of the paper cannot see that features vary together, and many defects show in directions in which good
//! parts hardly vary. A full covariance sees them, but costs 10 MB at 224 dimensions. Two thirds of the dimensions kept here are those
//! in which good parts vary most (they carry the texture, on which unaligned surfaces need a covariance of their own at each position),
//! one third those in which they vary least. The factor of the inverse covariance survives storage in two bits when each rounding error
//! is passed on to the entries not yet rounded (as Frantar et al. 2023 do for network weights, GPTQ).
//!
//! With x the embedding of a patch (blended with its neighbours), P the projection and m the position's mean: y = P x - m and
//! score = sqrt(|F y|² / d), where Fᵀ F is the inverse of the position's covariance of y. A good patch scores about 1.

use crate::detector::embedding::Embedding;
use crate::detector::error::{Error, Result};
use crate::detector::heads::Head;
use crate::detector::heads::gaussian::GaussianStatistics;
use crate::detector::heads::padim::inverse_factor;
use crate::detector::model_file::{HeadTensor, TensorReader};
use crate::detector::search::distance::{LANES, Lanes, ROWS, dot_products, gather_panel};
use faer::{Mat, Side};
use rayon::prelude::*;

/// Dimensions after the projection, of the smallest and of the largest variance: together what fits into 131,072 bytes for 224
/// dimensions at 14 x 14 positions.
const LOWEST: usize = 21;
const HIGHEST: usize = 40;
/// Share of the identity in each position's covariance, in the space in which the pooled covariance is the identity.
const SHRINKAGE: f64 = 0.3;
/// Gaussian smoothing of the map, in pixels of half the input's side.
pub const MAP_SIGMA: f32 = 3.0;
/// Two-bit codes stand for these multiples of a position's scale: the Lloyd-Max levels of a Gaussian (+-0.4528, +-1.510) in whole numbers.
const LEVELS: [i8; 4] = [-10, -3, 3, 10];
const LEVEL_UNIT: f64 = 0.151;
/// Variances below this share of the largest count as this much: features that never varied must not divide by zero.
const SMALLEST_VARIANCE: f64 = 1e-6;

/// Dimensions after the projection of `full`.
fn reduced(full: usize) -> usize {
    full.min(LOWEST + HIGHEST)
}

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
    let reduced = reduced(full);
    let degrees = statistics.count() as f64 - 1.0;
    let failed = || {
        Error::Fit("the covariance of the good images cannot be factored: a feature is not a finite number".into())
    };

    let pooled = statistics.pooled_covariance();
    let (projection, projection_scale) = projection(&pooled, reduced).ok_or_else(failed)?;
    // From here on with the projection as stored, so that its rounding is part of what is fitted.
    let stored = Mat::from_fn(reduced, full, |i, j| {
        f64::from(projection[i * full + j]) * f64::from(projection_scale[i])
    });

    let means = Mat::from_fn(full, positions, |j, p| statistics.mean(p)[j]);
    let means = &stored * &means;
    let (mean, mean_scale, mean_offset) = quantize_means(&means);

    let factors: Option<Vec<PackedFactor>> = (0..positions)
        .into_par_iter()
        .map(|position| {
            let small = &stored * statistics.covariance(position, degrees) * stored.transpose();
            let shrunk = Mat::from_fn(reduced, reduced, |i, j| {
                (1.0 - SHRINKAGE) * small[(i, j)] + if i == j { SHRINKAGE } else { 0.0 }
            });
            PackedFactor::of_inverse(&shrunk)
        })
        .collect();
    let factors = factors.ok_or_else(failed)?;
    let packed = pairs(reduced).div_ceil(4);
    let flat = |part: fn(&PackedFactor) -> &[u8]| -> Vec<u8> {
        factors
            .iter()
            .flat_map(|factor| part(factor).iter().copied())
            .collect()
    };
    let scales =
        |part: fn(&PackedFactor) -> f32| -> Vec<f32> { factors.iter().map(part).collect() };
    Ok(vec![
        HeadTensor::i8("projection", &[reduced, full], &projection),
        HeadTensor::f32("projection_scale", &[reduced], &projection_scale),
        HeadTensor::i8("mean", &[reduced, positions], &mean),
        HeadTensor::f32("mean_scale", &[reduced], &mean_scale),
        HeadTensor::f32("mean_offset", &[reduced], &mean_offset),
        HeadTensor::u8(
            "diagonal",
            &[positions, reduced],
            &flat(|factor| &factor.diagonal),
        ),
        HeadTensor::f16(
            "diagonal_scale",
            &[positions],
            &scales(|factor| factor.diagonal_scale),
        ),
        HeadTensor::u8("lower", &[positions, packed], &flat(|factor| &factor.lower)),
        HeadTensor::f16(
            "lower_scale",
            &[positions],
            &scales(|factor| factor.lower_scale),
        ),
    ])
}

/// The eigenvectors of the pooled covariance with the smallest and the largest eigenvalues, scaled so that the pooled covariance of the
/// projected features is the identity. Rows in 8 bits with a scale each; `None` where a number is not finite.
fn projection(pooled: &Mat<f64>, reduced: usize) -> Option<(Vec<i8>, Vec<f32>)> {
    let full = pooled.nrows();
    let eigen = pooled.self_adjoint_eigen(Side::Lower).ok()?;
    let variance = |index: usize| eigen.S()[index];
    let smallest = (variance(full - 1) * SMALLEST_VARIANCE).max(f64::from(f32::MIN_POSITIVE));
    let lowest = LOWEST.min(reduced);
    let mut rows = Vec::with_capacity(reduced * full);
    let mut scales = Vec::with_capacity(reduced);
    // In ascending order.
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
        let factor = inverse_factor(covariance)?;
        let below = || (0..size).flat_map(|i| (0..i).map(move |j| (i, j)));
        let count = pairs(size).max(1) as f64;
        let average = below().map(|at| factor[at]).sum::<f64>() / count;
        let spread = (below()
            .map(|at| (factor[at] - average).powi(2))
            .sum::<f64>()
            / count)
            .sqrt();
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
                    diagonal[j] = (wanted / f64::from(diagonal_scale))
                        .round()
                        .clamp(0.0, 255.0) as u8;
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
        let lower = codes
            .chunks(4)
            .map(|codes| {
                codes
                    .iter()
                    .enumerate()
                    .fold(0, |byte, (index, code)| byte | code << (2 * index))
            })
            .collect();
        Some(Self {
            diagonal,
            diagonal_scale,
            lower,
            lower_scale,
        })
    }
}

fn nearest_level(value: f64, scale: f64) -> u8 {
    let distance = |code: &u8| (f64::from(LEVELS[usize::from(*code)]) * scale - value).abs();
    (0..LEVELS.len() as u8)
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .unwrap_or(0)
}

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
        let reduced = reduced(full);
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
        let (mean_scale, mean_offset) = (
            tensors.f32("mean_scale", &[reduced])?,
            tensors.f32("mean_offset", &[reduced])?,
        );
        let diagonal = tensors.u8("diagonal", &[positions, reduced])?;
        let diagonal_scale = tensors.f16("diagonal_scale", &[positions])?;
        let lower = tensors.u8("lower", &[positions, packed])?;
        let lower_scale = tensors.f16("lower_scale", &[positions])?;

        let blocks = (0..positions.div_ceil(LANES)).map(|block| {
            // Lanes beyond the last position repeat it; their scores are not read.
            let position = |lane: usize| (block * LANES + lane).min(positions - 1);
            let lanes = |value: &dyn Fn(usize) -> f32| -> Lanes {
                std::array::from_fn(|lane| value(position(lane)))
            };
            Block {
                mean: (0..reduced)
                    .map(|i| {
                        lanes(&|p| {
                            f32::from(mean[i * positions + p]) * mean_scale[i] + mean_offset[i]
                        })
                    })
                    .collect(),
                diagonal: (0..reduced)
                    .map(|i| lanes(&|p| f32::from(diagonal[p * reduced + i]) * diagonal_scale[p]))
                    .collect(),
                lower: (0..pairs(reduced))
                    .map(|pair| {
                        std::array::from_fn(|lane| {
                            LEVELS[usize::from(
                                lower[position(lane) * packed + pair / 4] >> (2 * (pair % 4)) & 3,
                            )]
                        })
                    })
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
        for (index, (block, scores)) in self.blocks.iter().zip(scores.chunks_mut(LANES)).enumerate()
        {
            gather_panel(
                embedding.values(),
                self.positions,
                index * LANES,
                &mut self.panel,
            );
            dot_products(&self.projection, &self.panel, &mut self.projected);
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
