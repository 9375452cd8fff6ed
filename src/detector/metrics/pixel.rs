//! How well maps tell defective pixels from good ones, and how much of each defect they mark.
//!
//! Images come as pairs of a map and a mask of the same shape, height x width; the mask is true where the image is defective.

use super::CurvePoint;
use super::ranking::Ranking;
use crate::detector::flood::Flood;
use crate::geometry::Size;
use ndarray::ArrayView2;

/// The literature integrates the PRO curve up to this false positive rate (Bergmann et al. 2021).
pub const AUPRO_LIMIT: f64 = 0.3;

/// AUROC over the pixels of all images together; good images take part with masks that are false throughout.
///
/// Takes image after image, so that they need not be in memory at once; what is kept is 4 bytes for each good pixel and 8 for each
/// defective one.
///
/// # Panics
/// If a mask has another shape than its map.
pub fn pixel_auroc<'a>(
    images: impl IntoIterator<Item = (ArrayView2<'a, f32>, ArrayView2<'a, bool>)>,
) -> Option<f64> {
    let pixels = images.into_iter().flat_map(|(map, mask)| {
        assert_eq!(map.dim(), mask.dim(), "map and mask");
        let regions = mask.into_iter().map(|defective| defective.then_some(0));
        map.into_iter().copied().zip(regions)
    });
    Ranking::of(pixels)?.auroc()
}

/// Area under the PRO curve (see [`pro_curve`]) up to `max_fpr` of the good pixels, divided by `max_fpr` so that it lies in 0..1.
///
/// The curve is cut at `max_fpr` by linear interpolation. `None` without a defective or without a good pixel.
///
/// # Panics
/// If a mask has another shape than its map, or `max_fpr` is outside 0..=1 or 0.
pub fn aupro<'a>(
    images: impl IntoIterator<Item = (ArrayView2<'a, f32>, ArrayView2<'a, bool>)>,
    max_fpr: f64,
) -> Option<f64> {
    assert!(max_fpr > 0.0 && max_fpr <= 1.0, "max_fpr {max_fpr}");
    let (ranking, sizes) = by_region(images)?;
    let (mut area, mut last_fpr, mut last_pro) = (0.0, 0.0, 0.0);
    for point in ranking.overlap_curve(&sizes)? {
        let (fpr, pro) = (point.false_positive_rate, point.recall);
        if fpr >= max_fpr {
            // Vertical steps have no area: fpr > last_fpr or the division is not reached.
            if fpr > last_fpr {
                let at_limit =
                    last_pro + (pro - last_pro) * (max_fpr - last_fpr) / (fpr - last_fpr);
                area += 0.5 * (at_limit + last_pro) * (max_fpr - last_fpr);
            }
            break;
        }
        area += 0.5 * (pro + last_pro) * (fpr - last_fpr);
        (last_fpr, last_pro) = (fpr, pro);
    }
    Some(area / max_fpr)
}

/// The PRO curve: over all thresholds, the share of each defect region that is flagged, averaged over the regions of all images (so that
/// small defects count as much as large ones), against the share of good pixels that are flagged.
///
/// A region is a connected component of a mask under 8-connectivity, as in MVTec's evaluation code (`scipy.ndimage.label` with a 3x3
/// structure of ones). The good pixels are those outside every mask, in the defective images too. One point for each distinct score: thin
/// the curve before drawing it.
///
/// # Panics
/// If a mask has another shape than its map.
pub fn pro_curve<'a>(
    images: impl IntoIterator<Item = (ArrayView2<'a, f32>, ArrayView2<'a, bool>)>,
) -> Option<Vec<CurvePoint>> {
    let (ranking, sizes) = by_region(images)?;
    Some(ranking.overlap_curve(&sizes)?.collect())
}

/// Also the number of pixels of each region.
fn by_region<'a>(
    images: impl IntoIterator<Item = (ArrayView2<'a, f32>, ArrayView2<'a, bool>)>,
) -> Option<(Ranking, Vec<u32>)> {
    let mut sizes = Vec::new();
    let pixels = images.into_iter().flat_map(|(map, mask)| {
        assert_eq!(map.dim(), mask.dim(), "map and mask");
        map.into_iter().copied().zip(regions(mask, &mut sizes))
    });
    let ranking = Ranking::of(pixels)?;
    Some((ranking, sizes))
}

