//! Search in memory banks: which vectors to keep, how to compress them, and how to find the nearest.

pub mod coreset;
pub mod distance;
pub mod fast_scan;
pub mod product_quantizer;
pub mod two_stage;
