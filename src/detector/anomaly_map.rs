//! From patch scores to the anomaly map: bilinear upsampling and Gaussian smoothing in one pair of matrix products, then regions.

use super::regions::{Region, Regions};
use crate::geometry::Size;
use ndarray::{Array2, ArrayView2};

/// Upsampling (bilinear, pixel centres aligned as in `align_corners = false`) and Gaussian blur (reflected border, cut at 4 sigma, as
/// `scipy.ndimage.gaussian_filter`) are linear and separable: map = A S Bᵀ, with A and B computed once.
#[derive(Debug, Clone)]
pub struct AnomalyMap {
    grid: Size,
    size: Size,
    /// `size.height` x `grid.height` and `grid.width` x `size.width` (already transposed).
    rows: Vec<f32>,
    columns: Vec<f32>,
    /// `grid.height` x `size.width`
    half: Vec<f32>,
    values: Array2<f32>,
    regions: Regions,
}

impl AnomalyMap {
    /// A map of `size` from a patch grid. In map pixels: `sigma` of the blur, 0 for none; `offset`, how
    /// far to the right of and below the centre of its cell a patch looks.
    pub fn new(grid: Size, size: Size, sigma: f32, offset: f32) -> Self {
        let rows = upsample_and_blur(grid.height, size.height, sigma, offset);
        let columns_by_row = upsample_and_blur(grid.width, size.width, sigma, offset);
        let mut columns = vec![0.0; grid.width * size.width];
        for (x, weights) in columns_by_row.chunks_exact(grid.width.max(1)).enumerate() {
            for (patch, &weight) in weights.iter().enumerate() {
                columns[patch * size.width + x] = weight;
            }
        }
        Self {
            grid,
            size,
            rows,
            columns,
            half: vec![0.0; grid.height * size.width],
            values: Array2::zeros((size.height, size.width)),
            regions: Regions::new(size, grid.area()),
        }
    }

    /// Height and width of the patch grid.
    pub fn grid(&self) -> Size {
        self.grid
    }

    pub fn size(&self) -> Size {
        self.size
    }

    /// The map of the last [`AnomalyMap::update`], height x width, row-major.
    pub fn values(&self) -> ArrayView2<'_, f32> {
        self.values.view()
    }

    /// Computes the map of these patch scores (row-major on the grid) and returns its maximum.
    pub fn update(&mut self, patch_scores: &[f32]) -> f32 {
        multiply(
            patch_scores,
            &self.columns,
            &mut self.half,
            self.grid.width,
            self.size.width,
        );
        let values = self.values.as_slice_mut().unwrap_or_default();
        multiply(
            &self.rows,
            &self.half,
            values,
            self.grid.height,
            self.size.width,
        );
        values.iter().copied().fold(f32::NEG_INFINITY, f32::max)
    }

    /// Scales the last map, of which this is the maximum, so that its maximum is `score`; returns the maximum as it then is.
    pub fn scale_to(&mut self, maximum: f32, score: f32) -> f32 {
        if maximum <= 0.0 {
            return score;
        }
        let factor = score / maximum;
        self.values.iter_mut().for_each(|value| *value *= factor);
        maximum * factor
    }

    /// The 8-connected parts of the last map above `threshold`, strongest first.
    pub fn regions(&mut self, threshold: f32) -> &[Region] {
        self.regions.find(self.values.view(), threshold)
    }
}

/// `out` (rows x columns) = `a` (rows x inner) times `b` (inner x columns).
#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn multiply(a: &[f32], b: &[f32], out: &mut [f32], inner: usize, columns: usize) {
    for (a, out) in a.chunks_exact(inner).zip(out.chunks_exact_mut(columns)) {
        out.fill(0.0);
        for (&weight, b) in a.iter().zip(b.chunks_exact(columns)) {
            // A blurred row of weights is mostly zero.
            if weight != 0.0 {
                for (out, &value) in out.iter_mut().zip(b) {
                    *out += weight * value;
                }
            }
        }
    }
}

