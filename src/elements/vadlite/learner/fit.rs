//! The thread that fits: from image tensors to a model that is written, opened and handed over.

use super::kept::KeptFrames;
use crate::detector::backbone::{self, DEFAULT_BACKBONE};
use crate::detector::calibration::Calibration;
use crate::detector::error::{Error, FitError};
use crate::detector::heads::Recipe;
use crate::detector::method::Preset;
use crate::detector::model_file::ModelFile;
use crate::detector::progress::{Cancel, Progress};
use crate::detector::taps::Normalization;
use crate::detector::{
    FitOptions, Fitter, RuntimeOptions, fit_in_other_light, rejects_other_light,
};
use crate::elements::vadlite::error::SetupError;
use crate::elements::vadlite::inspection::Inspection;
use crate::elements::vadlite::loader::Offers;
use crate::elements::vadlite::remedy::{explain, setup_error};
use crate::elements::vadlite::settings::Settings;
use crate::elements::vadlite::{CAT, VadLite};
use crate::geometry::{Grid, Roi, Size};
use crate::thread::{Owned, panic_point};
use gst::prelude::*;
use ndarray::{Array2, Array3};
use parking_lot::{Mutex, MutexGuard};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

/// How long a thread that is asked to end is waited for: an element's stop takes a second at most. A thread that needs longer for its
/// present image goes on alone until it looks again, and writes nothing.
const GRACE: Duration = Duration::from_millis(500);

/// What image tensors show, and how large they are.
#[derive(Debug, Clone)]
pub struct Input {
    pub roi: Roi,
    /// What is judged of the image tensor.
    pub mask: Option<Array2<bool>>,
    pub tiles: Grid,
    /// Of the image tensor, all tiles together.
    pub size: Size,
}

/// A frame to learn from.
pub struct LearntFrame {
    /// 3 x height x width, normalised.
    pub tensor: Array3<f32>,
    /// From 1: with another first one all that came before are forgotten.
    pub number: usize,
    /// Bits that the samples of all frames use, where they have 16.
    pub bits: Option<u8>,
}

/// Frames to learn from, and the way back for tensors that are done with.
type Tensors = (Receiver<LearntFrame>, SyncSender<Array3<f32>>);

/// What the thread is at, for the streaming thread to show.
#[derive(Default)]
pub struct FitState {
    pub stage: &'static str,
    pub done: usize,
    pub total: usize,
    /// When the stage began.
    pub since: Option<Instant>,
    pub outliers: usize,
    /// What the model promises, and whether that is less than one might expect, in words.
    pub false_reject_rate: Option<f64>,
    pub few: Option<String>,
    pub end: Option<FitEnd>,
    /// The model is on the disk.
    pub written: bool,
    /// The thread has told whether it can begin.
    begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FitEnd {
    /// The model is written and about to take over.
    HandedOver,
    /// There will be no model, and the bus has heard why.
    Failed,
}

/// A fit under way. Dropped, it ends: no model is written from then on.
pub struct Fit {
    thread: Option<Owned>,
    state: Arc<Mutex<FitState>>,
    cancel: Cancel,
    /// Whether the model may be written. Apart from `state`, which frames wait for.
    may_write: Arc<Mutex<bool>>,
    /// Until when the thread is waited for, once it is to end.
    deadline: Option<Instant>,
}

impl Fit {
    /// Starts the thread, which hands its model over by `offers`; returns it and the normalisation that images have to come in.
    ///
    /// # Errors
    /// No backbone or ONNX Runtime, or what was asked for does not fit it.
    pub fn start(
        element: &VadLite,
        settings: &Settings,
        input: Input,
        tensors: Tensors,
        offers: Offers,
    ) -> Result<(Self, Normalization), SetupError> {
        let state = Arc::new(Mutex::new(FitState::default()));
        let cancel = Cancel::default();
        let may_write = Arc::new(Mutex::new(true));
        let thread = Thread {
            element: element.downgrade(),
            settings: settings.clone(),
            input,
            state: state.clone(),
            cancel: cancel.clone(),
            may_write: may_write.clone(),
            offers,
        };
        let (begun, answer) = mpsc::channel();
        let panicked = {
            let (thread, begun) = (thread.clone(), begun.clone());
            move |text| thread.panicked(text, &begun)
        };
        let work = move || thread.run(&begun, tensors);
        let thread = Owned::spawn("vadlite-learner", work, panicked).map_err(SetupError::Thread)?;
        let fit = Self {
            thread: Some(thread),
            state,
            cancel,
            may_write,
            deadline: None,
        };
        // Whether it begins, fails or panics, the thread answers.
        let ended = || SetupError::Panic("the fitting thread has ended".into());
        let normalization = answer.recv().unwrap_or_else(|_| Err(ended()))?;
        Ok((fit, normalization))
    }

    /// What the thread is at. Not to be held for long: the thread waits for it.
    pub fn state(&self) -> MutexGuard<'_, FitState> {
        self.state.lock()
    }

    /// Whether the thread has ended.
    pub fn is_over(&self) -> bool {
        self.thread.as_ref().is_none_or(Owned::is_finished)
    }

    /// Asks the thread to end; a write that has begun is waited for, and none begins afterwards.
    pub fn give_up(&mut self) {
        self.cancel.cancel();
        *self.may_write.lock() = false;
        self.deadline.get_or_insert_with(|| Instant::now() + GRACE);
    }
}

impl Drop for Fit {
    fn drop(&mut self) {
        self.give_up();
        if let Some(thread) = self.thread.take() {
            let deadline = self.deadline.unwrap_or_else(Instant::now);
            thread.join_within(deadline.saturating_duration_since(Instant::now()));
        }
    }
}

