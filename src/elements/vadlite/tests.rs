//! The element's threads: a panic in any of them is heard of, and a stop ends them.

use super::settings::Mode;
use super::{CAT, VadLite};
use crate::detector::heads::Recipe;
use crate::detector::method::{Method, Preset};
use crate::detector::progress::Progress;
use crate::detector::{FitOptions, Fitter};
use crate::thread::panics;
use crate::video::preprocess::{Layout, Plane, Preprocess, Target};
use gst::prelude::*;
use gst::subclass::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

const WIDTH: usize = 160;
const HEIGHT: usize = 120;
/// Fewest frames that a model is learnt from.
const FRAMES: u32 = 10;
const LONG: Duration = Duration::from_secs(60);

/// One at a time: whoever comes first to a place where a panic is wanted has it.
static ONE: Mutex<()> = Mutex::new(());

/// Noise over a gradient, other noise for every seed.
fn pixels(seed: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let pixels = (0..WIDTH * HEIGHT).map(|at| (at % WIDTH) as u8 + random.u8(0..60));
    pixels.collect()
}

/// A model fitted on such frames.
fn model() -> &'static Path {
    static FOLDER: LazyLock<tempfile::TempDir> = LazyLock::new(|| tempfile::tempdir().unwrap());
    static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
        let recipe = Recipe {
            method: Method::PadimLite,
            preset: Preset::Default,
        };
        let backbone = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mobilenetv2.onnx");
        let options = FitOptions::new(recipe, &backbone);
        let size = options.input_size;
        let mut fitter = Fitter::new(options).unwrap();
        let target = Target {
            size,
            normalization: fitter.normalization(),
            roi: Default::default(),
        };
        let layout = Layout::interleaved(WIDTH, HEIGHT, 1, false);
        let mut preprocess = Preprocess::new(layout, target);
        let mut tensor = target.tensor();
        for seed in 0..u64::from(FRAMES) {
            let plane = Plane {
                data: &pixels(seed),
                stride: WIDTH,
            };
            preprocess.run(&[plane], tensor.view_mut()).unwrap();
            fitter.add(tensor.view()).unwrap();
        }
        let path = FOLDER.path().join("part.vadlite");
        let model = fitter.finish(&mut Progress::none()).unwrap().model;
        model.write(&path).unwrap();
        path
    });
    &MODEL
}

/// The element between two pads, with a bus of its own.
struct Rig {
    harness: gst_check::Harness,
    element: gst::Element,
    bus: gst::Bus,
}

fn element(properties: &[(&str, &str)]) -> (gst::Element, gst::Bus) {
    gst::init().unwrap();
    crate::plugin_register_static().unwrap();
    let element = gst::ElementFactory::make("vadlite").build().unwrap();
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    (element, bus)
}

impl Rig {
    fn new(properties: &[(&str, &str)]) -> Self {
        let (element, bus) = element(properties);
        let mut harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
        let info = VideoInfo::builder(VideoFormat::Gray8, WIDTH as u32, HEIGHT as u32);
        harness.set_src_caps(info.build().unwrap().to_caps().unwrap());
        Self {
            harness,
            element,
            bus,
        }
    }

