//! Parts told from their background: what differs from the level of the picture's border, which may rise or fall across it.

mod split;

use super::picture::Small;
use super::pose::{self, Pose};
use crate::geometry::Size;
use smallvec::SmallVec;
pub use split::MOST_PIECES;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Numbers of things.
pub type Labels = SmallVec<[u16; 32]>;
/// Pixels around a thing in which its edge may show.
const EDGE: usize = 2;

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
/// Grey levels that a pixel may be off its background's plane, at most.
const FAR: f32 = 40.0;
/// A background is the one that was learnt if a quarter of the border is as bright as that, within the larger of so many grey levels, this
/// share of the level, and twice what good frames were off.
const SAME: f32 = 10.0;
const SAME_SHARE: f32 = 0.4;

/// What is known of a background.
#[derive(Debug, Clone, Copy)]
pub struct Background {
    /// Grey level of each channel, by how much good frames are off it at most, and by how much a part differs from it.
    pub level: [f32; 3],
    pub off: f32,
    pub contrast: f32,
}

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
    /// Of each channel: level in the middle, and by how much it rises to the right edge and to the lower one.
    planes: [[f32; 3]; 3],
    contrast: f32,
    knows_background: bool,
    is_full: bool,
    border: Vec<usize>,
    ranked: Vec<f32>,
    places: Vec<(f32, f32)>,
    memory: Vec<f32>,
    distance: Vec<u16>,
    queue: BinaryHeap<(u16, Reverse<usize>, usize)>,
}

impl Segmenter {
    /// Finds what lies on the background, which is found in the picture where it is not `learnt`.
    pub fn run(&mut self, picture: &Small, learnt: Option<Background>) {
        self.prepare(picture.size);
        self.knows_background = true;
        for (channel, values) in picture.channels.iter().enumerate() {
            let learnt = learnt.map(|learnt| (learnt.level[channel], learnt.off));
            self.add_channel(channel, values, learnt);
        }
        self.contrast = match learnt {
            Some(learnt) => learnt.contrast,
            None => self.own_contrast(),
        };
        for (raw, difference) in self.raw.iter_mut().zip(&self.difference) {
            *raw = *difference > self.contrast;
        }
        self.close_gaps();
        self.fill_holes();
        self.label();
    }

    /// Whether the border shows the background that was learnt.
    pub fn knows_background(&self) -> bool {
        self.knows_background
    }

    /// Whether there were more things than can be numbered: some may be left out.
    pub fn is_full(&self) -> bool {
        self.is_full
    }

    /// The largest first.
    pub fn blobs(&self) -> &[Blob] {
        &self.blobs
    }

    /// Each channel's level in the middle of the picture, and the contrast that was used.
    pub fn background(&self) -> ([f32; 3], f32) {
        (self.background, self.contrast)
    }

    /// Each channel's level at a place.
    pub fn background_at(&self, x: f32, y: f32) -> [f32; 3] {
        let middle = (self.size.width as f32 / 2.0, self.size.height as f32 / 2.0);
        let (x, y) = ((x - middle.0) / middle.0, (y - middle.1) / middle.1);
        self.planes
            .map(|plane| plane[0] + plane[1] * x + plane[2] * y)
    }

    /// Whether something of these others shows at a place, and not `own`.
    pub fn is_of(&self, others: &Labels, own: Blob, x: f32, y: f32) -> bool {
        let Size { height, width } = self.size;
        if x < 0.0 || y < 0.0 || x >= width as f32 || y >= height as f32 {
            return false;
        }
        let (x, y) = (x as usize, y as usize);
        // What only the closing of gaps has joined to it may be the other's edge.
        let at = y * width + x;
        if self.labels[at] == own.label && self.raw[at] {
            return false;
        }
        let near = |at: usize, side: usize| at.saturating_sub(EDGE)..(at + EDGE + 1).min(side);
        near(y, height).any(|y| {
            near(x, width).any(|x| {
                let label = self.labels[y * width + x];
                label != 0 && others.contains(&label)
            })
        })
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
    }

    /// Fits a plane to the border's background, and takes the channel's differences from it in.
    fn add_channel(&mut self, channel: usize, values: &[f32], learnt: Option<(f32, f32)>) {
        let width = self.size.width;
        let (cx, cy) = (width as f32 / 2.0, self.size.height as f32 / 2.0);
        let place = |at: usize| {
            (
                ((at % width) as f32 + 0.5 - cx) / cx,
                ((at / width) as f32 + 0.5 - cy) / cy,
            )
        };
        let near = |level: f32, off: f32| {
            let within = SAME.max(SAME_SHARE * level).max(2.0 * off);
            let border = self.border.iter();
            let near = border.filter(|at| (values[**at] - level).abs() <= within);
            near.count() * 4 > self.border.len()
        };
        let known = learnt.filter(|(level, off)| near(*level, *off));
        self.knows_background &= learnt.is_none() || known.is_some();
        let level = match known {
            Some((level, _)) => level,
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
            let limit = (3.0 * 1.4826 * median(&mut self.ranked)).clamp(ODD, FAR);
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
        self.planes[channel] = plane;
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
        self.is_full = false;
        for start in 0..self.mask.len() {
            if !self.mask[start] || self.labels[start] != 0 {
                continue;
            }
            if self.blobs.len() >= MOST_BLOBS {
                self.is_full = true;
                break;
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
}

/// More things than this on one background are noise.
const MOST_BLOBS: usize = 1000;

impl Blob {
    pub fn label(&self) -> u16 {
        self.label
    }

    /// Whether the box around it comes as close to a place as `reach`.
    pub fn is_within(&self, x: f32, y: f32, reach: f32) -> bool {
        let off =
            |at: f32, (from, to): (usize, usize)| (from as f32 - at).max(at - to as f32).max(0.0);
        off(x, self.columns).hypot(off(y, self.rows)) <= reach
    }

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
