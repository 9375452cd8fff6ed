//! `vadlite eval`: image and pixel metrics of a model on a dataset in MVTec AD layout.

use super::dataset::{self, TestImage};
use super::images::{Framing, Reading};
use super::learnt_from::{LearntFrom, aspect};
use super::metrics::{Decision, Metrics};
use super::options::{FitArguments, ImageArguments, RuntimeArguments};
use super::report::Report;
use super::{console, fit, images, self_check};
use crate::detector::anomaly_map::AnomalyMap;
use crate::detector::metrics::{AUPRO_LIMIT, aupro, auroc, f1_max, pixel_auroc};
use crate::detector::{Detector, Part};
use crate::geometry::Size;
use anyhow::Context as _;
use ndarray::Array2;
use std::collections::HashSet;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["model", "method"]))]
pub struct Arguments {
    /// Model file; or give --method to fit on the dataset's train/good first
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    fit: FitArguments,
    /// Dataset in MVTec AD layout
    #[arg(long, value_name = "DIR")]
    dataset: PathBuf,
    /// Use only train/good: fit on four fifths, test on the rest with and without synthetic defects
    #[arg(long, requires = "method", conflicts_with = "model")]
    self_check: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Also write one HTML page: histogram, curves, confusion, the worst mistakes and strongest hits, a slider for the threshold
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    files: ImageArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Holds the self-check's images until all is done.
    let folder;
    let reading = arguments.files.reading();
    let (train, test) = if arguments.self_check {
        folder = tempfile::tempdir().context("no temporary folder can be made")?;
        self_check::split(&dataset::train(&arguments.dataset)?, folder.path(), reading)?
    } else {
        let train = match arguments.model {
            Some(_) => Vec::new(),
            None => dataset::train(&arguments.dataset)?,
        };
        (train, dataset::test(&arguments.dataset)?)
    };
    let (mut detector, model_bytes, seen) = match &arguments.model {
        Some(path) => {
            let detector = Detector::open(path, arguments.runtime.options())?;
            let bytes = std::fs::metadata(path)?.len() as usize;
            (detector, bytes, HashSet::new())
        }
        None => {
            let fitted = fit::fit(
                &arguments.fit,
                &arguments.runtime,
                reading,
                &train,
                fit::Asked::default(),
            )?;
            let bytes = fitted.model.to_bytes()?.len();
            let detector = Detector::new(fitted.model, fitted.backbone)?;
            (detector, bytes, fitted.seen)
        }
    };
    let reading = reading.of(detector.metadata());
    let mut report = arguments
        .report
        .as_deref()
        .map(|out| Report::new(out, detector.metadata(), reading))
        .transpose()?;
    let metrics = evaluate(
        &mut detector,
        model_bytes,
        (&test, &seen),
        reading,
        report.as_mut(),
    )?;
    if let Some(report) = &mut report {
        report.write(&arguments.dataset, arguments.model.as_deref(), &metrics)?;
    }
    if arguments.json {
        return console::print_line(&serde_json::to_string(&metrics)?);
    }
    let number = |value: Option<f64>| {
        value.map_or_else(|| "not defined here".into(), |value| format!("{value:.4}"))
    };
    metrics.decision.print()?;
    for (name, value) in [
        ("I-AUROC", number(metrics.image_auroc)),
        ("P-AUROC", number(metrics.pixel_auroc)),
        ("AUPRO up to 0.3", number(metrics.aupro)),
        ("F1-max (image)", number(metrics.image_f1_max)),
        ("images", metrics.images.to_string()),
        ("head bytes", metrics.head_bytes.to_string()),
        ("backbone bytes", metrics.backbone_bytes.to_string()),
        ("model file bytes", metrics.model_bytes.to_string()),
    ] {
        console::print_line(&format!("{name:16}  {value}"))?;
    }
    Ok(())
}

