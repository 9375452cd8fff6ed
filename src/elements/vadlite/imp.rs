//! The behaviour of the element: GStreamer's business, with the work itself in [`crate::detector`] and [`crate::video`].

use super::CAT;
use super::export::Export;
use super::inspection::Inspection;
use super::learner::{Learner, Missing, REPORT_EVERY};
use super::loader::Loader;
use super::properties::properties;
use super::session::{ActiveMode, Event, Session};
use super::settings::{Mode, Settings, ThresholdFrom};
use super::stats::Stats;
use super::wakeup::Wakeup;
use crate::detector::Device;
use crate::elements::is_live;
use crate::elements::messages::element_message;
use crate::elements::refused::Refused;
use crate::video::formats;
use crate::video::frame::FrameFormat;
use glib::subclass::prelude::*;
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::sync::{Arc, LazyLock};
use std::time::Instant;

#[derive(Default)]
pub struct VadLite {
    /// Taken before the others, where several are.
    settings: Mutex<Settings>,
    refused: Mutex<Refused>,
    /// Some between start and stop.
    session: Mutex<Option<Session>>,
    /// Has the model opened that is set while playing; some between start and stop.
    wanted: Mutex<Option<Sender<()>>>,
    /// Apart from `session`, which the streaming thread holds for the whole of an inspection.
    stats: Mutex<Stats>,
    /// Ends when it is dropped.
    export: Mutex<Option<Export>>,
    /// What the end of the stream waits on.
    wakeup: Arc<Wakeup>,
}

impl VadLite {
    /// The statistics in Prometheus' text format.
    pub fn prometheus(&self) -> String {
        self.stats.lock().prometheus(&self.obj().name())
    }

    /// The statistics as JSON.
    pub fn stats_json(&self) -> String {
        self.stats.lock().json()
    }

    /// Counts a model that could not take over.
    pub fn count_refused_reload(&self) {
        self.stats.lock().count_reload(false);
    }

    /// The values of the properties.
    pub fn settings(&self) -> Settings {
        self.settings.lock().clone()
    }

    /// The model that was set cannot be used: the property goes back to the one that is, unless it was set again.
    pub fn keep_model(&self, refused: &Option<PathBuf>, kept: &Option<PathBuf>) {
        let mut settings = self.settings.lock();
        if settings.model == *refused {
            settings.model.clone_from(kept);
            drop(settings);
            self.obj().notify("model");
        }
    }

    /// Whether this thread holds none of the locks that a handler of a message may need.
    #[cfg(test)]
    pub fn is_unlocked(&self) -> bool {
        let soon = std::time::Duration::from_secs(10);
        self.settings.try_lock_for(soon).is_some()
            && self.refused.try_lock_for(soon).is_some()
            && self.session.try_lock_for(soon).is_some()
            && self.wanted.try_lock_for(soon).is_some()
            && self.stats.try_lock_for(soon).is_some()
            && self.export.try_lock_for(soon).is_some()
    }

    /// The model or the learner that the settings ask for. A device may take minutes to be ready, and says so on the bus.
    fn begin(&self, settings: &Settings, loader: &Loader) -> Result<ActiveMode, gst::ErrorMessage> {
        let element = self.obj();
        let progress = |kind, text: &str| {
            if settings.device == Device::Tensorrt {
                self.post_progress(kind, "tensorrt", text);
            }
        };
        progress(
            gst::ProgressType::Start,
            "TensorRT builds its engine, or loads the one that it has built; the first time takes minutes",
        );
        let mode = match settings.mode {
            Mode::Learn => Learner::start(&element, settings, loader.offers())
                .map(|learner| ActiveMode::Learn(Box::new(learner))),
            Mode::Detect => {
                Inspection::new(settings).map(|inspection| ActiveMode::Detect(Box::new(inspection)))
            }
        };
        match &mode {
            Ok(_) => progress(gst::ProgressType::Complete, "TensorRT is ready"),
            Err(_) => progress(gst::ProgressType::Error, "TensorRT cannot be used"),
        }
        Ok(mode?)
    }

    /// Holds the stream, its next frame or its `end`, as long as learning from it asks for that, and lets a model that is ready take over.
    /// Returns whether it goes on: not where a flush or a stop has come meanwhile.
    fn wait_for_model(&self, end: bool) -> bool {
        loop {
            let step = match self.session.lock().as_mut() {
                Some(session) => session.before_next(&self.obj(), end),
                None => return false,
            };
            let (events, waits) = step;
            self.tell(events);
            if !waits {
                return true;
            }
            if !self.wakeup.wait(REPORT_EVERY) {
                return false;
            }
        }
    }

