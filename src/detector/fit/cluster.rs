//! Whether the images that set the threshold are unlike the others in one and the same place: a corner that the belt shakes, an edge that
//! the crop cuts now here, now there, a lamp's reflection. A mask can leave such a place out, if nobody wants it judged.
//!
//! A spatial scan (Kulldorff 1997): of all blocks, strips and rims of a picture the one that holds more of these images than chance would
//! put there, by far.

use super::held_out::Scored;
use crate::detector::calibration::Calibration;
use crate::detector::scorer::mean_of_highest;
use crate::geometry::Size;
use std::ops::Range;

/// The images that are looked at: this share of all, the most unusual ones, and so many at least.
const HIGHEST: f64 = 0.05;
const FEWEST: usize = 8;
/// Of those, so many at least are least normal in the region: it is what sets the threshold.
const MOST: f64 = 0.5;
/// Probability that images whose places are chance have any region that is named.
const CHANCE: f64 = 0.001;
/// Without the region the threshold is lower than this times itself, or it would not be worth a word.
const LOWER: f32 = 0.9;
/// A block is made longer or wider as long as the threshold becomes lower than this times itself: few images do not hit every patch of it.
const GROW: f32 = 0.97;
/// The picture is scanned in units of so many to a side, or a few more; a patch is one at 224 pixels.
const UNITS: usize = 14;
/// A block is no longer than this share of a side, so that it is not the part itself.
const BLOCK: usize = 3;

/// A region in which the images that set the threshold are unlike the others.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// In words, such as `in the upper right corner`.
    pub place: String,
    /// How many of the most unusual images are so there, and how many these are; the same of all.
    pub highest_there: usize,
    pub highest: usize,
    pub images_there: usize,
    pub images: usize,
    /// The threshold as it is, and without the region; about, as another method may then be chosen.
    pub threshold: f32,
    pub without: f32,
    /// Rows and columns of patches.
    pub grid: Size,
    /// Which patches are judged without the region, row-major on the grid.
    pub judged: Vec<bool>,
}

/// A good image's held-out score, and those of its patches.
pub type Image<'a> = (Scored, &'a [f32]);

