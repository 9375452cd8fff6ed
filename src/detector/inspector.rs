//! From an image tensor to its score and map.

use super::Timing;
use super::backbone::Backbone;
use super::embedding::Embedding;
use super::error::InferenceError;
use super::features::Features;
use super::light::Leveller;
use super::scorer::Scorer;
use ndarray::ArrayView3;
use std::time::Instant;

/// Backbone, features and scorer, one after the other.
pub struct Inspector {
    pub backbone: Backbone,
    pub features: Features,
    pub embedding: Embedding,
    /// Where the model asks for one level of light.
    pub leveller: Option<Leveller>,
    pub scorer: Scorer,
    pub timing: Timing,
}

impl Inspector {
    /// The image score of a tensor (3 x height x width, RGB, normalised). Adds to the timing.
    ///
    /// # Errors
    /// ONNX Runtime fails, or the score is not a number.
    pub fn inspect(&mut self, image: ArrayView3<'_, f32>) -> Result<f32, InferenceError> {
        let start = Instant::now();
        let image = match &mut self.leveller {
            Some(leveller) => leveller.apply(image),
            None => image,
        };
        let filling = self
            .features
            .extract(&mut self.backbone, image, &mut self.embedding)?;
        self.timing.backbone += start.elapsed() - filling;
        self.timing.head += filling;
        let score = self.rescore();
        match score.is_finite() {
            true => Ok(score),
            false => Err(InferenceError::Score),
        }
    }

    /// Head and map once more on the last features. Adds to the timing. Allocates nothing.
    pub fn rescore(&mut self) -> f32 {
        let score = self.scorer.score(&self.embedding);
        let timing = self.scorer.timing();
        self.timing.head += timing.head;
        self.timing.map += timing.map;
        score
    }
}
