//! Sizes, regions and grids: the values that say where and how large, read, checked and shown in one way.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is wrong with a size, region or grid.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum GeometryError {
    #[error("{0:?} is not x,y,w,h, four numbers in 0..1")]
    RoiText(String),
    #[error("{0} does not lie in 0..1, or is empty")]
    RoiOutside(Roi),
    #[error("{0:?} is not COLUMNSxROWS, such as 8x4")]
    GridText(String),
    #[error("{columns}x{rows} tiles are not 1 to {MOST_TILES} each way")]
    GridRange { columns: usize, rows: usize },
    #[error("an image of {size} cannot be cut into {grid} tiles")]
    Indivisible { size: Size, grid: Grid },
}

/// Height and width of an image, a map or a patch grid. Files hold it as `[height, width]`; people read `WIDTHxHEIGHT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(from = "[usize; 2]", into = "[usize; 2]")]
pub struct Size {
    pub height: usize,
    pub width: usize,
}

impl Size {
    pub const fn new(height: usize, width: usize) -> Self {
        Self { height, width }
    }

    pub const fn square(side: usize) -> Self {
        Self::new(side, side)
    }

    /// Number of pixels.
    pub const fn area(self) -> usize {
        self.height * self.width
    }

    /// The same with both sides changed alike.
    pub fn map(self, side: impl Fn(usize) -> usize) -> Self {
        Self::new(side(self.height), side(self.width))
    }
}

impl From<[usize; 2]> for Size {
    fn from([height, width]: [usize; 2]) -> Self {
        Self { height, width }
    }
}

impl From<Size> for [usize; 2] {
    fn from(size: Size) -> Self {
        [size.height, size.width]
    }
}

impl From<(usize, usize)> for Size {
    fn from((height, width): (usize, usize)) -> Self {
        Self { height, width }
    }
}

impl From<Size> for (usize, usize) {
    fn from(size: Size) -> Self {
        (size.height, size.width)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Region of interest: a part of the frame in 0..1 of its width and height, or of a map in the same units.
///
/// Properties and options give it as `x,y,w,h`, files hold it as `[x, y, width, height]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "[f32; 4]", into = "[f32; 4]")]
pub struct Roi {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

impl Roi {
    /// All of the frame.
    pub const WHOLE: Self = Self::new(0.0, 0.0, 1.0, 1.0);

    /// Not yet checked: see [`Roi::check`].
    pub const fn new(x: f32, y: f32, width: f32, height: f32) -> Self {
        Self {
            x,
            y,
            width,
            height,
        }
    }

    /// Whether it lies in the unit square and holds an area.
    ///
    /// # Errors
    /// [`GeometryError::RoiOutside`]; so for what is not a number.
    pub fn check(self) -> Result<Self, GeometryError> {
        let inside = self.x >= 0.0
            && self.y >= 0.0
            && self.width > 0.0
            && self.height > 0.0
            && self.x + self.width <= 1.0 + 1e-6
            && self.y + self.height <= 1.0 + 1e-6;
        match inside {
            true => Ok(self),
            false => Err(GeometryError::RoiOutside(self)),
        }
    }

    /// A part of this region, given in 0..1 of it, in the frame's own coordinates.
    pub fn part(self, x: f32, y: f32, width: f32, height: f32) -> Self {
        Self {
            x: self.x + x * self.width,
            y: self.y + y * self.height,
            width: width * self.width,
            height: height * self.height,
        }
    }
}

impl Default for Roi {
    fn default() -> Self {
        Self::WHOLE
    }
}

impl From<[f32; 4]> for Roi {
    fn from([x, y, width, height]: [f32; 4]) -> Self {
        Self::new(x, y, width, height)
    }
}

impl From<Roi> for [f32; 4] {
    fn from(roi: Roi) -> Self {
        [roi.x, roi.y, roi.width, roi.height]
    }
}

impl FromStr for Roi {
    type Err = GeometryError;

    /// Reads and checks `x,y,w,h`.
    fn from_str(text: &str) -> Result<Self, GeometryError> {
        let numbers: Option<Vec<f32>> = text
            .split(',')
            .map(|part| part.trim().parse().ok())
            .collect();
        let roi = numbers.and_then(|numbers| <[f32; 4]>::try_from(numbers).ok());
        let roi = roi.ok_or_else(|| GeometryError::RoiText(text.into()))?;
        Self::from(roi).check()
    }
}

impl fmt::Display for Roi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{},{}", self.x, self.y, self.width, self.height)
    }
}

/// What size image tensors have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Input {
    /// The same for all frames, which are stretched to it.
    Fixed(Size),
    /// As the inspected part of the frame: parts are looked for in it, and have to have the same scale whatever part of the frame is
    /// inspected, and however many pixels the camera has.
    Scene {
        /// The longer side, where this part of a frame of this size is inspected (`None`: of any size).
        longest: usize,
        roi: Roi,
        frame: Option<Size>,
    },
}

