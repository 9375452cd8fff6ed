//! How good a detector is: image and pixel AUROC, AUPRO, the best F1.
//!
//! Everything is exact: each distinct score is a threshold, nothing is binned, and a pixel or image counts as flagged when its score is
//! *at least* the threshold. Scores may be infinite; where one of them is NaN no order exists and every function here answers `None`.
//!
//! Sources: AUROC as the Mann-Whitney statistic with ties at half weight (Fawcett 2006, "An introduction to ROC analysis"); the
//! per-region overlap of Bergmann et al. 2021, "The MVTec Anomaly Detection Dataset", as MVTec's evaluation code computes it.

use std::ops::Range;

use rayon::slice::ParallelSliceMut;

/// One threshold of a ROC or PRO curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurvePoint {
    /// Scores of at least this much are flagged; infinite at the curve's first point, where nothing is.
    pub threshold: f32,
    /// Share of the good images or pixels that are flagged, 0..1.
    pub false_positive_rate: f64,
    /// ROC: share of the defective ones that are flagged. PRO: mean share of each defect region that is flagged. 0..1.
    pub recall: f64,
}

/// Area under the ROC curve, 0..1; `None` if `labels` (true: defective) are all alike.
///
/// # Panics
/// If there are not as many labels as scores.
pub fn auroc(scores: &[f32], labels: &[bool]) -> Option<f64> {
    Ranking::of_scores(scores, labels)?.auroc()
}

/// The largest F1 score that a threshold reaches, and that threshold (the highest one if several do); `None` without a defective image.
///
/// # Panics
/// If there are not as many labels as scores.
pub fn f1_max(scores: &[f32], labels: &[bool]) -> Option<(f64, f32)> {
    Ranking::of_scores(scores, labels)?.f1_max()
}

/// The ROC curve from (0, 0) to (1, 1), one point for each distinct score; `None` if `labels` are all alike.
///
/// # Panics
/// If there are not as many labels as scores.
pub fn roc_curve(scores: &[f32], labels: &[bool]) -> Option<Vec<CurvePoint>> {
    Ranking::of_scores(scores, labels)?.roc_curve()
}

/// AUROC over the pixels of all images together; good images take part with masks that are false throughout.
///
/// Takes image after image as (map, mask), so that they need not be in memory at once; what is kept is 4 bytes for each good pixel and
/// 8 for each defective one.
///
/// # Panics
/// If a mask has not as many pixels as its map.
pub fn pixel_auroc<M: AsRef<[f32]>, T: AsRef<[bool]>>(
    images: impl IntoIterator<Item = (M, T)>,
) -> Option<f64> {
    let mut ranking = Ranking::default();
    for (map, mask) in images {
        ranking.push(map.as_ref(), mask.as_ref(), |_| 0)?;
    }
    ranking.sort();
    ranking.auroc()
}

