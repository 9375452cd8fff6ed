//! The way to the recorder: raw frames with their results before the encoder, and encoded ones behind it.

use super::CAT;
use super::encoder::{Encoder, QUEUED};
use super::inbox::{Flagged, Inbox, Message, Refusal};
use super::incident::FlaggedFrame;
use super::picture::{Budget, HeldFrame};
use super::queued::Queued;
use super::stats::Stats;
use super::timeline::{Arrival, Fault, Timeline};
use crate::detector::error::Chain;
use crate::elements::is_live;
use crate::video::meta::FrameResult;
use gst::ClockTime;
use gst::prelude::*;
use parking_lot::Mutex;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// Time between key frames, which is how much longer than asked for a recording may be.
const KEY_EVERY: ClockTime = ClockTime::from_seconds(1);
/// Longest wait for the last incident at the end of a stream.
const FINISH: Duration = Duration::from_secs(10);
/// How often is looked whether the end of a stream is still waited for.
const LOOK: Duration = Duration::from_millis(20);
/// How long a frame lasts where the caps do not say.
const FRAME: u64 = 1_000_000_000 / 30;
const ENCODER_SLOW: &str = "the encoder is too slow for them";

/// What the streaming threads share between start and stop. The recorder ends when the last owner is gone; the encoder's elements own none.
pub struct Stream {
    inbox: Arc<Inbox>,
    stats: Arc<Mutex<Stats>>,
    /// Whom the log names.
    pad: gst::Pad,
    encoder: Encoder,
    format: Mutex<Format>,
    queued: Mutex<Queued>,
    /// The memory of raw frames that the recorder holds.
    budget: Arc<Budget>,
    began: Instant,
}

/// What is known of the frames to come.
struct Format {
    info: Option<gst_video::VideoInfo>,
    /// None where frames are not counted in time.
    segment: Option<gst::FormattedSegment<ClockTime>>,
    /// The source does not wait: what is too much has to go.
    live: bool,
    timeline: Timeline,
    /// Running time from which on the next key frame is asked for.
    next_key: Option<ClockTime>,
}

impl Format {
    fn duration(&self) -> u64 {
        let rate = self.info.as_ref().map(gst_video::VideoInfo::fps);
        let rate = rate.filter(|rate| rate.numer() > 0 && rate.denom() > 0);
        rate.map_or(FRAME, |rate| {
            let seconds = f64::from(rate.denom()) / f64::from(rate.numer());
            (seconds * 1e9) as u64
        })
    }
}

impl Stream {
    /// Listens at both ends of the encoder, and sends what it learns to `inbox`. `pad` is the element's, which the log names.
    pub fn new(
        encoder: Encoder,
        pad: gst::Pad,
        stats: Arc<Mutex<Stats>>,
        inbox: Arc<Inbox>,
    ) -> Arc<Self> {
        let stream = Arc::new(Self {
            inbox,
            stats,
            pad,
            encoder,
            format: Mutex::new(Format {
                info: None,
                segment: None,
                live: true,
                timeline: Timeline::default(),
                next_key: None,
            }),
            queued: Mutex::new(Queued::new(QUEUED)),
            budget: Arc::default(),
            began: Instant::now(),
        });
        listen_before(&stream.encoder.queue, Arc::downgrade(&stream));
        listen_behind(&stream.encoder.sink, Arc::downgrade(&stream));
        stream
    }

    /// Whether the streaming threads are to come back at once.
    pub fn set_flushing(&self, flushing: bool) {
        self.inbox.set_flushing(flushing);
    }

    /// Whether the streaming threads are to come back, with what they bring.
    pub fn set_pausing(&self, pausing: bool) {
        self.inbox.set_pausing(pausing);
    }

    /// The frames to come do not follow on those before. No frame is on its way.
    pub fn cut(&self) {
        self.begin_anew();
        self.inbox.add(Message::Cut);
    }

