//! The thread that writes incidents: which encoded frames belong to one, and what is done when it ends.

use super::CAT;
use super::cutter::{Cutter, Limits, Step, Unit};
use super::error::RecordError;
use super::inbox::{Flagged, Message, Outlet, Taken};
use super::incident::{Incident, Recorded};
use super::retention::Retention;
use super::settings::Settings;
use crate::detector::error::Chain;
use crate::elements::time::display;
use crate::thread::panic_point;
use gst::ClockTime;
use std::collections::{HashSet, VecDeque};
use std::mem::{Discriminant, discriminant};
use std::time::{Duration, Instant};

/// Most encoded frames that are kept as what may become the beginning of a recording.
pub const KEPT: Limits = Limits {
    bytes: 256 << 20,
    frames: 100_000,
};
/// Shortest pause in which no frames are said to come any more.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest time between two frames that is taken for their rate.
const SLOWEST: Duration = Duration::from_millis(2500);

/// What the element is told, from the recorder's thread and with no lock held.
pub enum Event {
    /// A file begins: what has been told once per incident may be told again.
    Opened,
    /// An incident is on the disk.
    Recorded(Recorded),
    /// An incident could not be written; `first`: for this reason since the start.
    Failed { error: RecordError, first: bool },
    /// What belongs to an incident could not be written, or what has to go could not be removed.
    Missed { error: RecordError, first: bool },
    /// So many incidents had to go for the limits.
    Removed(u64),
    /// So many encoded frames had to go, as the run-up takes more memory than there is for it.
    Shortened(u64),
}

/// Writes incidents until the channel closes.
pub struct Recorder {
    settings: Settings,
    tell: Box<dyn Fn(Event) + Send>,
    /// Whom the log names. The element itself would be kept alive by its thread.
    pad: gst::Pad,
    cutter: Cutter<gst::Buffer>,
    retention: Retention,
    caps: Option<gst::Caps>,
    incident: Option<Incident>,
    /// Flagged frames that the encoder has yet to give.
    pending: VecDeque<Box<Flagged>>,
    steps: Vec<Step<gst::Buffer>>,
    /// Running time of the last encoded frame, in nanoseconds.
    last_time: u64,
    /// When the last frame came, encoded or flagged.
    last_came: Instant,
    /// When the last encoded frame came, and the longest of the latest times between two.
    last_encoded: Option<Instant>,
    interval: Duration,
    /// What has been told since the start.
    told: HashSet<Discriminant<RecordError>>,
}

impl Recorder {
    /// `pad` is named in the log.
    pub fn new(settings: Settings, pad: gst::Pad, tell: impl Fn(Event) + Send + 'static) -> Self {
        let longest = match settings.max_duration {
            0 => u64::MAX,
            longest => longest,
        };
        let (bytes, files) = (settings.max_bytes, settings.max_files);
        Self {
            cutter: Cutter::new(settings.pre_roll, settings.post_roll, longest, KEPT),
            retention: Retention::new(&settings.location, bytes, files),
            settings,
            tell: Box::new(tell),
            pad,
            caps: None,
            incident: None,
            pending: VecDeque::new(),
            steps: Vec::new(),
            last_time: 0,
            last_came: Instant::now(),
            last_encoded: None,
            interval: Duration::ZERO,
            told: HashSet::new(),
        }
    }

