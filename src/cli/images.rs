//! Image files: listing folders, decoding, and bringing them to tensors ahead of the backbone.

use super::console;
use super::decode::{self, LIMIT};
use crate::detector::model_file::Metadata;
use crate::detector::taps::Normalization;
use crate::geometry::{Input, Roi, Size};
use crate::video::preprocess::{Layout, Plane, Preprocess, Target};
use crate::video::sample_bits::bits_of;
use anyhow::{Context as _, bail};
use image::{DynamicImage, RgbImage};
use indicatif::ProgressBar;
use ndarray::Array3;
use rayon::prelude::*;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

const EXTENSIONS: [&str; 11] = [
    "png", "jpg", "jpeg", "bmp", "tif", "tiff", "webp", "pgm", "ppm", "pnm", "pbm",
];
/// Images decoded at a time; two such portions are in memory at once.
const PORTION: usize = 8;

/// The image files of a folder, sorted by name. Hidden ones are left out: thumbnails and what file managers keep. Sub-folders are not
/// entered: they tend to hold the defects.
///
/// # Errors
/// A folder that cannot be read, or that holds no images.
pub fn list(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let unreadable = || format!("folder {} cannot be read", folder.display());
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(unreadable)? {
        let path = entry.with_context(unreadable)?.path();
        // A link that leads nowhere is no folder: it is named when it is opened.
        if has_image_name(&path) && !is_hidden(&path) && !path.is_dir() {
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

/// Whether a file or folder is one of those that are not shown.
pub fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.as_encoded_bytes().starts_with(b".")
}

fn has_image_name(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    extension.is_some_and(|extension| EXTENSIONS.contains(&extension.to_ascii_lowercase().as_str()))
}

/// How files are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    /// Bytes of a decoded image that are allowed.
    pub limit: u64,
    /// Bits that 16-bit samples use; `None`: all.
    pub bits: Option<u8>,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            limit: LIMIT,
            bits: None,
        }
    }
}

impl Reading {
    /// As for a model.
    pub fn of(self, metadata: &Metadata) -> Self {
        Self {
            bits: metadata.sample_bits,
            ..self
        }
    }
}

/// The bits that those of the files use which have 16-bit samples; `None` where none has. Files that cannot be read are passed over.
pub fn sample_bits(paths: &[PathBuf], reading: Reading) -> Option<u8> {
    let largest = paths.par_iter().filter_map(|path| {
        let deep = decode::has_deep_samples(path).unwrap_or(false);
        deep.then(|| ImageFile::open(path, reading).ok()?.largest)?
    });
    largest.max().map(bits_of)
}

/// Samples of so many bits as samples of eight.
fn eight_bits(samples: &[u16], bits: Option<u8>) -> Vec<u8> {
    let white = (1u32 << bits.unwrap_or(16)) - 1;
    let eight = |&sample: &u16| ((u32::from(sample).min(white) * 255 + white / 2) / white) as u8;
    samples.iter().map(eight).collect()
}

/// A file's picture, to be shown.
///
/// # Errors
/// As `decode::decode`.
pub fn picture(path: &Path, reading: Reading) -> anyhow::Result<RgbImage> {
    let image = decode::decode(path, reading.limit)?;
    let (width, height) = (image.width(), image.height());
    match image {
        DynamicImage::ImageLuma16(_)
        | DynamicImage::ImageLumaA16(_)
        | DynamicImage::ImageRgb16(_)
        | DynamicImage::ImageRgba16(_) => {
            let pixels = eight_bits(image.into_rgb16().as_raw(), reading.bits);
            RgbImage::from_raw(width, height, pixels).context("a picture of another size")
        }
        image => Ok(image.into_rgb8()),
    }
}

/// A decoded file in a form that preprocessing takes.
pub struct ImageFile {
    layout: Layout,
    stride: usize,
    data: Vec<u8>,
    size: Size,
    bits: Option<u8>,
    largest: Option<u16>,
}

