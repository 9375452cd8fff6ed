//! Large images cut into tiles: each goes through the backbone by itself, and their features lie side by side on one grid, so that the
//! head keeps statistics per position of the whole image, and there is one map and one score.

use super::backbone::Backbone;
use super::embedding::Embedding;
use super::error::Result;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// More tiles than this in one direction are a mistake.
const MOST: usize = 64;

/// Columns and rows of tiles; `[1, 1]` is the whole image in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[usize; 2]", into = "[usize; 2]")]
pub struct Tiles {
    columns: usize,
    rows: usize,
}

impl Tiles {
    pub const ONE: Self = Self {
        columns: 1,
        rows: 1,
    };

    pub fn columns(self) -> usize {
        self.columns
    }

    pub fn rows(self) -> usize {
        self.rows
    }

    pub fn count(self) -> usize {
        self.columns * self.rows
    }

    /// Height and width of an image of tiles of this height and width.
    pub fn whole(self, [height, width]: [usize; 2]) -> [usize; 2] {
        [height * self.rows, width * self.columns]
    }

    /// Height and width of a tile of an image of this height and width, which has to be a multiple.
    ///
    /// # Errors
    /// It is none.
    pub fn part(self, [height, width]: [usize; 2]) -> std::result::Result<[usize; 2], String> {
        if height.is_multiple_of(self.rows) && width.is_multiple_of(self.columns) {
            Ok([height / self.rows, width / self.columns])
        } else {
            Err(format!(
                "an image of {width}x{height} cannot be cut into {self} tiles"
            ))
        }
    }

    /// Copies the pixels of a tile, counted along the rows, from an image (channels x height x width) into `tile` (channels x tile).
    pub fn cut(self, image: &[f32], number: usize, [height, width]: [usize; 2], tile: &mut [f32]) {
        let (row, column) = (number / self.columns, number % self.columns);
        let stride = width * self.columns;
        for (plane, out) in image
            .chunks_exact(stride * height * self.rows)
            .zip(tile.chunks_exact_mut(height * width))
        {
            let lines = plane.chunks_exact(stride).skip(row * height);
            for (line, out) in lines.zip(out.chunks_exact_mut(width)) {
                out.copy_from_slice(&line[column * width..][..width]);
            }
        }
    }
}

/// The way from an image tensor to its embedding, tile by tile.
pub(crate) struct Features {
    tiles: Tiles,
    /// One tile's pixels; empty where the image is one tile.
    pixels: Vec<f32>,
}

impl Features {
    pub fn new(tiles: Tiles) -> Self {
        Self {
            tiles,
            pixels: Vec::new(),
        }
    }

    /// Fills `embedding` with what `backbone` sees in `image` (3 x height x width, all tiles), and says how long the filling took.
    ///
    /// # Errors
    /// As [`Backbone::run`].
    pub fn extract(
        &mut self,
        backbone: &mut Backbone,
        image: &[f32],
        embedding: &mut Embedding,
    ) -> Result<Duration> {
        let (height, width) = backbone.input();
        let mut filling = Duration::ZERO;
        for tile in 0..self.tiles.count() {
            let pixels = if self.tiles == Tiles::ONE {
                image
            } else {
                self.pixels.resize(3 * height * width, 0.0);
                self.tiles
                    .cut(image, tile, [height, width], &mut self.pixels);
                &self.pixels
            };
            filling += backbone.run(pixels, |taps| {
                let start = Instant::now();
                embedding.fill_tile(taps, tile);
                start.elapsed()
            })?;
        }
        Ok(filling)
    }
}

impl TryFrom<[usize; 2]> for Tiles {
    type Error = String;

    fn try_from([columns, rows]: [usize; 2]) -> std::result::Result<Self, String> {
        if (1..=MOST).contains(&columns) && (1..=MOST).contains(&rows) {
            Ok(Self { columns, rows })
        } else {
            Err(format!(
                "{columns}x{rows} tiles are not 1 to {MOST} each way"
            ))
        }
    }
}

impl From<Tiles> for [usize; 2] {
    fn from(tiles: Tiles) -> Self {
        [tiles.columns, tiles.rows]
    }
}

impl FromStr for Tiles {
    type Err = String;

    /// Reads `CxR`, such as `8x4`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || format!("{text:?} is not COLUMNSxROWS, such as 8x4");
        let (columns, rows) = text.trim().split_once(['x', 'X']).ok_or_else(wrong)?;
        let number = |text: &str| text.trim().parse().map_err(|_| wrong());
        [number(columns)?, number(rows)?].try_into()
    }
}

impl fmt::Display for Tiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.columns, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Every pixel of the image is in the tile and at the place that its coordinates say.
        #[test]
        fn tiles_hold_the_pixels_of_their_place(columns in 1usize..5, rows in 1usize..5, height in 1usize..5, width in 1usize..5) {
            let tiles = Tiles::try_from([columns, rows]).unwrap();
            let [all_rows, all_columns] = tiles.whole([height, width]);
            let image: Vec<f32> = (0..2 * all_rows * all_columns).map(|value| value as f32).collect();
            let mut tile = vec![0.0; 2 * height * width];
            for number in 0..tiles.count() {
                tiles.cut(&image, number, [height, width], &mut tile);
                for (index, value) in tile.iter().enumerate() {
                    let (channel, y, x) = (index / (height * width), index / width % height, index % width);
                    let (y, x) = (number / columns * height + y, number % columns * width + x);
                    prop_assert_eq!(*value, image[(channel * all_rows + y) * all_columns + x]);
                }
            }
        }
    }

    #[test]
    fn text_says_columns_first() {
        let tiles: Tiles = "8x4".parse().unwrap();
        assert_eq!(
            (tiles.columns(), tiles.rows(), tiles.to_string()),
            (8, 4, "8x4".into())
        );
        for wrong in ["", "8", "8x", "x4", "0x1", "65x1", "-1x2", "2x2x2"] {
            assert!(wrong.parse::<Tiles>().is_err(), "{wrong}");
        }
    }
}
