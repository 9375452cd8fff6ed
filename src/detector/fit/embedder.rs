//! From good images to their patches, as every head of a fit takes them.

use crate::detector::backbone::Backbone;
use crate::detector::embedding::{Embedding, EmbeddingShape};
use crate::detector::error::InferenceError;
use crate::detector::features::Features;
use crate::detector::light::Leveller;
use crate::detector::taps::Normalization;
use half::f16;
use ndarray::ArrayView3;

pub struct Embedder {
    pub backbone: Backbone,
    features: Features,
    embedding: Embedding,
    /// Where images are brought to one level of light.
    leveller: Option<Leveller>,
}

impl Embedder {
    pub fn new(backbone: Backbone, features: Features, leveller: Option<Leveller>) -> Self {
        Self {
            backbone,
            embedding: Embedding::new(features.shape()),
            features,
            leveller,
        }
    }

    pub fn shape(&self) -> EmbeddingShape {
        self.embedding.shape()
    }

    pub fn normalization(&self) -> Normalization {
        self.backbone.normalization()
    }

    /// The level that images are brought to, where they are.
    pub fn light_level(&self) -> Option<f32> {
        self.leveller.as_ref().and_then(Leveller::wanted)
    }

    /// An image's patches (positions x dimensions). What is taken out of the statistics for a fold has to be exactly what went in: both
    /// get these rounded values.
    ///
    /// # Errors
    /// ONNX Runtime fails, or computes features that are not finite.
    pub fn embed(&mut self, image: ArrayView3<'_, f32>) -> Result<Vec<f16>, InferenceError> {
        let image = match &mut self.leveller {
            Some(leveller) => leveller.apply(image),
            None => image,
        };
        self.features
            .extract(&mut self.backbone, image, &mut self.embedding)?;
        let patches = self.embedding.to_patches();
        match patches.iter().all(|value| value.is_finite()) {
            true => Ok(patches),
            false => Err(InferenceError::Feature),
        }
    }
}
