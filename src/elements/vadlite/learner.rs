//! `mode=learn`: from frames of good parts to a model, while the frames pass.
//!
//! The streaming thread makes the image tensor and decides whether the frame shows something new. Everything else, the backbone as well,
//! runs in a thread of its own. As long as it is not known whether frames show parts to locate, a scene is made besides the image tensor;
//! where they do, it takes the tensor's place, and the thread tells what is new.

mod fit;
mod kept;
mod progress;
mod shots;

use super::VadLite;
use super::duplicate_filter::DuplicateFilter;
use super::error::{FrameFailure, SetupError};
use super::loader::Offers;
use super::settings::Settings;
use crate::fs;
use crate::geometry::{Grid, Size};
use crate::locate::Demand;
use crate::video::frame::FrameFormat;
use crate::video::mask;
use crate::video::preprocess::Target;
use crate::video::sample_bits::LearntBits;
pub use fit::Fit;
use fit::FitEnd;
pub use progress::REPORT_EVERY;
use progress::Shown;
use shots::{Handed, Looking, SHOTS, Shot, ShotMaker};
use std::sync::mpsc::{self, Receiver, SyncSender};

/// Size of a tile of the image tensor.
const TILE: Size = Size::square(224);
/// Nanoseconds between frames that carry no time.
const UNTIMED: u64 = 40_000_000;

/// What has become of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collected {
    /// It is learnt from, as the frame of this number, from 1.
    Taken(usize),
    /// It uses more bits of 16, this many, than those before, which are forgotten: learning begins anew with it.
    Anew(u8),
    /// It shows what another one did.
    Duplicate,
    /// Parts are looked for in it.
    HandedOver,
    /// All shots were on their way.
    TooFast,
    /// All frames are there.
    NotWanted,
}

/// What there is, and what is wanted, of frames or of parts.
#[derive(Debug, Clone, Copy)]
pub struct Missing {
    pub taken: usize,
    pub wanted: usize,
    pub what: &'static str,
}