#[derive(Clone)]
struct Thread {
    element: glib::WeakRef<VadLite>,
    settings: Settings,
    input: Input,
    state: Arc<Mutex<FitState>>,
    cancel: Cancel,
    may_write: Arc<Mutex<bool>>,
    offers: Offers,
}

/// Whoever starts the fit waits for this answer.
type Answer = Sender<Result<Normalization, SetupError>>;

impl Thread {
    fn run(self, begun: &Answer, tensors: Tensors) {
        panic_point("vadlite-learner: beginning");
        let resolved = backbone::resolve(self.settings.backbone.as_deref(), DEFAULT_BACKBONE, None);
        let fitter = resolved
            .as_ref()
            .map_err(|error| setup_error(error, &self.settings))
            .and_then(|path| {
                Fitter::new(self.options(path, false))
                    .map_err(|error| setup_error(&error, &self.settings))
            });
        self.state.lock().begun = true;
        let (fitter, path) = match (fitter, &resolved) {
            (Ok(fitter), Ok(path)) => (fitter, path),
            (Err(error), _) => return drop(begun.send(Err(error))),
            // Named above.
            (_, Err(_)) => return,
        };
        let _ = begun.send(Ok(fitter.normalization()));
        let model = self.learn(fitter, path, tensors);
        if let Some(element) = self.element.upgrade() {
            let end = match &model {
                Ok(Some(_)) => "the model is written and opened",
                Ok(None) => "the model is not wanted any more",
                Err(reason) => reason,
            };
            gst::debug!(CAT, obj = element, "the fit has ended: {end}");
        }
        match model {
            Ok(Some(inspection)) => {
                self.state.lock().end = Some(FitEnd::HandedOver);
                self.offers.offer(inspection);
            }
            // The element has stopped, or goes on with another model.
            Ok(None) => {}
            Err(reason) => self.fail(&reason),
        }
    }

    /// Ends the fit without a model: an error, unless nobody wants one any more.
    fn fail(&self, reason: &str) {
        self.state.lock().end = Some(FitEnd::Failed);
        if self.cancel.is_cancelled() {
            return;
        }
        if let Some(element) = self.element.upgrade() {
            gst::element_error!(
                element,
                gst::LibraryError::Failed,
                ("the model could not be learnt: {reason}")
            );
        }
        self.offers.wake();
    }

    fn panicked(&self, text: String, begun: &Answer) {
        let error = SetupError::Panic(text);
        let has_begun = std::mem::replace(&mut self.state.lock().begun, true);
        match has_begun {
            true => self.fail(&error.to_string()),
            false => drop(begun.send(Err(error))),
        }
    }

    fn options<'a>(&'a self, backbone: &'a Path, same_light: bool) -> FitOptions<'a> {
        let settings = &self.settings;
        FitOptions {
            part: None,
            located: None,
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
            input_size: self.input.size,
            roi: self.input.roi,
            mask: self.input.mask.clone(),
            false_reject_rate: Some(settings.live.false_reject_rate).filter(|rate| *rate > 0.0),
            video_of: Some(settings.learn_frames as usize),
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
    fn learn<'a>(
        &'a self,
        fitter: Fitter<'a>,
        backbone: &'a Path,
        tensors: Tensors,
    ) -> Result<Option<Inspection>, String> {
        match self.fit(fitter, backbone, tensors) {
            Ok(true) => Inspection::new(&self.settings)
                .map(Some)
                .map_err(|error| error.to_string()),
            Ok(false) | Err(Error::Fit(FitError::Cancelled)) => Ok(None),
            Err(error) => Err(explain(&error, &self.settings)),
        }
    }

    /// Writes the model of all frames; returns whether it was still wanted.
    fn fit<'a>(
        &'a self,
        mut fitter: Fitter<'a>,
        backbone: &'a Path,
        (tensors, give_back): Tensors,
    ) -> Result<bool, Error> {
        let (mut frames, mut sample_bits) = (0, None);
        let none_kept = || KeptFrames::new(self.settings.learn_frames as usize, self.input.size);
        let mut kept = none_kept();
        for frame in tensors {
            let LearntFrame {
                tensor,
                number,
                bits,
            } = frame;
            self.cancel.check()?;
            if number == 1 && frames > 0 {
                fitter = Fitter::new(self.options(backbone, false))?;
                (kept, frames) = (none_kept(), 0);
            }
            sample_bits = bits;
            fitter.add(tensor.view())?;
            kept.add(tensor.view());
            frames += 1;
            // Fails where the streaming thread has gone.
            let _ = give_back.try_send(tensor);
            self.offers.wake();
        }
        if frames < self.settings.learn_frames {
            return Ok(false);
        }
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
                None => self.again(backbone, &kept, same_light, &mut progress)?,
            };
            fitter.describe_files(sample_bits, None);
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
                "fitted {} in {:.1?} on {frames} frames, {outliers} of them left out as outliers{}",
                path.display(),
                start.elapsed(),
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

    /// All frames once more, in a fit of its own.
    fn again<'a>(
        &'a self,
        backbone: &'a Path,
        kept: &KeptFrames,
        same_light: bool,
        progress: &mut Progress<'_>,
    ) -> Result<Fitter<'a>, Error> {
        let mut fitter = Fitter::new(self.options(backbone, same_light))?;
        let frames = self.settings.learn_frames as usize;
        kept.each(|number, frame| -> Result<(), Error> {
            progress.at("bringing frames to one level of light", number, frames)?;
            Ok(fitter.add(frame)?)
        })?;
        Ok(fitter)
    }
}
