//! One stream's inspection between start and stop: from the buffer to score and regions, and back into the buffer.

use super::settings::{Live, Overlay, Settings};
use crate::detector::{Detector, Error, Options, Region};
use crate::video::overlay::{self, MapView};
use crate::video::preprocess::{Layout, Plane, Preprocess, Target};
use gst_video::prelude::*;

/// What exists between start and stop, used by the streaming thread alone.
pub struct Inspector {
    detector: Detector,
    pub model_name: String,
    roi: [f32; 4],
    stream: Option<Stream>,
    tensor: Vec<f32>,
    threshold: Threshold,
    overlay: overlay::Overlay,
    /// Regions in frame coordinates, reused.
    pub regions: Vec<Region>,
    next_frame: u64,
    /// The last buffer: its frame number and the time of its end.
    last: Option<(Option<u64>, Option<gst::ClockTime>)>,
    pub failing: bool,
}

/// The negotiated picture.
struct Stream {
    info: gst_video::VideoInfo,
    preprocess: Preprocess,
}

/// The threshold in force and the properties it came from, so that it is worked out on change only.
struct Threshold {
    value: f64,
    from: (f64, f64),
}

impl Inspector {
    pub fn new(settings: &Settings) -> Result<Self, gst::ErrorMessage> {
        let Some(path) = &settings.model else {
            return Err(gst::error_msg!(
                gst::ResourceError::NotFound,
                ("the property model is not set; name a .vadlite file, made with `vadlite fit --method padim-lite --images DIR --out part.vadlite`")
            ));
        };
        let roi = settings.parsed_roi().map_err(|reason| {
            gst::error_msg!(gst::LibraryError::Settings, ("the property roi: {reason}"))
        })?;
        let options = Options {
            backbone: settings.backbone.as_deref(),
            threads: settings.threads as usize,
            library: settings.onnxruntime.as_deref(),
            device: settings.device.into(),
        };
        let detector = Detector::open(path, options).map_err(|error| {
            let cause = match &error {
                Error::Runtime(_) => "",
                Error::Backbone { .. } if settings.backbone.is_some() => "the property backbone: ",
                _ => "the property model: ",
            };
            gst::error_msg!(gst::ResourceError::OpenRead, ("{cause}{error}"))
        })?;
        let (height, width) = detector.input();
        let mut state = Self {
            model_name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            roi: roi.unwrap_or(detector.metadata().roi),
            stream: None,
            tensor: vec![0.0; 3 * height * width],
            threshold: Threshold {
                value: f64::from(detector.metadata().threshold),
                from: (0.0, 0.0),
            },
            overlay: overlay::Overlay::new(),
            regions: Vec::new(),
            next_frame: 0,
            last: None,
            failing: false,
            detector,
        };
        state.update_threshold(&settings.live).map_err(|reason| {
            gst::error_msg!(
                gst::LibraryError::Settings,
                ("the property false-reject-rate: {reason}")
            )
        })?;
        Ok(state)
    }

    /// Takes the number of the next frame, from 0.
    pub fn count_frame(&mut self) -> u64 {
        self.next_frame += 1;
        self.next_frame - 1
    }

    /// The raw score above which a frame is flagged now.
    pub fn threshold(&self) -> f64 {
        self.threshold.value
    }

    /// Forgets the last buffer: the next one follows on a seek or a new stream, not on it.
    pub fn forget_last(&mut self) {
        self.last = None;
    }

    /// Prepares for frames of this format and size.
    pub fn negotiate(&mut self, info: gst_video::VideoInfo, layout: Layout) {
        let normalization = self.detector.metadata().normalization;
        let target = Target {
            size: self.detector.input(),
            mean: normalization.mean,
            std: normalization.std,
            roi: self.roi,
        };
        self.stream = Some(Stream {
            info,
            preprocess: Preprocess::new(layout, target),
        });
    }

    /// Works the threshold out again where the properties have changed.
    pub fn update_threshold(&mut self, live: &Live) -> Result<(), String> {
        let from = (live.threshold, live.false_reject_rate);
        if self.threshold.from == from {
            return Ok(());
        }
        self.threshold.from = from;
        let detector = &self.detector;
        self.threshold.value = if live.threshold > 0.0 {
            live.threshold
        } else if live.false_reject_rate > 0.0 {
            f64::from(
                detector
                    .calibration()
                    .threshold(live.false_reject_rate)
                    .map_err(|error| error.to_string())?,
            )
        } else {
            f64::from(detector.metadata().threshold)
        };
        Ok(())
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

    /// Scores the frame.
    pub fn inspect(&mut self, buffer: &gst::BufferRef) -> Result<f64, String> {
        let stream = self.stream.as_mut().ok_or("no caps yet")?;
        check_planes(buffer, &stream.info)?;
        let frame = gst_video::VideoFrameRef::from_buffer_ref_readable(buffer, &stream.info)
            .map_err(|_| {
                format!(
                    "the buffer cannot be read as {} {}x{}",
                    stream.info.name(),
                    stream.info.width(),
                    stream.info.height()
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
        stream.preprocess.run(&planes[..count], &mut self.tensor)?;
        drop(frame);
        self.detector
            .inspect(&self.tensor)
            .map(f64::from)
            .map_err(|error| error.to_string())
    }

    /// Brings the regions of the map into frame coordinates; none for a frame that is not flagged.
    pub fn find_regions(&mut self, flagged: bool) {
        self.regions.clear();
        if flagged {
            let [x, y, width, height] = self.roi;
            let regions = self.detector.regions(self.threshold.value as f32);
            self.regions.extend(regions.iter().map(|region| Region {
                x: x + region.x * width,
                y: y + region.y * height,
                width: region.width * width,
                height: region.height * height,
                score: region.score,
            }));
        }
    }

    pub fn map(&self) -> MapView<'_> {
        let (values, (height, width)) = self.detector.map();
        MapView {
            values,
            height,
            width,
            roi: self.roi,
        }
    }

    pub fn draw(&mut self, buffer: &mut gst::BufferRef, overlay: Overlay) {
        let style = match overlay {
            Overlay::None => return,
            Overlay::Heatmap => overlay::Style::Heatmap,
            Overlay::Contour => overlay::Style::Contour,
        };
        let Some(stream) = &self.stream else { return };
        // Mapping for writing copies a frame that others share; this is the one place that does.
        if let Ok(mut frame) =
            gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &stream.info)
        {
            let (values, (height, width)) = self.detector.map();
            let map = MapView {
                values,
                height,
                width,
                roi: self.roi,
            };
            self.overlay
                .draw(&mut frame, map, self.threshold.value as f32, style);
        }
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