/// Collects frames until there are enough of them, and shows how far the model is.
pub struct Learner {
    demand: Demand,
    /// What frames are looked at as, to begin with.
    first_looking: Looking,
    maker: ShotMaker,
    /// Towards the fitting thread; none once it has all. Before `fit`, which waits on being dropped for a thread that waits for this.
    shots: Option<SyncSender<Handed>>,
    spare: Receiver<Box<Shot>>,
    /// The one in hand.
    shot: Option<Box<Shot>>,
    /// What has been handed over, and whether the end of the stream was the last of it.
    handed: u64,
    ended: bool,
    filter: DuplicateFilter,
    bits: LearntBits,
    /// Frames that show something new.
    frames: usize,
    wanted: usize,
    repeated: u64,
    too_fast: u64,
    /// Frames that have come.
    came: u64,
    /// The source is no camera: it may be held up, and no frame has to be left out.
    pub waits: bool,
    fit: Fit,
    shown: Shown,
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
        let demand = settings.demand()?;
        check_rate(settings)?;
        let written = fs::followed(path).unwrap_or_else(|_| path.to_path_buf());
        let folder = fs::folder_of(&written);
        // Found out now rather than after five minutes of learning.
        fs::check_writable(folder).map_err(|source| SetupError::Folder {
            folder: folder.to_path_buf(),
            source,
        })?;
        let size = tiles.whole(TILE);
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
            demand,
        };
        let looking = input.looking();
        // Room for all shots, and for the end of the stream.
        let (shots, to_fit) = mpsc::sync_channel(SHOTS + 1);
        let (give_back, spare) = mpsc::sync_channel(SHOTS);
        let back = give_back.clone();
        let (fit, normalization) =
            Fit::start(element, settings, input, (to_fit, give_back), offers)?;
        let target = Target {
            size,
            normalization,
            roi,
        };
        let maker = ShotMaker::new(target, looking);
        for _ in 0..SHOTS {
            // There is room for all of them.
            let _ = back.try_send(maker.shot());
        }
        Ok(Self {
            demand,
            first_looking: looking,
            maker,
            shots: Some(shots),
            spare,
            shot: None,
            handed: 0,
            ended: false,
            filter: DuplicateFilter::default(),
            bits: LearntBits::default(),
            frames: 0,
            wanted: settings.learn_frames as usize,
            repeated: 0,
            too_fast: 0,
            came: 0,
            waits: false,
            fit,
            shown: Shown::new(),
        })
    }

    /// Prepares for frames of this format.
    pub fn negotiate(&mut self, format: &FrameFormat) {
        self.maker.negotiate(format);
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
        self.came += 1;
        self.has_room();
        let Some(shots) = self.shots.as_ref().filter(|_| !self.awaits_decision()) else {
            return Ok(Collected::NotWanted);
        };
        let Some(shot) = &mut self.shot else {
            self.too_fast += 1;
            return Ok(Collected::TooFast);
        };
        let frame = format.read(buffer)?;
        let largest = frame.largest_sample();
        let anew = largest.is_some_and(|largest| self.bits.look(largest)) && self.handed > 0;
        if anew {
            self.fit.state().forget(self.first_looking);
            self.maker.look(self.first_looking);
            (self.frames, self.filter) = (0, DuplicateFilter::default());
            self.shown = Shown::new();
        }
        self.maker.use_bits(self.bits.used());
        (shot.bits, shot.anew) = (self.bits.used(), anew);
        let takes_frames = self.maker.looking().takes_frames();
        if takes_frames {
            self.maker.whole(&frame, shot)?;
            if !self.filter.admits(shot.whole.view(), self.maker.target()) {
                self.repeated += 1;
                return Ok(Collected::Duplicate);
            }
        }
        self.maker.scene(&frame, shot)?;
        let untimed = self.came * UNTIMED;
        shot.time = buffer.pts().map_or(untimed, gst::ClockTime::nseconds);
        // Does not wait: every shot that exists has a place. Fails where the thread has given up, or has enough.
        let sent = self.shot.take().map(|shot| shots.send(Handed::Shot(shot)));
        if !matches!(sent, Some(Ok(()))) {
            self.shots = None;
            return Ok(Collected::NotWanted);
        }
        self.handed += 1;
        let bits = self.bits.used().filter(|_| anew);
        if !takes_frames {
            return Ok(Collected::HandedOver);
        }
        self.frames += 1;
        self.follow();
        Ok(bits.map_or(Collected::Taken(self.frames), Collected::Anew))
    }

    /// Looks at frames as the fitting thread has decided, and sends it no more once it has enough.
    fn follow(&mut self) {
        let state = self.fit.state();
        let (looking, parts) = (state.looking, state.parts);
        drop(state);
        self.maker.look(looking);
        let enough = match looking {
            Looking::ForParts => false,
            Looking::AtFrames => self.frames >= self.wanted,
            Looking::AtParts { .. } => parts >= self.wanted,
        };
        if enough {
            self.shots = None;
        }
    }

    /// Whether there are enough frames, unless parts are located.
    fn awaits_decision(&self) -> bool {
        self.maker.looking() == Looking::ForParts
            && self.demand == Demand::Auto
            && self.frames >= self.wanted
    }

    /// Whether the next frame can be taken in, or is not wanted.
    pub fn has_room(&mut self) -> bool {
        self.follow();
        if self.shots.is_some() && self.shot.is_none() {
            self.shot = self.spare.try_recv().ok();
        }
        self.shots.is_none() || self.shot.is_some() && !self.awaits_decision()
    }

    /// The stream ends: whether all that it has shown is looked at, and what it shows decided where it can be.
    pub fn has_seen_all(&mut self) -> bool {
        self.follow();
        if let (Some(shots), false, Looking::ForParts) =
            (&self.shots, self.ended, self.maker.looking())
        {
            // There is room for it once.
            self.ended = shots.try_send(Handed::End).is_ok();
            self.handed += u64::from(self.ended);
        }
        self.shots.is_none() || self.fit.state().handled >= self.handed
    }

    /// Whether frames are still taken in.
    fn is_collecting(&self) -> bool {
        self.shots.is_some()
    }

    /// Frames that are learnt from so far, or parts, where these are located.
    fn taken(&self) -> usize {
        match self.maker.looking() {
            Looking::AtParts { .. } => self.fit.state().parts,
            // More are looked at where parts are asked for, and few frames show any.
            Looking::ForParts | Looking::AtFrames => self.frames.min(self.wanted),
        }
    }

    /// Frames or views of parts that show nothing new.
    fn duplicates(&self) -> u64 {
        match self.maker.looking() {
            Looking::AtParts { .. } => self.fit.state().again,
            Looking::ForParts | Looking::AtFrames => self.repeated,
        }
    }

    /// The frames or parts taken and wanted, where more would be needed.
    pub fn missing(&self) -> Option<Missing> {
        let parts = matches!(self.maker.looking(), Looking::AtParts { .. });
        self.shots.as_ref().map(|_| Missing {
            taken: self.taken(),
            wanted: self.wanted,
            what: if parts { "parts" } else { "frames" },
        })
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
        self.shots = None;
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
