//! An incident's worst frame as a picture, with the heatmap.

use crate::geometry::Size;
use crate::video::frame::{FrameError, ReadableFrame};
use crate::video::heatmap::{self, HeatmapError};
use crate::video::meta::ResultMap;
use crate::video::overlay::{MapView, Overlay};
use crate::video::picture;
use gst_video::{VideoFormat, VideoInfo};
use image::RgbImage;
use image::codecs::png::PngEncoder;
use std::error::Error;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most raw frames that may be held for pictures, in number and in bytes: more would take the camera's buffers, or the memory.
const HELD: usize = 40;
pub const HELD_BYTES: usize = 256 << 20;

/// How much raw frames that are held take.
#[derive(Debug, Default)]
pub struct Budget {
    frames: AtomicUsize,
    bytes: AtomicUsize,
}

/// A raw frame's share of it, given back when dropped.
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// A share of so many bytes, where there is room. One alone may take more. Asked for by one thread at a time.
    pub fn share(self: &Arc<Self>, bytes: usize) -> Option<Share> {
        let frames = self.frames.load(Ordering::Acquire);
        let held = self.bytes.load(Ordering::Acquire);
        let room = frames == 0 || (frames < HELD && held + bytes <= HELD_BYTES);
        room.then(|| {
            self.frames.fetch_add(1, Ordering::AcqRel);
            self.bytes.fetch_add(bytes, Ordering::AcqRel);
            Share {
                budget: self.clone(),
                bytes,
            }
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.frames.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A raw frame as it came, held until its incident is complete, without a copy.
pub struct HeldFrame {
    pub buffer: gst::Buffer,
    pub info: VideoInfo,
    /// The map is on it already.
    pub drawn: bool,
    pub map: Option<ResultMap>,
    pub _share: Share,
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
    Encode(#[from] image::ImageError),
    #[error("it cannot be written")]
    Write(#[from] io::Error),
}

impl HeldFrame {
    /// Writes the frame with its heatmap, coloured relative to `threshold`, as a PNG.
    ///
    /// # Errors
    /// What has stopped that.
    pub fn save(&self, path: &Path, threshold: f64) -> Result<(), PictureError> {
        self.picture(threshold)
            .and_then(|picture| {
                let mut file = BufWriter::new(File::create(path)?);
                let encoder = PngEncoder::new(&mut file);
                picture.write_with_encoder(encoder)?;
                Ok(file.flush()?)
            })
            .map_err(|source| self.error(source))
    }

    /// What has stopped the picture, with the frame's size and format.
    pub fn error(&self, source: PictureErrorKind) -> PictureError {
        PictureError {
            size: Size::new(self.info.height() as usize, self.info.width() as usize),
            format: self.info.format(),
            source,
        }
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
            _share: Arc::new(Budget::default()).share(0).unwrap(),
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