    fn learning(path: &Path, frames: &str, properties: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("mode", "learn"),
            ("learn-frames", frames),
            ("model", path.to_str().unwrap()),
            ("overlay", "none"),
        ];
        all.extend(properties);
        Self::new(&all)
    }

    fn push(&mut self, seed: u64) {
        let buffer = gst::Buffer::from_mut_slice(pixels(seed));
        self.harness.push(buffer).unwrap();
        self.harness.try_pull().unwrap();
    }

    /// Pushes frames until the phase is another one than collecting.
    fn push_all(&mut self) {
        let end = Instant::now() + LONG;
        for seed in 0.. {
            self.push(seed);
            while let Some(message) = self.bus.pop_filtered(&[gst::MessageType::Element]) {
                if message.structure().unwrap().get("phase") != Ok("collecting") {
                    return;
                }
            }
            if let Some(error) = self.bus.pop_filtered(&[gst::MessageType::Error]) {
                panic!("{}", text(&error));
            }
            assert!(Instant::now() < end, "frames are not taken");
            // As a camera does: what comes too fast is not learnt from.
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The text of the next message of a kind.
    #[track_caller]
    fn said(&self, kind: gst::MessageType) -> String {
        let limit = gst::ClockTime::from_seconds(LONG.as_secs());
        let message = self.bus.timed_pop_filtered(limit, &[kind]);
        text(&message.expect("nothing is said"))
    }

    fn stat(&self, name: &str) -> u64 {
        let stats: gst::Structure = self.element.property("stats");
        stats.get(name).unwrap()
    }
}

/// What the element logs from here on, up to LOG.
struct Log {
    lines: Arc<Mutex<Vec<(gst::DebugLevel, String)>>>,
    function: Option<gst::log::DebugLogFunction>,
}

impl Log {
    fn start() -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let list = lines.clone();
        gst::log::remove_default_log_function();
        CAT.set_threshold(gst::DebugLevel::Log);
        let function = gst::log::add_log_function(move |category, level, _, _, _, _, message| {
            if category == *CAT {
                let line = message.get().unwrap().to_string();
                list.lock().push((level, line));
            }
        });
        Self {
            lines,
            function: Some(function),
        }
    }

    fn has(&self, text: &str) -> bool {
        self.lines
            .lock()
            .iter()
            .any(|(_, line)| line.contains(text))
    }

    /// The lines since the last call that begin so.
    fn take(&self, begin: &str) -> Vec<(gst::DebugLevel, String)> {
        let mut lines = std::mem::take(&mut *self.lines.lock());
        lines.retain(|(_, line)| line.starts_with(begin));
        lines
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        CAT.set_threshold(gst::DebugLevel::None);
        if let Some(function) = self.function.take() {
            gst::log::remove_log_function(function);
        }
    }
}