    /// Counts and posts what has happened. No lock may be held: a handler of a message may set a property or read the statistics.
    fn tell(&self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::ModelChanged {
                    name,
                    learning,
                    reload,
                } => {
                    let mut stats = self.stats.lock();
                    stats.set_model(&name);
                    if reload {
                        stats.count_reload(true);
                    }
                    drop(stats);
                    if learning {
                        self.has_learnt();
                    }
                }
                Event::Message(structure) => {
                    let element = self.obj();
                    let _ = element.post_message(element_message(&*element, structure));
                }
                Event::Progress(kind, text) => self.post_progress(kind, "learn", &text),
                Event::FrameFailed { frame, failure } => gst::element_imp_warning!(
                    self,
                    gst::StreamError::Failed,
                    ("frame {frame} could not be inspected and passes on: {failure}; others for a reason of this kind are counted as failed in the property stats")
                ),
                Event::OtherBits { frame, other } => gst::element_imp_warning!(
                    self,
                    gst::StreamError::Format,
                    ("frame {frame} {other}; learn a model from such frames, or set the camera as it was; others like it are not told")
                ),
                Event::ThresholdKept {
                    reason,
                    refused,
                    kept,
                } => {
                    self.keep_threshold(refused, kept);
                    gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{reason}"));
                }
                Event::TooFewFrames(Missing {
                    taken,
                    wanted,
                    what,
                }) => gst::element_imp_warning!(
                    self,
                    gst::StreamError::Failed,
                    ("the stream ends after {taken} of {wanted} {what} to learn from; no model is written, see the property learn-frames")
                ),
            }
        }
    }

    /// Started again, the element goes on with the model rather than learn another one over it.
    fn has_learnt(&self) {
        self.settings.lock().mode = Mode::Detect;
        self.obj().notify("mode");
    }

    /// A threshold cannot be had: its properties go back to those in force, unless they were set again.
    fn keep_threshold(&self, refused: ThresholdFrom, kept: ThresholdFrom) {
        let mut settings = self.settings.lock();
        if ThresholdFrom::of(&settings.live) != refused {
            return;
        }
        settings.live.threshold = kept.threshold;
        settings.live.false_reject_rate = kept.false_reject_rate;
        drop(settings);
        for (name, changed) in [
            ("threshold", refused.threshold != kept.threshold),
            (
                "false-reject-rate",
                refused.false_reject_rate != kept.false_reject_rate,
            ),
        ] {
            if changed {
                self.obj().notify(name);
            }
        }
    }

    /// Opens what the settings ask for.
    fn open(&self, settings: &Settings) -> Result<(Session, Export), gst::ErrorMessage> {
        // Not all settings: an address may hold a password.
        gst::debug!(
            CAT,
            imp = self,
            "starting in mode {:?}: model {:?}, backbone {:?}, roi {:?}, tiles {:?}, device {}, {:?}",
            settings.mode,
            settings.model,
            settings.backbone,
            settings.roi,
            settings.tiles,
            settings.device.name(),
            settings.live
        );
        let element = self.obj();
        let loader = Loader::start(&element, settings, self.wakeup.clone())?;
        let mode = self.begin(settings, &loader)?;
        let mut stats = Stats::new(settings.device.name());
        match &mode {
            ActiveMode::Detect(inspection) => {
                let (name, threshold) = (&inspection.model_name, inspection.threshold());
                gst::info!(
                    CAT,
                    imp = self,
                    "model {name} with threshold {threshold}, opened in {:.1?}",
                    inspection.opened_in
                );
                stats.set_model(name);
            }
            ActiveMode::Learn(_) => {
                let (method, frames) = (settings.method.name(), settings.learn_frames);
                gst::info!(CAT, imp = self, "learning {method} from {frames} frames");
            }
        }
        *self.stats.lock() = stats;
        let export = Export::start(
            &element,
            settings.stats_file.as_deref(),
            &settings.stats_mqtt,
            settings.credentials.as_deref(),
        )
        .map_err(|error| gst::error_msg!(gst::ResourceError::OpenWrite, ("{error}")))?;
        Ok((Session::new(mode, loader), export))
    }

    /// Whether the element can go on with what was opened for `settings`: not where other values were set meanwhile. From here on it counts
    /// as running.
    ///
    /// # Errors
    /// A value that was refused meanwhile.
    fn run(&self, settings: &Settings, session: &Session) -> Result<bool, gst::ErrorMessage> {
        let present = self.settings.lock();
        self.refused.lock().check()?;
        let same = present.starts_like(settings);
        if same {
            *self.wanted.lock() = session.wanted();
        }
        Ok(same)
    }

    /// A model that is there already is not learnt over without a word.
    fn tell_of_learning(&self, settings: &Settings) {
        if let (Mode::Learn, Some(model)) = (settings.mode, &settings.model)
            && model.exists()
        {
            let element = self.obj();
            gst::element_info!(
                element,
                gst::LibraryError::Settings,
                (
                    "the property mode: {} will be replaced by the model that is learnt now; until then it stays as it is",
                    model.display()
                )
            );
        }
    }

    fn post_progress(&self, kind: gst::ProgressType, code: &str, text: &str) {
        let message = gst::message::Progress::builder(kind, code, text);
        let element = self.obj();
        let _ = element.post_message(message.src(&*element).build());
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
        let refused = {
            let mut settings = self.settings.lock();
            let set = settings.set(pspec.name(), value);
            let wanted = self.wanted.lock();
            if pspec.name() == "model"
                && let Some(wanted) = wanted.as_ref()
            {
                // The thread lives as long as there is a way to it.
                let _ = wanted.send(());
            }
            let mut refused = self.refused.lock();
            refused.note(pspec.name(), set, wanted.is_some())
        };
        if let Some(reason) = refused {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{reason}"));
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
            let caps = formats::caps();
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
        match transition {
            gst::StateChange::ReadyToPaused => {
                self.wakeup.set_stopping(false);
                self.wakeup.set_flushing(false);
            }
            gst::StateChange::PausedToReady => self.wakeup.set_stopping(true),
            _ => {}
        }
        self.parent_change_state(transition)
    }
}

