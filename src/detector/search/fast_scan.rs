//! The nearest decoded vector of a product-quantised bank, exactly, without looking at most of the bank.
//!
//! The 256 centroids of each subspace are put into 16 groups of 16 that lie close together. The distance of the query's part to the
//! nearest centroid of a group is a lower bound for all of them, and 16 such bounds in 8 bits fit into a vector register: one shuffle
//! looks up 16 or 32 codes at once (the "fast scan" of André, Kermarrec, Le Scouarnec 2015, here with bounds in place of coarser
//! codes). Only vectors whose bound is not above the best distance so far are looked at, with the distances as they are.

use super::product_quantizer::ProductQuantizer;

/// Centroids per subspace, and groups that they are put in.
const CENTROIDS: usize = 256;
const GROUPS: usize = 16;
/// Vectors that are scanned together.
const BLOCK: usize = 32;
/// Largest bound that can still win, in 8 bits; the rest is for what rounding may have added.
const LIMIT: f32 = 253.0;

/// A bank prepared for the search.
pub struct FastScan {
    subspaces: usize,
    /// Length of a subvector.
    length: usize,
    /// m x length x 256: codebooks, dimension by dimension, so that all centroids are worked on side by side.
    codebooks: Vec<f32>,
    /// rows x m
    codes: Vec<u8>,
    /// blocks x m/2 x [`BLOCK`]: the groups of two subspaces in the halves of a byte.
    groups: Vec<[u8; BLOCK]>,
    /// m x 256: squared distances of the query's parts to all centroids
    tables: Vec<f32>,
    /// m: lower bounds by group, and the same in 8 bits
    bounds: Vec<[f32; GROUPS]>,
    bytes: Vec<[u8; GROUPS]>,
    /// The last query and its neighbour: the next one is often alike.
    query: Vec<f32>,
    nearest: usize,
}

impl FastScan {
    /// `codes`: rows x m. `None` where the quantiser has not 256 centroids in each of an even number of subspaces, or nothing is stored.
    pub fn new(quantizer: &ProductQuantizer, codes: &[u8]) -> Option<Self> {
        let subspaces = quantizer.subspaces();
        let length = quantizer.dimensions() / subspaces;
        let rows = codes.len() / subspaces;
        if quantizer.count() != CENTROIDS || !subspaces.is_multiple_of(2) || rows == 0 {
            return None;
        }
        let mut codebooks = vec![0.0; subspaces * length * CENTROIDS];
        let mut renamed = vec![[0u8; CENTROIDS]; subspaces];
        for (subspace, codebook) in codebooks.chunks_exact_mut(length * CENTROIDS).enumerate() {
            let centroids: Vec<&[f32]> = quantizer.codebook(subspace).collect();
            for (group, members) in groups(&centroids).iter().enumerate() {
                for (member, &centroid) in members.iter().enumerate() {
                    // Members of a group stand 16 apart: the bounds of all groups are found side by side.
                    let place = member * GROUPS + group;
                    renamed[subspace][centroid] = place as u8;
                    for (dimension, &value) in centroids[centroid].iter().enumerate() {
                        codebook[dimension * CENTROIDS + place] = value;
                    }
                }
            }
        }
        let codes: Vec<u8> = codes
            .iter()
            .zip((0..subspaces).cycle())
            .map(|(&code, subspace)| renamed[subspace][usize::from(code)])
            .collect();
        let mut packed = vec![[0u8; BLOCK]; rows.div_ceil(BLOCK) * (subspaces / 2)];
        for (row, codes) in codes.chunks_exact(subspaces).enumerate() {
            let block = &mut packed[row / BLOCK * (subspaces / 2)..];
            for (pair, codes) in block.iter_mut().zip(codes.chunks_exact(2)) {
                let [low, high] = [0, 1].map(|half| codes[half] % GROUPS as u8);
                pair[row % BLOCK] = low | high << 4;
            }
        }
        Some(Self {
            subspaces,
            length,
            codebooks,
            codes,
            groups: packed,
            tables: vec![0.0; subspaces * CENTROIDS],
            bounds: vec![[0.0; GROUPS]; subspaces],
            bytes: vec![[0; GROUPS]; subspaces],
            // Differs from every query, so that the first one fills all tables.
            query: vec![f32::NAN; subspaces * length],
            nearest: 0,
        })
    }

