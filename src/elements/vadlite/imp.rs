//! The behaviour of the element: GStreamer's business, with the work itself in [`crate::detector`] and [`crate::video`].

use super::export;
use super::inspection::Inspection;
use super::learner::Learner;
use super::loader::Loader;
use super::settings::{self, Live, Mode, PostMessages, Settings};
use super::stats::Stats;
use super::stream::{Picture, Stream};
use crate::detector::Device;
use crate::detector::drift::Direction;
use crate::video::meta::Outcome;
use crate::video::overlay::MapView;
use crate::video::preprocess::Layout;
use glib::subclass::prelude::*;
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use std::sync::mpsc::Sender;
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

#[derive(Default)]
pub struct VadLite {
    settings: Mutex<Settings>,
    state: Mutex<Option<State>>,
    /// Where models that are set while playing are opened; some between start and stop.
    wanted: Mutex<Option<Sender<Settings>>>,
    /// Apart from `state`, which the streaming thread holds for the whole of an inspection.
    stats: Mutex<Stats>,
}

/// What exists between start and stop, used by the streaming thread alone.
struct State {
    stream: Stream,
    work: Work,
    loader: Loader,
    /// Ends the writing of the statistics when it is dropped.
    _export: Option<Sender<()>>,
}

/// What is done with frames.
enum Work {
    Detect(Box<Inspection>),
    Learn(Box<Learner>),
}

