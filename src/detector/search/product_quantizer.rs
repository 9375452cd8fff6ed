//! Product quantisation (Jégou, Douze, Schmid 2011): a vector is cut into `m` subvectors, and each is stored as the number of its
//! nearest of 2^b centroids.

use super::distance::{Bank, LANES, Lanes, squared_distance};
use crate::detector::error::FitError;
use crate::detector::progress::Cancel;
use rayon::prelude::*;

/// Rounds of Lloyd's algorithm; further ones change the error by less than a thousandth.
const ROUNDS: usize = 25;
/// Vectors per centroid that k-means looks at, as in faiss.
const SAMPLES_PER_CENTROID: usize = 256;

/// The codebooks of all subspaces.
#[derive(Debug, Clone, PartialEq)]
pub struct ProductQuantizer {
    subspaces: usize,
    /// Length of a subvector.
    length: usize,
    /// subspaces x centroids x length
    centroids: Vec<f32>,
}

impl ProductQuantizer {
    /// Fits codebooks of 2^`bits` (1 to 8) to vectors (rows x `dimensions`, divisible by `subspaces`): k-means in each subspace, from
    /// k-means++ seeds.
    ///
    /// # Errors
    /// An end that was asked for.
    pub fn fit(
        vectors: &[f32],
        dimensions: usize,
        subspaces: usize,
        bits: u32,
        seed: u64,
        cancel: &Cancel,
    ) -> Result<Self, FitError> {
        let (length, count) = (dimensions / subspaces, 1 << bits);
        let rows = vectors.len() / dimensions;
        let step = rows.div_ceil(SAMPLES_PER_CENTROID * count).max(1);
        let codebooks: Vec<Vec<f32>> = (0..subspaces)
            .into_par_iter()
            .map(|subspace| {
                let part: Vec<f32> = vectors
                    .chunks_exact(dimensions)
                    .step_by(step)
                    .flat_map(|v| v[subspace * length..][..length].iter().copied())
                    .collect();
                let seed = seed.wrapping_add(subspace as u64);
                k_means(&part, length, count, seed, cancel)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            subspaces,
            length,
            centroids: codebooks.concat(),
        })
    }

    /// From stored centroids (subspaces x centroids x length).
    pub fn from_centroids(centroids: Vec<f32>, subspaces: usize, length: usize) -> Self {
        Self {
            subspaces,
            length,
            centroids,
        }
    }

    pub fn dimensions(&self) -> usize {
        self.subspaces * self.length
    }

    /// m
    pub fn subspaces(&self) -> usize {
        self.subspaces
    }

    /// Centroids per subspace.
    pub fn count(&self) -> usize {
        self.centroids.len() / self.dimensions()
    }

    pub fn centroids(&self) -> &[f32] {
        &self.centroids
    }

    /// The centroids of one subspace.
    pub fn codebook(&self, subspace: usize) -> std::slice::ChunksExact<'_, f32> {
        let size = self.count() * self.length;
        self.centroids[subspace * size..][..size].chunks_exact(self.length)
    }

    /// The subvector of a vector.
    pub fn part<'a>(&self, vector: &'a [f32], subspace: usize) -> &'a [f32] {
        &vector[subspace * self.length..][..self.length]
    }

    /// Writes the codes of a vector, one per subspace.
    pub fn encode(&self, vector: &[f32], codes: &mut [u8]) {
        for (subspace, code) in codes.iter_mut().enumerate() {
            *code = nearest(self.part(vector, subspace), self.codebook(subspace)).0 as u8;
        }
    }
}

/// Index and squared distance of the centroid nearest to `part`.
fn nearest(part: &[f32], centroids: std::slice::ChunksExact<'_, f32>) -> (usize, f32) {
    let mut best = (0, f32::INFINITY);
    for (index, centroid) in centroids.enumerate() {
        let distance = squared_distance(part, centroid);
        if distance < best.1 {
            best = (index, distance);
        }
    }
    best
}

