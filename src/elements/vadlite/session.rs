//! What the element does between start and stop: which model or learner frames go to, and when another one takes over.
//!
//! Nothing here posts: what is to be told is returned, for [`imp`](super::imp) to tell once no lock is held.

mod frame;

use super::error::{FailureKind, FrameFailure};
use super::inspection::Inspection;
use super::learner::{Fit, Learner, Missing};
use super::loader::Loader;
use super::part_watch::PartWatch;
use super::settings::{LiveSettings, PostMessages, ThresholdFrom};
use super::stats::FrameCount;
use super::stream::Stream;
use super::{CAT, VadLite};
use crate::elements::messages::{BusMessage as _, ModelTakenOver};
use crate::video::frame::FrameFormat;
use crate::video::sample_bits::OtherBits;
use frame::Frame;
use gst::prelude::*;
use std::time::Instant;

/// What exists between start and stop, used by the streaming thread alone.
pub struct Session {
    stream: Stream,
    format: Option<FrameFormat>,
    mode: ActiveMode,
    parts: PartWatch,
    loader: Loader,
    /// The fit of a learner that another model has taken over from: it ends with the session at the latest.
    retired: Option<Fit>,
    /// What was told of frames that could not be used.
    told: Vec<FailureKind>,
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
    /// Another model is in use. `learning`: frames were learnt from until then; `reload`: it is not what was learnt.
    ModelChanged {
        name: String,
        learning: bool,
        reload: bool,
    },
    /// An element message.
    Message(gst::Structure),
    /// How far learning is.
    Progress(gst::ProgressType, String),
    /// A frame could not be used, the first one for a reason of this kind: a broken camera would flood the bus.
    FrameFailed { frame: u64, failure: FrameFailure },
    /// Frames use other bits of 16 than the model knows.
    OtherBits { frame: u64, other: OtherBits },
    /// Properties ask for a threshold that there is not; the one before stays.
    ThresholdKept {
        reason: String,
        refused: ThresholdFrom,
        kept: ThresholdFrom,
    },
    /// The stream has ended before the model had its frames.
    TooFewFrames(Missing),
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
            parts: PartWatch::default(),
            loader,
            retired: None,
            told: Vec::new(),
        }
    }

    /// The way to the thread that opens other models.
    pub fn wanted(&self) -> Option<std::sync::mpsc::Sender<()>> {
        self.loader.wanted()
    }

    /// Prepares for frames of this format and rate; where they are learnt from, `waits` says that their source can be held up.
    pub fn negotiate(&mut self, format: FrameFormat, rate: gst::Fraction, waits: bool) {
        self.stream.set_rate(rate);
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

    /// The source says that it has nothing to send for a while.
    pub fn interrupt(&mut self) {
        self.stream.interrupt();
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
        let mut events = Vec::new();
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
            ActiveMode::Detect(inspection) => {
                frame.detect(inspection, &mut self.parts, buffer, &mut events)
            }
            ActiveMode::Learn(learner) => frame.learn(learner, buffer, &mut events),
        };
        if let Some(failure) = failure
            && !self.told.contains(&failure.kind())
        {
            self.told.push(failure.kind());
            let frame = frame.number;
            events.push(Event::FrameFailed { frame, failure });
        }
        Ok(Processed { count, events })
    }

    /// Lets the parts go that are still in the frame: the stream ends. Returns what there is to tell of them.
    pub fn finish_parts(&mut self, live: &LiveSettings) -> Vec<Event> {
        let ActiveMode::Detect(inspection) = &self.mode else {
            return Vec::new();
        };
        let (threshold, model) = (inspection.threshold(), &inspection.model_name);
        let left = self.parts.finish(threshold, model);
        match live.post_messages {
            PostMessages::None => Vec::new(),
            _ => left.into_iter().map(Event::Message).collect(),
        }
    }

    /// Goes on with another model where one is ready. Returns what there is to tell, and whether the stream has to wait: its end for a
    /// model that has all its frames, and the next frame of a source that can be held up also for room to learn from it.
    pub fn before_next(&mut self, element: &VadLite, end: bool) -> (Vec<Event>, bool) {
        let mut events = Vec::new();
        self.take_over(element, &mut events);
        let ActiveMode::Learn(learner) = &mut self.mode else {
            return (events, false);
        };
        // First: with what the thread has come to meanwhile, nothing may be missing any more.
        let has_room = learner.has_room();
        let waits = match learner.missing() {
            Some(_) if end && !learner.has_seen_all() => true,
            // What it has seen last may have been enough.
            Some(_) if end => match learner.missing() {
                Some(missing) => {
                    events.push(Event::TooFewFrames(missing));
                    false
                }
                None => true,
            },
            Some(_) => learner.waits && !has_room,
            None => end || learner.waits,
        };
        let waits = waits && !learner.failed();
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
        let learning = learner.is_some();
        let learnt = learner.as_mut().filter(|learner| learner.finished());
        let reload = learnt.is_none();
        let begun = learnt.as_ref().is_some_and(|learner| learner.reported());
        let report = learnt.and_then(|learner| learner.report(true));
        events.push(Event::ModelChanged {
            name: model.clone(),
            learning,
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

impl Session {
    /// Asks all threads to end. Returns whether a model is learnt that no frame has come for.
    pub fn stop(&mut self) -> bool {
        // All threads first: they are waited for together, not one after the other.
        self.loader.stop();
        match &mut self.mode {
            ActiveMode::Detect(_) => false,
            ActiveMode::Learn(learner) => {
                learner.give_up();
                learner.has_written()
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.stop();
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
