//! `vadlite score`: the score of each image file, and its heatmap where asked for.

use super::console::{print_line, warn};
use super::images::{self, Framing, Reading};
use super::learnt_from::LearntFrom;
use super::options::{ImageArguments, RuntimeArguments};
use crate::detector::{Detector, Part, Verdict};
use crate::fs::{self, Durability};
use crate::geometry::Roi;
use crate::video::heatmap;
use crate::video::overlay::{MapView, Overlay};
use anyhow::{Context as _, bail};
use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder as _};
use std::collections::HashSet;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Print one JSON line per image
    #[arg(long)]
    json: bool,
    /// Write each image with its heatmap into this folder, as PNG
    #[arg(long, value_name = "DIR")]
    heatmaps: Option<PathBuf>,
    /// Raw score above which an image is flagged [default: the model's own]
    #[arg(long, value_name = "SCORE", value_parser = parse_threshold)]
    threshold: Option<f32>,
    /// Image files
    #[arg(required = true, value_name = "FILES")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    images: ImageArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

fn parse_threshold(text: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(threshold) if (0.0..=f32::MAX).contains(&threshold) => Ok(threshold),
        _ => Err("a threshold is a number, 0 or more".into()),
    }
}

#[derive(serde::Serialize)]
struct Line<'a> {
    file: &'a str,
    score: f32,
    threshold: f32,
    flagged: bool,
    /// Of a model that locates its parts.
    #[serde(skip_serializing_if = "Option::is_none")]
    parts: Option<Vec<PartLine>>,
}

/// A part that was found: its middle and the upright box around it in 0..1 of the image, by which it is turned in degrees.
#[derive(serde::Serialize)]
struct PartLine {
    x: f32,
    y: f32,
    w: f32,
    h: f32,
    angle: f32,
    score: f32,
    flagged: bool,
    complete: bool,
    inspected: bool,
}

impl PartLine {
    fn new(part: &Part, roi: Roi, threshold: f32) -> Self {
        let score = part.score();
        Self {
            x: roi.x + part.x * roi.width,
            y: roi.y + part.y * roi.height,
            w: part.width * roi.width,
            h: part.height * roi.height,
            angle: part.degrees(),
            score: score.unwrap_or(0.0),
            flagged: score.is_some_and(|score| score > threshold),
            complete: part.verdict != Verdict::Cut,
            inspected: score.is_some(),
        }
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let options = arguments.runtime.options();
    let mut detector = Detector::open(&arguments.model, options)?;
    let metadata = detector.metadata();
    let threshold = arguments.threshold.unwrap_or(metadata.threshold);
    let roi = metadata.roi;
    let framing = Framing::of(metadata);
    let reading = arguments.images.reading().of(metadata);
    let mut learnt_from = LearntFrom::new(metadata);
    let mut heatmaps = arguments
        .heatmaps
        .as_deref()
        .map(|folder| Heatmaps::new(folder, reading))
        .transpose()?;
    let mut failed = 0;
    images::for_each_tensor(&arguments.files, framing, reading, |index, image| {
        let path = &arguments.files[index];
        let image = match image {
            Ok(image) => image,
            Err(error) => {
                failed += 1;
                eprintln!("vadlite: {error:#}");
                return Ok(());
            }
        };
        for difference in learnt_from.differs(path, &image) {
            warn(difference);
        }
        let score = detector
            .inspect(image.tensor.view())
            .with_context(|| format!("image {}", path.display()))?;
        let line = Line {
            file: &path.to_string_lossy(),
            score,
            threshold,
            flagged: score > threshold,
            parts: detector.parts().map(|parts| {
                let parts = parts.iter();
                parts
                    .map(|part| PartLine::new(part, roi, threshold))
                    .collect()
            }),
        };
        let unknown = detector.unlocated();
        if let Some(doubt) = detector.doubt() {
            warn(format_args!(
                "image {}: {doubt}; it may show parts that are not judged",
                path.display()
            ));
        } else if unknown > 0 {
            warn(format_args!(
                "image {}: {unknown} of its parts cannot be located: they touch, or are too unlike a good part, and are not judged",
                path.display()
            ));
        }
        if arguments.json {
            print_line(&serde_json::to_string(&line)?)?;
        } else {
            print_line(&format!(
                "{} {:.4} (threshold {:.4}) {}",
                line.file,
                score,
                threshold,
                if line.flagged { "flagged" } else { "good" }
            ))?;
        }
        if let Some(heatmaps) = &mut heatmaps {
            let map = MapView {
                values: detector.map(),
                roi,
            };
            heatmaps.write(path, map, threshold)?;
        }
        Ok(())
    })?;
    if failed > 0 {
        bail!(
            "{failed} of {} images could not be read",
            arguments.files.len()
        );
    }
    Ok(())
}

/// Writes pictures with the overlay that the element draws.
struct Heatmaps {
    folder: PathBuf,
    reading: Reading,
    overlay: Overlay,
    written: HashSet<PathBuf>,
}

impl Heatmaps {
    fn new(folder: &Path, reading: Reading) -> anyhow::Result<Self> {
        gst::init().context("GStreamer, which the heatmaps are drawn with")?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("folder {} cannot be made", folder.display()))?;
        Ok(Self {
            folder: folder.to_path_buf(),
            reading,
            overlay: Overlay::new(),
            written: HashSet::new(),
        })
    }

    fn write(&mut self, source: &Path, map: MapView<'_>, threshold: f32) -> anyhow::Result<()> {
        let picture = images::picture(source, self.reading)?;
        let picture = heatmap::draw(&mut self.overlay, picture, map, threshold)
            .with_context(|| format!("image {}", source.display()))?;
        let path = self.free_name(source);
        let (width, height) = picture.dimensions();
        fs::replace(&path, Durability::Cached, |file| {
            let encoder = PngEncoder::new(BufWriter::new(file));
            let written = encoder.write_image(&picture, width, height, ExtendedColorType::Rgb8);
            written.map_err(io::Error::other)
        })
        .with_context(|| format!("heatmap {} cannot be written", path.display()))
    }

    /// The source's name with `.png`; files of the same name from several folders get a number.
    fn free_name(&mut self, source: &Path) -> PathBuf {
        let stem = source.file_stem().unwrap_or_default().to_string_lossy();
        let mut path = self.folder.join(format!("{stem}.png"));
        let mut number = 2;
        while !self.written.insert(path.clone()) {
            path = self.folder.join(format!("{stem}-{number}.png"));
            number += 1;
        }
        path
    }
}
