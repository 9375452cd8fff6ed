//! The frames of one stream: their numbers, what was lost between them, and where their samples lie.

use crate::video::preprocess::{Layout, Plane, Preprocess};
use gst_video::prelude::*;
use ndarray::ArrayViewMut3;

/// The negotiated picture.
pub struct Picture {
    pub info: gst_video::VideoInfo,
    pub layout: Layout,
}

/// What is known of a stream between start and stop, whatever is done with its frames.
#[derive(Default)]
pub struct Stream {
    pub picture: Option<Picture>,
    next_frame: u64,
    /// The last buffer: its frame number and the time of its end.
    last: Option<(Option<u64>, Option<gst::ClockTime>)>,
}

impl Stream {
    /// Takes the number of the next frame, from 0.
    pub fn count_frame(&mut self) -> u64 {
        self.next_frame += 1;
        self.next_frame - 1
    }

    /// Forgets the last buffer: the next one follows on a seek or a new stream, not on it.
    pub fn forget_last(&mut self) {
        self.last = None;
    }

    /// Frames missing before this one: by the frame numbers where both buffers have them, else by the times, else one for a discontinuity.
    pub fn frames_lost(&mut self, buffer: &gst::BufferRef) -> u64 {
        let end = buffer
            .pts()
            .zip(buffer.duration())
            .map(|(pts, duration)| pts + duration);
        // The offset of a frame is its number; of a parsed file, its place in bytes. Only frames end one further on.
        let number = Some(buffer.offset())
            .filter(|offset| offset.checked_add(1) == Some(buffer.offset_end()));
        let Some((last_number, last_end)) = self.last.replace((number, end)) else {
            return 0;
        };
        if let Some((last, number)) = last_number.zip(number)
            && number > last
        {
            return number - last - 1;
        }
        if !buffer.flags().contains(gst::BufferFlags::DISCONT) {
            return 0;
        }
        let gap = buffer
            .pts()
            .zip(last_end)
            .and_then(|(pts, end)| pts.checked_sub(end));
        match gap.zip(buffer.duration()) {
            Some((gap, duration)) if duration > gst::ClockTime::ZERO => {
                let (gap, duration) = (gap.nseconds(), duration.nseconds());
                ((gap + duration / 2) / duration).max(1)
            }
            _ => 1,
        }
    }
}

impl Picture {
    /// Makes the image tensor of the frame in `buffer`.
    ///
    /// # Errors
    /// What is wrong with the buffer.
    pub fn to_tensor(
        &self,
        buffer: &gst::BufferRef,
        preprocess: &mut Preprocess,
        tensor: ArrayViewMut3<'_, f32>,
    ) -> Result<(), String> {
        check_planes(buffer, &self.info)?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &self.info)
            .map_err(|_| {
                format!(
                    "the buffer cannot be read as {} {}x{}",
                    self.info.name(),
                    self.info.width(),
                    self.info.height()
                )
            })?;
        let mut planes = [Plane {
            data: &[],
            stride: 0,
        }; gst_video::ffi::GST_VIDEO_MAX_PLANES as usize];
        let count = frame.n_planes() as usize;
        for (index, plane) in planes.iter_mut().enumerate().take(count) {
            let data = frame
                .plane_data(index as u32)
                .map_err(|error| error.to_string())?;
            let stride = usize::try_from(frame.plane_stride()[index])
                .map_err(|_| format!("plane {index} has a negative stride"))?;
            *plane = Plane { data, stride };
        }
        preprocess
            .run(&planes[..count], tensor)
            .map_err(|error| error.to_string())
    }
}

/// Whether the planes that a video meta describes lie in the buffer's memory: mapping them does not find out.
fn check_planes(buffer: &gst::BufferRef, info: &gst_video::VideoInfo) -> Result<(), String> {
    let Some(meta) = buffer.meta::<gst_video::VideoMeta>() else {
        return Ok(());
    };
    for plane in 0..info.n_planes() as usize {
        let components =
            (0..info.n_components() as u8).filter(|&c| info.comp_plane(c) == plane as u32);
        let (mut rows, mut row) = (0, 0);
        for component in components {
            let last = info.comp_poffset(component) as usize
                + (info.comp_width(component) as usize - 1) * info.comp_pstride(component) as usize;
            let sample = info.comp_depth(component).div_ceil(8) as usize;
            row = row.max(last + sample);
            rows = rows.max(info.comp_height(component) as usize);
        }
        let (Some(&start), Some(stride)) = (
            meta.offset().get(plane),
            meta.stride()
                .get(plane)
                .and_then(|&stride| usize::try_from(stride).ok()),
        ) else {
            return Err(format!("plane {plane} is missing or has a negative stride"));
        };
        let end = start + stride * (rows - 1) + row;
        if buffer
            .find_memory(start..end)
            .is_none_or(|(memories, _)| memories.len() != 1)
        {
            return Err(format!(
                "plane {plane} of {} {}x{} ends at byte {end}, which is not in one memory of the buffer's {} bytes",
                info.name(),
                info.width(),
                info.height(),
                buffer.size()
            ));
        }
    }
    Ok(())
}
