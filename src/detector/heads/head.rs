//! What a head is: to be used, and to be fitted.

use crate::detector::embedding::Embedding;
use crate::detector::error::Result;
use crate::detector::head_tensors::HeadTensor;
use crate::detector::progress::Progress;
use crate::detector::samples::Samples;
use half::f16;

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

/// Takes in good images, then makes heads from them; several times, since the threshold comes from images that a head has not seen.
pub trait HeadFitter: Send {
    /// Takes in one good image (positions x dimensions).
    fn add(&mut self, patches: &[f16]);

    /// The tensors of a head, for [`Recipe::load`](super::Recipe::load): from all images added, or such that no image of one fold of
    /// `samples` has a share in it. `samples` are images added, all of them or a random part.
    ///
    /// # Errors
    /// Too few images, or numbers that do not allow it (not finite, no variance at all); an end that was asked for by `progress`.
    fn fit(
        &mut self,
        samples: &Samples,
        without: Option<usize>,
        progress: &mut Progress<'_>,
    ) -> Result<Vec<HeadTensor>>;
}
