//! The report's examples: which images are shown, and their pictures.

use super::charts::short;
use super::escape;
use crate::cli::dataset::TestImage;
use crate::detector::Detector;
use crate::detector::model_file::Metadata;
use crate::geometry::Roi;
use crate::video::heatmap;
use crate::video::overlay::{MapView, Overlay};
use anyhow::Context as _;
use image::imageops::{FilterType, resize};
use image::{GrayImage, Luma, RgbImage};
use ndarray::Array2;
use std::fmt::Write as _;
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

/// Draws examples.
pub struct Pictures<'a> {
    dataset: &'a Path,
    threshold: f32,
    roi: Roi,
    /// Whether the dataset has masks.
    masks: bool,
    overlay: Overlay,
}

impl<'a> Pictures<'a> {
    pub fn new(dataset: &'a Path, metadata: &Metadata, masks: bool) -> Self {
        Self {
            dataset,
            threshold: metadata.threshold,
            roi: metadata.roi,
            masks,
            overlay: Overlay::new(),
        }
    }

    /// Examples as HTML, or the text `none` where there are none.
    pub fn cards(&mut self, strongest: &Strongest, none: &str) -> anyhow::Result<String> {
        if strongest.examples.is_empty() {
            return Ok(super::missing(none));
        }
        let mut html = String::from("<div class=\"cards\">");
        for example in &strongest.examples {
            self.card(example, &mut html)
                .with_context(|| format!("image {}", example.path.display()))?;
        }
        html.push_str("</div>");
        Ok(html)
    }

    fn card(&mut self, example: &Example, html: &mut String) -> anyhow::Result<()> {
        let file = example
            .path
            .strip_prefix(self.dataset.join("test"))
            .unwrap_or(&example.path)
            .to_string_lossy();
        let file = escape(&file);
        let picture = image::ImageReader::open(&example.path)?
            .with_guessed_format()?
            .decode()?
            .into_rgb8();
        let (width, height) = shrunk(picture.dimensions());
        let picture = resize(&picture, width, height, FilterType::Triangle);
        let image = data_url(&picture, &picture, image::ExtendedColorType::Rgb8)?;
        let heatmap = self.heatmap(picture, example)?;
        let heatmap = data_url(&heatmap, &heatmap, image::ExtendedColorType::Rgb8)?;
        let flagged = example.score > self.threshold;
        let shown = |what: &str, note: &str, url: &str| {
            format!(
                "<span class=\"picture\"><img src=\"{url}\" alt=\"{what} of {file}\" width=\"{width}\" height=\"{height}\" loading=\"lazy\"><span aria-hidden=\"true\">{}{note}</span></span>",
                what.to_lowercase()
            )
        };
        let mask = match &example.mask {
            Some(path) => shown("Mask", "", &mask(path, (width, height))?),
            None if !self.masks => String::new(),
            None => format!(
                "<span class=\"picture\"><span class=\"blank\" style=\"aspect-ratio:{width}/{height}\">{}</span><span aria-hidden=\"true\">mask</span></span>",
                if example.defective {
                    "no mask"
                } else {
                    "no defect"
                }
            ),
        };
        let _ = write!(
            html,
            "<figure class=\"card\" data-score=\"{}\" data-defective=\"{}\"><button type=\"button\" title=\"Enlarge\">{}{}{mask}</button><figcaption><span class=\"file\">{file}</span><span class=\"verdict\">{}</span><span class=\"score\">score {}, {} × the threshold</span></figcaption></figure>",
            example.score,
            example.defective,
            shown("Image", "", &image),
            shown("Heatmap", if flagged { "" } else { ", scaled" }, &heatmap),
            match (flagged, example.defective) {
                (true, true) => "found",
                (true, false) => "false alarm",
                (false, true) => "missed",
                (false, false) => "passed",
            },
            short(example.score.into()),
            short(f64::from(example.score) / f64::from(self.threshold)),
        );
        Ok(())
    }

    /// The picture with the overlay that the element draws.
    fn heatmap(&mut self, picture: RgbImage, example: &Example) -> anyhow::Result<RgbImage> {
        let map = MapView {
            values: example.map.view(),
            roi: self.roi,
        };
        // A missed defect's map would hardly be seen on the threshold's scale, and where it is highest is what one wants to know.
        let scale = self.threshold.min(example.score);
        Ok(heatmap::draw(&mut self.overlay, picture, map, scale)?)
    }
}

/// A mask, white where it is not black, as large as its image in the page.
fn mask(path: &Path, (width, height): (u32, u32)) -> anyhow::Result<String> {
    let mut mask: GrayImage = image::ImageReader::open(path)?
        .with_guessed_format()?
        .decode()
        .with_context(|| format!("mask {}", path.display()))?
        .into_luma8();
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
