//! What is done with a frame: inspected or learnt from, marked, and what is said of it on the buffer and on the bus.

use super::imp::{CAT, State, VadLite, Work};
use super::inspection::Inspection;
use super::learner::Learner;
use super::settings::{Live, PostMessages};
use super::stream::Picture;
use crate::detector::drift::Direction;
use crate::video::meta::{FrameResult, ResultMap};
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A frame on its way through.
pub(super) struct Frame {
    pub number: u64,
    /// Frames missing before it.
    pub lost: u64,
    pub start: Instant,
}

impl VadLite {
    /// The statistics in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        self.stats.lock().prometheus(&self.obj().name())
    }

    /// The statistics as JSON.
    pub fn stats_json(&self) -> String {
        self.stats.lock().json()
    }

    /// Counts a model that could not take over.
    pub fn count_refused_reload(&self) {
        self.stats.lock().count_reload(false);
    }

    fn element_message(&self, structure: gst::Structure) -> gst::Message {
        gst::message::Element::builder(structure)
            .src(&*self.obj())
            .build()
    }

    fn progress_message(&self, kind: gst::ProgressType, code: &str, text: &str) -> gst::Message {
        gst::message::Progress::builder(kind, code, text)
            .src(&*self.obj())
            .build()
    }

    /// Goes on with the newest model that is ready, between two frames.
    pub(super) fn take_over(&self, state: &mut State, messages: &mut Vec<gst::Message>) {
        let Some(mut inspection) = state.loader.ready.try_iter().last() else {
            return;
        };
        if let Some(picture) = &state.stream.picture {
            inspection.negotiate(picture);
        }
        let mut stats = self.stats.lock();
        stats.set_model(&inspection.model_name);
        match &mut state.work {
            Work::Learn(learner) if learner.finished() => {
                if let Some((structure, text)) = learner.report(true) {
                    messages.push(self.element_message(structure));
                    let complete = gst::ProgressType::Complete;
                    messages.push(self.progress_message(complete, "learn", &text));
                }
            }
            // Of a learner as well, which then ends without a model of its own.
            Work::Learn(_) | Work::Detect(_) => {
                stats.count_reload(true);
                let structure = gst::Structure::builder("vadlite-model")
                    .field("model", &inspection.model_name)
                    .field("threshold", inspection.threshold());
                messages.push(self.element_message(structure.build()));
            }
        }
        state.work = Work::Detect(inspection);
    }

    /// Says on the bus that a frame could not be used, once per run of such frames: a broken camera would flood it.
    fn warn_of_frame(&self, failing: &mut bool, frame: u64, reason: Option<&String>) {
        let before = std::mem::replace(failing, reason.is_some());
        if let Some(reason) = reason
            && !before
        {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                (
                    "frame {} could not be inspected and passes on: {}",
                    frame,
                    reason
                )
            );
        }
    }

    /// Scores the frame, marks it, attaches the result.
    pub(super) fn detect(
        &self,
        inspection: &mut Inspection,
        picture: &Picture,
        buffer: &mut gst::BufferRef,
        live: Live,
        frame: Frame,
        messages: &mut Vec<gst::Message>,
    ) {
        if let Err(reason) = inspection.update_threshold(&live) {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                (
                    "{}; the threshold stays at {}",
                    reason,
                    inspection.threshold()
                )
            );
        }
        let wanted = frame.number.is_multiple_of(u64::from(live.interval))
            && !buffer.flags().contains(gst::BufferFlags::GAP);
        let result = wanted.then(|| inspection.inspect(buffer, picture));
        if let Some(result) = &result {
            self.warn_of_frame(&mut inspection.failing, frame.number, result.as_ref().err());
        }
        let failed = matches!(result, Some(Err(_)));
        let score = result.and_then(Result::ok);

        if let Some(score) = score
            && let Some((level, alarm)) =
                inspection.test_drift(score, buffer.pts(), live.drift_interval)
        {
            self.stats.lock().set_drift(level, alarm.is_some());
            if let Some(direction) = alarm {
                let direction = match direction {
                    Direction::Up => "up",
                    Direction::Down => "down",
                };
                let structure = gst::Structure::builder("vadlite-drift")
                    .field("direction", direction)
                    .field("frame", frame.number)
                    .field("score", score)
                    .field("model", &inspection.model_name);
                messages.push(self.element_message(structure.build()));
            }
        }
        let flagged = score.is_some_and(|score| score > inspection.threshold());
        inspection.find_regions(flagged);
        let draw = score.is_some() && (flagged || live.overlay_always);
        if draw {
            inspection.draw(buffer, picture, live.overlay);
        }
        let latency = frame.start.elapsed().as_nanos() as u64;
        let outcome = FrameResult {
            score: score.unwrap_or(0.0),
            threshold: inspection.threshold(),
            flagged,
            inspected: score.is_some(),
            skipped: !wanted,
            drawn: draw && live.overlay.style().is_some(),
            frame: frame.number,
            model: inspection.model_name.as_str().into(),
            latency,
            regions: inspection.regions.as_slice().into(),
            map: score.is_some().then(|| ResultMap::new(inspection.map())),
        };
        self.attach(&outcome, buffer);
        let post = match live.post_messages {
            PostMessages::None => false,
            PostMessages::Flagged => flagged,
            PostMessages::All => true,
        };
        if post {
            let segment = self.obj().segment();
            let running_time = segment
                .downcast_ref::<gst::ClockTime>()
                .and_then(|segment| segment.to_running_time(buffer.pts()));
            messages.push(self.element_message(outcome.message(buffer.pts(), running_time)));
        }
        let latency = score.is_some().then_some(latency);
        self.stats
            .lock()
            .count(latency, flagged, failed, frame.lost);
    }

    /// Shows the frame to the learner, and the progress on the frame and on the bus.
    pub(super) fn learn(
        &self,
        learner: &mut Learner,
        picture: &Picture,
        buffer: &mut gst::BufferRef,
        live: Live,
        frame: Frame,
        messages: &mut Vec<gst::Message>,
    ) {
        let failed = !buffer.flags().contains(gst::BufferFlags::GAP) && {
            let result = learner.look(buffer, picture);
            self.warn_of_frame(&mut learner.failing, frame.number, result.as_ref().err());
            result.is_err()
        };
        if !learner.failed() {
            learner.draw(buffer, picture, live.overlay);
            self.report(learner, messages);
        }
        let outcome = FrameResult {
            score: 0.0,
            threshold: 0.0,
            flagged: false,
            inspected: false,
            skipped: !failed,
            drawn: false,
            frame: frame.number,
            model: "".into(),
            latency: frame.start.elapsed().as_nanos() as u64,
            regions: [].as_slice().into(),
            map: None,
        };
        self.attach(&outcome, buffer);
        self.stats.lock().count(None, false, failed, frame.lost);
    }

    /// Says how far the learner is, where it is time to.
    fn report(&self, learner: &mut Learner, messages: &mut Vec<gst::Message>) {
        let kind = match learner.reported() {
            true => gst::ProgressType::Continue,
            false => gst::ProgressType::Start,
        };
        if let Some((structure, text)) = learner.report(false) {
            messages.push(self.element_message(structure));
            messages.push(self.progress_message(kind, "learn", &text));
        }
    }

    /// At the end of the stream: waits for a model that has all its frames, until it is written, the fit fails or the element is to stop.
    pub(super) fn finish_learning(&self) {
        loop {
            let mut messages = Vec::new();
            let (mut goes_on, mut missing) = (false, None);
            if let Some(state) = self.state.lock().as_mut() {
                self.take_over(state, &mut messages);
                if let Work::Learn(learner) = &mut state.work {
                    missing = learner.missing();
                    goes_on = missing.is_none() && !learner.failed();
                    if goes_on {
                        self.report(learner, &mut messages);
                    }
                }
            }
            for message in messages {
                let _ = self.obj().post_message(message);
            }
            if let Some((taken, wanted)) = missing {
                gst::element_imp_warning!(
                    self,
                    gst::StreamError::Failed,
                    (
                        "the stream ends after {} of {} frames to learn from; no model is written, see the property learn-frames",
                        taken,
                        wanted
                    )
                );
            }
            if !goes_on || self.leaving.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn attach(&self, outcome: &FrameResult<'_>, buffer: &mut gst::BufferRef) {
        if let Err(error) = outcome.write(buffer) {
            let frame = outcome.frame;
            gst::error!(CAT, imp = self, "no meta on frame {frame}: {error}");
        }
    }
}
