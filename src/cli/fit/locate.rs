//! Whether the good images show parts to locate: read once at one scale, before the fit.

use crate::cli::console::progress;
use crate::cli::images::{self, Framing, ReadImage, Reading};
use crate::cli::options::FitArguments;
use crate::detector::method::Preset;
use crate::detector::taps::Normalization;
use crate::detector::{FittedPart, levels};
use crate::geometry::{Grid, Input, Size};
use crate::locate::{
    Demand, ENOUGH, Learnt, Levels, Locator, LocatorFitter, SCENE, State, Verdict,
};
use anyhow::bail;
use ndarray::{Array2, Array3, ArrayView3};
use std::path::PathBuf;

/// Levels as they are, 0 to 1.
const PLAIN: Normalization = Normalization {
    mean: [0.0; 3],
    std: [1.0; 3],
};

/// What was decided.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    pub part: Option<FittedPart>,
    /// Of a part's tensor, and what is judged of it.
    pub tensor: Option<Size>,
    pub mask: Option<Array2<bool>>,
    /// Why, where it was asked.
    pub said: Option<String>,
}

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
        normalization: PLAIN,
        roi,
    };
    let bar = progress(some.len(), "looking for parts");
    let mut fitter = LocatorFitter::new(levels(PLAIN));
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
        Verdict::Part(learnt) => {
            let Learnt {
                model,
                tensor,
                template,
                mask,
                said,
            } = *learnt;
            Ok(Decision {
                part: Some(FittedPart { model, template }),
                tensor: Some(tensor),
                mask: Some(mask),
                said: Some(said),
            })
        }
        Verdict::None(reason) if demand == Demand::Part => {
            bail!("--locate part: {reason}")
        }
        Verdict::None(reason) => Ok(Decision {
            said: Some(format!("whole pictures: {reason}")),
            ..Decision::default()
        }),
    }
}

/// Takes the parts out of scenes.
pub struct Cutter {
    locator: Option<Locator>,
    tensor: Array3<f32>,
}

impl Cutter {
    /// Whole images where there is no part to locate.
    pub fn new(part: Option<&FittedPart>, tensor: Size, normalization: Normalization) -> Self {
        let levels: Levels = levels(normalization);
        let new = |part: &FittedPart| Locator::new(part.model, levels, part.template.view());
        Self {
            locator: part.map(new),
            tensor: Array3::zeros((3, tensor.height, tensor.width)),
        }
    }

    /// Hands every part that can be judged to `each`, upright; or the whole image. Returns how many there were.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn cut(
        &mut self,
        image: ArrayView3<'_, f32>,
        mut each: impl FnMut(ArrayView3<'_, f32>) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let Some(locator) = &mut self.locator else {
            each(image)?;
            return Ok(1);
        };
        locator.locate(image);
        if locator.doubt().is_some() {
            return Ok(0);
        }
        let mut count = 0;
        for found in locator.found() {
            if found.state == State::Located {
                locator.upright(image, found, self.tensor.view_mut());
                each(self.tensor.view())?;
                count += 1;
            }
        }
        Ok(count)
    }
}
