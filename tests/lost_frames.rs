//! Frames that are missing before the element are told with the next one, whatever has dropped them.

mod common;

use common::element::{Rig, init, structure};
use common::model;
use gst::prelude::*;
use gst_video::VideoFormat as F;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Only a failing test waits so long.
const LONG: Duration = Duration::from_secs(60);

/// What is taken from buffers before the element sees them.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Taken {
    Nothing,
    Numbers,
    NumbersAndFlags,
}

impl Taken {
    const ALL: [Self; 3] = [Self::Nothing, Self::Numbers, Self::NumbersAndFlags];

    fn from(self, buffer: &mut gst::BufferRef) {
        if self != Self::Nothing {
            buffer.set_offset(u64::MAX);
            buffer.set_offset_end(u64::MAX);
        }
        if self == Self::NumbersAndFlags {
            buffer.unset_flags(gst::BufferFlags::DISCONT);
        }
    }
}

/// `SOURCE ! vadlite ! fakesink`, where few frames are inspected.
struct Line {
    pipeline: gst::Pipeline,
    lost: Arc<Mutex<Vec<u64>>>,
}

impl Line {
    fn new(source: &str) -> Self {
        init();
        let description = format!(
            "{source} ! vadlite name=v model=\"{}\" interval=1000 overlay=none ! fakesink",
            model().path.display()
        );
        let pipeline = gst::parse::launch(&description).unwrap();
        let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
        let lost = Arc::new(Mutex::new(Vec::new()));
        let list = lost.clone();
        let line = Self { pipeline, lost };
        line.pad("v", "src")
            .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let lost = structure(info.buffer().unwrap()).get("lost").unwrap();
                list.lock().unwrap().push(lost);
                gst::PadProbeReturn::Ok
            });
        line
    }

    fn pad(&self, element: &str, pad: &str) -> gst::Pad {
        let element = self.pipeline.by_name(element).unwrap();
        element.static_pad(pad).unwrap()
    }

    /// Takes something from all buffers, and notes the numbers that they had.
    fn take(&self, taken: Taken) -> Arc<Mutex<Vec<u64>>> {
        let numbers = Arc::new(Mutex::new(Vec::new()));
        let list = numbers.clone();
        self.pad("v", "sink")
            .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
                let buffer = info.buffer_mut().unwrap().make_mut();
                list.lock().unwrap().push(buffer.offset());
                taken.from(buffer);
                gst::PadProbeReturn::Ok
            });
        numbers
    }

    /// Plays to the end. Returns what the frames' metas say is lost, and checks that the statistics say the same.
    fn play(&self) -> Vec<u64> {
        self.pipeline.set_state(gst::State::Playing).unwrap();
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let limit = gst::ClockTime::from_seconds(LONG.as_secs());
        let bus = self.pipeline.bus().unwrap();
        let message = bus.timed_pop_filtered(limit, &kinds).expect("no end");
        assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
        self.pipeline.set_state(gst::State::Null).unwrap();
        let element = self.pipeline.by_name("v").unwrap();
        let stats: gst::Structure = element.property("stats");
        let lost = self.lost.lock().unwrap().clone();
        let (frames, all) = (lost.len() as u64, lost.iter().sum::<u64>());
        // A flush may take a frame between the element and the probe behind it.
        assert!(stats.get::<u64>("frames").unwrap() >= frames);
        assert_eq!(stats.get::<u64>("frames-lost"), Ok(all));
        lost
    }
}

/// A probe with a state of its own.
fn probe(
    pad: &gst::Pad,
    mask: gst::PadProbeType,
    each: impl FnMut(&mut gst::PadProbeInfo<'_>) -> gst::PadProbeReturn + Send + 'static,
) {
    let each = Mutex::new(each);
    pad.add_probe(mask, move |_, info| (each.lock().unwrap())(info));
}

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !done() {
        assert!(Instant::now() < end, "{what} does not happen");
        std::thread::sleep(Duration::from_millis(1));
    }
}

const SOURCE: &str =
    "videotestsrc num-buffers=100 ! video/x-raw,format=GRAY8,width=32,height=32,framerate=30/1";

