//! A picture that says where a part is judged: what is white in it is, what is black nobody wants to know of.

use crate::geometry::{Roi, Size};
use ndarray::Array2;
use std::io;
use std::path::{Path, PathBuf};

/// Brighter than this is white.
const WHITE: u8 = 127;

/// Why a file is no mask.
#[derive(Debug, thiserror::Error)]
#[error("the mask {}", path.display())]
pub struct MaskError {
    path: PathBuf,
    #[source]
    source: Why,
}

#[derive(Debug, thiserror::Error)]
enum Why {
    #[error("cannot be read")]
    Read(#[from] io::Error),
    #[error("is no PNG")]
    Decode(#[from] image::ImageError),
    #[error("is black all over: nothing would be judged")]
    Black,
}

/// Reads a PNG of any size that lies on the whole frame, and gives what of the part `roi` is judged, at `size`, by the nearest pixel.
///
/// # Errors
/// A file that cannot be read, that is no PNG, or that is black where it matters.
pub fn read(path: &Path, size: Size, roi: Roi) -> Result<Array2<bool>, MaskError> {
    let read = || -> Result<Array2<bool>, Why> {
        let bytes = std::fs::read(path)?;
        let mask =
            image::load_from_memory_with_format(&bytes, image::ImageFormat::Png)?.into_luma8();
        let at = |index: usize, count: usize, from: f32, length: f32, full: u32| {
            let place = f64::from(from) + (index as f64 + 0.5) / count as f64 * f64::from(length);
            ((place * f64::from(full)) as u32).min(full - 1)
        };
        let judged = Array2::from_shape_fn((size.height, size.width), |(row, column)| {
            let x = at(column, size.width, roi.x, roi.width, mask.width());
            let y = at(row, size.height, roi.y, roi.height, mask.height());
            mask.get_pixel(x, y).0[0] > WHITE
        });
        match judged.iter().any(|judged| *judged) {
            true => Ok(judged),
            false => Err(Why::Black),
        }
    };
    read().map_err(|source| MaskError {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_is_judged_wherever_the_mask_is_scaled_to() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mask.png");
        // The left half, in a picture twice as wide as high.
        image::GrayImage::from_fn(40, 20, |x, _| image::Luma([if x < 20 { 255 } else { 0 }]))
            .save(&path)
            .unwrap();
        let judged = read(&path, Size::new(8, 8), Roi::WHOLE).unwrap();
        assert!(
            judged
                .indexed_iter()
                .all(|((_, x), judged)| *judged == (x < 4))
        );
        let roi: Roi = "0.25,0,0.5,1".parse().unwrap();
        let judged = read(&path, Size::new(2, 4), roi).unwrap();
        assert!(
            judged
                .indexed_iter()
                .all(|((_, x), judged)| *judged == (x < 2))
        );
        let roi: Roi = "0.6,0,0.4,1".parse().unwrap();
        let error = read(&path, Size::new(4, 4), roi).unwrap_err();
        assert!(
            crate::detector::error::Chain(&error)
                .to_string()
                .contains("black"),
            "{error}"
        );
        std::fs::write(&path, b"text").unwrap();
        let error =
            crate::detector::error::Chain(&read(&path, Size::new(4, 4), Roi::WHOLE).unwrap_err())
                .to_string();
        assert!(
            error.contains("mask.png") && error.contains("no PNG"),
            "{error}"
        );
    }
}
