//! The behaviour of the element: GStreamer's business, with the work itself in [`crate::detector`] and [`crate::video`].

use super::inspector::Inspector;
use super::settings::{self, PostMessages, Settings};
use super::stats::Stats;
use crate::detector::Device;
use crate::video::meta::Outcome;
use crate::video::preprocess::Layout;
use glib::subclass::prelude::*;
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
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
    state: Mutex<Option<Inspector>>,
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
        let state = Inspector::new(&settings).inspect_err(|_| {
            progress(gst::ProgressType::Error, "TensorRT cannot be used");
        })?;
        progress(gst::ProgressType::Complete, "TensorRT is ready");
        gst::info!(
            CAT,
            imp = self,
            "model {} with threshold {}",
            state.model_name,
            state.threshold()
        );
        *lock(&self.stats) = Stats::new(device.name());
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
            state.forget_last();
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
        let frame = state.count_frame();
        let lost = state.frames_lost(buffer);
        if let Err(reason) = state.update_threshold(&live) {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("{}; the threshold stays at {}", reason, state.threshold())
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

        let flagged = score.is_some_and(|score| score > state.threshold());
        state.find_regions(flagged);
        if score.is_some() && (flagged || live.overlay_always) {
            state.draw(buffer, live.overlay);
        }
        let latency = start.elapsed().as_nanos() as u64;
        let outcome = Outcome {
            score: score.unwrap_or(0.0),
            threshold: state.threshold(),
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