impl BaseTransformImpl for VadLite {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = false;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = false;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        loop {
            self.refused.lock().check()?;
            let settings = self.settings();
            let (session, export) = match self.open(&settings) {
                Ok(opened) => opened,
                // Of values that are no more it says nothing.
                Err(_) if !self.settings.lock().starts_like(&settings) => continue,
                Err(error) => return Err(error),
            };
            if self.run(&settings, &session)? {
                *self.export.lock() = Some(export);
                *self.session.lock() = Some(session);
                self.tell_of_learning(&settings);
                return Ok(());
            }
        }
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let start = Instant::now();
        *self.wanted.lock() = None;
        // Without the locks: their threads may need them to end.
        let session = self.session.lock().take();
        let learnt = session.is_some_and(|mut session| session.stop());
        if learnt {
            self.has_learnt();
        }
        let export = self.export.lock().take();
        drop(export);
        gst::debug!(CAT, imp = self, "stopped in {:.1?}", start.elapsed());
        Ok(())
    }

    fn set_caps(&self, incaps: &gst::Caps, _outcaps: &gst::Caps) -> Result<(), gst::LoggableError> {
        let info = gst_video::VideoInfo::from_caps(incaps)
            .map_err(|_| gst::loggable_error!(CAT, "not raw video: {incaps}"))?;
        let rate = info.fps();
        let format = FrameFormat::new(info)
            .ok_or_else(|| gst::loggable_error!(CAT, "unsupported format: {incaps}"))?;
        gst::debug!(CAT, imp = self, "frames are {incaps}");
        let waits = !is_live(self.obj().sink_pad());
        let mut session = self.session.lock();
        let session = session
            .as_mut()
            .ok_or_else(|| gst::loggable_error!(CAT, "caps before start"))?;
        session.negotiate(format, rate, waits);
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        gst::log!(CAT, imp = self, "{event:?}");
        let session = |tell: fn(&mut Session)| {
            if let Some(session) = self.session.lock().as_mut() {
                tell(session);
            }
        };
        match event.type_() {
            gst::EventType::FlushStart => self.wakeup.set_flushing(true),
            // After these a discontinuity is asked for, not a loss.
            gst::EventType::FlushStop => {
                self.wakeup.set_flushing(false);
                session(Session::forget_last_frame);
            }
            gst::EventType::Segment | gst::EventType::StreamStart => {
                session(Session::forget_last_frame);
            }
            gst::EventType::Gap => session(Session::interrupt),
            gst::EventType::Eos => {
                self.wait_for_model(true);
                let live = self.settings.lock().live;
                let mut session = self.session.lock();
                let left = session.as_mut().map(|session| session.finish_parts(&live));
                drop(session);
                self.tell(left.unwrap_or_default());
            }
            _ => {}
        }
        self.parent_sink_event(event)
    }

    fn transform_ip(
        &self,
        buffer: &mut gst::BufferRef,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let start = Instant::now();
        if !self.wait_for_model(false) {
            return Err(gst::FlowError::Flushing);
        }
        let live = self.settings.lock().live;
        let processed = match self.session.lock().as_mut() {
            Some(session) => session.process(&self.obj(), buffer, &live, start)?,
            None => return Err(gst::FlowError::Flushing),
        };
        self.stats.lock().count(&processed.count);
        self.tell(processed.events);
        Ok(gst::FlowSuccess::Ok)
    }
}
