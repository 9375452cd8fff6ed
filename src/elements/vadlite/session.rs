//! What the element does between start and stop: which model or learner frames go to, and what each frame's way through it says.
//!
//! Nothing here posts: what is to be told is returned, for [`imp`](super::imp) to tell once no lock is held.

use super::error::FrameFailure;
use super::inspection::Inspection;
use super::learner::{Collected, Fit, Learner};
use super::loader::Loader;
use super::settings::{LiveSettings, PostMessages};
use super::stats::FrameCount;
use super::stream::Stream;
use super::{CAT, VadLite};
use crate::detector::drift::Direction;
use crate::elements::messages::{BusMessage as _, DriftAlarm, ModelTakenOver};
use crate::video::frame::FrameFormat;
use crate::video::meta::{FrameResult, ResultMap};
use gst::prelude::*;
use gst_base::prelude::*;
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
        let report = learnt.and_then(|learner| learner.report(true));
        events.push(Event::ModelChanged {
            name: model.clone(),
            reload,
        });
        if let Some((structure, text)) = report {
            events.push(Event::Message(structure));
            events.push(Event::Progress(gst::ProgressType::Complete, text));
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

/// A frame on its way through.
struct Frame<'a> {
    element: &'a VadLite,
    format: &'a FrameFormat,
    live: &'a LiveSettings,
    number: u64,
    /// Frames missing before it.
    lost: u64,
    pts: Option<gst::ClockTime>,
    start: Instant,
}

impl std::fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frame {} at {}", self.number, self.pts.display())
    }
}

