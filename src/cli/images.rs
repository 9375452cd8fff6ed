//! Image files: listing folders, decoding, and bringing them to tensors ahead of the backbone.

use super::console;
use crate::detector::taps::Normalization;
use crate::geometry::{Roi, Size};
use crate::video::preprocess::{Layout, Plane, Preprocess, Target};
use anyhow::{Context as _, bail};
use image::DynamicImage;
use indicatif::ProgressBar;
use ndarray::Array3;
use rayon::prelude::*;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

const EXTENSIONS: [&str; 11] = [
    "png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "pgm", "ppm", "pnm", "pbm",
];
/// Images decoded at a time; two such portions are in memory at once.
const PORTION: usize = 8;

/// The image files of a folder, sorted by name. Sub-folders are not entered: they tend to hold the defects.
pub fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("folder {} cannot be read", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("folder {} cannot be read", folder.display()))?
            .path();
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .map(str::to_ascii_lowercase);
        if extension.is_some_and(|extension| EXTENSIONS.contains(&extension.as_str()))
            && path.is_file()
        {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        bail!(
            "folder {} holds no images ({}); sub-folders are not searched",
            folder.display(),
            EXTENSIONS.join(", ")
        );
    }
    Ok(paths)
}

/// Decodes a file by what is in it, whatever its name says.
pub fn decode(path: &Path) -> anyhow::Result<DynamicImage> {
    let decode = || -> image::ImageResult<DynamicImage> {
        image::ImageReader::open(path)?
            .with_guessed_format()?
            .decode()
    };
    decode().with_context(|| format!("image {} cannot be read", path.display()))
}

/// A decoded file in a form that preprocessing takes.
pub struct ImageFile {
    layout: Layout,
    stride: usize,
    data: Vec<u8>,
}

impl ImageFile {
    /// Decodes a file. Grey pictures stay grey, with 16 bits where they have them; others become 8-bit RGB without alpha.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let image = decode(path)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        if width == 0 || height == 0 {
            bail!("image {} is empty", path.display());
        }
        let (channels, bytes, data) = match image {
            DynamicImage::ImageLuma16(grey) => (
                1,
                2,
                grey.iter()
                    .flat_map(|sample| sample.to_le_bytes())
                    .collect(),
            ),
            DynamicImage::ImageLuma8(grey) => (1, 1, grey.into_raw()),
            DynamicImage::ImageLumaA8(_) => (1, 1, image.to_luma8().into_raw()),
            other => (3, 1, other.into_rgb8().into_raw()),
        };
        Ok(Self {
            layout: Layout::interleaved(width, height, channels, bytes == 2),
            stride: width * channels * bytes,
            data,
        })
    }

    /// The image tensor, 3 x height x width.
    pub fn tensor(self, target: Target) -> anyhow::Result<Array3<f32>> {
        let mut tensor = target.tensor();
        let plane = Plane {
            data: &self.data,
            stride: self.stride,
        };
        Preprocess::new(self.layout, target).run(&[plane], tensor.view_mut())?;
        Ok(tensor)
    }
}

/// How tensors for a model have to look.
pub fn target(size: Size, normalization: Normalization, roi: Roi) -> Target {
    Target {
        size,
        normalization,
        roi,
    }
}

/// Decodes and preprocesses all files on all cores, a little ahead of `consume`, which gets them in their order, each with its
/// place in `paths`.
///
/// # Errors
/// The first error of `consume`. A file that cannot be read is handed to it as an error.
pub fn for_each_tensor(
    paths: &[PathBuf],
    target: Target,
    mut consume: impl FnMut(usize, anyhow::Result<Array3<f32>>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Vec<anyhow::Result<Array3<f32>>>>(1);
        scope.spawn(move || {
            for portion in paths.chunks(PORTION) {
                let tensors = portion
                    .par_iter()
                    .map(|path| ImageFile::open(path)?.tensor(target))
                    .collect();
                // The consumer has failed and gone: nothing is left to do.
                if sender.send(tensors).is_err() {
                    return;
                }
            }
        });
        let tensors = receiver.into_iter().flatten();
        tensors
            .enumerate()
            .try_for_each(|(index, tensor)| consume(index, tensor))
    })
}

/// The same for the files that can be read, with a step of the `bar` for each file; the others are named, skipped and counted.
///
/// # Errors
/// The first error of `consume`, with the file's name.
pub fn for_each_readable(
    paths: &[PathBuf],
    target: Target,
    bar: &ProgressBar,
    mut consume: impl FnMut(usize, Array3<f32>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut skipped = 0;
    for_each_tensor(paths, target, |index, tensor| {
        bar.inc(1);
        match tensor {
            Ok(tensor) => {
                consume(index, tensor).with_context(|| format!("image {}", paths[index].display()))
            }
            Err(error) => {
                skipped += 1;
                bar.suspend(|| console::warn(format_args!("skipped: {error:#}")));
                Ok(())
            }
        }
    })?;
    if skipped > 0 {
        let all = paths.len();
        bar.suspend(|| {
            console::warn(format_args!(
                "{skipped} of {all} images were skipped as unreadable"
            ));
        });
    }
    Ok(())
}