impl Input {
    /// The tensor's size for the inspected part of a frame of this size.
    pub fn of(self, frame: Size, roi: Roi) -> Size {
        match self {
            Self::Fixed(size) => size,
            Self::Scene {
                longest,
                roi: learnt_roi,
                frame: learnt,
            } => {
                let sides = |frame: Size, roi: Roi| {
                    // Cameras that show the same have longer sides that show the same.
                    let unit = frame.width.max(frame.height).max(1) as f32;
                    (
                        roi.width * frame.width as f32 / unit,
                        roi.height * frame.height as f32 / unit,
                    )
                };
                let (width, height) = sides(learnt.unwrap_or(frame), learnt_roi);
                let scale = longest as f32 / width.max(height).max(1e-3);
                let (width, height) = sides(frame, roi);
                let side =
                    |length: f32| ((length * scale).round() as usize).clamp(8, LARGEST_SCENE);
                Size::new(side(height), side(width))
            }
        }
    }
}

/// No scene has longer sides.
const LARGEST_SCENE: usize = 4096;

/// More tiles than this in one direction are a mistake.
const MOST_TILES: usize = 64;

/// Columns and rows of the tiles that an image is cut into; [`Grid::ONE`] is the whole image in one.
///
/// Properties and options give it as `CxR`, files hold it as `[columns, rows]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "[usize; 2]", into = "[usize; 2]")]
pub struct Grid {
    columns: usize,
    rows: usize,
}

impl Grid {
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

    /// Number of tiles.
    pub fn count(self) -> usize {
        self.columns * self.rows
    }

    /// Size of an image of tiles of this size.
    pub fn whole(self, tile: Size) -> Size {
        Size::new(tile.height * self.rows, tile.width * self.columns)
    }

    /// Size of a tile of an image of this size, which has to be a multiple.
    ///
    /// # Errors
    /// [`GeometryError::Indivisible`].
    pub fn tile(self, whole: Size) -> Result<Size, GeometryError> {
        if whole.height.is_multiple_of(self.rows) && whole.width.is_multiple_of(self.columns) {
            Ok(Size::new(
                whole.height / self.rows,
                whole.width / self.columns,
            ))
        } else {
            Err(GeometryError::Indivisible {
                size: whole,
                grid: self,
            })
        }
    }
}

impl TryFrom<[usize; 2]> for Grid {
    type Error = GeometryError;

    fn try_from([columns, rows]: [usize; 2]) -> Result<Self, GeometryError> {
        if (1..=MOST_TILES).contains(&columns) && (1..=MOST_TILES).contains(&rows) {
            Ok(Self { columns, rows })
        } else {
            Err(GeometryError::GridRange { columns, rows })
        }
    }
}

impl From<Grid> for [usize; 2] {
    fn from(grid: Grid) -> Self {
        [grid.columns, grid.rows]
    }
}

impl FromStr for Grid {
    type Err = GeometryError;

