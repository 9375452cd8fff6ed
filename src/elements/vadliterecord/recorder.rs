//! The thread that writes incidents: videos, what is known of them, and their worst frames.

use super::VadLiteRecord;
use super::cutter::{Cutter, Step, Unit};
use super::picture::Frame;
use super::retention;
use super::settings::Settings;
use super::writer::Writer;
use gst::subclass::prelude::*;
use serde::Serialize;
use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender};
use std::time::SystemTime;

/// What the pipeline's threads hand on.
pub enum Message {
    /// A flagged frame.
    Flagged(Box<Flagged>),
    /// An encoded frame and its format.
    Encoded(gst::Sample),
    /// The frames to come do not follow on those before.
    Cut,
    /// The stream has ended; answered once the last incident is on the disk.
    End(Sender<()>),
}

/// A flagged frame.
pub struct Flagged {
    /// Running time in nanoseconds.
    pub time: u64,
    pub score: f64,
    pub known: Known,
    /// None where the recorder is so far behind that more frames may not be held.
    pub frame: Option<Frame>,
}

/// A flagged frame as the JSON has it.
#[derive(Debug, Clone, Serialize)]
pub struct Known {
    pub frame: u64,
    /// Running time in nanoseconds.
    pub time: u64,
    pub score: f64,
    pub threshold: f64,
    pub model: String,
    pub regions: Vec<Region>,
}

/// In 0..1 of the frame.
#[derive(Debug, Clone, Serialize)]
pub struct Region {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
    pub score: f64,
}

/// Writes incidents until the channel closes.
pub struct Recorder {
    element: glib::WeakRef<VadLiteRecord>,
    settings: Settings,
    cutter: Cutter<gst::Buffer>,
    caps: Option<gst::Caps>,
    incident: Option<Incident>,
    /// Flagged frames that the encoder has yet to give.
    ahead: VecDeque<Box<Flagged>>,
    steps: Vec<Step<gst::Buffer>>,
    last: u64,
    /// A failure has been warned of and none has succeeded since.
    failing: bool,
}

/// The incident that is open.
struct Incident {
    name: String,
    begun: SystemTime,
    /// None after a failure.
    writer: Option<Writer>,
    /// Running time of the file's first frame.
    start: Option<u64>,
    /// In the file, once it is complete.
    frames: u64,
    flagged: Vec<Known>,
    worst: Option<Box<Flagged>>,
}

/// What stands beside a video.
#[derive(Serialize)]
struct Report<'a> {
    file: String,
    complete: bool,
    begun: String,
    /// Running time at the file's beginning, in nanoseconds; a frame's `time` less this is its time in the file.
    start: u64,
    frames: u64,
    model: &'a str,
    worst_frame: Option<u64>,
    score: f64,
    flagged: &'a [Known],
}

/// More flagged frames than this are counted and not listed one by one.
const LISTED: usize = 10_000;

impl Recorder {
    pub fn new(element: glib::WeakRef<VadLiteRecord>, settings: Settings) -> Self {
        Self {
            element,
            cutter: Cutter::new(
                settings.pre_roll,
                settings.post_roll,
                match settings.max_duration {
                    0 => u64::MAX,
                    longest => longest,
                },
            ),
            settings,
            caps: None,
            incident: None,
            ahead: VecDeque::new(),
            steps: Vec::new(),
            last: 0,
            failing: false,
        }
    }

    pub fn run(mut self, messages: &Receiver<Message>) {
        for message in messages {
            match message {
                Message::Flagged(flagged) => self.ahead.push_back(flagged),
                Message::Encoded(sample) => self.encoded(&sample),
                Message::Cut => {
                    self.cut();
                    self.ahead.clear();
                }
                Message::End(done) => {
                    self.cut();
                    // Nobody waits any more where it took too long.
                    let _ = done.send(());
                }
            }
        }
        self.cut();
    }

    fn flag(&mut self, flagged: Box<Flagged>) {
        self.cutter.flag(flagged.time, &mut self.steps);
        self.work();
        if let Some(incident) = &mut self.incident {
            if incident.flagged.len() < LISTED {
                incident.flagged.push(flagged.known.clone());
            }
            let first = incident.worst.is_none();
            let worst = incident.worst.as_ref().map(|worst| worst.score);
            if worst.is_none_or(|worst| flagged.score > worst) {
                incident.worst = Some(flagged);
            }
            if first {
                // For the case that the end is not reached.
                let result = incident.report(&self.settings.location, false);
                self.take(result);
            }
        }
    }

    fn encoded(&mut self, sample: &gst::Sample) {
        let (Some(buffer), Some(caps)) = (sample.buffer_owned(), sample.caps_owned()) else {
            return;
        };
        let time = sample
            .segment()
            .and_then(|segment| segment.downcast_ref::<gst::ClockTime>())
            .and_then(|segment| segment.to_running_time(buffer.pts()));
        let Some(time) = time.map(gst::ClockTime::nseconds) else {
            return;
        };
        // A new size makes a new file, and so does time that goes back.
        if self.caps.as_ref().is_some_and(|before| *before != caps) || time < self.last {
            self.cut();
        }
        self.caps = Some(caps);
        self.last = time;
        let key = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        self.cutter.split(time, key, &mut self.steps);
        while self.ahead.front().is_some_and(|next| next.time <= time) {
            if let Some(flagged) = self.ahead.pop_front() {
                self.flag(flagged);
            }
        }
        let unit = Unit {
            time,
            key,
            data: buffer,
        };
        self.cutter.add(unit, &mut self.steps);
        self.work();
    }

