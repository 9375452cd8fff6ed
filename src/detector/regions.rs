//! The parts of an anomaly map above a threshold.

use super::flood::Flood;
use crate::geometry::Size;
use ndarray::ArrayView2;

/// Part of the map above the threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Region {
    /// Left, top, width and height of the bounding box, in 0..1 of the map.
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
    /// Largest map value in the region.
    pub score: f32,
}

/// Finds regions, and keeps its memory.
#[derive(Debug, Clone, Default)]
pub struct Regions {
    labels: Vec<bool>,
    flood: Flood,
    found: Vec<Region>,
}

impl Regions {
    /// For maps of this size, with about so many regions at most: finding them allocates nothing then.
    pub fn new(size: Size, most: usize) -> Self {
        Self {
            labels: vec![false; size.area()],
            flood: Flood::for_grid(size),
            found: Vec::with_capacity(most),
        }
    }

    /// The 8-connected parts of a map (height x width, row-major) above `threshold`, strongest first.
    pub fn find(&mut self, map: ArrayView2<'_, f32>, threshold: f32) -> &[Region] {
        let size: Size = map.dim().into();
        let Size { height, width } = size;
        let values = map.as_slice().unwrap_or_default();
        self.found.clear();
        self.labels.clear();
        self.labels.resize(values.len(), false);
        for start in 0..values.len() {
            if self.labels[start] || values[start] <= threshold {
                continue;
            }
            let (mut left, mut top, mut right, mut bottom, mut score) =
                (width, height, 0, 0, f32::NEG_INFINITY);
            let labels = &mut self.labels;
            self.flood.fill(start, size, |place| {
                if labels[place] || values[place] <= threshold {
                    return false;
                }
                labels[place] = true;
                let (x, y) = (place % width, place / width);
                (left, top, right, bottom) = (left.min(x), top.min(y), right.max(x), bottom.max(y));
                score = score.max(values[place]);
                true
            });
            let (w, h) = (width as f32, height as f32);
            self.found.push(Region {
                x: left as f32 / w,
                y: top as f32 / h,
                width: (right + 1 - left) as f32 / w,
                height: (bottom + 1 - top) as f32 / h,
                score,
            });
        }
        self.found
            .sort_unstable_by(|a, b| b.score.total_cmp(&a.score));
        &self.found
    }
}
