//! What can go wrong before or while a frame is inspected, each with the thing it happened to and the remedy.

use std::path::PathBuf;

/// Errors of the detector. The text of each names what failed, where, and what helps.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// ONNX Runtime could not be loaded.
    #[error("{0}")]
    Runtime(String),
    /// A backbone file could not be found, read, or used.
    #[error("backbone {}: {reason}", path.display())]
    Backbone { path: PathBuf, reason: String },
    /// A model file could not be read or holds something that cannot be used.
    #[error("model {}: {reason}", path.display())]
    Model { path: PathBuf, reason: String },
    /// Too few or unusable images to fit on.
    #[error("{0}")]
    Fit(String),
    /// ONNX Runtime failed while it computed the feature taps of a frame.
    #[error("the backbone failed on a frame: {0}")]
    Inference(String),
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn backbone(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Backbone {
            path: path.into(),
            reason: reason.into(),
        }
    }

    pub(crate) fn model(path: impl Into<PathBuf>, reason: impl Into<String>) -> Self {
        Self::Model {
            path: path.into(),
            reason: reason.into(),
        }
    }
}
