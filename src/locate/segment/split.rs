//! Parts that touch, told from each other.

use super::{Blob, MOST_BLOBS, Segmenter, flood};
use crate::geometry::Size;
use std::cmp::Reverse;

/// Things that are told from each other where they touch, at most.
pub const MOST_PIECES: usize = 8;
/// Share of a part's area that hangs together without any gap closed.
const CORE: f32 = 0.3;
/// Numbers from here on are those of pieces.
const PIECES: u16 = 2000;

impl Segmenter {
    /// Tells parts that touch from each other, where that many of the typical area and width come apart: adds them to `pieces`.
    ///
    /// Deep inside, where the distance from the outline is large, there is one core for each part; every other pixel belongs to the core that
    /// is next to it.
    pub fn split(&mut self, index: usize, area: f32, width: f32, pieces: &mut Vec<Blob>) -> bool {
        let blob = self.blobs[index];
        let count = (blob.area as f32 / area).round() as usize;
        if !(2..=MOST_PIECES).contains(&count) {
            return false;
        }
        let first = MOST_BLOBS as u16 + 1;
        // What only the closing of gaps has joined.
        let apart = self.cores(&blob, |of, at| of.raw[at], first, MOST_PIECES);
        let kept = self.keep_large(&blob, first, apart, area);
        self.measure_depth(&blob);
        if kept == count && self.divide(&blob, first, count, area, pieces) {
            return true;
        }
        self.relabel(&blob, first);
        let columns = self.size.width;
        let deepest = (blob.rows.0..blob.rows.1)
            .flat_map(|y| (blob.columns.0..blob.columns.1).map(move |x| y * columns + x))
            .filter(|at| self.labels[*at] == blob.label)
            .map(|at| self.distance[at])
            .max()
            .unwrap_or(0);
        // A core is where a good part of half the width is around.
        let deepest = f32::from(deepest).min(3.0 * width / 2.0);
        for share in 4..10 {
            let limit = (deepest * share as f32 / 10.0) as u16;
            let cores = self.cores(&blob, |of, at| of.distance[at] > limit, first, count);
            if cores == count && self.divide(&blob, first, count, area, pieces) {
                return true;
            }
            self.relabel(&blob, first);
        }
        false
    }

    /// Of the cores, those that are a good part of a part; they are numbered anew, the others are none.
    fn keep_large(&mut self, blob: &Blob, first: u16, cores: usize, area: f32) -> usize {
        let mut kept = 0;
        for core in 0..cores.min(MOST_PIECES) as u16 {
            let large = self.measure(blob, first + core).area as f32 >= CORE * area;
            let to = if large { first + kept } else { blob.label };
            self.rename(blob, first + core, to);
            kept += u16::from(large);
        }
        self.rename(blob, first + MOST_PIECES as u16, blob.label);
        usize::from(kept)
    }

    fn rename(&mut self, blob: &Blob, from: u16, to: u16) {
        for y in blob.rows.0..blob.rows.1 {
            let row = &mut self.labels[y * self.size.width..][blob.columns.0..blob.columns.1];
            row.iter_mut()
                .filter(|label| **label == from)
                .for_each(|label| *label = to);
        }
    }

    /// Divides the blob among its cores; not where that makes pieces of another size than a part's.
    fn divide(
        &mut self,
        blob: &Blob,
        first: u16,
        count: usize,
        area: f32,
        pieces: &mut Vec<Blob>,
    ) -> bool {
        self.grow(blob, first);
        let start = pieces.len();
        for core in 0..count {
            pieces.push(self.measure(blob, first + core as u16));
        }
        let fits = |piece: &Blob| (0.55..1.6).contains(&(piece.area as f32 / area));
        if !pieces[start..].iter().all(fits) {
            pieces.truncate(start);
            return false;
        }
        // The next blob that is split must not take these numbers.
        self.renumber(blob, first, &mut pieces[start..]);
        true
    }

