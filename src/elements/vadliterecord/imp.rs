//! The behaviour of the element: a bin around an encoder that runs all the time, and the life of the recorder.

use super::CAT;
use super::encoder::Encoder;
use super::error::StartError;
use super::inbox::{Inbox, Outlet};
use super::recorder::{Event, KEPT, Recorder};
use super::settings::{self, Settings};
use super::stats::Stats;
use super::stream::Stream;
use crate::detector::error::Chain;
use crate::elements::messages::{BusMessage, IncidentRecorded};
use crate::elements::refused::Refused;
use crate::fs;
use crate::thread::Owned;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Longest wait for what the recorder still has to write when the element stops.
const GRACE: Duration = Duration::from_secs(10);

pub struct VadLiteRecord {
    sink: gst::GhostPad,
    settings: Mutex<Settings>,
    refused: Mutex<Refused>,
    stats: Arc<Mutex<Stats>>,
    running: Mutex<Option<Running>>,
}

/// What exists between start and stop.
struct Running {
    /// With which it was started.
    settings: Settings,
    stream: Arc<Stream>,
    recorder: Owned,
}

#[glib::object_subclass]
impl ObjectSubclass for VadLiteRecord {
    const NAME: &'static str = "GstVadLiteRecord";
    type Type = super::VadLiteRecord;
    type ParentType = gst::Bin;

    fn with_class(class: &Self::Class) -> Self {
        let template = class.pad_template("sink").expect("the class has it");
        Self {
            sink: gst::GhostPad::from_template(&template),
            settings: Mutex::default(),
            refused: Mutex::default(),
            stats: Arc::default(),
            running: Mutex::default(),
        }
    }
}

impl ObjectImpl for VadLiteRecord {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.set_element_flags(gst::ElementFlags::SINK);
        // A new bin has no pad of this name.
        let _ = element.add_pad(&self.sink);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let running = self.running.lock().is_some();
        let set = self.settings.lock().set(pspec.name(), value);
        let told = self.refused.lock().note(pspec.name(), set, running);
        if let Some(reason) = told {
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

impl GstObjectImpl for VadLiteRecord {}

impl ElementImpl for VadLiteRecord {
    fn metadata() -> Option<&'static gst::subclass::ElementMetadata> {
        static METADATA: LazyLock<gst::subclass::ElementMetadata> = LazyLock::new(|| {
            gst::subclass::ElementMetadata::new(
                "Incident recorder",
                "Sink/Video/File",
                "Records the seconds before and after frames that vadlite flagged, one file for each incident",
                env!("CARGO_PKG_AUTHORS"),
            )
        });
        Some(&METADATA)
    }

    fn pad_templates() -> &'static [gst::PadTemplate] {
        static TEMPLATES: LazyLock<Vec<gst::PadTemplate>> = LazyLock::new(|| {
            let caps = gst_video::VideoCapsBuilder::new().build();
            let direction = gst::PadDirection::Sink;
            gst::PadTemplate::new("sink", direction, gst::PadPresence::Always, &caps)
                .into_iter()
                .collect()
        });
        &TEMPLATES
    }

    fn change_state(
        &self,
        transition: gst::StateChange,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        gst::debug!(CAT, imp = self, "{transition:?}");
        match transition {
            gst::StateChange::NullToReady => self.try_start()?,
            gst::StateChange::ReadyToPaused => {
                // What was set since counts as well.
                if !self.is_current() {
                    self.stop();
                    self.try_start()?;
                }
                self.with_stream(|stream| stream.set_flushing(false));
            }
            gst::StateChange::PausedToPlaying => {
                self.with_stream(|stream| stream.set_pausing(false));
            }
            // Nobody waits for the disk while the streaming threads are waited for.
            gst::StateChange::PlayingToPaused => {
                self.with_stream(|stream| stream.set_pausing(true));
            }
            gst::StateChange::PausedToReady => {
                self.with_stream(|stream| stream.set_flushing(true));
            }
            _ => {}
        }
        let success = self.parent_change_state(transition);
        match transition {
            // There will be no change back: nothing may be left that is in the way of the next start.
            gst::StateChange::NullToReady if success.is_err() => self.stop(),
            gst::StateChange::PausedToReady => self.with_stream(Stream::cut),
            gst::StateChange::ReadyToNull => self.stop(),
            _ => {}
        }
        success
    }
}

impl BinImpl for VadLiteRecord {}

