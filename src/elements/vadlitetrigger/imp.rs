//! The behaviour of the element: GStreamer's business. Frames go to the gate, which decides and fires.

use super::CAT;
use super::gate::Gate;
use super::observation::{Inspection, Observation, Reader, Reading};
use super::output::{Event, Output, OutputError, Report, Target};
use super::parts::{Association, MOST, Part};
use super::properties::properties;
use super::schedule::Seen;
use super::settings::{FailSafe, LiveSettings, Settings};
use super::stamps::Arrival;
use super::stats::Stats;
use crate::elements::messages::{BusMessage, OutputChanged, OutputEvent};
use crate::elements::refused::Refused;
use crate::elements::{is_live, time};
use crate::thread::Owned;
use crate::video::meta::FieldError;
use gst::prelude::*;
use gst_base::prelude::*;
use gst_base::subclass::prelude::*;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

#[derive(Default)]
pub struct VadLiteTrigger {
    settings: Mutex<Settings>,
    refused: Mutex<Refused>,
    stats: Mutex<Stats>,
    /// In place of the system's clock.
    clock: Mutex<Option<gst::Clock>>,
    /// Between start and stop.
    running: Mutex<Option<Running>>,
}

struct Running {
    gate: Arc<Gate>,
    thread: Owned,
    /// Held beside the thread's own, so that they end after it and not in it.
    outputs: Arc<[Output]>,
    reader: Reader,
    /// The source waits for nobody.
    live: bool,
    playing: bool,
    /// What has been warned of, which is done once.
    warned: SmallVec<[Cause; 6]>,
}

