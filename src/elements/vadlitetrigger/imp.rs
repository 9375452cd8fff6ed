//! The behaviour of the element: reads results off frames, and passes pulses to the outputs.

use super::output::{Event, Output, OutputError, Report, Target};
use super::parts::{Frame, MOST, Part, Reason, Taken};
use super::pulse::Pulse;
use super::schedule::Schedule;
use super::settings::{self, FailSafe, Live, Settings};
use super::stats::Stats;
use crate::video::meta::FrameResult;
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Name of the structure of the bus message for a pulse.
const MESSAGE_NAME: &str = "vadlitetrigger";

#[derive(Default)]
pub struct VadLiteTrigger {
    settings: Mutex<Settings>,
    stats: Mutex<Stats>,
    /// Between start and stop.
    running: Mutex<Option<Running>>,
}

struct Running {
    schedule: Arc<Schedule>,
    thread: Option<JoinHandle<()>>,
    outputs: Vec<Output>,
    /// A frame without a result has been warned of.
    warned: bool,
}

#[glib::object_subclass]
impl ObjectSubclass for VadLiteTrigger {
    const NAME: &'static str = "GstVadLiteTrigger";
    type Type = super::VadLiteTrigger;
    type ParentType = gst_base::BaseTransform;
}

impl ObjectImpl for VadLiteTrigger {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.set_passthrough(true);
        // With QoS, late frames would be dropped before they are looked at.
        element.set_qos(false);
        element.set_gap_aware(true);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.settings.lock().set(pspec.name(), value);
        if let Some(schedule) = self.schedule() {
            schedule.wake();
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

impl GstObjectImpl for VadLiteTrigger {}

impl ElementImpl for VadLiteTrigger {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Reject gate trigger",
                "Filter/Analyzer/Video",
                "Fires a reject gate over MQTT, Modbus TCP or GPIO when a part that vadlite flagged is there",
                env!("CARGO_PKG_AUTHORS"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            [
                ("sink", gst::PadDirection::Sink),
                ("src", gst::PadDirection::Src),
            ]
            .into_iter()
            .filter_map(|(name, direction)| {
                let caps = gst::Caps::new_any();
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
        if let Some(schedule) = self.schedule() {
            match transition {
                gst::StateChange::PlayingToPaused => schedule.set_playing(false),
                // An end of stream that waits for parts holds the pad.
                gst::StateChange::PausedToReady => schedule.stop(),
                _ => {}
            }
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToPlaying
            && let Some(schedule) = self.schedule()
        {
            schedule.set_playing(true);
        }
        Ok(success)
    }
}

impl BaseTransformImpl for VadLiteTrigger {
    const MODE: gst_base::subclass::BaseTransformMode =
        gst_base::subclass::BaseTransformMode::AlwaysInPlace;
    const PASSTHROUGH_ON_SAME_CAPS: bool = true;
    const TRANSFORM_IP_ON_PASSTHROUGH: bool = true;

    fn start(&self) -> Result<(), gst::ErrorMessage> {
        let settings = self.settings.lock().clone();
        let refused = |property: &str, reason: &dyn std::fmt::Display| {
            gst::error_msg!(
                gst::ResourceError::OpenWrite,
                ("the property {property}: {reason}")
            )
        };
        settings
            .check()
            .map_err(|reason| gst::error_msg!(gst::LibraryError::Settings, ("{reason}")))?;
        let targets =
            Target::parse_all(&settings.output).map_err(|error| refused("output", &error))?;
        gst::debug!(super::CAT, imp = self, "outputs: {targets:?}");
        *self.stats.lock() = Stats::default();
        let element = self.obj().downgrade();
        let report: Report = Arc::new(move |output, event| {
            if let Some(element) = element.upgrade() {
                element.imp().take_event(output, event);
            }
        });
        let credentials = settings.credentials.as_deref();
        let outputs = targets
            .iter()
            .map(|target| {
                let limit = settings.queue_size as usize;
                Output::start(target, credentials, limit, report.clone())
            })
            .collect::<Result<_, OutputError>>()
            .map_err(|error| refused(error.property(), &error))?;
        let schedule = Arc::new(Schedule::default());
        let thread = schedule
            .start(&self.obj())
            .map_err(|error| refused("output", &format!("no thread can be started: {error}")))?;
        *self.running.lock() = Some(Running {
            schedule,
            thread: Some(thread),
            outputs,
            warned: false,
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let running = self.running.lock().take();
        if let Some(mut running) = running {
            running.schedule.stop();
            if let Some(thread) = running.thread.take() {
                // Its panic is not ours.
                let _ = thread.join();
            }
        }
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if let Some(schedule) = self.schedule() {
            match event.type_() {
                gst::EventType::FlushStop => schedule.clear(),
                gst::EventType::Eos => schedule.drain(),
                _ => {}
            }
        }
        self.parent_sink_event(event)
    }

    fn transform_ip_passthrough(
        &self,
        buffer: &gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(schedule) = self.schedule() else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let live = self.live();
        let element = self.obj();
        let segment = element.segment();
        let time = segment
            .downcast_ref::<gst::ClockTime>()
            .and_then(|segment| segment.to_running_time(buffer.pts()));
        let now = element.current_running_time();
        // A frame without a time was taken just now.
        let Some(time) = time.or(now).map(gst::ClockTime::nseconds) else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let (frame, inspected) = self.read(buffer, time, &live);
        let now = now.map(gst::ClockTime::nseconds);
        if schedule.frame(frame, inspected, &live, now) == Taken::Lost {
            self.lose_part();
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

impl VadLiteTrigger {
    fn schedule(&self) -> Option<Arc<Schedule>> {
        self.running
            .lock()
            .as_ref()
            .map(|running| running.schedule.clone())
    }

    /// The properties that may change while playing.
    pub fn live(&self) -> Live {
        self.settings.lock().live
    }

    /// What the frame's meta says, and whether it was inspected.
    fn read(&self, buffer: &gst::BufferRef, time: u64, live: &Live) -> (Frame, bool) {
        let mut frame = Frame {
            number: u64::MAX,
            time,
            score: 0.0,
            threshold: 0.0,
            flagged: false,
            reason: Reason::Flagged,
        };
        let (mut inspected, mut skipped) = (false, false);
        FrameResult::read_all(buffer, |result| {
            if let Ok(result) = result {
                frame.number = result.frame;
                (frame.score, frame.threshold) = (result.score, result.threshold);
                frame.flagged = result.flagged;
                (inspected, skipped) = (result.inspected, result.skipped);
            }
        });
        if inspected || skipped {
            return (frame, inspected);
        }
        let warn = self
            .running
            .lock()
            .as_mut()
            .is_some_and(|running| !std::mem::replace(&mut running.warned, true));
        if warn {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                (
                    "a frame passes that vadlite has not inspected; {}",
                    consequence(live)
                )
            );
        }
        match live.fail_safe {
            FailSafe::Reject => (Frame::uninspected(frame.number, time), false),
            FailSafe::Pass => (frame, false),
        }
    }

    /// Counts a part that passes because too many are on their way, and warns of the first.
    fn lose_part(&self) {
        let first = {
            let mut stats = self.stats.lock();
            stats.lost += 1;
            stats.lost == 1
        };
        if first {
            gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                ("{MOST} parts are on their way to the gate, and others pass; the delay is too long")
            );
        }
    }

    /// Fires for a part that is at the gate; `now` in running time.
    pub fn fire(&self, part: Part, now: u64, live: &Live) {
        let after = Duration::from_nanos(now.saturating_sub(part.due));
        let pulse = Pulse {
            part,
            fired: Instant::now(),
            width: Duration::from_nanos(live.pulse),
            late: if part.late { after } else { Duration::ZERO },
        };
        let mut dropped = 0;
        if let Some(running) = self.running.lock().as_ref() {
            for output in &running.outputs {
                dropped += u64::from(output.push(pulse).is_some());
            }
        }
        {
            let mut stats = self.stats.lock();
            stats.pulses += 1;
            stats.dropped += dropped;
            stats.fail_safe += u64::from(part.reason == Reason::FailSafe);
            if part.late {
                stats.late += 1;
            } else {
                stats.record_error(after);
            }
        }
        let structure = gst::Structure::builder(MESSAGE_NAME)
            .field("part", part.number)
            .field("frame", part.worst_frame)
            .field("score", part.score)
            .field("threshold", part.threshold)
            .field("reason", pulse.reason())
            .field("due", part.due)
            .field("fired", now)
            .field("late", part.late)
            .field("dropped", dropped);
        self.post(structure.build());
    }

    /// No inspected frame has come for the watchdog's time.
    pub fn warn_of_silence(&self, live: &Live) {
        gst::element_imp_warning!(
            self,
            gst::StreamError::Failed,
            (
                "no inspected frame for {} ms; {}",
                live.watchdog / 1_000_000,
                consequence(live)
            )
        );
    }

    fn take_event(&self, output: &str, event: Event) {
        let structure = gst::Structure::builder("vadlitetrigger-output").field("output", output);
        let mut stats = self.stats.lock();
        let structure = match event {
            Event::Connected => {
                stats.set_connected(output, true);
                structure.field("event", "connected")
            }
            Event::Disconnected(reason) => {
                stats.set_connected(output, false);
                drop(stats);
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Write,
                    ("{output}: {reason}; it is tried again, and the pipeline goes on")
                );
                let structure = structure.field("event", "disconnected");
                return self.post(structure.field("reason", reason).build());
            }
            Event::Missed(pulse) => {
                stats.missed += 1;
                let part = pulse.part.number;
                structure.field("event", "missed").field("part", part)
            }
        };
        drop(stats);
        self.post(structure.build());
    }

    fn post(&self, structure: gst::Structure) {
        let element = self.obj();
        let message = gst::message::Element::builder(structure).src(&*element);
        let _ = element.post_message(message.build());
    }
}

fn consequence(live: &Live) -> &'static str {
    match live.fail_safe {
        FailSafe::Pass => "parts pass (fail-safe=pass)",
        FailSafe::Reject => "parts are rejected (fail-safe=reject)",
    }
}
