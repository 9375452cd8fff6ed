//! What can go wrong before or while a frame is inspected: each error with the thing it happened to, and its cause as its source.
//!
//! A text tells what is wrong and where, not how its reader could put it right: properties and options have other names, and only the
//! element and the command line know which are theirs. [`Chain`] shows an error with all its causes in one line.

use crate::geometry::{GeometryError, Size};
use std::fmt;
use std::io;
use std::path::PathBuf;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Errors of the detector.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ONNX Runtime could not be loaded, or lacks what was asked for.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// A backbone file could not be found, read, or used.
    #[error("backbone {}", path.display())]
    Backbone {
        path: PathBuf,
        #[source]
        source: BackboneError,
    },
    /// A model file could not be read or holds something that cannot be used.
    #[error("model {}", path.display())]
    Model {
        path: PathBuf,
        #[source]
        source: ModelError,
    },
    /// Too few or unusable images to fit on.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// ONNX Runtime failed while it computed the feature taps of an image, or these give no score.
    #[error("the backbone failed on a frame")]
    Inference(#[from] InferenceError),
}

impl Error {
    pub(crate) fn backbone(path: impl Into<PathBuf>, source: impl Into<BackboneError>) -> Self {
        Self::Backbone {
            path: path.into(),
            source: source.into(),
        }
    }

    pub(crate) fn model(path: impl Into<PathBuf>, source: impl Into<ModelError>) -> Self {
        Self::Model {
            path: path.into(),
            source: source.into(),
        }
    }
}

/// ONNX Runtime's library.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Where it was looked for, a line each.
    #[error("ONNX Runtime 1.{oldest} or newer was not found. Searched:{searched}")]
    NotFound { oldest: u32, searched: String },
    /// A library that was asked for by name.
    #[error("ONNX Runtime: {by} names {}, which cannot be used", path.display())]
    Named {
        by: &'static str,
        path: PathBuf,
        #[source]
        source: LibraryError,
    },
    #[error("ONNX Runtime {} was asked for, but this process already uses {}; one process can use one library only", asked.display(), used.display())]
    Another { asked: PathBuf, used: PathBuf },
    #[error("the device {device} was asked for, and {} is built without it", library.display())]
    DeviceMissing {
        device: &'static str,
        library: PathBuf,
    },
    #[error("the device {device} cannot be used")]
    DeviceRefuses {
        device: &'static str,
        #[source]
        source: ort::Error,
    },
}

/// A library that is not ONNX Runtime, or not one that can be used.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// What the system's loader says.
    #[error("{0}")]
    Load(String),
    #[error(transparent)]
    Ort(#[from] ort::Error),
}

