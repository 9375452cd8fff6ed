//! Per-position mean and covariance of the embedding, accumulated in one pass and mergeable: what every Gaussian head is fitted from.

use super::{HeadFitter, Progress};
use crate::detector::embedding::Embedding;
use crate::detector::error::{Error, Result};
use crate::detector::model_file::HeadTensor;
use crate::detector::samples::Samples;
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

/// Statistics larger than this are refused: fitting holds two copies of them.
const LARGEST: usize = 4 << 30;

/// Running statistics of all positions: a batch of images is taken in, or taken out again, by the pairwise update of mean and scatter
/// (Chan, Golub, LeVeque 1979).
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
    /// None yet, of embeddings like `shape`.
    ///
    /// # Errors
    /// [`Error::Fit`] where they would take more than [`LARGEST`] bytes.
    pub fn new(shape: &Embedding) -> Result<Self> {
        let (dimensions, positions) = (shape.dimensions(), shape.positions());
        let bytes = positions * triangle(dimensions) * size_of::<f32>();
        if bytes > LARGEST {
            return Err(Error::Fit(format!(
                "the covariances of {positions} patches in {dimensions} dimensions take {:.1} GB; choose fewer with --dimensions ({} or less), smaller --taps or a smaller --size",
                bytes as f64 * 1e-9,
                (2.0 * LARGEST as f64 / (positions * size_of::<f32>()) as f64).sqrt() as usize / 10
                    * 10
            )));
        }
        let position = Position {
            mean: vec![0.0; dimensions],
            scatter: vec![0.0; triangle(dimensions)],
        };
        Ok(Self {
            dimensions,
            count: 0,
            positions: vec![position; positions],
            pending: vec![0.0; positions * BATCH * dimensions],
            pending_count: 0,
        })
    }

    /// Adds one image.
    pub fn add(&mut self, embedding: &Embedding) {
        self.push(embedding);
        if self.pending_count == BATCH {
            self.take_in();
        }
    }

    /// Takes the pending images into the statistics. To be called before reading.
    pub fn take_in(&mut self) {
        let count = self.count + self.pending_count;
        self.update(count, 1.0);
    }

    /// Takes the pending images, which are part of the statistics, out of them.
    fn take_out(&mut self) {
        let count = self.count - self.pending_count;
        self.update(count, -1.0);
    }

    fn push(&mut self, embedding: &Embedding) {
        let positions = embedding.positions();
        for (dimension, row) in embedding.values().chunks_exact(positions).enumerate() {
            for (position, &value) in row.iter().enumerate() {
                self.pending
                    [(position * BATCH + self.pending_count) * self.dimensions + dimension] = value;
            }
        }
        self.pending_count += 1;
    }

    /// With n images before, b pending, s = 1 to add and -1 to remove them, and m their mean:
    /// mean += s b/(n + s b) (m - mean); scatter += s (sum of (x - m)(x - m)ᵀ + n b/(n + s b) (m - mean)(m - mean)ᵀ).
    fn update(&mut self, after: usize, sign: f64) {
        let (dimensions, before, new) = (self.dimensions, self.count as f64, self.pending_count);
        if new == 0 {
            return;
        }
        let batch_count = new as f64;
        // Nothing is left after the last image is taken out; the statistics are not read then.
        let left = (after as f64).max(1.0);
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
                        *value = (f64::from(*value) - sum / batch_count) as f32;
                    }
                }
                for (sum, mean) in delta.iter_mut().zip(&mut position.mean) {
                    let difference = *sum / batch_count - *mean;
                    *mean += sign * difference * batch_count / left;
                    *sum = difference;
                }
                for row in batch.chunks_exact(dimensions) {
                    add_outer_product(&mut position.scatter, row, sign as f32);
                }
                let delta: Vec<f32> = delta.iter().map(|&value| value as f32).collect();
                add_outer_product(
                    &mut position.scatter,
                    &delta,
                    (sign * before * batch_count / left) as f32,
                );
            });
        self.count = after;
        self.pending_count = 0;
    }

    /// A copy from which the images of one fold of `samples` are taken out; `scratch` is an embedding to work in.
    ///
    /// # Errors
    /// [`Error::Fit`] where what is left are fewer than the two images that a variance needs.
    pub fn without(
        &mut self,
        samples: &Samples,
        fold: Option<usize>,
        scratch: &mut Embedding,
    ) -> Result<Self> {
        self.take_in();
        let mut rest = self.clone();
        for (image, &of) in samples.folds().iter().enumerate() {
            if Some(of) == fold {
                samples.restore(image, scratch);
                rest.push(scratch);
                if rest.pending_count == BATCH {
                    rest.take_out();
                }
            }
        }
        rest.take_out();
        match rest.count {
            count @ 0..2 => Err(Error::Fit(format!(
                "{count} good images are too few for a variance"
            ))),
            _ => Ok(rest),
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

/// Gathers the statistics that any Gaussian head is fitted from.
pub struct GaussianFitter {
    statistics: GaussianStatistics,
    scratch: Embedding,
    fit: Fit,
}

impl GaussianFitter {
    /// # Errors
    /// [`Error::Fit`] as [`GaussianStatistics::new`].
    pub fn new(shape: &Embedding, fit: Fit) -> Result<Self> {
        Ok(Self {
            statistics: GaussianStatistics::new(shape)?,
            scratch: shape.clone(),
            fit,
        })
    }
}

impl HeadFitter for GaussianFitter {
    fn add(&mut self, embedding: &Embedding) {
        self.statistics.add(embedding);
    }

    fn fit(
        &mut self,
        samples: &Samples,
        without: Option<usize>,
        _: Progress<'_>,
    ) -> Result<Vec<HeadTensor>> {
        (self.fit)(
            &self
                .statistics
                .without(samples, without, &mut self.scratch)?,
        )
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
    use half::f16;
    use proptest::prelude::*;

    fn embedding(values: &[f32], dimensions: usize) -> Embedding {
        let mut embedding =
            Embedding::new(&[[dimensions, 1, values.len() / dimensions]], Pooling::None);
        embedding.values_mut().copy_from_slice(values);
        embedding
    }

    proptest! {
        /// Taking in any number of images and taking some of them out again gives the two-pass mean and covariance of the rest.
        #[test]
        fn equals_the_two_pass_definition(images in prop::collection::vec(prop::collection::vec(-50.0f32..50.0, 6), 4..60), removed in 2usize..60, offset in -100.0f32..100.0) {
            let (dimensions, positions) = (3, 2);
            let shifted: Vec<Vec<f32>> = images.iter().map(|image| image.iter().map(|value| f16::from_f32(value + offset).to_f32()).collect()).collect();
            let mut scratch = embedding(&shifted[0], dimensions);
            let mut statistics = GaussianStatistics::new(&scratch).unwrap();
            let mut samples = Samples::new(&scratch, 1 << 20);
            for (index, image) in shifted.iter().enumerate() {
                let embedding = embedding(image, dimensions);
                statistics.add(&embedding);
                samples.add(usize::from(index >= removed), &embedding);
            }
            let (without, shifted) = if removed % 2 == 0 { (None, &shifted[..]) } else { (Some(1), &shifted[..removed.min(shifted.len())]) };
            let all = statistics.without(&samples, without, &mut scratch).unwrap();
            prop_assert_eq!(all.count(), shifted.len());
            let images = shifted;
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
