//! Which good images are copies of others: the same picture recompressed, brightened or shifted a little, or frames of a scene that
//! stands still.
//!
//! A head that has seen an image's copy finds nothing unusual in the image: a threshold from such scores would flag good parts that no
//! copy is known of. How near two images have to be is told by the images themselves, since parts on a fixture look alike too: nearer
//! than another image comes by chance, judged by how the distances between all of them are spread.

use super::taps::Normalization;
use ndarray::ArrayView3;
use rayon::prelude::*;

/// Columns and rows of the small grey picture that images are compared by, and how much of its border is left out: what a shift brings
/// in.
const SIDE: usize = 32;
const BORDER: usize = 2;
const INNER: usize = SIDE - 2 * BORDER;
const PIXELS: usize = INNER * INNER;
/// Changes that make no other picture: lighter, more contrast, shifted across, shifted down.
const CHANGES: usize = 4;
/// How far each may go: a tangent leads on without an end, and away from the picture. Any brightness, a third of the contrast, two cells.
const REACH: [f32; CHANGES] = [f32::MAX, 0.3, 1.0, 1.0];
/// Images that come as near as a copy by chance, for each image.
const CHANCE: f64 = 0.01;
/// Images nearer than this are copies however alike the others are: root mean square, in grey levels of 255. Two exposures differ by
/// more, from noise alone.
const SAME: f32 = 0.05;
/// No images are copies of each other that are further apart than this, as a share of the distance to half of all images.
const FURTHEST: f64 = 0.5;

/// What an image looks like, in small.
pub struct Look {
    grey: Vec<f32>,
    /// Orthonormal: what [`CHANGES`] do to it, to first order (tangent distance; Simard, LeCun, Denker 1993).
    changes: [Vec<f32>; CHANGES],
    /// How far each may go.
    reach: [f32; CHANGES],
}

impl Look {
    /// Of an image tensor (3 x height x width, normalised).
    pub fn new(image: ArrayView3<'_, f32>, normalization: Normalization) -> Self {
        let small = blurred(&shrunk(image, normalization));
        let at = |x: usize, y: usize| small[y * SIDE + x];
        let inner = |value: &dyn Fn(usize, usize) -> f32| -> Vec<f32> {
            let rows = BORDER..SIDE - BORDER;
            rows.flat_map(|y| (BORDER..SIDE - BORDER).map(move |x| value(x, y)))
                .collect()
        };
        let grey = inner(&at);
        let mut changes = [
            vec![1.0; PIXELS],
            grey.clone(),
            inner(&|x, y| at(x + 1, y) - at(x - 1, y)),
            inner(&|x, y| at(x, y + 1) - at(x, y - 1)),
        ];
        let mut reach = [0.0; CHANGES];
        // Gram-Schmidt; a change that the ones before it can do is none.
        for index in 0..CHANGES {
            let (before, rest) = changes.split_at_mut(index);
            let change = &mut rest[0];
            let whole = dot(change, change);
            for other in before {
                let along = dot(change, other);
                subtract(change, other, along);
            }
            let left = dot(change, change);
            let scale = if left > 1e-6 * whole {
                left.sqrt().recip()
            } else {
                0.0
            };
            change.iter_mut().for_each(|value| *value *= scale);
            reach[index] = REACH[index] * left.sqrt().max(f32::MIN_POSITIVE);
        }
        Self {
            grey,
            changes,
            reach,
        }
    }

    /// How much another image differs, but for the changes: root mean square, in grey levels of 255. `rest` is memory to work in.
    fn distance(&self, other: &Self, rest: &mut Vec<f32>) -> f32 {
        rest.clear();
        rest.extend(self.grey.iter().zip(&other.grey).map(|(a, b)| b - a));
        for (change, reach) in self.changes.iter().zip(self.reach) {
            let along = dot(rest, change).clamp(-reach, reach);
            subtract(rest, change, along);
        }
        (dot(rest, rest) / PIXELS as f32).sqrt()
    }
}

