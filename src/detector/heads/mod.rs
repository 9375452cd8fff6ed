//! The heads: what turns patch embeddings into patch scores. One file per head behind two traits, one to fit it and one to use it.

mod gaussian;
pub(crate) mod memory_bank;
mod padim;
mod padim_lite;
mod patchcore;
pub(crate) mod patchcore_lite;
mod whitening;

use super::backbone::TapShape;
use super::embedding::{Embedding, Pooling};
use super::error::Result;
use super::head_tensors::{HeadTensor, TensorReader};
use super::samples::Samples;
use super::tiles::Tiles;
use half::f16;
use serde::{Deserialize, Serialize};

/// What is fitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Per-position Gaussian statistics in little memory
    PadimLite,
    /// Product-quantised memory bank of good patches
    PatchcoreLite,
    /// Per-position Gaussians with full covariances
    Padim,
    /// Memory bank of good patches, exact search
    Patchcore,
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
            Self::PatchcoreLite => "patchcore-lite",
            Self::Padim => "padim",
            Self::Patchcore => "patchcore",
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

/// A method with its preset: what they settle outside of the head itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    pub method: Method,
    pub preset: Preset,
}

impl Recipe {
    /// The feature taps, by their names in the committed backbone (the paper, section IV).
    pub fn default_taps(self) -> &'static [&'static str] {
        match (self.method, self.preset) {
            (Method::PadimLite | Method::Padim, _) | (Method::PatchcoreLite, Preset::Default) => {
                &["features.7", "features.10", "features.13"]
            }
            (Method::Patchcore, _) | (Method::PatchcoreLite, Preset::Paper) => {
                &["features.4", "features.7", "features.10"]
            }
        }
    }

    /// An empty embedding as this method needs it, of all channels of the taps (of one tile) or of some.
    ///
    /// # Errors
    /// Channels that do not ascend or that the taps do not have.
    pub fn embedding(
        self,
        shapes: &[TapShape],
        channels: Option<&[usize]>,
        tiles: Tiles,
    ) -> std::result::Result<Embedding, String> {
        let pooling = match (self.method, self.preset) {
            (Method::PadimLite | Method::PatchcoreLite, Preset::Default) => Pooling::Blend3x3,
            (Method::PadimLite | Method::Padim, _) => Pooling::None,
            (Method::Patchcore, _) | (Method::PatchcoreLite, Preset::Paper) => Pooling::Average3x3,
        };
        let embedding = Embedding::new(shapes, pooling);
        let embedding = match channels {
            Some(channels) => embedding.with_channels(channels)?,
            None => embedding,
        };
        Ok(embedding.with_tiles(tiles))
    }

    /// Standard deviation of the Gaussian that smooths the anomaly map, in map pixels. The map has half the input's side, so 2 is the
    /// reference implementations' 4 pixels at 224.
    pub fn map_sigma(self) -> f32 {
        match (self.method, self.preset) {
            (Method::PadimLite, Preset::Default) => padim_lite::DEFAULT_MAP_SIGMA,
            (Method::PatchcoreLite, Preset::Default) => patchcore_lite::DEFAULT_MAP_SIGMA,
            _ => 2.0,
        }
    }

    /// A fitter for embeddings like `shape`.
    ///
    /// # Errors
    /// [`Error::Fit`](super::error::Error::Fit) where the statistics of such embeddings would not fit into memory.
    pub fn fitter(self, shape: &Embedding) -> Result<Box<dyn HeadFitter>> {
        Ok(match self.method {
            Method::PadimLite => Box::new(padim_lite::fitter(self.preset, shape)?),
            Method::PatchcoreLite => match self.preset {
                Preset::Paper => Box::new(patchcore_lite::paper_fitter()),
                Preset::Default => Box::new(patchcore_lite::DefaultFitter::new(shape)?),
            },
            Method::Padim => Box::new(gaussian::GaussianFitter::new(shape, padim::fit)?),
            Method::Patchcore => Box::new(patchcore::fitter()),
        })
    }

    /// A head from a model file's tensors.
    ///
    /// # Errors
    /// A tensor that is missing, of another shape or type than `shape` asks for, or not finite.
    pub fn load(
        self,
        shape: &Embedding,
        tensors: &TensorReader<'_>,
    ) -> Result<Box<dyn Head>, String> {
        Ok(match self.method {
            Method::PadimLite => padim_lite::load(self.preset, shape, tensors)?,
            Method::PatchcoreLite => patchcore_lite::load(self.preset, shape, tensors)?,
            Method::Padim => Box::new(padim::Padim::load(shape, tensors)?),
            Method::Patchcore => Box::new(patchcore::PatchCore::load(shape, tensors)?),
        })
    }
}

/// A fitted head.
pub trait Head: Send {
    /// Writes one score per patch (row-major on the grid, 0 or more, larger is less normal). Allocates nothing.
    fn score(&mut self, embedding: &Embedding, scores: &mut [f32]);

    /// What the map's maximum is multiplied with to get the image score of the embedding scored last: at most 1, so that a flagged image
    /// has a region above the threshold.
    fn image_weight(&mut self) -> f32 {
        1.0
    }
}

/// Is told what is being done, how much of it is done, and of how much.
pub type Progress<'a> = &'a mut dyn FnMut(&'static str, usize, usize);

/// Takes in good images, then makes heads from them; several times, since the threshold comes from images that a head has not seen.
pub trait HeadFitter: Send {
    /// Takes in one good image (positions x dimensions).
    fn add(&mut self, patches: &[f16]);

    /// The tensors of a head, for [`Recipe::load`]: from all images added, or such that no image of one fold of `samples` has a share
    /// in it. `samples` are images added, all of them or a random part.
    ///
    /// # Errors
    /// Too few images, or numbers that do not allow it (not finite, no variance at all).
    fn fit(
        &mut self,
        samples: &Samples,
        without: Option<usize>,
        progress: Progress<'_>,
    ) -> Result<Vec<HeadTensor>>;
}