    /// Ends the incident; what is flagged and still to come from the encoder belongs to the next.
    fn cut(&mut self) {
        self.cutter.cut(&mut self.steps);
        self.work();
        self.last = 0;
    }

    fn work(&mut self) {
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.drain(..) {
            match step {
                Step::Open => self.incident = Some(Incident::new()),
                Step::Write(unit) => {
                    let result = self.write(unit);
                    self.take(result);
                }
                Step::Close => {
                    let result = self.close();
                    self.take(result);
                }
            }
        }
        self.steps = steps;
    }

    fn write(&mut self, unit: Unit<gst::Buffer>) -> Result<(), String> {
        let (Some(incident), Some(caps)) = (&mut self.incident, &self.caps) else {
            return Ok(());
        };
        if incident.start.is_none() {
            incident.start = Some(unit.time);
            let path = incident.path(&self.settings.location, "mkv");
            // A folder that was taken away comes back with the next incident.
            std::fs::create_dir_all(&self.settings.location)
                .map_err(|error| format!("{}: {error}", self.settings.location.display()))?;
            incident.writer = Some(Writer::create(&path, caps)?);
        }
        let Some(writer) = &mut incident.writer else {
            return Ok(());
        };
        writer.write(unit.data).inspect_err(|_| {
            // What is on the disk stays there; more cannot be added.
            incident.writer = None;
        })
    }

    fn close(&mut self) -> Result<(), String> {
        let Some(mut incident) = self.incident.take() else {
            return Ok(());
        };
        let Some(writer) = incident.writer.take() else {
            return Ok(());
        };
        let (frames, bytes) = (writer.frames, writer.bytes);
        writer.finish()?;
        let folder = &self.settings.location;
        incident.frames = frames;
        if let Some(frame) = incident
            .worst
            .as_ref()
            .and_then(|worst| worst.frame.as_ref())
        {
            let path = incident.path(folder, "png");
            let written = frame.write(&path);
            written.map_err(|error| format!("{}: {error:#}", path.display()))?;
        }
        incident.report(folder, true)?;
        let limits = (self.settings.max_bytes, self.settings.max_files);
        let removed = retention::enforce(folder, &incident.name, limits.0, limits.1)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        self.failing = false;
        if let Some(element) = self.element.upgrade() {
            let path = incident.path(folder, "mkv");
            let structure = gst::Structure::builder("vadliterecord")
                .field("location", path.to_string_lossy().as_ref())
                .field("frames", frames)
                .field("flagged", incident.flagged.len() as u64)
                .field("score", incident.score())
                .build();
            element.imp().complete(structure, bytes, removed);
        }
        Ok(())
    }

    /// Counts and warns of a failure; the pipeline goes on.
    fn take(&mut self, result: Result<(), String>) {
        if let (Err(reason), Some(element)) = (result, self.element.upgrade()) {
            let warn = !std::mem::replace(&mut self.failing, true);
            element.imp().fail(&reason, warn);
        }
    }
}

impl Incident {
    fn new() -> Self {
        let begun = SystemTime::now();
        let time = humantime::format_rfc3339_millis(begun).to_string();
        let time: String = time
            .chars()
            .filter(|letter| !"-:".contains(*letter))
            .collect();
        // Several elements may write to one folder.
        let name = format!("{}{time}-{:04x}", retention::PREFIX, fastrand::u16(..));
        Self {
            name,
            begun,
            writer: None,
            start: None,
            frames: 0,
            flagged: Vec::new(),
            worst: None,
        }
    }

    fn path(&self, folder: &Path, kind: &str) -> PathBuf {
        folder.join(format!("{}.{kind}", self.name))
    }

    fn score(&self) -> f64 {
        self.worst.as_ref().map_or(0.0, |worst| worst.score)
    }

    /// Writes what is known, whole or not at all.
    fn report(&self, folder: &Path, complete: bool) -> Result<(), String> {
        let path = self.path(folder, "json");
        let worst = self.worst.as_ref().map(|worst| &worst.known);
        let report = Report {
            file: format!("{}.mkv", self.name),
            complete,
            begun: humantime::format_rfc3339_millis(self.begun).to_string(),
            start: self.start.unwrap_or_default(),
            frames: self.frames,
            model: worst.map_or("", |worst| &worst.model),
            worst_frame: worst.map(|worst| worst.frame),
            score: self.score(),
            flagged: &self.flagged,
        };
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(".vadlite-")
                // Readable by others, as the video is; a temporary file is private otherwise.
                .permissions(std::fs::Permissions::from_mode(0o644))
                .tempfile_in(folder)?;
            serde_json::to_writer_pretty(&mut file, &report)?;
            file.write_all(b"\n")?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|error| format!("{}: {error}", path.display()))
    }
}
