//! Time of a fit as a ratio to decoding the same images and running the backbone alone; alternating, medians.
//!
//!     VADLITE_IMAGES=bottle/train/good cargo bench --bench fit
//!
//! Without VADLITE_IMAGES it runs on a few generated pictures, which shows that it works and says little about time.

use anyhow::Context as _;
use gstvadlite::cli::images;
use gstvadlite::detector::backbone::{Backbone, BackboneFile, DEFAULT_BACKBONE, find};
use gstvadlite::detector::heads::{Method, Preset, Recipe};
use gstvadlite::detector::tiles::Tiles;
use gstvadlite::detector::{Device, FitOptions, Fitter, Options};
use std::path::{Path, PathBuf};
use std::time::Instant;

const RUNS: usize = 5;
const SIZE: [usize; 2] = [224, 224];

fn options(recipe: Recipe, backbone: &Path) -> FitOptions<'_> {
    FitOptions {
        recipe,
        backbone,
        taps: Vec::new(),
        dimensions: None,
        tiles: Tiles::ONE,
        input_size: SIZE,
        roi: [0.0, 0.0, 1.0, 1.0],
        false_reject_rate: None,
        video_of: None,
        threads: 0,
        library: None,
        device: Device::Cpu,
    }
}

/// Seconds of decoding and of the backbone, cut as the recipe needs it.
fn backbone_alone(paths: &[PathBuf], recipe: Recipe, file: &Path) -> anyhow::Result<f64> {
    let start = Instant::now();
    let taps: Vec<String> = recipe.default_taps().iter().map(|&t| t.into()).collect();
    let mut backbone = Backbone::new(
        &BackboneFile::read(file)?,
        &taps,
        (SIZE[0], SIZE[1]),
        Options::default(),
    )?;
    let target = images::target(SIZE, backbone.normalization(), [0.0, 0.0, 1.0, 1.0]);
    images::for_each_tensor(paths, target, |_, tensor| {
        Ok(backbone.run(&tensor?, |_| ())?)
    })?;
    Ok(start.elapsed().as_secs_f64())
}

/// Seconds of decoding, backbone, head and threshold.
fn fit(paths: &[PathBuf], recipe: Recipe, file: &Path) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut fitter = Fitter::new(options(recipe, file))?;
    let target = images::target(SIZE, fitter.normalization(), [0.0, 0.0, 1.0, 1.0]);
    images::for_each_tensor(paths, target, |_, tensor| Ok(fitter.add(&tensor?)?))?;
    fitter.finish(&mut |_, _, _| ())?;
    Ok(start.elapsed().as_secs_f64())
}

/// Pictures to work on where none are named.
fn generated(folder: &Path) -> anyhow::Result<()> {
    for number in 0..24u32 {
        let picture = image::RgbImage::from_fn(320, 240, |x, y| {
            let noise = (x * 31 + y * 17 + number * 101) % 23;
            image::Rgb([(x / 2) as u8 + noise as u8, (y / 2) as u8, noise as u8 * 8])
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
