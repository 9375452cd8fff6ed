//! `vadlite eval --self-check`: how well a method finds synthetic defects, from good images alone.
//!
//! Every fifth good image (by name) is held out and the method fitted on the others. Each image held out is tested as it is and with one
//! synthetic defect of each [`Kind`], placed at random on the part, with a diameter of 3 to 15 % of the shorter side. The random
//! numbers are the same every time. The figures are for comparing methods and settings; real defects may be easier or harder.

use super::dataset::TestImage;
use super::images::{self, Reading};
use anyhow::Context as _;
use fastrand::Rng;
use image::{GrayImage, Luma, Rgb, RgbImage};
use std::f32::consts::{PI, TAU};
use std::path::{Path, PathBuf};

/// One image of so many is held out.
const HELD_OUT: usize = 5;
const SEED: u64 = 7;
/// Distance from the border's colour, in steps of 255, from which on a pixel belongs to the part.
const FOREGROUND: f32 = 25.0;

/// What is painted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A rectangle of another place of another good image (Li et al. 2021, CutPaste)
    CutPaste,
    /// A thin bent line
    Scar,
    /// A soft-edged patch that is 12 to 40 % brighter or darker
    Shade,
    /// A soft-edged patch of a foreign colour
    Blob,
}

const KINDS: [(Kind, &str); 4] = [
    (Kind::CutPaste, "cut-paste"),
    (Kind::Scar, "scar"),
    (Kind::Shade, "shade"),
    (Kind::Blob, "blob"),
];

/// The good images to fit on, and the others with and without defects, written as PNG into `folder`.
///
/// # Errors
/// Fewer than two images, one that cannot be read, a folder that cannot be written.
pub fn split(
    good: &[PathBuf],
    folder: &Path,
    reading: Reading,
) -> anyhow::Result<(Vec<PathBuf>, Vec<TestImage>)> {
    let fit: Vec<PathBuf> = kept(good, |index| index % HELD_OUT != 0);
    let held_out = kept(good, |index| index % HELD_OUT == 0);
    anyhow::ensure!(
        !fit.is_empty(),
        "a self-check needs more than {} good images",
        good.len()
    );
    let mut random = Rng::with_seed(SEED);
    let mut test = Vec::new();
    for (_, name) in KINDS {
        let to = folder.join(name);
        std::fs::create_dir(&to)
            .with_context(|| format!("folder {} cannot be made", to.display()))?;
    }
    for (number, path) in held_out.into_iter().enumerate() {
        let image = images::picture(&path, reading)?;
        for (kind, name) in KINDS {
            let donor = images::picture(&fit[random.usize(..fit.len())], reading)?;
            let (defective, mask) = paint(&image, &donor, kind, &mut random);
            let write = |picture: &dyn Fn(&Path) -> image::ImageResult<()>, suffix: &str| {
                let to = folder.join(name).join(format!("{number:04}{suffix}.png"));
                picture(&to).with_context(|| format!("{} cannot be written", to.display()))?;
                anyhow::Ok(to)
            };
            test.push(TestImage {
                path: write(&|to| defective.save(to), "")?,
                mask: Some(write(&|to| mask.save(to), "_mask")?),
                defective: true,
            });
        }
        test.push(TestImage {
            path,
            mask: None,
            defective: false,
        });
    }
    // Kind by kind, as a dataset is read; the good ones last.
    test.sort_by_key(|image| (!image.defective, image.path.parent().map(Path::to_path_buf)));
    Ok((fit, test))
}

fn kept(good: &[PathBuf], which: impl Fn(usize) -> bool) -> Vec<PathBuf> {
    let numbered = good.iter().enumerate();
    numbered
        .filter(|(index, _)| which(*index))
        .map(|(_, path)| path.clone())
        .collect()
}