/// Measures on the images of `test`; those `seen` in the fit are counted.
fn evaluate(
    detector: &mut Detector,
    model_bytes: usize,
    (test, seen): (&[TestImage], &HashSet<u64>),
    reading: Reading,
    mut report: Option<&mut Report>,
) -> anyhow::Result<Metrics> {
    let metadata = detector.metadata().clone();
    let framing = Framing::of(&metadata);
    let mut upsampled: Option<AnomalyMap> = None;
    let mut without = 0;
    let (mut scores, mut labels, mut maps, mut masks) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut without_mask = 0;
    let paths: Vec<PathBuf> = test.iter().map(|image| image.path.clone()).collect();
    let bar = console::progress(paths.len(), "testing");
    let mut learnt_from = LearntFrom::new(&metadata);
    let (mut other_shape, mut known) = (0, 0);
    let mut decision = Decision::default();
    images::for_each_readable(&paths, framing, reading, &bar, |index, read| {
        let image = &test[index];
        for difference in learnt_from.differs(&image.path, &read) {
            bar.suspend(|| console::warn(difference));
        }
        known += usize::from(seen.contains(&read.digest()));
        let score = detector.inspect(read.tensor.view())?;
        let judged = |parts: &[Part]| parts.iter().any(|part| part.score().is_some());
        let located = detector.parts().is_none_or(judged) && detector.doubt().is_none();
        without += usize::from(!located);
        // Pixel metrics at the resolution of the image tensor.
        let (_, height, width) = read.tensor.dim();
        let size = Size::new(height, width);
        scores.push(score);
        decision.add(&image.kind(), image.defective, score > metadata.threshold);
        if let Some(report) = &mut report {
            report.add(image, score, detector);
        }
        labels.push(image.defective);
        let mask = match &image.mask {
            Some(mask) => {
                let (mask, own) = dataset::read_mask(mask, size, metadata.roi, reading.limit)?;
                let ratio = aspect(own) / aspect(read.size);
                other_shape += usize::from(!(0.95..1.05).contains(&ratio));
                mask
            }
            None if image.defective => {
                without_mask += 1;
                return Ok(());
            }
            None => Array2::from_elem((size.height, size.width), false),
        };
        let grid = detector.map().dim().into();
        let upsampled = match &mut upsampled {
            Some(upsampled) if upsampled.grid() == grid && upsampled.size() == size => upsampled,
            other => other.insert(AnomalyMap::new(grid, size, 0.0, 0.0)),
        };
        upsampled.update(detector.map().as_slice().unwrap_or_default());
        maps.push(upsampled.values().to_owned());
        masks.push(mask);
        Ok(())
    })?;
    bar.finish_and_clear();
    if without > 0 {
        console::warn(format_args!(
            "{without} of {} test images show no part that can be located: they are not judged, and count as not flagged",
            scores.len()
        ));
    }
    if known > 0 {
        console::warn(format_args!(
            "{known} of {} test images are also among those that were learnt from: the figures are too good",
            scores.len()
        ));
    }
    if other_shape > 0 {
        console::warn(format_args!(
            "{other_shape} masks have another shape than their images: a mask has to lie on the image the way up that viewers show it"
        ));
    }
    if without_mask > 0 {
        console::warn(format_args!(
            "{without_mask} defective images have no mask and are left out of the pixel metrics"
        ));
    }
    let pixels = || {
        let images = maps.iter().zip(&masks);
        images.map(|(map, mask)| (map.view(), mask.view()))
    };
    let metrics = Metrics {
        decision,
        image_auroc: auroc(&scores, &labels),
        pixel_auroc: pixel_auroc(pixels()),
        aupro: aupro(pixels(), AUPRO_LIMIT),
        image_f1_max: f1_max(&scores, &labels).map(|(f1, _)| f1),
        images: scores.len(),
        head_bytes: detector.head_bytes(),
        backbone_bytes: detector.backbone_bytes(),
        model_bytes,
    };
    if let Some(report) = report {
        report.add_maps(maps, &masks);
    }
    Ok(metrics)
}