/// Lets the first frame that leaves the queue go once something has been received; returns what sends when it is there.
fn hold_first(line: &Line, until: Receiver<()>) -> Receiver<()> {
    let (passed, first_is_there) = channel();
    let mut first = true;
    probe(
        &line.pad("q", "src"),
        gst::PadProbeType::BUFFER,
        move |_| {
            if std::mem::take(&mut first) {
                passed.send(()).unwrap();
                until.recv_timeout(LONG).unwrap();
            }
            gst::PadProbeReturn::Ok
        },
    );
    first_is_there
}

/// The queue drops the oldest: of 100 frames the first one passes and stands, and of the 99 behind it the newest 49 are kept.
#[test]
fn a_queue_that_leaks_old_frames() {
    for taken in Taken::ALL {
        let line = Line::new(&format!(
            "{SOURCE} ! queue name=q leaky=downstream max-size-buffers=49 max-size-bytes=0 max-size-time=0"
        ));
        line.take(taken);
        let (all_came, wait_for_all) = channel();
        let first_is_there = hold_first(&line, wait_for_all);
        let mut come = 0;
        let mask = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        probe(&line.pad("q", "sink"), mask, move |info| {
            if info.buffer().is_some() {
                come += 1;
                if come == 2 {
                    first_is_there.recv_timeout(LONG).unwrap();
                }
            }
            let event = info.event().map(|event| event.type_());
            if event == Some(gst::EventType::Eos) {
                all_came.send(()).unwrap();
            }
            gst::PadProbeReturn::Ok
        });
        let mut expected = vec![0; 50];
        expected[1] = 50;
        assert_eq!(line.play(), expected, "{taken:?}");
    }
}

/// The queue drops the newest: of 100 frames 25 pass, 50 find it full, and 25 pass again.
#[test]
fn a_queue_that_leaks_new_frames() {
    for taken in Taken::ALL {
        let line = Line::new(&format!(
            "{SOURCE} ! queue name=q leaky=upstream max-size-buffers=24 max-size-bytes=0 max-size-time=0"
        ));
        line.take(taken);
        let queue = line.pipeline.by_name("q").unwrap();
        let level = move || queue.property::<u32>("current-level-buffers");
        let (go_on, stand) = channel();
        let first_is_there = hold_first(&line, stand);
        let mut come = 0;
        probe(
            &line.pad("q", "sink"),
            gst::PadProbeType::BUFFER,
            move |_| {
                come += 1;
                match come {
                    2 => first_is_there.recv_timeout(LONG).unwrap(),
                    76 => go_on.send(()).unwrap(),
                    _ => {}
                }
                if come >= 76 {
                    until("room", || level() < 12);
                }
                gst::PadProbeReturn::Ok
            },
        );
        let mut expected = vec![0; 50];
        expected[25] = 50;
        assert_eq!(line.play(), expected, "{taken:?}");
    }
}

#[test]
fn frames_dropped_at_random() {
    for taken in Taken::ALL {
        let line = Line::new(&format!("{SOURCE} ! identity drop-probability=0.5"));
        let numbers = line.take(taken);
        let lost = line.play();
        let numbers = numbers.lock().unwrap();
        let expected = numbers.windows(2).map(|two| two[1] - two[0] - 1);
        assert!(
            lost[1..].iter().copied().eq(expected),
            "{taken:?}: {lost:?} of {numbers:?}"
        );
        assert!(lost.iter().sum::<u64>() > 20, "{lost:?}");
    }
}

/// What follows on a stream of its own is not missing, and neither is what another rate leaves out on purpose.
#[test]
fn other_streams_and_rates_are_no_losses() {
    let concatenated = "concat name=c videotestsrc num-buffers=10 ! video/x-raw,width=32,height=32 ! c. \
        videotestsrc num-buffers=10 ! video/x-raw,width=32,height=32 ! c. c.";
    let interleaved = "funnel name=f videotestsrc num-buffers=10 ! video/x-raw,width=32,height=32 ! f. \
        videotestsrc num-buffers=10 ! video/x-raw,width=32,height=32 ! f. f.";
    let halved = format!("{SOURCE} ! videorate drop-only=true ! video/x-raw,framerate=15/1");
    let filled = format!("{SOURCE} ! videorate ! video/x-raw,framerate=50/1");
    for (source, fewest) in [
        (concatenated, 20),
        (interleaved, 20),
        (&halved, 49),
        (&filled, 160),
    ] {
        let lost = Line::new(source).play();
        assert!(lost.len() >= fewest, "{source}: {}", lost.len());
        assert!(lost.iter().all(|lost| *lost == 0), "{source}: {lost:?}");
    }
}

