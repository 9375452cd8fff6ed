//! Why the element cannot do what its properties ask for, and what its user can do about it.
//!
//! The detector tells what is wrong; here is what can be done, in terms of the element's own properties.

use super::settings::{Mode, Settings};
use crate::detector::backbone::DEFAULT_BACKBONE;
use crate::detector::error::{
    BackboneError, Chain, Error, FitError, InferenceError, ModelError, RuntimeError,
};
use crate::geometry::{GeometryError, Grid};
use crate::video::frame::FrameError;
use std::io;
use std::path::PathBuf;

/// Why the properties give no model to inspect with, and no learner of one.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error(
        "the property model is not set; name a .vadlite file, made with `vadlite fit --method padim-lite --images DIR --out part.vadlite` or with mode=learn"
    )]
    NoModel,
    #[error("the property roi: {0}")]
    Roi(#[source] GeometryError),
    #[error("the property tiles: {0}")]
    Tiles(#[source] GeometryError),
    #[error(
        "the property tiles: {} was fitted for {fitted} tiles, not {asked}; leave the property out, or fit again for {asked} tiles", model.display()
    )]
    OtherTiles {
        model: PathBuf,
        fitted: Grid,
        asked: Grid,
    },
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

/// Why a frame is neither inspected nor learnt from.
#[derive(Debug, thiserror::Error)]
pub enum FrameFailure {
    #[error("no caps have come yet")]
    NoFormat,
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{}", Chain(.0))]
    Inference(#[from] InferenceError),
}

impl SetupError {
    pub fn detector(error: &Error, settings: &Settings) -> Self {
        Self::Detector(explain(error, settings))
    }
}

impl From<SetupError> for gst::ErrorMessage {
    fn from(error: SetupError) -> Self {
        match error {
            SetupError::NoModel
            | SetupError::Roi(_)
            | SetupError::Tiles(_)
            | SetupError::OtherTiles { .. }
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

/// An error of the detector in one line: the property that it comes from, what is wrong with all its causes, and the remedy where there
/// is one.
pub fn explain(error: &Error, settings: &Settings) -> String {
    let property = match error {
        Error::Backbone { .. } if settings.backbone.is_some() => "the property backbone: ",
        // Learning has no model yet that could name a backbone.
        Error::Backbone { .. } if settings.mode == Mode::Learn => "",
        Error::Backbone { .. } | Error::Model { .. } => "the property model: ",
        Error::Runtime(_) | Error::Fit(_) | Error::Inference(_) => "",
    };
    let chain = Chain(error);
    match remedy(error, settings.mode) {
        Some(remedy) => format!("{property}{chain}; {remedy}"),
        None => format!("{property}{chain}"),
    }
}

fn remedy(error: &Error, mode: Mode) -> Option<String> {
    match error {
        Error::Runtime(error) => Some(runtime_remedy(error).into()),
        Error::Backbone { source, .. } => Some(backbone_remedy(source, mode)),
        Error::Model { source, .. } => model_remedy(source).map(Into::into),
        Error::Fit(error) => fit_remedy(error).map(Into::into),
        Error::Inference(InferenceError::Feature) => {
            Some("choose another network with the property backbone".into())
        }
        Error::Inference(_) => None,
    }
}

fn runtime_remedy(error: &RuntimeError) -> &'static str {
    match error {
        RuntimeError::NotFound { .. } => {
            "run ./setup in the source tree, or unpack the wheel of the PyPI package onnxruntime and name its onnxruntime/capi/libonnxruntime.so.1.* with the property onnxruntime or the variable ORT_DYLIB_PATH"
        }
        RuntimeError::Named { .. } => {
            "name another library, such as onnxruntime/capi/libonnxruntime.so.1.* of the PyPI package onnxruntime, or leave it out for the one that is installed"
        }
        RuntimeError::Another { .. } => {
            "set the property onnxruntime alike in all elements, or leave it out"
        }
        RuntimeError::DeviceMissing { device, .. } => match *device {
            "xnnpack" => "take a library that was built with --use_xnnpack, or device=cpu",
            _ => {
                "take the library of the PyPI package onnxruntime-gpu (on a Jetson: NVIDIA's), or device=cpu"
            }
        },
        RuntimeError::DeviceRefuses { .. } => {
            "see that the device and its driver are there and are those that the library was built for, or take device=cpu"
        }
    }
}

fn backbone_remedy(error: &BackboneError, mode: Mode) -> String {
    match (error, mode) {
        (
            BackboneError::Read(_)
            | BackboneError::NotFound { .. }
            | BackboneError::NotTheModels { .. },
            Mode::Detect,
        ) => "name its path with the property backbone, or fit the model again".into(),
        (BackboneError::RefusedOnDevice { .. }, mode) => {
            let with_it = match mode {
                Mode::Detect => "fit the model again with that one",
                Mode::Learn => "name that one with the property backbone",
            };
            format!(
                "GPUs take networks in floats, such as {DEFAULT_BACKBONE}: {with_it}, or take device=cpu"
            )
        }
        (_, Mode::Learn) => "name the path of another one with the property backbone".into(),
        (_, Mode::Detect) => {
            "take another file with the property backbone, or fit the model again".into()
        }
    }
}

fn model_remedy(error: &ModelError) -> Option<&'static str> {
    match error {
        ModelError::Read(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("make one with `vadlite fit` or with mode=learn")
        }
        ModelError::Read(_) => Some("see that it is a file that may be read"),
        ModelError::Write(_) => {
            Some("see that there is room and that its folder may be written to")
        }
        ModelError::Version { found, known } if found > known => {
            Some("take a newer vadlite, or fit the model again")
        }
        ModelError::Version { .. }
        | ModelError::Empty
        | ModelError::Damaged(_)
        | ModelError::NoMetadata
        | ModelError::Size { .. }
        | ModelError::Value(_)
        | ModelError::Resize { .. }
        | ModelError::Geometry { .. }
        | ModelError::Calibration(_)
        | ModelError::Channels(_)
        | ModelError::Tensor(_) => Some("fit the model again"),
    }
}

fn fit_remedy(error: &FitError) -> Option<&'static str> {
    match error {
        FitError::TooFewImages { .. } | FitError::TooFewForVariance(_) => {
            Some("learn from more frames with the property learn-frames")
        }
        FitError::TooLarge { .. } => {
            Some("choose fewer tiles with the property tiles, or method=padim-lite")
        }
        FitError::Subspaces { .. } | FitError::Dimensions { .. } => {
            Some("choose another method with the property method, or another network with backbone")
        }
        FitError::NoPatches | FitError::NotFactored | FitError::Scores(_) => Some(
            "see that the frames show the part, or choose another method with the property method",
        ),
        FitError::Rate(_) => Some("set the property false-reject-rate between 0 and 1"),
        FitError::RateTooSmall { .. } => {
            Some("raise the property false-reject-rate, or learn from more frames")
        }
        FitError::Geometry(_) | FitError::Channels(_) => {
            Some("choose other tiles with the property tiles")
        }
        FitError::Serialize(_) | FitError::Tensor(_) | FitError::Cancelled => None,
    }
}
