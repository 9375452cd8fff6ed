//! Per-position mean and covariance of the embedding, accumulated in one pass and mergeable: what every Gaussian head is fitted from.

use super::HeadFitter;
use crate::detector::embedding::Embedding;
use crate::detector::error::{Error, Result};
use crate::detector::model_file::HeadTensor;
use faer::Mat;
use rayon::prelude::*;

/// Images are taken in batches, so that the scatter matrices (tens of MB) are walked once per batch rather than once per image.
const BATCH: usize = 16;

/// Mean and scatter matrix (upper triangle, row by row) of one position.
#[derive(Debug, Clone)]
struct Position {
    mean: Vec<f64>,
    scatter: Vec<f32>,
}

/// Number of entries of the upper triangle of a `dimensions` x `dimensions` matrix.
pub fn triangle(dimensions: usize) -> usize {
    dimensions * (dimensions + 1) / 2
}

/// Running statistics of all positions (Chan, Golub, LeVeque 1979: pairwise update of mean and scatter).
///
/// The result depends on the order of the images only, not on the number of threads.
#[derive(Debug, Clone)]
pub struct GaussianStatistics {
    dimensions: usize,
    count: usize,
    positions: Vec<Position>,
    /// Up to [`BATCH`] images, position-major: positions x images x dimensions.
    pending: Vec<f32>,
    pending_count: usize,
}

impl GaussianStatistics {
    pub fn new(dimensions: usize, positions: usize) -> Self {
        let position = Position {
            mean: vec![0.0; dimensions],
            scatter: vec![0.0; triangle(dimensions)],
        };
        Self {
            dimensions,
            count: 0,
            positions: vec![position; positions],
            pending: vec![0.0; positions * BATCH * dimensions],
            pending_count: 0,
        }
    }

    /// Adds one image.
    pub fn add(&mut self, embedding: &Embedding) {
        let positions = embedding.positions();
        for (dimension, row) in embedding.values().chunks_exact(positions).enumerate() {
            for (position, &value) in row.iter().enumerate() {
                self.pending
                    [(position * BATCH + self.pending_count) * self.dimensions + dimension] = value;
            }
        }
        self.pending_count += 1;
        if self.pending_count == BATCH {
            self.flush();
        }
    }

    /// Takes the pending images into the statistics. To be called before reading or merging.
    pub fn flush(&mut self) {
        let (dimensions, before, new) = (self.dimensions, self.count as f64, self.pending_count);
        if new == 0 {
            return;
        }
        let after = before + new as f64;
        self.positions
            .par_iter_mut()
            .zip(self.pending.par_chunks_exact_mut(BATCH * dimensions))
            .for_each(|(position, batch)| {
                let batch = &mut batch[..new * dimensions];
                let mut delta = vec![0.0; dimensions];
                for row in batch.chunks_exact(dimensions) {
                    for (sum, &value) in delta.iter_mut().zip(row) {
                        *sum += f64::from(value);
                    }
                }
                for row in batch.chunks_exact_mut(dimensions) {
                    for (value, &sum) in row.iter_mut().zip(&delta) {
                        *value = (f64::from(*value) - sum / new as f64) as f32;
                    }
                }
                for (sum, mean) in delta.iter_mut().zip(&mut position.mean) {
                    let difference = *sum / new as f64 - *mean;
                    *mean += difference * new as f64 / after;
                    *sum = difference;
                }
                for row in batch.chunks_exact(dimensions) {
                    add_outer_product(&mut position.scatter, row, 1.0);
                }
                let delta: Vec<f32> = delta.iter().map(|&value| value as f32).collect();
                add_outer_product(
                    &mut position.scatter,
                    &delta,
                    (before * new as f64 / after) as f32,
                );
            });
        self.count += new;
        self.pending_count = 0;
    }

    /// Adds the images of `other`; both flushed.
    pub fn merge(&mut self, other: &Self) {
        debug_assert!(self.pending_count == 0 && other.pending_count == 0);
        if other.count == 0 {
            return;
        }
        let (before, new) = (self.count as f64, other.count as f64);
        let after = before + new;
        self.positions
            .par_iter_mut()
            .zip(&other.positions)
            .for_each(|(position, other)| {
                let delta: Vec<f32> = position
                    .mean
                    .iter()
                    .zip(&other.mean)
                    .map(|(a, b)| (b - a) as f32)
                    .collect();
                for (mean, other) in position.mean.iter_mut().zip(&other.mean) {
                    *mean += (other - *mean) * new / after;
                }
                for (scatter, other) in position.scatter.iter_mut().zip(&other.scatter) {
                    *scatter += other;
                }
                add_outer_product(&mut position.scatter, &delta, (before * new / after) as f32);
            });
        self.count += other.count;
    }

    /// The statistics of all folds but one.
    ///
    /// # Errors
    /// [`Error::Fit`] where these are fewer than the two images that a variance needs.
    pub fn without_fold(folds: &mut [Self], without: Option<usize>) -> Result<Self> {
        folds.iter_mut().for_each(Self::flush);
        let mut parts = folds
            .iter()
            .enumerate()
            .filter(|(fold, _)| Some(*fold) != without)
            .map(|(_, part)| part);
        let mut statistics = parts
            .next()
            .cloned()
            .ok_or_else(|| Error::Fit("no images to fit on".into()))?;
        for part in parts {
            statistics.merge(part);
        }
        match statistics.count() {
            count @ 0..2 => Err(Error::Fit(format!(
                "{count} good images are too few for a variance"
            ))),
            _ => Ok(statistics),
        }
    }

