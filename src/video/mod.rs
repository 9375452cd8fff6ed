//! Pictures: raw frames to tensors, heatmaps into frames, results onto buffers. Knows no head.

#[cfg(feature = "analytics")]
pub mod analytics;
pub mod colormap;
pub mod formats;
pub mod frame;
pub mod heatmap;
pub mod meta;
pub mod overlay;
pub mod preprocess;
mod resample;
