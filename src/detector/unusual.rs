//! How unusual good images are, in terms that a person can look at.

use crate::geometry::Size;
use serde::{Deserialize, Serialize};

/// A good image that is unlike the others.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Unusual {
    /// Its file, or its number among the frames that were learnt from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frame: Option<usize>,
    /// Held-out score.
    pub score: f32,
    /// Where it is unlike the others, and how much.
    pub reason: String,
    /// Whether the model was fitted without it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub left_out: bool,
}

/// What a promised rate costs and brings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    pub false_reject_rate: f64,
    pub threshold: f32,
    /// Share of the defects painted on good images that are above it, 0..1; absent: none were painted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub synthetic_found: Option<f64>,
    /// Share of the real ones, where there were some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_found: Option<f64>,
    /// The good image whose score it is, or its number among the frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set_by: Option<String>,
}

/// One of the methods that were tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    pub method: super::method::Method,
    /// Share of the defects found about the promised rate, 0..1.
    pub found: f64,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// In words, where on a grid a patch is.
pub fn place(grid: Size, patch: usize) -> &'static str {
    const PLACES: [[&str; 3]; 3] = [
        ["upper left", "top", "upper right"],
        ["left", "middle", "right"],
        ["lower left", "bottom", "lower right"],
    ];
    let third = |at: usize, of: usize| (3 * at / of.max(1)).min(2);
    PLACES[third(patch / grid.width.max(1), grid.height)]
        [third(patch % grid.width.max(1), grid.width)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_thirds_of_the_picture() {
        let grid = Size::new(14, 14);
        assert_eq!(place(grid, 0), "upper left");
        assert_eq!(place(grid, 13), "upper right");
        assert_eq!(place(grid, 7 * 14 + 7), "middle");
        assert_eq!(place(grid, 195), "lower right");
        assert_eq!(place(Size::new(1, 1), 0), "upper left");
    }
}
