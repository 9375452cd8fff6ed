//! Buffers as frames: the one place that maps them, and that finds out whether their planes lie in the memory that was mapped.
//!
//! A buffer's `GstVideoMeta` says where its rows are, and mapping does not check it: one that says more than the memory holds would have
//! the process read or write what is not its own. Planes are handed out at the negotiated size, whatever size the meta has.

use super::formats;
use super::preprocess::{Layout, Plane, PlaneError, Preprocess, Target};
use gst_video::ffi::GST_VIDEO_MAX_PLANES;
use gst_video::prelude::*;
use gst_video::{
    VideoFormat, VideoFormatFlags, VideoFrameRef, VideoInfo, VideoInterlaceMode, VideoMeta,
};
use ndarray::ArrayViewMut3;

const PLANES: usize = GST_VIDEO_MAX_PLANES as usize;

/// Why a buffer is no frame of the negotiated format.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum FrameError {
    /// Of no size, or with tiles or a palette in place of rows of pixels.
    #[error("frames of {format} {width}x{height} are no rows of pixels")]
    Rows {
        format: String,
        width: u32,
        height: u32,
    },
    /// Too small where it has no meta, or memory that the processor does not reach.
    #[error("the buffer of {bytes} bytes cannot be mapped as {format} {width}x{height}")]
    Unmapped {
        bytes: usize,
        format: String,
        width: u32,
        height: u32,
    },
    #[error("the buffer's video meta is {found}, and the caps are {caps}")]
    Meta { found: String, caps: String },
    /// Less than a row, or negative: rows from the bottom upwards.
    #[error("plane {plane} has a stride of {stride} bytes, and a row needs {row}")]
    Stride {
        plane: usize,
        stride: i32,
        row: usize,
    },
    #[error(
        "plane {plane} of {format} {width}x{height} needs {needed} bytes of the buffer's memory, which has {bytes} there"
    )]
    Outside {
        plane: usize,
        format: String,
        width: u32,
        height: u32,
        needed: usize,
        bytes: usize,
    },
    #[error(transparent)]
    Planes(#[from] PlaneError),
}

/// The negotiated format of a stream's frames.
#[derive(Debug, Clone)]
pub struct FrameFormat {
    info: VideoInfo,
    layout: Layout,
}

impl FrameFormat {
    /// `None` for a format that is not in [`FORMATS`](formats::FORMATS), or a frame without pixels.
    pub fn new(info: VideoInfo) -> Option<Self> {
        let layout = Layout::from_info(&info)?;
        Some(Self { info, layout })
    }

    /// Size in pixels.
    pub fn size(&self) -> crate::geometry::Size {
        crate::geometry::Size::new(self.info.height() as usize, self.info.width() as usize)
    }

    /// What makes image tensors like `target` of such frames.
    pub fn preprocess(&self, target: Target) -> Preprocess {
        Preprocess::new(self.layout.clone(), target)
    }

    /// The frame in a buffer, to be read.
    ///
    /// # Errors
    /// The buffer is no such frame.
    pub fn read<'a>(&'a self, buffer: &'a gst::BufferRef) -> Result<ReadableFrame<'a>, FrameError> {
        ReadableFrame::map(buffer, &self.info)
    }

    /// The frame in a buffer, to be drawn into. Memory that others share is copied first.
    ///
    /// # Errors
    /// The buffer is no such frame.
    pub fn write<'a>(
        &'a self,
        buffer: &'a mut gst::BufferRef,
    ) -> Result<WritableFrame<'a>, FrameError> {
        WritableFrame::map(buffer, &self.info)
    }
}

/// A buffer mapped as a frame whose planes all lie in the buffer's memory.
pub struct MappedFrame<'a, B> {
    frame: VideoFrameRef<B>,
    info: &'a VideoInfo,
    planes: [Extent; PLANES],
}

/// What a plane takes at the negotiated size; once a frame is mapped, what has been found in its memory.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    rows: usize,
    /// Bytes of a row up to its last sample, and from one row to the next.
    row: usize,
    stride: usize,
}

