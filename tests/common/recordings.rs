//! What `vadliterecord` has written.

use super::element::init;
use super::scratch;
use gst::prelude::*;
use gstvadlite::detector::Region;
use gstvadlite::geometry::Roi;
use gstvadlite::video::meta::{FrameResult, ResultMap};
use gstvadlite::video::overlay::MapView;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long something may take that is to happen; only a failing test waits for it.
const LIMIT: Duration = Duration::from_secs(60);

pub fn videos(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut videos: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "mkv"))
        .collect();
    videos.sort();
    videos
}

/// The time stamps of a video's frames, all decoded.
#[track_caller]
pub fn play(video: &Path) -> Vec<u64> {
    init();
    let text = "filesrc name=file ! matroskademux ! decodebin ! videoconvert ! appsink name=sink sync=false";
    let pipeline = gst::parse::launch(text).unwrap();
    let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
    pipeline
        .by_name("file")
        .unwrap()
        .set_property("location", video);
    let sink: gst_app::AppSink = pipeline.by_name("sink").unwrap().downcast().unwrap();
    let bus = pipeline.bus().unwrap();
    let failed = || bus.pop_filtered(&[gst::MessageType::Error]);
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut times = Vec::new();
    while !sink.is_eos() {
        match sink.try_pull_sample(gst::ClockTime::from_seconds(1)) {
            Some(sample) => times.push(sample.buffer().unwrap().pts().unwrap().nseconds()),
            None => assert!(failed().is_none(), "{} does not play", video.display()),
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    times
}

pub fn json(video: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(video.with_extension("json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

pub const FRAME: u64 = 1_000_000_000 / 30;

/// A folder of its own.
pub fn folder(name: &str) -> PathBuf {
    let folder = scratch().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// The result of a model of this name; scores are higher the later, and the upper left quarter is hot.
pub fn result(model: &'static str, frame: u64, flagged: bool) -> FrameResult<'static> {
    let score = 2.0 + frame as f64 / 100.0;
    let region = Region {
        x: 0.0,
        y: 0.0,
        width: 0.5,
        height: 0.5,
        score: score as f32,
    };
    let map = [[3.0, 0.1], [0.1, 0.1]];
    FrameResult {
        score: if flagged { score } else { 0.5 },
        threshold: 1.0,
        flagged,
        inspected: true,
        skipped: false,
        drawn: false,
        frame,
        lost: 0,
        model: model.into(),
        latency: 1,
        size: gstvadlite::geometry::Size::new(240, 320),
        regions: if flagged { vec![region] } else { Vec::new() }.into(),
        map: Some(ResultMap::new(MapView {
            values: ndarray::aview2(&map),
            roi: Roi::WHOLE,
        })),
        parts: None,
        reason: None,
    }
}

/// `SOURCE ! vadliterecord`, where the frames with these numbers are flagged; played to the end. Returns stats, messages and warnings.
pub fn record(
    source: &str,
    properties: &str,
    flagged: &[u64],
) -> (gst::Structure, Vec<gst::Structure>, Vec<String>) {
    let flagged: BTreeSet<u64> = flagged.iter().copied().collect();
    // As if the heatmap were on grey frames already.
    let drawn = source.contains("GRAY8");
    record_results(source, properties, move |frame| {
        let result = result("made-up.vadlite", frame, flagged.contains(&frame));
        vec![FrameResult { drawn, ..result }]
    })
}

/// As [`record`], where each frame has these results.
pub fn record_results(
    source: &str,
    properties: &str,
    results: impl Fn(u64) -> Vec<FrameResult<'static>> + Send + Sync + 'static,
) -> (gst::Structure, Vec<gst::Structure>, Vec<String>) {
    record_changed(source, properties, results, |_| ())
}

/// As [`record_results`], where each frame is changed after that.
pub fn record_changed(
    source: &str,
    properties: &str,
    results: impl Fn(u64) -> Vec<FrameResult<'static>> + Send + Sync + 'static,
    change: impl Fn(&mut gst::BufferRef) + Send + Sync + 'static,
) -> (gst::Structure, Vec<gst::Structure>, Vec<String>) {
    init();
    let text = format!("{source} ! identity name=marks ! vadliterecord name=it {properties}");
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
    let frames = std::sync::atomic::AtomicU64::new(0);
    let pad = pipeline
        .by_name("marks")
        .unwrap()
        .static_pad("src")
        .unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let buffer = info.buffer_mut().unwrap().make_mut();
        let frame = frames.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        for result in results(frame) {
            result.write(buffer).unwrap();
        }
        change(buffer);
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let mut messages = Vec::new();
    let mut warnings = Vec::new();
    let mut note = |message: &gst::MessageRef| match message.view() {
        gst::MessageView::Element(element) => {
            let structure = element
                .structure()
                .filter(|has| has.name() == "vadliterecord");
            messages.extend(structure.map(ToOwned::to_owned));
        }
        gst::MessageView::Warning(warning) => warnings.push(warning.error().message().to_owned()),
        gst::MessageView::Error(error) => panic!("{error:?}"),
        _ => {}
    };
    loop {
        let message = bus
            .timed_pop(gst::ClockTime::from_seconds(60))
            .expect("no end in a minute");
        note(&message);
        if wanted.contains(&message.type_()) {
            break;
        }
    }
    let element = pipeline.by_name("it").unwrap();
    // The last file is closed by the time the element has stopped.
    let held = element.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    bus.set_sync_handler(move |_, message| {
        let _ = sender.send(message.clone());
        gst::BusSyncReply::Drop
    });
    while let Some(message) = bus.pop() {
        note(&message);
    }
    pipeline.set_state(gst::State::Null).unwrap();
    bus.unset_sync_handler();
    for message in receiver.try_iter() {
        note(&message);
    }
    (held.property("stats"), messages, warnings)
}

pub fn source(frames: u32) -> String {
    format!(
        "videotestsrc num-buffers={frames} pattern=ball ! video/x-raw,format=NV12,width=320,height=240,framerate=30/1"
    )
}

/// A recorder whose frames come one by one, when the test says so.
pub struct Feed {
    pipeline: gst::Pipeline,
    source: gst_app::AppSrc,
    pub element: gst::Element,
    pub bus: gst::Bus,
    warnings: Arc<Mutex<Vec<String>>>,
    frames: u64,
    size: usize,
}

impl Feed {
    /// Plays with these properties, from a source that is live or not, of I420 frames of this width and three quarters of it in height.
    pub fn new(properties: &str, live: bool, width: usize) -> Self {
        let feed = Self::ready(properties, live, width);
        feed.play();
        feed
    }

    /// As [`Feed::new`], not yet playing.
    pub fn ready(properties: &str, live: bool, width: usize) -> Self {
        init();
        let height = width * 3 / 4;
        let pipeline = gst::parse::launch(&format!(
            "appsrc name=in format=time is-live={live} block=true max-bytes=1 \
             caps=video/x-raw,format=I420,width={width},height={height},framerate=30/1 \
             ! vadliterecord name=it {properties}"
        ));
        let pipeline: gst::Pipeline = pipeline.unwrap().downcast().unwrap();
        let bus = pipeline.bus().unwrap();
        let warnings = Arc::<Mutex<Vec<String>>>::default();
        let told = warnings.clone();
        bus.set_sync_handler(move |_, message| {
            if let gst::MessageView::Warning(warning) = message.view() {
                told.lock().push(warning.error().message().to_owned());
            }
            gst::BusSyncReply::Pass
        });
        let source = pipeline.by_name("in").unwrap().downcast().unwrap();
        Self {
            element: pipeline.by_name("it").unwrap(),
            source,
            bus,
            warnings,
            pipeline,
            frames: 0,
            size: width * height * 3 / 2,
        }
    }

    pub fn play(&self) {
        self.set_state(gst::State::Playing).unwrap();
    }

    pub fn set_state(
        &self,
        state: gst::State,
    ) -> Result<gst::StateChangeSuccess, gst::StateChangeError> {
        self.pipeline.set_state(state)
    }

    /// A frame with this time stamp.
    pub fn push(&mut self, pts: Option<u64>, flagged: bool) {
        let buffer = gst::Buffer::from_slice(vec![128; self.size]);
        self.push_buffer(buffer, pts, flagged);
    }

    pub fn push_buffer(&mut self, buffer: gst::Buffer, pts: Option<u64>, flagged: bool) {
        self.offer(buffer, pts, flagged).unwrap();
    }

    /// The same, of a pipeline that may stop meanwhile.
    pub fn offer(
        &mut self,
        mut buffer: gst::Buffer,
        pts: Option<u64>,
        flagged: bool,
    ) -> Result<gst::FlowSuccess, gst::FlowError> {
        let inner = buffer.get_mut().unwrap();
        inner.set_pts(pts.map(gst::ClockTime::from_nseconds));
        result("made-up.vadlite", self.frames, flagged)
            .write(inner)
            .unwrap();
        self.frames += 1;
        self.source.push_buffer(buffer)
    }

    /// The frames with these numbers, at their times, of which one may be flagged.
    pub fn push_all(&mut self, frames: std::ops::Range<u64>, flagged: Option<u64>) {
        for frame in frames {
            self.push(Some(frame * FRAME), flagged == Some(frame));
        }
    }

    pub fn stat(&self, name: &str) -> u64 {
        let stats: gst::Structure = self.element.property("stats");
        stats.get(name).unwrap()
    }

    /// Waits for the message of an incident that is on the disk.
    #[track_caller]
    pub fn wait_for_incident(&self) -> gst::Structure {
        let limit = gst::ClockTime::from_nseconds(LIMIT.as_nanos() as u64);
        let wanted = [gst::MessageType::Element, gst::MessageType::Error];
        let message = self.bus.timed_pop_filtered(limit, &wanted);
        let message = message.expect("no incident is on the disk");
        let structure = message.structure().unwrap().to_owned();
        assert_eq!(structure.name(), "vadliterecord", "{structure}");
        structure
    }

    #[track_caller]
    pub fn wait_until(&self, what: &str, mut is: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !is(self) {
            assert!(Instant::now() < end, "{what} never was");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends the stream, and returns at once.
    pub fn begin_end(&self) {
        self.source.end_of_stream().unwrap();
    }

    /// Ends the stream, and returns when all is on the disk.
    #[track_caller]
    pub fn end(&self) {
        self.begin_end();
        let limit = gst::ClockTime::from_nseconds(LIMIT.as_nanos() as u64);
        let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
        let message = self.bus.timed_pop_filtered(limit, &wanted);
        let message = message.expect("no end of stream");
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
    }

    /// The warnings since this was asked last.
    pub fn warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.warnings.lock())
    }

    /// The errors that wait on the bus. What else waits there is lost.
    pub fn errors(&self) -> Vec<String> {
        let error = [gst::MessageType::Error];
        let messages = std::iter::from_fn(|| self.bus.pop_filtered(&error));
        messages
            .map(|message| match message.view() {
                gst::MessageView::Error(error) => error.error().message().to_owned(),
                _ => unreachable!(),
            })
            .collect()
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

/// The element that records small frames as JPEGs into `folder`, with what it posts and what it is fed by; playing.
pub fn recorder(folder: &Path) -> (gst::Element, gst::Bus, gst_check::Harness) {
    let element = gst::ElementFactory::make("vadliterecord")
        .property("location", folder.to_str().unwrap())
        .property("encoder", "jpegenc")
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let mut harness = gst_check::Harness::with_element(&element, Some("sink"), None);
    harness.set_src_caps_str("video/x-raw,format=I420,width=64,height=48,framerate=30/1");
    harness.play();
    (element, bus, harness)
}

/// A frame for it of this number and time in nanoseconds.
pub fn small_frame(number: u64, time: u64, flagged: bool) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(64 * 48 * 3 / 2).unwrap();
    let inner = buffer.get_mut().unwrap();
    inner.set_pts(gst::ClockTime::from_nseconds(time));
    result("made-up.vadlite", number, flagged)
        .write(inner)
        .unwrap();
    buffer
}
