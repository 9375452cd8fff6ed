//! What the element does between start and stop: which model or learner frames go to, and when another one takes over.
//!
//! Nothing here posts: what is to be told is returned, for [`imp`](super::imp) to tell once no lock is held.

mod frame;

use super::error::FrameFailure;
use super::inspection::Inspection;
use super::learner::{Fit, Learner};
use super::loader::Loader;
use super::settings::LiveSettings;
use super::stats::FrameCount;
use super::stream::Stream;
use super::{CAT, VadLite};
use crate::elements::messages::{BusMessage as _, ModelTakenOver};
use crate::video::frame::FrameFormat;
use frame::Frame;
use gst::prelude::*;
use std::time::Instant;

/// What exists between start and stop, used by the streaming thread alone.
pub struct Session {
    stream: Stream,
    format: Option<FrameFormat>,
    mode: ActiveMode,
    loader: Loader,
    /// The fit of a learner that another model has taken over from: it ends with the session at the latest.
    retired: Option<Fit>,
    /// The last frame that was looked at could not be used.
    failing: bool,
}

/// What is done with frames.
pub enum ActiveMode {
    Detect(Box<Inspection>),
    Learn(Box<Learner>),
}

impl ActiveMode {
    fn negotiate(&mut self, format: &FrameFormat) {
        match self {
            Self::Detect(inspection) => inspection.negotiate(format),
            Self::Learn(learner) => learner.negotiate(format),
        }
    }
}

/// What is to be told and counted once no lock is held: a handler of a message may set a property or read the statistics.
pub enum Event {
    /// Another model is in use; `reload`: not the one that was learnt just now.
    ModelChanged { name: String, reload: bool },
    /// An element message.
    Message(gst::Structure),
    /// How far learning is.
    Progress(gst::ProgressType, String),
    /// A frame could not be used, the first one of a run of such frames: a broken camera would flood the bus.
    FrameFailed { frame: u64, failure: FrameFailure },
    /// A property asks for a threshold that there is not.
    ThresholdKept { reason: String },
    /// The stream has ended before the model had its frames.
    TooFewFrames { taken: usize, wanted: usize },
}

/// What a frame's way through the element has come to.
pub struct Processed {
    pub count: FrameCount,
    pub events: Vec<Event>,
}

impl Session {
    pub fn new(mode: ActiveMode, loader: Loader) -> Self {
        Self {
            stream: Stream::default(),
            format: None,
            mode,
            loader,
            retired: None,
            failing: false,
        }
    }

    /// Prepares for frames of this format; where they are learnt from, `waits` says that their source can be held up.
    pub fn negotiate(&mut self, format: FrameFormat, waits: bool) {
        if let ActiveMode::Learn(learner) = &mut self.mode {
            learner.waits = waits;
        }
        self.mode.negotiate(&format);
        self.format = Some(format);
    }

    /// The next frame follows on a seek or a new stream, not on the last one.
    pub fn forget_last_frame(&mut self) {
        self.stream.forget_last();
    }

    /// Inspects the frame in `buffer` or learns from it, and attaches the result. `start` is when it came.
    ///
    /// # Errors
    /// No caps have come yet.
    pub fn process(
        &mut self,
        element: &VadLite,
        buffer: &mut gst::BufferRef,
        live: &LiveSettings,
        start: Instant,
    ) -> Result<Processed, gst::FlowError> {
        if self.format.is_none() {
            return Err(gst::FlowError::NotNegotiated);
        }
        let mut events = Vec::new();
        self.take_over(element, &mut events);
        let frame = Frame {
            element,
            format: self.format.as_ref().ok_or(gst::FlowError::NotNegotiated)?,
            live,
            number: self.stream.count_frame(),
            lost: self.stream.frames_lost(buffer),
            pts: buffer.pts(),
            start,
        };
        if frame.lost > 0 {
            gst::debug!(CAT, obj = element, "{frame}: {} lost before", frame.lost);
        }
        let (count, failure) = match &mut self.mode {
            ActiveMode::Detect(inspection) => frame.detect(inspection, buffer, &mut events),
            ActiveMode::Learn(learner) => frame.learn(learner, buffer, &mut events),
        };
        if !count.skipped {
            let before = std::mem::replace(&mut self.failing, failure.is_some());
            if let Some(failure) = failure.filter(|_| !before) {
                let frame = frame.number;
                events.push(Event::FrameFailed { frame, failure });
            }
        }
        Ok(Processed { count, events })
    }

    /// At the end of the stream: what there is to tell, and whether a model is still to come.
    pub fn end_of_stream(&mut self, element: &VadLite) -> (Vec<Event>, bool) {
        let mut events = Vec::new();
        self.take_over(element, &mut events);
        let ActiveMode::Learn(learner) = &mut self.mode else {
            return (events, false);
        };
        if let Some((taken, wanted)) = learner.missing() {
            events.push(Event::TooFewFrames { taken, wanted });
            return (events, false);
        }
        let waits = !learner.failed();
        if waits {
            report(element, learner, &mut events);
        }
        (events, waits)
    }

    /// Goes on with the newest model that is ready, between two frames.
    fn take_over(&mut self, element: &VadLite, events: &mut Vec<Event>) {
        let Some(mut inspection) = self.loader.newest() else {
            return;
        };
        if let Some(format) = &self.format {
            inspection.negotiate(format);
        }
        let (model, threshold) = (inspection.model_name.clone(), inspection.threshold());
        gst::info!(
            CAT,
            obj = element,
            "the model {model} takes over before frame {} with threshold {threshold}, opened in {:.1?}",
            self.stream.next_frame(),
            inspection.opened_in
        );
        let before = std::mem::replace(&mut self.mode, ActiveMode::Detect(inspection));
        let mut learner = match before {
            ActiveMode::Learn(learner) => Some(learner),
            ActiveMode::Detect(_) => None,
        };
        let learnt = learner.as_mut().filter(|learner| learner.finished());
        let reload = learnt.is_none();
        let begun = learnt.as_ref().is_some_and(|learner| learner.reported());
        let report = learnt.and_then(|learner| learner.report(true));
        events.push(Event::ModelChanged {
            name: model.clone(),
            reload,
        });
        if let Some((structure, text)) = report {
            events.push(Event::Message(structure));
            if begun {
                events.push(Event::Progress(gst::ProgressType::Complete, text));
            }
        }
        if reload {
            let message = ModelTakenOver {
                model: &model,
                threshold,
            };
            events.push(Event::Message(message.structure()));
        }
        if let Some(learner) = learner {
            if reload {
                gst::info!(
                    CAT,
                    obj = element,
                    "learning ends without a model of its own"
                );
            }
            self.retired = Some(learner.retire());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // All threads first: they are waited for together, not one after the other.
        self.loader.stop();
        if let ActiveMode::Learn(learner) = &mut self.mode {
            learner.give_up();
        }
    }
}

/// Says how far the learner is, where it is time to.
///
/// Not before the element plays: a progress that begins while the pipeline prerolls keeps gst-launch-1.0 from playing until it has ended,
/// and no frame comes for it to go on with.
fn report(element: &VadLite, learner: &mut Learner, events: &mut Vec<Event>) {
    if element.current_state() != gst::State::Playing {
        return;
    }
    let kind = match learner.reported() {
        true => gst::ProgressType::Continue,
        false => gst::ProgressType::Start,
    };
    if let Some((structure, text)) = learner.report(false) {
        gst::debug!(CAT, obj = element, "learning: {text}");
        events.push(Event::Message(structure));
        events.push(Event::Progress(kind, text));
    }
}
