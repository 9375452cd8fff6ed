//! The behaviour of the element: GStreamer's business. Frames go to the gate, which decides and fires.

use super::CAT;
use super::gate::Gate;
use super::observation::{Inspection, Observation};
use super::output::{Event, Output, OutputError, Report, Target};
use super::parts::{Association, MOST, Part};
use super::properties::properties;
use super::settings::{LiveSettings, Settings};
use super::stats::Stats;
use crate::elements::messages::{BusMessage, OutputChanged, OutputEvent};
use crate::thread::Owned;
use crate::video::meta::FieldError;
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;
use std::mem;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

#[derive(Default)]
pub struct VadLiteTrigger {
    settings: Mutex<Settings>,
    stats: Mutex<Stats>,
    /// Between start and stop.
    running: Mutex<Option<Running>>,
}

struct Running {
    gate: Arc<Gate>,
    thread: Owned,
    /// Held beside the thread's own, so that they end after it and not in it.
    outputs: Arc<[Output]>,
    /// What has been warned of, which is done once.
    warned: Warned,
}

#[derive(Default)]
struct Warned {
    uninspected: bool,
    unreadable: bool,
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
        properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        match pspec.name() {
            // A password may stand in it, if by mistake.
            "output" => gst::debug!(CAT, imp = self, "the property output is set"),
            name => gst::debug!(CAT, imp = self, "the property {name} is {value:?}"),
        }
        self.settings.lock().set(pspec.name(), value);
        if let Some(gate) = self.gate() {
            gate.settings_changed();
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
        gst::debug!(CAT, imp = self, "state change {transition:?}");
        if let Some(gate) = self.gate() {
            match transition {
                gst::StateChange::PlayingToPaused => gate.set_playing(false),
                // An end of stream that waits for parts holds the pad.
                gst::StateChange::PausedToReady => gate.stop(),
                _ => {}
            }
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToPlaying
            && let Some(gate) = self.gate()
        {
            gate.set_playing(true);
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
        gst::debug!(CAT, imp = self, "outputs: {targets:?}");
        *self.stats.lock() = Stats::default();
        let element = self.obj().downgrade();
        let report: Report = Arc::new(move |output, event| {
            if let Some(element) = element.upgrade() {
                element.imp().output_changed(output, event);
            }
        });
        let credentials = settings.credentials.as_deref();
        let outputs = targets
            .iter()
            .map(|target| {
                let limit = settings.queue_size as usize;
                Output::start(target, credentials, limit, report.clone())
            })
            .collect::<Result<Arc<[_]>, OutputError>>()
            .map_err(|error| refused(error.property(), &error))?;
        let (gate, thread) = Gate::start(&self.obj(), outputs.clone()).map_err(|error| {
            gst::error_msg!(
                gst::CoreError::Thread,
                ("no thread can be started to fire pulses: {error}")
            )
        })?;
        gst::debug!(
            CAT,
            imp = self,
            "started with {} outputs, {:?}",
            outputs.len(),
            settings.live
        );
        *self.running.lock() = Some(Running {
            gate,
            thread,
            outputs,
            warned: Warned::default(),
        });
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let running = self.running.lock().take();
        if let Some(running) = running {
            running.gate.stop();
            running.thread.join();
            // They have a while to send what they have.
            drop(running.outputs);
        }
        gst::debug!(CAT, imp = self, "stopped");
        Ok(())
    }

    fn sink_event(&self, event: gst::Event) -> bool {
        if let Some(gate) = self.gate() {
            match event.view() {
                gst::EventView::Caps(caps) => gst::debug!(CAT, imp = self, "{}", caps.caps()),
                gst::EventView::FlushStop(_) => {
                    gst::debug!(CAT, imp = self, "flushed: parts on their way are forgotten");
                    gate.clear();
                }
                gst::EventView::Eos(_) => {
                    gst::debug!(
                        CAT,
                        imp = self,
                        "end of stream: waits for parts on their way"
                    );
                    gate.drain();
                    gst::debug!(CAT, imp = self, "end of stream goes on");
                }
                _ => {}
            }
        }
        self.parent_sink_event(event)
    }

    fn transform_ip_passthrough(
        &self,
        buffer: &gst::Buffer,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let Some(gate) = self.gate() else {
            return Ok(gst::FlowSuccess::Ok);
        };
        let element = self.obj();
        let segment = element.segment();
        let time = segment
            .downcast_ref::<gst::ClockTime>()
            .and_then(|segment| segment.to_running_time(buffer.pts()));
        let now = element.current_running_time();
        // A frame without a time was taken just now.
        let Some(time) = time.or(now).map(gst::ClockTime::nseconds) else {
            gst::debug!(
                CAT,
                imp = self,
                "a frame without a time, and no clock: it counts to no part"
            );
            return Ok(gst::FlowSuccess::Ok);
        };
        let now = now.map(gst::ClockTime::nseconds);
        let settings = self.live_settings();
        let (observation, unreadable) = Observation::read(buffer, time);
        let association = gate.frame(observation, &settings, now)?;
        match association {
            Association::None => gst::log!(CAT, imp = self, "{observation}; {association}"),
            _ => gst::debug!(CAT, imp = self, "{observation}; {association}"),
        }
        if observation.inspection == Inspection::Failed {
            self.warn_of_uninspected(unreadable, &settings);
        }
        if association == Association::TooMany {
            self.count_lost_part();
        }
        Ok(gst::FlowSuccess::Ok)
    }
}

impl VadLiteTrigger {
    fn gate(&self) -> Option<Arc<Gate>> {
        self.running
            .lock()
            .as_ref()
            .map(|running| running.gate.clone())
    }

    /// The properties that may change while playing.
    pub fn live_settings(&self) -> LiveSettings {
        self.settings.lock().live
    }

    /// Warns of the first frame that was not inspected, and of the first result that is not understood.
    fn warn_of_uninspected(&self, unreadable: Option<FieldError>, settings: &LiveSettings) {
        let new = self.running.lock().as_mut().is_some_and(|running| {
            let warned = &mut running.warned;
            !mem::replace(
                match unreadable {
                    Some(_) => &mut warned.unreadable,
                    None => &mut warned.uninspected,
                },
                true,
            )
        });
        if !new {
            return;
        }
        let consequence = settings.fail_safe.consequence();
        match unreadable {
            Some(error) => gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                ("a result on a frame cannot be read: {error}; the frame counts as not inspected, {consequence}")
            ),
            None => gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                ("a frame passes that vadlite has not inspected; {consequence}")
            ),
        }
    }

