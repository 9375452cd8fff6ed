//! Whether the good images show parts to locate: read once at one scale, before the fit.

use crate::cli::console::progress;
use crate::cli::images::{self, Framing, ReadImage, Reading};
use crate::cli::options::FitArguments;
use crate::detector::method::Preset;
use crate::detector::taps::Normalization;
use crate::detector::{Decision, levels};
use crate::geometry::{Grid, Input};
use crate::locate::{Demand, ENOUGH, LocatorFitter, SCENE, Verdict};
use anyhow::bail;
use std::path::PathBuf;

/// Decides on some of the images, evenly spread.
///
/// # Errors
/// Parts are asked for and there are none, or with options that do not go with them.
pub fn decide(
    arguments: &FitArguments,
    reading: Reading,
    paths: &[PathBuf],
) -> anyhow::Result<Decision> {
    let demand = arguments.locate;
    let others = match () {
        () if arguments.tiles != Grid::ONE => Some("--tiles cuts the whole picture"),
        () if arguments.mask.is_some() => Some("--mask lies on the whole picture"),
        () if arguments.preset == Preset::Paper => Some("--preset paper takes whole pictures"),
        () => None,
    };
    match (demand, others) {
        (Demand::None, _) | (Demand::Auto, Some(_)) => return Ok(Decision::default()),
        (Demand::Part, Some(others)) => bail!("--locate part: {others}; leave one of them out"),
        (Demand::Auto | Demand::Part, None) => {}
    }
    let step = paths.len().div_ceil(ENOUGH).max(1);
    let some: Vec<PathBuf> = paths.iter().step_by(step).cloned().collect();
    let roi = arguments.roi.unwrap_or_default();
    let framing = Framing {
        // Of images of several sizes each fills it.
        input: Input::Scene {
            longest: SCENE,
            roi,
            frame: None,
        },
        normalization: Normalization::PLAIN,
        roi,
    };
    let bar = progress(some.len(), "looking for parts");
    let mut fitter = LocatorFitter::new(levels(Normalization::PLAIN));
    let mut longest = 0;
    images::for_each_tensor(&some, framing, reading, |_, image| {
        bar.inc(1);
        // What cannot be read is said when it is fitted on.
        if let Ok(ReadImage { tensor, size, .. }) = image {
            let (width, height) = (
                size.width as f32 * framing.roi.width,
                size.height as f32 * framing.roi.height,
            );
            longest = longest.max(width.max(height) as usize);
            fitter.add(tensor.view());
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    let pixels = usize::from(arguments.size).pow(2);
    match fitter.finish(demand, pixels, longest) {
        Verdict::None(reason) if demand == Demand::Part => bail!("--locate part: {reason}"),
        verdict => Ok(verdict.into()),
    }
}