impl Extent {
    /// From the first to the last sample. The last row need not be as long as the stride: a frame that was cropped in place ends before.
    fn bytes(&self) -> usize {
        let others = self.rows.saturating_sub(1);
        self.stride.saturating_mul(others).saturating_add(self.row)
    }
}

pub type ReadableFrame<'a> = MappedFrame<'a, &'a gst::BufferRef>;
pub type WritableFrame<'a> = MappedFrame<'a, &'a mut gst::BufferRef>;

/// One plane to draw into: its bytes from the first to the last sample, and the distance of rows in bytes.
#[derive(Debug)]
pub struct PlaneMut<'a> {
    pub data: &'a mut [u8],
    pub stride: usize,
}

impl<'a> ReadableFrame<'a> {
    /// # Errors
    /// The buffer is no frame of this format and size.
    pub fn map(buffer: &'a gst::BufferRef, info: &'a VideoInfo) -> Result<Self, FrameError> {
        check_rows(info)?;
        check_meta(buffer, info)?;
        let frame = VideoFrameRef::from_buffer_ref_readable(buffer, info)
            .map_err(|_| unmapped(buffer.size(), info))?;
        let planes = planes_in_memory(&frame, info)?;
        Ok(Self {
            frame,
            info,
            planes,
        })
    }

    /// Makes the image tensor of the frame.
    ///
    /// # Errors
    /// A tensor or a plane that is not as `preprocess` needs it.
    pub fn to_tensor(
        &self,
        preprocess: &mut Preprocess,
        tensor: ArrayViewMut3<'_, f32>,
    ) -> Result<(), FrameError> {
        let empty = Plane {
            data: &[],
            stride: 0,
        };
        let mut planes = [empty; PLANES];
        let count = self.info.n_planes() as usize;
        for (index, plane) in planes.iter_mut().enumerate().take(count) {
            *plane = self.plane(index);
        }
        preprocess.run(&planes[..count], tensor)?;
        Ok(())
    }

    /// The largest sample of a grey frame of 16 bits; `None` of other formats.
    pub fn largest_sample(&self) -> Option<u16> {
        if self.info.format() != VideoFormat::Gray16Le {
            return None;
        }
        let largest = |row: &[u8]| {
            let samples = row.as_chunks::<2>().0.iter();
            samples.copied().map(u16::from_le_bytes).max()
        };
        self.rows(0).filter_map(largest).max()
    }

    /// The rows of a plane, each up to its last sample.
    pub(super) fn rows(&self, index: usize) -> impl Iterator<Item = &[u8]> {
        let Plane { data, stride } = self.plane(index);
        let row = self.planes[index].row;
        data.chunks(stride.max(1)).map(move |chunk| &chunk[..row])
    }

    /// As GStreamer has it: with the size of the buffer's meta, where it has one.
    pub(super) fn as_video_frame(&self) -> &VideoFrameRef<&'a gst::BufferRef> {
        &self.frame
    }

    fn plane(&self, index: usize) -> Plane<'_> {
        let start = self.data(index).cast_const();
        let (Extent { stride, .. }, bytes) = (self.planes[index], self.planes[index].bytes());
        if bytes == 0 {
            // There is no such plane, and GStreamer's pointer is null.
            return Plane { data: &[], stride };
        }
        // SAFETY: `planes_in_memory` has found as many bytes from there on in memory that is mapped for reading as long as `frame` lives.
        let data = unsafe { std::slice::from_raw_parts(start, bytes) };
        Plane { data, stride }
    }
}

impl<'a> WritableFrame<'a> {
    /// Memory that others share is copied first.
    ///
    /// # Errors
    /// The buffer is no frame of this format and size.
    pub fn map(buffer: &'a mut gst::BufferRef, info: &'a VideoInfo) -> Result<Self, FrameError> {
        check_rows(info)?;
        check_meta(buffer, info)?;
        let size = buffer.size();
        let frame = VideoFrameRef::from_buffer_ref_writable(buffer, info)
            .map_err(|_| unmapped(size, info))?;
        let planes = planes_in_memory(&frame, info)?;
        Ok(Self {
            frame,
            info,
            planes,
        })
    }