/// The mean of the colours, 0 to 255, over the cells of a grid of [`SIDE`] x [`SIDE`].
fn shrunk(image: ArrayView3<'_, f32>, Normalization { mean, std }: Normalization) -> Vec<f32> {
    let (channels, height, width) = image.dim();
    let range = |cell: usize, length: usize| {
        let from = (cell * length / SIDE).min(length.saturating_sub(1));
        from..((cell + 1) * length / SIDE).max(from + 1).min(length)
    };
    let mut small = Vec::with_capacity(SIDE * SIDE);
    for row in 0..SIDE {
        for column in 0..SIDE {
            let (rows, columns) = (range(row, height), range(column, width));
            let pixels = (rows.len() * columns.len()).max(1) as f32;
            let grey: f32 = (0..channels.min(3))
                .map(|channel| {
                    let cell = image.slice(ndarray::s![channel, rows.clone(), columns.clone()]);
                    (cell.sum() / pixels * std[channel] + mean[channel]) * 255.0 / 3.0
                })
                .sum();
            small.push(grey);
        }
    }
    small
}

/// Smoothed by 1 2 1 both ways, so that the first order holds for shifts of a good part of a cell.
fn blurred(small: &[f32]) -> Vec<f32> {
    let pass = |values: &[f32], step: usize, of: &dyn Fn(usize) -> usize| -> Vec<f32> {
        (0..values.len())
            .map(|index| {
                let place = of(index);
                let before = if place > 0 { index - step } else { index };
                let after = if place + 1 < SIDE {
                    index + step
                } else {
                    index
                };
                0.25 * values[before] + 0.5 * values[index] + 0.25 * values[after]
            })
            .collect()
    };
    let across = pass(small, 1, &|index| index % SIDE);
    pass(&across, SIDE, &|index| index / SIDE)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    // Eight sums, so that they need not wait for each other.
    let mut sums = [0.0f32; 8];
    let (a, b) = (a.chunks_exact(8), b.chunks_exact(8));
    for (a, b) in a.zip(b) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += a * b;
        }
    }
    sums.iter().sum()
}

fn subtract(a: &mut [f32], b: &[f32], times: f32) {
    for (a, b) in a.iter_mut().zip(b) {
        *a -= times * b;
    }
}

/// Images by what they show.
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    /// The group of each image; groups are numbered in the order of their first images.
    pub of: Vec<usize>,
    /// How many groups there are.
    pub count: usize,
    /// Median over images of the distance to half of the others, in grey levels of 255.
    pub typical: f32,
}

impl Groups {
    /// How many images are copies of one before them.
    pub fn copies(&self) -> usize {
        self.of.len() - self.count
    }
}

/// The looks of images that come one by one.
pub struct CopiesOf {
    normalization: Normalization,
    looks: Vec<Look>,
}

impl CopiesOf {
    /// Of images with this normalisation.
    pub fn new(normalization: Normalization) -> Self {
        Self {
            normalization,
            looks: Vec::new(),
        }
    }

    /// Takes in an image tensor (3 x height x width).
    pub fn add(&mut self, image: ArrayView3<'_, f32>) {
        self.looks.push(Look::new(image, self.normalization));
    }

    /// Of the `scores` of all images, that of the first image of each group.
    pub fn one_of_each(&self, scores: &[f32]) -> Vec<f32> {
        let mut seen = 0;
        let mut first = Vec::new();
        for (&group, &score) in groups(&self.looks).of.iter().zip(scores) {
            if group == seen {
                seen += 1;
                first.push(score);
            }
        }
        first
    }
}

/// One image's distances to the others.
struct Row {
    /// To the few nearest, and to half of them.
    near: f32,
    half: f32,
    /// Those that may be copies, with their distances.
    candidates: Vec<(usize, f32)>,
}

