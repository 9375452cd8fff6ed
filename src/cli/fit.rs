//! `vadlite fit`: a folder of good images to a model file.

use super::console::{print_line, progress, show_on, warn};
use super::images::{self, Reading};
use super::learnt_from::Sizes;
use super::options::{FitArguments, ImageArguments, RuntimeArguments};
use crate::detector::backbone::{self, Backbone, DEFAULT_BACKBONE};
use crate::detector::heads;
use crate::detector::model_file::ModelFile;
use crate::detector::{Cancel, FitOptions, Fitter, Progress};
use crate::geometry::Size;
use anyhow::Context as _;
use std::collections::HashSet;
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
    files: ImageArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// Images that differ by less than this, in grey levels of 255 over areas, show little but noise.
const STILL: f32 = 0.2;

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let paths = images::list(&arguments.images)?;
    let Fitted { model, .. } = fit(
        &arguments.fit,
        &arguments.runtime,
        arguments.files.reading(),
        &paths,
    )?;
    model.write(&arguments.out)?;
    let metadata = &model.metadata;
    let copies = match metadata.copies {
        0 => String::new(),
        copies => format!(" ({copies} of them copies of others)"),
    };
    print_line(&format!(
        "{}: {} ({}) from {} good images{copies}, threshold {:.4} for a false reject rate of {:.4}, head {} bytes",
        arguments.out.display(),
        metadata.method.name(),
        metadata.preset.name(),
        metadata.good_images,
        metadata.threshold,
        metadata.false_reject_rate,
        model.head_bytes()
    ))
}

/// A model, and what it was fitted on.
pub struct Fitted {
    pub model: ModelFile,
    pub backbone: Backbone,
    /// [`ReadImage::digest`](images::ReadImage::digest) of each image.
    pub seen: HashSet<u64>,
}

/// Fits on these files; unreadable ones are named, skipped and counted.
pub fn fit(
    arguments: &FitArguments,
    runtime: &RuntimeArguments,
    reading: Reading,
    paths: &[PathBuf],
) -> anyhow::Result<Fitted> {
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
    let reading = Reading {
        bits: arguments
            .bits
            .or_else(|| images::sample_bits(paths, reading)),
        ..reading
    };
    let (mut sizes, mut deep, mut beyond) = (Sizes::default(), false, 0);
    let mut seen = HashSet::new();
    images::for_each_readable(paths, target, reading, &bar, |_, image| {
        sizes.add(image.size);
        seen.insert(image.digest());
        deep |= image.largest.is_some();
        let bits = image.largest.map(images::bits_of);
        beyond += usize::from(bits > Some(reading.bits.unwrap_or(16)));
        Ok(fitter.add(image.tensor.view())?)
    })?;
    fitter.describe_files(reading.bits.filter(|_| deep), sizes.usual());
    bar.suspend(|| {
        if let Some(several) = sizes.several(input_size) {
            warn(several);
        }
        if let Some(bits) = reading.bits.filter(|_| deep && beyond > 0) {
            warn(format_args!(
                "{beyond} images hold samples of more than {bits} bits, which count as white; raise --bits"
            ));
        }
        let all = paths.len();
        let groups = fitter.groups();
        if groups.copies() > 0 {
            warn(format_args!(
                "{} of {all} images are copies of others, or nearly: they are held out together, and each picture counts once for the threshold",
                groups.copies()
            ));
        } else if (0.0..STILL).contains(&groups.typical) && groups.count > 1 {
            warn(format_args!(
                "the images hardly differ, by {:.2} of 255 grey levels over areas: frames of one part that stands still do not show how good parts vary",
                groups.typical
            ));
        }
    });
    let mut progress = Progress::new(show_on(&bar), Cancel::default());
    let fitted = fitter.finish(&mut progress);
    drop(progress);
    bar.finish_and_clear();
    let (model, backbone) = fitted?;
    Ok(Fitted {
        model,
        backbone,
        seen,
    })
}