    /// One at a time: the planes of a meta may overlap. `None` where there is none of this number.
    pub fn plane_mut(&mut self, index: usize) -> Option<PlaneMut<'_>> {
        if index >= self.info.n_planes() as usize {
            return None;
        }
        let start = self.data(index);
        let Extent { stride, .. } = self.planes[index];
        // SAFETY: as in `plane`, mapped for writing; the borrow of `self` keeps every other plane from being handed out meanwhile.
        let data = unsafe { std::slice::from_raw_parts_mut(start, self.planes[index].bytes()) };
        Some(PlaneMut { data, stride })
    }

    /// As [`ReadableFrame::as_video_frame`].
    pub(super) fn as_video_frame(&mut self) -> &mut VideoFrameRef<&'a mut gst::BufferRef> {
        &mut self.frame
    }
}

impl<'a, B> MappedFrame<'a, B> {
    /// Format, colorimetry and size as negotiated; strides are those of the planes.
    pub fn info(&self) -> &'a VideoInfo {
        self.info
    }

    /// Whether its rows are those of two fields in turn: by the caps, or by the buffer where they leave it open.
    pub fn is_interlaced(&self) -> bool {
        match self.info.interlace_mode() {
            VideoInterlaceMode::Progressive | VideoInterlaceMode::Alternate => false,
            VideoInterlaceMode::Mixed => self.frame.is_interlaced(),
            _ => true,
        }
    }

    /// The first sample of a plane; `index` is one of the info's planes.
    fn data(&self, index: usize) -> *mut u8 {
        // SAFETY: `as_ptr` points to the frame that `self` owns.
        let frame = unsafe { &*self.frame.as_ptr() };
        frame.data[index].cast()
    }
}

fn unmapped(bytes: usize, info: &VideoInfo) -> FrameError {
    FrameError::Unmapped {
        bytes,
        format: info.name().to_owned(),
        width: info.width(),
        height: info.height(),
    }
}

/// What GStreamer would not map, and what has no rows that could be found in the memory.
fn check_rows(info: &VideoInfo) -> Result<(), FrameError> {
    let without = VideoFormatFlags::TILED | VideoFormatFlags::PALETTE;
    match info.is_valid() && !info.format_info().flags().intersects(without) {
        true => Ok(()),
        false => Err(FrameError::Rows {
            format: info.name().to_owned(),
            width: info.width(),
            height: info.height(),
        }),
    }
}

/// GStreamer takes a meta that contradicts the caps for a mistake of the program and complains on standard error.
fn check_meta(buffer: &gst::BufferRef, info: &VideoInfo) -> Result<(), FrameError> {
    // Of several, as of views and fields, the one that GStreamer maps.
    let metas = buffer.iter_meta::<VideoMeta>();
    let Some(meta) = metas.min_by_key(|meta| meta.id()) else {
        return Ok(());
    };
    let same = meta.format() == info.format() && meta.n_planes() == info.n_planes();
    if same && meta.width() >= info.width() && meta.height() >= info.height() {
        return Ok(());
    }
    let text = |format: VideoFormat, width, height| format!("{format} {width}x{height}");
    Err(FrameError::Meta {
        found: text(meta.format(), meta.width(), meta.height()),
        caps: text(info.format(), info.width(), info.height()),
    })
}

/// The planes at the size of `info`, where the memory that is mapped for each has all of it.
fn planes_in_memory<B>(
    frame: &VideoFrameRef<B>,
    info: &VideoInfo,
) -> Result<[Extent; PLANES], FrameError> {
    // SAFETY: `as_ptr` points to the frame that `frame` owns.
    let raw = unsafe { &*frame.as_ptr() };
    let mut planes = [Extent::default(); PLANES];
    for (plane, extent) in planes.iter_mut().enumerate().take(info.n_planes() as usize) {
        let stride = frame.plane_stride()[plane];
        let (rows, row) = rows_of_plane(info, plane as u32);
        // Rows that overlap, or follow upwards.
        let distance = usize::try_from(stride).ok().filter(|stride| *stride >= row);
        let distance = distance.ok_or(FrameError::Stride { plane, stride, row })?;
        *extent = Extent {
            rows,
            row,
            stride: distance,
        };
        // Without a meta there is one mapping, of the whole buffer.
        let map = &raw.map[if raw.meta.is_null() { 0 } else { plane }];
        let there = (raw.data[plane] as usize)
            .checked_sub(map.data as usize)
            .and_then(|start| map.size.checked_sub(start))
            .unwrap_or(0);
        if extent.bytes() > there {
            return Err(FrameError::Outside {
                plane,
                format: info.name().to_owned(),
                width: info.width(),
                height: info.height(),
                needed: extent.bytes(),
                bytes: there,
            });
        }
    }
    Ok(planes)
}