/// `size` x `patches` weights.
fn upsample_and_blur(patches: usize, size: usize, sigma: f32, offset: f32) -> Vec<f32> {
    let mut upsample = vec![0.0f64; size * patches];
    for (pixel, weights) in upsample.chunks_exact_mut(patches.max(1)).enumerate() {
        let centre = ((pixel as f64 + 0.5 - f64::from(offset)) * patches as f64 / size as f64
            - 0.5)
            .clamp(0.0, patches as f64 - 1.0);
        let left = centre.floor() as usize;
        let right = (left + 1).min(patches - 1);
        weights[left] += 1.0 - (centre - left as f64);
        weights[right] += centre - left as f64;
    }
    if sigma <= 0.0 {
        return upsample.iter().map(|&weight| weight as f32).collect();
    }
    let radius = (4.0 * f64::from(sigma) + 0.5) as i64;
    let kernel: Vec<f64> = (-radius..=radius)
        .map(|offset| (-0.5 * (offset as f64 / f64::from(sigma)).powi(2)).exp())
        .collect();
    let total: f64 = kernel.iter().sum();
    let mut blurred = vec![0.0f64; size * patches];
    for (pixel, weights) in blurred.chunks_exact_mut(patches).enumerate() {
        for (offset, tap) in (-radius..=radius).zip(&kernel) {
            let source = reflect(pixel as i64 + offset, size as i64);
            for (weight, up) in weights.iter_mut().zip(&upsample[source * patches..]) {
                *weight += tap / total * up;
            }
        }
    }
    blurred.iter().map(|&weight| weight as f32).collect()
}

/// Mirrors an index about the edges of the first and last pixel: (d c b a | a b c d | d c b a).
fn reflect(index: i64, size: i64) -> usize {
    let folded = index.rem_euclid(2 * size);
    folded.min(2 * size - 1 - folded) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn constant_scores_stay_constant_and_edges_keep_their_weight() {
        let mut map = AnomalyMap::new(Size::square(14), Size::square(112), 4.0, 1.5);
        let score = map.update(&[2.5; 196]);
        assert!((score - 2.5).abs() < 1e-5);
        assert!(map.values().iter().all(|value| (value - 2.5).abs() < 1e-5));
    }

    #[test]
    fn regions_are_boxes_around_what_is_above() {
        let mut map = AnomalyMap::new(Size::square(4), Size::square(4), 0.0, 0.0);
        #[rustfmt::skip]
        map.update(&[
            5.0, 0.0, 0.0, 0.0,
            0.0, 6.0, 0.0, 0.0,
            0.0, 0.0, 0.0, 0.0,
            0.0, 0.0, 3.0, 9.0,
        ]);
        let regions = map.regions(2.0).to_vec();
        assert_eq!(regions.len(), 2, "diagonal neighbours belong together");
        assert_eq!(
            regions[0],
            Region {
                x: 0.5,
                y: 0.75,
                width: 0.5,
                height: 0.25,
                score: 9.0
            }
        );
        assert_eq!(
            regions[1],
            Region {
                x: 0.0,
                y: 0.0,
                width: 0.5,
                height: 0.5,
                score: 6.0
            }
        );
        assert!(
            map.regions(9.0).is_empty(),
            "equal to the threshold is not above"
        );
    }

    proptest! {
        /// Against the definition, pixel by pixel: bilinear interpolation, then a direct two-dimensional Gaussian.
        #[test]
        fn equals_interpolation_then_blur(scores in prop::collection::vec(0.0f32..10.0, 12), sigma in 0.3f32..2.0, offset in -3.0f32..3.0) {
            let (grid, size) = (Size::new(3, 4), Size::new(12, 16));
            let mut map = AnomalyMap::new(grid, size, sigma, offset);
            let top = map.update(&scores);
            let at = |y: i64, x: i64| {
                let (y, x) = (reflect(y, size.height as i64), reflect(x, size.width as i64));
                let fy = ((y as f64 + 0.5 - f64::from(offset)) / 4.0 - 0.5).clamp(0.0, 2.0);
                let fx = ((x as f64 + 0.5 - f64::from(offset)) / 4.0 - 0.5).clamp(0.0, 3.0);
                let (y0, x0) = (fy as usize, fx as usize);
                let (y1, x1) = ((y0 + 1).min(2), (x0 + 1).min(3));
                let s = |y: usize, x: usize| f64::from(scores[y * 4 + x]);
                let (wy, wx) = (fy - y0 as f64, fx - x0 as f64);
                (1.0 - wy) * ((1.0 - wx) * s(y0, x0) + wx * s(y0, x1)) + wy * ((1.0 - wx) * s(y1, x0) + wx * s(y1, x1))
            };
            let radius = (4.0 * f64::from(sigma) + 0.5) as i64;
            let mut largest = 0.0f64;
            for y in 0..size.height {
                for x in 0..size.width {
                    let (mut sum, mut weights) = (0.0, 0.0);
                    for dy in -radius..=radius {
                        for dx in -radius..=radius {
                            let weight = (-0.5 * ((dy * dy + dx * dx) as f64) / f64::from(sigma).powi(2)).exp();
                            sum += weight * at(y as i64 + dy, x as i64 + dx);
                            weights += weight;
                        }
                    }
                    let expected = sum / weights;
                    largest = largest.max(expected);
                    prop_assert!((f64::from(map.values()[[y, x]]) - expected).abs() < 1e-4, "pixel {x},{y}");
                }
            }
            prop_assert!((f64::from(top) - largest).abs() < 1e-4);
        }
    }
}