    fn begin_anew(&self) {
        let mut format = self.format.lock();
        (format.timeline, format.next_key) = (Timeline::default(), None);
        drop(format);
        *self.queued.lock() = Queued::new(QUEUED);
    }

    /// Waits until the last incident is on the disk, so that the end of the stream is reported after it.
    fn end(&self) {
        let (done, answer) = channel();
        self.inbox.add(Message::End(done));
        let began = Instant::now();
        loop {
            let reason = match answer.recv_timeout(LOOK) {
                Ok(()) => {
                    gst::debug!(CAT, obj = self.pad, "end of stream: all is on the disk");
                    return;
                }
                Err(RecvTimeoutError::Disconnected) => "the recorder has ended",
                Err(RecvTimeoutError::Timeout) => match self.inbox.is_let_go() {
                    Some(reason) => reason,
                    None if began.elapsed() > FINISH => "it takes too long",
                    None => continue,
                },
            };
            gst::warning!(
                CAT,
                obj = self.pad,
                "end of stream: the last incident is not waited for: {reason}"
            );
            return;
        }
    }

    /// Hands an encoded frame on, or counts it as dropped: a live line does not wait for the disk.
    fn send(&self, sample: gst::Sample) {
        let wait = !self.is_live();
        match self.inbox.add_frame(sample, wait) {
            Ok(()) => {}
            Err(Refusal::Full) => {
                // The next one is as good as any to begin with again.
                self.format.lock().next_key = None;
                self.drop_frames(1, "the disk is too slow for them");
            }
            // Its panic has been told.
            Err(Refusal::Closed) => {
                gst::log!(
                    CAT,
                    obj = self.pad,
                    "an encoded frame is not taken any more"
                );
            }
        }
    }

    fn drop_frames(&self, count: u64, reason: &str) {
        if count == 0 {
            return;
        }
        let tell = self.stats.lock().add_dropped(count);
        gst::debug!(CAT, obj = self.pad, "{count} frames dropped: {reason}");
        if tell {
            self.warn(&format!(
                "frames are missing in the recording, and the pipeline goes on: {reason}"
            ));
        }
    }

    /// No lock may be held.
    fn warn(&self, text: &str) {
        if let Some(element) = self.pad.parent_element() {
            gst::element_warning!(element, gst::StreamError::Failed, ("{text}"));
        }
    }

    fn is_live(&self) -> bool {
        self.format.lock().live
    }

    fn handle_event(&self, event: &mut gst::Event) {
        let plain = match event.view() {
            gst::EventView::Caps(caps) => {
                self.set_caps(caps.caps());
                None
            }
            gst::EventView::Segment(segment) => {
                gst::debug!(CAT, obj = self.pad, "{:?}", segment.segment());
                let time = segment.segment().downcast_ref::<ClockTime>();
                self.format.lock().segment = time.cloned();
                // An encoder leaves out what is outside of a segment.
                let plain = gst::FormattedSegment::<ClockTime>::new();
                let plain = gst::event::Segment::builder(&plain).seqnum(segment.seqnum());
                Some(plain.build())
            }
            gst::EventView::FlushStart(_) => {
                self.set_flushing(true);
                None
            }
            gst::EventView::FlushStop(_) => {
                self.set_flushing(false);
                self.begin_anew();
                None
            }
            _ => None,
        };
        if let Some(plain) = plain {
            *event = plain;
        }
    }

    fn set_caps(&self, caps: &gst::CapsRef) {
        gst::debug!(CAT, obj = self.pad, "{caps}");
        self.adapt_to_source();
        self.format.lock().info = gst_video::VideoInfo::from_caps(caps).ok();
        if let Err(error) = self.encoder.adapt(&caps.to_owned())
            && let Some(element) = self.pad.parent_element()
        {
            let reason = Chain(&error);
            gst::element_error!(element, gst::CoreError::Negotiation, ("{reason}"));
        }
    }