    /// Number of images taken in.
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    pub fn positions(&self) -> usize {
        self.positions.len()
    }

    /// Mean of one position, `dimensions` long.
    pub fn mean(&self, position: usize) -> &[f64] {
        &self.positions[position].mean
    }

    /// Scatter matrix of one position divided by `degrees` (of freedom).
    pub fn covariance(&self, position: usize, degrees: f64) -> Mat<f64> {
        let scatter = self.scatter(position);
        symmetric(self.dimensions, |entry| f64::from(scatter[entry]) / degrees)
    }

    /// Mean over positions of their covariances: what varies at one place, whatever the place.
    pub fn pooled_covariance(&self) -> Mat<f64> {
        let degrees = (self.count as f64 - 1.0) * self.positions.len() as f64;
        let mut sums = vec![0.0f64; triangle(self.dimensions)];
        for position in &self.positions {
            for (sum, &value) in sums.iter_mut().zip(&position.scatter) {
                *sum += f64::from(value);
            }
        }
        symmetric(self.dimensions, |entry| sums[entry] / degrees)
    }

    /// Scatter matrix of one position (N - 1 times its covariance), upper triangle row by row.
    pub fn scatter(&self, position: usize) -> &[f32] {
        &self.positions[position].scatter
    }
}

/// Makes the tensors of a head from the statistics of good images.
type Fit = fn(&GaussianStatistics) -> Result<Vec<HeadTensor>>;

/// Gathers the statistics of each fold, from which any Gaussian head is fitted with or without one of them.
pub struct GaussianFitter {
    folds: Vec<GaussianStatistics>,
    fit: Fit,
}

impl GaussianFitter {
    pub fn new(shape: &Embedding, folds: usize, fit: Fit) -> Self {
        let empty = GaussianStatistics::new(shape.dimensions(), shape.positions());
        Self {
            folds: vec![empty; folds],
            fit,
        }
    }
}

impl HeadFitter for GaussianFitter {
    fn add(&mut self, fold: usize, embedding: &Embedding) {
        self.folds[fold].add(embedding);
    }

    fn fit(&mut self, without: Option<usize>) -> Result<Vec<HeadTensor>> {
        (self.fit)(&GaussianStatistics::without_fold(&mut self.folds, without)?)
    }
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

/// Upper triangle of `scatter` += `weight` * v vᵀ.
fn add_outer_product(scatter: &mut [f32], v: &[f32], weight: f32) {
    let mut rest = scatter;
    for (i, &value) in v.iter().enumerate() {
        let (row, after) = rest.split_at_mut(v.len() - i);
        rest = after;
        let scale = weight * value;
        for (sum, &other) in row.iter_mut().zip(&v[i..]) {
            *sum += scale * other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::embedding::Pooling;
    use proptest::prelude::*;

    fn embedding(values: &[f32], dimensions: usize) -> Embedding {
        let mut embedding =
            Embedding::new(&[[dimensions, 1, values.len() / dimensions]], Pooling::None);
        embedding.values_mut().copy_from_slice(values);
        embedding
    }

    proptest! {
        /// Streaming in any number of images and merging in any split gives the two-pass mean and covariance.
        #[test]
        fn equals_the_two_pass_definition(images in prop::collection::vec(prop::collection::vec(-50.0f32..50.0, 6), 2..60), split in 0usize..60, offset in -100.0f32..100.0) {
            let (dimensions, positions) = (3, 2);
            let split = split.min(images.len());
            let mut parts = [GaussianStatistics::new(dimensions, positions), GaussianStatistics::new(dimensions, positions)];
            let shifted: Vec<Vec<f32>> = images.iter().map(|image| image.iter().map(|value| value + offset).collect()).collect();
            for (index, image) in shifted.iter().enumerate() {
                parts[usize::from(index >= split)].add(&embedding(image, dimensions));
            }
            let [mut all, mut other] = parts;
            all.flush();
            other.flush();
            all.merge(&other);
            prop_assert_eq!(all.count(), images.len());
            for position in 0..positions {
                let value = |image: &[f32], dimension: usize| f64::from(image[dimension * positions + position]);
                let mean: Vec<f64> = (0..dimensions).map(|d| shifted.iter().map(|image| value(image, d)).sum::<f64>() / images.len() as f64).collect();
                let mut entry = all.scatter(position).iter();
                for i in 0..dimensions {
                    prop_assert!((all.mean(position)[i] - mean[i]).abs() < 1e-4);
                    for j in i..dimensions {
                        let scatter: f64 = shifted.iter().map(|image| (value(image, i) - mean[i]) * (value(image, j) - mean[j])).sum();
                        prop_assert!((f64::from(*entry.next().unwrap()) - scatter).abs() < 1e-3 * (1.0 + 2500.0 * images.len() as f64).sqrt());
                    }
                }
            }
        }
    }
}
