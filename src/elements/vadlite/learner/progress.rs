//! How far learning is: for the bus, and as a bar on the frame.

use super::Learner;
use super::shots::Looking;
use crate::elements::messages::{BusMessage as _, LearnProgress};
use crate::elements::vadlite::settings::Overlay;
use crate::geometry::Roi;
use crate::video::frame::{FrameError, FrameFormat};
use crate::video::overlay::{self, MapView};
use ndarray::Array2;
use std::time::{Duration, Instant};

/// How often the bus hears of the progress.
pub const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Cells of the progress bar.
const BAR: usize = 64;

/// What has been told and drawn so far.
pub struct Shown {
    started: Instant,
    reported: Option<Instant>,
    /// The bus has heard whether parts are located.
    told_located: bool,
    overlay: overlay::Overlay,
    bar: Array2<f32>,
}

impl Shown {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            reported: None,
            told_located: false,
            overlay: overlay::Overlay::new(),
            bar: Array2::zeros((1, BAR)),
        }
    }
}

impl Learner {
    /// Draws the bar: as long as the frames or, after these, the fit have come.
    ///
    /// # Errors
    /// The buffer is no frame of the negotiated format.
    pub fn draw(
        &mut self,
        buffer: &mut gst::BufferRef,
        format: &FrameFormat,
        overlay: Overlay,
    ) -> Result<(), FrameError> {
        let Some(style) = overlay.style() else {
            return Ok(());
        };
        let share = self.share();
        for (cell, value) in self.shown.bar.iter_mut().enumerate() {
            *value = if (cell as f64) < share * BAR as f64 {
                2.0
            } else {
                0.0
            };
        }
        let map = MapView {
            values: self.shown.bar.view(),
            roi: Roi::new(0.1, 0.94, 0.8, 0.03),
        };
        let mut frame = format.write(buffer)?;
        self.shown.overlay.draw(&mut frame, map, 1.0, style);
        Ok(())
    }

    /// How much of the frames or parts, or else of the fit's present stage, is done: 0 to 1.
    fn share(&self) -> f64 {
        let (done, total) = match self.is_collecting() {
            true => (self.taken(), self.wanted),
            false => {
                let fit = self.fit.state();
                (fit.done, fit.total)
            }
        };
        done as f64 / total.max(1) as f64
    }

    /// What to tell the bus, where it is time to: the fields of `vadlite-learn`, and the same in words.
    pub fn report(&mut self, finished: bool) -> Option<(gst::Structure, String)> {
        let collecting = self.is_collecting();
        let (share, frames, wanted) = (self.share(), self.taken(), self.wanted);
        let duplicates = self.duplicates();
        let fit = self.fit.state();
        let shown = &mut self.shown;
        let decided = fit.located.is_some() && !shown.told_located;
        let first = shown.reported.is_none();
        let soon = shown.reported.is_some_and(|at| at.elapsed() < REPORT_EVERY);
        if !finished && !decided && soon {
            return None;
        }
        shown.reported = Some(Instant::now());
        shown.told_located |= decided;
        let since = match collecting {
            true => Some(shown.started),
            false => fit.since,
        };
        let left = since
            .filter(|_| !first && share > 0.0)
            .map(|since| since.elapsed().mul_f64((1.0 - share) / share));
        let phase = match (finished, collecting) {
            (true, _) => "done",
            (false, true) => "collecting",
            (false, false) => "fitting",
        };
        let what = match fit.looking {
            Looking::AtParts { .. } => "parts",
            Looking::ForParts | Looking::AtFrames => "frames",
        };
        let mut text = match phase {
            "done" => format!(
                "the model is learnt from {} {what}; {} were left out as outliers, {} as duplicates{}{}",
                frames.saturating_sub(fit.outliers),
                fit.outliers,
                duplicates,
                if fit.few.is_some() { "; " } else { "" },
                fit.few.as_deref().unwrap_or_default()
            ),
            "collecting" => format!(
                "{frames} of {wanted} {what}, {duplicates} duplicates, {} too fast{}",
                self.too_fast,
                left.map(|left| format!("; {:.0} s left", left.as_secs_f64()))
                    .unwrap_or_default()
            ),
            _ => format!("{} ({:.0} %)", fit.stage, 100.0 * share),
        };
        if let Some(located) = fit.located.as_deref().filter(|_| decided) {
            text = match what {
                "parts" => format!("{text}; parts are located: {located}"),
                _ => format!("{text}; {located}"),
            };
        }
        let progress = LearnProgress {
            phase,
            frames: frames as u64,
            learn_frames: wanted as u64,
            duplicates,
            too_fast: self.too_fast,
            outliers: fit.outliers as u64,
            stage: fit.stage,
            share,
            false_reject_rate: fit.false_reject_rate.filter(|_| finished),
            time_left: left.map(|left| left.as_nanos() as u64),
            located: fit.located.as_deref(),
        };
        Some((progress.structure(), text))
    }

    /// Whether the bus has heard of the progress.
    pub fn reported(&self) -> bool {
        self.shown.reported.is_some()
    }
}
