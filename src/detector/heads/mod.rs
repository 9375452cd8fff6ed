//! The heads: what turns patch embeddings into patch scores. One file per head behind two traits, one to fit it and one to use it.

pub mod gaussian;
pub mod padim_lite;

use super::embedding::Embedding;
use super::error::Result;
use super::model_file::{HeadTensor, TensorReader};
use serde::{Deserialize, Serialize};

/// What is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Per-position Gaussian statistics without a full covariance
    PadimLite,
}

/// Which constants and equations a method uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Preset {
    /// The best known at no more memory and time than the paper's
    #[default]
    Default,
    /// The paper's equations and constants
    Paper,
}

impl Method {
    /// The name used on the command line, in properties and in model files.
    pub fn name(self) -> &'static str {
        match self {
            Self::PadimLite => "padim-lite",
        }
    }

    /// The feature taps the paper uses, by their names in the committed backbone.
    pub fn default_taps(self) -> &'static [&'static str] {
        match self {
            Self::PadimLite => &["features.7", "features.10", "features.13"],
        }
    }
}

impl Preset {
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Paper => "paper",
        }
    }
}

/// A fitted head.
pub trait Head: Send {
    /// Writes one score per patch (row-major on the grid, 0 or more, larger is less normal). Allocates nothing.
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]);
}

/// Gathers good images, then makes heads from them; several times, since the threshold comes from images that a head has not seen.
pub trait HeadFitter: Send {
    /// Takes in one good image as a member of `fold` (0..folds).
    fn add(&mut self, fold: usize, embedding: &Embedding);

    /// The tensors of a head from all images, or from all but one fold, for [`load`].
    ///
    /// # Errors
    /// Too few images, or numbers that do not allow it (not finite, no variance at all).
    fn fit(&mut self, without: Option<usize>) -> Result<Vec<HeadTensor>>;
}

/// A fitter of `method` for embeddings like `shape`, with this many folds.
pub fn fitter(
    method: Method,
    preset: Preset,
    shape: &Embedding,
    folds: usize,
) -> Box<dyn HeadFitter> {
    match method {
        Method::PadimLite => Box::new(padim_lite::Fitter::new(preset, shape, folds)),
    }
}

/// A head from a model file's tensors.
///
/// # Errors
/// A tensor that is missing, of another shape or type than `shape` asks for, or not finite.
pub fn load(
    method: Method,
    preset: Preset,
    shape: &Embedding,
    tensors: &TensorReader<'_>,
) -> Result<Box<dyn Head>, String> {
    match method {
        Method::PadimLite => padim_lite::load(preset, shape, tensors),
    }
}

/// Standard deviation of the Gaussian that smooths the anomaly map, in map pixels.
pub fn map_sigma(method: Method, preset: Preset) -> f32 {
    match method {
        Method::PadimLite => padim_lite::map_sigma(preset),
    }
}