    /// Distance from the outline in thirds of a pixel (chamfer 3-4).
    fn measure_depth(&mut self, blob: &Blob) {
        let Size { height, width } = self.size;
        for y in blob.rows.0..blob.rows.1 {
            for x in blob.columns.0..blob.columns.1 {
                let at = y * width + x;
                if self.labels[at] != blob.label {
                    self.distance[at] = 0;
                    continue;
                }
                let edge = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
                self.distance[at] = if edge { 3 } else { u16::MAX / 2 };
                if !edge {
                    let near = [
                        (at - 1, 3),
                        (at - width, 3),
                        (at - width - 1, 4),
                        (at - width + 1, 4),
                    ];
                    let nearest = near.map(|(at, step)| self.depth(blob, at) + step);
                    self.distance[at] = nearest.into_iter().min().unwrap_or(3);
                }
            }
        }
        for y in (blob.rows.0..blob.rows.1).rev() {
            for x in (blob.columns.0..blob.columns.1).rev() {
                let at = y * width + x;
                let edge = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
                if self.labels[at] != blob.label || edge {
                    continue;
                }
                let near = [
                    (at + 1, 3),
                    (at + width, 3),
                    (at + width + 1, 4),
                    (at + width - 1, 4),
                ];
                let nearest = near.map(|(at, step)| self.depth(blob, at) + step);
                let nearest = nearest.into_iter().min().unwrap_or(3);
                self.distance[at] = self.distance[at].min(nearest);
            }
        }
    }

    fn depth(&self, blob: &Blob, at: usize) -> u16 {
        match self.labels[at] == blob.label {
            true => self.distance[at],
            false => 0,
        }
    }

    /// Numbers the connected places of the blob that `is_core` takes, from `first` on; stops at one more than `most`.
    fn cores(
        &mut self,
        blob: &Blob,
        is_core: impl Fn(&Self, usize) -> bool,
        first: u16,
        most: usize,
    ) -> usize {
        for y in blob.rows.0..blob.rows.1 {
            for x in blob.columns.0..blob.columns.1 {
                let at = y * self.size.width + x;
                self.work[at] = is_core(self, at);
            }
        }
        let mut count = 0;
        for y in blob.rows.0..blob.rows.1 {
            for x in blob.columns.0..blob.columns.1 {
                let start = y * self.size.width + x;
                if self.labels[start] != blob.label || !self.work[start] {
                    continue;
                }
                let (labels, work, label) = (&mut self.labels, &self.work, first + count as u16);
                let enter = |at: usize| {
                    let enters = labels[at] == blob.label && work[at];
                    if enters {
                        labels[at] = label;
                    }
                    enters
                };
                flood(start, self.size, &mut self.pending, label, enter);
                count += 1;
                if count > most {
                    return count;
                }
            }
        }
        count
    }

    /// The rest of the blob goes to the cores, the deepest first, so that their borders come to lie at the narrow places (watershed).
    fn grow(&mut self, blob: &Blob, first: u16) {
        let Size { height, width } = self.size;
        self.queue.clear();
        let mut order = 0;
        for y in blob.rows.0..blob.rows.1 {
            for x in blob.columns.0..blob.columns.1 {
                let at = y * width + x;
                if self.labels[at] >= first {
                    self.queue.push((self.distance[at], Reverse(order), at));
                    order += 1;
                }
            }
        }
        while let Some((_, _, at)) = self.queue.pop() {
            let (x, y) = (at % width, at / width);
            for near_y in y.saturating_sub(1)..(y + 2).min(height) {
                for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                    let near = near_y * width + near_x;
                    if self.labels[near] == blob.label {
                        self.labels[near] = self.labels[at];
                        self.queue.push((self.distance[near], Reverse(order), near));
                        order += 1;
                    }
                }
            }
        }
    }

    /// The blob as it was before it was split.
    fn relabel(&mut self, blob: &Blob, first: u16) {
        for y in blob.rows.0..blob.rows.1 {
            let row = &mut self.labels[y * self.size.width..][blob.columns.0..blob.columns.1];
            row.iter_mut()
                .filter(|label| **label >= first && **label < PIECES)
                .for_each(|label| *label = blob.label);
        }
    }

    fn renumber(&mut self, blob: &Blob, first: u16, pieces: &mut [Blob]) {
        let by = PIECES + blob.label * MOST_PIECES as u16 - first;
        for y in blob.rows.0..blob.rows.1 {
            let row = &mut self.labels[y * self.size.width..][blob.columns.0..blob.columns.1];
            row.iter_mut()
                .filter(|label| **label >= first && **label < PIECES)
                .for_each(|label| *label += by);
        }
        pieces.iter_mut().for_each(|piece| piece.label += by);
    }

    fn measure(&self, blob: &Blob, label: u16) -> Blob {
        let mut piece = Blob {
            label,
            area: 0,
            columns: (usize::MAX, 0),
            rows: (usize::MAX, 0),
            touches_edge: false,
        };
        for y in blob.rows.0..blob.rows.1 {
            for x in blob.columns.0..blob.columns.1 {
                if self.labels[y * self.size.width + x] == label {
                    piece.add(x, y);
                }
            }
        }
        piece
    }
}
