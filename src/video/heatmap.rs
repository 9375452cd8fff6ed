//! Heatmaps on pictures from files, drawn by the element's own overlay.

use crate::video::frame::WritableFrame;
use crate::video::overlay::{MapView, Overlay, Style};
use anyhow::Context as _;
use gst_video::{VideoFormat, VideoFrameFlags, VideoInfo, VideoMeta};
use image::RgbImage;

/// The picture with its heatmap, coloured relative to `threshold`. GStreamer has to be initialised.
pub fn draw(
    overlay: &mut Overlay,
    picture: RgbImage,
    map: MapView<'_>,
    threshold: f32,
) -> anyhow::Result<RgbImage> {
    let (width, height) = picture.dimensions();
    let info = VideoInfo::builder(VideoFormat::Rgb, width, height).build()?;
    let stride = i32::try_from(3 * u64::from(width)).context("the picture is too wide")?;
    let mut buffer = gst::Buffer::from_mut_slice(picture.into_raw());
    let writable = buffer.get_mut().context("a new buffer is not shared")?;
    // Rows without padding, whatever the width.
    let (flags, format) = (VideoFrameFlags::empty(), VideoFormat::Rgb);
    VideoMeta::add_full(writable, flags, format, width, height, &[0], &[stride])?;
    let mut frame = WritableFrame::map(writable, &info)?;
    overlay.draw(&mut frame, map, threshold, Style::Heatmap);
    drop(frame);
    let pixels = buffer.map_readable()?.to_vec();
    RgbImage::from_raw(width, height, pixels).context("a picture of another size")
}