/// Lloyd's algorithm on `part` (rows x `length`), seeded by k-means++ (Arthur and Vassilvitskii 2007). A cluster that runs empty takes
/// the vector that its centroid serves worst. Where there are fewer rows than centroids, some centroids repeat.
fn k_means(
    part: &[f32],
    length: usize,
    count: usize,
    seed: u64,
    cancel: &Cancel,
) -> Result<Vec<f32>, FitError> {
    let row = |index: usize| &part[index * length..][..length];
    let rows = part.len() / length;
    // SplitMix64, and no other generator: that would be other codebooks, and other scores than those of models fitted before.
    let mut state = seed ^ 0x9E37_79B9_7F4A_7C15;
    let mut uniform = move || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };

    let mut centroids = row((uniform() * rows as f64) as usize).to_vec();
    let mut distances: Vec<f32> = (0..rows)
        .map(|index| squared_distance(row(index), &centroids))
        .collect();
    while centroids.len() < count * length {
        cancel.check()?;
        let total: f64 = distances.iter().map(|&distance| f64::from(distance)).sum();
        let mut left = uniform() * total;
        let next = distances
            .iter()
            .position(|&distance| {
                left -= f64::from(distance);
                left < 0.0
            })
            .unwrap_or(rows - 1);
        let new = row(next).to_vec();
        for (index, distance) in distances.iter_mut().enumerate() {
            *distance = distance.min(squared_distance(row(index), &new));
        }
        centroids.extend(new);
    }

    let panels: Vec<Vec<Lanes>> = part
        .chunks(LANES * length)
        .map(|rows| {
            let mut panel = vec![[0.0; LANES]; length];
            for (lane, row) in rows.chunks_exact(length).enumerate() {
                for (values, &value) in panel.iter_mut().zip(row) {
                    values[lane] = value;
                }
            }
            panel
        })
        .collect();
    for _ in 0..ROUNDS {
        cancel.check()?;
        let mut sums = vec![0.0f64; count * length];
        let mut counts = vec![0usize; count];
        let mut worst: Vec<(f32, usize)> = Vec::with_capacity(rows);
        let mut bank = Bank::new(centroids.clone(), length);
        for (block, panel) in panels.iter().enumerate() {
            let (distances, nearest) = bank.nearest(panel);
            let first = block * LANES;
            for lane in 0..LANES.min(rows - first) {
                let (index, centroid) = (first + lane, nearest[lane] as usize);
                counts[centroid] += 1;
                worst.push((distances[lane], index));
                for (sum, &value) in sums[centroid * length..][..length]
                    .iter_mut()
                    .zip(row(index))
                {
                    *sum += f64::from(value);
                }
            }
        }
        if counts.contains(&0) {
            worst.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        }
        let mut worst = worst.into_iter();
        for (centroid, &count) in counts.iter().enumerate() {
            let target = &mut centroids[centroid * length..][..length];
            if count > 0 {
                for (value, sum) in target.iter_mut().zip(&sums[centroid * length..]) {
                    *value = (sum / count as f64) as f32;
                }
            } else if let Some((_, index)) = worst.next() {
                target.copy_from_slice(row(index));
            }
        }
    }
    Ok(centroids)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that `codes` stand for.
    fn decode(quantizer: &ProductQuantizer, codes: &[u8]) -> Vec<f32> {
        let part = |(subspace, &code): (usize, &u8)| {
            quantizer
                .codebook(subspace)
                .nth(usize::from(code))
                .unwrap()
                .to_vec()
        };
        codes.iter().enumerate().flat_map(part).collect()
    }

    fn vectors(rows: usize, dimensions: usize) -> Vec<f32> {
        let mut state = 3u64;
        (0..rows * dimensions)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 24) as f32
            })
            .collect()
    }

    #[test]
    fn few_distinct_vectors_are_stored_exactly() {
        let vectors = vectors(200, 8);
        let quantizer = ProductQuantizer::fit(&vectors, 8, 2, 8, 0, &Cancel::default()).unwrap();
        let mut codes = [0; 2];
        for vector in vectors.chunks_exact(8) {
            quantizer.encode(vector, &mut codes);
            assert!(squared_distance(vector, &decode(&quantizer, &codes)) < 1e-10);
        }
    }

    #[test]
    fn codes_are_those_of_the_nearest_centroids() {
        let vectors = vectors(3000, 6);
        let quantizer = ProductQuantizer::fit(&vectors, 6, 3, 8, 1, &Cancel::default()).unwrap();
        let mut codes = [0; 3];
        for vector in vectors.chunks_exact(6).take(200) {
            quantizer.encode(vector, &mut codes);
            for (subspace, &code) in codes.iter().enumerate() {
                let part = quantizer.part(vector, subspace);
                let distances: Vec<f32> = quantizer
                    .codebook(subspace)
                    .map(|centroid| squared_distance(part, centroid))
                    .collect();
                let own = distances[usize::from(code)];
                assert!(distances.iter().all(|&other| own <= other));
            }
        }
    }
}