    /// Squared distance of the query to the nearest decoded vector.
    pub fn nearest(&mut self, query: &[f32]) -> f32 {
        let parts = query
            .chunks_exact(self.length)
            .zip(self.query.chunks_exact_mut(self.length));
        let tables = self
            .codebooks
            .chunks_exact(self.length * CENTROIDS)
            .zip(self.tables.chunks_exact_mut(CENTROIDS))
            .zip(&mut self.bounds);
        for ((part, last), ((codebook, table), bounds)) in parts.zip(tables) {
            // Features of a coarser tap repeat from patch to patch.
            if part != last {
                last.copy_from_slice(part);
                fill_table(codebook, part, table, bounds);
            }
        }
        let mut best = self.distance(self.nearest);

        let lows = self.bounds.iter().map(lowest);
        let total: f32 = lows.clone().sum();
        let step = ((best - total) / LIMIT).max(f32::MIN_POSITIVE);
        for ((bytes, bounds), low) in self.bytes.iter_mut().zip(&self.bounds).zip(lows) {
            for (byte, bound) in bytes.iter_mut().zip(bounds) {
                // Rounds down, and saturates.
                *byte = ((bound - low) / step) as u8;
            }
        }
        let limit = |best: f32| ((best - total) / step + 1.0) as u8;
        let mut at_most = limit(best);
        let pairs = self.subspaces / 2;
        for block in 0..self.groups.len() / pairs {
            let groups = &self.groups[block * pairs..][..pairs];
            let mut left = scan(groups, &self.bytes, at_most);
            while left != 0 {
                let row = block * BLOCK + left.trailing_zeros() as usize;
                left &= left - 1;
                // The last block is filled up with rows that are not there.
                if row * self.subspaces >= self.codes.len() {
                    break;
                }
                let distance = self.distance(row);
                if distance < best {
                    (best, self.nearest) = (distance, row);
                    at_most = limit(best);
                }
            }
        }
        best
    }

    fn distance(&self, row: usize) -> f32 {
        self.codes[row * self.subspaces..][..self.subspaces]
            .iter()
            .zip(self.tables.as_chunks::<CENTROIDS>().0)
            .map(|(&code, table)| table[usize::from(code)])
            .sum()
    }
}

fn lowest(bounds: &[f32; GROUPS]) -> f32 {
    bounds.iter().copied().fold(f32::INFINITY, f32::min)
}

/// Squared distances of a part of the query to all centroids, and the smallest of each group.
#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn fill_table(codebook: &[f32], part: &[f32], table: &mut [f32], bounds: &mut [f32; GROUPS]) {
    let (table, _) = table.as_chunks_mut::<64>();
    for (quarter, table) in table.iter_mut().enumerate() {
        let mut sums = [0.0f32; 64];
        for (&value, row) in part.iter().zip(codebook.chunks_exact(CENTROIDS)) {
            let row = &row[quarter * 64..][..64];
            for (sum, &centroid) in sums.iter_mut().zip(row) {
                *sum += (value - centroid) * (value - centroid);
            }
        }
        *table = sums;
    }
    *bounds = [f32::INFINITY; GROUPS];
    for members in table.as_flattened().as_chunks::<GROUPS>().0 {
        for (bound, &distance) in bounds.iter_mut().zip(members) {
            *bound = bound.min(distance);
        }
    }
}

/// One bit for each vector of a block: whether the saturated sum of its groups' bounds is at most `at_most`.
fn scan(groups: &[[u8; BLOCK]], bounds: &[[u8; GROUPS]], at_most: u8) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { scan_avx2(groups, bounds, at_most) };
    }
    #[cfg(target_arch = "aarch64")]
    if std::arch::is_aarch64_feature_detected!("neon") {
        // SAFETY: the processor has NEON.
        return unsafe { scan_neon(groups, bounds, at_most) };
    }
    scan_scalar(groups, bounds, at_most)
}

/// The reference.
fn scan_scalar(groups: &[[u8; BLOCK]], bounds: &[[u8; GROUPS]], at_most: u8) -> u32 {
    let mut left = 0;
    for vector in 0..BLOCK {
        let mut sum = 0u8;
        for (pair, bounds) in groups.iter().zip(bounds.chunks_exact(2)) {
            sum = sum
                .saturating_add(bounds[0][usize::from(pair[vector] & 15)])
                .saturating_add(bounds[1][usize::from(pair[vector] >> 4)]);
        }
        left |= u32::from(sum <= at_most) << vector;
    }
    left
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn scan_avx2(groups: &[[u8; BLOCK]], bounds: &[[u8; GROUPS]], at_most: u8) -> u32 {
    use std::arch::x86_64::*;
    let nibble = _mm256_set1_epi8(15);
    let mut sum = _mm256_setzero_si256();
    for (pair, bounds) in groups.iter().zip(bounds.chunks_exact(2)) {
        // SAFETY: arrays of 32 and of 16 bytes are read whole; unaligned loads ask for no alignment.
        let (pair, low, high) = unsafe {
            (
                _mm256_loadu_si256(pair.as_ptr().cast()),
                _mm_loadu_si128(bounds[0].as_ptr().cast()),
                _mm_loadu_si128(bounds[1].as_ptr().cast()),
            )
        };
        let low = _mm256_shuffle_epi8(
            _mm256_broadcastsi128_si256(low),
            _mm256_and_si256(pair, nibble),
        );
        let high = _mm256_shuffle_epi8(
            _mm256_broadcastsi128_si256(high),
            _mm256_and_si256(_mm256_srli_epi16::<4>(pair), nibble),
        );
        sum = _mm256_adds_epu8(_mm256_adds_epu8(sum, low), high);
    }
    let at_most = _mm256_set1_epi8(at_most as i8);
    _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_min_epu8(sum, at_most), sum)) as u32
}

