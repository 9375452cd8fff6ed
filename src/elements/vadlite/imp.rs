//! The behaviour of the element: GStreamer's business, with the work itself in [`crate::detector`] and [`crate::video`].

use super::settings::{self, Live, Overlay, PostMessages, Settings};
use crate::detector::{Detector, Error, Options, Region};
use crate::video::meta::Outcome;
use crate::video::overlay::{self, MapView};
use crate::video::preprocess::{Layout, Plane, Preprocess, Target};
use glib::subclass::prelude::*;
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use gst_video::VideoFrameExt as _;
use hdrhistogram::Histogram;
use std::sync::{LazyLock, Mutex, MutexGuard};
use std::time::Instant;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vadlite",
        gst::DebugColorFlags::empty(),
        Some("Visual anomaly detection"),
    )
});

/// The raw formats that cameras deliver.
const FORMATS: [gst_video::VideoFormat; 15] = {
    use gst_video::VideoFormat as F;
    [
        F::Nv12,
        F::I420,
        F::Yuy2,
        F::Gray8,
        F::Rgb,
        F::Bgr,
        F::Rgbx,
        F::Bgrx,
        F::Rgba,
        F::Bgra,
        F::Xrgb,
        F::Nv21,
        F::Yv12,
        F::Uyvy,
        F::Gray16Le,
    ]
};

/// What exists between start and stop, used by the streaming thread alone.
struct State {
    detector: Detector,
    model_name: String,
    roi: [f32; 4],
    stream: Option<Stream>,
    tensor: Vec<f32>,
    threshold: Threshold,
    overlay: overlay::Overlay,
    /// Regions in frame coordinates, reused.
    regions: Vec<Region>,
    frame: u64,
    /// The last buffer: its frame number and the time of its end.
    last: Option<(Option<u64>, Option<gst::ClockTime>)>,
    failing: bool,
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

#[derive(Debug)]
struct Stats {
    frames: u64,
    inspected: u64,
    flagged: u64,
    failed: u64,
    frames_lost: u64,
    latency: Histogram<u64>,
    device: &'static str,
}

impl Default for Stats {
    fn default() -> Self {
        // One microsecond to one minute with two digits: a few tens of kB, never reallocated.
        let latency = Histogram::new_with_bounds(1_000, 60_000_000_000, 2)
            .expect("bounds and digits are in the range that the crate documents");
        Self {
            frames: 0,
            inspected: 0,
            flagged: 0,
            failed: 0,
            frames_lost: 0,
            latency,
            device: "",
        }
    }
}

#[derive(Default)]
pub struct VadLite {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    /// Apart from `state`, which the streaming thread holds for the whole of an inspection.
    stats: Mutex<Stats>,
}

/// A panic elsewhere does not make these values wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[glib::object_subclass]
impl ObjectSubclass for VadLite {
    const NAME: &'static str = "GstVadLite";
    type Type = super::VadLite;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for VadLite {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        // With QoS, late frames would be dropped before they are inspected.
        element.set_qos(false);
        // Gap buffers keep their flag; they are passed on uninspected.
        element.set_gap_aware(true);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        lock(&self.settings).set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "stats" {
            return lock(&self.stats).structure().to_value();
        }
        lock(&self.settings)
            .get(pspec.name())
            .unwrap_or_else(|| pspec.default_value().clone())
    }
}

impl GstObjectImpl for VadLite {}

impl ElementImpl for VadLite {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Visual anomaly detector",
                "Filter/Analyzer/Effect/Video",
                "Scores every frame against a model of good parts, marks what looks wrong, and attaches the result as GstVadLiteMeta",
                env!("CARGO_PKG_AUTHORS"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst_video::VideoCapsBuilder::new()
                .format_list(FORMATS)
                .build();
            [
                ("sink", gst::PadDirection::Sink),
                ("src", gst::PadDirection::Src),
            ]
            .into_iter()
            .filter_map(|(name, direction)| {
                gst::PadTemplate::new(name, direction, gst::PadPresence::Always, &caps).ok()
            })
            .collect()
        });
        &TEMPLATES
    }
}