/// Rows of a plane, and bytes of a row up to its last sample.
fn rows_of_plane(info: &VideoInfo, plane: u32) -> (usize, usize) {
    let (mut rows, mut row) = (1, 0);
    for component in 0..info.n_components() as u8 {
        if info.comp_plane(component) != plane {
            continue;
        }
        let columns = info.comp_width(component) as usize;
        let sample = info.comp_depth(component).div_ceil(8) as usize;
        let last = columns.saturating_sub(1) * info.comp_pstride(component) as usize;
        row = row.max(info.comp_poffset(component) as usize + last + sample);
        rows = rows.max(info.comp_height(component) as usize);
    }
    // Components of other formats may share their bytes: the whole row as GStreamer lays it out.
    if !formats::is_supported(info.format()) {
        row = usize::try_from(info.stride()[plane as usize]).unwrap_or(usize::MAX);
    }
    (rows, row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::taps::Normalization;
    use crate::geometry::{Roi, Size};
    use crate::video::formats::FORMATS;
    use crate::video::overlay::{MapView, Overlay, Style};
    use ndarray::ArrayView2;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// Bytes behind a buffer's memory that are not the buffer's.
    const BEHIND: usize = 4096;
    const UNTOUCHED: u8 = 77;

    fn reads(format: &FrameFormat, buffer: &gst::BufferRef) -> Result<(), FrameError> {
        let target = Target {
            size: Size::new(7, 5),
            normalization: Normalization::IMAGENET,
            roi: Roi::WHOLE,
        };
        let mut tensor = target.tensor();
        let mut preprocess = format.preprocess(target);
        format
            .read(buffer)?
            .to_tensor(&mut preprocess, tensor.view_mut())
    }

    fn draws(format: &FrameFormat, buffer: &mut gst::BufferRef) -> Result<(), FrameError> {
        let mut frame = format.write(buffer)?;
        let map = MapView {
            values: ArrayView2::from_shape((1, 1), &[9.0]).unwrap(),
            roi: Roi::WHOLE,
        };
        Overlay::new().draw(&mut frame, map, 1.0, Style::Heatmap);
        Ok(())
    }

    prop_compose! {
        /// Format, size of the caps, how much larger the meta's is, offsets and strides of planes that lie one behind the other with a
        /// little more or less room than they need, and bytes of the buffer.
        fn described()(
            format in prop::sample::select(FORMATS.to_vec()),
            size in (1u32..80, 1u32..60),
            larger in (0u32..3, 0u32..3),
            room in prop::collection::vec((-1i32..40, -20isize..60), gst_video::VIDEO_MAX_PLANES),
        ) -> (VideoInfo, (u32, u32), Vec<usize>, Vec<i32>, usize) {
            gst::init().unwrap();
            let info = VideoInfo::builder(format, size.0, size.1).build().unwrap();
            let (mut end, mut offsets, mut strides) = (0usize, Vec::new(), Vec::new());
            for (plane, (wider, more)) in (0..info.n_planes()).zip(room) {
                let stride = info.stride()[plane as usize] + wider;
                let (rows, row) = rows_of_plane(&info, plane);
                let needed = stride.unsigned_abs() as usize * (rows - 1) + row;
                offsets.push(end);
                strides.push(stride);
                end = end.saturating_add_signed(needed as isize + more);
            }
            (info, (size.0 + larger.0, size.1 + larger.1), offsets, strides, end.max(1))
        }
    }

    #[test]
    fn no_meta_leads_out_of_the_memory() {
        let (fitting, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let config = ProptestConfig {
            cases: 2000,
            failure_persistence: None,
            ..ProptestConfig::default()
        };
        proptest!(config, |((info, size, offsets, strides, bytes) in described())| {
            let mut memory = vec![100; bytes];
            memory.resize(bytes + BEHIND, UNTOUCHED);
            let mut buffer = gst::Buffer::from_mut_slice(memory);
            let writable = buffer.get_mut().unwrap();
            writable.set_size(bytes);
            let flags = gst_video::VideoFrameFlags::empty();
            let meta = VideoMeta::add_full(writable, flags, info.format(), size.0, size.1, &offsets, &strides);
            prop_assume!(meta.is_ok());

            let fits = (0..offsets.len()).all(|plane| {
                let (rows, row) = rows_of_plane(&info, plane as u32);
                let stride = strides[plane] as usize;
                stride >= row && offsets[plane] + stride * (rows - 1) + row <= bytes
            });
            let count = if fits { &fitting } else { &refused };
            count.fetch_add(1, Ordering::Relaxed);
            let format = FrameFormat::new(info).unwrap();
            let read = reads(&format, &buffer);
            prop_assert_eq!(read.is_ok(), fits, "{:?}", read);
            let writable = buffer.get_mut().unwrap();
            let drawn = draws(&format, writable);
            prop_assert_eq!(drawn.is_ok(), fits, "{:?}", drawn);
            writable.set_size(bytes + BEHIND);
            let whole = buffer.map_readable().unwrap();
            prop_assert!(whole[bytes..].iter().all(|byte| *byte == UNTOUCHED));
            prop_assert!(!fits || whole[..bytes].iter().any(|byte| *byte != 100), "nothing is drawn");
        });
        // Neither is rare.
        let counts = (fitting.into_inner(), refused.into_inner());
        assert!(counts.0 > 200 && counts.1 > 200, "{counts:?}");
    }

    #[test]
    fn a_frame_that_is_none_says_why() {
        gst::init().unwrap();
        let info = VideoInfo::builder(VideoFormat::Gray8, 8, 4).build();
        let format = FrameFormat::new(info.unwrap()).unwrap();
        let said = |bytes: usize, meta: Option<(u32, u32, i32)>| {
            let mut buffer = gst::Buffer::with_size(bytes).unwrap();
            let writable = buffer.get_mut().unwrap();
            if let Some((width, height, stride)) = meta {
                let flags = gst_video::VideoFrameFlags::empty();
                let format = VideoFormat::Gray8;
                let offset = if stride < 0 { bytes - 8 } else { 0 };
                VideoMeta::add_full(writable, flags, format, width, height, &[offset], &[stride])
                    .unwrap();
            }
            let read = reads(&format, &buffer);
            assert_eq!(draws(&format, buffer.get_mut().unwrap()), read);
            read.map_err(|error| error.to_string())
        };
        assert_eq!(said(32, None), Ok(()));
        assert_eq!(
            said(31, None).unwrap_err(),
            "the buffer of 31 bytes cannot be mapped as GRAY8 8x4"
        );
        // A last row that ends with its last sample.
        assert_eq!(said(3 * 100 + 8, Some((8, 4, 100))), Ok(()));
        assert_eq!(
            said(3 * 100 + 7, Some((8, 4, 100))).unwrap_err(),
            "plane 0 of GRAY8 8x4 needs 308 bytes of the buffer's memory, which has 307 there"
        );
        // Rows that the caps do not have need not be there.
        assert_eq!(said(32, Some((8, 5, 8))), Ok(()));
        assert_eq!(
            said(32, Some((8, 3, 8))).unwrap_err(),
            "the buffer's video meta is GRAY8 8x3, and the caps are GRAY8 8x4"
        );
        assert_eq!(
            said(32, Some((8, 4, -8))).unwrap_err(),
            "plane 0 has a stride of -8 bytes, and a row needs 8"
        );
    }
}
