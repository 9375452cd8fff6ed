//! Pictures: raw frames to tensors, heatmaps into frames, results onto buffers. Knows no head.

#[cfg(feature = "analytics")]
pub(crate) mod analytics;
// Public for the project's own tests, as are `heatmap` and `picture`.
#[doc(hidden)]
pub mod colormap;
pub mod formats;
pub mod frame;
#[doc(hidden)]
pub mod heatmap;
pub mod mask;
pub mod meta;
pub mod overlay;
#[doc(hidden)]
pub mod picture;
pub mod preprocess;
mod resample;
pub mod sample_bits;
