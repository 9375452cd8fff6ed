//! Pictures: raw frames to tensors, heatmaps into frames, results onto buffers. Knows no head.

#[cfg(feature = "analytics")]
pub(crate) mod analytics;
// Public for the project's own tests.
#[doc(hidden)]
pub mod colormap;
pub mod formats;
pub mod frame;
pub(crate) mod heatmap;
pub mod meta;
pub mod overlay;
pub mod preprocess;
mod resample;
