//! The way to the recorder: raw frames with their results before the encoder, and encoded ones behind it.

use super::CAT;
use super::encoder::Encoder;
use super::incident::FlaggedFrame;
use super::picture::HeldFrame;
use super::recorder::{Flagged, Message};
use super::stats::Stats;
use crate::elements::is_live;
use crate::video::meta::FrameResult;
use gst::ClockTime;
use gst::prelude::*;
use parking_lot::Mutex;
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, SyncSender, TrySendError, channel, sync_channel,
};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Time between key frames, which is how much longer than asked for a recording may be.
const KEY_EVERY: ClockTime = ClockTime::from_seconds(1);
/// Raw frames that the recorder may hold: those on their way through the encoder. More of them would take the camera's buffers.
const HELD: usize = 40;
/// Longest wait for the last incident at the end of a stream.
const FINISH: Duration = Duration::from_secs(10);
/// Messages that may wait for the recorder: the frames that a slow disk may be behind.
const WAITING: usize = 1000;

/// What the streaming threads share between start and stop. The recorder ends when the last owner is gone; the encoder's elements own none.
pub struct Stream {
    recorder: SyncSender<Message>,
    stats: Arc<Mutex<Stats>>,
    /// Whom the log names.
    pad: gst::Pad,
    /// Before the encoder.
    queue: gst::Element,
    format: Mutex<Format>,
    /// Cloned into each raw frame that the recorder holds.
    held: Arc<()>,
}

/// What is known of the frames to come.
struct Format {
    info: Option<gst_video::VideoInfo>,
    segment: gst::FormattedSegment<ClockTime>,
    /// The source does not wait: what is too much has to go.
    live: bool,
}

impl Stream {
    /// Listens at both ends of the encoder, and sends what it learns to the receiver. `pad` is the element's, which the log names.
    pub fn new(
        encoder: &Encoder,
        pad: gst::Pad,
        stats: Arc<Mutex<Stats>>,
    ) -> (Arc<Self>, Receiver<Message>) {
        let (recorder, messages) = sync_channel(WAITING);
        let stream = Arc::new(Self {
            recorder,
            stats,
            pad,
            queue: encoder.queue.clone(),
            format: Mutex::new(Format {
                info: None,
                segment: gst::FormattedSegment::new(),
                live: true,
            }),
            held: Arc::new(()),
        });
        listen_before(&encoder.queue, Arc::downgrade(&stream));
        listen_behind(&encoder.sink, Arc::downgrade(&stream));
        (stream, messages)
    }

    /// The frames to come do not follow on those before.
    pub fn cut(&self) {
        self.send(Message::Cut);
    }

    /// Waits until the last incident is on the disk, so that the end of the stream is reported after it.
    fn end(&self) {
        let (done, answer) = channel();
        self.send(Message::End(done));
        match answer.recv_timeout(FINISH) {
            Ok(()) => gst::debug!(CAT, obj = self.pad, "end of stream: all is on the disk"),
            Err(RecvTimeoutError::Timeout) => gst::warning!(
                CAT,
                obj = self.pad,
                "end of stream: the last incident is not on the disk after {FINISH:?}"
            ),
            Err(RecvTimeoutError::Disconnected) => gst::warning!(
                CAT,
                obj = self.pad,
                "end of stream: the recorder cannot be waited for"
            ),
        }
    }

