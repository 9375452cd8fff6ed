//! Parts told from their background: what differs from the level of the picture's border, which may rise or fall across it.

use super::picture::Small;
use super::pose::{self, Pose};
use crate::geometry::Size;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Share of the sides that the border is thick.
const BORDER: f32 = 0.02;
/// Grey levels by which a border pixel may be off and still be background, at least.
const ODD: f32 = 6.0;
/// Otsu's threshold is kept within these grey levels: noise is no part, and a part may be brighter in some places than in others.
const CONTRAST: (f32, f32) = (12.0, 40.0);
/// The threshold lies so many times above what nine in ten and a half of the border's pixels differ from its level.
const TEXTURE: f32 = 1.5;
/// Half the side of the square that closes gaps in a part, in pixels.
const GAP: usize = 2;
/// Grey levels that a background may have moved, and still be the one that was learnt.
const SAME: f32 = 40.0;

/// One thing on the background.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Blob {
    label: u16,
    /// Pixels, holes included.
    pub area: usize,
    /// First and one past the last column and row.
    columns: (usize, usize),
    rows: (usize, usize),
    pub touches_edge: bool,
}

/// Keeps its memory from picture to picture.
#[derive(Debug, Clone, Default)]
pub struct Segmenter {
    size: Size,
    /// Largest of the channels' differences from the background, grey levels.
    difference: Vec<f32>,
    /// What differs by the contrast, then with gaps closed.
    raw: Vec<bool>,
    mask: Vec<bool>,
    work: Vec<bool>,
    labels: Vec<u16>,
    pending: Vec<usize>,
    blobs: Vec<Blob>,
    background: [f32; 3],
    contrast: f32,
    border: Vec<usize>,
    inside: Vec<bool>,
    ranked: Vec<f32>,
    places: Vec<(f32, f32)>,
    memory: Vec<f32>,
    distance: Vec<u16>,
    queue: BinaryHeap<(u16, Reverse<usize>, usize)>,
}

impl Segmenter {
    /// Finds what lies on the background. `learnt`: the background's levels and the contrast of a part, where they are known; they are
    /// found in the picture otherwise.
    pub fn run(&mut self, picture: &Small, learnt: Option<([f32; 3], f32)>) {
        self.prepare(picture.size);
        for (channel, values) in picture.channels.iter().enumerate() {
            let level = learnt.map(|(background, _)| background[channel]);
            self.add_channel(channel, values, level);
        }
        self.contrast = match learnt {
            Some((_, contrast)) => contrast,
            None => self.own_contrast(),
        };
        for (raw, difference) in self.raw.iter_mut().zip(&self.difference) {
            *raw = *difference > self.contrast;
        }
        self.close_gaps();
        self.fill_holes();
        self.label();
    }

    /// The largest first.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// Each channel's level in the middle of the picture, and the contrast that was used.
    pub fn background(&self) -> ([f32; 3], f32) {
        (self.background, self.contrast)
    }

    pub fn pose(&mut self, blob: Blob) -> Pose {
        self.collect(blob);
        pose::of_pixels(&self.places, &mut self.memory)
    }

    /// Where things lie, 1, and where there is background, 0; height x width of the picture.
    pub fn solid(&self) -> Vec<f32> {
        let solid = self.mask.iter();
        solid.map(|solid| if *solid { 1.0 } else { 0.0 }).collect()
    }

    pub fn elongation(&mut self, blob: Blob) -> f32 {
        self.collect(blob);
        pose::elongation(&self.places)
    }

    fn collect(&mut self, blob: Blob) {
        self.places.clear();
        for y in blob.rows.0..blob.rows.1 {
            let row = &self.labels[y * self.size.width..];
            for (x, label) in row
                .iter()
                .enumerate()
                .take(blob.columns.1)
                .skip(blob.columns.0)
            {
                if *label == blob.label {
                    self.places.push((x as f32 + 0.5, y as f32 + 0.5));
                }
            }
        }
    }

    fn prepare(&mut self, size: Size) {
        let pixels = size.area();
        self.difference.clear();
        self.difference.resize(pixels, 0.0);
        if self.size == size {
            return;
        }
        self.size = size;
        for mask in [&mut self.raw, &mut self.mask, &mut self.work] {
            mask.clear();
            mask.resize(pixels, false);
        }
        self.labels.resize(pixels, 0);
        self.distance.resize(pixels, 0);
        self.pending.reserve(pixels);
        self.places.reserve(pixels);
        self.memory.reserve(pixels);
        let thick = |side: usize| ((side as f32 * BORDER) as usize).max(2).min(side);
        let (down, across) = (thick(size.height), thick(size.width));
        self.border.clear();
        for y in 0..size.height {
            for x in 0..size.width {
                if y < down || y + down >= size.height || x < across || x + across >= size.width {
                    self.border.push(y * size.width + x);
                }
            }
        }
        self.ranked.reserve(self.border.len());
        self.inside.resize(self.border.len(), true);
    }

