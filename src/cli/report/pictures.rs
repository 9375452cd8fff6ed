//! Pictures on a page, as they are and with their heatmaps; and which examples the report of `vadlite eval` shows.

use super::charts::short;
use crate::cli::dataset::TestImage;
use crate::cli::decode::decode;
use crate::cli::images::{self, Reading};
use crate::detector::Detector;
use crate::detector::model_file::Metadata;
use crate::geometry::Roi;
use crate::video::heatmap;
use crate::video::overlay::{MapView, Overlay};
use anyhow::Context as _;
use image::Luma;
use image::imageops::{FilterType, resize};
use ndarray::{Array2, ArrayView2};
use std::path::{Path, PathBuf};

/// Longer side of a picture in the page, in pixels.
const LONGER_SIDE: u32 = 320;
const JPEG_QUALITY: u8 = 82;

/// The images with the largest weights, with what is needed to draw them: memory does not grow with the dataset.
pub struct Strongest {
    most: usize,
    /// Largest weight first.
    examples: Vec<Example>,
}

struct Example {
    weight: f32,
    path: PathBuf,
    mask: Option<PathBuf>,
    defective: bool,
    score: f32,
    map: Array2<f32>,
}

impl Strongest {
    pub fn new(most: usize) -> Self {
        Self {
            most,
            examples: Vec::with_capacity(most + 1),
        }
    }

    /// Keeps the image that `detector` has just inspected if it is among the strongest so far.
    pub fn offer(&mut self, weight: f32, image: &TestImage, score: f32, detector: &Detector) {
        let place = self
            .examples
            .partition_point(|other| other.weight.total_cmp(&weight).is_ge());
        if place == self.most {
            return;
        }
        let example = Example {
            weight,
            path: image.path.clone(),
            mask: image.mask.clone(),
            defective: image.defective,
            score,
            map: detector.map().to_owned(),
        };
        self.examples.insert(place, example);
        self.examples.truncate(self.most);
    }
}

/// An example as the template shows it.
pub struct Card {
    /// Below the dataset's `test`.
    pub file: String,
    pub score: f32,
    pub defective: bool,
    pub verdict: &'static str,
    pub score_text: String,
    /// The score over the threshold.
    pub ratio_text: String,
    pub drawn: Drawn,
}

/// An image's pictures, side by side, as `pictures.html` shows them.
pub struct Drawn {
    /// Size of each.
    pub width: u32,
    pub height: u32,
    pub pictures: Vec<Picture>,
    /// What stands in the mask's place where there is none.
    pub blank: Option<&'static str>,
}

pub struct Picture {
    pub what: &'static str,
    pub caption: &'static str,
    pub url: String,
}

/// Draws images and their heatmaps.
pub struct Pictures {
    threshold: f32,
    roi: Roi,
    reading: Reading,
    overlay: Overlay,
}

impl Pictures {
    /// GStreamer has to be initialised.
    pub fn new(metadata: &Metadata, reading: Reading) -> Self {
        Self {
            threshold: metadata.threshold,
            roi: metadata.roi,
            reading,
            overlay: Overlay::new(),
        }
    }

    /// The image as it is, and with the heatmap of the anomaly map that came with this score.
    ///
    /// # Errors
    /// A file that can no longer be read, or a heatmap that cannot be drawn.
    pub fn of(
        &mut self,
        path: &Path,
        map: ArrayView2<'_, f32>,
        score: f32,
    ) -> anyhow::Result<Drawn> {
        let image = images::picture(path, self.reading)?;
        let (width, height) = shrunk(image.dimensions());
        let image = resize(&image, width, height, FilterType::Triangle);
        let plain = Picture {
            what: "Image",
            caption: "image",
            url: data_url(&image, &image, image::ExtendedColorType::Rgb8)?,
        };
        let map = MapView {
            values: map,
            roi: self.roi,
        };
        // A map below the threshold would hardly be seen on the threshold's scale, and where it is highest is what one wants to know.
        let scale = self.threshold.min(score);
        let heatmap = heatmap::draw(&mut self.overlay, image, map, scale)?;
        let heatmap = Picture {
            what: "Heatmap",
            caption: if score > self.threshold {
                "heatmap"
            } else {
                "heatmap, scaled"
            },
            url: data_url(&heatmap, &heatmap, image::ExtendedColorType::Rgb8)?,
        };
        Ok(Drawn {
            width,
            height,
            pictures: vec![plain, heatmap],
            blank: None,
        })
    }
}