/// The cluster of these images, where there is one. `judged` says which patches are (empty: all), the image score is the mean of the
/// `patches` highest, and the threshold that for a false reject rate of `rate`.
pub fn cluster(
    images: &[Image<'_>],
    grid: Size,
    judged: &[bool],
    patches: usize,
    rate: f64,
) -> Option<Cluster> {
    let highest = ((HIGHEST * images.len() as f64).ceil() as usize).max(FEWEST);
    if 2 * highest > images.len() {
        return None;
    }
    let mut ranked: Vec<Image<'_>> = images.to_vec();
    ranked.sort_by(|a, b| b.0.score.total_cmp(&a.0.score));
    let is_judged = |patch: usize| judged.get(patch).copied().unwrap_or(true);
    let judged: Vec<bool> = (0..grid.area()).map(is_judged).collect();
    let units = Units::new(grid);
    let cells = units.count((0..grid.area()).filter(|&patch| judged[patch]));
    let hits = units.count(ranked[..highest].iter().map(|(scored, _)| scored.patch));
    let regions = units.regions();
    let limit = (CHANCE / regions.len() as f64).ln();
    let whole: usize = cells.iter().sum();
    let (chance, region) = regions
        .iter()
        .filter_map(|region| {
            let part = units.sum(&hits, region);
            let share = units.sum(&cells, region) as f64 / whole.max(1) as f64;
            let often = part as f64 >= MOST * highest as f64;
            (often && share < 1.0).then(|| (log_chance(part, highest, share), region))
        })
        .min_by(|a, b| a.0.total_cmp(&b.0))?;
    if chance > limit {
        return None;
    }
    let without = |region: &Region| -> Option<(f32, Vec<bool>)> {
        let kept = |patch: usize| judged[patch] && !region.contains(units.of(patch));
        let kept: Vec<bool> = (0..grid.area()).map(kept).collect();
        Some((threshold(images, &kept, patches, rate)?, kept))
    };
    let (mut region, mut left) = (region.clone(), without(region)?);
    loop {
        let larger = units.larger(&region).into_iter();
        let larger = larger.filter_map(|larger| Some((without(&larger)?, larger)));
        match larger.min_by(|a, b| a.0.0.total_cmp(&b.0.0)) {
            Some((lower, larger)) if lower.0 < GROW * left.0 => (region, left) = (larger, lower),
            _ => break,
        }
    }
    let (without, kept) = left;
    let threshold = threshold(images, &judged, patches, rate)?;
    let inside = |patch: usize| region.contains(units.of(patch));
    let there = |images: &[Image<'_>]| {
        let there = images.iter().filter(|(scored, _)| inside(scored.patch));
        there.count()
    };
    (without < LOWER * threshold).then(|| Cluster {
        place: units.words(&region),
        highest_there: there(&ranked[..highest]),
        highest,
        images_there: there(images),
        images: images.len(),
        threshold,
        without,
        grid,
        judged: kept,
    })
}

/// The threshold where only these patches are judged.
fn threshold(images: &[Image<'_>], judged: &[bool], patches: usize, rate: f64) -> Option<f32> {
    let mut ranked = Vec::with_capacity(judged.len());
    let score = |(_, scores): &Image<'_>| {
        // As in inspecting: what is not judged scores nothing.
        let all = scores.iter().zip(judged);
        let all: Vec<f32> = all
            .map(|(score, judged)| if *judged { *score } else { 0.0 })
            .collect();
        mean_of_highest(&all, patches, &mut ranked)
    };
    let scores = images.iter().map(score).collect();
    Calibration::new(scores).ok()?.threshold(rate).ok()
}

/// Logarithm of the probability that so many or more of so many places lie in a region that holds this share of all, at most (Chernoff
/// 1952).
fn log_chance(part: usize, of: usize, share: f64) -> f64 {
    let seen = part as f64 / of as f64;
    if seen <= share {
        return 0.0;
    }
    let term = |seen: f64, share: f64| match seen > 0.0 {
        true => seen * (seen / share).ln(),
        false => 0.0,
    };
    -(of as f64) * (term(seen, share) + term(1.0 - seen, 1.0 - share))
}

/// What lies within these rows and columns of units, or all but that.
#[derive(Debug, Clone)]
struct Region {
    rows: Range<usize>,
    columns: Range<usize>,
    outside: bool,
}

impl Region {
    fn contains(&self, (row, column): (usize, usize)) -> bool {
        (self.rows.contains(&row) && self.columns.contains(&column)) != self.outside
    }
}

/// The picture in units of some patches each.
struct Units {
    grid: Size,
    /// Patches to a side of a unit.
    side: Size,
    size: Size,
}

impl Units {
    fn new(grid: Size) -> Self {
        let side = grid.map(|patches| (patches / UNITS).max(1));
        let size = Size::new(
            grid.height.div_ceil(side.height),
            grid.width.div_ceil(side.width),
        );
        Self { grid, side, size }
    }

    /// Row and column of the unit that a patch is in.
    fn of(&self, patch: usize) -> (usize, usize) {
        let (row, column) = (patch / self.grid.width, patch % self.grid.width);
        (row / self.side.height, column / self.side.width)
    }

    /// How many of the patches are in each unit.
    fn count(&self, patches: impl Iterator<Item = usize>) -> Vec<usize> {
        let mut counts = vec![0; self.size.area()];
        for (row, column) in patches.map(|patch| self.of(patch)) {
            counts[row * self.size.width + column] += 1;
        }
        counts
    }

    fn sum(&self, counts: &[usize], region: &Region) -> usize {
        let rows = counts.chunks_exact(self.size.width);
        let rows = rows.skip(region.rows.start).take(region.rows.len());
        let within = rows.flat_map(|row| &row[region.columns.clone()]).sum();
        match region.outside {
            true => counts.iter().sum::<usize>() - within,
            false => within,
        }
    }

    /// Every block, the strips along the four edges, and the rim.
    fn regions(&self) -> Vec<Region> {
        let Size { height, width } = self.size;
        let ranges = |side: usize| -> Vec<Range<usize>> {
            let lengths = 1..=side.div_ceil(BLOCK);
            let range = move |length| (0..=side - length).map(move |from| from..from + length);
            lengths.flat_map(range).collect()
        };
        let (rows, columns) = (ranges(height), ranges(width));
        let mut regions = Vec::with_capacity(rows.len() * columns.len() + 9);
        let mut add = |rows: Range<usize>, columns: Range<usize>, outside| {
            regions.push(Region {
                rows,
                columns,
                outside,
            });
        };
        for depth in 1..=2 {
            let (deep, wide) = (depth.min(height), depth.min(width));
            add(0..deep, 0..width, false);
            add(height - deep..height, 0..width, false);
            add(0..height, 0..wide, false);
            add(0..height, width - wide..width, false);
        }
        if height > 2 && width > 2 {
            add(1..height - 1, 1..width - 1, true);
        }
        for rows in rows {
            for columns in &columns {
                add(rows.clone(), columns.clone(), false);
            }
        }
        regions
    }

    /// The blocks that a block becomes where it is longer or wider by one; none where it is none, or as large as blocks are.
    fn larger(&self, region: &Region) -> Vec<Region> {
        let longer = |range: &Range<usize>, side: usize| -> Vec<Range<usize>> {
            let all = [
                range.start.saturating_sub(1)..range.end,
                range.start..(range.end + 1).min(side),
            ];
            let fits = |longer: &Range<usize>| {
                longer.len() > range.len() && longer.len() <= side.div_ceil(BLOCK)
            };
            all.into_iter().filter(fits).collect()
        };
        let Size { height, width } = self.size;
        let is_block = region.rows.len() <= height.div_ceil(BLOCK)
            && region.columns.len() <= width.div_ceil(BLOCK);
        if region.outside || !is_block {
            return Vec::new();
        }
        let rows = longer(&region.rows, height).into_iter();
        let columns = longer(&region.columns, width).into_iter();
        let with_rows = rows.map(|rows| Region {
            rows,
            ..region.clone()
        });
        let with_columns = columns.map(|columns| Region {
            columns,
            ..region.clone()
        });
        with_rows.chain(with_columns).collect()
    }

    /// Where a region is.
    fn words(&self, region: &Region) -> String {
        let Size { height, width } = self.size;
        let ends = |range: &Range<usize>, side: usize| (range.start == 0, range.end == side);
        let vertical = match ends(&region.rows, height) {
            (true, false) => Some("upper"),
            (false, true) => Some("lower"),
            _ => None,
        };
        let horizontal = match ends(&region.columns, width) {
            (true, false) => Some("left"),
            (false, true) => Some("right"),
            _ => None,
        };
        let whole = (region.rows.len() == height, region.columns.len() == width);
        match (region.outside, vertical, horizontal, whole) {
            (true, ..) => "along the edges".into(),
            (_, Some(vertical), Some(horizontal), _) => {
                format!("in the {vertical} {horizontal} corner")
            }
            (_, Some(vertical), None, (_, true)) => format!("along the {vertical} edge"),
            (_, None, Some(horizontal), (true, _)) => format!("along the {horizontal} edge"),
            _ => {
                let middle = |range: &Range<usize>, side: usize| {
                    (50 * (range.start + range.end)).div_ceil(side.max(1))
                };
                format!(
                    "about {} % from the left and {} % from the top",
                    middle(&region.columns, width),
                    middle(&region.rows, height)
                )
            }
        }
    }
}

#[cfg(test)]
mod tests;
