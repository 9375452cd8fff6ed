//! `vadlite eval --self-check`: how well a method finds synthetic defects, from good images alone.
//!
//! Every fifth good image (by name) is held out and the method fitted on the others. Each image held out is tested as it is and with one
//! synthetic defect of each kind (`detector/synthetic.rs`), placed at random on the part, with a diameter of 3 to 15 % of the shorter side. The random
//! numbers are the same every time. The figures are for comparing methods and settings; real defects may be easier or harder.

use super::dataset::TestImage;
use super::images::{self, Reading};
use crate::detector::synthetic::{KINDS, paint};
use anyhow::Context as _;
use fastrand::Rng;
use image::{GrayImage, Luma, Rgb, RgbImage};
use ndarray::{Array2, Array3};
use std::path::{Path, PathBuf};

/// One image of so many is held out.
const HELD_OUT: usize = 5;
const SEED: u64 = 7;
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
        let image = pixels(&images::picture(&path, reading)?);
        for (kind, name) in KINDS {
            let donor = pixels(&images::picture(&fit[random.usize(..fit.len())], reading)?);
            let (defective, mask) = paint(image.view(), donor.view(), kind, &mut random);
            let (defective, mask) = (picture(&defective), mask_picture(&mask));
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

/// 3 x height x width.
fn pixels(picture: &RgbImage) -> Array3<f32> {
    let (width, height) = picture.dimensions();
    Array3::from_shape_fn((3, height as usize, width as usize), |(channel, y, x)| {
        picture.get_pixel(x as u32, y as u32)[channel].into()
    })
}

fn picture(pixels: &Array3<f32>) -> RgbImage {
    let (_, height, width) = pixels.dim();
    RgbImage::from_fn(width as u32, height as u32, |x, y| {
        Rgb(std::array::from_fn(|channel| {
            pixels[[channel, y as usize, x as usize]].round() as u8
        }))
    })
}

fn mask_picture(mask: &Array2<bool>) -> GrayImage {
    let (height, width) = mask.dim();
    GrayImage::from_fn(width as u32, height as u32, |x, y| {
        Luma([if mask[[y as usize, x as usize]] {
            255
        } else {
            0
        }])
    })
}