impl Frame<'_> {
    /// Scores the frame, marks it, attaches the result. Returns what failed as well.
    fn detect(
        &self,
        inspection: &mut Inspection,
        buffer: &mut gst::BufferRef,
        events: &mut Vec<Event>,
    ) -> (FrameCount, Option<FrameFailure>) {
        let (element, live) = (self.element, self.live);
        self.update_threshold(inspection, events);
        let gap = buffer.flags().contains(gst::BufferFlags::GAP);
        let wanted = self.number.is_multiple_of(u64::from(live.interval)) && !gap;
        let (score, failure) = match wanted.then(|| inspection.inspect(buffer, self.format)) {
            Some(Ok(score)) => (Some(score), None),
            Some(Err(failure)) => (None, Some(failure)),
            None => (None, None),
        };
        let mut count = FrameCount {
            lost: self.lost,
            failed: failure.is_some(),
            skipped: !wanted,
            flagged: score.is_some_and(|score| score > inspection.threshold()),
            ..FrameCount::default()
        };
        if let Some(score) = score {
            self.watch_drift(inspection, score, &mut count, events);
        }
        inspection.find_regions(count.flagged);
        let drawn = score.is_some()
            && (count.flagged || live.overlay_always)
            && inspection
                .draw(buffer, self.format, live.overlay)
                .unwrap_or_else(|error| {
                    gst::debug!(CAT, obj = element, "{self}: nothing is drawn: {error}");
                    false
                });
        let latency = self.start.elapsed();
        count.latency = score.map(|_| latency.as_nanos() as u64);
        let result = FrameResult {
            score: score.unwrap_or(0.0),
            threshold: inspection.threshold(),
            flagged: count.flagged,
            inspected: score.is_some(),
            skipped: count.skipped,
            drawn,
            frame: self.number,
            model: inspection.model_name.as_str().into(),
            latency: latency.as_nanos() as u64,
            regions: inspection.regions.as_slice().into(),
            map: score.is_some().then(|| ResultMap::new(inspection.map())),
        };
        self.attach(&result, buffer);
        match (score, &failure) {
            (Some(score), _) if count.flagged => gst::debug!(
                CAT,
                obj = element,
                "{self}: flagged, score {score} of {}, {} regions, in {latency:.1?}",
                result.threshold,
                result.regions.len()
            ),
            (Some(score), _) => gst::log!(
                CAT,
                obj = element,
                "{self}: good, score {score} of {}, in {latency:.1?}",
                result.threshold
            ),
            (None, Some(failure)) => {
                gst::debug!(CAT, obj = element, "{self}: not inspected: {failure}");
            }
            (None, None) => {
                let reason = if gap { "a gap" } else { "by interval" };
                gst::log!(CAT, obj = element, "{self}: skipped, {reason}");
            }
        }
        let post = match live.post_messages {
            PostMessages::None => false,
            PostMessages::Flagged => count.flagged,
            PostMessages::All => true,
        };
        if post {
            let segment = element.segment();
            let running_time = segment
                .downcast_ref::<gst::ClockTime>()
                .and_then(|segment| segment.to_running_time(self.pts));
            events.push(Event::Message(result.message(self.pts, running_time)));
        }
        (count, failure)
    }

    fn update_threshold(&self, inspection: &mut Inspection, events: &mut Vec<Event>) {
        let before = inspection.threshold();
        match inspection.update_threshold(self.live) {
            Ok(false) => {}
            Ok(true) => gst::info!(
                CAT,
                obj = self.element,
                "{self}: the threshold is {} instead of {before} from here on",
                inspection.threshold()
            ),
            Err(error) => {
                let reason = format!("{error}; the threshold stays at {before}");
                events.push(Event::ThresholdKept { reason });
            }
        }
    }

    fn watch_drift(
        &self,
        inspection: &mut Inspection,
        score: f64,
        count: &mut FrameCount,
        events: &mut Vec<Event>,
    ) {
        let interval = self.live.drift_interval;
        let Some(reading) = inspection.watch_drift(score, self.pts, interval) else {
            return;
        };
        let level = reading.level;
        gst::trace!(CAT, obj = self.element, "{self}: drift level {level:.3}");
        count.drift = Some(level);
        let Some(direction) = reading.alarm else {
            return;
        };
        count.drift_alarm = true;
        let direction = match direction {
            Direction::Up => "up",
            Direction::Down => "down",
        };
        gst::info!(CAT, obj = self.element, "{self}: scores drift {direction}");
        let alarm = DriftAlarm {
            direction,
            frame: self.number,
            score,
            model: &inspection.model_name,
        };
        events.push(Event::Message(alarm.structure()));
    }

    /// Shows the frame to the learner, and the progress on the frame and on the bus. Returns what failed as well.
    fn learn(
        &self,
        learner: &mut Learner,
        buffer: &mut gst::BufferRef,
        events: &mut Vec<Event>,
    ) -> (FrameCount, Option<FrameFailure>) {
        let element = self.element;
        let gap = buffer.flags().contains(gst::BufferFlags::GAP);
        let mut failure = None;
        match (!gap).then(|| learner.collect(buffer, self.format)) {
            Some(Ok(Collected::Taken(number))) => {
                gst::log!(CAT, obj = element, "{self}: learnt from, number {number}");
            }
            Some(Ok(other)) => {
                gst::log!(CAT, obj = element, "{self}: not learnt from: {other:?}");
            }
            Some(Err(error)) => {
                gst::debug!(CAT, obj = element, "{self}: not learnt from: {error}");
                failure = Some(error);
            }
            None => gst::log!(CAT, obj = element, "{self}: not learnt from: a gap"),
        }
        if !learner.failed() {
            if failure.is_none()
                && let Err(error) = learner.draw(buffer, self.format, self.live.overlay)
            {
                gst::debug!(CAT, obj = element, "{self}: nothing is drawn: {error}");
            }
            report(element, learner, events);
        }
        let result = FrameResult {
            score: 0.0,
            threshold: 0.0,
            flagged: false,
            inspected: false,
            skipped: failure.is_none(),
            drawn: false,
            frame: self.number,
            model: "".into(),
            latency: self.start.elapsed().as_nanos() as u64,
            regions: [].as_slice().into(),
            map: None,
        };
        self.attach(&result, buffer);
        let count = FrameCount {
            lost: self.lost,
            failed: failure.is_some(),
            skipped: gap,
            ..FrameCount::default()
        };
        (count, failure)
    }

    fn attach(&self, result: &FrameResult<'_>, buffer: &mut gst::BufferRef) {
        if let Err(error) = result.write(buffer) {
            gst::error!(CAT, obj = self.element, "{self}: no meta: {error}");
        }
        #[cfg(feature = "analytics")]
        if let Err(error) = crate::video::analytics::attach(result, self.format.size(), buffer) {
            gst::error!(
                CAT,
                obj = self.element,
                "{self}: no analytics meta: {error}"
            );
        }
    }
}

/// Says how far the learner is, where it is time to.
fn report(element: &VadLite, learner: &mut Learner, events: &mut Vec<Event>) {
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