impl Work {
    fn negotiate(&mut self, picture: &Picture) {
        match self {
            Self::Detect(inspection) => inspection.negotiate(picture),
            Self::Learn(learner) => learner.negotiate(picture),
        }
    }
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
        let mut settings = lock(&self.settings);
        settings.set(pspec.name(), value);
        if pspec.name() == "model"
            && let Some(wanted) = lock(&self.wanted).as_ref()
        {
            // The thread lives as long as there is a way to it.
            let _ = wanted.send(settings.clone());
        }
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
        let device = Device::from(settings.device);
        let progress = |kind, text: &str| {
            if device == Device::Tensorrt {
                let element = self.obj();
                let message = gst::message::Progress::builder(kind, "tensorrt", text);
                let _ = element.post_message(message.src(&*element).build());
            }
        };
        progress(
            gst::ProgressType::Start,
            "TensorRT builds its engine, or loads the one that it has built; the first time takes minutes",
        );
        let element = self.obj();
        let loader = Loader::start(&element, &settings).map_err(|error| {
            gst::error_msg!(
                gst::CoreError::Thread,
                ("no thread can be started: {error}")
            )
        })?;
        let work = match settings.mode {
            Mode::Learn => Learner::start(&element, &settings, loader.made.clone())
                .map(|learner| Work::Learn(Box::new(learner))),
            Mode::Detect => {
                Inspection::new(&settings).map(|inspection| Work::Detect(Box::new(inspection)))
            }
        };
        let work = work.inspect_err(|_| {
            progress(gst::ProgressType::Error, "TensorRT cannot be used");
        })?;
        progress(gst::ProgressType::Complete, "TensorRT is ready");
        let mut stats = Stats::new(device.name());
        if let Work::Detect(inspection) = &work {
            let (name, threshold) = (&inspection.model_name, inspection.threshold());
            gst::info!(CAT, imp = self, "model {name} with threshold {threshold}");
            stats.set_model(name);
        }
        *lock(&self.stats) = stats;
        let export = settings
            .stats_file
            .map(|path| export::start(&element, path))
            .transpose()
            .map_err(|reason| {
                gst::error_msg!(
                    gst::ResourceError::OpenWrite,
                    ("the property stats-file: {reason}")
                )
            })?;
        *lock(&self.wanted) = Some(loader.wanted.clone());
        *lock(&self.state) = Some(State {
            stream: Stream::default(),
            work,
            loader,
            _export: export,
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *lock(&self.wanted) = None;
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
        let picture = state.stream.picture.insert(Picture { info, layout });
        state.work.negotiate(picture);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        // After these a discontinuity is asked for, not a loss.
        if matches!(
            event.type_(),
            gst::EventType::FlushStop | gst::EventType::Segment | gst::EventType::StreamStart
        ) && let Some(state) = lock(&self.state).as_mut()
        {
            state.stream.forget_last();
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
        let mut messages = Vec::new();
        self.take_over(state, &mut messages);
        let frame = Frame {
            number: state.stream.count_frame(),
            lost: state.stream.frames_lost(buffer),
            start,
        };
        let picture = state.stream.picture.as_ref();
        let picture = picture.ok_or(gst::FlowError::NotNegotiated)?;
        match &mut state.work {
            Work::Detect(inspection) => {
                self.detect(inspection, picture, buffer, live, frame, &mut messages);
            }
            Work::Learn(learner) => {
                self.learn(learner, picture, buffer, live, frame, &mut messages);
            }
        }
        // A handler of a message may change a property or ask for the statistics: no lock may be held.
        drop(guard);
        for message in messages {
            let _ = self.obj().post_message(message);
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

/// A frame on its way through.
struct Frame {
    number: u64,
    /// Frames missing before it.
    lost: u64,
    start: Instant,
}

impl VadLite {
    /// The statistics in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        lock(&self.stats).prometheus(&self.obj().name())
    }

    /// Counts a model that could not take over.
    pub fn count_refused_reload(&self) {
        lock(&self.stats).count_reload(false);
    }

    fn element_message(&self, structure: gst::Structure) -> gst::Message {
        gst::message::Element::builder(structure)
            .src(&*self.obj())
            .build()
    }

    fn progress_message(&self, kind: gst::ProgressType, code: &str, text: &str) -> gst::Message {
        gst::message::Progress::builder(kind, code, text)
            .src(&*self.obj())
            .build()
    }

    /// Goes on with the newest model that is ready, between two frames.
    fn take_over(&self, state: &mut State, messages: &mut Vec<gst::Message>) {
        let Some(mut inspection) = state.loader.ready.try_iter().last() else {
            return;
        };
        if let Some(picture) = &state.stream.picture {
            inspection.negotiate(picture);
        }
        let mut stats = lock(&self.stats);
        stats.set_model(&inspection.model_name);
        match &mut state.work {
            Work::Detect(_) => {
                stats.count_reload(true);
                let structure = gst::Structure::builder("vadlite-model")
                    .field("model", &inspection.model_name)
                    .field("threshold", inspection.threshold());
                messages.push(self.element_message(structure.build()));
            }
            Work::Learn(learner) => {
                if let Some((structure, text)) = learner.report(true) {
                    messages.push(self.element_message(structure));
                    let complete = gst::ProgressType::Complete;
                    messages.push(self.progress_message(complete, "learn", &text));
                }
            }
        }
        state.work = Work::Detect(inspection);
    }

    /// Says on the bus that a frame could not be used, once per run of such frames: a broken camera would flood it.
    fn warn_of_frame(&self, failing: &mut bool, frame: u64, reason: Option<&String>) {
        let before = std::mem::replace(failing, reason.is_some());
        if let Some(reason) = reason
            && !before
        {
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
    }

    /// Scores the frame, marks it, attaches the result.
    fn detect(
        &self,
        inspection: &mut Inspection,
        picture: &Picture,
        buffer: &mut gst::BufferRef,
        live: Live,
        frame: Frame,
        messages: &mut Vec<gst::Message>,
    ) {
        if let Err(reason) = inspection.update_threshold(&live) {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                (
                    "{}; the threshold stays at {}",
                    reason,
                    inspection.threshold()
                )
            );
        }
        let wanted = frame.number.is_multiple_of(u64::from(live.interval))
            && !buffer.flags().contains(gst::BufferFlags::GAP);
        let result = wanted.then(|| inspection.inspect(buffer, picture));
        if let Some(result) = &result {
            self.warn_of_frame(&mut inspection.failing, frame.number, result.as_ref().err());
        }
        let failed = matches!(result, Some(Err(_)));
        let score = result.and_then(Result::ok);

        if let Some(score) = score
            && let Some((level, alarm)) =
                inspection.test_drift(score, buffer.pts(), live.drift_interval)
        {
            lock(&self.stats).set_drift(level, alarm.is_some());
            if let Some(direction) = alarm {
                let direction = match direction {
                    Direction::Up => "up",
                    Direction::Down => "down",
                };
                let structure = gst::Structure::builder("vadlite-drift")
                    .field("direction", direction)
                    .field("frame", frame.number)
                    .field("score", score)
                    .field("model", &inspection.model_name);
                messages.push(self.element_message(structure.build()));
            }
        }
        let flagged = score.is_some_and(|score| score > inspection.threshold());
        inspection.find_regions(flagged);
        let draw = score.is_some() && (flagged || live.overlay_always);
        if draw {
            inspection.draw(buffer, picture, live.overlay);
        }
        let latency = frame.start.elapsed().as_nanos() as u64;
        let outcome = Outcome {
            score: score.unwrap_or(0.0),
            threshold: inspection.threshold(),
            flagged,
            inspected: score.is_some(),
            skipped: !wanted,
            drawn: draw && live.overlay.style().is_some(),
            frame: frame.number,
            model: &inspection.model_name,
            latency,
            regions: &inspection.regions,
        };
        let map = score.is_some().then(|| inspection.map());
        self.attach(&outcome, map, buffer);
        let post = match live.post_messages {
            PostMessages::None => false,
            PostMessages::Flagged => flagged,
            PostMessages::All => true,
        };
        if post {
            let segment = self.obj().segment();
            let running_time = segment
                .downcast_ref::<gst::ClockTime>()
                .and_then(|segment| segment.to_running_time(buffer.pts()));
            messages.push(self.element_message(outcome.message(buffer.pts(), running_time)));
        }
        let latency = score.is_some().then_some(latency);
        lock(&self.stats).count(latency, flagged, failed, frame.lost);
    }

    /// Shows the frame to the learner, and the progress on the frame and on the bus.
    fn learn(
        &self,
        learner: &mut Learner,
        picture: &Picture,
        buffer: &mut gst::BufferRef,
        live: Live,
        frame: Frame,
        messages: &mut Vec<gst::Message>,
    ) {
        let failed = !buffer.flags().contains(gst::BufferFlags::GAP) && {
            let result = learner.look(buffer, picture);
            self.warn_of_frame(&mut learner.failing, frame.number, result.as_ref().err());
            result.is_err()
        };
        if !learner.failed() {
            learner.draw(buffer, picture, live.overlay);
            let kind = match learner.reported() {
                true => gst::ProgressType::Continue,
                false => gst::ProgressType::Start,
            };
            if let Some((structure, text)) = learner.report(false) {
                messages.push(self.element_message(structure));
                messages.push(self.progress_message(kind, "learn", &text));
            }
        }
        let outcome = Outcome {
            score: 0.0,
            threshold: 0.0,
            flagged: false,
            inspected: false,
            skipped: !failed,
            drawn: false,
            frame: frame.number,
            model: "",
            latency: frame.start.elapsed().as_nanos() as u64,
            regions: &[],
        };
        self.attach(&outcome, None, buffer);
        lock(&self.stats).count(None, false, failed, frame.lost);
    }

    fn attach(&self, outcome: &Outcome<'_>, map: Option<MapView<'_>>, buffer: &mut gst::BufferRef) {
        if let Err(error) = outcome.attach(buffer, map) {
            let frame = outcome.frame;
            gst::error!(CAT, imp = self, "no meta on frame {frame}: {error}");
        }
    }
}