    /// A slow encoder loses frames of a live recording, so that it does not hold up the line; a file waits for it.
    fn adapt_to_source(&self) {
        let live = is_live(&self.pad);
        gst::debug!(CAT, obj = self.pad, "the source is live: {live}");
        self.encoder
            .queue
            .set_property_from_str("leaky", if live { "downstream" } else { "no" });
        self.format.lock().live = live;
    }

    /// Gives a frame its place in time, and passes it on to the recorder if it is flagged: once for each result that flags it.
    fn handle_frame(&self, buffer: &mut gst::Buffer) {
        let time = self.set_time(buffer);
        let dropped = self.queued.lock().enter(time);
        self.drop_frames(dropped, ENCODER_SLOW);
        let (mut results, mut flagged, mut unread) = (0, 0, None);
        FrameResult::read_all(buffer, |result| {
            results += 1;
            match result {
                Ok(result) if result.flagged => {
                    flagged += 1;
                    self.send_flagged(buffer, &result, time);
                }
                Ok(_) => {}
                Err(error) => unread = Some(error),
            }
        });
        if flagged > 0 {
            self.stats.lock().flagged += 1;
        }
        if let Some(error) = unread {
            gst::debug!(CAT, obj = self.pad, "a result is not read: {error}");
            let first = count(&mut self.stats.lock().unread);
            if first {
                self.warn(&format!(
                    "frames whose results cannot be read are recorded beside flagged ones only: {error}"
                ));
            }
        }
        gst::trace!(
            CAT,
            obj = self.pad,
            "frame at {time}: {flagged} of {results} results flag it"
        );
    }

    /// The frame's running time, which it goes into the encoder with: later than that of the one before, whatever its time stamp.
    fn set_time(&self, buffer: &mut gst::Buffer) -> ClockTime {
        let (at, clock) = self.now();
        let (time, fault) = {
            let mut format = self.format.lock();
            let stamp = format
                .segment
                .as_ref()
                .and_then(|segment| segment.to_running_time_full(buffer.pts()))
                .and_then(gst::Signed::positive);
            let frame = Arrival {
                stamp: stamp.map(ClockTime::nseconds),
                at,
                clock,
                duration: format.duration(),
                live: format.live,
            };
            format.timeline.time(frame)
        };
        let time = ClockTime::from_nseconds(time);
        match fault {
            None => {}
            Some(Fault::Missing) => {
                gst::log!(CAT, obj = self.pad, "no time stamp: taken for {time}");
                let first = count(&mut self.stats.lock().untimed);
                if first {
                    self.warn(
                        "frames have no time stamps; they are recorded by the time at which they come, or by the frame rate where there is no clock",
                    );
                }
            }
            Some(Fault::Jumped) => {
                let pts = buffer.pts();
                gst::debug!(
                    CAT,
                    obj = self.pad,
                    "the time stamp {} has jumped: taken for {time}",
                    pts.display()
                );
                let first = count(&mut self.stats.lock().jumps);
                if first {
                    self.warn(&format!(
                        "time stamps have jumped, to {}; the recording goes on by the time that has passed",
                        pts.display()
                    ));
                }
            }
        }
        if buffer.pts() != Some(time) {
            // Of the frame's description, not of its pixels.
            let buffer = buffer.make_mut();
            buffer.set_pts(time);
            buffer.set_dts(None);
        }
        time
    }

    /// What the pipeline's clock shows, and the running time by it; where there is none, the time since the start alone.
    fn now(&self) -> (u64, Option<u64>) {
        let clock = self
            .pad
            .parent_element()
            .and_then(|element| Some((element.clock()?.time(), element.base_time())));
        match clock {
            None => (self.began.elapsed().as_nanos() as u64, None),
            Some((now, base)) => {
                let running = base.and_then(|base| now.checked_sub(base));
                (now.nseconds(), running.map(ClockTime::nseconds))
            }
        }
    }