/// The image with a defect, and the defect's mask.
fn paint(
    image: &RgbImage,
    donor: &RgbImage,
    kind: Kind,
    random: &mut Rng,
) -> (RgbImage, GrayImage) {
    let (width, height) = image.dimensions();
    let side = width.min(height) as f32;
    let part = foreground(image);
    let place = |random: &mut Rng| part[random.usize(..part.len())];
    let between =
        |random: &mut Rng, from: f32, to: f32| -> f32 { from + (to - from) * random.f32() };
    let (x0, y0) = place(random);
    let diameter = (side * between(random, 0.03f32.ln(), 0.15f32.ln()).exp()).max(3.0);
    let (sin, cos) = between(random, 0.0, PI).sin_cos();
    let grey = image.pixels().all(|p| p[0] == p[1] && p[1] == p[2]);

    // Strength of the defect at a place given along and across its axis, and the colour there.
    let mut cover: Box<dyn Fn(f32, f32) -> f32>;
    let colour: Box<dyn Fn(u32, u32, Rgb<u8>) -> [f32; 3]>;
    match kind {
        Kind::CutPaste => {
            let aspect = between(random, 0.4f32.ln(), 2.5f32.ln()).exp().sqrt();
            let half = (diameter * aspect / 2.0, diameter / aspect / 2.0);
            let far = |(x, y): &(u32, u32)| (x.abs_diff(x0) + y.abs_diff(y0)) as f32 > 0.15 * side;
            let from = (0..20)
                .map(|_| place(random))
                .find(far)
                .unwrap_or((width - 1 - x0, height - 1 - y0));
            let donor = donor.clone();
            cover = Box::new(move |u, v| f32::from(u.abs() <= half.0 && v.abs() <= half.1));
            colour = Box::new(move |x, y, _| {
                let moved = |at: u32, from: u32, to: u32, size: u32, of: u32| {
                    let at = (i64::from(at) + i64::from(from) - i64::from(to))
                        .clamp(0, i64::from(size) - 1);
                    (at as u32 * of / size).min(of - 1)
                };
                let (x, y) = (
                    moved(x, from.0, x0, width, donor.width()),
                    moved(y, from.1, y0, height, donor.height()),
                );
                donor.get_pixel(x, y).0.map(f32::from)
            });
        }
        Kind::Scar => {
            let length = side * between(random, 0.06, 0.25);
            let thickness = (side * between(random, 0.005, 0.02)).max(1.5);
            let bend = length * between(random, -0.15, 0.15);
            let opacity = between(random, 0.5, 1.0);
            let (x, y) = place(random);
            let factor = between(random, 0.4, 1.6);
            let ink = image
                .get_pixel(x, y)
                .0
                .map(|value| f32::from(value) * factor);
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
                colour = Box::new(move |_, _, pixel| {
                    pixel.0.map(|value| f32::from(value) * factor + 10.0 * sign)
                });
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

    let mut defective = image.clone();
    let mut mask = GrayImage::new(width, height);
    for (x, y, pixel) in defective.enumerate_pixels_mut() {
        let (dx, dy) = (x as f32 - x0 as f32, y as f32 - y0 as f32);
        let strength = cover(dx * cos + dy * sin, dy * cos - dx * sin);
        if strength > 0.0 {
            let ink = colour(x, y, *pixel);
            for (value, ink) in pixel.0.iter_mut().zip(ink) {
                *value = (f32::from(*value) * (1.0 - strength) + ink * strength).round() as u8;
            }
            mask.put_pixel(x, y, Luma([if strength >= 0.2 { 255 } else { 0 }]));
        }
    }
    (defective, mask)
}

/// Where the part is: what differs from the border's mean colour, or everything where that is less than a tenth of the image.
fn foreground(image: &RgbImage) -> Vec<(u32, u32)> {
    let (width, height) = image.dimensions();
    let on_border = |x: u32, y: u32| x == 0 || y == 0 || x == width - 1 || y == height - 1;
    let border: Vec<[u8; 3]> = image
        .enumerate_pixels()
        .filter(|(x, y, _)| on_border(*x, *y))
        .map(|(_, _, pixel)| pixel.0)
        .collect();
    let mean: [f32; 3] = std::array::from_fn(|channel| {
        border.iter().map(|p| f32::from(p[channel])).sum::<f32>() / border.len().max(1) as f32
    });
    let differs = |pixel: &Rgb<u8>| {
        let channels = pixel.0.iter().zip(mean);
        channels
            .map(|(&value, mean)| (f32::from(value) - mean).abs())
            .fold(0.0, f32::max)
            > FOREGROUND
    };
    let all = || image.enumerate_pixels();
    let part: Vec<(u32, u32)> = all()
        .filter(|(_, _, pixel)| differs(pixel))
        .map(|(x, y, _)| (x, y))
        .collect();
    if part.len() * 10 >= (width * height) as usize {
        part
    } else {
        all().map(|(x, y, _)| (x, y)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A grey disc on white.
    fn part(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let (x, y) = (
                x as f32 / width as f32 - 0.5,
                y as f32 / height as f32 - 0.5,
            );
            Rgb([if x.hypot(y) < 0.35 { 120 } else { 250 }; 3])
        })
    }

    #[test]
    fn every_kind_changes_what_its_mask_covers_and_nothing_far_from_it() {
        let image = part(320, 240);
        let donor = RgbImage::from_fn(100, 80, |x, y| Rgb([(x * 2) as u8, (y * 3) as u8, 9]));
        for (kind, name) in KINDS {
            let mut random = Rng::with_seed(SEED);
            for _ in 0..20 {
                let (defective, mask) = paint(&image, &donor, kind, &mut random);
                let marked = mask.pixels().filter(|p| p[0] > 0).count();
                assert!(
                    (3..320 * 240 / 8).contains(&marked),
                    "{name}: {marked} pixels"
                );
                let changed = |limit: u8| {
                    let pixels = image.pixels().zip(defective.pixels()).zip(mask.pixels());
                    pixels
                        .filter(|((a, b), mask)| mask[0] >= limit && a != b)
                        .count()
                };
                assert!(changed(255) * 2 > marked, "{name} changes what it marks");
                assert!(
                    changed(0) - changed(255) < marked + 200,
                    "{name} changes little else"
                );
            }
        }
    }

    #[test]
    fn defects_lie_on_the_part() {
        let centres = foreground(&part(200, 200));
        assert!(
            centres
                .iter()
                .all(|&(x, y)| { (x as f32 - 100.0).hypot(y as f32 - 100.0) < 72.0 })
        );
        let blank = RgbImage::from_pixel(20, 10, Rgb([7, 8, 9]));
        assert_eq!(foreground(&blank).len(), 200, "anywhere on a plain image");
    }

    #[test]
    fn tiny_images_are_painted_too() {
        let image = part(3, 1);
        for (kind, _) in KINDS {
            paint(&image, &image, kind, &mut Rng::with_seed(1));
        }
    }
}