    pub fn run(mut self, messages: &Outlet) {
        loop {
            match messages.0.take(self.deadline()) {
                Taken::Message(message) => {
                    panic_point("vadliterecord");
                    self.handle(message);
                }
                Taken::Late => self.expire(),
                Taken::Closed => break,
            }
        }
        self.cut("the element stops");
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Flagged(flagged) => {
                self.last_came = Instant::now();
                self.pending.push_back(flagged);
            }
            Message::Encoded(sample) => {
                let now = Instant::now();
                let before = self.last_encoded.replace(now).unwrap_or(now);
                let gap = now.duration_since(before).min(SLOWEST);
                self.interval = gap.max(self.interval * 7 / 8);
                self.last_came = now;
                self.add_encoded(&sample);
            }
            Message::Cut => self.cut("the frames to come do not follow on those before"),
            Message::End(done) => {
                self.cut("the stream has ended");
                // Nobody waits any more where it took too long.
                let _ = done.send(());
            }
        }
    }

    /// When what is open or pending ends though no frames come.
    fn deadline(&self) -> Option<Instant> {
        let left = match self.cutter.end() {
            _ if !self.pending.is_empty() => 0,
            Some(end) => end.saturating_sub(self.last_time),
            None => return None,
        };
        // A source may be slower than its time stamps say.
        let pause = PAUSE.max(4 * self.interval);
        self.last_came
            .checked_add(pause.max(Duration::from_nanos(left)))
    }

    /// No frames come any more.
    fn expire(&mut self) {
        if !self.pending.is_empty() {
            // Its time after begins with the last frame there is.
            return self.flag_until(u64::MAX);
        }
        gst::debug!(CAT, obj = self.pad, "cut: no frames come any more");
        self.cutter.expire(&mut self.steps);
        self.take_steps();
    }

    fn add_encoded(&mut self, sample: &gst::Sample) {
        let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps_owned()) else {
            return;
        };
        let time = sample
            .segment()
            .and_then(|segment| segment.downcast_ref::<ClockTime>())
            .and_then(|segment| segment.to_running_time(buffer.pts()));
        // Frames go into the encoder with times that go forward.
        let time = time.map_or(self.last_time, ClockTime::nseconds);
        if self.caps.as_ref().is_some_and(|before| *before != caps) || time < self.last_time {
            gst::debug!(CAT, obj = self.pad, "cut: {caps} makes a new file");
            self.cutter.renew(time, &mut self.steps);
            // The file before is of the format before.
            self.take_steps();
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
        self.flag_until(time);
        let unit = Unit {
            time,
            key,
            size: buffer.size(),
            data: buffer,
        };
        self.cutter.add(unit, &mut self.steps);
        self.take_steps();
        match self.cutter.take_dropped() {
            0 => {}
            dropped => (self.tell)(Event::Shortened(dropped)),
        }
    }

    /// Takes in the pending results of frames up to this time.
    fn flag_until(&mut self, time: u64) {
        while self
            .pending
            .front()
            .is_some_and(|next| next.result.time <= time)
        {
            if let Some(flagged) = self.pending.pop_front() {
                self.add_flagged(*flagged);
            }
        }
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
            incident.name(),
            if open { "goes on" } else { "is open" },
            display(end),
            result.frame,
            display(result.time),
            result.score,
            result.threshold,
            result.model
        );
        incident.add_flagged(result, held);
    }

    /// Ends the incident, with what is flagged and will not come from the encoder any more.
    fn cut(&mut self, reason: &str) {
        gst::debug!(CAT, obj = self.pad, "cut: {reason}");
        self.flag_until(u64::MAX);
        self.cutter.cut(&mut self.steps);
        self.take_steps();
        self.last_time = 0;
    }

    /// Does what the cutter has decided.
    fn take_steps(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.drain(..) {
            match step {
                Step::Open => {
                    (self.tell)(Event::Opened);
                    self.incident = Some(Incident::new(&self.settings.location));
                }
                Step::Write(unit) => self.write(unit),
                Step::Close => self.close(),
            }
        }
        self.steps = steps;
    }

    fn write(&mut self, unit: Unit<gst::Buffer>) {
        let (Some(incident), Some(caps)) = (&mut self.incident, &self.caps) else {
            return;
        };
        gst::log!(
            CAT,
            obj = self.pad,
            "{}: {}",
            incident.name(),
            display(unit.time)
        );
        if let Err(error) = incident.write(unit, caps) {
            self.fail(error);
        }
    }

    /// Completes the incident; whatever fails of it, the limits are kept.
    fn close(&mut self) {
        let Some(incident) = self.incident.take() else {
            return;
        };
        if let Some((start, end)) = incident.span {
            let (name, start, end) = (incident.name(), display(start), display(end));
            gst::debug!(CAT, obj = self.pad, "{name} ends: from {start} to {end}");
        }
        let closed = incident.close();
        let complete = closed.recorded.is_some();
        if let Some(error) = closed.failure {
            self.fail(error);
        }
        for error in closed.missing {
            // Where the video has failed the reason has been told.
            self.miss(error, complete);
        }
        let name = closed.name.as_deref();
        self.keep_limits(name.map(|name| (name, complete)));
        if let Some(recorded) = closed.recorded {
            gst::debug!(CAT, obj = self.pad, "on the disk: {recorded:?}");
            (self.tell)(Event::Recorded(recorded));
        }
    }

    fn keep_limits(&mut self, current: Option<(&str, bool)>) {
        match self.retention.enforce(current) {
            Ok(kept) => {
                for name in &kept.removed {
                    gst::debug!(CAT, obj = self.pad, "{name} removed, for the limits");
                }
                if !kept.removed.is_empty() {
                    (self.tell)(Event::Removed(kept.removed.len() as u64));
                }
                for (path, source) in kept.stuck {
                    self.miss(RecordError::Remove { path, source }, true);
                }
            }
            Err(source) => {
                let folder = self.settings.location.clone();
                self.miss(RecordError::Limits { folder, source }, true);
            }
        }
    }

    /// Tells that an incident is not recorded; the pipeline goes on.
    fn fail(&mut self, error: RecordError) {
        gst::warning!(CAT, obj = self.pad, "{}", Chain(&error));
        let first = self.told.insert(discriminant(&error));
        (self.tell)(Event::Failed { error, first });
    }

    /// Tells that something beside an incident's video has failed; `aloud`: where it has not been told before.
    fn miss(&mut self, error: RecordError, aloud: bool) {
        gst::warning!(CAT, obj = self.pad, "{}", Chain(&error));
        let first = aloud && self.told.insert(discriminant(&error));
        (self.tell)(Event::Missed { error, first });
    }
}