/// A backbone's file.
#[derive(Debug, thiserror::Error)]
pub enum BackboneError {
    #[error("cannot be read")]
    Read(#[source] io::Error),
    #[error("not found in {}", Paths(searched))]
    NotFound { searched: Vec<PathBuf> },
    #[error("it is not the backbone that {} was fitted with ({name}): its SHA-256 is {found}, and the model needs {needed}", model.display())]
    NotTheModels {
        model: PathBuf,
        name: String,
        found: String,
        needed: String,
    },
    #[error("not an ONNX file, or damaged")]
    Damaged(#[source] prost::DecodeError),
    #[error("not an ONNX file: {0}")]
    NotOnnx(&'static str),
    #[error("it has no output named {tap}; its outputs are: {}", outputs.join(", "))]
    NoTap { tap: String, outputs: Vec<String> },
    #[error("it has {0} inputs, but a backbone has one, the image")]
    Inputs(usize),
    #[error("its input {input} {wrong}")]
    Input { input: String, wrong: String },
    #[error("ONNX Runtime refuses it")]
    Refused(#[source] ort::Error),
    /// As [`BackboneError::Refused`], on a device other than the processor.
    #[error("ONNX Runtime refuses it on the device {device}")]
    RefusedOnDevice {
        device: &'static str,
        #[source]
        source: ort::Error,
    },
    #[error("its metadata {key} is {text:?}, not {wanted}")]
    Metadata {
        key: &'static str,
        text: String,
        wanted: &'static str,
    },
    #[error("it cannot be run")]
    Run(#[from] InferenceError),
}

/// One image's way through the backbone.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    #[error(transparent)]
    Ort(#[from] ort::Error),
    #[error(
        "the image tensor is {shape:?}, and 3 x height x width of {size} are needed, row-major"
    )]
    Image {
        shape: (usize, usize, usize),
        size: Size,
    },
    #[error("{count} taps; at most {most} are supported")]
    Taps { count: usize, most: usize },
    #[error("a tap has the shape {0:?}, not 1 x channels x height x width")]
    TapShape(Vec<i64>),
    #[error("the score is not a number")]
    Score,
    #[error("a feature is not a finite number, or beyond 65504, the largest 16-bit float")]
    Feature,
}

/// A model file's content.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error("cannot be read")]
    Read(#[source] io::Error),
    #[error("cannot be written")]
    Write(#[source] io::Error),
    #[error("the file is empty")]
    Empty,
    #[error("damaged or not a .vadlite file")]
    Damaged(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("a safetensors file, but not one of vadlite: it lacks the metadata")]
    NoMetadata,
    #[error("it has the format version {found}, and this vadlite reads versions up to {known}")]
    Version { found: u32, known: u32 },
    #[error("{field} {size:?} is not between 1 and {side}, or holds more than {area} pixels")]
    Size {
        field: &'static str,
        size: [usize; 2],
        side: usize,
        area: usize,
    },
    #[error("{0}")]
    Value(&'static str),
    #[error("resize rule {found:?} is unknown; this vadlite knows {known:?}")]
    Resize { found: String, known: &'static str },
    #[error("{field}")]
    Geometry {
        field: &'static str,
        #[source]
        source: GeometryError,
    },
    #[error("its calibration")]
    Calibration(#[source] Box<FitError>),
    #[error(transparent)]
    Channels(#[from] ChannelError),
    #[error(transparent)]
    Tensor(#[from] TensorError),
}

/// Channels of the taps that are asked for and are not there.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("channels are not ascending numbers below the {all} that the taps have")]
pub struct ChannelError {
    pub all: usize,
}

/// A head's tensor that is not as the head needs it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TensorError {
    #[error("the tensor {0} is missing")]
    Missing(String),
    #[error("the tensor {0} is missing or empty")]
    Empty(String),
    #[error("the tensor {name} is {found}, and the head needs {needed}")]
    Shape {
        name: String,
        found: String,
        needed: String,
    },
    #[error("the tensor {0} holds NaN or infinity")]
    NotFinite(String),
}

/// Why no model comes out of a fit.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error(
        "{images} usable good images; fitting needs at least {fewest}, and a few hundred for a good threshold"
    )]
    TooFewImages { images: usize, fewest: usize },
    #[error(
        "only {distinct} of {images} good images differ from each other, the others are copies of them; fitting needs at least {fewest} that differ, and a few hundred for a good threshold"
    )]
    TooFewDistinct {
        images: usize,
        distinct: usize,
        fewest: usize,
    },
    #[error("{0} good images are too few for a variance")]
    TooFewForVariance(usize),
    #[error("with the preset {0} a method has to be named")]
    NoChoice(&'static str),
    #[error("the mask leaves no patch of the picture to be judged")]
    NothingJudged,
    /// They were asked for.
    #[error("there are no parts to locate: {0}")]
    NoParts(String),
    #[error("no patches to fit on")]
    NoPatches,
    #[error("{wanted} dimensions were asked for, and the taps have 1 to {all}")]
    Dimensions { wanted: usize, all: usize },
    #[error("the covariances of {positions} patches in {dimensions} dimensions take {:.1} GB; {fitting} dimensions would do", *bytes as f64 * 1e-9)]
    TooLarge {
        positions: usize,
        dimensions: usize,
        bytes: usize,
        /// Dimensions whose covariances would fit into memory.
        fitting: usize,
    },
    #[error("{dimensions} feature channels cannot be cut into {subspaces} subspaces")]
    Subspaces { dimensions: usize, subspaces: usize },
    #[error("a covariance of the good images cannot be factored: a feature is not a finite number")]
    NotFactored,
    #[error("{0} calibration scores, one of them missing or not finite")]
    Scores(usize),
    #[error(
        "the threshold would be {0}, which is no number above 0: the good images hardly differ from each other"
    )]
    Threshold(f32),
    #[error("a false reject rate of {0} is not between 0 and 1")]
    Rate(f64),
    #[error(
        "a false reject rate of {rate} needs at least {needed} good images, and the model was calibrated on {images}; the smallest rate that it supports is {smallest:.4}"
    )]
    RateTooSmall {
        rate: f64,
        needed: f64,
        images: usize,
        smallest: f64,
    },
    #[error("the model cannot be written")]
    Serialize(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    #[error(transparent)]
    Channels(#[from] ChannelError),
    /// What was fitted cannot be read back.
    #[error(transparent)]
    Tensor(#[from] TensorError),
    /// Somebody has asked for the end of the fit.
    #[error("the fit was cancelled")]
    Cancelled,
}

/// An error with all its causes in one line, such as `model part.vadlite: cannot be read: No such file or directory`.
pub struct Chain<'a>(pub &'a dyn std::error::Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

struct Paths<'a>(&'a [PathBuf]);

impl fmt::Display for Paths<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, path) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{}", path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_tells_every_cause_once() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        let error = Error::model("part.vadlite", ModelError::Read(missing));
        assert_eq!(
            Chain(&error).to_string(),
            "model part.vadlite: cannot be read: entity not found"
        );
        let error = Error::from(FitError::Cancelled);
        assert_eq!(Chain(&error).to_string(), "the fit was cancelled");
    }
}
