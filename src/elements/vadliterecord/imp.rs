//! The behaviour of the element: an encoder that runs all the time, and the way of its frames and of results to the recorder.

use super::encoder::{Encoder, QUEUE};
use super::picture::Frame;
use super::recorder::{Flagged, Known, Message, Recorder, Region};
use super::settings::{self, Settings};
use crate::video::meta::FrameResult;
use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::Mutex;
use std::sync::mpsc::{SyncSender, TrySendError, channel, sync_channel};
use std::sync::{Arc, LazyLock};
use std::thread::JoinHandle;
use std::time::Duration;

/// Time between key frames, which is how much longer than asked for a recording may be.
const KEY_EVERY: gst::ClockTime = gst::ClockTime::from_seconds(1);
/// Raw frames that the recorder may hold: those on their way through the encoder. More of them would take the camera's buffers.
const HELD: usize = 40;
/// Longest wait for the last incident at the end of a stream.
const FINISH: Duration = Duration::from_secs(10);
/// Messages that may wait for the recorder: the frames that a slow disk may be behind.
const WAITING: usize = 1000;

#[derive(Default)]
pub struct VadLiteRecord {
    settings: Mutex<Settings>,
    stats: Mutex<Stats>,
    running: Mutex<Option<Running>>,
    /// Cloned into each raw frame that the recorder holds.
    held: Arc<()>,
}

struct Running {
    messages: SyncSender<Message>,
    thread: JoinHandle<()>,
    info: Option<gst_video::VideoInfo>,
    segment: gst::FormattedSegment<gst::ClockTime>,
    /// The source does not wait: what is too much has to go.
    live: bool,
}

#[derive(Debug, Default)]
struct Stats {
    incidents: u64,
    flagged: u64,
    bytes: u64,
    failed: u64,
    removed: u64,
    dropped: u64,
}

#[glib::object_subclass]
impl ObjectSubclass for VadLiteRecord {
    const NAME: &'static str = "GstVadLiteRecord";
    type Type = super::VadLiteRecord;
    type ParentType = gst::Bin;
}

impl ObjectImpl for VadLiteRecord {
    fn constructed(&self) {
        self.parent_constructed();
        let element = self.obj();
        element.set_element_flags(gst::ElementFlags::SINK);
        let Some(template) = element.pad_template("sink") else {
            return;
        };
        let pad = gst::GhostPad::builder_from_template(&template).build();
        let weak = element.downgrade();
        let types = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        pad.add_probe(types, move |_, info| {
            if let Some(element) = weak.upgrade() {
                match &info.data {
                    Some(gst::PadProbeData::Buffer(buffer)) => element.imp().look(buffer),
                    Some(gst::PadProbeData::Event(event)) => element.imp().take_event(event),
                    _ => {}
                }
            }
            gst::PadProbeReturn::Ok
        });
        // A new bin has no pad of this name.
        let _ = element.add_pad(&pad);
    }

    fn properties() -> &'static [glib::ParamSpec] {
        settings::properties()
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        self.settings.lock().set(pspec.name(), value);
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        if pspec.name() == "stats" {
            let stats = self.stats.lock();
            return gst::Structure::builder("stats")
                .field("incidents", stats.incidents)
                .field("flagged", stats.flagged)
                .field("bytes", stats.bytes)
                .field("failed", stats.failed)
                .field("removed", stats.removed)
                .field("dropped", stats.dropped)
                .build()
                .to_value();
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
        if transition == gst::StateChange::NullToReady
            && let Err(reason) = self.start()
        {
            gst::element_imp_error!(self, gst::ResourceError::OpenWrite, ("{reason}"));
            return Err(gst::StateChangeError);
        }
        let success = self.parent_change_state(transition)?;
        match transition {
            gst::StateChange::PausedToReady => self.send(Message::Cut),
            gst::StateChange::ReadyToNull => self.stop(),
            _ => {}
        }
        Ok(success)
    }
}

impl BinImpl for VadLiteRecord {}