/// Finds the groups. An image belongs to the first group whose first image it is a copy of, so that a series of images, each near the
/// next, does not become one group.
///
/// Distances of images that depend on `d` things grow with the `d`-th root of how many images lie within them; `d` is told by the
/// distances to an eighth and to half of all images. That gives the distance within which a hundredth of an image is to be expected.
pub fn groups(looks: &[Look]) -> Groups {
    let others = looks.len().saturating_sub(1);
    if others == 0 {
        return Groups {
            of: vec![0; looks.len()],
            count: looks.len(),
            typical: 0.0,
        };
    }
    let (few, many) = (
        (looks.len() / 8).max(2).min(others),
        looks.len().div_ceil(2).min(others),
    );
    let rows: Vec<Row> = (0..looks.len())
        .into_par_iter()
        .map_init(Vec::new, |rest, image| row(looks, image, (few, many), rest))
        .collect();
    let dimension = |row: &Row| {
        let growth = f64::from(row.half / row.near).ln();
        (many as f64 / few as f64).ln() / growth
    };
    let known = rows
        .iter()
        .filter(|row| row.near > 0.0 && row.half > row.near);
    let dimension = median(known.map(dimension).collect()).unwrap_or(0.0);
    let share = match dimension > 0.0 {
        true => (CHANCE / many as f64).powf(dimension.recip()).min(FURTHEST),
        false => 0.0,
    };
    // Seen from either of the two.
    let mut linked = vec![Vec::new(); looks.len()];
    for (image, row) in rows.iter().enumerate() {
        let limit = (share as f32 * row.half).max(SAME);
        for &(other, _) in row
            .candidates
            .iter()
            .filter(|(_, distance)| *distance < limit)
        {
            linked[image.max(other)].push(image.min(other));
        }
    }
    let (mut of, mut count) = (Vec::with_capacity(looks.len()), 0);
    let mut first = Vec::with_capacity(looks.len());
    for before in &linked {
        let leader = before.iter().copied().filter(|&other| first[other]).min();
        first.push(leader.is_none());
        of.push(leader.map_or(count, |other| of[other]));
        count += usize::from(leader.is_none());
    }
    Groups {
        of,
        count,
        typical: median(rows.iter().map(|row| f64::from(row.half)).collect()).unwrap_or(0.0) as f32,
    }
}

