//! An incident's worst frame as a picture, with the heatmap.

use crate::geometry::Size;
use crate::video::frame::{FrameError, ReadableFrame};
use crate::video::heatmap::{self, HeatmapError};
use crate::video::meta::ResultMap;
use crate::video::overlay::{MapView, Overlay};
use crate::video::picture;
use gst_video::{VideoFormat, VideoInfo};
use image::RgbImage;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;

/// A raw frame as it came, held until its incident is complete, without a copy.
pub struct HeldFrame {
    pub buffer: gst::Buffer,
    pub info: VideoInfo,
    /// The map is on it already.
    pub drawn: bool,
    pub map: Option<ResultMap>,
    /// One of the references that count the frames held.
    pub _held: Arc<()>,
}

/// A frame that does not become a picture.
#[derive(Debug, thiserror::Error)]
#[error("the frame of {size} in {format}")]
pub struct PictureError {
    pub size: Size,
    pub format: VideoFormat,
    pub source: PictureErrorKind,
}

#[derive(Debug, thiserror::Error)]
pub enum PictureErrorKind {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it cannot be made RGB")]
    Convert(#[source] Box<dyn Error + Send + Sync>),
    #[error("its anomaly map is of another size than it says")]
    Map,
    #[error(transparent)]
    Heatmap(#[from] HeatmapError),
    #[error("it cannot be written")]
    Write(#[from] image::ImageError),
}

impl HeldFrame {
    /// Writes the frame with its heatmap, coloured relative to `threshold`, in the format that the path's extension names.
    ///
    /// # Errors
    /// What has stopped that, with the frame's size and format.
    pub fn save(&self, path: &Path, threshold: f64) -> Result<(), PictureError> {
        self.picture(threshold)
            .and_then(|picture| Ok(picture.save(path)?))
            .map_err(|source| PictureError {
                size: Size::new(self.info.height() as usize, self.info.width() as usize),
                format: self.info.format(),
                source,
            })
    }

    fn picture(&self, threshold: f64) -> Result<RgbImage, PictureErrorKind> {
        let frame = ReadableFrame::map(&self.buffer, &self.info)?;
        let mut picture = picture::rgb(&frame).map_err(PictureErrorKind::Convert)?;
        // On a grey frame the map is there in grey: in colour it is easier to see.
        let draws = !self.drawn || self.info.is_gray();
        if let Some(map) = self.map.as_ref().filter(|_| draws) {
            let values = map.to_array().ok_or(PictureErrorKind::Map)?;
            let view = MapView {
                values: values.view(),
                roi: map.roi,
            };
            picture = heatmap::draw(&mut Overlay::new(), picture, view, threshold as f32)?;
        }
        Ok(picture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::error::Chain;
    use gst_video::{VideoFrameFlags, VideoInterlaceMode, VideoMeta};

    fn frame(buffer: gst::Buffer, info: VideoInfo) -> HeldFrame {
        HeldFrame {
            buffer,
            info,
            drawn: false,
            map: None,
            _held: Arc::new(()),
        }
    }

    /// Widths that pad the rows, two fields in one frame, and metas of more rows than the caps have.
    #[test]
    fn frames_of_any_size_become_pictures() {
        gst::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("incident.png");
        let progressive = VideoInterlaceMode::Progressive;
        for (width, height, mode, taller) in [
            (854, 480, progressive, None),
            (33, 7, progressive, None),
            (33, 7, progressive, Some(8)),
            (320, 240, VideoInterlaceMode::Interleaved, None),
            (320, 240, VideoInterlaceMode::Mixed, Some(100_000)),
        ] {
            let info = VideoInfo::builder(VideoFormat::Gray8, width, height)
                .interlace_mode(mode)
                .build()
                .unwrap();
            let mut grey = vec![0; info.size()];
            let row = info.stride()[0] as usize;
            let shade = |x: u32, y: u32| (7 * x + 3 * y) as u8;
            for (y, row) in (0..height).zip(grey.chunks_mut(row)) {
                for (x, value) in (0..width).zip(row) {
                    *value = shade(x, y);
                }
            }
            let mut buffer = gst::Buffer::from_mut_slice(grey);
            if let Some(rows) = taller {
                let (inner, flags) = (buffer.make_mut(), VideoFrameFlags::empty());
                let (format, rows) = (VideoFormat::Gray8, height + rows);
                VideoMeta::add_full(inner, flags, format, width, rows, &[0], info.stride())
                    .unwrap();
            }
            let frame = frame(buffer, info);
            frame.save(&path, 1.0).unwrap();
            let picture = image::open(&path).unwrap().into_rgb8();
            assert_eq!(picture.dimensions(), (width, height));
            for (x, y, image::Rgb(pixel)) in picture.enumerate_pixels() {
                let near = |value: &u8| value.abs_diff(shade(x, y)) <= 2;
                assert!(pixel.iter().all(near), "{x},{y}: {pixel:?}");
            }
        }
    }

    #[test]
    fn a_frame_that_makes_no_picture_is_told_with_its_size_and_format() {
        gst::init().unwrap();
        let info = VideoInfo::builder(VideoFormat::Nv12, 320, 240);
        // As of a camera that breaks off.
        let frame = frame(gst::Buffer::with_size(100).unwrap(), info.build().unwrap());
        let error = frame.save(Path::new("incident.png"), 1.0).unwrap_err();
        assert_eq!(
            Chain(&error).to_string(),
            "the frame of 320x240 in NV12: the buffer of 100 bytes cannot be mapped as NV12 320x240"
        );
        assert!(!Path::new("incident.png").exists());
    }
}
