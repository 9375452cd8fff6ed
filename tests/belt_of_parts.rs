//! A minute of a belt with three lanes of parts at any angle, seen by a camera, decided on and rejected at a gate: on a clock that the test
//! sets, so that frames and pulses have their times whatever else the machine does.
//!
//! What happened is printed: `cargo test --release --test belt_of_parts -- --nocapture`. `VADLITE_BELT=7` runs another belt.

mod common;

use common::lever::{HALF, HEIGHT, Lever, WIDTH, picture};
use common::program::{folder, run};
use common::{Picture, backbone};
use gst::prelude::*;
use gst_check::TestClock;
use gstvadlite::VadLiteTrigger;
use gstvadlite::video::meta::FrameResult;
use rayon::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::f32::consts::TAU;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

const RATE: u64 = 20;
const SECONDS: u64 = 60;
/// Of the belt, in widths of the frame a second, in the middle; it changes by 15 % up and down.
const SPEED: f64 = 1.1;
/// Metres that the frame shows in its width, and from its middle to the gate.
const FIELD: f64 = 0.4;
const TO_GATE: f64 = 0.3;
const MS: u64 = 1_000_000;

/// How far the belt has gone at a time in seconds, in widths of the frame.
fn way(seconds: f64) -> f64 {
    let turn = std::f64::consts::TAU / 16.0;
    SPEED * (seconds + 0.15 * (1.0 - (turn * seconds).cos()) / turn)
}

/// When it has gone so far, in nanoseconds.
fn time_of(so_far: f64) -> u64 {
    let (mut low, mut high) = (0.0, 1000.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        match way(middle) < so_far {
            true => low = middle,
            false => high = middle,
        }
    }
    (high * 1e9) as u64
}

/// A lever on the belt.
#[derive(Debug, Clone, Copy)]
struct Laid {
    /// Where its own middle is on the belt, in pixels from where the frame's left edge was at first.
    along: f32,
    lever: Lever,
}

/// The outline of a lever, seen from its own middle: half of the box around it, along and across the belt, and the middle of its area.
struct Outline {
    along: (f32, f32),
    centre: (f32, f32),
}

fn outline(angle: f32) -> Outline {
    let lever = Lever::at(0.0, 0.0, angle);
    let (mut from, mut to, mut sum, mut count) = (f32::MAX, f32::MIN, (0.0, 0.0), 0.0);
    for y in -50i16..50 {
        for x in -50i16..50 {
            let (x, y) = (f32::from(x) + 0.5, f32::from(y) + 0.5);
            if lever.level(x, y).is_some() {
                (from, to) = (from.min(x - 0.5), to.max(x + 0.5));
                (sum, count) = ((sum.0 + x, sum.1 + y), count + 1.0);
            }
        }
    }
    Outline {
        along: (from, to),
        centre: (sum.0 / count, sum.1 / count),
    }
}

/// Three lanes, gaps down to a tenth of a length; one in twenty has a dark spot, and so have two that pass side by side.
fn belt(seed: u64) -> Vec<Laid> {
    let mut random = fastrand::Rng::with_seed(seed);
    let end = (way(SECONDS as f64) * WIDTH as f64) as f32;
    let mut parts = Vec::new();
    for lane in 0..3u8 {
        // The first comes into the picture when the belt starts.
        let mut edge = 20.0 * random.f32();
        loop {
            let angle = TAU * random.f32();
            let outline = outline(angle);
            let gap = match random.u8(..3) {
                0 => 0.1,
                _ => 0.1 + 2.0 * random.f32(),
            };
            let along = edge + gap * 2.0 * HALF - outline.along.0;
            edge = along + outline.along.1;
            if edge > end - WIDTH as f32 {
                break;
            }
            let y = 48.0 + 100.0 * f32::from(lane) + 4.0 * random.f32() - outline.centre.1;
            let spot = (random.u8(..20) == 0).then_some(-0.5);
            let lever = Lever {
                spot,
                ..Lever::at(0.0, y, angle)
            };
            parts.push(Laid { along, lever });
        }
    }
    parts.sort_by(|a, b| a.along.total_cmp(&b.along));
    let pair = parts
        .windows(2)
        .position(|pair| pair[1].along - pair[0].along < 8.0 && pair[0].along > 2000.0);
    let pair = pair.expect("no two parts pass side by side");
    for part in &mut parts[pair..pair + 2] {
        part.lever.spot = Some(-0.5);
    }
    parts
}

