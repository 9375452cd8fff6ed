//! From what frames show to a model that is written and opened.

use super::collection::Collection;
use super::{CAT, Thread};
use crate::detector::calibration::Calibration;
use crate::detector::error::{Error, FitError};
use crate::detector::heads::Recipe;
use crate::detector::method::Preset;
use crate::detector::model_file::ModelFile;
use crate::detector::progress::Progress;
use crate::detector::{
    Decision, FitOptions, Fitter, RuntimeOptions, fit_in_other_light, rejects_other_light,
};
use crate::elements::vadlite::inspection::Inspection;
use crate::elements::vadlite::learner::kept::KeptFrames;
use crate::elements::vadlite::learner::shots::Shots;
use crate::elements::vadlite::remedy::explain;
use crate::thread::panic_point;
use ndarray::ArrayView3;
use std::path::Path;
use std::time::Instant;

impl Thread {
    /// Frames or parts that are learnt from.
    pub fn wanted(&self) -> usize {
        self.settings.learn_frames as usize
    }

    /// How to fit on whole frames, or on the parts that were decided on.
    pub fn options<'a>(
        &'a self,
        backbone: &'a Path,
        same_light: bool,
        decision: &Decision,
    ) -> FitOptions<'a> {
        let settings = &self.settings;
        FitOptions {
            part: decision.part.clone(),
            located: decision.said.clone(),
            recipes: settings
                .method
                .methods()
                .iter()
                .map(|&method| Recipe {
                    method,
                    preset: Preset::Default,
                })
                .collect(),
            backbone,
            taps: Vec::new(),
            dimensions: None,
            tiles: self.input.tiles,
            input_size: decision.tensor.unwrap_or(self.input.size),
            roi: self.input.roi,
            mask: decision.mask.as_ref().or(self.input.mask.as_ref()).cloned(),
            false_reject_rate: Some(settings.live.false_reject_rate).filter(|rate| *rate > 0.0),
            video_of: Some(self.wanted()),
            paint: false,
            light: true,
            same_light,
            runtime: RuntimeOptions {
                threads: settings.threads as usize,
                library: settings.onnxruntime.as_deref(),
                device: settings.device,
            },
        }
    }

    /// The model, written and opened; `None` where nobody wants it any more.
    pub fn learn(
        &self,
        fitter: Fitter<'_>,
        backbone: &Path,
        shots: Shots,
    ) -> Result<Option<Inspection>, String> {
        match self.fit(fitter, backbone, shots) {
            Ok(true) => Inspection::new(&self.settings)
                .map(Some)
                .map_err(|error| error.to_string()),
            Ok(false) | Err(Error::Fit(FitError::Cancelled)) => Ok(None),
            Err(error) => Err(explain(&error, &self.settings)),
        }
    }

    /// Writes the model of all frames or parts; returns whether it was still wanted.
    fn fit(&self, fitter: Fitter<'_>, backbone: &Path, shots: Shots) -> Result<bool, Error> {
        let mut collection = Collection::new(self, backbone, fitter);
        collection.collect(shots)?;
        if collection.taken < self.wanted() {
            return Ok(false);
        }
        let Collection {
            fitter,
            kept,
            taken,
            ref decision,
            frame,
            bits,
            ..
        } = collection;
        let start = Instant::now();
        let report = |stage: &'static str, done: usize, total: usize| {
            let mut state = self.state.lock();
            if state.stage != stage || done == 0 {
                state.since = Some(Instant::now());
            }
            (state.stage, state.done, state.total) = (stage, done, total);
        };
        let mut progress = Progress::new(report, self.cancel.clone());
        let mut first = Some(fitter);
        let fit = |same_light: bool| -> Result<(ModelFile, usize), Error> {
            let mut fitter = match first.take() {
                Some(fitter) => fitter,
                None => {
                    let options = self.options(backbone, same_light, decision);
                    let mut fitter = Fitter::new(options)?;
                    self.show_again(&mut fitter, &kept, &mut progress)?;
                    fitter
                }
            };
            fitter.describe_files(bits, frame);
            let outliers = fitter.leave_out_foreign(&mut progress)?;
            panic_point("vadlite-learner: finishing");
            Ok((fitter.finish(&mut progress)?.model, outliers))
        };
        // Frames that are gone cannot be brought to another light.
        let asked = (!kept.are_all_there()).then_some(false);
        let (model, outliers) = fit_in_other_light(asked, fit, |(model, _)| &model.metadata)?;
        drop(kept);
        self.state.lock().outliers = outliers;
        let few = Calibration::few(model.calibration.scores().len());
        let mut state = self.state.lock();
        state.false_reject_rate = Some(model.metadata.false_reject_rate);
        state.few = few.clone();
        drop(state);
        let Some(path) = self.settings.model.as_deref() else {
            return Ok(false);
        };
        let may_write = self.may_write.lock();
        if !*may_write {
            return Ok(false);
        }
        model.write(path)?;
        self.state.lock().written = true;
        drop(may_write);
        let metadata = &model.metadata;
        if let Some(element) = self.element.upgrade() {
            gst::info!(
                CAT,
                obj = element,
                "fitted {} in {:.1?} on {taken} {}, {outliers} of them left out as outliers{}",
                path.display(),
                start.elapsed(),
                match decision.part {
                    Some(_) => "parts",
                    None => "frames",
                },
                match metadata.light_level {
                    Some(_) => "; they are brought to one level of light",
                    None => "",
                }
            );
            if let Some(rejects) = metadata
                .light_rejects
                .filter(|_| rejects_other_light(metadata))
            {
                gst::warning!(
                    CAT,
                    obj = element,
                    "in light 15 % brighter or darker {:.0} % of the good parts would be rejected",
                    100.0 * rejects
                );
            }
            if let Some(few) = few {
                gst::warning!(CAT, obj = element, "{few}");
            }
        }
        Ok(true)
    }

    /// All frames or parts once more, to a fitter of their own.
    fn show_again(
        &self,
        fitter: &mut Fitter<'_>,
        kept: &KeptFrames,
        progress: &mut Progress<'_>,
    ) -> Result<(), Error> {
        kept.each(|number, frame: ArrayView3<'_, f32>| -> Result<(), Error> {
            progress.at(
                "bringing frames to one level of light",
                number,
                self.wanted(),
            )?;
            Ok(fitter.add(frame)?)
        })
    }
}
