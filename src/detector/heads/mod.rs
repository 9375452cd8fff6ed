//! The heads: what turns patch embeddings into patch scores. One file per head behind two traits, one to fit it and one to use it.

mod gaussian;
mod head;
pub(crate) mod memory_bank;
mod padim;
mod padim_lite;
mod patchcore;
pub(crate) mod patchcore_lite;
mod whitening;

pub use head::{Head, HeadFitter};

use super::embedding::EmbeddingShape;
use super::error::{ChannelError, FitError, Result, TensorError};
use super::features::{Features, Pooling};
use super::head_tensors::TensorReader;
use super::image_score::ImageScore;
use super::method::{Method, MethodChoice, Preset};
use super::taps::TapShape;
use crate::geometry::Grid;

/// Patches whose mean is the image score: the deepest tap's cells each cover this many of the finest tap's, so that the mean of fewer
/// could be one cell's.
const HIGHEST: usize = 4;

/// A method with its preset: what they settle outside of the head itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    pub method: Method,
    pub preset: Preset,
}

impl Recipe {
    /// Those to choose from.
    ///
    /// # Errors
    /// [`FitError::NoChoice`]: there is a choice between default presets only, whose features are the same.
    pub fn candidates(choice: MethodChoice, preset: Preset) -> Result<Vec<Self>, FitError> {
        if choice == MethodChoice::Auto && preset != Preset::Default {
            return Err(FitError::NoChoice(preset.name()));
        }
        let methods = choice.methods().iter();
        Ok(methods.map(|&method| Self { method, preset }).collect())
    }

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

    /// The way from an image to its embedding as this method needs it, of all channels of the taps (of one tile) or of some.
    ///
    /// # Errors
    /// Channels that do not ascend or that the taps do not have.
    pub fn features(
        self,
        shapes: &[TapShape],
        channels: Option<&[usize]>,
        tiles: Grid,
    ) -> Result<Features, ChannelError> {
        let pooling = match (self.method, self.preset) {
            (Method::PadimLite | Method::PatchcoreLite, Preset::Default) => Pooling::Blend3x3,
            (Method::PadimLite | Method::Padim, _) => Pooling::None,
            (Method::Patchcore, _) | (Method::PatchcoreLite, Preset::Paper) => Pooling::Average3x3,
        };
        Features::new(shapes, pooling, channels, tiles)
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

    /// What of the patch scores is the image score.
    pub fn image_score(self) -> ImageScore {
        match (self.method, self.preset) {
            (Method::PadimLite | Method::PatchcoreLite, Preset::Default) => {
                ImageScore::HighestPatches(HIGHEST)
            }
            _ => ImageScore::MapMaximum,
        }
    }

    /// The folds that the threshold is set with. Of more, each head that scores held-out images has seen more of the others: its scores
    /// are nearer to those of the head that is kept, where a head of four fifths finds everything a little more unusual. The published
    /// heads take too long to fit for that.
    pub fn folds(self) -> usize {
        match (self.method, self.preset) {
            (Method::PadimLite | Method::PatchcoreLite, Preset::Default) => 10,
            _ => 5,
        }
    }

    /// A fitter for embeddings of this shape.
    ///
    /// # Errors
    /// [`FitError::TooLarge`](super::error::FitError::TooLarge) where the statistics of such embeddings would not fit into memory.
    pub fn fitter(self, shape: EmbeddingShape) -> Result<Box<dyn HeadFitter>> {
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
        shape: EmbeddingShape,
        tensors: &TensorReader<'_>,
    ) -> Result<Box<dyn Head>, TensorError> {
        Ok(match self.method {
            Method::PadimLite => padim_lite::load(self.preset, shape, tensors)?,
            Method::PatchcoreLite => patchcore_lite::load(self.preset, shape, tensors)?,
            Method::Padim => Box::new(padim::Padim::load(shape, tensors)?),
            Method::Patchcore => Box::new(patchcore::PatchCore::load(shape, tensors)?),
        })
    }
}