impl Laid {
    /// Where it lies when the belt has gone so far: it comes in from the left.
    fn at(&self, way: f64) -> Lever {
        let x = (way * WIDTH as f64) as f32 - self.along;
        Lever { x, ..self.lever }
    }

    /// The belt's way at which the middle of its area passes that of the frame.
    fn middle(&self) -> f64 {
        let centre = outline(self.lever.angle).centre.0;
        f64::from(self.along - centre + WIDTH as f32 / 2.0) / WIDTH as f64
    }
}

/// What the camera sees when the belt has gone so far.
fn show(parts: &[Laid], way: f64, seed: u64) -> Picture {
    let levers = parts.iter().map(|part| part.at(way));
    let levers: Vec<Lever> = levers
        .filter(|lever| lever.x > -60.0 && lever.x < WIDTH as f32 + 60.0)
        .collect();
    picture(&levers, seed)
}

fn model() -> &'static PathBuf {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        let images = folder("levers");
        // As a line would: pictures of the belt with good parts, each of which is on one of them.
        let mut parts = belt(1000);
        parts.iter_mut().for_each(|part| part.lever.spot = None);
        (0..SECONDS).into_par_iter().for_each(|second| {
            let file = images.join(format!("{second:03}.png"));
            show(&parts, way(second as f64), second).save(&file);
        });
        let out = folder("models").join("levers.vadlite");
        let options = [
            "fit",
            "--method",
            "patchcore-lite",
            "--size",
            "128",
            "--locate",
            "part",
        ];
        let paths = [
            "--images",
            images.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ];
        run([&options[..], &paths].concat(), 0);
        out
    })
}

/// `appsrc ! vadlite ! vadlitetrigger ! fakesink` on a clock of the test's own.
struct Line {
    pipeline: gst::Pipeline,
    trigger: gst::Element,
    source: gst_app::AppSrc,
    clock: TestClock,
    passed: Receiver<()>,
    /// Ids of the parts that the last frame has judged, with the places where they were seen.
    seen: Arc<Mutex<Vec<(u64, f32, f32)>>>,
}

impl Line {
    fn start(vadlite: &str, trigger: &str) -> Self {
        common::element::init();
        let text = format!(
            "appsrc name=source is-live=true format=time caps=video/x-raw,format=RGB,width={WIDTH},height={HEIGHT},framerate={RATE}/1
             ! vadlite backbone={} threads=1 overlay=none {vadlite} ! vadlitetrigger name=trigger {trigger} ! fakesink sync=false",
            backbone().display()
        );
        let pipeline = gst::parse::launch(&text).unwrap();
        let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
        let clock = TestClock::new();
        pipeline.use_clock(Some(&clock));
        let trigger = pipeline.by_name("trigger").unwrap();
        let as_trigger = trigger.downcast_ref::<VadLiteTrigger>().unwrap();
        as_trigger.set_clock(clock.clone());
        let (pass, passed) = channel();
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let its = seen.clone();
        let pad = trigger.static_pad("src").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            let mut seen = its.lock().unwrap();
            seen.clear();
            FrameResult::read_all(info.buffer().unwrap(), |result| {
                let result = result.unwrap();
                for part in result.parts.as_deref().unwrap_or_default() {
                    if part.inspected {
                        seen.push((part.id, part.x, part.y));
                    }
                }
            });
            let _ = pass.send(());
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        let source = pipeline.by_name("source").unwrap();
        Self {
            trigger,
            source: source.downcast().unwrap(),
            pipeline,
            clock,
            passed,
            seen,
        }
    }

    fn process(&self) {
        while self.clock.process_next_clock_id().is_some() {}
    }