/// What frames are warned of, each once a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    Uninspected,
    Unreadable,
    Lost,
    Time,
    TooMany,
    /// The speed is to be measured by parts, and none are located.
    Unmeasured,
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
            name @ ("output" | "credentials") => {
                gst::debug!(CAT, imp = self, "the property {name} is set");
            }
            name => gst::debug!(CAT, imp = self, "the property {name} is {value:?}"),
        }
        let set = self.settings.lock().set(pspec.name(), value);
        let gate = self.gate();
        let warning = self.refused.lock().note(pspec.name(), set, gate.is_some());
        if let Some(warning) = warning {
            gst::element_imp_warning!(self, gst::LibraryError::Settings, ("{warning}"));
        }
        if let Some(gate) = gate {
            gate.settings_changed(&self.live_settings());
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "stats" {
            let now = self.gate().map(|gate| gate.now());
            return self.stats.lock().structure(now).to_value();
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
                gst::StateChange::PlayingToPaused => {
                    let running = self.obj().current_running_time();
                    gate.pause(running.map(gst::ClockTime::nseconds));
                    self.set_playing(false);
                }
                // An end of stream that waits for parts holds the pad.
                gst::StateChange::PausedToReady => gate.stop(),
                _ => {}
            }
        }
        let success = self.parent_change_state(transition)?;
        if transition == gst::StateChange::PausedToPlaying
            && let Some(gate) = self.gate()
        {
            self.set_playing(true);
            gate.play();
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
        self.refused.lock().check()?;
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
        let (gate, thread) =
            Gate::start(&self.obj(), outputs.clone(), self.clock()).map_err(|error| {
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
            reader: Reader::default(),
            live: false,
            playing: false,
            warned: SmallVec::new(),
        });
        self.warn_of_settings(&settings.live);
        Ok(())
    }

    fn stop(&self) -> Result<(), gst::ErrorMessage> {
        let running = self.running.lock().take();
        if let Some(running) = running {
            running.gate.stop();
            running.thread.join();
            let left = running.gate.parts_on_their_way() as u64;
            if left > 0 {
                self.stats.lock().lost += left;
                gst::element_imp_warning!(
                    self,
                    gst::StreamError::Failed,
                    ("stopped with {left} parts on their way to the gate, which pass it")
                );
            }
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
                gst::EventView::Segment(_) => {
                    let live = is_live(self.obj().sink_pad());
                    if let Some(running) = self.running.lock().as_mut() {
                        running.live = live;
                    }
                }
                gst::EventView::FlushStart(_) => gate.flush_start(),
                gst::EventView::FlushStop(_) => {
                    gst::debug!(
                        CAT,
                        imp = self,
                        "flushed: parts on their way stay on the belt"
                    );
                    gate.flush_stop();
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
        let element = self.obj();
        let segment = element.segment();
        let stamp = segment
            .downcast_ref::<gst::ClockTime>()
            .and_then(|segment| segment.to_running_time(buffer.pts()));
        let (gate, read, live, playing) = match self.running.lock().as_mut() {
            Some(running) => (
                running.gate.clone(),
                running.reader.read(buffer),
                running.live,
                running.playing,
            ),
            None => return Ok(gst::FlowSuccess::Ok),
        };
        let Reading {
            observation,
            parts,
            unreadable,
        } = read;
        let running = element.current_running_time().filter(|_| playing);
        let arrival = Arrival {
            stamp: stamp.map(gst::ClockTime::nseconds),
            running: running.map(gst::ClockTime::nseconds),
            live,
        };
        let settings = self.live_settings();
        let seen = gate.frame(observation, &parts, arrival, &settings)?;
        let taken = time::display(seen.taken.at);
        match seen.association {
            Association::None => {
                gst::log!(CAT, imp = self, "{observation}; taken at {taken}; no part");
            }
            association => {
                gst::debug!(
                    CAT,
                    imp = self,
                    "{observation}; taken at {taken}; {association}"
                );
            }
        }
        for part in &parts {
            gst::log!(CAT, imp = self, "{part}");
        }
        self.stats.lock().count_frame(&observation, &seen);
        self.warn_of_frame(&observation, &seen, unreadable, &settings);
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

    /// What the gate goes by: the clock that was set, or one that is monotonic.
    fn clock(&self) -> gst::Clock {
        let set = self.clock.lock().clone();
        set.unwrap_or_else(|| {
            let clock: gst::SystemClock = glib::Object::builder()
                .property("clock-type", gst::ClockType::Monotonic)
                .build();
            clock.upcast()
        })
    }

    pub fn set_clock(&self, clock: gst::Clock) {
        *self.clock.lock() = Some(clock);
    }

    fn set_playing(&self, playing: bool) {
        if let Some(running) = self.running.lock().as_mut() {
            running.playing = playing;
        }
    }

    /// The properties that may change while playing.
    pub fn live_settings(&self) -> LiveSettings {
        self.settings.lock().live
    }

    /// Warns of settings under which bad parts pass.
    fn warn_of_settings(&self, settings: &LiveSettings) {
        if settings.goes_by_belt() && settings.belt_speed == 0.0 {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("distance is set and belt-speed is 0: the belt stands, and no part comes to the gate until belt-speed is set (delay is not used)")
            );
        }
        if settings.measures_speed() && settings.field_of_view == 0.0 {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("belt-speed=-1 without field-of-view: the speed cannot be measured, and the belt stands; set field-of-view to the width of what a frame shows, in m")
            );
        }
        if settings.fail_safe == FailSafe::Reject && settings.watchdog == 0 {
            gst::element_imp_warning!(
                self,
                gst::LibraryError::Settings,
                ("fail-safe=reject without watchdog: when frames stay away, parts pass; set watchdog to the longest time without an inspected frame")
            );
        }
    }

    /// Warns of what is wrong with a frame, of each cause once.
    fn warn_of_frame(
        &self,
        observation: &Observation,
        seen: &Seen,
        unreadable: Option<FieldError>,
        settings: &LiveSettings,
    ) {
        let failed = observation.inspection == Inspection::Failed;
        let wrong = [
            (unreadable.is_some(), Cause::Unreadable),
            (failed && unreadable.is_none(), Cause::Uninspected),
            (observation.lost > 0, Cause::Lost),
            (seen.taken.implausible.is_some(), Cause::Time),
            (seen.too_many > 0, Cause::TooMany),
            (
                settings.measures_speed()
                    && observation.inspection == Inspection::Inspected
                    && !observation.located,
                Cause::Unmeasured,
            ),
        ];
        for (_, cause) in wrong.into_iter().filter(|(wrong, _)| *wrong) {
            let new = self.running.lock().as_mut().is_some_and(|running| {
                let new = !running.warned.contains(&cause);
                if new {
                    running.warned.push(cause);
                }
                new
            });
            if !new {
                continue;
            }
            let consequence = settings.fail_safe.consequence();
            let text = match (cause, &unreadable, seen.taken.implausible) {
                (Cause::Unreadable, Some(error), _) => format!(
                    "a result on a frame cannot be read: {error}; the frame counts as not inspected, {consequence}"
                ),
                (Cause::Lost, ..) => format!(
                    "{} frames are missing before a frame: nobody has inspected them, {consequence}",
                    observation.lost
                ),
                (Cause::Time, _, Some(wrong)) => format!(
                    "the time stamp of a frame is {wrong}, so it is taken to be of now; the source's clock is not the pipeline's (do-timestamp=true stamps frames as they come)"
                ),
                (Cause::TooMany, ..) => format!(
                    "{MOST} parts are on their way to the gate, and others pass; the delay is too long"
                ),
                (Cause::Unmeasured, ..) => "belt-speed=-1 measures by the parts that vadlite locates, and a frame comes from a model that locates none: the belt stands, and nothing comes to a gate at a distance".to_owned(),
                _ => format!("a frame passes that vadlite has not inspected; {consequence}"),
            };
            gst::element_imp_warning!(
                self,
                gst::StreamError::Failed,
                ("{text}; told once, and counted")
            );
        }
    }

    /// Counts that no inspected frame has come for the watchdog's time.
    pub fn count_silence(&self) {
        self.stats.lock().silences += 1;
    }

    /// Counts that the gate is held, or let go.
    pub fn count_hold(&self, held: bool, now: u64) {
        self.stats.lock().set_held(held, now);
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
            Event::Disconnected { reason, again } => {
                self.stats.lock().set_connected(output, false);
                if !again {
                    gst::element_imp_warning!(
                        self,
                        gst::ResourceError::Write,
                        ("{output}: {reason}; it is tried again, and the pipeline goes on")
                    );
                }
                OutputEvent::Disconnected { reason }
            }
            Event::LeftOn(reason) => {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Write,
                    ("{output}: the coil may still be on: {reason}")
                );
                OutputEvent::LeftOn { reason }
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