#[test]
fn a_seek_is_no_loss_and_what_is_lost_after_it_is_told() {
    let line = Line::new(
        "videotestsrc num-buffers=300 ! video/x-raw,format=GRAY8,width=32,height=32,framerate=30/1",
    );
    let frames = Arc::new(AtomicU64::new(0));
    let count = frames.clone();
    // Frame 10 after the seek is dropped.
    line.pad("v", "sink")
        .add_probe(gst::PadProbeType::BUFFER, move |_, info| {
            count.fetch_add(1, Ordering::Relaxed);
            match info.buffer().unwrap().offset() {
                130 => gst::PadProbeReturn::Handled,
                _ => gst::PadProbeReturn::Ok,
            }
        });
    line.pipeline.set_state(gst::State::Paused).unwrap();
    until("preroll", || frames.load(Ordering::Relaxed) > 0);
    line.pipeline
        .seek_simple(
            gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE,
            gst::ClockTime::from_seconds(4),
        )
        .unwrap();
    let lost = line.play();
    assert_eq!(lost.iter().sum::<u64>(), 1, "{lost:?}");
}

/// A rig whose frames come at 30 in a second by its caps.
fn rig(rate: i32) -> (Rig, gst_video::VideoInfo) {
    let mut rig = Rig::new(&[("overlay", "none"), ("interval", "1000")]);
    let info = gst_video::VideoInfo::builder(F::Gray8, 32, 32)
        .fps(gst::Fraction::new(rate, 1))
        .build()
        .unwrap();
    rig.set_info(&info);
    (rig, info)
}

fn lost(rig: &mut Rig, info: &gst_video::VideoInfo, time: Option<f64>) -> u64 {
    let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
    let time =
        time.map(|frames| gst::ClockTime::from_nseconds((1e9 * (1.0 + frames / 30.0)) as u64));
    buffer.get_mut().unwrap().set_pts(time);
    structure(&rig.pass(buffer)).get("lost").unwrap()
}

/// A camera that says nothing but the time of its frames.
#[test]
fn times_alone_tell_where_the_rate_is_known() {
    let (mut known, info) = rig(30);
    let times = [0.0, 1.1, 1.9, 3.0, 6.0, 6.9, 8.05, 20.0, 21.0];
    let told = times.map(|time| lost(&mut known, &info, Some(time)));
    assert_eq!(told, [0, 0, 0, 0, 2, 0, 0, 11, 0]);

    let (mut variable, info) = rig(0);
    let told = times.map(|time| lost(&mut variable, &info, Some(time)));
    assert_eq!(told, [0; 9]);

    // Late and early by up to two fifths of a frame.
    let (mut jittery, info) = rig(30);
    let mut random = common::Random::new(5);
    for number in 0..300 {
        let time = f64::from(number) + 0.8 * random.unit() - 0.4 + 1.0;
        assert_eq!(lost(&mut jittery, &info, Some(time)), 0, "frame {number}");
    }
    // And without any time.
    assert_eq!(lost(&mut jittery, &info, None), 0);
    assert_eq!(lost(&mut jittery, &info, None), 0);
}

#[test]
fn the_sources_word_that_nothing_comes_is_a_loss_and_a_new_stream_none() {
    let (mut rig, info) = rig(0);
    let gap = |rig: &mut Rig| {
        let event = gst::event::Gap::builder(gst::ClockTime::from_seconds(2)).build();
        assert!(rig.harness().push_event(event));
    };
    // Before the first frame there is nothing to miss.
    gap(&mut rig);
    assert_eq!(lost(&mut rig, &info, Some(0.0)), 0);
    gap(&mut rig);
    assert_eq!(lost(&mut rig, &info, Some(1.0)), 1);
    assert_eq!(lost(&mut rig, &info, Some(2.0)), 0);
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    rig.harness().push_event(gst::event::Segment::new(&segment));
    assert_eq!(lost(&mut rig, &info, Some(90.0)), 0);
}
