//! Heatmaps on pictures from files, drawn by the element's own overlay.

use crate::geometry::Size;
use crate::video::overlay::{MapView, Overlay, Style};
use image::RgbImage;

/// GStreamer does not take the picture as a video frame.
#[derive(Debug, thiserror::Error)]
#[error("no heatmap can be drawn on an RGB picture of {size}")]
pub struct HeatmapError {
    pub size: Size,
    pub source: glib::BoolError,
}

/// The picture with its heatmap, coloured relative to `threshold`. GStreamer has to be initialised.
///
/// # Errors
/// [`HeatmapError`]; the picture is lost.
pub fn draw(
    overlay: &mut Overlay,
    picture: RgbImage,
    map: MapView<'_>,
    threshold: f32,
) -> Result<RgbImage, HeatmapError> {
    let (width, height) = picture.dimensions();
    draw_in_frame(overlay, picture, map, threshold).map_err(|source| HeatmapError {
        size: Size::new(height as usize, width as usize),
        source,
    })
}

fn draw_in_frame(
    overlay: &mut Overlay,
    picture: RgbImage,
    map: MapView<'_>,
    threshold: f32,
) -> Result<RgbImage, glib::BoolError> {
    let (width, height) = picture.dimensions();
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
        .stride(&[width as i32 * 3])
        .build()?;
    let mut buffer = gst::Buffer::from_mut_slice(picture.into_raw());
    let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer.make_mut(), &info)?;
    overlay.draw(&mut frame, map, threshold, Style::Heatmap);
    RgbImage::from_raw(width, height, frame.plane_data(0)?.to_vec())
        .ok_or_else(|| glib::bool_error!("The frame holds fewer bytes than its size"))
}