impl VadLiteRecord {
    /// Starts, or tells why not and leaves nothing behind.
    fn try_start(&self) -> Result<(), gst::StateChangeError> {
        let refused = self.refused.lock().check();
        let error = match refused.map(|()| self.start()) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                let reason = Chain(&error);
                gst::error_msg!(gst::ResourceError::OpenWrite, ("{reason}"))
            }
            Err(refused) => refused,
        };
        self.post_error_message(error);
        self.stop();
        Err(gst::StateChangeError)
    }

    fn start(&self) -> Result<(), StartError> {
        let settings = self.settings.lock().clone();
        gst::debug!(CAT, imp = self, "{settings:?}");
        let location = &settings.location;
        // Found out now rather than at the first incident.
        std::fs::create_dir_all(location)
            .and_then(|()| fs::check_writable(location))
            .map_err(|source| StartError::Location {
                path: location.clone(),
                source,
            })?;
        let element = self.obj();
        let encoder = Encoder::new(&settings.encoder, element.upcast_ref())?;
        let target = encoder.queue.static_pad("sink");
        self.sink
            .set_target(target.as_ref())
            .map_err(StartError::Link)?;
        *self.stats.lock() = Stats::default();
        let pad = self.sink.upcast_ref::<gst::Pad>().clone();
        let inbox = Arc::<Inbox>::default();
        let outlet = Arc::new(Outlet(inbox.clone()));
        let stream = Stream::new(encoder, pad.clone(), self.stats.clone(), inbox);
        let weak = element.downgrade();
        let tell = move |event| {
            if let Some(element) = weak.upgrade() {
                element.imp().handle(event);
            }
        };
        let weak = element.downgrade();
        let for_recorder = settings.clone();
        // Who waits for the recorder is let go once its panic has been told.
        let until_told = outlet.clone();
        let recorder = Owned::spawn(
            "vadliterecord",
            move || Recorder::new(for_recorder, pad, tell).run(&outlet),
            move |panic| {
                let _held = until_told;
                if let Some(element) = weak.upgrade() {
                    gst::element_error!(
                        element,
                        gst::LibraryError::Failed,
                        ("the recorder has failed, and nothing is recorded any more: {panic}")
                    );
                }
            },
        )
        .map_err(StartError::Thread)?;
        *self.running.lock() = Some(Running {
            settings,
            stream,
            recorder,
        });
        Ok(())
    }

    /// Whether it runs with the settings of now.
    fn is_current(&self) -> bool {
        let settings = self.settings.lock().clone();
        let running = self.running.lock();
        running.as_ref().is_some_and(|it| it.settings == settings)
    }

    fn with_stream(&self, act: impl FnOnce(&Stream)) {
        let running = self.running.lock();
        let stream = running.as_ref().map(|running| running.stream.clone());
        drop(running);
        if let Some(stream) = stream {
            act(&stream);
        }
    }

    /// Waits until the last incident is on the disk, for [`GRACE`] at most.
    fn stop(&self) {
        let running = self.running.lock().take();
        if let Some(Running {
            stream, recorder, ..
        }) = running
        {
            // Without it the recorder writes what it has and ends.
            drop(stream);
            if !recorder.join_within(GRACE) {
                gst::element_imp_warning!(
                    self,
                    gst::ResourceError::Write,
                    (
                        "the disk has not taken the last incident within {} s; the element stops without it",
                        GRACE.as_secs()
                    )
                );
            }
        }
        let _ = self.sink.set_target(None::<&gst::Pad>);
        let element = self.obj();
        for child in element.children() {
            let _ = child.set_state(gst::State::Null);
            let _ = element.remove(&child);
        }
    }

    /// Counts and passes on what the recorder tells, in its thread.
    fn handle(&self, event: Event) {
        match event {
            Event::Opened => self.stats.lock().dropped_told = false,
            Event::Recorded(incident) => {
                {
                    let mut stats = self.stats.lock();
                    stats.incidents += 1;
                    stats.bytes += incident.bytes;
                }
                IncidentRecorded {
                    location: &incident.location,
                    frames: incident.frames,
                    flagged: incident.flagged,
                    score: incident.score,
                }
                .post(&*self.obj());
            }
            Event::Failed { error, first } => {
                self.stats.lock().failed += 1;
                if first {
                    let reason = Chain(&error);
                    self.warn(&format!(
                        "an incident cannot be recorded, and the pipeline goes on: {reason}"
                    ));
                }
            }
            Event::Missed { error, first } => {
                self.stats.lock().missed += 1;
                if first {
                    let reason = Chain(&error);
                    self.warn(&format!("the recording goes on: {reason}"));
                }
            }
            Event::Removed(incidents) => self.stats.lock().removed += incidents,
            Event::Shortened(frames) => {
                let tell = self.stats.lock().add_dropped(frames);
                if tell {
                    self.warn(&format!(
                        "recordings begin later than pre-roll says, as its frames take more than {} MiB or are more than {}; set a shorter one",
                        KEPT.bytes >> 20,
                        KEPT.frames
                    ));
                }
            }
        }
    }

    fn warn(&self, text: &str) {
        gst::element_imp_warning!(self, gst::ResourceError::Write, ("{text}"));
    }
}

#[cfg(test)]
mod tests {
    use crate::thread::panics;
    use gst::prelude::*;

    /// Plays to the end and returns the errors on the way.
    fn errors(pipeline: &gst::Pipeline) -> Vec<String> {
        let bus = pipeline.bus().unwrap();
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
        let mut errors = Vec::new();
        pipeline.set_state(gst::State::Playing).unwrap();
        loop {
            let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &wanted);
            match message.expect("no end within half a minute").view() {
                gst::MessageView::Error(error) => errors.push(error.error().message().to_owned()),
                _ => break,
            }
        }
        pipeline.set_state(gst::State::Null).unwrap();
        errors
    }

    #[test]
    fn a_panic_of_the_recorder_is_an_error_of_the_element() {
        gst::init().unwrap();
        crate::plugin_register_static().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let pipeline = gst::parse::launch(&format!(
            "videotestsrc num-buffers=30 ! vadliterecord location={} encoder=jpegenc",
            folder.path().display()
        ));
        let pipeline = pipeline.unwrap().downcast().unwrap();
        panics::want("vadliterecord");
        // Once, and the stream comes to its end without waiting for who is gone.
        let [error] = &errors(&pipeline)[..] else {
            panic!("not one error");
        };
        assert!(error.contains("nothing is recorded any more"), "{error}");
        assert!(error.contains("panic at vadliterecord"), "{error}");
        // Started again, it is there again.
        assert!(errors(&pipeline).is_empty());
    }
}
