//! PaDiM (Defard et al. 2021): a full covariance per position; the score is the squared Mahalanobis distance (the paper's eq. 1).

use super::gaussian::GaussianStatistics;
use super::head::Head;
use crate::detector::embedding::{Embedding, EmbeddingShape};
use crate::detector::error::{FitError, TensorError};
use crate::detector::head_tensors::{HeadTensor, TensorReader};
use crate::detector::progress::Cancel;
use crate::detector::search::distance::{LANES, Lanes, gather_panel};
use faer::{Mat, Side};
use rayon::prelude::*;

/// Added to the diagonal of every covariance (PaDiM, section III.B).
const REGULARIZATION: f64 = 0.01;

/// Tensors `mean` (dimensions x positions) and `factor` (positions x lower triangle, row by row), 16-bit floats.
///
/// # Errors
/// A covariance that is not finite, or an end that was asked for.
pub fn fit(statistics: &GaussianStatistics, cancel: &Cancel) -> Result<Vec<HeadTensor>, FitError> {
    let (dimensions, positions) = (statistics.dimensions(), statistics.positions());
    let degrees = statistics.count() as f64 - 1.0;
    let factors: Vec<Vec<f32>> = (0..positions)
        .into_par_iter()
        .map(|position| {
            cancel.check()?;
            let mut covariance = statistics.covariance(position, degrees);
            for i in 0..dimensions {
                covariance[(i, i)] += REGULARIZATION;
            }
            let factor = inverse_factor(&covariance).ok_or(FitError::NotFactored)?;
            Ok((0..dimensions)
                .flat_map(|i| (0..=i).map(move |j| (i, j)))
                .map(|at| factor[at] as f32)
                .collect())
        })
        .collect::<Result<_, FitError>>()?;
    let mut mean = vec![0.0; dimensions * positions];
    for position in 0..positions {
        for (dimension, &value) in statistics.mean(position).iter().enumerate() {
            mean[dimension * positions + position] = value as f32;
        }
    }
    let entries = factors.first().map_or(0, Vec::len);
    Ok(vec![
        HeadTensor::f16("mean", &[dimensions, positions], &mean),
        HeadTensor::f16("factor", &[positions, entries], &factors.concat()),
    ])
}

/// The lower triangular F with Fᵀ F = C⁻¹, that is, the inverse of C's Cholesky factor. `None` where C is not positive definite.
pub fn inverse_factor(covariance: &Mat<f64>) -> Option<Mat<f64>> {
    let cholesky = covariance.llt(Side::Lower).ok()?;
    let mut factor = Mat::<f64>::identity(covariance.nrows(), covariance.nrows());
    cholesky
        .L()
        .solve_lower_triangular_in_place(factor.as_mut());
    Some(factor)
}

/// The fitted head, in blocks of [`LANES`] positions.
pub struct Padim {
    positions: usize,
    blocks: Vec<Block>,
    panel: Vec<Lanes>,
}

struct Block {
    mean: Vec<Lanes>,
    /// Lower triangle row by row.
    factor: Vec<Lanes>,
}

impl Padim {
    pub fn load(shape: EmbeddingShape, tensors: &TensorReader<'_>) -> Result<Self, TensorError> {
        let (dimensions, positions) = (shape.dimensions, shape.positions());
        let entries = dimensions * (dimensions + 1) / 2;
        let mean = tensors.f16("mean", &[dimensions, positions])?;
        let factor = tensors.f16("factor", &[positions, entries])?;
        let blocks = (0..positions.div_ceil(LANES)).map(|block| {
            // Lanes beyond the last position repeat it; their scores are not read.
            let position = |lane: usize| (block * LANES + lane).min(positions - 1);
            Block {
                mean: mean
                    .chunks_exact(positions)
                    .map(|row| std::array::from_fn(|lane| row[position(lane)]))
                    .collect(),
                factor: (0..entries)
                    .map(|entry| {
                        std::array::from_fn(|lane| factor[position(lane) * entries + entry])
                    })
                    .collect(),
            }
        });
        Ok(Self {
            positions,
            blocks: blocks.collect(),
            panel: vec![[0.0; LANES]; dimensions],
        })
    }
}

impl Head for Padim {
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]) {
        for (index, (block, scores)) in self.blocks.iter().zip(scores.chunks_mut(LANES)).enumerate()
        {
            gather_panel(
                embedding.values(),
                self.positions,
                index * LANES,
                &mut self.panel,
            );
            for (values, mean) in self.panel.iter_mut().zip(&block.mean) {
                for (value, mean) in values.iter_mut().zip(mean) {
                    *value -= mean;
                }
            }
            scores.copy_from_slice(&squared_norms(&block.factor, &self.panel)[..scores.len()]);
        }
    }
}

/// |F y|² for each lane.
#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn squared_norms(factor: &[Lanes], y: &[Lanes]) -> Lanes {
    let mut total = [0.0f32; LANES];
    let mut factor = factor.iter();
    for i in 0..y.len() {
        let mut sum = [0.0f32; LANES];
        for (y, factor) in y[..=i].iter().zip(factor.by_ref().take(i + 1)) {
            for lane in 0..LANES {
                sum[lane] += factor[lane] * y[lane];
            }
        }
        for lane in 0..LANES {
            total[lane] += sum[lane] * sum[lane];
        }
    }
    total
}
