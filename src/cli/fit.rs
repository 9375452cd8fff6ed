//! `vadlite fit`: a folder of good images to a model file.

use super::console::{print_line, progress, show_on};
use super::images;
use super::options::{FitArguments, RuntimeArguments};
use crate::detector::backbone::{self, Backbone, DEFAULT_BACKBONE};
use crate::detector::heads;
use crate::detector::model_file::ModelFile;
use crate::detector::{Cancel, FitOptions, Fitter, Progress};
use crate::geometry::Size;
use anyhow::Context as _;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
#[command(mut_arg("method", |method| method.required(true)))]
pub struct Arguments {
    #[command(flatten)]
    fit: FitArguments,
    /// Folder of good images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let paths = images::list(&arguments.images)?;
    let (model, _) = fit(&arguments.fit, &arguments.runtime, &paths)?;
    model.write(&arguments.out)?;
    let metadata = &model.metadata;
    print_line(&format!(
        "{}: {} ({}) from {} good images, threshold {:.4} for a false reject rate of {:.4}, head {} bytes",
        arguments.out.display(),
        metadata.method.name(),
        metadata.preset.name(),
        metadata.good_images,
        metadata.threshold,
        metadata.false_reject_rate,
        model.head_bytes()
    ))
}

/// Fits on these files; unreadable ones are named, skipped and counted.
pub fn fit(
    arguments: &FitArguments,
    runtime: &RuntimeArguments,
    paths: &[PathBuf],
) -> anyhow::Result<(ModelFile, Backbone)> {
    let method = arguments.method.context("--method is needed to fit")?;
    let backbone = backbone::resolve(runtime.backbone.as_deref(), DEFAULT_BACKBONE, None)?;
    let input_size = arguments.tiles.whole(Size::square(arguments.size.into()));
    let roi = arguments.roi.unwrap_or_default();
    let mut fitter = Fitter::new(FitOptions {
        recipe: heads::Recipe {
            method,
            preset: arguments.preset,
        },
        backbone: &backbone,
        taps: arguments.taps.clone(),
        dimensions: arguments.dimensions,
        tiles: arguments.tiles,
        input_size,
        roi,
        false_reject_rate: arguments.false_reject_rate,
        video_of: None,
        runtime: runtime.runtime(),
    })?;
    let target = images::target(input_size, fitter.normalization(), roi);
    let bar = progress(paths.len(), "fitting");
    images::for_each_readable(paths, target, &bar, |_, tensor| {
        Ok(fitter.add(tensor.view())?)
    })?;
    let mut progress = Progress::new(show_on(&bar), Cancel::default());
    let fitted = fitter.finish(&mut progress);
    drop(progress);
    bar.finish_and_clear();
    Ok(fitted?)
}