impl BaseTransformImpl for VadLite {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = lock(&self.settings).clone();
        let state = State::new(&settings)?;
        gst::info!(
            CAT,
            imp = self,
            "model {} with threshold {}",
            state.model_name,
            state.threshold.value
        );
        *lock(&self.stats) = Stats {
            device: settings.device.name(),
            ..Stats::default()
        };
        *lock(&self.state) = Some(state);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.state) = None;
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(incaps)
            .map_err(|_| gst::loggable_error!(CAT, "not raw video: {incaps}"))?;
        let layout = Layout::from_info(&info)
            .ok_or_else(|| gst::loggable_error!(CAT, "unsupported format {}", info.name()))?;
        let mut state = lock(&self.state);
        let state = state
            .as_mut()
            .ok_or_else(|| gst::loggable_error!(CAT, "caps before start"))?;
        state.negotiate(info, layout);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        // After these a discontinuity is asked for, not a loss.
        if matches!(
            event.type_(),
            gst::EventType::FlushStop | gst::EventType::Segment | gst::EventType::StreamStart
        ) && let Some(state) = lock(&self.state).as_mut()
        {
            state.last = None;
        }
        self.parent_sink_event(event)
    }

    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let start = Instant::now();
        let live = lock(&self.settings).live;
        let mut guard = lock(&self.state);
        let state = guard.as_mut().ok_or(gst::FlowError::Flushing)?;
        let frame = state.frame;
        state.frame += 1;
        let lost = state.frames_lost(buffer);
        if let Err(reason) = state.update_threshold(&live) {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                (
                    "{}; the threshold stays at {}",
                    reason,
                    state.threshold.value
                )
            );
        }

        let wanted = frame.is_multiple_of(u64::from(live.interval))
            && !buffer.flags().contains(gst::BufferFlags::GAP);
        let (score, failed) = match wanted.then(|| state.inspect(buffer)) {
            None => (None, false),
            Some(Ok(score)) => {
                state.failing = false;
                (Some(score), false)
            }
            Some(Err(reason)) => {
                // Once per run of failures: a broken camera would flood the bus.
                if !std::mem::replace(&mut state.failing, true) {
                    gst::element_imp_warning!(
                        self,
                        gst::StreamError::Failed,
                        (
                            "frame {} could not be inspected and passes on: {}",
                            frame,
                            reason
                        )
                    );
                }
                (None, true)
            }
        };

        let flagged = score.is_some_and(|score| score > state.threshold.value);
        state.find_regions(flagged);
        if score.is_some() && (flagged || live.overlay_always) {
            state.draw(buffer, live.overlay);
        }
        let latency = start.elapsed().as_nanos() as u64;
        let outcome = Outcome {
            score: score.unwrap_or(0.0),
            threshold: state.threshold.value,
            flagged,
            inspected: score.is_some(),
            frame,
            model: &state.model_name,
            latency,
            regions: &state.regions,
        };
        let map = score.is_some().then(|| state.map());
        if let Err(error) = outcome.attach(buffer, map) {
            gst::error!(CAT, imp = self, "no meta on frame {frame}: {error}");
        }
        let post = match live.post_messages {
            PostMessages::None => false,
            PostMessages::Flagged => flagged,
            PostMessages::All => true,
        };
        let message = post.then(|| {
            let segment = self.obj().segment();
            let running_time = segment
                .downcast_ref::<gst::ClockTime>()
                .and_then(|segment| segment.to_running_time(buffer.pts()));
            outcome.message(buffer.pts(), running_time)
        });
        lock(&self.stats).count(score.is_some().then_some(latency), flagged, failed, lost);
        // A handler of the message may change a property or ask for the statistics: no lock may be held.
        drop(guard);
        if let Some(message) = message {
            let element = self.obj();
            let _ = element.post_message(
                gst::message::Element::builder(message)
                    .src(&*element)
                    .build(),
            );
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

impl State {
    fn new(settings: &Settings) -> Result<Self, gst::ErrorMessage> {
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
            roi: roi.unwrap_or(detector.model().metadata.roi),
            stream: None,
            tensor: vec![0.0; 3 * height * width],
            threshold: Threshold {
                value: f64::from(detector.model().metadata.threshold),
                from: (0.0, 0.0),
            },
            overlay: overlay::Overlay::new(),
            regions: Vec::new(),
            frame: 0,
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

    fn negotiate(&mut self, info: gst_video::VideoInfo, layout: Layout) {
        let normalization = self.detector.model().metadata.normalization;
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
    fn update_threshold(&mut self, live: &Live) -> Result<(), String> {
        let from = (live.threshold, live.false_reject_rate);
        if self.threshold.from == from {
            return Ok(());
        }
        self.threshold.from = from;
        let model = self.detector.model();
        self.threshold.value = if live.threshold > 0.0 {
            live.threshold
        } else if live.false_reject_rate > 0.0 {
            f64::from(
                model
                    .calibration
                    .threshold(live.false_reject_rate)
                    .map_err(|error| error.to_string())?,
            )
        } else {
            f64::from(model.metadata.threshold)
        };
        Ok(())
    }

    /// Frames missing before this one: by the frame numbers where both buffers have them, else by the times, else one for a discontinuity.
    fn frames_lost(&mut self, buffer: &gst::BufferRef) -> u64 {
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
    fn inspect(&mut self, buffer: &gst::BufferRef) -> Result<f64, String> {
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
    fn find_regions(&mut self, flagged: bool) {
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

    fn map(&self) -> MapView<'_> {
        let (values, (height, width)) = self.detector.map();
        MapView {
            values,
            height,
            width,
            roi: self.roi,
        }
    }

    fn draw(&mut self, buffer: &mut gst::BufferRef, overlay: Overlay) {
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

impl Stats {
    fn count(&mut self, latency: Option<u64>, flagged: bool, failed: bool, lost: u64) {
        self.frames += 1;
        self.flagged += u64::from(flagged);
        self.failed += u64::from(failed);
        self.frames_lost += lost;
        if let Some(latency) = latency {
            self.inspected += 1;
            self.latency.saturating_record(latency);
        }
    }

    fn structure(&self) -> gst::Structure {
        gst::Structure::builder("stats")
            .field("frames", self.frames)
            .field("inspected", self.inspected)
            .field("flagged", self.flagged)
            .field("failed", self.failed)
            .field("frames-lost", self.frames_lost)
            .field("latency-median", self.latency.value_at_quantile(0.5))
            .field("latency-p99", self.latency.value_at_quantile(0.99))
            .field("device", self.device)
            .build()
    }
}