fn text(message: &gst::Message) -> String {
    match message.view() {
        gst::MessageView::Error(error) => error.error().message().to_owned(),
        gst::MessageView::Warning(warning) => warning.error().message().to_owned(),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_panic_while_a_model_is_opened_refuses_it_and_the_next_one_takes_over() {
    let _one = ONE.lock();
    let path = model().to_str().unwrap();
    let mut rig = Rig::new(&[("model", path)]);
    rig.push(0);
    panics::want("vadlite-loader: opening");
    rig.element.set_property("model", path);
    let warning = rig.said(gst::MessageType::Warning);
    assert!(
        warning.contains("vadlite-loader: opening") && warning.contains("stays"),
        "{warning}"
    );
    rig.push(1);
    assert_eq!((rig.stat("reloads"), rig.stat("reloads-refused")), (0, 1));
    assert_eq!(rig.stat("inspected"), 2);
    rig.element.set_property("model", path);
    until("the next model", || {
        rig.push(2);
        rig.stat("reloads") == 1
    });
}

/// Whatever is set after the start has read the properties counts: another model, a region, a value that is refused.
#[test]
fn what_is_set_while_the_element_starts_counts() {
    let _one = ONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.vadlite");
    std::fs::copy(model(), &other).unwrap();
    let start = |name: &'static str, value: &str| {
        let value = value.to_owned();
        let (element, bus) = element(&[("model", model().to_str().unwrap())]);
        let set = Mutex::new(false);
        gst::log::remove_default_log_function();
        CAT.set_threshold(gst::DebugLevel::Debug);
        let weak = element.downgrade();
        let function = gst::log::add_log_function(move |category, _, _, _, _, _, message| {
            let text = message.get();
            let starts = text.is_some_and(|text| text.starts_with("starting in mode"));
            if category == *CAT && starts && !std::mem::replace(&mut *set.lock(), true) {
                weak.upgrade().unwrap().set_property_from_str(name, &value);
            }
        });
        let started = element.set_state(gst::State::Paused);
        CAT.set_threshold(gst::DebugLevel::None);
        gst::log::remove_log_function(function);
        let stats: gst::Structure = element.property("stats");
        element.set_state(gst::State::Null).unwrap();
        let error = bus.pop_filtered(&[gst::MessageType::Error]);
        let error = error.as_ref().map(text);
        assert_eq!(started.is_err(), error.is_some());
        (stats.get::<String>("model").unwrap(), error)
    };
    let path = other.to_str().unwrap();
    assert_eq!(start("model", path), ("other.vadlite".into(), None));
    let (_, error) = start("model", "/nonexistent.vadlite");
    assert!(error.unwrap().contains("/nonexistent.vadlite"));
    let (_, error) = start("roi", "0,0,2,1");
    assert!(error.unwrap().contains("property roi"));
    // One that does not fit the model is found out now, not at the next start.
    let (_, error) = start("tiles", "3x3");
    assert!(error.unwrap().contains("property tiles"));
}

#[test]
fn a_panic_of_the_statistics_is_warned_of_and_the_last_word_is_written_all_the_same() {
    let _one = ONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("vadlite.prom");
    let mut rig = Rig::new(&[
        ("model", model().to_str().unwrap()),
        ("stats-file", file.to_str().unwrap()),
    ]);
    rig.push(0);
    panics::want("vadlite-stats: file");
    rig.element.set_state(gst::State::Null).unwrap();
    let warning = rig.said(gst::MessageType::Warning);
    assert!(
        warning.contains("vadlite-stats: file") && warning.contains("begins anew"),
        "{warning}"
    );
    let text = std::fs::read_to_string(&file).unwrap();
    let inspected = text
        .lines()
        .find(|line| line.starts_with("vadlite_inspected_total"));
    assert!(inspected.is_some_and(|line| line.ends_with(" 1")), "{text}");
}

#[cfg(feature = "mqtt")]
#[test]
fn a_panic_of_the_statistics_for_a_broker_is_warned_of_and_they_are_tried_again() {
    let _one = ONE.lock();
    // Taken, and answered by nobody.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    panics::want("vadlite-stats: broker");
    let rig = Rig::new(&[
        ("model", model().to_str().unwrap()),
        ("stats-mqtt", &format!("mqtt://{address}/line")),
    ]);
    let warning = rig.said(gst::MessageType::Warning);
    assert!(
        warning.contains("vadlite-stats: broker") && warning.contains("begins anew"),
        "{warning}"
    );
    // The next round comes to the broker.
    nobody.accept().unwrap();
    rig.element.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_panic_before_learning_keeps_the_element_from_starting() {
    let _one = ONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.vadlite");
    let (element, bus) = element(&[("mode", "learn"), ("model", path.to_str().unwrap())]);
    panics::want("vadlite-learner: beginning");
    assert!(element.set_state(gst::State::Paused).is_err());
    let mut errors = Vec::new();
    while let Some(message) = bus.pop_filtered(&[gst::MessageType::Error]) {
        errors.push(text(&message));
    }
    assert!(
        errors.len() == 1 && errors[0].contains("vadlite-learner: beginning"),
        "{errors:?}"
    );
    element.set_state(gst::State::Null).unwrap();
}

#[test]
fn a_panic_in_the_fit_is_an_error_and_ends_the_wait_at_the_end_of_the_stream() {
    let _one = ONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.vadlite");
    // Fitting takes so long that the stream ends before the panic.
    let mut rig = Rig::learning(&path, "40", &[("method", "patchcore")]);
    panics::want("vadlite-learner: finishing");
    rig.push_all();
    assert!(
        rig.bus
            .peek()
            .is_none_or(|message| message.type_() != gst::MessageType::Error)
    );
    // Waits for the model, which does not come.
    assert!(rig.harness.push_event(gst::event::Eos::new()));
    let error = rig.said(gst::MessageType::Error);
    assert!(
        error.contains("vadlite-learner: finishing") && error.contains("could not be learnt"),
        "{error}"
    );
    assert!(!path.exists());
}

/// How many threads there are with the names of the element's.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // One may end meanwhile.
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names
        .map(|name| name.trim().to_owned())
        .filter(|name| ["vadlite-learner", "vadlite-loader"].contains(&name.as_str()))
        .count()
}

/// A model that is on the disk when the element stops is not learnt over by the next start, though no frame has come for it.
#[test]
fn a_model_that_is_learnt_when_the_element_stops_is_used_by_the_next_start() {
    let _one = ONE.lock();
    let mode = |rig: &Rig| rig.element.property::<Mode>("mode");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.vadlite");
    let mut rig = Rig::learning(&path, "10", &[("method", "padim-lite")]);
    rig.push_all();
    until("a model", || path.exists());
    rig.element.set_state(gst::State::Null).unwrap();
    assert_eq!(mode(&rig), Mode::Detect);
    let model = std::fs::read(&path).unwrap();
    rig.element.set_state(gst::State::Paused).unwrap();
    let stats: gst::Structure = rig.element.property("stats");
    assert_eq!(stats.get::<String>("model").unwrap(), "part.vadlite");
    rig.element.set_state(gst::State::Null).unwrap();
    assert!(std::fs::read(&path).unwrap() == model);
    // One that is stopped before goes on learning.
    let path = folder.path().join("other.vadlite");
    let mut rig = Rig::learning(&path, "300", &[]);
    rig.push(0);
    rig.element.set_state(gst::State::Null).unwrap();
    assert!(!path.exists());
    assert_eq!(mode(&rig), Mode::Learn);
}

/// Stops in the middle of a fit of many seconds: at once, without a model, and with the thread gone soon.
fn stops(method: &str, frames: &str, tiles: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("part.vadlite");
    let properties = [("method", method), ("tiles", tiles)];
    // The runtime's own threads stay, and have the name of the one that has begun them.
    model();
    let before = threads();
    let log = Log::start();
    let mut rig = Rig::learning(&path, frames, &properties);
    rig.push_all();
    std::thread::sleep(Duration::from_millis(200));
    assert!(
        !log.has("the fit has ended"),
        "{method}: it is done already"
    );
    let start = Instant::now();
    rig.element.set_state(gst::State::Null).unwrap();
    let stopped = start.elapsed();
    assert!(stopped < Duration::from_secs(1), "{method}: {stopped:?}");
    until("the end of the fit", || {
        log.has("the fit has ended: the model is not wanted")
    });
    until("the end of the threads", || threads() == before);
    let ended = start.elapsed();
    println!("{method}: stopped in {stopped:?}, and the threads ended in {ended:?}");
    // A second, where nothing else is done on the machine. A fit that nobody stops says the same at its end, many seconds later.
    assert!(ended < Duration::from_secs(3), "{method}: {ended:?}");
    let files = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 0, "{method}: a file appears");
    let more = rig
        .bus
        .pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning]);
    assert!(more.is_none(), "{more:?}");
}

