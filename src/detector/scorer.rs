//! From an embedding to the image score: head, anomaly map and image weight. Fitting sets the threshold with the very code that inspects,
//! which is what the promise of the threshold rests on.

use super::anomaly_map::AnomalyMap;
use super::embedding::Embedding;
use super::heads::Head;
use super::image_score::ImageScore;
use std::time::{Duration, Instant};

/// A head with the map that its patch scores make.
pub struct Scorer {
    head: Box<dyn Head>,
    map: AnomalyMap,
    image_score: ImageScore,
    /// One per patch, row-major on the grid.
    patch_scores: Vec<f32>,
    /// The patches that are not judged: they score nothing.
    masked: Vec<usize>,
    /// The scores, to be sorted.
    ranked: Vec<f32>,
    timing: ScorerTiming,
}

/// What the last score cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScorerTiming {
    pub head: Duration,
    pub map: Duration,
}

impl Scorer {
    pub fn new(head: Box<dyn Head>, map: AnomalyMap, image_score: ImageScore) -> Self {
        let patches = map.grid().area();
        Self {
            head,
            image_score,
            patch_scores: vec![0.0; patches],
            masked: Vec::new(),
            ranked: Vec::with_capacity(patches),
            map,
            timing: ScorerTiming::default(),
        }
    }

    /// Judges the patches for which `judged` says so (row-major on the grid), and no others.
    pub fn judge_only(&mut self, judged: &[bool]) {
        let patches = judged.iter().enumerate();
        self.masked = patches
            .filter(|(_, judged)| !**judged)
            .map(|(patch, _)| patch)
            .collect();
    }

    /// The image score. Allocates nothing.
    pub fn score(&mut self, embedding: &Embedding) -> f32 {
        let start = Instant::now();
        self.head.score(embedding, &mut self.patch_scores);
        for &patch in &self.masked {
            self.patch_scores[patch] = 0.0;
        }
        let after_head = Instant::now();
        let maximum = self.map.update(&self.patch_scores);
        let score = match self.image_score {
            ImageScore::MapMaximum => maximum * self.head.image_weight(),
            ImageScore::HighestPatches(count) => {
                let score = mean_of_highest(&self.patch_scores, count, &mut self.ranked);
                self.map.scale_to(maximum, score)
            }
        };
        self.timing = ScorerTiming {
            head: after_head - start,
            map: after_head.elapsed(),
        };
        score
    }

    /// The patch scores of the last score, row-major on the grid.
    pub fn patch_scores(&self) -> &[f32] {
        &self.patch_scores
    }

    /// The map of the last score.
    pub fn map(&self) -> &AnomalyMap {
        &self.map
    }

    pub fn map_mut(&mut self) -> &mut AnomalyMap {
        &mut self.map
    }

    pub fn timing(&self) -> ScorerTiming {
        self.timing
    }
}

/// The mean of the `count` highest of the scores, or of all where these are fewer; not a number where one of them is none. `ranked` is
/// memory to work in.
pub(super) fn mean_of_highest(scores: &[f32], count: usize, ranked: &mut Vec<f32>) -> f32 {
    let count = count.clamp(1, scores.len());
    ranked.clear();
    // Of either sign, one that is no number counts as the highest.
    let ordered = |score: &f32| if score.is_nan() { f32::NAN } else { *score };
    ranked.extend(scores.iter().map(ordered));
    ranked.select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a));
    ranked[..count].iter().sum::<f32>() / count as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;
    use proptest::prelude::*;

    /// Gives the embedding's values as they are.
    struct Same;

    impl Head for Same {
        fn score(&mut self, embedding: &Embedding, scores: &mut [f32]) {
            scores.copy_from_slice(embedding.values());
        }
    }

    fn embedding(values: &[f32], grid: Size) -> Embedding {
        let mut embedding = Embedding::new(crate::detector::embedding::EmbeddingShape {
            dimensions: 1,
            grid,
        });
        embedding.values_mut().copy_from_slice(values);
        embedding
    }

    proptest! {
        /// Against sorting; the map's maximum is the score to the last bit, and its regions are none exactly where it is not above the
        /// threshold.
        #[test]
        fn a_flagged_image_shows_where_and_no_other_does(
            values in prop::collection::vec(0.0f32..9.0, 24),
            count in 1usize..30,
            threshold in 0.1f32..9.0,
        ) {
            let grid = Size::new(4, 6);
            let map = AnomalyMap::new(grid, Size::new(32, 48), 2.0, 0.5);
            let mut scorer = Scorer::new(Box::new(Same), map, ImageScore::HighestPatches(count));
            let score = scorer.score(&embedding(&values, grid));
            let mut sorted = values.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            let highest = &sorted[..count.min(24)];
            let mean = highest.iter().map(|value| f64::from(*value)).sum::<f64>() / highest.len() as f64;
            prop_assert!((f64::from(score) - mean).abs() < 1e-5);
            let maximum = scorer.map().values().iter().copied().fold(0.0, f32::max);
            prop_assert_eq!(maximum, score);
            for threshold in [threshold, score] {
                prop_assert_eq!(scorer.map_mut().regions(threshold).is_empty(), score <= threshold);
            }
        }
    }

    #[test]
    fn what_is_no_number_is_no_score_and_nothing_stays_nothing() {
        let grid = Size::new(2, 2);
        let map = AnomalyMap::new(grid, Size::new(4, 4), 0.0, 0.0);
        let mut scorer = Scorer::new(Box::new(Same), map, ImageScore::HighestPatches(2));
        assert!(
            scorer
                .score(&embedding(&[1.0, -f32::NAN, 0.0, 2.0], grid))
                .is_nan()
        );
        assert_eq!(scorer.score(&embedding(&[0.0; 4], grid)), 0.0);
        assert!(scorer.map().values().iter().all(|value| *value == 0.0));
    }
}
