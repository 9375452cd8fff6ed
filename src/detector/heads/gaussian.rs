//! Per-position mean and covariance of the embedding, accumulated in one pass and mergeable: what every Gaussian head is fitted from.

use super::head::HeadFitter;
use crate::detector::embedding::EmbeddingShape;
use crate::detector::error::{FitError, Result};
use crate::detector::head_tensors::HeadTensor;
use crate::detector::progress::{Cancel, Progress};
use crate::detector::samples::Samples;
use faer::Mat;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use rayon::prelude::*;

/// Images are taken in batches, so that the scatter matrices (tens of MB) are walked once per batch rather than once per image.
const BATCH: usize = 64;

/// Mean and scatter matrix (upper triangle, row by row) of one position.
#[derive(Debug)]
struct Position {
    mean: Vec<f64>,
    scatter: Vec<f32>,
}

impl Clone for Position {
    fn clone(&self) -> Self {
        Self {
            mean: self.mean.clone(),
            scatter: self.scatter.clone(),
        }
    }

    /// Into the memory that is there.
    fn clone_from(&mut self, other: &Self) {
        self.mean.clone_from(&other.mean);
        self.scatter.clone_from(&other.scatter);
    }
}

/// Images (each positions x dimensions) to be added to statistics of `before` images (`sign` 1), or to be removed from them (-1).
struct Batch<'a> {
    images: &'a [&'a [f16]],
    before: usize,
    sign: f32,
}

impl Batch<'_> {
    /// Number of images afterwards.
    fn after(&self) -> usize {
        if self.sign > 0.0 {
            self.before + self.images.len()
        } else {
            self.before - self.images.len()
        }
    }
}

impl Position {
    /// With n images before, b in the batch, s the sign, and m the batch's mean:
    /// mean += s b/(n + s b) (m - mean); scatter += s (sum of (x - m)(x - m)ᵀ + n b/(n + s b) (m - mean)(m - mean)ᵀ).
    ///
    /// `number` is that of the position; `rows` is memory that is used again.
    fn update(&mut self, number: usize, batch: &Batch<'_>, rows: &mut Vec<f32>) {
        let (dimensions, images) = (self.mean.len(), batch.images.len());
        if images == 0 {
            return;
        }
        rows.resize(images * dimensions, 0.0);
        for (row, image) in rows.chunks_exact_mut(dimensions).zip(batch.images) {
            image[number * dimensions..][..dimensions].convert_to_f32_slice(row);
        }
        let mut delta = vec![0.0; dimensions];
        for row in rows.chunks_exact(dimensions) {
            for (sum, &value) in delta.iter_mut().zip(row) {
                *sum += f64::from(value);
            }
        }
        let count = images as f64;
        for row in rows.chunks_exact_mut(dimensions) {
            for (value, &sum) in row.iter_mut().zip(&delta) {
                *value = (f64::from(*value) - sum / count) as f32;
            }
        }
        // Nothing is left after the last image is taken out; the statistics are not read then.
        let left = (batch.after() as f64).max(1.0);
        for (sum, mean) in delta.iter_mut().zip(&mut self.mean) {
            let difference = *sum / count - *mean;
            *mean += f64::from(batch.sign) * difference * count / left;
            *sum = difference;
        }
        add_outer_products(&mut self.scatter, rows, dimensions, batch.sign);
        let delta: Vec<f32> = delta.iter().map(|&value| value as f32).collect();
        let weight = f64::from(batch.sign) * batch.before as f64 * count / left;
        add_outer_products(&mut self.scatter, &delta, dimensions, weight as f32);
    }
}

/// Number of entries of the upper triangle of a `dimensions` x `dimensions` matrix.
pub fn triangle(dimensions: usize) -> usize {
    dimensions * (dimensions + 1) / 2
}

/// Entries that a thread sums over all positions at a time.
const SUMMED: usize = 1024;
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
    /// Up to [`BATCH`] images that are still to be taken in: images x positions x dimensions.
    pending: Vec<f16>,
    /// Memory for [`GaussianStatistics::without`].
    rest: Option<Box<GaussianStatistics>>,
}

