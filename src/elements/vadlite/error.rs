//! Why the element cannot do what its properties ask for, or a frame not be used.

use crate::detector::error::{Chain, FitError, InferenceError};
use crate::elements::time::UnitError;
use crate::geometry::{GeometryError, Grid};
use crate::locate::Doubt;
use crate::net::address::AddressError;
use crate::video::frame::FrameError;
use crate::video::mask::MaskError;
use std::io;
use std::mem::{Discriminant, discriminant};
use std::path::PathBuf;

/// Why the properties give no model to inspect with, and no learner of one.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(
        "the property model is not set; name a .vadlite file, made with `vadlite fit --images DIR --out part.vadlite` or with mode=learn"
    )]
    NoModel,
    #[error(
        "the property tiles: {} was fitted for {fitted} tiles, not {asked}; leave the property out, or fit again for {asked} tiles", model.display()
    )]
    OtherTiles {
        model: PathBuf,
        fitted: Grid,
        asked: Grid,
    },
    #[error(
        "the property locate: part turns each part upright, and the property {other} lies on the whole picture; leave one of them out"
    )]
    WholePicture { other: &'static str },
    #[error("the property mask: {}", Chain(.0))]
    Mask(#[source] MaskError),
    #[error("the property false-reject-rate: {0}")]
    Rate(#[source] FitError),
    #[error(
        "the property false-reject-rate: a rate of {rate} needs learn-frames of at least {needed}, and they are {frames}"
    )]
    TooFewFrames { rate: f64, needed: f64, frames: u32 },
    #[error("the property model: nothing can be written to the folder {}: {source}", folder.display())]
    Folder { folder: PathBuf, source: io::Error },
    /// What the detector says, with a remedy.
    #[error("{0}")]
    Detector(String),
    #[error("no thread can be started: {0}")]
    Thread(#[source] io::Error),
    #[error("a fault in vadlite itself: {0}; please report it")]
    Panic(String),
}

/// Why a property does not take a value.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    #[error("the property roi: {0}")]
    Roi(#[source] GeometryError),
    #[error("the property tiles: {0}")]
    Tiles(#[source] GeometryError),
    #[error("the property {name}: {number} is not {wanted}")]
    Number {
        name: &'static str,
        number: f64,
        wanted: &'static str,
    },
    #[error(transparent)]
    Time(#[from] UnitError),
    #[error("the property stats-mqtt: {0}")]
    Address(#[from] AddressError),
}

/// Why a frame is neither inspected nor learnt from.
#[derive(Debug, thiserror::Error)]
pub enum FrameFailure {
    #[error("no caps have come yet")]
    NoFormat,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{}", Chain(.0))]
    Inference(#[from] InferenceError),
    #[error(
        "{0} of its parts cannot be located: they touch, or are too unlike a good part for it to be known how they lie"
    )]
    NotLocated(usize),
    #[error("{0}; it may show parts that were not found")]
    Doubt(Doubt),
    #[error(
        "the property parts-expected is {expected}, and the model {model} counts no parts: fit it with `vadlite fit --locate part`, or set the property to 0"
    )]
    CountsNothing { expected: u32, model: String },
}

/// What two failures have in common that are told once, whatever their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    NoFormat,
    Frame(Discriminant<FrameError>),
    Inference(Discriminant<InferenceError>),
    NotLocated,
    Doubt(Doubt),
    CountsNothing,
}

impl FrameFailure {
    pub fn kind(&self) -> FailureKind {
        match self {
            Self::NoFormat => FailureKind::NoFormat,
            Self::Frame(error) => FailureKind::Frame(discriminant(error)),
            Self::Inference(error) => FailureKind::Inference(discriminant(error)),
            Self::NotLocated(_) => FailureKind::NotLocated,
            Self::Doubt(doubt) => FailureKind::Doubt(*doubt),
            Self::CountsNothing { .. } => FailureKind::CountsNothing,
        }
    }
}

impl From<SetupError> for gst::ErrorMessage {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::NoModel
            | SetupError::OtherTiles { .. }
            | SetupError::WholePicture { .. }
            | SetupError::Mask(_)
            | SetupError::Rate(_)
            | SetupError::TooFewFrames { .. } => {
                gst::error_msg!(gst::LibraryError::Settings, ("{error}"))
            }
            SetupError::Folder { .. } => {
                gst::error_msg!(gst::ResourceError::OpenWrite, ("{error}"))
            }
            SetupError::Detector(_) => gst::error_msg!(gst::ResourceError::OpenRead, ("{error}")),
            SetupError::Thread(_) => gst::error_msg!(gst::CoreError::Thread, ("{error}")),
            SetupError::Panic(_) => gst::error_msg!(gst::LibraryError::Failed, ("{error}")),
        }
    }
}
