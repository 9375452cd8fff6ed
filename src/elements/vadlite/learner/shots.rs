//! What the streaming thread hands to the one that fits: image tensors of whole frames, scenes to look for parts in, or both.

use crate::detector::taps::Normalization;
use crate::elements::vadlite::error::FrameFailure;
use crate::geometry::{Input, Size};
use crate::locate::SCENE;
use crate::video::frame::{FrameFormat, ReadableFrame};
use crate::video::preprocess::{Preprocess, Target};
use ndarray::Array3;
use std::sync::mpsc::{Receiver, SyncSender};

/// Shots on their way to the backbone.
pub const SHOTS: usize = 4;

/// What frames are looked at as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Looking {
    /// It is not known yet whether they show parts to locate: as whole pictures, and as scenes that are up to [`SCENE`] pixels long.
    ForParts,
    /// As whole pictures.
    AtFrames,
    /// For the parts in scenes that are so long.
    AtParts { scene: usize },
}

impl Looking {
    pub fn takes_frames(self) -> bool {
        !matches!(self, Self::AtParts { .. })
    }
}

/// One frame.
pub struct Shot {
    /// What it was made for.
    pub looking: Looking,
    /// The image tensor of the whole frame, 3 x height x width, normalised; of [`Looking::AtParts`] not of this one.
    pub whole: Array3<f32>,
    /// 3 x height x width: levels of 0 to 1, for [`Looking::AtParts`] normalised. Of [`Looking::AtFrames`] not of this frame.
    pub scene: Array3<f32>,
    /// Nanoseconds.
    pub time: u64,
    /// Of the frame, in pixels.
    pub frame: Size,
    /// Bits that the samples of all frames so far use, where they have 16.
    pub bits: Option<u8>,
    /// These are more than before: what came before is forgotten.
    pub anew: bool,
}

/// What comes to the thread that fits.
pub enum Handed {
    Shot(Box<Shot>),
    /// The stream ends: what can be decided is to be decided with what there is.
    End,
}

/// What comes, and the way back for shots that are done with.
pub type Shots = (Receiver<Handed>, SyncSender<Box<Shot>>);

/// Makes shots of frames.
pub struct ShotMaker {
    /// Of whole frames.
    target: Target,
    looking: Looking,
    format: Option<FrameFormat>,
    bits: Option<u8>,
    whole: Option<Preprocess>,
    scene: Option<(Size, Preprocess)>,
}

impl ShotMaker {
    pub fn new(target: Target, looking: Looking) -> Self {
        Self {
            target,
            looking,
            format: None,
            bits: None,
            whole: None,
            scene: None,
        }
    }

    /// Of the image tensors.
    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn looking(&self) -> Looking {
        self.looking
    }

    /// An empty one.
    pub fn shot(&self) -> Box<Shot> {
        let none = || Array3::zeros((3, 0, 0));
        Box::new(Shot {
            looking: self.looking,
            whole: none(),
            scene: none(),
            time: 0,
            frame: Size::square(0),
            bits: None,
            anew: false,
        })
    }

    /// Prepares for frames of this format.
    pub fn negotiate(&mut self, format: &FrameFormat) {
        self.format = Some(format.clone());
        self.prepare();
    }

    /// Prepares for looking at frames as something else.
    pub fn look(&mut self, looking: Looking) {
        if self.looking != looking {
            self.looking = looking;
            self.prepare();
        }
    }

    /// Takes white for the largest number of so many bits, of samples of 16.
    pub fn use_bits(&mut self, bits: Option<u8>) {
        if self.bits != bits {
            self.bits = bits;
            self.prepare();
        }
    }

    fn prepare(&mut self) {
        let Some(format) = &self.format else { return };
        let whole = self.looking.takes_frames();
        self.whole = whole.then(|| format.preprocess(self.target).of_bits(self.bits));
        let (longest, normalization) = match self.looking {
            Looking::AtFrames => {
                self.scene = None;
                return;
            }
            Looking::ForParts => (SCENE, Normalization::PLAIN),
            Looking::AtParts { scene } => (scene, self.target.normalization),
        };
        let roi = self.target.roi;
        let target = Target {
            size: scene_size(longest, &self.target, format.size()),
            normalization,
            roi,
        };
        self.scene = Some((target.size, format.preprocess(target).of_bits(self.bits)));
    }

    /// Makes the image tensor of the whole frame, where such are looked at.
    ///
    /// # Errors
    /// No format has been negotiated, or the frame is not of it.
    pub fn whole(
        &mut self,
        frame: &ReadableFrame<'_>,
        shot: &mut Shot,
    ) -> Result<(), FrameFailure> {
        let preprocess = self.whole.as_mut().ok_or(FrameFailure::NoFormat)?;
        fit_to(&mut shot.whole, self.target.size);
        frame.to_tensor(preprocess, shot.whole.view_mut())?;
        Ok(())
    }

    /// Makes the scene, where parts are looked for, and says what the shot shows.
    ///
    /// # Errors
    /// As [`ShotMaker::whole`].
    pub fn scene(
        &mut self,
        frame: &ReadableFrame<'_>,
        shot: &mut Shot,
    ) -> Result<(), FrameFailure> {
        let format = self.format.as_ref().ok_or(FrameFailure::NoFormat)?;
        (shot.looking, shot.frame) = (self.looking, format.size());
        if let Some((size, preprocess)) = &mut self.scene {
            fit_to(&mut shot.scene, *size);
            frame.to_tensor(preprocess, shot.scene.view_mut())?;
        }
        Ok(())
    }
}

/// Of the scene of a frame of this size.
pub fn scene_size(longest: usize, target: &Target, frame: Size) -> Size {
    let roi = target.roi;
    let input = Input::Scene {
        longest,
        roi,
        frame: None,
    };
    input.of(frame, roi)
}

/// Makes room for 3 x height x width; nothing happens where it has that size.
fn fit_to(tensor: &mut Array3<f32>, Size { height, width }: Size) {
    if tensor.dim() != (3, height, width) {
        *tensor = Array3::zeros((3, height, width));
    }
}
