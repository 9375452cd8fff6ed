//! Time of a fit as a ratio to decoding the same images and running the backbone alone; alternating, medians.
//!
//!     VADLITE_IMAGES=bottle/train/good cargo bench --bench fit
//!
//! Without VADLITE_IMAGES it runs on a few generated pictures, which shows that it works and says little about time.

use anyhow::Context as _;
use gstvadlite::cli::images::{self, Reading};
use gstvadlite::detector::Recipe;
use gstvadlite::detector::backbone::{Backbone, BackboneFile, DEFAULT_BACKBONE, find};
use gstvadlite::detector::method::{Method, Preset};
use gstvadlite::detector::taps::Normalization;
use gstvadlite::detector::{FitOptions, Fitter, Progress, RuntimeOptions};
use gstvadlite::geometry::{Input, Roi, Size};
use std::path::{Path, PathBuf};
use std::time::Instant;

const RUNS: usize = 5;
const SIZE: Size = Size::square(224);

/// Seconds of decoding and of the backbone, cut as the recipe needs it.
fn framing(normalization: Normalization) -> images::Framing {
    images::Framing {
        input: Input::Fixed(SIZE),
        normalization,
        roi: Roi::WHOLE,
    }
}

fn backbone_alone(paths: &[PathBuf], recipe: Recipe, file: &Path) -> anyhow::Result<f64> {
    let start = Instant::now();
    let taps: Vec<String> = recipe.default_taps().iter().map(|&t| t.into()).collect();
    let mut backbone = Backbone::new(
        &BackboneFile::read(file)?,
        &taps,
        SIZE,
        RuntimeOptions::default(),
    )?;
    let framing = framing(backbone.normalization());
    images::for_each_tensor(paths, framing, Reading::default(), |_, image| {
        Ok(backbone.run(image?.tensor.view(), |_| ())?)
    })?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds of decoding, backbone, head and threshold.
fn fit(paths: &[PathBuf], recipe: Recipe, file: &Path) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut fitter = Fitter::new(FitOptions::new(recipe, file))?;
    let framing = framing(fitter.normalization());
    images::for_each_tensor(paths, framing, Reading::default(), |_, image| {
        Ok(fitter.add(image?.tensor.view())?)
    })?;
    fitter.finish(&mut Progress::none())?;
    Ok(start.elapsed().as_secs_f64())
}

/// Pictures to work on where none are named.
fn generated(folder: &Path) -> anyhow::Result<()> {
    for number in 0..24u32 {
        // Of blocks, so that none is a copy of another one.
        let mut random = fastrand::Rng::with_seed(number.into());
        let blocks: Vec<u8> = (0..8 * 6).map(|_| random.u8(0..60)).collect();
        let picture = image::RgbImage::from_fn(320, 240, |x, y| {
            let block = blocks[(y / 40 * 8 + x / 40) as usize];
            image::Rgb([(x / 2) as u8 + block, (y / 2) as u8 + block, 2 * block])
        });
        picture.save(folder.join(format!("{number:02}.png")))?;
    }
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let (images, runs) = match std::env::var_os("VADLITE_IMAGES") {
        Some(images) => (PathBuf::from(images), RUNS),
        None => {
            generated(folder.path())?;
            (folder.path().to_path_buf(), 1)
        }
    };
    let paths = images::list(&images)?;
    let file = find(DEFAULT_BACKBONE, None)?;
    println!("{} images, {runs} runs", paths.len());
    println!("method          preset   backbone alone s   fit s (range)            ratio");
    for (method, preset) in [
        (Method::PadimLite, Preset::Default),
        (Method::PadimLite, Preset::Paper),
        (Method::Padim, Preset::Default),
        (Method::PatchcoreLite, Preset::Default),
        (Method::PatchcoreLite, Preset::Paper),
        (Method::Patchcore, Preset::Default),
    ] {
        let recipe = Recipe { method, preset };
        let (mut alone, mut fits) = (Vec::new(), Vec::new());
        for _ in 0..runs {
            alone.push(backbone_alone(&paths, recipe, &file)?);
            fits.push(fit(&paths, recipe, &file).with_context(|| method.name())?);
        }
        alone.sort_by(f64::total_cmp);
        fits.sort_by(f64::total_cmp);
        let (base, median) = (alone[runs / 2], fits[runs / 2]);
        println!(
            "{:15} {:8} {base:10.2}         {median:6.2} ({:.2} to {:.2})    {:6.2}",
            method.name(),
            preset.name(),
            fits[0],
            fits[runs - 1],
            median / base,
        );
    }
    Ok(())
}
