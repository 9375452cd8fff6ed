//! `mode=learn`: from frames of good parts to a model, while the frames pass.
//!
//! The streaming thread makes the image tensor and decides whether the frame shows something new. Everything else, the backbone as well,
//! runs in a thread of its own.

mod fit;
mod kept;

use super::VadLite;
use super::duplicate_filter::DuplicateFilter;
use super::error::{FrameFailure, SetupError};
use super::loader::Offers;
use super::settings::{Overlay, Settings};
use crate::elements::messages::{BusMessage as _, LearnProgress};
use crate::fs;
use crate::geometry::{Grid, Roi, Size};
use crate::video::frame::{FrameError, FrameFormat};
use crate::video::mask;
use crate::video::overlay::{self, MapView};
use crate::video::preprocess::{Preprocess, Target};
use crate::video::sample_bits::LearntBits;
pub use fit::Fit;
use fit::{FitEnd, LearntFrame};
use ndarray::{Array2, Array3};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::time::{Duration, Instant};

/// Size of a tile of the image tensor.
const TILE: Size = Size::square(224);
/// Tensors on their way to the backbone.
const TENSORS: usize = 4;
/// How often the bus hears of the progress.
pub const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Cells of the progress bar.
const BAR: usize = 64;

/// What has become of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collected {
    /// It is learnt from, as the frame of this number, from 1.
    Taken(usize),
    /// It is learnt from as the first, since it uses more bits of 16, this many, than those before, which are forgotten.
    Anew(u8),
    /// It shows what another one did.
    Duplicate,
    /// All tensors were on their way.
    TooFast,
    /// All frames are there.
    NotWanted,
}

/// Collects frames until there are enough of them, and shows how far the model is.
pub struct Learner {
    target: Target,
    preprocess: Option<Preprocess>,
    /// Towards the fitting thread; none once it has all. Before `fit`, which waits on being dropped for a thread that waits for this.
    tensors: Option<SyncSender<LearntFrame>>,
    spare: Receiver<Array3<f32>>,
    /// The one in hand.
    tensor: Option<Array3<f32>>,
    filter: DuplicateFilter,
    bits: LearntBits,
    taken: usize,
    wanted: usize,
    duplicates: u64,
    too_fast: u64,
    /// The source is no camera: it may be held up, and no frame has to be left out.
    pub waits: bool,
    fit: Fit,
    started: Instant,
    reported: Option<Instant>,
    overlay: overlay::Overlay,
    bar: Array2<f32>,
}

impl Learner {
    /// Starts the fitting thread, which hands its model over by `offers`.
    ///
    /// # Errors
    /// No model path, a property that does not fit the others, no backbone or ONNX Runtime, or a folder that cannot be written to.
    pub fn start(
        element: &VadLite,
        settings: &Settings,
        offers: Offers,
    ) -> Result<Self, SetupError> {
        let path = settings.needed_model()?;
        let roi = settings.roi().unwrap_or_default();
        let tiles = settings.tiles().unwrap_or(Grid::ONE);
        check_rate(settings)?;
        let written = fs::followed(path).unwrap_or_else(|_| path.to_path_buf());
        let folder = fs::folder_of(&written);
        // Found out now rather than after five minutes of learning.
        fs::check_writable(folder).map_err(|source| SetupError::Folder {
            folder: folder.to_path_buf(),
            source,
        })?;
        let size = tiles.whole(TILE);
        let (tensors, to_fit) = mpsc::sync_channel(TENSORS);
        let (give_back, spare) = mpsc::sync_channel(TENSORS);
        for _ in 0..TENSORS {
            // There is room for all of them.
            let _ = give_back.send(Array3::zeros((3, size.height, size.width)));
        }
        let mask = settings
            .mask
            .as_deref()
            .map(|path| mask::read(path, size, roi));
        let mask = mask.transpose().map_err(SetupError::Mask)?;
        let input = fit::Input {
            roi,
            mask,
            tiles,
            size,
        };
        let (fit, normalization) =
            Fit::start(element, settings, input, (to_fit, give_back), offers)?;
        Ok(Self {
            target: Target {
                size,
                normalization,
                roi,
            },
            preprocess: None,
            tensors: Some(tensors),
            spare,
            tensor: None,
            filter: DuplicateFilter::default(),
            bits: LearntBits::default(),
            taken: 0,
            wanted: settings.learn_frames as usize,
            duplicates: 0,
            too_fast: 0,
            waits: false,
            fit,
            started: Instant::now(),
            reported: None,
            overlay: overlay::Overlay::new(),
            bar: Array2::zeros((1, BAR)),
        })
    }

    /// Prepares for frames of this format.
    pub fn negotiate(&mut self, format: &FrameFormat) {
        let preprocess = format.preprocess(self.target);
        self.preprocess = Some(preprocess.of_bits(self.bits.used()));
    }