impl VadLiteRecord {
    fn start(&self) -> Result<(), String> {
        let settings = self.settings.lock().clone();
        settings.check()?;
        let location = &settings.location;
        // Found out now rather than at the first incident.
        std::fs::create_dir_all(location)
            .and_then(|()| tempfile::tempfile_in(location).map(|_| ()))
            .map_err(|error| {
                let location = location.display();
                format!("the property location: {location} cannot be written to: {error}")
            })?;
        self.build(&settings)?;
        let (messages, received) = sync_channel(WAITING);
        let recorder = Recorder::new(self.obj().downgrade(), settings);
        let thread = std::thread::Builder::new()
            .name("vadliterecord".into())
            .spawn(move || recorder.run(&received))
            .map_err(|error| format!("no thread can be started: {error}"))?;
        *self.stats.lock() = Stats::default();
        *self.running.lock() = Some(Running {
            messages,
            thread,
            info: None,
            segment: gst::FormattedSegment::new(),
            live: true,
        });
        Ok(())
    }

    /// Waits until the last incident is on the disk.
    fn stop(&self) {
        let running = self.running.lock().take();
        if let Some(Running {
            messages, thread, ..
        }) = running
        {
            drop(messages);
            // Its panic is not ours.
            let _ = thread.join();
        }
        let element = self.obj();
        if let Some(pad) = self.ghost() {
            let _ = pad.set_target(None::<&gst::Pad>);
        }
        for child in element.children() {
            let _ = child.set_state(gst::State::Null);
            let _ = element.remove(&child);
        }
    }

    fn ghost(&self) -> Option<gst::GhostPad> {
        self.obj().static_pad("sink")?.downcast().ok()
    }

    /// Puts the encoder's elements into the bin and listens to them.
    fn build(&self, settings: &Settings) -> Result<(), String> {
        let Encoder {
            elements,
            queue,
            sink,
        } = Encoder::new(&settings.encoder)?;
        let weak = self.obj().downgrade();
        queue.connect("overrun", false, move |_| {
            if let Some(element) = weak.upgrade() {
                let imp = element.imp();
                let live = imp
                    .running
                    .lock()
                    .as_ref()
                    .is_some_and(|running| running.live);
                imp.stats.lock().dropped += u64::from(live);
            }
            None
        });
        let weak = self.obj().downgrade();
        let mut next_key = None;
        let at_end = weak.clone();
        sink.set_callbacks(
            gst_app::AppSinkCallbacks::builder()
                .eos(move |_| {
                    if let Some(element) = at_end.upgrade() {
                        element.imp().end();
                    }
                })
                .new_sample(move |sink| {
                    let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                    let time = sample.buffer().and_then(|buffer| buffer.pts());
                    if let Some(time) = time
                        && next_key.is_none_or(|next| time >= next)
                    {
                        next_key = Some(time + KEY_EVERY);
                        let event = gst_video::UpstreamForceKeyUnitEvent::builder().build();
                        let _ = sink.send_event(event);
                    }
                    if let Some(element) = weak.upgrade() {
                        element.imp().send(Message::Encoded(sample));
                    }
                    Ok(gst::FlowSuccess::Ok)
                })
                .build(),
        );
        let element = self.obj();
        let link = || {
            element.add_many(&elements)?;
            gst::Element::link_many(&elements)
        };
        link().map_err(|error: glib::BoolError| error.to_string())?;
        let target = queue.static_pad("sink");
        match self.ghost().map(|ghost| ghost.set_target(target.as_ref())) {
            Some(Ok(())) => Ok(()),
            _ => Err("the pad cannot be connected".into()),
        }
    }

    /// Hands a message on, or counts it as dropped: a live line does not wait for the disk.
    fn send(&self, message: Message) {
        let way = self
            .running
            .lock()
            .as_ref()
            .map(|running| (running.messages.clone(), running.live));
        match way {
            Some((messages, true)) => {
                if let Err(TrySendError::Full(_)) = messages.try_send(message) {
                    self.stats.lock().dropped += 1;
                }
            }
            // Refused where the recorder has ended.
            Some((messages, false)) => drop(messages.send(message)),
            None => {}
        }
    }

