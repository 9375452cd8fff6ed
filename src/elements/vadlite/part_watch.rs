//! The parts of a stream: from what the detector finds in a frame to what the meta and the messages say of each.

use crate::detector::{Part, Verdict};
use crate::elements::messages::{BusMessage as _, PartLeft};
use crate::geometry::{Roi, Size};
use crate::locate::{Seen, Track, Tracker};
use crate::video::meta::PartResult;
use std::time::Instant;

/// Follows parts from frame to frame.
#[derive(Default)]
pub struct PartWatch {
    tracker: Tracker,
    seen: Vec<Seen>,
    parts: Vec<PartResult>,
    /// Where frames carry no time: since the first of them.
    since: Option<Instant>,
    /// Of the frames, in pixels.
    size: Size,
}

/// A frame in which parts were looked for.
pub struct Look<'a> {
    pub found: &'a [Part],
    pub threshold: f64,
    /// The part of the frame that the scene shows.
    pub roi: Roi,
    pub size: Size,
    pub pts: Option<gst::ClockTime>,
}

impl PartWatch {
    /// Takes in what a frame shows. Returns its parts, with their ids.
    pub fn look(&mut self, look: &Look<'_>) -> &[PartResult] {
        let time = look.pts.map_or_else(
            || {
                self.since
                    .get_or_insert_with(Instant::now)
                    .elapsed()
                    .as_nanos() as u64
            },
            gst::ClockTime::nseconds,
        );
        let Size { width, height } = look.size;
        let longest = width.max(height).max(1) as f32;
        let (across, down) = (width as f32 / longest, height as f32 / longest);
        self.size = look.size;
        // Lengths are in 0..1 of the scene's longer side.
        let scene = (look.roi.width * across).max(look.roi.height * down);
        self.seen.clear();
        self.parts.clear();
        for part in look.found {
            let flagged = part
                .score()
                .is_some_and(|score| f64::from(score) > look.threshold);
            let x = look.roi.x + part.x * look.roi.width;
            let y = look.roi.y + part.y * look.roi.height;
            self.seen.push(Seen {
                x: x * across,
                y: y * down,
                length: part.length * scene,
                // Of parts that seem to touch, the middle is between them.
                whole: part.score().is_some(),
                judged: part.score().map(|score| (score, flagged)),
            });
            self.parts.push(PartResult {
                id: 0,
                x,
                y,
                width: part.width * look.roi.width,
                height: part.height * look.roi.height,
                angle: part.degrees(),
                score: part.score().map_or(0.0, f64::from),
                flagged,
                complete: part.verdict != Verdict::Cut,
                inspected: part.score().is_some(),
            });
        }
        let ids = self.tracker.update(time, &self.seen, (across, down));
        for (part, id) in self.parts.iter_mut().zip(ids) {
            part.id = *id;
        }
        &self.parts
    }

    /// What there is to say of the parts that have left with the last frame.
    pub fn left(&self, threshold: f64, model: &str) -> Vec<gst::Structure> {
        self.messages(self.tracker.left(), threshold, model)
    }

    /// The same of all that are still there: the stream ends.
    pub fn finish(&mut self, threshold: f64, model: &str) -> Vec<gst::Structure> {
        let left = self.tracker.finish().to_vec();
        self.since = None;
        self.messages(&left, threshold, model)
    }

    fn messages(&self, left: &[Track], threshold: f64, model: &str) -> Vec<gst::Structure> {
        let Size { width, height } = self.size;
        let longest = width.max(height).max(1) as f64;
        let share = |speed: f32, side: usize| f64::from(speed) * longest / side.max(1) as f64;
        let message = |track: &Track| {
            let left = PartLeft {
                id: track.id,
                score: f64::from(track.score),
                threshold,
                flagged: track.flagged > 0,
                frames: track.views,
                inspected: track.judged,
                frames_flagged: track.flagged,
                first: track.first,
                last: track.last,
                speed: (share(track.speed.0, width), share(track.speed.1, height)),
                model,
            };
            left.structure()
        };
        left.iter().map(message).collect()
    }
}