    /// Fits a plane to the border's background, and takes the channel's differences from it in.
    fn add_channel(&mut self, channel: usize, values: &[f32], learnt: Option<f32>) {
        let width = self.size.width;
        let (cx, cy) = (width as f32 / 2.0, self.size.height as f32 / 2.0);
        let place = |at: usize| {
            (
                ((at % width) as f32 + 0.5 - cx) / cx,
                ((at / width) as f32 + 0.5 - cy) / cy,
            )
        };
        let near = |level: f32| {
            let near = self
                .border
                .iter()
                .filter(|at| (values[**at] - level).abs() < SAME);
            near.count() * 4 > self.border.len()
        };
        let level = match learnt.filter(|level| near(*level)) {
            Some(level) => level,
            None => {
                self.ranked.clear();
                self.ranked.extend(self.border.iter().map(|at| values[*at]));
                median(&mut self.ranked)
            }
        };
        let mut plane = [level, 0.0, 0.0];
        let value = |plane: &[f32; 3], at: usize| {
            let (x, y) = place(at);
            plane[0] + plane[1] * x + plane[2] * y
        };
        for _ in 0..4 {
            self.ranked.clear();
            let off = self
                .border
                .iter()
                .map(|at| (values[*at] - value(&plane, *at)).abs());
            self.ranked.extend(off);
            let limit = (3.0 * 1.4826 * median(&mut self.ranked)).clamp(ODD, SAME);
            let mut sums = [[0.0f64; 4]; 3];
            for &at in &self.border {
                if (values[at] - value(&plane, at)).abs() > limit {
                    continue;
                }
                let (x, y) = place(at);
                let row = [1.0, f64::from(x), f64::from(y)];
                for (sums, a) in sums.iter_mut().zip(row) {
                    for (sum, b) in sums.iter_mut().zip(row) {
                        *sum += a * b;
                    }
                    sums[3] += a * f64::from(values[at]);
                }
            }
            match solve(sums) {
                Some(solved) => plane = solved.map(|value| value as f32),
                None => break,
            }
        }
        self.background[channel] = plane[0];
        for (at, (difference, value_there)) in self.difference.iter_mut().zip(values).enumerate() {
            *difference = difference.max((value_there - value(&plane, at)).abs());
        }
    }

    /// Otsu's threshold on the differences (Otsu 1979), within what makes sense, and above the background's own texture.
    fn own_contrast(&mut self) -> f32 {
        let mut counts = [0usize; 256];
        for difference in &self.difference {
            counts[difference.clamp(0.0, 255.0) as usize] += 1;
        }
        let total = self.difference.len() as f64;
        let sum: f64 = counts
            .iter()
            .enumerate()
            .map(|(level, count)| level as f64 * *count as f64)
            .sum();
        let (mut below, mut sum_below, mut best, mut threshold) = (0.0, 0.0, 0.0, 0);
        for (level, &count) in counts.iter().enumerate() {
            below += count as f64;
            sum_below += level as f64 * count as f64;
            let above = total - below;
            if below == 0.0 || above == 0.0 {
                continue;
            }
            let apart = sum_below / below - (sum - sum_below) / above;
            let between = below * above * apart * apart;
            if between > best {
                (best, threshold) = (between, level);
            }
        }
        let otsu = (threshold as f32 + 0.5).clamp(CONTRAST.0, CONTRAST.1);
        self.ranked.clear();
        self.ranked
            .extend(self.border.iter().map(|at| self.difference[*at]));
        // Of the border that parts do not cover: the lower three quarters.
        let rank = self.ranked.len() * 3 / 4;
        let texture = match self.ranked.is_empty() {
            true => 0.0,
            false => *self.ranked.select_nth_unstable_by(rank, f32::total_cmp).1,
        };
        otsu.max(TEXTURE * texture)
    }

    /// Morphological closing with a square.
    fn close_gaps(&mut self) {
        let Size { height, width } = self.size;
        spread(&self.raw, &mut self.work, width, 1, (width, height), true);
        spread(&self.work, &mut self.mask, 1, width, (height, width), true);
        spread(&self.mask, &mut self.work, width, 1, (width, height), false);
        spread(&self.work, &mut self.mask, 1, width, (height, width), false);
    }

    /// What the border cannot reach without crossing a part is part too.
    fn fill_holes(&mut self) {
        let Size { height, width } = self.size;
        self.work.fill(false);
        self.pending.clear();
        let edge = (0..width)
            .flat_map(|x| [x, (height - 1) * width + x])
            .chain((0..height).flat_map(|y| [y * width, y * width + width - 1]));
        for at in edge {
            if !self.mask[at] && !self.work[at] {
                self.work[at] = true;
                self.pending.push(at);
            }
        }
        while let Some(at) = self.pending.pop() {
            let (x, y) = (at % width, at / width);
            let near = [
                (x > 0).then(|| at - 1),
                (x + 1 < width).then(|| at + 1),
                (y > 0).then(|| at - width),
                (y + 1 < height).then(|| at + width),
            ];
            for near in near.into_iter().flatten() {
                if !self.mask[near] && !self.work[near] {
                    self.work[near] = true;
                    self.pending.push(near);
                }
            }
        }
        for (mask, outside) in self.mask.iter_mut().zip(&self.work) {
            *mask = !outside;
        }
    }

