//! `vadlite fit`: a folder of good images to a model file.

use super::{RuntimeArguments, images, print_line};
use crate::detector::backbone::{self, Backbone, DEFAULT_BACKBONE};
use crate::detector::heads;
use crate::detector::method::{Method, Preset};
use crate::detector::model_file::ModelFile;
use crate::detector::{Cancel, FitOptions, Fitter, Progress};
use crate::geometry::{Grid, Roi, Size};
use anyhow::Context as _;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(mut_arg("method", |method| method.required(true)))]
pub struct Arguments {
    #[command(flatten)]
    recipe: Recipe,
    /// Folder of good images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// What to fit, as `fit` and `eval` ask for it.
#[derive(Debug, clap::Args)]
pub struct Recipe {
    /// What to fit
    #[arg(long, value_name = "METHOD")]
    pub method: Option<Method>,
    /// Whose constants and equations
    #[arg(long, value_name = "PRESET", default_value = "default")]
    preset: Preset,
    /// Feature taps: output names of the backbone, separated by commas [default: the method's own]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    taps: Vec<String>,
    /// Take only so many channels of the taps, at random: for networks whose full covariances do not fit into memory [default: all]
    #[arg(long, value_name = "N")]
    dimensions: Option<usize>,
    /// Side of the square image tensor, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = clap::value_parser!(u16).range(32..=2048))]
    size: u16,
    /// Cut the picture into so many tiles, each of --size pixels: for defects that are small in large or line-scan pictures
    #[arg(long, value_name = "CxR", default_value_t = Grid::ONE)]
    tiles: Grid,
    /// Inspected part of the frame, in 0..1 of it [default: all]
    #[arg(long, value_name = "X,Y,W,H")]
    roi: Option<Roi>,
    /// Share of good parts that the threshold may flag [default: 0.01, or what the number of images supports]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    false_reject_rate: Option<f64>,
}

pub fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate < 1.0 => Ok(rate),
        _ => Err("a rate is a number between 0 and 1".into()),
    }
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let paths = images::list(&arguments.images)?;
    let (model, _) = fit(&arguments.recipe, &arguments.runtime, &paths)?;
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
    recipe: &Recipe,
    runtime: &RuntimeArguments,
    paths: &[PathBuf],
) -> anyhow::Result<(ModelFile, Backbone)> {
    let method = recipe.method.context("--method is needed to fit")?;
    let backbone = backbone::resolve(runtime.backbone.as_deref(), DEFAULT_BACKBONE, None)?;
    let input_size = recipe.tiles.whole(Size::square(recipe.size.into()));
    let roi = recipe.roi.unwrap_or_default();
    let mut fitter = Fitter::new(FitOptions {
        recipe: heads::Recipe {
            method,
            preset: recipe.preset,
        },
        backbone: &backbone,
        taps: recipe.taps.clone(),
        dimensions: recipe.dimensions,
        tiles: recipe.tiles,
        input_size,
        roi,
        false_reject_rate: recipe.false_reject_rate,
        video_of: None,
        runtime: runtime.runtime(),
    })?;
    let target = images::target(input_size, fitter.normalization(), roi);
    let bar = images::progress(paths.len(), "fitting");
    let mut skipped = 0;
    images::for_each_tensor(paths, target, |path: &Path, tensor| {
        match tensor {
            Ok(tensor) => fitter
                .add(tensor.view())
                .with_context(|| format!("image {}", path.display()))?,
            Err(error) => {
                skipped += 1;
                bar.suspend(|| eprintln!("vadlite: warning: skipped: {error:#}"));
            }
        }
        bar.inc(1);
        Ok(())
    })?;
    let mut progress = Progress::new(images::show_on(&bar), Cancel::default());
    let fitted = fitter.finish(&mut progress);
    drop(progress);
    bar.finish_and_clear();
    if skipped > 0 {
        eprintln!(
            "vadlite: warning: {skipped} of {} images were skipped as unreadable",
            paths.len()
        );
    }
    Ok(fitted?)
}
