//! Every structure that the elements post on the bus, each with its name and its fields: `docs/meta.md` in code.
//!
//! The message `vadlite` has the fields of the meta and is made where these are: [`FrameResult::message`](crate::video::meta::FrameResult::message).

use gst::prelude::*;
use std::path::Path;

/// What is posted as an element message.
pub trait BusMessage {
    fn structure(&self) -> gst::Structure;

    /// Posts it from `element`. No lock may be held: a handler may set a property or read the statistics.
    fn post(&self, element: &impl IsA<gst::Element>) {
        let _ = element.post_message(self.message(element));
    }

    /// The message, to be posted once no lock is held.
    fn message(&self, element: &impl IsA<gst::Element>) -> gst::Message {
        element_message(element, self.structure())
    }
}

/// A structure as a message of `element`.
pub fn element_message(
    element: &impl IsA<gst::Element>,
    structure: gst::Structure,
) -> gst::Message {
    gst::message::Element::builder(structure)
        .src(element.upcast_ref::<gst::Element>())
        .build()
}

/// `vadlite-model`: another model has taken over.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelTakenOver<'a> {
    /// File name.
    pub model: &'a str,
    /// Raw score above which frames are flagged from here on.
    pub threshold: f64,
}

impl BusMessage for ModelTakenOver<'_> {
    fn structure(&self) -> gst::Structure {
        gst::Structure::builder("vadlite-model")
            .field("model", self.model)
            .field("threshold", self.threshold)
            .build()
    }
}

/// `vadlite-drift`: scores have become other than those that the threshold was set on.
#[derive(Debug, Clone, PartialEq)]
pub struct DriftAlarm<'a> {
    /// `up` or `down`.
    pub direction: &'a str,
    pub frame: u64,
    pub score: f64,
    pub model: &'a str,
}

impl BusMessage for DriftAlarm<'_> {
    fn structure(&self) -> gst::Structure {
        gst::Structure::builder("vadlite-drift")
            .field("direction", self.direction)
            .field("frame", self.frame)
            .field("score", self.score)
            .field("model", self.model)
            .build()
    }
}

/// `vadlite-part`: a part has left the frame, and with it all that was seen of it.
#[derive(Debug, Clone, PartialEq)]
pub struct PartLeft<'a> {
    pub id: u64,
    /// Highest score of the frames in which it was judged; 0 where it never was.
    pub score: f64,
    pub threshold: f64,
    /// Whether any of these flagged it.
    pub flagged: bool,
    /// Frames that showed it, in which it was judged, and in which it was flagged.
    pub frames: u32,
    pub inspected: u32,
    pub frames_flagged: u32,
    /// Presentation times of the first and the last frame that showed it, nanoseconds.
    pub first: u64,
    pub last: u64,
    /// Its speed to the right and down, in widths and heights of the frame a second.
    pub speed: (f64, f64),
    pub model: &'a str,
}

impl BusMessage for PartLeft<'_> {
    fn structure(&self) -> gst::Structure {
        gst::Structure::builder("vadlite-part")
            .field("id", self.id)
            .field("score", self.score)
            .field("threshold", self.threshold)
            .field("flagged", self.flagged)
            .field("frames", self.frames)
            .field("inspected", self.inspected)
            .field("frames-flagged", self.frames_flagged)
            .field("first", self.first)
            .field("last", self.last)
            .field("speed-x", self.speed.0)
            .field("speed-y", self.speed.1)
            .field("model", self.model)
            .build()
    }
}

/// `vadlite-learn`: how far learning is.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnProgress<'a> {
    /// `collecting`, `fitting` or `done`.
    pub phase: &'a str,
    /// Frames taken; parts, once it is known that they are located.
    pub frames: u64,
    /// The same that are wanted.
    pub learn_frames: u64,
    /// Frames that show nothing new; of parts, later views of those that are taken.
    pub duplicates: u64,
    /// Frames that came while all tensors were on their way.
    pub too_fast: u64,
    pub outliers: u64,
    /// What fitting is at.
    pub stage: &'a str,
    /// How much of the phase or stage is done, 0 to 1.
    pub share: f64,
    /// What the model promises at most to reject of good parts, 0 to 1, once it is done.
    pub false_reject_rate: Option<f64>,
    /// Nanoseconds, where that can be told.
    pub time_left: Option<u64>,
    /// Why parts are located or whole pictures judged, once that is decided.
    pub located: Option<&'a str>,
}