    /// Numbers what hangs together, by edges or corners.
    fn label(&mut self) {
        self.labels.fill(0);
        self.blobs.clear();
        for start in 0..self.mask.len() {
            if !self.mask[start] || self.labels[start] != 0 || self.blobs.len() >= MOST_BLOBS {
                continue;
            }
            let label = self.blobs.len() as u16 + 1;
            let (mask, labels) = (&self.mask, &mut self.labels);
            let enter = |at: usize| {
                let enters = mask[at] && labels[at] == 0;
                if enters {
                    labels[at] = label;
                }
                enters
            };
            let mut blob = flood(start, self.size, &mut self.pending, label, enter);
            blob.touches_edge = self.is_cut(&blob);
            self.blobs.push(blob);
        }
        self.blobs.sort_unstable_by_key(|blob| Reverse(blob.area));
    }

    /// Whether the part itself, and not only what closes its gaps, reaches the edge.
    fn is_cut(&self, blob: &Blob) -> bool {
        let Size { height, width } = self.size;
        let is = |at: usize| self.labels[at] == blob.label && self.raw[at];
        // One pixel more: of one that is cut by less the outermost pixel may be half background.
        let near = |side: usize| [0, 1.min(side - 1), side.saturating_sub(2), side - 1];
        (blob.columns.0..blob.columns.1)
            .any(|x| near(height).into_iter().any(|y| is(y * width + x)))
            || (blob.rows.0..blob.rows.1)
                .any(|y| near(width).into_iter().any(|x| is(y * width + x)))
    }

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

/// More things than this on one background are noise.
const MOST_BLOBS: usize = 1000;
pub const MOST_PIECES: usize = 8;
/// Share of a part's area that hangs together without any gap closed.
const CORE: f32 = 0.3;
/// Numbers from here on are those of pieces.
const PIECES: u16 = 2000;

impl Blob {
    fn add(&mut self, x: usize, y: usize) {
        self.area += 1;
        self.columns = (self.columns.0.min(x), self.columns.1.max(x + 1));
        self.rows = (self.rows.0.min(y), self.rows.1.max(y + 1));
    }
}

/// Goes over all that `enter` lets in from `start` on.
fn flood(
    start: usize,
    size: Size,
    pending: &mut Vec<usize>,
    label: u16,
    mut enter: impl FnMut(usize) -> bool,
) -> Blob {
    let Size { height, width } = size;
    let mut blob = Blob {
        label,
        area: 0,
        columns: (usize::MAX, 0),
        rows: (usize::MAX, 0),
        touches_edge: false,
    };
    pending.clear();
    if enter(start) {
        pending.push(start);
    }
    while let Some(at) = pending.pop() {
        let (x, y) = (at % width, at / width);
        blob.add(x, y);
        for near_y in y.saturating_sub(1)..(y + 2).min(height) {
            for near_x in x.saturating_sub(1)..(x + 2).min(width) {
                let near = near_y * width + near_x;
                if enter(near) {
                    pending.push(near);
                }
            }
        }
    }
    blob
}

/// Dilation (`grow`) or erosion by [`GAP`] along lines of `length` pixels, `step` apart, of which there are `count` that start `start`
/// apart. Beyond the picture there is nothing to grow from, and nothing that erodes.
fn spread(
    from: &[bool],
    to: &mut [bool],
    start: usize,
    step: usize,
    (length, count): (usize, usize),
    grow: bool,
) {
    for line in 0..count {
        let line = line * start;
        for at in 0..length {
            let window = at.saturating_sub(GAP)..(at + GAP + 1).min(length);
            let mut values = window.map(|near| from[line + near * step]);
            to[line + at * step] = match grow {
                true => values.any(|value| value),
                false => values.all(|value| value),
            };
        }
    }
}

/// The middle one; 0 of none.
fn median(values: &mut [f32]) -> f32 {
    match values.len() {
        0 => 0.0,
        count => *values.select_nth_unstable_by(count / 2, f32::total_cmp).1,
    }
}

/// Solves three equations, each with its right side as the fourth number (Gauss, with pivots).
fn solve(mut rows: [[f64; 4]; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot =
            (column..3).max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()))?;
        if rows[pivot][column].abs() < 1e-9 {
            return None;
        }
        rows.swap(column, pivot);
        let kept = rows[column];
        for (index, row) in rows.iter_mut().enumerate() {
            if index != column {
                let factor = row[column] / kept[column];
                row.iter_mut()
                    .zip(kept)
                    .for_each(|(value, kept)| *value -= factor * kept);
            }
        }
    }
    Some([0, 1, 2].map(|index| rows[index][3] / rows[index][index]))
}