    /// Counts a part that passes because too many are on their way, and warns of the first.
    fn count_lost_part(&self) {
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

    /// Counts a pulse that was fired so long after its part was at the gate.
    pub fn count_pulse(&self, part: &Part, after: Duration, dropped: u64) {
        self.stats.lock().count_pulse(part, after, dropped);
    }

    /// Takes in what happens at an output.
    fn output_changed(&self, output: &str, event: Event) {
        gst::debug!(CAT, imp = self, "{output}: {event:?}");
        let event = match &event {
            Event::Connected => {
                self.stats.lock().set_connected(output, true);
                OutputEvent::Connected
            }
            Event::Disconnected(reason) => {
                self.stats.lock().set_connected(output, false);
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Write,
                    ("{output}: {reason}; it is tried again, and the pipeline goes on")
                );
                OutputEvent::Disconnected { reason }
            }
            Event::Failed(reason) => {
                self.stats.lock().count_failure(output);
                gst::element_imp_warning!(
                    self,
                    gst::CoreError::Thread,
                    ("{output}: its thread has failed ({reason}) and begins anew; what it was to send is missed")
                );
                OutputEvent::Failed { reason }
            }
            Event::Missed(pulse) => {
                self.stats.lock().missed += 1;
                let part = pulse.part.number;
                OutputEvent::Missed { part }
            }
        };
        OutputChanged { output, event }.post(&*self.obj());
    }
}