impl GaussianStatistics {
    /// None yet, of embeddings of this shape.
    ///
    /// # Errors
    /// They would take more than [`LARGEST`] bytes.
    pub fn new(shape: EmbeddingShape) -> Result<Self, FitError> {
        let (dimensions, positions) = (shape.dimensions, shape.positions());
        let bytes = positions * triangle(dimensions) * size_of::<f32>();
        if bytes > LARGEST {
            let entries = 2.0 * LARGEST as f64 / (positions * size_of::<f32>()) as f64;
            return Err(FitError::TooLarge {
                positions,
                dimensions,
                bytes,
                fitting: entries.sqrt() as usize / 10 * 10,
            });
        }
        let position = Position {
            mean: vec![0.0; dimensions],
            scatter: vec![0.0; triangle(dimensions)],
        };
        Ok(Self {
            dimensions,
            count: 0,
            positions: vec![position; positions],
            pending: Vec::new(),
            rest: None,
        })
    }

    /// Adds one image (positions x dimensions).
    pub fn add(&mut self, patches: &[f16]) {
        self.pending.extend_from_slice(patches);
        if self.pending.len() == BATCH * patches.len() {
            self.take_in();
        }
    }

    /// Takes the pending images into the statistics. To be called before reading.
    fn take_in(&mut self) {
        let size = self.positions.len() * self.dimensions;
        let images: Vec<&[f16]> = self.pending.chunks_exact(size.max(1)).collect();
        let batch = Batch {
            images: &images,
            before: self.count,
            sign: 1.0,
        };
        self.count = batch.after();
        let positions = self.positions.par_iter_mut().enumerate();
        positions.for_each_init(Vec::new, |rows, (number, position)| {
            position.update(number, &batch, rows);
        });
        self.pending.clear();
    }

    /// The statistics without the images of one fold of `samples`.
    ///
    /// # Errors
    /// What is left are fewer than the two images that a variance needs.
    pub fn without(&mut self, samples: &Samples, fold: Option<usize>) -> Result<&Self, FitError> {
        self.take_in();
        let statistics = if let Some(fold) = fold {
            let mut rest = match self.rest.take() {
                Some(rest) => rest,
                None => Box::new(self.clone()),
            };
            let held = samples.folds().iter().enumerate();
            let images: Vec<&[f16]> = held
                .filter(|(_, of)| **of == fold)
                .map(|(image, _)| samples.image(image))
                .collect();
            let batch = Batch {
                images: &images,
                before: self.count,
                sign: -1.0,
            };
            rest.count = batch.after();
            let pairs = rest.positions.par_iter_mut().zip(&self.positions);
            let pairs = pairs.enumerate();
            // Position by position, so that each is copied and changed while it is in the cache.
            pairs.for_each_init(Vec::new, |rows, (number, (position, all))| {
                position.clone_from(all);
                position.update(number, &batch, rows);
            });
            self.rest.insert(rest)
        } else {
            &*self
        };
        match statistics.count {
            count @ 0..2 => Err(FitError::TooFewForVariance(count)),
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
        let factor = degrees.recip();
        symmetric(self.dimensions, |entry| f64::from(scatter[entry]) * factor)
    }

    /// The lower triangular H with H + Hᵀ = the covariance of one position: half the work where only products with it are needed.
    /// Only the lower triangle of `half` is written.
    pub fn half_covariance(&self, position: usize, degrees: f64, half: &mut Mat<f64>) {
        let factor = degrees.recip();
        let mut rest = self.scatter(position);
        for i in 0..self.dimensions {
            let (row, after) = rest.split_at(self.dimensions - i);
            rest = after;
            let column = &mut half.col_as_slice_mut(i)[i..];
            for (value, &scatter) in column.iter_mut().zip(row) {
                *value = f64::from(scatter) * factor;
            }
            column[0] *= 0.5;
        }
    }

    /// Mean over positions of their covariances: what varies at one place, whatever the place.
    pub fn pooled_covariance(&self) -> Mat<f64> {
        let degrees = (self.count as f64 - 1.0) * self.positions.len() as f64;
        let mut sums = vec![0.0f64; triangle(self.dimensions)];
        sums.par_chunks_mut(SUMMED)
            .enumerate()
            .for_each(|(chunk, sums)| {
                for position in &self.positions {
                    let values = &position.scatter[chunk * SUMMED..];
                    for (sum, &value) in sums.iter_mut().zip(values) {
                        *sum += f64::from(value);
                    }
                }
            });
        symmetric(self.dimensions, |entry| sums[entry] / degrees)
    }

    /// Scatter matrix of one position (N - 1 times its covariance), upper triangle row by row.
    pub fn scatter(&self, position: usize) -> &[f32] {
        &self.positions[position].scatter
    }
}

/// Makes the tensors of a head from the statistics of good images.
type Fit = fn(&GaussianStatistics, &Cancel) -> Result<Vec<HeadTensor>, FitError>;

/// Gathers the statistics that any Gaussian head is fitted from.
pub struct GaussianFitter {
    statistics: GaussianStatistics,
    fit: Fit,
}

impl GaussianFitter {
    /// # Errors
    /// As [`GaussianStatistics::new`].
    pub fn new(shape: EmbeddingShape, fit: Fit) -> Result<Self, FitError> {
        Ok(Self {
            statistics: GaussianStatistics::new(shape)?,
            fit,
        })
    }
}

impl HeadFitter for GaussianFitter {
    fn add(&mut self, patches: &[f16]) {
        self.statistics.add(patches);
    }