/// The number of the 8-connected region that each defective pixel belongs to, going on from `sizes.len()`; each region's number of pixels
/// onto `sizes`.
fn regions(mask: ArrayView2<'_, bool>, sizes: &mut Vec<u32>) -> Vec<Option<u32>> {
    let size = Size::from(mask.dim());
    let mut regions = vec![None; size.area()];
    let mut flood = Flood::default();
    let defective = |place: usize| mask[(place / size.width, place % size.width)];
    for start in 0..size.area() {
        if !defective(start) || regions[start].is_some() {
            continue;
        }
        let region = Some(sizes.len() as u32);
        let mut pixels = 0;
        flood.fill(start, size, |place| {
            let new = regions[place].is_none() && defective(place);
            if new {
                regions[place] = region;
                pixels += 1;
            }
            new
        });
        sizes.push(pixels);
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::super::auroc;
    use super::*;
    use proptest::prelude::*;

    /// Maps and masks of `shape` one after the other.
    fn images<'a>(
        maps: &'a [f32],
        masks: &'a [bool],
        shape: (usize, usize),
    ) -> impl Iterator<Item = (ArrayView2<'a, f32>, ArrayView2<'a, bool>)> {
        let pixels = shape.0 * shape.1;
        let pairs = maps.chunks(pixels).zip(masks.chunks(pixels));
        pairs.map(move |(map, mask)| {
            let map = ArrayView2::from_shape(shape, map).unwrap();
            (map, ArrayView2::from_shape(shape, mask).unwrap())
        })
    }

    #[test]
    fn undefined_cases() {
        let of = |map, mask| aupro(images(map, mask, (1, 2)), 0.3);
        assert_eq!(of(&[1.0, 2.0], &[false, false]), None);
        assert_eq!(of(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(of(&[1.0, f32::NAN], &[true, false]), None);
    }

    #[test]
    fn a_small_region_counts_as_much_as_a_large_one() {
        // Regions: the diagonal pair (8-connected) and the single pixel at the end; 5 good pixels.
        let mask = [
            true, false, false, false, //
            false, true, false, true,
        ];
        let map = [0.9, 0.1, 0.2, 0.3, 0.8, 0.7, 0.1, 0.6];
        let curve = pro_curve(images(&map, &mask, (2, 4))).unwrap();
        let points: Vec<_> = curve
            .iter()
            .map(|p| (p.false_positive_rate, p.recall))
            .collect();
        assert_eq!(
            points[..5],
            [(0.0, 0.0), (0.0, 0.25), (0.2, 0.25), (0.2, 0.5), (0.2, 1.0)]
        );
        // 0.25 up to 0.2, then 1 up to 0.3.
        let expected = (0.25 * 0.2 + 0.1) / 0.3;
        assert!((aupro(images(&map, &mask, (2, 4)), 0.3).unwrap() - expected).abs() < 1e-12);
        // Cut in the middle of a step: no step ends at 0.1.
        assert!((aupro(images(&map, &mask, (2, 4)), 0.1).unwrap() - 0.25).abs() < 1e-12);
    }

    /// Scores from few levels, so that ties are common.
    fn samples(len: usize) -> impl Strategy<Value = (Vec<f32>, Vec<bool>)> {
        let scores = proptest::collection::vec((0..12i32).prop_map(|s| s as f32 * 0.3 - 1.0), len);
        (scores, proptest::collection::vec(any::<bool>(), len))
    }

    /// Regions by repeated relabelling: the slow definition of 8-connectivity.
    fn slow_regions(mask: &[bool], width: usize) -> Vec<Vec<usize>> {
        let near = |a: usize, b: usize| {
            (a % width).abs_diff(b % width) <= 1 && (a / width).abs_diff(b / width) <= 1
        };
        let mut regions: Vec<Vec<usize>> = Vec::new();
        for pixel in (0..mask.len()).filter(|&pixel| mask[pixel]) {
            let (touching, mut rest): (Vec<_>, Vec<_>) = regions
                .into_iter()
                .partition(|region| region.iter().any(|&other| near(pixel, other)));
            rest.push(touching.into_iter().flatten().chain([pixel]).collect());
            regions = rest;
        }
        regions
    }

    proptest! {
        #[test]
        fn pixels_of_all_images_are_ranked_together((scores, labels) in samples(40)) {
            prop_assert_eq!(pixel_auroc(images(&scores, &labels, (4, 5))), auroc(&scores, &labels));
        }

        #[test]
        fn aupro_by_its_definition((scores, labels) in samples(96), max_fpr in 0.05..1.0f64) {
            let good = labels.iter().filter(|&&label| !label).count() as f64;
            let mut thresholds = scores.clone();
            thresholds.sort_by(|a, b| b.total_cmp(a));
            let mut curve = vec![(0.0, 0.0)];
            for threshold in thresholds {
                let alarms = (0..96).filter(|&i| !labels[i] && scores[i] >= threshold).count() as f64;
                let overlaps: Vec<f64> = scores.chunks(48).zip(labels.chunks(48)).flat_map(|(map, mask)| {
                    slow_regions(mask, 8).into_iter().map(move |region| {
                        region.iter().filter(|&&i| map[i] >= threshold).count() as f64 / region.len() as f64
                    })
                }).collect();
                curve.push((alarms / good, overlaps.iter().sum::<f64>() / overlaps.len() as f64));
            }
            let mut area = 0.0;
            for pair in curve.windows(2) {
                let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
                if x1 > x0 && x0 < max_fpr {
                    let end = f64::min(x1, max_fpr);
                    area += (end - x0) * (y0 + 0.5 * (y1 - y0) * (end - x0) / (x1 - x0));
                }
            }
            let got = aupro(images(&scores, &labels, (6, 8)), max_fpr);
            if let Some(got) = got {
                prop_assert!((got - area / max_fpr).abs() < 1e-9, "{} {}", got, area / max_fpr);
            }
        }
    }
}
