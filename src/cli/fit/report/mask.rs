//! The mask that leaves out the place in which the images that set the threshold are unusual.

use crate::cli::fit::said;
use crate::detector::Cluster;
use crate::detector::model_file::Metadata;
use crate::geometry::Size;
use image::{GrayImage, ImageFormat, Luma};
use std::io::Cursor;

/// No side of the picture is longer, however small a part of the frame is inspected.
const LONGEST: f32 = 4096.0;
/// Longer side as the page shows it, in pixels.
const SHOWN: u32 = 320;

/// As the template shows it.
pub struct Mask {
    /// What it is for.
    pub said: String,
    /// The PNG, in an address.
    pub url: String,
    /// Size in the page.
    pub width: u32,
    pub height: u32,
}

impl Mask {
    /// # Errors
    /// The picture cannot be written.
    pub fn new(cluster: &Cluster, metadata: &Metadata) -> anyhow::Result<Self> {
        let picture = picture(cluster, metadata);
        let mut png = Cursor::new(Vec::new());
        picture.write_to(&mut png, ImageFormat::Png)?;
        let (width, height) = picture.dimensions();
        let longer = width.max(height);
        let shown = |side: u32| (side * SHOWN / longer).max(1);
        Ok(Self {
            said: said::place(cluster),
            url: format!(
                "data:image/png;base64,{}",
                glib::base64_encode(png.get_ref())
            ),
            width: shown(width),
            height: shown(height),
        })
    }
}

/// The whole frame, as `--mask` takes it, at the resolution of the image tensor: white where it is judged or nobody looks.
fn picture(
    cluster: &Cluster,
    Metadata {
        input_size, roi, ..
    }: &Metadata,
) -> GrayImage {
    let side =
        |pixels: usize, share: f32| (pixels as f32 / share).round().clamp(1.0, LONGEST) as u32;
    let (width, height) = (
        side(input_size.width, roi.width),
        side(input_size.height, roi.height),
    );
    let Size {
        height: rows,
        width: columns,
    } = cluster.grid;
    // The patch at a pixel, where it is in the inspected part.
    let patch = |pixel: u32, pixels: u32, from: f32, length: f32, patches: usize| {
        let place = ((pixel as f32 + 0.5) / pixels as f32 - from) / length;
        (0.0..1.0)
            .contains(&place)
            .then_some((place * patches as f32) as usize)
    };
    GrayImage::from_fn(width, height, |x, y| {
        let row = patch(y, height, roi.y, roi.height, rows);
        let column = patch(x, width, roi.x, roi.width, columns);
        let judged = row.zip(column).is_none_or(|(row, column)| {
            let judged = cluster.judged.get(row * columns + column);
            judged.copied().unwrap_or(true)
        });
        Luma([if judged { 255 } else { 0 }])
    })
}