    /// Hands a message on, or counts it as dropped: a live line does not wait for the disk.
    fn send(&self, message: Message) {
        let sent = match self.is_live() {
            true => self.recorder.try_send(message),
            false => self
                .recorder
                .send(message)
                .map_err(|refused| TrySendError::Disconnected(refused.0)),
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(Message::Flagged(_) | Message::Encoded(_))) => {
                self.drop_frame("the disk is too slow, and the recorder is behind");
            }
            // It finds out by itself, from the times of the frames.
            Err(TrySendError::Full(Message::Cut | Message::End(_))) => {
                gst::debug!(CAT, obj = self.pad, "the recorder is behind and not told");
            }
            // Its panic has been told.
            Err(TrySendError::Disconnected(_)) => {
                gst::log!(CAT, obj = self.pad, "the recorder has ended");
            }
        }
    }

    fn drop_frame(&self, reason: &str) {
        self.stats.lock().dropped += 1;
        gst::debug!(CAT, obj = self.pad, "frame dropped: {reason}");
    }

    fn is_live(&self) -> bool {
        self.format.lock().live
    }

    fn handle_event(&self, event: &gst::Event) {
        match event.view() {
            gst::EventView::Caps(caps) => {
                gst::debug!(CAT, obj = self.pad, "{}", caps.caps());
                self.adapt_to_source();
                let info = gst_video::VideoInfo::from_caps(caps.caps()).ok();
                self.format.lock().info = info;
            }
            gst::EventView::Segment(segment) => {
                gst::debug!(CAT, obj = self.pad, "{:?}", segment.segment());
                if let Some(segment) = segment.segment().downcast_ref::<ClockTime>() {
                    self.format.lock().segment = segment.clone();
                }
            }
            gst::EventView::FlushStop(_) => self.cut(),
            _ => {}
        }
    }

    /// A slow encoder loses frames of a live recording, so that it does not hold up the line; a file waits for it.
    fn adapt_to_source(&self) {
        let live = is_live(&self.pad);
        gst::debug!(CAT, obj = self.pad, "the source is live: {live}");
        self.queue
            .set_property_from_str("leaky", if live { "downstream" } else { "no" });
        self.format.lock().live = live;
    }

    /// Passes a raw frame on to the recorder if it is flagged: once for each result that flags it.
    fn handle_frame(&self, buffer: &gst::Buffer) {
        let (mut results, mut flagged) = (0, 0);
        FrameResult::read_all(buffer, |result| {
            results += 1;
            match result {
                Ok(result) if result.flagged => {
                    flagged += 1;
                    self.send_flagged(buffer, &result);
                }
                Ok(_) => {}
                Err(error) => gst::warning!(CAT, obj = self.pad, "a result is not read: {error}"),
            }
        });
        if flagged > 0 {
            self.stats.lock().flagged += 1;
        }
        gst::trace!(
            CAT,
            obj = self.pad,
            "frame with time stamp {}: {flagged} of {results} results flag it",
            buffer.pts().display()
        );
    }

    fn send_flagged(&self, buffer: &gst::Buffer, result: &FrameResult<'_>) {
        let (info, time) = {
            let format = self.format.lock();
            let time = format.segment.to_running_time(buffer.pts());
            (format.info.clone(), time)
        };
        let (Some(info), Some(time)) = (info, time) else {
            gst::debug!(
                CAT,
                obj = self.pad,
                "flagged frame {} not recorded: it has no time or no format",
                result.frame
            );
            return;
        };
        let held = (Arc::strong_count(&self.held) <= HELD).then(|| HeldFrame {
            buffer: buffer.clone(),
            info,
            drawn: result.drawn,
            map: result.map.clone(),
            _held: self.held.clone(),
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
        self.send(Message::Flagged(Box::new(Flagged {
            result: FlaggedFrame::new(result, time.nseconds()),
            held,
        })));
    }
}

fn listen_before(queue: &gst::Element, stream: Weak<Stream>) {
    let frames = stream.clone();
    let types = gst::PadProbeType::BUFFER
        | gst::PadProbeType::EVENT_DOWNSTREAM
        | gst::PadProbeType::EVENT_FLUSH;
    if let Some(pad) = queue.static_pad("sink") {
        pad.add_probe(types, move |_, info| {
            if let Some(stream) = frames.upgrade() {
                match &info.data {
                    Some(gst::PadProbeData::Buffer(buffer)) => stream.handle_frame(buffer),
                    Some(gst::PadProbeData::Event(event)) => stream.handle_event(event),
                    _ => {}
                }
            }
            gst::PadProbeReturn::Ok
        });
    }
    queue.connect("overrun", false, move |_| {
        if let Some(stream) = stream.upgrade()
            && stream.is_live()
        {
            stream.drop_frame("the encoder is too slow, and its queue is full");
        }
        None
    });
}

fn listen_behind(sink: &gst_app::AppSink, stream: Weak<Stream>) {
    let at_end = stream.clone();
    let mut next_key = None;
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .eos(move |_| {
            if let Some(stream) = at_end.upgrade() {
                stream.end();
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
            if let Some(stream) = stream.upgrade() {
                stream.send(Message::Encoded(sample));
            }
            Ok(gst::FlowSuccess::Ok)
        });
    sink.set_callbacks(callbacks.build());
}