fn row(looks: &[Look], image: usize, (few, many): (usize, usize), rest: &mut Vec<f32>) -> Row {
    let distances: Vec<(usize, f32)> = (0..looks.len())
        .filter(|&other| other != image)
        .map(|other| (other, looks[image].distance(&looks[other], rest)))
        .collect();
    let mut sorted: Vec<f32> = distances.iter().map(|(_, distance)| *distance).collect();
    sorted.sort_unstable_by(f32::total_cmp);
    let half = sorted[many - 1];
    let limit = (FURTHEST as f32 * half).max(SAME);
    Row {
        near: sorted[few - 1],
        half,
        candidates: distances
            .into_iter()
            .filter(|(_, distance)| *distance < limit)
            .collect(),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::geometry::Size;
    use ndarray::Array3;

    /// Without contrast every picture is empty: that makes none a copy of an empty one.
    #[test]
    fn an_empty_picture_is_no_copy_of_what_others_show() {
        let mut random = fastrand::Rng::with_seed(1);
        let mut looks = vec![Look::new(Array3::zeros((3, 96, 96)).view(), NORMALIZATION)];
        for _ in 0..30 {
            let (x, y) = (random.usize(10..70), random.usize(10..70));
            let mut image = Array3::zeros((3, 96, 96));
            image
                .slice_mut(ndarray::s![.., y..y + 16, x..x + 16])
                .fill(1.0);
            looks.push(Look::new(image.view(), NORMALIZATION));
        }
        let groups = groups(&looks);
        assert_eq!(groups.of.iter().filter(|group| **group == 0).count(), 1);
    }

    const SIZE: Size = Size::square(96);
    const NORMALIZATION: Normalization = Normalization {
        mean: [0.0; 3],
        std: [1.0; 3],
    };

    /// A disc with spots of its own, brighter by a factor and shifted to the right by pixels, with noise.
    fn part(seed: u64, bright: f32, shift: f32, noise: u64) -> Look {
        let mut random = fastrand::Rng::with_seed(seed);
        let spots: Vec<[f32; 3]> = (0..12)
            .map(|_| {
                [
                    0.3 + 0.4 * random.f32(),
                    0.3 + 0.4 * random.f32(),
                    20.0 * random.f32(),
                ]
            })
            .collect();
        let mut random = fastrand::Rng::with_seed(seed << 32 | noise);
        let mut image = Array3::zeros((3, SIZE.height, SIZE.width));
        for y in 0..SIZE.height {
            for x in 0..SIZE.width {
                let at = [
                    (x as f32 - shift) / SIZE.width as f32,
                    y as f32 / SIZE.height as f32,
                ];
                let spot: f32 = spots
                    .iter()
                    .map(|s| {
                        s[2] * (-200.0 * ((at[0] - s[0]).powi(2) + (at[1] - s[1]).powi(2))).exp()
                    })
                    .sum();
                let disc = 120.0 / (1.0 + (60.0 * ((at[0] - 0.5).hypot(at[1] - 0.5) - 0.35)).exp());
                let value = bright * (60.0 + disc + spot) + 4.0 * random.f32() - 2.0;
                image.slice_mut(ndarray::s![.., y, x]).fill(value / 255.0);
            }
        }
        Look::new(image.view(), NORMALIZATION)
    }

    #[test]
    fn parts_that_look_alike_are_no_copies() {
        let parts: Vec<Look> = (0..120).map(|seed| part(seed, 1.0, 0.0, 0)).collect();
        let groups = groups(&parts);
        assert!(groups.copies() <= 2, "{groups:?}");
        assert!(groups.typical > 0.5, "{groups:?}");
    }

    #[test]
    fn copies_are_found_whatever_was_done_to_them() {
        for (bright, shift, noise) in [(1.0, 0.0, 0), (1.02, 0.0, 0), (1.0, 1.0, 0), (0.97, 0.5, 1)]
        {
            let mut parts: Vec<Look> = (0..40).map(|seed| part(seed, 1.0, 0.0, 0)).collect();
            parts.extend((0..40).map(|seed| part(seed, bright, shift, noise)));
            let groups = groups(&parts);
            let found = (0..40)
                .filter(|&image| groups.of[image + 40] == image)
                .count();
            assert!(found >= 38, "{found} for {bright} {shift} {noise}");
            assert!(groups.count.abs_diff(40) <= 2, "{}", groups.count);
        }
    }

    #[test]
    fn frames_of_parts_that_stand_still_are_one_group_each() {
        let frames: Vec<Look> = (0..192)
            .map(|frame| part(frame / 16, 1.0, 0.0, 1 + frame))
            .collect();
        let groups = groups(&frames);
        assert_eq!(groups.count, 12, "{groups:?}");
        assert!((0..192).all(|frame| groups.of[frame] == frame / 16));
    }

    /// A part that turns: each image is near the next, and the first is no copy of the last.
    #[test]
    fn a_series_does_not_become_one_group() {
        let turned: Vec<Look> = (0..100)
            .map(|step| {
                let angle = step as f32 * 0.06;
                let image = Array3::from_shape_fn((3, 96, 96), |(_, y, x)| {
                    let (x, y) = (x as f32 / 96.0 - 0.5, y as f32 / 96.0 - 0.5);
                    0.5 + 0.3 * (40.0 * (x * angle.cos() + y * angle.sin())).sin()
                });
                Look::new(image.view(), NORMALIZATION)
            })
            .collect();
        let groups = groups(&turned);
        assert!(groups.count > 25, "{groups:?}");
    }

    #[test]
    fn images_without_any_difference_are_one() {
        for value in [0.0, 0.7] {
            let image = Array3::from_elem((3, 40, 33), value);
            let same: Vec<Look> = (0..12)
                .map(|_| Look::new(image.view(), NORMALIZATION))
                .collect();
            let groups = groups(&same);
            assert_eq!((groups.count, groups.copies()), (1, 11));
        }
        assert_eq!(groups(&[]).count, 0);
        assert_eq!(groups(&[part(1, 1.0, 0.0, 0)]).count, 1);
    }
}