    /// Takes the frame in where it shows something new, as long as frames are wanted.
    ///
    /// Of samples of 16 bits those are used that the brightest pixel so far needs: white is the largest number of so many. A frame that
    /// needs more says that those before it were taken for brighter than they are, and the first frames may have been dark ones: they are
    /// forgotten, four times at most.
    ///
    /// # Errors
    /// The buffer is no frame of the negotiated format.
    pub fn collect(
        &mut self,
        buffer: &gst::BufferRef,
        format: &FrameFormat,
    ) -> Result<Collected, FrameFailure> {
        self.has_room();
        let Some(tensors) = &self.tensors else {
            return Ok(Collected::NotWanted);
        };
        let Some(tensor) = &mut self.tensor else {
            self.too_fast += 1;
            return Ok(Collected::TooFast);
        };
        let preprocess = self.preprocess.as_mut().ok_or(FrameFailure::NoFormat)?;
        let frame = format.read(buffer)?;
        let before = self.bits.used();
        let largest = frame.largest_sample();
        let anew = largest.is_some_and(|largest| self.bits.look(largest)) && self.taken > 0;
        if self.bits.used() != before {
            *preprocess = format.preprocess(self.target).of_bits(self.bits.used());
        }
        if anew {
            self.taken = 0;
            self.filter = DuplicateFilter::default();
            self.started = Instant::now();
        }
        frame.to_tensor(preprocess, tensor.view_mut())?;
        if !self.filter.admits(tensor.view(), &self.target) {
            self.duplicates += 1;
            return Ok(Collected::Duplicate);
        }
        self.taken += 1;
        // Does not wait: every tensor that exists has a place. Fails where the thread has given up.
        let bits = self.bits.used();
        let sent = self.tensor.take().map(|tensor| {
            tensors.send(LearntFrame {
                tensor,
                number: self.taken,
                bits,
            })
        });
        if !matches!(sent, Some(Ok(()))) || self.taken == self.wanted {
            self.tensors = None;
        }
        Ok(match bits.filter(|_| anew) {
            Some(bits) => Collected::Anew(bits),
            None => Collected::Taken(self.taken),
        })
    }

    /// Whether the next frame can be taken in, or is not wanted.
    pub fn has_room(&mut self) -> bool {
        if self.tensors.is_some() && self.tensor.is_none() {
            self.tensor = self.spare.try_recv().ok();
        }
        self.tensors.is_none() || self.tensor.is_some()
    }

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
        for (cell, value) in self.bar.iter_mut().enumerate() {
            *value = if (cell as f64) < share * BAR as f64 {
                2.0
            } else {
                0.0
            };
        }
        let map = MapView {
            values: self.bar.view(),
            roi: Roi::new(0.1, 0.94, 0.8, 0.03),
        };
        let mut frame = format.write(buffer)?;
        self.overlay.draw(&mut frame, map, 1.0, style);
        Ok(())
    }

    /// How much of the frames, or else of the fit's present stage, is done: 0 to 1.
    fn share(&self) -> f64 {
        let (done, total) = match self.tensors {
            Some(_) => (self.taken, self.wanted),
            None => {
                let fit = self.fit.state();
                (fit.done, fit.total)
            }
        };
        done as f64 / total.max(1) as f64
    }

    /// What to tell the bus, where it is time to: the fields of `vadlite-learn`, and the same in words.
    pub fn report(&mut self, finished: bool) -> Option<(gst::Structure, String)> {
        let first = self.reported.is_none();
        if !finished && self.reported.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            return None;
        }
        self.reported = Some(Instant::now());
        let share = self.share();
        let (frames, wanted) = (self.taken, self.wanted);
        let fit = self.fit.state();
        let collecting = self.tensors.is_some();
        let since = match collecting {
            true => Some(self.started),
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
        let text = match phase {
            "done" => format!(
                "the model is learnt from {} frames; {} were left out as outliers, {} as duplicates{}{}",
                frames.saturating_sub(fit.outliers),
                fit.outliers,
                self.duplicates,
                if fit.few.is_some() { "; " } else { "" },
                fit.few.as_deref().unwrap_or_default()
            ),
            "collecting" => format!(
                "{frames} of {wanted} frames, {} duplicates, {} too fast{}",
                self.duplicates,
                self.too_fast,
                left.map(|left| format!("; {:.0} s left", left.as_secs_f64()))
                    .unwrap_or_default()
            ),
            _ => format!("{} ({:.0} %)", fit.stage, 100.0 * share),
        };
        let progress = LearnProgress {
            phase,
            frames: frames as u64,
            learn_frames: wanted as u64,
            duplicates: self.duplicates,
            too_fast: self.too_fast,
            outliers: fit.outliers as u64,
            stage: fit.stage,
            share,
            false_reject_rate: fit.false_reject_rate.filter(|_| finished),
            time_left: left.map(|left| left.as_nanos() as u64),
        };
        Some((progress.structure(), text))
    }

    /// Whether the bus has heard of the progress.
    pub fn reported(&self) -> bool {
        self.reported.is_some()
    }

    /// The frames taken and wanted, where more would be needed.
    pub fn missing(&self) -> Option<(usize, usize)> {
        self.tensors.as_ref().map(|_| (self.taken, self.wanted))
    }

    /// Whether the model is learnt and handed over.
    pub fn finished(&self) -> bool {
        self.fit.state().end == Some(FitEnd::HandedOver)
    }

    /// Whether a model is on the disk that can be used, as far as is known. For certain once it has given up.
    pub fn has_written(&self) -> bool {
        let state = self.fit.state();
        state.written && state.end != Some(FitEnd::Failed)
    }

    /// Whether the fitting thread has given up; it has said why.
    pub fn failed(&self) -> bool {
        match self.fit.state().end {
            Some(end) => end == FitEnd::Failed,
            None => self.fit.is_over(),
        }
    }

    /// Learns no more: no model is written from here on, and the thread ends.
    pub fn give_up(&mut self) {
        self.tensors = None;
        self.fit.give_up();
    }

    /// As [`Learner::give_up`]; gives back what is left, which waits for the thread when it is dropped.
    pub fn retire(mut self) -> Fit {
        self.give_up();
        self.fit
    }
}

/// A rate needs a number of frames, of which some may be left out as outliers.
fn check_rate(settings: &Settings) -> Result<(), SetupError> {
    let (rate, frames) = (settings.live.false_reject_rate, settings.learn_frames);
    let needed = ((1.0 / rate - 1.0) / 0.95).ceil();
    if rate > 0.0 && needed > f64::from(frames) {
        return Err(SetupError::TooFewFrames {
            rate,
            needed,
            frames,
        });
    }
    Ok(())
}
