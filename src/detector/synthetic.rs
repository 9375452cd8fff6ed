//! Synthetic defects on good images: what stands in for real ones where a method is to be chosen or measured and none are at hand.

use fastrand::Rng;
use ndarray::{Array2, Array3, ArrayView3, s};
use std::f32::consts::{PI, TAU};

/// Distance from the border's colour, in steps of 255, from which on a pixel belongs to the part.
const FOREGROUND: f32 = 25.0;

/// What is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A rectangle of another place of another good image (Li et al. 2021, CutPaste)
    CutPaste,
    /// A thin bent line
    Scar,
    /// A soft-edged patch that is 12 to 40 % brighter or darker
    Shade,
    /// A soft-edged patch of a foreign colour
    Blob,
}

pub const KINDS: [(Kind, &str); 4] = [
    (Kind::CutPaste, "cut-paste"),
    (Kind::Scar, "scar"),
    (Kind::Shade, "shade"),
    (Kind::Blob, "blob"),
];

/// The image with a defect, and where that is. Images are 3 x height x width, RGB in 0..255; `donor` is another good one. The defect has
/// a diameter of 3 to 15 % of the shorter side and lies at random on the part.
pub fn paint(
    image: ArrayView3<'_, f32>,
    donor: ArrayView3<'_, f32>,
    kind: Kind,
    random: &mut Rng,
) -> (Array3<f32>, Array2<bool>) {
    let (_, height, width) = image.dim();
    let side = width.min(height) as f32;
    let part = foreground(image);
    let place = |random: &mut Rng| part[random.usize(..part.len())];
    let between =
        |random: &mut Rng, from: f32, to: f32| -> f32 { from + (to - from) * random.f32() };
    let pixel = |image: ArrayView3<'_, f32>, x: usize, y: usize| -> [f32; 3] {
        std::array::from_fn(|channel| image[[channel, y, x]])
    };
    let (x0, y0) = place(random);
    let diameter = (side * between(random, 0.03f32.ln(), 0.15f32.ln()).exp()).max(3.0);
    let (sin, cos) = between(random, 0.0, PI).sin_cos();
    let grey = image.slice(s![0, .., ..]) == image.slice(s![1, .., ..])
        && image.slice(s![1, .., ..]) == image.slice(s![2, .., ..]);

    // Strength of the defect at a place given along and across its axis, and the colour there.
    let mut cover: Box<dyn Fn(f32, f32) -> f32>;
    let colour: Box<dyn Fn(usize, usize, [f32; 3]) -> [f32; 3] + '_>;
    match kind {
        Kind::CutPaste => {
            let aspect = between(random, 0.4f32.ln(), 2.5f32.ln()).exp().sqrt();
            let half = (diameter * aspect / 2.0, diameter / aspect / 2.0);
            let far =
                |(x, y): &(usize, usize)| (x.abs_diff(x0) + y.abs_diff(y0)) as f32 > 0.15 * side;
            let from = (0..20)
                .map(|_| place(random))
                .find(far)
                .unwrap_or((width - 1 - x0, height - 1 - y0));
            let (_, donor_height, donor_width) = donor.dim();
            cover = Box::new(move |u, v| f32::from(u.abs() <= half.0 && v.abs() <= half.1));
            colour = Box::new(move |x, y, _| {
                let moved = |at: usize, from: usize, to: usize, size: usize, of: usize| {
                    let at = (at + from).saturating_sub(to).min(size - 1);
                    (at * of / size).min(of - 1)
                };
                let (x, y) = (
                    moved(x, from.0, x0, width, donor_width),
                    moved(y, from.1, y0, height, donor_height),
                );
                pixel(donor, x, y)
            });
        }
        Kind::Scar => {
            let length = side * between(random, 0.06, 0.25);
            let thickness = (side * between(random, 0.005, 0.02)).max(1.5);
            let bend = length * between(random, -0.15, 0.15);
            let opacity = between(random, 0.5, 1.0);
            let (x, y) = place(random);
            let factor = between(random, 0.4, 1.6);
            let ink = pixel(image, x, y).map(|value| value * factor);
            cover = Box::new(move |u, v| {
                let along = u / (length / 2.0);
                let off = (v - bend * (along * along - 1.0)).abs();
                if along.abs() < 1.0 && off < thickness / 2.0 {
                    opacity
                } else {
                    0.0
                }
            });
            colour = Box::new(move |_, _, _| ink);
        }
        Kind::Shade | Kind::Blob => {
            // A wobbly ellipse with an edge that fades out.
            let flat = between(random, 1.0, 2.0);
            let waves: [(f32, f32); 4] = std::array::from_fn(|k| {
                (
                    between(random, 0.0, 0.25) / (k + 1) as f32,
                    between(random, 0.0, TAU),
                )
            });
            let edge = (side * 0.008).max(1.0);
            cover = Box::new(move |u, v| {
                let angle = v.atan2(u);
                let wobble: f32 = (1u8..)
                    .zip(waves)
                    .map(|(k, (size, phase))| size * (f32::from(k) * angle + phase).cos())
                    .sum();
                let inside = diameter / 2.0 * (1.0 + wobble) - u.hypot(v * flat);
                (0.5 + inside / edge).clamp(0.0, 1.0)
            });
            if kind == Kind::Shade {
                let sign = if random.bool() { 1.0 } else { -1.0 };
                let factor = 1.0 + sign * between(random, 0.12, 0.4);
                colour =
                    Box::new(move |_, _, pixel| pixel.map(|value| value * factor + 10.0 * sign));
            } else {
                let shade = between(random, 0.0, 255.0);
                let coloured = !grey && random.bool();
                let ink = std::array::from_fn(|_| {
                    if coloured {
                        between(random, 0.0, 255.0)
                    } else {
                        shade
                    }
                });
                let opacity = between(random, 0.4, 0.9);
                let shape = cover;
                cover = Box::new(move |u, v| opacity * shape(u, v));
                colour = Box::new(move |_, _, _| ink);
            }
        }
    }

    let mut defective = image.to_owned();
    let mut mask = Array2::from_elem((height, width), false);
    for ((y, x), marked) in mask.indexed_iter_mut() {
        let (dx, dy) = (x as f32 - x0 as f32, y as f32 - y0 as f32);
        let strength = cover(dx * cos + dy * sin, dy * cos - dx * sin);
        if strength > 0.0 {
            let ink = colour(x, y, pixel(image, x, y));
            for (channel, ink) in ink.into_iter().enumerate() {
                let value = &mut defective[[channel, y, x]];
                *value = (*value * (1.0 - strength) + ink * strength).clamp(0.0, 255.0);
            }
            *marked = strength >= 0.2;
        }
    }
    (defective, mask)
}