#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn scan_neon(groups: &[[u8; BLOCK]], bounds: &[[u8; GROUPS]], at_most: u8) -> u32 {
    use std::arch::aarch64::*;
    let mut left = 0;
    for half in 0..2 {
        let mut sum = vdupq_n_u8(0);
        for (pair, bounds) in groups.iter().zip(bounds.chunks_exact(2)) {
            // SAFETY: 16 of 32 bytes from 0 or 16 on, and arrays of 16 bytes, are read.
            let (pair, low, high) = unsafe {
                (
                    vld1q_u8(pair.as_ptr().add(half * 16)),
                    vld1q_u8(bounds[0].as_ptr()),
                    vld1q_u8(bounds[1].as_ptr()),
                )
            };
            sum = vqaddq_u8(sum, vqtbl1q_u8(low, vandq_u8(pair, vdupq_n_u8(15))));
            sum = vqaddq_u8(sum, vqtbl1q_u8(high, vshrq_n_u8::<4>(pair)));
        }
        let hits = vcleq_u8(sum, vdupq_n_u8(at_most));
        let mut lanes = [0u8; 16];
        // SAFETY: an array of 16 bytes is written.
        unsafe { vst1q_u8(lanes.as_mut_ptr(), hits) };
        for (lane, &hit) in lanes.iter().enumerate() {
            left |= u32::from(hit & 1) << (half * 16 + lane);
        }
    }
    left
}

/// 16 groups of 16 centroids: halved four times at the median of the dimension that varies most.
fn groups(centroids: &[&[f32]]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = vec![(0..centroids.len()).collect()];
    while groups.len() < GROUPS {
        groups = groups
            .into_iter()
            .flat_map(|mut group| {
                let length = centroids.first().map_or(0, |centroid| centroid.len());
                let spread = |dimension: usize| {
                    let values = || group.iter().map(|&index| centroids[index][dimension]);
                    let mean = values().sum::<f32>() / group.len() as f32;
                    values().map(|value| (value - mean).powi(2)).sum::<f32>()
                };
                let widest = (0..length).max_by(|&a, &b| spread(a).total_cmp(&spread(b)));
                let widest = widest.unwrap_or(0);
                group.sort_by(|&a, &b| centroids[a][widest].total_cmp(&centroids[b][widest]));
                let upper = group.split_off(group.len() / 2);
                [group, upper]
            })
            .collect();
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::progress::Cancel;
    use crate::detector::search::distance::squared_distance;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        /// Against brute force over the decoded bank, for queries near the bank, far from it, and repeated.
        #[test]
        fn finds_the_nearest_decoded_vector(seed in 0u64..1000, rows in 1usize..600, far in 0.0f32..30.0) {
            let (dimensions, subspaces) = (12, 4);
            let mut random = fastrand::Rng::with_seed(seed);
            let mut vectors = |count: usize, spread: f32| -> Vec<f32> {
                (0..count * dimensions).map(|_| spread * (random.f32() - 0.5)).collect()
            };
            let bank = vectors(rows, 4.0);
            let mut queries = vectors(20, 4.0 + far);
            // Parts that stay, as those of a coarser tap do.
            let first: Vec<f32> = queries[..6].to_vec();
            queries[dimensions..][..6].copy_from_slice(&first);
            let quantizer = ProductQuantizer::fit(&bank, dimensions, subspaces, 8, seed, &Cancel::default()).unwrap();
            let mut codes = vec![0; rows * subspaces];
            for (vector, codes) in bank.chunks_exact(dimensions).zip(codes.chunks_exact_mut(subspaces)) {
                quantizer.encode(vector, codes);
            }
            let decoded: Vec<f32> = codes.iter().zip((0..subspaces).cycle())
                .flat_map(|(&code, subspace)| quantizer.codebook(subspace).nth(usize::from(code)).unwrap().to_vec())
                .collect();
            let mut scan = FastScan::new(&quantizer, &codes).unwrap();
            for query in queries.chunks_exact(dimensions) {
                let expected = decoded.chunks_exact(dimensions).map(|v| squared_distance(v, query)).fold(f32::INFINITY, f32::min);
                let found = scan.nearest(query);
                prop_assert!((found - expected).abs() <= 1e-5 * (1.0 + expected), "{} instead of {}", found, expected);
            }
        }

        /// The form for this processor against the reference.
        #[test]
        fn scans_as_the_reference(
            groups in prop::collection::vec(prop::array::uniform32(any::<u8>()), 4),
            bounds in prop::collection::vec(prop::array::uniform16(any::<u8>()), 8),
            shift in 0u32..6,
            at_most in any::<u8>(),
        ) {
            let bounds: Vec<[u8; GROUPS]> = bounds.iter().map(|row| row.map(|bound| bound >> shift)).collect();
            prop_assert_eq!(scan(&groups, &bounds, at_most), scan_scalar(&groups, &bounds, at_most));
        }
    }
}