/// Area under the PRO curve (see [`pro_curve`]) up to `max_fpr` of the good pixels, divided by `max_fpr` so that it lies in 0..1.
///
/// The curve is cut at `max_fpr` by linear interpolation. The literature uses `max_fpr` = 0.3. `None` without a defective or without a
/// good pixel.
///
/// # Panics
/// If a map or mask has not `width * height` pixels, there are not as many masks as maps, or `max_fpr` is outside 0..=1 or 0.
pub fn aupro<M: AsRef<[f32]>, T: AsRef<[bool]>>(
    maps: &[M],
    masks: &[T],
    width: usize,
    height: usize,
    max_fpr: f64,
) -> Option<f64> {
    assert!(max_fpr > 0.0 && max_fpr <= 1.0, "max_fpr {max_fpr}");
    let (ranking, sizes) = Ranking::of_regions(maps, masks, width, height)?;
    let (mut area, mut last_fpr, mut last_pro) = (0.0, 0.0, 0.0);
    for point in ranking.pro_points(&sizes)? {
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
/// structure of ones). The good pixels are those outside every mask, in the defective images too. `maps` and `masks` hold one image each,
/// row-major. One point for each distinct score: thin the curve before drawing it.
///
/// # Panics
/// If a map or mask has not `width * height` pixels or there are not as many masks as maps.
pub fn pro_curve<M: AsRef<[f32]>, T: AsRef<[bool]>>(
    maps: &[M],
    masks: &[T],
    width: usize,
    height: usize,
) -> Option<Vec<CurvePoint>> {
    let (ranking, sizes) = Ranking::of_regions(maps, masks, width, height)?;
    Some(ranking.pro_points(&sizes)?.collect())
}

/// Scores in falling order, those of defective and of good samples apart.
///
/// A score is kept as an integer key whose rising order is the scores' falling order: integers sort fastest, and 0.0 and -0.0 are one key.
#[derive(Default)]
struct Ranking {
    /// Key in the upper half, number of the defect region in the lower.
    defective: Vec<u64>,
    good: Vec<u32>,
}

impl Ranking {
    fn of_scores(scores: &[f32], labels: &[bool]) -> Option<Self> {
        let mut ranking = Self::default();
        ranking.push(scores, labels, |_| 0)?;
        ranking.sort();
        Some(ranking)
    }

    /// Also the number of pixels of each region.
    fn of_regions<M: AsRef<[f32]>, T: AsRef<[bool]>>(
        maps: &[M],
        masks: &[T],
        width: usize,
        height: usize,
    ) -> Option<(Self, Vec<u32>)> {
        assert_eq!(maps.len(), masks.len(), "maps and masks");
        let (mut ranking, mut sizes, mut regions) = (Self::default(), Vec::new(), Vec::new());
        for (map, mask) in maps.iter().zip(masks) {
            label_regions(mask.as_ref(), width, height, &mut regions, &mut sizes);
            ranking.push(map.as_ref(), mask.as_ref(), |pixel| regions[pixel])?;
        }
        ranking.sort();
        Some((ranking, sizes))
    }

    /// `None` at a NaN.
    fn push(
        &mut self,
        scores: &[f32],
        labels: &[bool],
        region: impl Fn(usize) -> u32,
    ) -> Option<()> {
        assert_eq!(scores.len(), labels.len(), "scores and labels");
        for (i, (&score, &label)) in scores.iter().zip(labels).enumerate() {
            if score.is_nan() {
                return None;
            }
            let key = key_of(score);
            if label {
                self.defective
                    .push(u64::from(key) << 32 | u64::from(region(i)));
            } else {
                self.good.push(key);
            }
        }
        Some(())
    }

    fn sort(&mut self) {
        self.defective.par_sort_unstable();
        self.good.par_sort_unstable();
    }

    /// For each distinct score, highest first: the score, which of `defective` have it, and how many of `good` have it or more.
    fn steps(&self) -> impl Iterator<Item = (f32, Range<usize>, usize)> {
        let key_at = |i: usize| self.defective.get(i).map(|&entry| (entry >> 32) as u32);
        let (mut hits, mut false_alarms) = (0, 0);
        std::iter::from_fn(move || {
            let key = match (key_at(hits), self.good.get(false_alarms)) {
                (Some(a), Some(&b)) => a.min(b),
                (Some(a), None) => a,
                (None, Some(&b)) => b,
                (None, None) => return None,
            };
            let first = hits;
            while key_at(hits) == Some(key) {
                hits += 1;
            }
            while self.good.get(false_alarms) == Some(&key) {
                false_alarms += 1;
            }
            Some((score_of(key), first..hits, false_alarms))
        })
    }

    fn both_classes(&self) -> Option<()> {
        (!self.defective.is_empty() && !self.good.is_empty()).then_some(())
    }

    fn auroc(&self) -> Option<f64> {
        self.both_classes()?;
        // Twice the area, in whole pairs: exact however many there are.
        let (mut area, mut last) = (0u128, 0);
        for (_, hits, false_alarms) in self.steps() {
            area += (false_alarms - last) as u128 * (hits.start + hits.end) as u128;
            last = false_alarms;
        }
        Some(area as f64 / (2.0 * self.defective.len() as f64 * self.good.len() as f64))
    }

    fn f1_max(&self) -> Option<(f64, f32)> {
        let defective = self.defective.len();
        let mut best = None;
        for (threshold, hits, false_alarms) in self.steps() {
            let f1 = 2.0 * hits.end as f64 / (defective + hits.end + false_alarms) as f64;
            if best.is_none_or(|(highest, _)| f1 > highest) {
                best = Some((f1, threshold));
            }
        }
        best.filter(|_| defective > 0)
    }

    fn roc_curve(&self) -> Option<Vec<CurvePoint>> {
        // All defective samples as one region: the overlap is then the true positive rate.
        Some(
            self.pro_points(&[u32::try_from(self.defective.len()).ok()?])?
                .collect(),
        )
    }

    fn pro_points(&self, sizes: &[u32]) -> Option<impl Iterator<Item = CurvePoint>> {
        self.both_classes()?;
        let weights: Vec<f64> = sizes
            .iter()
            .map(|&size| 1.0 / (f64::from(size) * sizes.len() as f64))
            .collect();
        let mut recall = 0.0;
        let origin = CurvePoint {
            threshold: f32::INFINITY,
            false_positive_rate: 0.0,
            recall,
        };
        let good = self.good.len() as f64;
        let rest = self.steps().map(move |(threshold, hits, false_alarms)| {
            let complete = hits.end == self.defective.len();
            for &entry in &self.defective[hits] {
                recall += weights[entry as u32 as usize];
            }
            CurvePoint {
                threshold,
                false_positive_rate: false_alarms as f64 / good,
                // Without the last digits that the sum has lost.
                recall: if complete { 1.0 } else { recall.min(1.0) },
            }
        });
        Some(std::iter::once(origin).chain(rest))
    }
}

fn key_of(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 {
        !bits ^ 0x8000_0000
    } else {
        bits
    }
}

fn score_of(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 0 {
        !(key ^ 0x8000_0000)
    } else {
        key
    })
}

/// Numbers the 8-connected regions of `mask`, going on from `sizes.len()`: each defective pixel's region into `regions`, each region's
/// number of pixels onto `sizes`.
fn label_regions(
    mask: &[bool],
    width: usize,
    height: usize,
    regions: &mut Vec<u32>,
    sizes: &mut Vec<u32>,
) {
    assert_eq!(mask.len(), width * height, "mask of {width}x{height}");
    const NONE: u32 = u32::MAX;
    regions.clear();
    regions.resize(mask.len(), NONE);
    let mut pending = Vec::new();
    for start in 0..mask.len() {
        if !mask[start] || regions[start] != NONE {
            continue;
        }
        let region = sizes.len() as u32;
        let mut size = 0;
        regions[start] = region;
        pending.push(start);
        while let Some(pixel) = pending.pop() {
            size += 1;
            let (x, y) = (pixel % width, pixel / width);
            for ny in y.saturating_sub(1)..(y + 2).min(height) {
                for nx in x.saturating_sub(1)..(x + 2).min(width) {
                    let next = ny * width + nx;
                    if mask[next] && regions[next] == NONE {
                        regions[next] = region;
                        pending.push(next);
                    }
                }
            }
        }
        sizes.push(size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_reverse_the_order_and_return() {
        let falling = [
            f32::INFINITY,
            3.0,
            1e-40,
            0.0,
            -1e-40,
            -2.0,
            f32::NEG_INFINITY,
        ];
        for pair in falling.windows(2) {
            assert!(key_of(pair[0]) < key_of(pair[1]), "{pair:?}");
        }
        assert_eq!(falling.map(|score| score_of(key_of(score))), falling);
        assert_eq!(key_of(-0.0), key_of(0.0));
    }

    #[test]
    fn hand_counted() {
        // Of the 2 x 3 pairs the defective one wins 4, loses 1 and ties 1.
        let (scores, labels) = ([0.9, 0.4, 0.4, 0.5, 0.1], [true, true, false, false, false]);
        assert_eq!(auroc(&scores, &labels), Some(4.5 / 6.0));
        // At 0.9: P 1, R 1/2, F1 2/3. At 0.4: P 2/4, R 1, F1 2/3. The higher threshold is taken.
        assert_eq!(f1_max(&scores, &labels), Some((2.0 / 3.0, 0.9)));
        let roc: Vec<_> = roc_curve(&scores, &labels)
            .unwrap()
            .iter()
            .map(|p| (p.threshold, p.false_positive_rate, p.recall))
            .collect();
        let third = 1.0 / 3.0;
        assert_eq!(
            roc,
            [
                (f32::INFINITY, 0.0, 0.0),
                (0.9, 0.0, 0.5),
                (0.5, third, 0.5),
                (0.4, 2.0 * third, 1.0),
                (0.1, 1.0, 1.0)
            ]
        );
    }

    #[test]
    fn undefined_cases() {
        assert_eq!(auroc(&[], &[]), None);
        assert_eq!(auroc(&[1.0, 2.0], &[true, true]), None);
        assert_eq!(auroc(&[1.0, 2.0], &[false, false]), None);
        assert_eq!(auroc(&[1.0, f32::NAN], &[true, false]), None);
        assert_eq!(f1_max(&[1.0, 2.0], &[false, false]), None);
        assert_eq!(f1_max(&[1.0, 2.0], &[true, true]), Some((1.0, 1.0)));
        assert_eq!(aupro(&[[1.0, 2.0]], &[[false, false]], 2, 1, 0.3), None);
        assert_eq!(aupro(&[[1.0, f32::NAN]], &[[true, false]], 2, 1, 0.3), None);
    }

    #[test]
    fn a_small_region_counts_as_much_as_a_large_one() {
        // Regions: the diagonal pair (8-connected) and the single pixel at the end; 5 good pixels.
        let mask = [
            true, false, false, false, //
            false, true, false, true,
        ];
        let map = [0.9, 0.1, 0.2, 0.3, 0.8, 0.7, 0.1, 0.6];
        let curve = pro_curve(&[map], &[mask], 4, 2).unwrap();
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
        assert!((aupro(&[map], &[mask], 4, 2, 0.3).unwrap() - expected).abs() < 1e-12);
        // Cut in the middle of a step: no step ends at 0.1.
        assert!((aupro(&[map], &[mask], 4, 2, 0.1).unwrap() - 0.25).abs() < 1e-12);
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
        fn auroc_counts_pairs((scores, labels) in samples(40)) {
            let (mut won, mut pairs) = (0.0, 0.0);
            for i in (0..40).filter(|&i| labels[i]) {
                for j in (0..40).filter(|&j| !labels[j]) {
                    pairs += 1.0;
                    won += if scores[i] > scores[j] { 1.0 } else if scores[i] == scores[j] { 0.5 } else { 0.0 };
                }
            }
            prop_assert_eq!(auroc(&scores, &labels), (pairs > 0.0).then(|| won / pairs));
            let halves = scores.chunks(20).zip(labels.chunks(20));
            prop_assert_eq!(pixel_auroc(halves), auroc(&scores, &labels));
        }

        #[test]
        fn f1_is_the_best_of_all_thresholds((scores, labels) in samples(30)) {
            let f1_at = |threshold: f32| {
                let flagged = |i: &usize| scores[*i] >= threshold;
                let hits = (0..30).filter(flagged).filter(|&i| labels[i]).count() as f64;
                let alarms = (0..30).filter(flagged).count() as f64;
                let defective = labels.iter().filter(|&&label| label).count() as f64;
                2.0 * hits / (alarms + defective)
            };
            if let Some((f1, threshold)) = f1_max(&scores, &labels) {
                prop_assert!((f1_at(threshold) - f1).abs() < 1e-12);
                for &other in &scores {
                    prop_assert!(f1_at(other) <= f1 + 1e-12);
                }
            }
        }

        #[test]
        fn aupro_by_its_definition((scores, labels) in samples(96), max_fpr in 0.05..1.0f64) {
            let (maps, masks): (Vec<_>, Vec<_>) = (scores.chunks(48).collect(), labels.chunks(48).collect());
            let good = labels.iter().filter(|&&label| !label).count() as f64;
            let mut thresholds = scores.clone();
            thresholds.sort_by(|a, b| b.total_cmp(a));
            let mut curve = vec![(0.0, 0.0)];
            for threshold in thresholds {
                let alarms = (0..96).filter(|&i| !labels[i] && scores[i] >= threshold).count() as f64;
                let overlaps: Vec<f64> = maps.iter().zip(&masks).flat_map(|(map, mask)| {
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
            let got = aupro(&maps, &masks, 8, 6, max_fpr);
            if let Some(got) = got {
                prop_assert!((got - area / max_fpr).abs() < 1e-9, "{} {}", got, area / max_fpr);
            }
        }
    }
}
