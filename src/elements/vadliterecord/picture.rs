//! An incident's worst frame as a picture, with the heatmap.

use crate::video::heatmap;
use crate::video::meta::ResultMap;
use crate::video::overlay::{MapView, Overlay};
use anyhow::Context as _;
use image::RgbImage;
use std::path::Path;
use std::sync::Arc;

/// A frame as it came, kept without copying it.
pub struct Frame {
    pub buffer: gst::Buffer,
    pub info: gst_video::VideoInfo,
    pub threshold: f64,
    /// The map is on it already.
    pub drawn: bool,
    pub map: Option<ResultMap>,
    /// Counts the frames that are held.
    pub _held: Arc<()>,
}

impl Frame {
    /// Writes the frame as PNG.
    ///
    /// # Errors
    /// What has stopped that.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let (width, height) = (self.info.width(), self.info.height());
        let info = gst_video::VideoInfo::builder(gst_video::VideoFormat::Rgb, width, height)
            .stride(&[width as i32 * 3])
            .fps(self.info.fps())
            .build()?;
        let converter = gst_video::VideoConverter::new(&self.info, &info, None)?;
        let mut rgb = gst::Buffer::with_size(width as usize * height as usize * 3)?;
        {
            let from =
                gst_video::VideoFrameRef::from_buffer_ref_readable(&self.buffer, &self.info)?;
            let rgb = rgb.get_mut().context("a new buffer is not shared")?;
            let mut to = gst_video::VideoFrameRef::from_buffer_ref_writable(rgb, &info)?;
            converter.frame_ref(&from, &mut to);
        }
        let pixels = rgb.map_readable()?.to_vec();
        let mut picture =
            RgbImage::from_raw(width, height, pixels).context("a frame of another size")?;
        // On a grey frame the map is there in grey: in colour it is easier to see.
        let draws = !self.drawn || self.info.is_gray();
        if let Some(map) = self.map.as_ref().filter(|_| draws) {
            let values = map.to_array().context("a map of another size")?;
            let view = MapView {
                values: values.view(),
                roi: map.roi,
            };
            picture = heatmap::draw(&mut Overlay::new(), picture, view, self.threshold as f32)?;
        }
        picture.save(path)?;
        Ok(())
    }
}
