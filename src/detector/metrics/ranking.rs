//! Good and defective samples in the order of their scores, and what follows from the order alone.

use super::CurvePoint;
use rayon::slice::ParallelSliceMut;
use std::ops::Range;

/// Scores in falling order, those of defective and of good samples apart.
///
/// A score is kept as an integer key whose rising order is the scores' falling order: integers sort fastest, and 0.0 and -0.0 are one key.
pub struct Ranking {
    /// Key in the upper half, number of the defect region in the lower.
    defective: Vec<u64>,
    good: Vec<u32>,
}

impl Ranking {
    /// Of samples: each a score, and where the sample is defective the number of its defect region. `None` where a score is NaN.
    pub fn of(samples: impl IntoIterator<Item = (f32, Option<u32>)>) -> Option<Self> {
        let (mut defective, mut good) = (Vec::new(), Vec::new());
        for (score, region) in samples {
            if score.is_nan() {
                return None;
            }
            let key = key_of(score);
            match region {
                Some(region) => defective.push(u64::from(key) << 32 | u64::from(region)),
                None => good.push(key),
            }
        }
        defective.par_sort_unstable();
        good.par_sort_unstable();
        Some(Self { defective, good })
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

    pub fn auroc(&self) -> Option<f64> {
        self.both_classes()?;
        // Twice the area, in whole pairs: exact however many there are.
        let (mut area, mut last) = (0u128, 0);
        for (_, hits, false_alarms) in self.steps() {
            area += (false_alarms - last) as u128 * (hits.start + hits.end) as u128;
            last = false_alarms;
        }
        Some(area as f64 / (2.0 * self.defective.len() as f64 * self.good.len() as f64))
    }

    pub fn f1_max(&self) -> Option<(f64, f32)> {
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

    pub fn roc_curve(&self) -> Option<Vec<CurvePoint>> {
        // All defective samples as one region: the overlap is then the true positive rate.
        Some(
            self.overlap_curve(&[u32::try_from(self.defective.len()).ok()?])?
                .collect(),
        )
    }

    /// The curve over all thresholds, from (0, 0) on: the share of each region that is flagged, averaged over the regions, against the
    /// share of good samples that are flagged. `sizes` are the regions' numbers of samples; `None` where all samples are of one kind.
    pub fn overlap_curve(&self, sizes: &[u32]) -> Option<impl Iterator<Item = CurvePoint>> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
