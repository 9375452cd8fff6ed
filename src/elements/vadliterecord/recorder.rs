//! The thread that writes incidents: which encoded frames belong to one, and what is done when it ends.

use super::CAT;
use super::cutter::{Cutter, Step, Unit};
use super::error::RecordError;
use super::incident::{FlaggedFrame, Incident, Recorded};
use super::picture::HeldFrame;
use super::retention;
use super::settings::Settings;
use crate::detector::error::Chain;
use crate::elements::time::display;
use crate::thread::panic_point;
use gst::ClockTime;
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender};

/// What the pipeline's threads hand on.
pub enum Message {
    Flagged(Box<Flagged>),
    /// An encoded frame and its format.
    Encoded(gst::Sample),
    /// The frames to come do not follow on those before.
    Cut,
    /// The stream has ended; answered once the last incident is on the disk.
    End(Sender<()>),
}

/// A flagged result and the frame that it is of.
pub struct Flagged {
    pub result: FlaggedFrame,
    /// None where the recorder is so far behind that more frames may not be held.
    pub held: Option<HeldFrame>,
}

/// What the element is told, from the recorder's thread and with no lock held.
pub enum Event {
    /// An incident is on the disk, and so many had to go for it.
    Recorded { incident: Recorded, removed: u64 },
    /// An incident could not be written; `first` since the last that could.
    Failed { error: RecordError, first: bool },
}

/// Writes incidents until the channel closes.
pub struct Recorder {
    settings: Settings,
    tell: Box<dyn Fn(Event) + Send>,
    /// Whom the log names. The element itself would be kept alive by its thread.
    pad: gst::Pad,
    cutter: Cutter<gst::Buffer>,
    caps: Option<gst::Caps>,
    incident: Option<Incident>,
    /// Flagged frames that the encoder has yet to give.
    pending: VecDeque<Box<Flagged>>,
    steps: Vec<Step<gst::Buffer>>,
    /// Running time of the last encoded frame, in nanoseconds.
    last_time: u64,
    /// A failure has been told of and no incident has succeeded since.
    failing: bool,
}

impl Recorder {
    /// `pad` is named in the log.
    pub fn new(settings: Settings, pad: gst::Pad, tell: impl Fn(Event) + Send + 'static) -> Self {
        let longest = match settings.max_duration {
            0 => u64::MAX,
            longest => longest,
        };
        Self {
            cutter: Cutter::new(settings.pre_roll, settings.post_roll, longest),
            settings,
            tell: Box::new(tell),
            pad,
            caps: None,
            incident: None,
            pending: VecDeque::new(),
            steps: Vec::new(),
            last_time: 0,
            failing: false,
        }
    }

    pub fn run(mut self, messages: &Receiver<Message>) {
        for message in messages {
            panic_point("vadliterecord");
            match message {
                Message::Flagged(flagged) => self.pending.push_back(flagged),
                Message::Encoded(sample) => self.add_encoded(&sample),
                Message::Cut => {
                    self.cut("the frames to come do not follow on those before");
                    self.forget_pending();
                }
                Message::End(done) => {
                    self.cut("the stream has ended");
                    // Nobody waits any more where it took too long.
                    let _ = done.send(());
                }
            }
        }
        self.cut("the element stops");
        self.forget_pending();
    }