/// Draws examples.
pub struct Cards<'a> {
    dataset: &'a Path,
    threshold: f32,
    /// Whether the dataset has masks.
    masks: bool,
    pictures: Pictures,
}

impl<'a> Cards<'a> {
    pub fn new(dataset: &'a Path, metadata: &Metadata, masks: bool, reading: Reading) -> Self {
        Self {
            dataset,
            threshold: metadata.threshold,
            masks,
            pictures: Pictures::new(metadata, reading),
        }
    }

    /// # Errors
    /// A file that can no longer be read, or a heatmap that cannot be drawn.
    pub fn of(&mut self, strongest: &Strongest) -> anyhow::Result<Vec<Card>> {
        let card = |example: &Example| {
            self.card(example)
                .with_context(|| format!("image {}", example.path.display()))
        };
        strongest.examples.iter().map(card).collect()
    }

    fn card(&mut self, example: &Example) -> anyhow::Result<Card> {
        let file = example
            .path
            .strip_prefix(self.dataset.join("test"))
            .unwrap_or(&example.path);
        let flagged = example.score > self.threshold;
        let mut drawn = self
            .pictures
            .of(&example.path, example.map.view(), example.score)?;
        if let Some(path) = &example.mask {
            drawn.pictures.push(Picture {
                what: "Mask",
                caption: "mask",
                url: mask(
                    path,
                    (drawn.width, drawn.height),
                    self.pictures.reading.limit,
                )?,
            });
        } else if self.masks {
            drawn.blank = Some(match example.defective {
                true => "no mask",
                false => "no defect",
            });
        }
        Ok(Card {
            file: file.to_string_lossy().into_owned(),
            score: example.score,
            defective: example.defective,
            verdict: match (flagged, example.defective) {
                (true, true) => "found",
                (true, false) => "false alarm",
                (false, true) => "missed",
                (false, false) => "passed",
            },
            score_text: short(example.score.into()),
            ratio_text: short(f64::from(example.score) / f64::from(self.threshold)),
            drawn,
        })
    }
}

/// A mask, white where it is not black, as large as its image in the page.
fn mask(path: &Path, (width, height): (u32, u32), limit: u64) -> anyhow::Result<String> {
    let mut mask = decode(path, limit)?.into_luma8();
    for Luma([value]) in mask.pixels_mut() {
        *value = if *value > 0 { 255 } else { 0 };
    }
    let mask = resize(&mask, width, height, FilterType::Triangle);
    data_url(&mask, &mask, image::ExtendedColorType::L8)
}

fn shrunk((width, height): (u32, u32)) -> (u32, u32) {
    let longer = width.max(height);
    if longer <= LONGER_SIDE {
        return (width, height);
    }
    let scale = |side: u32| {
        let side = f64::from(side) * f64::from(LONGER_SIDE) / f64::from(longer);
        (side.round() as u32).max(1)
    };
    (scale(width), scale(height))
}

/// A picture in an address.
fn data_url(
    pixels: &[u8],
    size: &impl image::GenericImageView,
    colour: image::ExtendedColorType,
) -> anyhow::Result<String> {
    let (width, height) = size.dimensions();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, JPEG_QUALITY)
        .encode(pixels, width, height, colour)?;
    Ok(format!(
        "data:image/jpeg;base64,{}",
        glib::base64_encode(&jpeg)
    ))
}