#[test]
fn a_stop_ends_a_fit_of_many_frames() {
    let _one = ONE.lock();
    stops("patchcore", "300", "");
    // Of one tile it would be fitted before it is stopped.
    stops("padim", "100", "3x2");
    stops("auto", "60", "2x2");
}

#[test]
fn a_stop_ends_a_fit_of_many_tiles() {
    let _one = ONE.lock();
    stops("patchcore-lite", "20", "8x4");
}

/// A handler on the bus may do with the element what it likes: read the statistics, set a property, stop it.
#[test]
fn nothing_is_posted_while_a_lock_is_held() {
    let _one = ONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let learnt = folder.path().join("part.vadlite");
    let watch = |rig: &Rig| {
        let weak = rig.element.downgrade();
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        let list = seen.clone();
        rig.bus.set_sync_handler(move |_, message| {
            if let Some(element) = weak.upgrade() {
                let element = element.downcast::<VadLite>().unwrap();
                assert!(element.imp().is_unlocked(), "locked at {message:?}");
                let name = message.structure().map(|has| has.name().to_string());
                let name = format!("{:?} {}", message.type_(), name.unwrap_or_default());
                list.lock().insert(name);
            }
            gst::BusSyncReply::Pass
        });
        seen
    };
    let path = model().to_str().unwrap();
    let properties = [
        ("model", path),
        ("post-messages", "all"),
        ("drift-limit", "2"),
        ("drift-interval", "0"),
    ];
    let mut rig = Rig::new(&properties);
    let seen = watch(&rig);
    rig.element.set_property("threshold", 0.001);
    for seed in 0..10 {
        rig.push(seed);
    }
    // No such threshold, a frame that cannot be read, a model that takes over and one that does not.
    rig.element.set_property("threshold", 0.0);
    rig.element.set_property("false-reject-rate", 0.001);
    rig.harness.push(gst::Buffer::new()).unwrap();
    rig.element.set_property("false-reject-rate", 0.0);
    rig.element.set_property("model", path);
    until("a model that takes over", || {
        rig.push(0);
        rig.stat("reloads") == 1
    });
    rig.element.set_property("model", "/nonexistent.vadlite");
    until("a refusal", || rig.stat("reloads-refused") == 1);
    let expected = [
        "Element vadlite",
        "Element vadlite-drift",
        "Element vadlite-model",
    ];
    for expected in expected.into_iter().chain(["Warning GstMessageWarning"]) {
        assert!(
            seen.lock().contains(expected),
            "{expected} of {:?}",
            seen.lock()
        );
    }

    let mut rig = Rig::learning(&learnt, "10", &[]);
    let seen = watch(&rig);
    rig.push_all();
    rig.harness.push_event(gst::event::Eos::new());
    for expected in ["Element vadlite-learn", "Progress GstMessageProgress"] {
        assert!(
            seen.lock().contains(expected),
            "{expected} of {:?}",
            seen.lock()
        );
    }
    assert!(learnt.exists());
}