    fn add_encoded(&mut self, sample: &gst::Sample) {
        let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps_owned()) else {
            return;
        };
        let time = sample
            .segment()
            .and_then(|segment| segment.downcast_ref::<ClockTime>())
            .and_then(|segment| segment.to_running_time(buffer.pts()));
        let Some(time) = time.map(ClockTime::nseconds) else {
            gst::debug!(CAT, obj = self.pad, "encoded frame dropped: it has no time");
            return;
        };
        if self.caps.as_ref().is_some_and(|before| *before != caps) {
            self.cut("a new format makes a new file");
        } else if time < self.last_time {
            self.cut("time goes back");
        }
        self.caps = Some(caps);
        self.last_time = time;
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        gst::log!(
            CAT,
            obj = self.pad,
            "{} frame of {} bytes at {}",
            if key { "key" } else { "delta" },
            buffer.size(),
            display(time)
        );
        self.cutter.split(time, key, &mut self.steps);
        while self
            .pending
            .front()
            .is_some_and(|next| next.result.time <= time)
        {
            if let Some(flagged) = self.pending.pop_front() {
                self.add_flagged(*flagged);
            }
        }
        let unit = Unit {
            time,
            key,
            data: buffer,
        };
        self.cutter.add(unit, &mut self.steps);
        self.take_steps();
    }

    fn add_flagged(&mut self, Flagged { result, held }: Flagged) {
        let open = self.cutter.end().is_some();
        self.cutter.flag(result.time, &mut self.steps);
        self.take_steps();
        let (Some(incident), Some(end)) = (&mut self.incident, self.cutter.end()) else {
            return;
        };
        gst::debug!(
            CAT,
            obj = self.pad,
            "{} {} to {}: frame {} at {} with score {} over {} by {}",
            incident.name,
            if open { "goes on" } else { "is open" },
            display(end),
            result.frame,
            display(result.time),
            result.score,
            result.threshold,
            result.model
        );
        let added = incident.add_flagged(result, held);
        self.check(added);
    }

    /// Ends the incident; what is flagged and still to come from the encoder belongs to the next.
    fn cut(&mut self, reason: &str) {
        gst::debug!(CAT, obj = self.pad, "cut: {reason}");
        self.cutter.cut(&mut self.steps);
        self.take_steps();
        self.last_time = 0;
    }

    fn forget_pending(&mut self) {
        for flagged in self.pending.drain(..) {
            gst::debug!(
                CAT,
                obj = self.pad,
                "flagged frame {} at {} not recorded: the encoder has not given it",
                flagged.result.frame,
                display(flagged.result.time)
            );
        }
    }

    /// Does what the cutter has decided.
    fn take_steps(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.drain(..) {
            let done = match step {
                Step::Open => {
                    self.incident = Some(Incident::new(&self.settings.location));
                    Ok(())
                }
                Step::Write(unit) => self.write(unit),
                Step::Close => self.close(),
            };
            self.check(done);
        }
        self.steps = steps;
    }

    fn write(&mut self, unit: Unit<gst::Buffer>) -> Result<(), RecordError> {
        let (Some(incident), Some(caps)) = (&mut self.incident, &self.caps) else {
            return Ok(());
        };
        gst::log!(
            CAT,
            obj = self.pad,
            "{}: {}",
            incident.name,
            display(unit.time)
        );
        incident.write(unit, caps)
    }

    fn close(&mut self) -> Result<(), RecordError> {
        let Some(incident) = self.incident.take() else {
            return Ok(());
        };
        let name = incident.name.clone();
        if let Some((start, end)) = incident.span {
            let (start, end) = (display(start), display(end));
            gst::debug!(CAT, obj = self.pad, "{name} ends: from {start} to {end}");
        }
        let Some(incident) = incident.close()? else {
            gst::debug!(CAT, obj = self.pad, "{name} has no video");
            return Ok(());
        };
        gst::debug!(CAT, obj = self.pad, "{name} is on the disk: {incident:?}");
        let folder = &self.settings.location;
        let limits = (self.settings.max_bytes, self.settings.max_files);
        let removed = retention::enforce(folder, &name, limits.0, limits.1).map_err(|source| {
            RecordError::Limits {
                folder: folder.clone(),
                source,
            }
        })?;
        for name in &removed {
            gst::debug!(CAT, obj = self.pad, "{name} removed, for the limits");
        }
        self.failing = false;
        (self.tell)(Event::Recorded {
            incident,
            removed: removed.len() as u64,
        });
        Ok(())
    }

    /// Tells of a failure; the pipeline goes on.
    fn check(&mut self, result: Result<(), RecordError>) {
        if let Err(error) = result {
            gst::warning!(CAT, obj = self.pad, "{}", Chain(&error));
            let first = !std::mem::replace(&mut self.failing, true);
            (self.tell)(Event::Failed { error, first });
        }
    }
}
