//! Heatmaps on pictures from files, drawn by the element's own overlay.

use crate::video::overlay::{MapView, Overlay, Style};
use anyhow::Context as _;
use image::RgbImage;

/// The picture with its heatmap, coloured relative to `threshold`. GStreamer has to be initialised.
pub fn draw(
    overlay: &mut Overlay,
    picture: RgbImage,
    map: MapView<'_>,
    threshold: f32,
) -> anyhow::Result<RgbImage> {
    let (width, height) = picture.dimensions();
    let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
        .stride(&[width as i32 * 3])
        .build()?;
    let mut buffer = gst::Buffer::from_mut_slice(picture.into_raw());
    let buffer = buffer.get_mut().context("a new buffer is not shared")?;
    let mut frame = gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &info)?;
    overlay.draw(&mut frame, map, threshold, Style::Heatmap);
    RgbImage::from_raw(width, height, frame.plane_data(0)?.to_vec())
        .context("a frame of another size")
}