    fn send_flagged(&self, buffer: &gst::Buffer, result: &FrameResult<'_>, time: ClockTime) {
        let info = self.format.lock().info.clone();
        let share = || self.budget.share(buffer.size());
        let held = info.and_then(|info| Some((info, share()?)));
        let held = held.map(|(info, share)| HeldFrame {
            buffer: buffer.clone(),
            info,
            drawn: result.drawn,
            map: result.map.clone(),
            _share: share,
        });
        gst::debug!(
            CAT,
            obj = self.pad,
            "frame {} at {time} is flagged by {}{}",
            result.frame,
            result.model,
            if held.is_some() {
                ""
            } else {
                "; no picture of it, as so many are held already"
            }
        );
        let sent = self.inbox.add_result(Box::new(Flagged {
            result: FlaggedFrame::new(result, time.nseconds()),
            held,
        }));
        if sent == Err(Refusal::Full) {
            self.drop_frames(1, "the disk is too slow for them");
        }
    }

    /// Whether a key frame is to be asked for at this running time, behind the encoder.
    fn wants_key(&self, time: Option<ClockTime>) -> bool {
        let next = &mut self.format.lock().next_key;
        let wants = time.is_some_and(|time| next.is_none_or(|next| time >= next));
        if wants {
            *next = time.and_then(|time| time.checked_add(KEY_EVERY));
        }
        wants
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

/// Counts one more. Returns whether it is the first.
fn count(counter: &mut u64) -> bool {
    *counter += 1;
    *counter == 1
}

fn listen_before(queue: &gst::Element, stream: Weak<Stream>) {
    let frames = stream.clone();
    let types = gst::PadProbeType::BUFFER
        | gst::PadProbeType::EVENT_DOWNSTREAM
        | gst::PadProbeType::EVENT_FLUSH;
    if let Some(pad) = queue.static_pad("sink") {
        pad.add_probe(types, move |_, info| {
            if let Some(stream) = frames.upgrade() {
                match &mut info.data {
                    Some(gst::PadProbeData::Buffer(buffer)) => stream.handle_frame(buffer),
                    Some(gst::PadProbeData::Event(event)) => stream.handle_event(event),
                    _ => {}
                }
            }
            gst::PadProbeReturn::Ok
        });
    }
    if let Some(pad) = queue.static_pad("src") {
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            if let Some(stream) = stream.upgrade()
                && let Some(time) = info.buffer().and_then(|buffer| buffer.pts())
            {
                let dropped = stream.queued.lock().leave(time);
                stream.drop_frames(dropped, ENCODER_SLOW);
            }
            gst::PadProbeReturn::Ok
        });
    }
}

fn listen_behind(sink: &gst_app::AppSink, stream: Weak<Stream>) {
    let flushed = stream.clone();
    if let Some(pad) = sink.static_pad("sink") {
        // Here, behind what was encoded before it.
        pad.add_probe(gst::PadProbeType::EVENT_FLUSH, move |_, info| {
            if let Some(stream) = flushed.upgrade()
                && info
                    .event()
                    .is_some_and(|event| event.type_() == gst::EventType::FlushStop)
            {
                stream.inbox.add(Message::Cut);
            }
            gst::PadProbeReturn::Ok
        });
    }
    let at_end = stream.clone();
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .eos(move |_| {
            if let Some(stream) = at_end.upgrade() {
                stream.end();
            }
        })
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            if let Some(stream) = stream.upgrade() {
                let time = sample.buffer().and_then(|buffer| buffer.pts());
                if stream.wants_key(time) {
                    let event = gst_video::UpstreamForceKeyUnitEvent::builder().build();
                    let _ = sink.send_event(event);
                }
                stream.send(sample);
            }
            Ok(gst::FlowSuccess::Ok)
        });
    sink.set_callbacks(callbacks.build());
}
