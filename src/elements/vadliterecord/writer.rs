//! One incident's video: encoded frames into a Matroska file, which a crash leaves playable up to its last cluster.

use gst::prelude::*;
use std::io;
use std::path::Path;

/// Longest wait for the last bytes to reach the disk, from when it took any.
const FINISH: gst::ClockTime = gst::ClockTime::from_seconds(5);
/// Bytes that may wait for the disk here; more wait with the recorder.
const WAITING: u64 = 16 << 20;
/// How often is looked whether the disk has taken some.
const LOOK: gst::ClockTime = gst::ClockTime::from_mseconds(10);

/// Why a video is not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("GStreamer has no element {0}; install its good plugins")]
    Element(&'static str),
    #[error("the muxer cannot be connected")]
    Link(#[source] glib::BoolError),
    /// The debug text says where in the pipeline, and what the system said.
    #[error("{error}{}", debug.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Pipeline {
        error: glib::Error,
        debug: Option<glib::GString>,
    },
    #[error("it cannot be written")]
    Start(#[from] gst::StateChangeError),
    #[error("it takes no more frames")]
    Push(#[from] gst::FlowError),
    #[error("the disk has taken nothing of the end of the file for {} s", FINISH.seconds())]
    Unfinished,
    #[error("the file is written, and gone")]
    Gone(#[source] io::Error),
}

pub struct Writer {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    bus: gst::Bus,
    /// Time of the first frame, which is 0 in the file.
    start: Option<gst::ClockTime>,
    pub frames: u64,
    pub bytes: u64,
}

impl Writer {
    /// Begins a file of frames with these caps.
    ///
    /// # Errors
    /// A missing element, or a file that cannot be made.
    pub fn create(path: &Path, caps: &gst::Caps) -> Result<Self, WriteError> {
        let make = |name| {
            let element = gst::ElementFactory::make(name).build();
            element.map_err(|_| WriteError::Element(name))
        };
        let source = gst_app::AppSrc::builder()
            .format(gst::Format::Time)
            .caps(caps)
            .max_bytes(2 * WAITING)
            .build();
        let muxer = make("matroskamux")?;
        muxer.set_property("writing-app", "vadlite");
        let sink = make("filesink")?;
        sink.set_property("location", path);
        // Clusters are on their way to the disk as soon as they are complete.
        sink.set_property_from_str("buffer-mode", "unbuffered");
        sink.set_property("async", false);
        let pipeline = gst::Pipeline::new();
        let link = || {
            let elements = [source.upcast_ref(), &muxer, &sink];
            pipeline.add_many(elements)?;
            gst::Element::link_many(elements)?;
            pipeline
                .bus()
                .ok_or_else(|| glib::bool_error!("A pipeline without a bus"))
        };
        let bus = link().map_err(WriteError::Link)?;
        let writer = Self {
            pipeline,
            source,
            bus,
            start: None,
            frames: 0,
            bytes: 0,
        };
        if let Err(error) = writer.pipeline.set_state(gst::State::Playing) {
            writer.check()?;
            return Err(error.into());
        }
        Ok(writer)
    }

    /// Appends a frame, as soon as the disk has taken enough of those before.
    ///
    /// # Errors
    /// What has stopped the file from being written.
    pub fn write(&mut self, mut buffer: gst::Buffer) -> Result<(), WriteError> {
        self.check()?;
        // The source itself would wait for ever where the file has failed.
        while self.source.current_level_bytes() > WAITING {
            let error = [gst::MessageType::Error];
            if let Some(message) = self.bus.timed_pop_filtered(LOOK, &error) {
                outcome(&message)?;
            }
        }
        let pts = buffer.pts();
        let start = *self.start.get_or_insert(pts.unwrap_or_default());
        self.frames += 1;
        self.bytes += buffer.size() as u64;
        let inner = buffer.make_mut();
        inner.set_pts(pts.map(|pts| pts.saturating_sub(start)));
        inner.set_dts(inner.dts().map(|dts| dts.saturating_sub(start)));
        if let Err(error) = self.source.push_buffer(buffer) {
            // The reason, where the pipeline has given one.
            self.check()?;
            return Err(error.into());
        }
        Ok(())
    }

    /// An error that the file's pipeline has met.
    fn check(&self) -> Result<(), WriteError> {
        match self.bus.pop_filtered(&[gst::MessageType::Error]) {
            None => Ok(()),
            Some(message) => outcome(&message),
        }
    }

    /// Writes the rest and closes the file.
    ///
    /// # Errors
    /// What has stopped that.
    pub fn finish(self) -> Result<(), WriteError> {
        let _ = self.source.end_of_stream();
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
        loop {
            let left = self.source.current_level_bytes();
            match self.bus.timed_pop_filtered(FINISH, &wanted) {
                Some(message) => return outcome(&message),
                None if self.source.current_level_bytes() == left => {
                    return Err(WriteError::Unfinished);
                }
                None => {}
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The error that a message tells of, if it is one.
fn outcome(message: &gst::Message) -> Result<(), WriteError> {
    match message.view() {
        gst::MessageView::Error(error) => Err(WriteError::Pipeline {
            error: error.error(),
            debug: error.debug(),
        }),
        _ => Ok(()),
    }
}
