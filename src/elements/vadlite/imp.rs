//! The behaviour of the element: GStreamer's business, with the work itself in [`crate::detector`] and [`crate::video`].

use super::export::Export;
use super::frames::Frame;
use super::inspection::Inspection;
use super::learner::Learner;
use super::loader::Loader;
use super::properties::properties;
use super::settings::{Mode, Settings};
use super::stats::Stats;
use super::stream::{Picture, Stream};
use crate::detector::Device;
use crate::video::preprocess::Layout;
use glib::subclass::prelude::*;
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

pub(super) static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
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
    pub(super) state: Mutex<Option<State>>,
    /// The streaming thread is to come back: a flush, or the end of playing.
    pub(super) leaving: AtomicBool,
    /// Where models that are set while playing are opened; some between start and stop.
    wanted: Mutex<Option<Sender<Settings>>>,
    /// Apart from `state`, which the streaming thread holds for the whole of an inspection.
    pub(super) stats: Mutex<Stats>,
}

/// What exists between start and stop, used by the streaming thread alone.
pub(super) struct State {
    pub stream: Stream,
    pub work: Work,
    pub loader: Loader,
    /// Ends when it is dropped.
    _export: Export,
}

/// What is done with frames.
pub(super) enum Work {
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

impl VadLite {
    /// Whether the source goes on without waiting for anybody; so it is held for where it does not say.
    fn is_live(&self) -> bool {
        let mut query = gst::query::Latency::new();
        let answered = self.obj().sink_pad().peer_query(&mut query);
        !answered || query.result().0
    }
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
        properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let mut settings = self.settings.lock();
        settings.set(pspec.name(), value);
        if pspec.name() == "model"
            && let Some(wanted) = self.wanted.lock().as_ref()
        {
            // The thread lives as long as there is a way to it.
            let _ = wanted.send(settings.clone());
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "stats" {
            return self.stats.lock().structure().to_value();
        }
        self.settings
            .lock()
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

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        let leaving = transition == gst::StateChange::PausedToReady;
        self.leaving.store(leaving, Ordering::Relaxed);
        self.parent_change_state(transition)
    }
}

impl BaseTransformImpl for VadLite {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = self.settings.lock().clone();
        let device = settings.device;
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
        *self.stats.lock() = stats;
        let export = Export::start(&element, &settings)
            .map_err(|error| gst::error_msg!(gst::ResourceError::OpenWrite, ("{error}")))?;
        *self.wanted.lock() = Some(loader.wanted.clone());
        *self.state.lock() = Some(State {
            stream: Stream::default(),
            work,
            loader,
            _export: export,
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        *self.wanted.lock() = None;
        // Without the lock: its threads may need it to end.
        let state = self.state.lock().take();
        drop(state);
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(incaps)
            .map_err(|_| gst::loggable_error!(CAT, "not raw video: {incaps}"))?;
        let layout = Layout::from_info(&info)
            .ok_or_else(|| gst::loggable_error!(CAT, "unsupported format {}", info.name()))?;
        let waits = self.settings.lock().mode == Mode::Learn && !self.is_live();
        let mut state = self.state.lock();
        let state = state
            .as_mut()
            .ok_or_else(|| gst::loggable_error!(CAT, "caps before start"))?;
        if let Work::Learn(learner) = &mut state.work {
            learner.waits = waits;
        }
        let picture = state.stream.picture.insert(Picture { info, layout });
        state.work.negotiate(picture);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        // After these a discontinuity is asked for, not a loss.
        if matches!(
            event.type_(),
            gst::EventType::FlushStop | gst::EventType::Segment | gst::EventType::StreamStart
        ) && let Some(state) = self.state.lock().as_mut()
        {
            state.stream.forget_last();
        }
        match event.type_() {
            gst::EventType::FlushStart => self.leaving.store(true, Ordering::Relaxed),
            gst::EventType::FlushStop => self.leaving.store(false, Ordering::Relaxed),
            gst::EventType::Eos => self.finish_learning(),
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let start = Instant::now();
        let live = self.settings.lock().live;
        let mut guard = self.state.lock();
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