    fn fit(
        &mut self,
        samples: &Samples,
        without: Option<usize>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<HeadTensor>> {
        let statistics = self.statistics.without(samples, without)?;
        Ok((self.fit)(statistics, progress.cancel())?)
    }
}

/// A symmetric matrix from its upper triangle, entry numbers row by row.
fn symmetric(size: usize, entry: impl Fn(usize) -> f64) -> Mat<f64> {
    let mut matrix = Mat::zeros(size, size);
    let mut next = 0;
    for i in 0..size {
        for value in &mut matrix.col_as_slice_mut(i)[i..] {
            *value = entry(next);
            next += 1;
        }
    }
    for i in 1..size {
        for j in 0..i {
            matrix[(j, i)] = matrix[(i, j)];
        }
    }
    matrix
}

/// Upper triangle of `scatter` += `weight` * sum of v vᵀ over the vectors (rows x `dimensions`), four of them in one pass.
#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn add_outer_products(scatter: &mut [f32], vectors: &[f32], dimensions: usize, weight: f32) {
    let mut fours = vectors.chunks_exact(4 * dimensions);
    for four in fours.by_ref() {
        let (a, rest) = four.split_at(dimensions);
        let (b, rest) = rest.split_at(dimensions);
        let (c, d) = rest.split_at(dimensions);
        let mut rest = &mut *scatter;
        for i in 0..dimensions {
            let (row, after) = rest.split_at_mut(dimensions - i);
            rest = after;
            let scales = [a[i], b[i], c[i], d[i]].map(|value| weight * value);
            let values = a[i..].iter().zip(&b[i..]).zip(&c[i..]).zip(&d[i..]);
            for (sum, (((&a, &b), &c), &d)) in row.iter_mut().zip(values) {
                *sum += scales[0] * a + scales[1] * b + (scales[2] * c + scales[3] * d);
            }
        }
    }
    for v in fours.remainder().chunks_exact(dimensions) {
        let mut rest = &mut *scatter;
        for (i, &value) in v.iter().enumerate() {
            let (row, after) = rest.split_at_mut(dimensions - i);
            rest = after;
            let scale = weight * value;
            for (sum, &other) in row.iter_mut().zip(&v[i..]) {
                *sum += scale * other;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::embedding::Embedding;
    use crate::geometry::Size;
    use proptest::prelude::*;

    fn embedding(values: &[f32], dimensions: usize) -> Embedding {
        let mut embedding = Embedding::new(EmbeddingShape {
            dimensions,
            grid: Size::new(1, values.len() / dimensions),
        });
        embedding.values_mut().copy_from_slice(values);
        embedding
    }

    proptest! {
        /// Taking in any number of images and taking some of them out again gives the two-pass mean and covariance of the rest.
        #[test]
        fn equals_the_two_pass_definition(images in prop::collection::vec(prop::collection::vec(-50.0f32..50.0, 6), 4..60), removed in 2usize..60, offset in -100.0f32..100.0) {
            let (dimensions, positions) = (3, 2);
            let shifted: Vec<Vec<f32>> = images.iter().map(|image| image.iter().map(|value| f16::from_f32(value + offset).to_f32()).collect()).collect();
            let shape = embedding(&shifted[0], dimensions).shape();
            let mut statistics = GaussianStatistics::new(shape).unwrap();
            let mut samples = Samples::new(shape, 1 << 20);
            for (index, image) in shifted.iter().enumerate() {
                let patches = embedding(image, dimensions).to_patches();
                statistics.add(&patches);
                samples.add(usize::from(index >= removed), &patches);
            }
            let (without, shifted) = if removed % 2 == 0 { (None, &shifted[..]) } else { (Some(1), &shifted[..removed.min(shifted.len())]) };
            let all = statistics.without(&samples, without).unwrap();
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
