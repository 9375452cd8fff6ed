//! From an embedding to the image score: head, anomaly map and image weight. Fitting sets the threshold with the very code that inspects,
//! which is what the promise of the threshold rests on.

use super::anomaly_map::AnomalyMap;
use super::embedding::Embedding;
use super::heads::Head;
use std::time::{Duration, Instant};

/// A head with the map that its patch scores make.
pub struct Scorer {
    head: Box<dyn Head>,
    map: AnomalyMap,
    /// One per patch, row-major on the grid.
    patch_scores: Vec<f32>,
    timing: ScorerTiming,
}

/// What the last score cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct ScorerTiming {
    pub head: Duration,
    pub map: Duration,
}

impl Scorer {
    pub fn new(head: Box<dyn Head>, map: AnomalyMap) -> Self {
        Self {
            head,
            patch_scores: vec![0.0; map.grid().area()],
            map,
            timing: ScorerTiming::default(),
        }
    }

    /// The image score: the maximum of the anomaly map, times the head's image weight. Allocates nothing.
    pub fn score(&mut self, embedding: &Embedding) -> f32 {
        let start = Instant::now();
        self.head.score(embedding, &mut self.patch_scores);
        let after_head = Instant::now();
        let score = self.map.update(&self.patch_scores) * self.head.image_weight();
        self.timing = ScorerTiming {
            head: after_head - start,
            map: after_head.elapsed(),
        };
        score
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
