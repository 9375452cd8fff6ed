//! The thread that fits: from shots to a model that is written, opened and handed over.

mod collection;
mod model;
mod parts;
mod scenes;

use super::shots::{Looking, Shots};
use crate::detector::backbone::{self, DEFAULT_BACKBONE};
use crate::detector::progress::Cancel;
use crate::detector::taps::Normalization;
use crate::detector::{Decision, Fitter};
use crate::elements::vadlite::error::SetupError;
use crate::elements::vadlite::loader::Offers;
use crate::elements::vadlite::remedy::setup_error;
use crate::elements::vadlite::settings::Settings;
use crate::elements::vadlite::{CAT, VadLite};
use crate::geometry::{Grid, Roi, Size};
use crate::locate::Demand;
use crate::thread::{Owned, panic_point};
use gst::prelude::*;
use ndarray::Array2;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
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
    /// Whether frames are looked at for parts.
    pub demand: Demand,
}

impl Input {
    /// What frames are looked at as, to begin with.
    pub fn looking(&self) -> Looking {
        match self.demand {
            Demand::None => Looking::AtFrames,
            Demand::Auto | Demand::Part => Looking::ForParts,
        }
    }
}

/// What the thread is at, for the streaming thread to show.
pub struct FitState {
    /// What frames are looked at as, and why once that was asked.
    pub looking: Looking,
    pub located: Option<String>,
    /// What has been handed over and is done with.
    pub handled: u64,
    /// Parts so far, and views of parts that were known already.
    pub parts: usize,
    pub again: u64,
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

impl FitState {
    fn new(looking: Looking) -> Self {
        Self {
            looking,
            located: None,
            handled: 0,
            parts: 0,
            again: 0,
            stage: "",
            done: 0,
            total: 0,
            since: None,
            outliers: 0,
            false_reject_rate: None,
            few: None,
            end: None,
            written: false,
            begun: false,
        }
    }
}

impl FitState {
    /// Nothing has been decided yet, and no parts have been found.
    pub fn forget(&mut self, looking: Looking) {
        (self.looking, self.located) = (looking, None);
        (self.parts, self.again) = (0, 0);
    }
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
        shots: Shots,
        offers: Offers,
    ) -> Result<(Self, Normalization), SetupError> {
        let state = Arc::new(Mutex::new(FitState::new(input.looking())));
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
        let work = move || thread.run(&begun, shots);
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
    fn run(self, begun: &Answer, shots: Shots) {
        panic_point("vadlite-learner: beginning");
        let resolved = backbone::resolve(self.settings.backbone.as_deref(), DEFAULT_BACKBONE, None);
        let fitter = resolved
            .as_ref()
            .map_err(|error| setup_error(error, &self.settings))
            .and_then(|path| {
                Fitter::new(self.options(path, false, &Decision::default()))
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
        let model = self.learn(fitter, path, shots);
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
}