impl BusMessage for LearnProgress<'_> {
    fn structure(&self) -> gst::Structure {
        gst::Structure::builder("vadlite-learn")
            .field("phase", self.phase)
            .field("frames", self.frames)
            .field("learn-frames", self.learn_frames)
            .field("duplicates", self.duplicates)
            .field("too-fast", self.too_fast)
            .field("outliers", self.outliers)
            .field("stage", self.stage)
            .field("share", self.share)
            .field_if_some("false-reject-rate", self.false_reject_rate)
            .field_if_some("time-left", self.time_left)
            .field_if_some("located", self.located)
            .build()
    }
}

/// `vadlitetrigger`: a pulse has been fired.
#[derive(Debug, Clone, PartialEq)]
pub struct PulseFired<'a> {
    pub part: u64,
    /// The id that the part has in the meta; left out where parts are not located.
    pub id: Option<u64>,
    /// The frame with the highest score, and its score and threshold. The number is left out where no frame stands for the part.
    pub frame: Option<u64>,
    pub score: f64,
    pub threshold: f64,
    /// `flagged` or `fail-safe`.
    pub reason: &'a str,
    /// Running times in nanoseconds: when the part is at the gate, and when the pulse went out.
    pub due: u64,
    pub fired: u64,
    /// How long the gate rejects, in nanoseconds.
    pub pulse: u64,
    /// The part was at the gate before it was known to be bad.
    pub late: bool,
    /// Pulses that had to go for this one in full queues.
    pub dropped: u64,
}

impl BusMessage for PulseFired<'_> {
    fn structure(&self) -> gst::Structure {
        gst::Structure::builder("vadlitetrigger")
            .field("part", self.part)
            .field_if_some("id", self.id)
            .field_if_some("frame", self.frame)
            .field("score", self.score)
            .field("threshold", self.threshold)
            .field("reason", self.reason)
            .field("due", self.due)
            .field("fired", self.fired)
            .field("pulse", self.pulse)
            .field("late", self.late)
            .field("dropped", self.dropped)
            .build()
    }
}

/// `vadlitetrigger-gate`: the gate is held, since nobody has seen what passes it, or let go.
#[derive(Debug, Clone, PartialEq)]
pub struct GateHeld {
    pub held: bool,
    /// Running time in nanoseconds.
    pub time: u64,
}

impl BusMessage for GateHeld {
    fn structure(&self) -> gst::Structure {
        gst::Structure::builder("vadlitetrigger-gate")
            .field("held", self.held)
            .field("time", self.time)
            .build()
    }
}

/// `vadlitetrigger-output`: what happens at an output.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputChanged<'a> {
    /// Its address, without secrets.
    pub output: &'a str,
    pub event: OutputEvent<'a>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum OutputEvent<'a> {
    Connected,
    Disconnected {
        reason: &'a str,
    },
    /// The pulse of this part came too late to be of use.
    Missed {
        part: u64,
    },
    /// Its thread has failed, and begins anew.
    Failed {
        reason: &'a str,
    },
    /// The element has ended, and what has been switched on could not be switched off.
    LeftOn {
        reason: &'a str,
    },
}

impl BusMessage for OutputChanged<'_> {
    fn structure(&self) -> gst::Structure {
        let structure =
            gst::Structure::builder("vadlitetrigger-output").field("output", self.output);
        match self.event {
            OutputEvent::Connected => structure.field("event", "connected"),
            OutputEvent::Disconnected { reason } => structure
                .field("event", "disconnected")
                .field("reason", reason),
            OutputEvent::Failed { reason } => {
                structure.field("event", "failed").field("reason", reason)
            }
            OutputEvent::LeftOn { reason } => {
                structure.field("event", "left-on").field("reason", reason)
            }
            OutputEvent::Missed { part } => structure.field("event", "missed").field("part", part),
        }
        .build()
    }
}

/// `vadliterecord`: an incident is on the disk.
#[derive(Debug, Clone, PartialEq)]
pub struct IncidentRecorded<'a> {
    /// The video.
    pub location: &'a Path,
    /// Frames in it, and how many of them were flagged.
    pub frames: u64,
    pub flagged: u64,
    /// The highest score.
    pub score: f64,
}

impl BusMessage for IncidentRecorded<'_> {
    fn structure(&self) -> gst::Structure {
        gst::Structure::builder("vadliterecord")
            .field("location", self.location.to_string_lossy().as_ref())
            .field("frames", self.frames)
            .field("flagged", self.flagged)
            .field("score", self.score)
            .build()
    }
}
