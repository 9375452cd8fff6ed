//! One frame's way through the element: inspected or learnt from, marked, and what is said of it on the buffer, on the bus and in the log.

use super::{Event, report};
use crate::detector::drift::Direction;
use crate::elements::messages::{BusMessage as _, DriftAlarm};
use crate::elements::vadlite::error::{FrameFailure, SetupError};
use crate::elements::vadlite::inspection::Inspection;
use crate::elements::vadlite::learner::{Collected, Learner};
use crate::elements::vadlite::part_watch::{Look, PartWatch};
use crate::elements::vadlite::settings::{LiveSettings, PostMessages, ThresholdFrom};
use crate::elements::vadlite::stats::FrameCount;
use crate::elements::vadlite::{CAT, VadLite};
use crate::video::frame::FrameFormat;
use crate::video::meta::{FrameResult, PartResult, Reason, ResultMap};
use gst::prelude::*;
use gst_base::prelude::*;
use std::time::Instant;

/// A frame on its way through.
pub struct Frame<'a> {
    pub element: &'a VadLite,
    pub format: &'a FrameFormat,
    pub live: &'a LiveSettings,
    pub number: u64,
    /// Frames missing before it.
    pub lost: u64,
    pub pts: Option<gst::ClockTime>,
    pub start: Instant,
}

impl std::fmt::Display for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "frame {} at {}", self.number, self.pts.display())
    }
}

impl Frame<'_> {
    /// Scores the frame, marks it, attaches the result. Returns what failed as well.
    pub fn detect(
        &self,
        inspection: &mut Inspection,
        watch: &mut PartWatch,
        buffer: &mut gst::BufferRef,
        events: &mut Vec<Event>,
    ) -> (FrameCount, Option<FrameFailure>) {
        let (element, live) = (self.element, self.live);
        self.update_threshold(inspection, events);
        let gap = buffer.flags().contains(gst::BufferFlags::GAP);
        let skipped = !self.number.is_multiple_of(u64::from(live.interval)) && !gap;
        let wanted = !skipped && !gap;
        let (score, failure) = match wanted.then(|| inspection.inspect(buffer, self.format)) {
            Some(Ok(score)) => (Some(score), None),
            Some(Err(failure)) => (None, Some(failure)),
            None => (None, None),
        };
        if let Some(other) = inspection.other_bits() {
            let frame = self.number;
            events.push(Event::OtherBits { frame, other });
        }
        let parts = score.and_then(|_| self.look_at_parts(inspection, watch));
        let flagged = score.is_some_and(|score| score > inspection.threshold());
        let reason = match &parts {
            _ if flagged => Some(Reason::Score),
            Some(parts) if self.miscounts(parts) => Some(Reason::Count),
            _ => None,
        };
        // Of a whole frame that is flagged nothing more has to be known. Located parts are decided on one by one: beside one that is flagged
        // there may be others.
        let doubt = match score {
            Some(_) if reason.is_none() || parts.is_some() => self.doubt(inspection, parts),
            _ => None,
        };
        let score = score.filter(|_| doubt.is_none() || reason.is_some());
        let failure = failure.or(doubt);
        let inspected = score.is_some() && failure.is_none();
        let mut count = FrameCount {
            lost: self.lost,
            failed: failure.is_some(),
            skipped,
            flagged: reason.is_some(),
            ..FrameCount::default()
        };
        if let Some(score) = score.filter(|_| inspected) {
            self.watch_drift(inspection, score, &mut count, events);
        }
        inspection.find_regions(flagged);
        let drawn = score.is_some()
            && (count.flagged || live.overlay_always)
            && inspection
                .draw(buffer, self.format, live.overlay)
                .unwrap_or_else(|error| {
                    gst::debug!(CAT, obj = element, "{self}: nothing is drawn: {error}");
                    false
                });
        let latency = self.start.elapsed();
        count.latency = inspected.then_some(latency.as_nanos() as u64);
        let result = FrameResult {
            score: score.unwrap_or(0.0),
            threshold: inspection.threshold(),
            flagged: count.flagged,
            inspected,
            skipped,
            drawn,
            frame: self.number,
            lost: self.lost,
            model: inspection.model_name.as_str().into(),
            latency: latency.as_nanos() as u64,
            size: self.format.size(),
            regions: inspection.regions.as_slice().into(),
            map: score.is_some().then(|| ResultMap::new(inspection.map())),
            parts: parts.map(Into::into),
            reason: reason.filter(|_| parts.is_some()),
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
            (None, None) if gap => gst::log!(CAT, obj = element, "{self}: not inspected: a gap"),
            (None, None) => gst::log!(CAT, obj = element, "{self}: skipped, by interval"),
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
        if live.post_messages != PostMessages::None && parts.is_some() {
            let (threshold, model) = (inspection.threshold(), &inspection.model_name);
            let left = watch.left(threshold, model);
            events.extend(left.into_iter().map(Event::Message));
        }
        (count, failure)
    }

    /// The frame's parts, where the model locates them.
    fn look_at_parts<'w>(
        &self,
        inspection: &Inspection,
        watch: &'w mut PartWatch,
    ) -> Option<&'w [PartResult]> {
        let (found, roi) = inspection.parts()?;
        Some(watch.look(&Look {
            found,
            threshold: inspection.threshold(),
            roi,
            size: self.format.size(),
            pts: self.pts,
        }))
    }

    /// Why a good score says nothing of the frame.
    fn doubt(&self, inspection: &Inspection, parts: Option<&[PartResult]>) -> Option<FrameFailure> {
        match (parts, self.live.parts_expected) {
            (None, expected @ 1..) => Some(FrameFailure::CountsNothing {
                expected,
                model: inspection.model_name.clone(),
            }),
            _ => inspection.doubt(),
        }
    }

    /// Whether there are not as many whole parts as there should be.
    fn miscounts(&self, parts: &[PartResult]) -> bool {
        let expected = self.live.parts_expected as usize;
        expected > 0 && parts.iter().filter(|part| part.complete).count() != expected
    }

    fn update_threshold(&self, inspection: &mut Inspection, events: &mut Vec<Event>) {
        let before = inspection.threshold();
        let kept = inspection.threshold_from();
        match inspection.update_threshold(self.live) {
            Ok(false) => {}
            Ok(true) => gst::info!(
                CAT,
                obj = self.element,
                "{self}: the threshold is {} instead of {before} from here on",
                inspection.threshold()
            ),
            Err(error) => {
                let error = SetupError::Rate(error);
                events.push(Event::ThresholdKept {
                    reason: format!("{error}; the threshold stays at {before}"),
                    refused: ThresholdFrom::of(self.live),
                    kept,
                });
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
    pub fn learn(
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
            Some(Ok(Collected::Anew(bits))) => gst::info!(
                CAT,
                obj = element,
                "{self}: it uses {bits} of 16 bits, more than the frames before: learning begins anew with it"
            ),
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
                // The first to look at a frame that was not to be learnt from. A gap need not have pixels.
                failure = (!gap).then(|| error.into());
            }
            report(element, learner, events);
        }
        let result = FrameResult {
            score: 0.0,
            threshold: 0.0,
            flagged: false,
            inspected: false,
            skipped: false,
            drawn: false,
            frame: self.number,
            lost: self.lost,
            model: "".into(),
            latency: self.start.elapsed().as_nanos() as u64,
            size: self.format.size(),
            regions: [].as_slice().into(),
            map: None,
            parts: None,
            reason: None,
        };
        self.attach(&result, buffer);
        let count = FrameCount {
            lost: self.lost,
            failed: failure.is_some(),
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