/// Where the part is, as x and y: what differs from the border's mean colour, or everything where that is less than a tenth of the image.
fn foreground(image: ArrayView3<'_, f32>) -> Vec<(usize, usize)> {
    let (_, height, width) = image.dim();
    let places = || (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let on_border =
        |&(x, y): &(usize, usize)| x == 0 || y == 0 || x == width - 1 || y == height - 1;
    let border: Vec<_> = places().filter(on_border).collect();
    let mean: [f32; 3] = std::array::from_fn(|channel| {
        let sum: f32 = border.iter().map(|&(x, y)| image[[channel, y, x]]).sum();
        sum / border.len().max(1) as f32
    });
    let differs = |&(x, y): &(usize, usize)| {
        (0..3).any(|channel| (image[[channel, y, x]] - mean[channel]).abs() > FOREGROUND)
    };
    let part: Vec<_> = places().filter(differs).collect();
    if part.len() * 10 >= width * height {
        part
    } else {
        places().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grey disc on white.
    fn part(width: usize, height: usize) -> Array3<f32> {
        Array3::from_shape_fn((3, height, width), |(_, y, x)| {
            let (x, y) = (
                x as f32 / width as f32 - 0.5,
                y as f32 / height as f32 - 0.5,
            );
            if x.hypot(y) < 0.35 { 120.0 } else { 250.0 }
        })
    }

    #[test]
    fn every_kind_changes_what_its_mask_covers_and_nothing_far_from_it() {
        let image = part(320, 240);
        let donor = Array3::from_shape_fn((3, 80, 100), |(channel, y, x)| {
            [(x * 2) as f32, (y * 3) as f32, 9.0][channel]
        });
        for (kind, name) in KINDS {
            let mut random = Rng::with_seed(7);
            for _ in 0..20 {
                let (defective, mask) = paint(image.view(), donor.view(), kind, &mut random);
                let marked = mask.iter().filter(|marked| **marked).count();
                assert!(
                    (3..320 * 240 / 8).contains(&marked),
                    "{name}: {marked} pixels"
                );
                let changed = |inside: bool| {
                    mask.indexed_iter()
                        .filter(|((y, x), marked)| {
                            let at = s![.., *y, *x];
                            (**marked || !inside) && image.slice(at) != defective.slice(at)
                        })
                        .count()
                };
                assert!(changed(true) * 2 > marked, "{name} changes what it marks");
                assert!(
                    changed(false) - changed(true) < marked + 200,
                    "{name} changes little else"
                );
            }
        }
    }

    #[test]
    fn defects_lie_on_the_part() {
        let centres = foreground(part(200, 200).view());
        assert!(
            centres
                .iter()
                .all(|&(x, y)| { (x as f32 - 100.0).hypot(y as f32 - 100.0) < 72.0 })
        );
        let blank = Array3::from_elem((3, 10, 20), 7.0);
        assert_eq!(
            foreground(blank.view()).len(),
            200,
            "anywhere on a plain image"
        );
    }

    #[test]
    fn tiny_images_are_painted_too() {
        let image = part(3, 1);
        for (kind, _) in KINDS {
            paint(image.view(), image.view(), kind, &mut Rng::with_seed(1));
        }
    }
}