    /// Reads `CxR`, such as `8x4`.
    fn from_str(text: &str) -> Result<Self, GeometryError> {
        let wrong = || GeometryError::GridText(text.into());
        let (columns, rows) = text.trim().split_once(['x', 'X']).ok_or_else(wrong)?;
        let number = |text: &str| text.trim().parse().map_err(|_| wrong());
        [number(columns)?, number(rows)?].try_into()
    }
}

impl fmt::Display for Grid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.columns, self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What is shown is read back as the same value, and what a file holds as well.
        #[test]
        fn values_survive_text_and_file(columns in 1usize..=64, rows in 1usize..=64, x in 0.0f32..0.5, y in 0.0f32..0.5, w in 0.01f32..0.5, h in 0.01f32..0.5) {
            let grid = Grid::try_from([columns, rows]).unwrap();
            prop_assert_eq!(grid.to_string().parse::<Grid>().unwrap(), grid);
            let roi = Roi::new(x, y, w, h);
            prop_assert_eq!(roi.to_string().parse::<Roi>().unwrap(), roi);
            let json = serde_json::to_string(&(roi, grid, Size::new(rows, columns))).unwrap();
            prop_assert_eq!(serde_json::from_str::<(Roi, Grid, Size)>(&json).unwrap(), (roi, grid, Size::new(rows, columns)));
            let end = format!("[{columns},{rows}],[{rows},{columns}]]");
            prop_assert!(json.ends_with(&end), "{}", json);
        }
    }

    #[test]
    fn a_part_has_the_same_scale_in_any_region_and_camera_mode() {
        let learnt = Input::Scene {
            longest: 500,
            roi: Roi::new(0.0, 0.0, 0.5, 0.5),
            frame: Some(Size::new(1000, 2000)),
        };
        let half = Roi::new(0.25, 0.5, 0.5, 0.5);
        assert_eq!(learnt.of(Size::new(1000, 2000), half), Size::new(250, 500));
        assert_eq!(learnt.of(Size::new(500, 1000), half), Size::new(250, 500));
        let whole = learnt.of(Size::new(1000, 2000), Roi::WHOLE);
        assert_eq!(whole, Size::new(500, 1000));
        let strip = learnt.of(Size::new(1000, 2000), Roi::new(0.0, 0.0, 0.05, 1.0));
        assert_eq!(strip, Size::new(500, 50));
        let one = Input::Scene {
            longest: 300,
            roi: Roi::WHOLE,
            frame: None,
        };
        assert_eq!(one.of(Size::new(30, 40), Roi::WHOLE), Size::new(225, 300));
        assert_eq!(one.of(Size::new(1, 9000), Roi::WHOLE), Size::new(8, 300));
    }

    #[test]
    fn grids_say_columns_first() {
        let grid: Grid = "8x4".parse().unwrap();
        assert_eq!(
            (grid.columns(), grid.rows(), grid.to_string()),
            (8, 4, "8x4".into())
        );
        for wrong in ["", "8", "8x", "x4", "0x1", "65x1", "-1x2", "2x2x2"] {
            assert!(wrong.parse::<Grid>().is_err(), "{wrong}");
        }
        assert_eq!(grid.whole(Size::square(10)), Size::new(40, 80));
        assert_eq!(grid.tile(Size::new(40, 80)).unwrap(), Size::square(10));
        let error = grid.tile(Size::new(41, 80)).unwrap_err().to_string();
        assert_eq!(error, "an image of 80x41 cannot be cut into 8x4 tiles");
    }

    #[test]
    fn regions_outside_of_the_frame_are_refused() {
        for wrong in [
            "",
            "1,2,3",
            "a,b,c,d",
            "0,0,0,1",
            "-0.1,0,1,1",
            "0.6,0,0.5,1",
            "0,0,1,NaN",
            "0,0,1,inf",
        ] {
            assert!(wrong.parse::<Roi>().is_err(), "{wrong}");
        }
        let part = Roi::new(0.5, 0.0, 0.5, 1.0).part(0.5, 0.25, 0.5, 0.5);
        assert_eq!(part, Roi::new(0.75, 0.25, 0.25, 0.5));
    }
}
