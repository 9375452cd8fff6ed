//! Squared Euclidean distances of many queries to many vectors, and the dot-product kernel under them.
//!
//! Queries stand side by side in *lanes*: a panel is dimensions x [`LANES`] numbers, so that one number of a bank vector meets
//! [`LANES`] queries at once, in two AVX2 or four NEON registers, and no sum runs across a register.

/// Queries that are worked on together.
pub const LANES: usize = 16;
/// Vectors whose sums are kept in registers at a time.
pub const ROWS: usize = 4;
/// One number for each query of a panel.
pub type Lanes = [f32; LANES];

/// Copies the queries `first..first + LANES` out of `values` (dimensions x `positions`) into a panel. Lanes beyond the last position
/// keep what they held.
pub fn gather_panel(values: &[f32], positions: usize, first: usize, panel: &mut [Lanes]) {
    let count = LANES.min(positions - first);
    for (panel, row) in panel.iter_mut().zip(values.chunks_exact(positions)) {
        panel[..count].copy_from_slice(&row[first..first + count]);
    }
}

/// `out[row]` = dot products of vector `row` (of `vectors`, rows x dimensions) with the panel's queries. The number of rows is a
/// multiple of [`ROWS`].
#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
pub fn dot_products(vectors: &[f32], panel: &[Lanes], out: &mut [Lanes]) {
    let dimensions = panel.len();
    let (rows, _) = out.as_chunks_mut::<ROWS>();
    for (vectors, rows) in vectors.chunks_exact(ROWS * dimensions).zip(rows) {
        let mut sums = [[0.0f32; LANES]; ROWS];
        let (a, rest) = vectors.split_at(dimensions);
        let (b, rest) = rest.split_at(dimensions);
        let (c, d) = rest.split_at(dimensions);
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

/// Vectors prepared for nearest-neighbour search.
#[derive(Debug, Clone)]
pub struct Bank {
    dimensions: usize,
    count: usize,
    /// count (rounded up to whole [`ROWS`]) x dimensions
    vectors: Vec<f32>,
    /// Half the squared length of each vector; infinite for those that only fill up.
    half_norms: Vec<f32>,
    products: Vec<Lanes>,
}

/// Rows whose products are kept at a time: they stay in the first-level cache together with the panel.
const TILE: usize = 64;

impl Bank {
    /// `vectors`: count x `dimensions`.
    pub fn new(mut vectors: Vec<f32>, dimensions: usize) -> Self {
        let count = vectors.len() / dimensions.max(1);
        let mut half_norms: Vec<f32> = vectors
            .chunks_exact(dimensions)
            .map(|v| 0.5 * v.iter().map(|x| x * x).sum::<f32>())
            .collect();
        vectors.resize(count.next_multiple_of(ROWS) * dimensions, 0.0);
        half_norms.resize(count.next_multiple_of(ROWS), f32::INFINITY);
        Self {
            dimensions,
            count,
            vectors,
            half_norms,
            products: vec![[0.0; LANES]; TILE],
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn vector(&self, index: usize) -> &[f32] {
        &self.vectors[index * self.dimensions..][..self.dimensions]
    }

    /// The nearest vector of each of the panel's queries: squared distances and indices. The first one wins among equals.
    pub fn nearest(&mut self, panel: &[Lanes]) -> (Lanes, [u32; LANES]) {
        // |q - v|² = |q|² + 2 (|v|²/2 - q·v): the smallest second part is the nearest.
        let mut best = [f32::INFINITY; LANES];
        let mut index = [0u32; LANES];
        let tiles = self
            .vectors
            .chunks(TILE * self.dimensions)
            .zip(self.half_norms.chunks(TILE));
        for (tile, (vectors, half_norms)) in tiles.enumerate() {
            let products = &mut self.products[..half_norms.len()];
            dot_products(vectors, panel, products);
            smallest(
                products,
                half_norms,
                (tile * TILE) as u32,
                &mut best,
                &mut index,
            );
        }
        let mut squared = [0.0f32; LANES];
        for row in panel {
            for lane in 0..LANES {
                squared[lane] += row[lane] * row[lane];
            }
        }
        for lane in 0..LANES {
            squared[lane] = (squared[lane] + 2.0 * best[lane]).max(0.0);
        }
        (squared, index)
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn smallest(
    products: &[Lanes],
    half_norms: &[f32],
    first: u32,
    best: &mut Lanes,
    index: &mut [u32; LANES],
) {
    for ((row, products), &half_norm) in (first..).zip(products).zip(half_norms) {
        for lane in 0..LANES {
            let value = half_norm - products[lane];
            let closer = value < best[lane];
            best[lane] = if closer { value } else { best[lane] };
            index[lane] = if closer { row } else { index[lane] };
        }
    }
}

/// Squared Euclidean distance, the definition.
pub fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nearest_equals_the_definition(
            dimensions in 1usize..40,
            count in 1usize..150,
            seed in any::<u64>(),
        ) {
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            };
            let vectors: Vec<f32> = (0..count * dimensions).map(|_| next()).collect();
            let panel: Vec<Lanes> = (0..dimensions).map(|_| std::array::from_fn(|_| next())).collect();
            let mut bank = Bank::new(vectors.clone(), dimensions);
            let (squared, index) = bank.nearest(&panel);
            for lane in 0..LANES {
                let query: Vec<f32> = panel.iter().map(|row| row[lane]).collect();
                let distances: Vec<f32> = vectors.chunks_exact(dimensions).map(|v| squared_distance(&query, v)).collect();
                let smallest = distances.iter().copied().fold(f32::INFINITY, f32::min);
                prop_assert!((squared[lane] - smallest).abs() < 1e-4);
                prop_assert!((distances[index[lane] as usize] - smallest).abs() < 1e-4);
            }
        }
    }
}
