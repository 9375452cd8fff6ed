//! What a backbone takes and gives: normalised images in, feature taps out.

use ndarray::ArrayView3;

/// One feature tap of one image: channels x height x width.
pub type Tap<'a> = ArrayView3<'a, f32>;

/// Shape of a tap: channels, height, width.
pub type TapShape = [usize; 3];

/// Normalisation of RGB in 0..1 per channel: (x - mean) / std.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalization {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Normalization {
    /// What torchvision's weights were trained with; used for files that do not say.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    /// Levels as they are, 0 to 1.
    pub const PLAIN: Self = Self {
        mean: [0.0; 3],
        std: [1.0; 3],
    };
}