    /// Waits until the last incident is on the disk, so that the end of the stream is reported after it.
    fn end(&self) {
        let (done, answer) = channel();
        self.send(Message::End(done));
        let _ = answer.recv_timeout(FINISH);
    }

    /// A slow encoder loses frames of a live recording, so that it does not hold up the line; a file waits for it.
    fn adapt_to_source(&self) {
        let mut query = gst::query::Latency::new();
        let answered = self.ghost().is_some_and(|pad| pad.peer_query(&mut query));
        let live = !answered || query.result().0;
        if let Some(queue) = self.obj().by_name(QUEUE) {
            queue.set_property_from_str("leaky", if live { "downstream" } else { "no" });
        }
        if let Some(running) = self.running.lock().as_mut() {
            running.live = live;
        }
    }

    fn take_event(&self, event: &gst::Event) {
        match event.view() {
            gst::EventView::Caps(caps) => {
                self.adapt_to_source();
                let info = gst_video::VideoInfo::from_caps(caps.caps()).ok();
                if let Some(running) = self.running.lock().as_mut() {
                    running.info = info;
                }
            }
            gst::EventView::Segment(segment) => {
                if let Some(running) = self.running.lock().as_mut()
                    && let Some(segment) = segment.segment().downcast_ref::<gst::ClockTime>()
                {
                    running.segment = segment.clone();
                }
            }
            gst::EventView::FlushStop(_) => self.send(Message::Cut),
            _ => {}
        }
    }

    /// Passes a flagged frame on to the recorder.
    fn look(&self, buffer: &gst::Buffer) {
        FrameResult::read_all(buffer, |result| {
            if let Ok(result) = result
                && result.flagged
            {
                self.take_flagged(buffer, &result);
            }
        });
    }

    fn take_flagged(&self, buffer: &gst::Buffer, result: &FrameResult<'_>) {
        self.stats.lock().flagged += 1;
        let (info, time) = match self.running.lock().as_ref() {
            Some(running) => (
                running.info.clone(),
                running.segment.to_running_time(buffer.pts()),
            ),
            None => return,
        };
        let (Some(info), Some(time)) = (info, time) else {
            return;
        };
        let regions = result.regions.iter().map(|region| Region {
            x: region.x.into(),
            y: region.y.into(),
            w: region.width.into(),
            h: region.height.into(),
            score: region.score.into(),
        });
        let flagged = Flagged {
            time: time.nseconds(),
            score: result.score,
            known: Known {
                frame: result.frame,
                time: time.nseconds(),
                score: result.score,
                threshold: result.threshold,
                model: result.model.clone().into_owned(),
                regions: regions.collect(),
            },
            frame: (Arc::strong_count(&self.held) <= HELD).then(|| Frame {
                buffer: buffer.clone(),
                info,
                threshold: result.threshold,
                drawn: result.drawn,
                map: result.map.clone(),
                _held: self.held.clone(),
            }),
        };
        self.send(Message::Flagged(Box::new(flagged)));
    }

    /// An incident is on the disk.
    pub fn complete(&self, structure: gst::Structure, bytes: u64, removed: u64) {
        {
            let mut stats = self.stats.lock();
            stats.incidents += 1;
            stats.bytes += bytes;
            stats.removed += removed;
        }
        let element = self.obj();
        let message = gst::message::Element::builder(structure).src(&*element);
        let _ = element.post_message(message.build());
    }

    /// An incident could not be written.
    pub fn fail(&self, reason: &str, warn: bool) {
        self.stats.lock().failed += 1;
        if warn {
            gst::element_imp_warning!(
                self,
                gst::ResourceError::Write,
                ("an incident cannot be recorded, and the pipeline goes on: {reason}")
            );
        }
    }
}
