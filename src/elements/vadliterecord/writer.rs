//! One incident's video: encoded frames into a Matroska file, which a crash leaves playable up to its last cluster.

use gst::prelude::*;
use std::path::Path;

/// Longest wait for the last bytes to reach the disk.
const FINISH: gst::ClockTime = gst::ClockTime::from_seconds(5);

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
    pub fn create(path: &Path, caps: &gst::Caps) -> Result<Self, String> {
        let make = |name: &str| {
            gst::ElementFactory::make(name)
                .build()
                .map_err(|_| format!("GStreamer has no element {name}; install its good plugins"))
        };
        let source = make("appsrc")?;
        let muxer = make("matroskamux")?;
        muxer.set_property("writing-app", "vadlite");
        let sink = make("filesink")?;
        sink.set_property("location", path);
        // Clusters are on their way to the disk as soon as they are complete.
        sink.set_property_from_str("buffer-mode", "unbuffered");
        sink.set_property("async", false);
        let pipeline = gst::Pipeline::new();
        let link = || {
            pipeline.add_many([&source, &muxer, &sink])?;
            gst::Element::link_many([&source, &muxer, &sink])
        };
        link().map_err(|error: glib::BoolError| error.to_string())?;
        let source: gst_app::AppSrc = source
            .downcast()
            .map_err(|_| "appsrc is of another type".to_owned())?;
        source.set_format(gst::Format::Time);
        source.set_caps(Some(caps));
        source.set_max_bytes(64 << 20);
        let bus = pipeline.bus().ok_or("a pipeline without a bus")?;
        let writer = Self {
            pipeline,
            source,
            bus,
            start: None,
            frames: 0,
            bytes: 0,
        };
        if writer.pipeline.set_state(gst::State::Playing).is_err() {
            writer.check()?;
            return Err(format!("{} cannot be written", path.display()));
        }
        Ok(writer)
    }

    /// Appends a frame.
    ///
    /// # Errors
    /// What has stopped the file from being written.
    pub fn write(&mut self, mut buffer: gst::Buffer) -> Result<(), String> {
        self.check()?;
        let pts = buffer.pts();
        let start = *self.start.get_or_insert(pts.unwrap_or_default());
        self.frames += 1;
        self.bytes += buffer.size() as u64;
        let inner = buffer.make_mut();
        inner.set_pts(pts.map(|pts| pts.saturating_sub(start)));
        inner.set_dts(inner.dts().map(|dts| dts.saturating_sub(start)));
        self.source
            .push_buffer(buffer)
            .map(|_| ())
            .map_err(|error| self.check().err().unwrap_or_else(|| error.to_string()))
    }

    /// An error that the file's pipeline has met.
    fn check(&self) -> Result<(), String> {
        match self.bus.pop_filtered(&[gst::MessageType::Error]) {
            None => Ok(()),
            Some(message) => Err(reason(&message)),
        }
    }

    /// Writes the rest and closes the file.
    ///
    /// # Errors
    /// What has stopped that.
    pub fn finish(self) -> Result<(), String> {
        let _ = self.source.end_of_stream();
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self.bus.timed_pop_filtered(FINISH, &wanted);
        match message {
            None => Err("the disk does not take the end of the file".into()),
            Some(message) if message.type_() == gst::MessageType::Error => Err(reason(&message)),
            Some(_) => Ok(()),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

fn reason(message: &gst::Message) -> String {
    match message.view() {
        gst::MessageView::Error(error) => match error.debug() {
            Some(debug) => format!("{} ({debug})", error.error()),
            None => error.error().to_string(),
        },
        _ => "no error".into(),
    }
}