impl ImageFile {
    /// Decodes a file. Grey pictures stay grey, with 16 bits where they have them; others become 8-bit RGB. Alpha is left out.
    ///
    /// # Errors
    /// As [`decode::decode`].
    pub fn open(path: &Path, reading: Reading) -> anyhow::Result<Self> {
        let image = decode::decode(path, reading.limit)?;
        let (width, height) = (image.width() as usize, image.height() as usize);
        let largest = |samples: &[u16]| samples.iter().copied().max();
        let (channels, bytes, largest, data) = match image {
            DynamicImage::ImageLuma16(_) | DynamicImage::ImageLumaA16(_) => {
                let grey = image.into_luma16().into_raw();
                let bytes = grey.iter().flat_map(|sample| sample.to_le_bytes());
                (1, 2, largest(&grey), bytes.collect())
            }
            DynamicImage::ImageRgb16(_) | DynamicImage::ImageRgba16(_) => {
                let colours = image.into_rgb16().into_raw();
                (3, 1, largest(&colours), eight_bits(&colours, reading.bits))
            }
            DynamicImage::ImageLuma8(grey) => (1, 1, None, grey.into_raw()),
            DynamicImage::ImageLumaA8(_) => (1, 1, None, image.into_luma8().into_raw()),
            other => (3, 1, None, other.into_rgb8().into_raw()),
        };
        Ok(Self {
            layout: Layout::interleaved(width, height, channels, bytes == 2),
            stride: width * channels * bytes,
            data,
            size: Size::new(height, width),
            bits: reading.bits,
            largest,
        })
    }

    /// The image tensor, 3 x height x width.
    ///
    /// # Errors
    /// Pixels that do not fill the picture.
    pub fn tensor(self, framing: Framing) -> anyhow::Result<Array3<f32>> {
        let target = framing.target(self.size);
        let mut tensor = target.tensor();
        let plane = Plane {
            data: &self.data,
            stride: self.stride,
        };
        let mut preprocess = Preprocess::new(self.layout, target).of_bits(self.bits);
        preprocess.run(&[plane], tensor.view_mut())?;
        Ok(tensor)
    }
}

/// What a file has come to.
pub struct ReadImage {
    /// 3 x height x width, normalised.
    pub tensor: Array3<f32>,
    /// Of the picture in the file, the way up that viewers show it.
    pub size: Size,
    /// The largest sample, where these have 16 bits.
    pub largest: Option<u16>,
}

impl ReadImage {
    /// The same for the same picture, whatever file it is in.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        for value in &self.tensor {
            hasher.write_u32(value.to_bits());
        }
        hasher.finish()
    }

    fn open(path: &Path, framing: Framing, reading: Reading) -> anyhow::Result<Self> {
        let file = ImageFile::open(path, reading)?;
        let (size, largest) = (file.size, file.largest);
        Ok(Self {
            tensor: file.tensor(framing)?,
            size,
            largest,
        })
    }
}

/// How the tensors of images have to look.
#[derive(Debug, Clone, Copy)]
pub struct Framing {
    pub input: Input,
    pub normalization: Normalization,
    /// The inspected part of the picture.
    pub roi: Roi,
}

impl Framing {
    /// As a model asks for it.
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            input: metadata.input(),
            normalization: metadata.normalization,
            roi: metadata.roi,
        }
    }

    /// For an image of this size.
    pub fn target(self, image: Size) -> Target {
        Target {
            size: self.input.of(image, self.roi),
            normalization: self.normalization,
            roi: self.roi,
        }
    }
}

/// Reads and preprocesses all files on all cores, a little ahead of `consume`, which gets them in their order, each with its
/// place in `paths`.
///
/// # Errors
/// The first error of `consume`. A file that cannot be read is handed to it as an error.
pub fn for_each_tensor(
    paths: &[PathBuf],
    framing: Framing,
    reading: Reading,
    mut consume: impl FnMut(usize, anyhow::Result<ReadImage>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let (sender, receiver) = mpsc::sync_channel::<Vec<anyhow::Result<ReadImage>>>(1);
        scope.spawn(move || {
            for portion in paths.chunks(PORTION) {
                let tensors = portion
                    .par_iter()
                    .map(|path| ReadImage::open(path, framing, reading))
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
    framing: Framing,
    reading: Reading,
    bar: &ProgressBar,
    mut consume: impl FnMut(usize, ReadImage) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut skipped = 0;
    for_each_tensor(paths, framing, reading, |index, image| {
        bar.inc(1);
        match image {
            Ok(image) => {
                consume(index, image).with_context(|| format!("image {}", paths[index].display()))
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
