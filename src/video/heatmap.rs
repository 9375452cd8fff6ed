//! Heatmaps on pictures from files, drawn by the element's own overlay.

use crate::geometry::Size;
use crate::video::frame::WritableFrame;
use crate::video::overlay::{MapView, Overlay, Style};
use gst_video::{VideoFormat, VideoFrameFlags, VideoInfo, VideoMeta};
use image::RgbImage;
use std::error::Error;

/// GStreamer does not take the picture as a video frame.
#[derive(Debug, thiserror::Error)]
#[error("no heatmap can be drawn on an RGB picture of {size}")]
pub struct HeatmapError {
    pub size: Size,
    pub source: Box<dyn Error + Send + Sync>,
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
) -> Result<RgbImage, Box<dyn Error + Send + Sync>> {
    let (width, height) = picture.dimensions();
    let info = VideoInfo::builder(VideoFormat::Rgb, width, height).build()?;
    let stride = i32::try_from(3 * u64::from(width))?;
    let mut buffer = gst::Buffer::from_mut_slice(picture.into_raw());
    let writable = buffer.make_mut();
    // Rows without padding, whatever the width.
    let (flags, format) = (VideoFrameFlags::empty(), VideoFormat::Rgb);
    VideoMeta::add_full(writable, flags, format, width, height, &[0], &[stride])?;
    let mut frame = WritableFrame::map(writable, &info)?;
    overlay.draw(&mut frame, map, threshold, Style::Heatmap);
    drop(frame);
    let pixels = buffer.map_readable()?.to_vec();
    Ok(RgbImage::from_raw(width, height, pixels).ok_or("the frame has another size")?)
}