    /// Lets a running time come, in small steps, each of which wakes who waits for it.
    fn run_to(&self, time: u64) {
        let base = self.pipeline.base_time().unwrap().nseconds();
        let mut now = self.clock.time().nseconds() - base;
        while now < time {
            now = (now + MS).min(time);
            self.clock
                .set_time(gst::ClockTime::from_nseconds(base + now));
            self.process();
            // The thread that fires is asked for what it waits for next.
            if self.clock.peek_next_pending_id().is_none() {
                std::thread::sleep(Duration::from_micros(20));
            }
        }
    }

    fn show(&self, time: u64, rgb: Vec<u8>) {
        let mut buffer = gst::Buffer::from_mut_slice(rgb);
        buffer
            .get_mut()
            .unwrap()
            .set_pts(gst::ClockTime::from_nseconds(time));
        self.source.push_buffer(buffer).unwrap();
        self.passed
            .recv_timeout(Duration::from_secs(60))
            .expect("a frame does not pass");
        self.process();
    }

    fn end(&self) -> (Vec<gst::Structure>, Vec<String>) {
        let (mut messages, mut warnings) = (Vec::new(), Vec::new());
        self.source.end_of_stream().unwrap();
        let bus = self.pipeline.bus().unwrap();
        loop {
            self.process();
            let Some(message) = bus.timed_pop(gst::ClockTime::from_mseconds(20)) else {
                // What the end waits for comes in its time.
                self.clock.advance_time(10 * MS as i64);
                continue;
            };
            match message.view() {
                gst::MessageView::Eos(_) => break,
                gst::MessageView::Error(error) => panic!("{error:?}"),
                gst::MessageView::Warning(warning) => {
                    warnings.push(warning.error().message().to_owned());
                }
                gst::MessageView::Element(element) => {
                    messages.extend(element.structure().map(ToOwned::to_owned));
                }
                _ => {}
            }
        }
        (messages, warnings)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}

#[test]
fn a_minute_of_three_lanes_to_the_gate() {
    let seed = std::env::var("VADLITE_BELT").map_or(1, |seed| seed.parse().unwrap());
    let parts = belt(seed);
    let line = Line::start(
        &format!(
            "model={} post-messages=flagged false-reject-rate=0.003",
            model().display()
        ),
        &format!(
            "decision=majority belt-speed=-1 field-of-view={FIELD} distance={TO_GATE} pulse=20000000"
        ),
    );
    // Which of the parts that lie on the belt has an id, by where it is seen.
    let mut ids: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    let frames: Vec<u64> = (0..RATE * SECONDS).collect();
    for frames in frames.chunks(64) {
        let pictures: Vec<_> = frames
            .par_iter()
            .map(|&frame| show(&parts, way(frame as f64 / RATE as f64), 10_000 + frame).rgb)
            .collect();
        for (&frame, rgb) in frames.iter().zip(pictures) {
            let time = frame * 1000 * MS / RATE;
            line.run_to(time);
            line.show(time, rgb);
            let way = way(time as f64 / 1e9);
            for &(id, x, y) in line.seen.lock().unwrap().iter() {
                let (x, y) = (x * WIDTH as f32, y * HEIGHT as f32);
                let off = |part: &Laid| {
                    let lever = part.at(way);
                    let centre = outline(lever.angle).centre;
                    (lever.x + centre.0 - x).hypot(lever.y + centre.1 - y)
                };
                let near = parts.iter().enumerate();
                let near = near.filter(|(_, part)| (part.at(way).x - x).abs() < 60.0);
                let nearest = near.min_by(|a, b| off(a.1).total_cmp(&off(b.1)));
                let (number, part) = nearest.expect("nothing lies there");
                assert!(
                    off(part) < 12.0,
                    "{} pixels off in frame {frame}",
                    off(part)
                );
                ids.entry(id).or_default().insert(number);
            }
        }
    }
    line.run_to((SECONDS + 2) * 1000 * MS);
    let (messages, warnings) = line.end();
    let of_name = |name: &str| -> Vec<&gst::Structure> {
        messages
            .iter()
            .filter(|message| message.name() == name)
            .collect()
    };
    // Every part one id, and every id one part.
    assert!(ids.values().all(|parts| parts.len() == 1), "{ids:?}");
    let part_of = |id: u64| ids.get(&id).and_then(|parts| parts.first()).copied();
    let known: BTreeSet<usize> = ids.values().flatten().copied().collect();
    assert_eq!(known.len(), parts.len());
    assert_eq!(ids.len(), parts.len());
    // One message for each that has left.
    let left = of_name("vadlite-part");
    // Two that seemed to touch in a frame are a thing of its own there, which no frame has judged.
    let left: Vec<usize> = left
        .iter()
        .filter(|part| part.get::<u32>("inspected").unwrap() > 0)
        .map(|part| part_of(part.get("id").unwrap()).unwrap())
        .collect();
    assert_eq!(left.len(), parts.len());
    assert_eq!(left.iter().collect::<BTreeSet<_>>().len(), parts.len());
    // One pulse for each bad one, in its time.
    let mut pulses: BTreeMap<usize, i64> = BTreeMap::new();
    for pulse in of_name("vadlitetrigger") {
        let part = part_of(pulse.get("id").unwrap()).unwrap();
        let truth = time_of(parts[part].middle() + TO_GATE / FIELD);
        // The test's clock does not wait for the thread that fires.
        let due: u64 = pulse.get("due").unwrap();
        let before = pulses.insert(part, due as i64 - truth as i64);
        assert_eq!(before, None, "part {part} is rejected twice");
    }
    let bad = |part: &usize| parts[*part].lever.spot.is_some();
    let all = parts
        .iter()
        .filter(|part| part.lever.spot.is_some())
        .count();
    let found = pulses.keys().filter(|part| bad(part)).count();
    let wrong = pulses.len() - found;
    let mut errors: Vec<f64> = pulses.values().map(|off| *off as f64 / MS as f64).collect();
    errors.sort_by(f64::total_cmp);
    println!(
        "{} parts: {found} of {all} bad ones rejected, {wrong} of {} good ones; pulses from {:.1} to {:.1} ms of the truth; {warnings:?}",
        parts.len(),
        parts.len() - all,
        errors[0],
        errors[errors.len() - 1]
    );
    assert!(found as f64 >= 0.95 * all as f64, "{found} of {all}");
    assert!(wrong as f64 <= 0.01 * (parts.len() - all) as f64, "{wrong}");
    // 4 pixels of 400 are 9 ms.
    let close = errors.iter().filter(|error| error.abs() <= 10.0).count();
    assert!(close as f64 >= 0.95 * errors.len() as f64, "{errors:?}");
    assert!(errors.iter().all(|error| error.abs() <= 15.0), "{errors:?}");
    let stats: gst::Structure = line.trigger.property("stats");
    assert_eq!(stats.get::<u64>("late"), Ok(0));
}

#[test]
fn what_cannot_be_measured_is_said() {
    let plain = &common::model().path;
    let line = Line::start(
        &format!("model={}", plain.display()),
        "belt-speed=-1 distance=0.3",
    );
    line.show(0, picture(&[], 1).rgb);
    line.show(50 * MS, picture(&[], 2).rgb);
    let (_, warnings) = line.end();
    let said = |part: &str| warnings.iter().filter(|said| said.contains(part)).count();
    assert_eq!(said("without field-of-view"), 1, "{warnings:?}");
    assert_eq!(said("locates none"), 1, "{warnings:?}");
}

/// Frames that are left out on purpose have no parts, and say nothing of the model.
#[test]
fn what_is_left_out_is_no_model_without_parts() {
    let line = Line::start(
        &format!("model={} interval=2", model().display()),
        "belt-speed=-1 field-of-view=0.4 distance=0.3",
    );
    for frame in 0..4 {
        line.run_to(50 * MS * frame);
        line.show(50 * MS * frame, picture(&[], frame).rgb);
    }
    let (_, warnings) = line.end();
    assert!(warnings.is_empty(), "{warnings:?}");
}