/// With `GST_DEBUG=vadlite:6` the log alone tells what was decided about each frame and when, and when the model changed.
#[test]
fn the_log_tells_what_was_decided_about_each_frame() {
    use gst::DebugLevel as Level;
    let _one = ONE.lock();
    let path = model().to_str().unwrap();
    let log = Log::start();
    let mut rig = Rig::new(&[("model", path), ("interval", "2")]);
    let opened = log.take("model ");
    let [(Level::Info, line)] = opened.as_slice() else {
        panic!("{opened:?}")
    };
    assert!(
        line.starts_with("model part.vadlite with threshold ") && line.contains("opened in"),
        "{line}"
    );

    let push = |rig: &mut Rig, seconds: u64, mut buffer: gst::Buffer| {
        let time = gst::ClockTime::from_seconds(seconds);
        buffer.get_mut().unwrap().set_pts(time);
        rig.harness.push(buffer).unwrap();
        let lines = log.take("frame ");
        assert!(!lines.is_empty(), "nothing of the frame");
        lines
    };
    let good = || gst::Buffer::from_mut_slice(pixels(0));
    // Each with its number and time, what became of it, and the numbers that decided.
    rig.element.set_property("threshold", 1e6);
    let lines = push(&mut rig, 7, good());
    assert_eq!(lines[0].0, Level::Info);
    assert!(
        lines[0]
            .1
            .starts_with("frame 0 at 0:00:07.000000000: the threshold is 1000000 instead of "),
        "{lines:?}"
    );
    assert_eq!(lines[1].0, Level::Log);
    assert!(
        lines[1]
            .1
            .starts_with("frame 0 at 0:00:07.000000000: good, score "),
        "{lines:?}"
    );
    assert!(lines[1].1.contains(" of 1000000, in "), "{lines:?}");

    let lines = push(&mut rig, 8, good());
    let skipped = "frame 1 at 0:00:08.000000000: skipped, by interval".to_owned();
    assert_eq!(lines, [(Level::Log, skipped)]);

    rig.element.set_property("threshold", 0.001);
    let lines = push(&mut rig, 9, good());
    assert_eq!(lines[1].0, Level::Debug);
    assert!(
        lines[1]
            .1
            .starts_with("frame 2 at 0:00:09.000000000: flagged, score "),
        "{lines:?}"
    );

    rig.element.set_property("interval", 1u32);
    let lines = push(&mut rig, 10, gst::Buffer::new());
    assert_eq!(lines[0].0, Level::Debug);
    assert!(
        lines[0]
            .1
            .starts_with("frame 3 at 0:00:10.000000000: not inspected: the buffer of 0 bytes"),
        "{lines:?}"
    );

    rig.element.set_property("model", path);
    until("a model that takes over", || {
        rig.push(0);
        rig.stat("reloads") == 1
    });
    let changed = log.take("the model part.vadlite takes over before frame ");
    assert!(
        matches!(changed.as_slice(), [(Level::Info, _)]),
        "{changed:?}"
    );
}
