//! `mode=learn`: frames of good parts become a model, others are left out, and what was there before survives an early end.

mod common;

use common::element::{Rig, Seen, frame, info};
use common::{Part, Picture, model, scratch};
use gst::prelude::*;
use gst_video::VideoFormat as F;
use gstvadlite::detector::model_file::ModelFile;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SIZE: (usize, usize) = (320, 240);

fn good(seed: u64) -> Picture {
    Part::good(seed).picture(SIZE.0, SIZE.1)
}

/// A hand over the part: nothing like the rest.
fn hand() -> Picture {
    let mut picture = good(999);
    for (index, sample) in picture.rgb.iter_mut().enumerate() {
        let x = index / 3 % SIZE.0;
        if (80..220).contains(&x) {
            *sample = [224, 172, 140][index % 3];
        }
    }
    picture
}

/// The element in learn mode, and what it has said.
struct Learning {
    rig: Rig,
    path: PathBuf,
    messages: Vec<gst::Structure>,
}

impl Learning {
    fn start(name: &str, frames: u32, properties: &[(&str, &str)]) -> Self {
        let path = scratch().join(name);
        let (text, frames) = (path.to_str().unwrap(), frames.to_string());
        let mut all = vec![
            ("mode", "learn"),
            ("model", text),
            ("learn-frames", &frames),
        ];
        all.extend(properties);
        let mut rig = Rig::new(&all);
        rig.set_info(&info(F::Nv12, &good(0)));
        Self {
            rig,
            path,
            messages: Vec::new(),
        }
    }

    fn push(&mut self, picture: &Picture) -> gst::Buffer {
        let buffer = self.rig.pass(frame(picture, &info(F::Nv12, picture)));
        let (messages, warnings) = self.rig.messages();
        assert!(warnings.is_empty(), "{warnings:?}");
        self.messages.extend(messages);
        buffer
    }

    /// Shows a picture until it is taken in, or counted as known.
    fn show(&mut self, picture: &Picture) {
        let before = self.counts();
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            // The bus hears twice a second.
            std::thread::sleep(Duration::from_millis(510));
            self.push(picture);
            let now = self.counts();
            if (now.0, now.1) != (before.0, before.1) || now.2 {
                return;
            }
            assert!(Instant::now() < end, "the frame is never taken");
        }
    }

    /// Frames taken, duplicates, and whether frames are no longer wanted, by the last message.
    fn counts(&self) -> (u64, u64, bool) {
        self.messages.last().map_or((0, 0, false), |message| {
            let number = |name: &str| message.get::<u64>(name).unwrap();
            let phase: &str = message.get("phase").unwrap();
            (
                number("frames"),
                number("duplicates"),
                phase != "collecting",
            )
        })
    }

    /// Pushes good parts until the model is there, and returns the last message.
    fn finish(&mut self) -> gst::Structure {
        let end = Instant::now() + Duration::from_secs(120);
        for seed in 100.. {
            self.push(&good(seed));
            let last = self.messages.last();
            if let Some(done) = last.filter(|last| last.get("phase") == Ok("done")) {
                return done.clone();
            }
            assert!(Instant::now() < end, "no model in two minutes: {last:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        unreachable!()
    }
}

fn temporary_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    entries
        .filter(|entry| {
            let name = entry.as_ref().unwrap().file_name();
            name.to_string_lossy().starts_with(".vadlite-")
        })
        .count()
}

#[test]
fn good_frames_become_a_model_that_goes_on_to_inspect() {
    let mut learning = Learning::start("learnt.vadlite", 40, &[("overlay", "none")]);
    // What is shown again counts once, whatever stands on the belt.
    learning.show(&good(1));
    learning.show(&good(1));
    assert_eq!(learning.counts(), (1, 1, false));
    learning.show(&hand());
    let seen = Seen::of(&learning.push(&good(2)));
    assert!(!seen.inspected && !seen.flagged && seen.map.is_none());
    // Nobody has left them out on purpose.
    assert_eq!(
        learning.rig.stat::<u64>("uninspected"),
        learning.rig.stat::<u64>("frames")
    );
    assert_eq!(
        learning
            .rig
            .element
            .property_value("mode")
            .serialize()
            .unwrap(),
        "learn"
    );

    let done = learning.finish();
    assert_eq!(done.get::<u64>("frames").unwrap(), 40);
    assert_eq!(done.get::<u64>("outliers").unwrap(), 1, "{done:?}");
    assert!(done.get::<u64>("duplicates").unwrap() >= 1);

    let metadata = ModelFile::read(&learning.path).unwrap().metadata;
    assert_eq!(metadata.good_images, 39);
    assert_eq!(temporary_files(scratch()), 0);

    assert_eq!(
        learning
            .rig
            .element
            .property_value("mode")
            .serialize()
            .unwrap(),
        "detect"
    );

    let flagged = |learning: &mut Learning, picture: &Picture| {
        let seen = Seen::of(&learning.push(picture));
        assert!(seen.inspected);
        assert_eq!(seen.model, "learnt.vadlite");
        seen
    };
    let defective = Part::defective(5000, 0.6, 0.45).picture(SIZE.0, SIZE.1);
    let seen = flagged(&mut learning, &defective);
    assert!(seen.flagged, "{} of {}", seen.score, seen.threshold);
    let [x, y, w, h, _] = seen.regions[0];
    assert!(
        (x..x + w).contains(&0.6) && (y..y + h).contains(&0.45),
        "{:?}",
        seen.regions
    );
    let rejected = (6000..6050)
        .filter(|&seed| flagged(&mut learning, &good(seed)).flagged)
        .count();
    // The threshold allows 1 in 40; more than 6 of 50 has a chance of 1 in 1,000.
    assert!(rejected <= 6, "{rejected} of 50");
    let model: String = learning.rig.stat("model");
    assert_eq!(model, "learnt.vadlite");
    assert_eq!(learning.rig.stat::<u64>("reloads"), 0);
}

/// A hand that is somewhere else in each frame.
fn moving_hand(seed: u64) -> Picture {
    let mut picture = good(seed);
    let left = 20 + seed as usize * 37 % 120;
    for (index, sample) in picture.rgb.iter_mut().enumerate() {
        let (x, y) = (index / 3 % SIZE.0, index / 3 / SIZE.0);
        if (left..left + 110).contains(&x) && y > seed as usize * 23 % 100 {
            *sample = [224, 172, 140][index % 3];
        }
    }
    picture
}

/// One frame in seven of those that are learnt from shows a hand, in three visits: it is flagged when it comes again, and so is every
/// defect.
#[test]
fn a_hand_in_many_frames_does_not_blind_the_model() {
    common::element::init();
    let path = scratch().join("hands.vadlite");
    let text = format!(
        "appsrc name=a format=time ! vadlite name=v mode=learn learn-frames=100 overlay=none model={} ! fakesink sync=false",
        path.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
    let source = pipeline
        .by_name("a")
        .unwrap()
        .downcast::<gst_app::AppSrc>()
        .unwrap();
    let info = info(F::Nv12, &good(0));
    source.set_caps(Some(&info.to_caps().unwrap()));
    let results = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let list = results.clone();
    let pad = pipeline.by_name("v").unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        list.lock().unwrap().push(Seen::of(info.buffer().unwrap()));
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    // About half of the parts look like an earlier one; the hand never does.
    let visit = |number: u64| number % 60 >= 54;
    let belt = (0..400u64).map(|number| match visit(number) {
        true => moving_hand(number),
        false => good(number),
    });
    let defective = (0..10u64).map(|number| {
        let (x, y) = (0.35 + 0.03 * number as f64, 0.6 - 0.02 * number as f64);
        Part::defective(5000 + number, x, y).picture(SIZE.0, SIZE.1)
    });
    let shown = belt
        .chain(defective)
        .chain((300..306).map(moving_hand))
        .chain((6000..6030).map(good));
    for (number, picture) in shown.enumerate() {
        let mut buffer = frame(&picture, &info);
        let time = gst::ClockTime::from_mseconds(40 * number as u64);
        buffer.get_mut().unwrap().set_pts(time);
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let bus = pipeline.bus().unwrap();
    let wanted = [
        gst::MessageType::Eos,
        gst::MessageType::Error,
        gst::MessageType::Warning,
    ];
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(120), &wanted);
    let end = end.expect("no end in two minutes");
    match end.view() {
        gst::MessageView::Eos(_) => {}
        gst::MessageView::Warning(warning) => panic!("{}", warning.error()),
        _ => panic!("{end:?}"),
    }
    pipeline.set_state(gst::State::Null).unwrap();

    let metadata = ModelFile::read(&path).unwrap().metadata;
    let results = results.lock().unwrap();
    let first = results
        .iter()
        .position(|seen| seen.inspected)
        .expect("no model");
    assert!(first < 400 && results[first..].iter().all(|seen| seen.inspected));
    let hands = (0..first).filter(|&number| visit(number as u64)).count();
    assert!((10..25).contains(&hands), "{hands} hands in 100 frames");
    assert_eq!(
        (metadata.good_images, metadata.left_out),
        (100 - hands, hands)
    );
    let again = (first..400)
        .filter(|&number| visit(number as u64))
        .chain(410..416);
    for number in again.chain(400..410) {
        assert!(results[number].flagged, "frame {number} passes");
    }
    // One in a hundred is allowed; more than three of 30 has a chance of 1 in 4,000.
    let rejected = results[416..].iter().filter(|seen| seen.flagged).count();
    assert!(rejected <= 3, "{rejected} of 30");
}

#[test]
fn stopped_early_the_old_model_stays() {
    let name = "kept.vadlite";
    std::fs::copy(&model().path, scratch().join(name)).unwrap();
    let before = std::fs::read(scratch().join(name)).unwrap();
    let mut learning = Learning::start(name, 1000, &[]);
    for seed in 0..20 {
        learning.push(&good(seed));
    }
    learning.rig.element.set_state(gst::State::Null).unwrap();
    assert_eq!(std::fs::read(&learning.path).unwrap(), before);
    assert_eq!(temporary_files(scratch()), 0);
}

#[test]
fn a_model_that_is_set_while_learning_ends_it() {
    let mut learning = Learning::start("given-up.vadlite", 1000, &[]);
    learning.push(&good(0));
    let element = learning.rig.element.clone();
    element.set_property("model", model().path.to_str().unwrap());
    let end = Instant::now() + Duration::from_secs(20);
    while !Seen::of(&learning.push(&good(1))).inspected {
        assert!(Instant::now() < end, "the model does not take over");
        std::thread::sleep(Duration::from_millis(5));
    }
    let names: Vec<_> = learning
        .messages
        .iter()
        .map(|m| m.name().to_string())
        .collect();
    assert!(
        names.iter().any(|name| name == "vadlite-model"),
        "{names:?}"
    );
    let done = learning
        .messages
        .iter()
        .any(|m| m.get("phase") == Ok("done"));
    assert!(!done, "it says that it has learnt");
    assert!(!learning.path.exists());
}

#[test]
fn the_progress_is_drawn_on_the_frame_and_only_there() {
    let mut learning = Learning::start("bar.vadlite", 10, &[]);
    for seed in 0..4 {
        learning.show(&good(seed));
    }
    let picture = good(4);
    let clean = frame(&picture, &info(F::Nv12, &picture));
    let drawn = learning.push(&picture);
    let rows = |buffer: &gst::BufferRef, rows: std::ops::Range<usize>| {
        let data = buffer.map_readable().unwrap();
        data[rows.start * SIZE.0..rows.end * SIZE.0].to_vec()
    };
    assert_eq!(rows(&drawn, 0..220), rows(&clean, 0..220));
    let bar = (rows(&drawn, 229..230), rows(&clean, 229..230));
    let changed: Vec<_> = (0..SIZE.0).filter(|&x| bar.0[x] != bar.1[x]).collect();
    // From a tenth of the width on, four or five tenths of the bar's eight.
    let (first, last) = (changed[0], *changed.last().unwrap());
    assert!((30..36).contains(&first), "{first}");
    assert!((120..180).contains(&last), "{last}");
}

/// What a meta says of memory that is not there is neither read nor drawn into.
#[test]
fn frames_that_cannot_be_read_are_counted_and_pass_as_they_are() {
    let mut learning = Learning::start("unreadable.vadlite", 10, &[]);
    let picture = good(0);
    let info = info(F::Nv12, &picture);
    let mut outside = frame(&picture, &info);
    let far = [info.offset()[0] + (1 << 30), info.offset()[1] + (1 << 30)];
    let (flags, format) = (gst_video::VideoFrameFlags::empty(), info.format());
    let size = (info.width(), info.height());
    let writable = outside.get_mut().unwrap();
    gst_video::VideoMeta::add_full(writable, flags, format, size.0, size.1, &far, info.stride())
        .unwrap();
    let short = outside
        .copy_region(gst::BufferCopyFlags::all(), 0..1000)
        .unwrap();
    for buffer in [outside, short, gst::Buffer::new()] {
        let before = common::element::bytes(&buffer);
        let after = learning.rig.pass(buffer);
        assert_eq!(common::element::bytes(&after), before);
        assert!(!Seen::of(&after).inspected);
    }
    assert_eq!(learning.rig.stat::<u64>("failed"), 3);
    let (_, warnings) = learning.rig.messages();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("320x240"), "{warnings:?}");
    // And goes on.
    learning.show(&good(1));
    assert_eq!(learning.counts(), (1, 0, false));
}

/// Started again, the element goes on with the model that it has learnt, and leaves it as it is.
#[test]
fn a_restart_does_not_learn_anew_over_the_model() {
    let mut learning = Learning::start("restarted.vadlite", 10, &[]);
    let notified = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let count = notified.clone();
    learning
        .rig
        .element
        .connect_notify(Some("mode"), move |_, _| {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
    learning.finish();
    assert_eq!(notified.load(std::sync::atomic::Ordering::Relaxed), 1);
    let before = std::fs::read(&learning.path).unwrap();
    learning.rig.element.set_state(gst::State::Ready).unwrap();
    learning.rig.element.set_state(gst::State::Playing).unwrap();
    learning.rig.set_info(&info(F::Nv12, &good(0)));
    for seed in 0..5 {
        assert!(Seen::of(&learning.push(&good(seed))).inspected);
    }
    assert_eq!(std::fs::read(&learning.path).unwrap(), before);
}

#[test]
fn a_model_that_is_there_is_not_learnt_over_without_a_word() {
    let said = |name: &str| {
        let element = common::element::element(&[
            ("mode", "learn"),
            ("model", scratch().join(name).to_str().unwrap()),
        ]);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        element.set_state(gst::State::Paused).unwrap();
        element.set_state(gst::State::Null).unwrap();
        bus.pop_filtered(&[gst::MessageType::Info])
    };
    std::fs::copy(&model().path, scratch().join("there.vadlite")).unwrap();
    let message = said("there.vadlite").expect("nothing is said");
    let gst::MessageView::Info(info) = message.view() else {
        unreachable!()
    };
    let text = info.error().message().to_owned();
    assert!(
        text.contains("there.vadlite") && text.contains("replaced"),
        "{text}"
    );
    assert!(said("not-there.vadlite").is_none());
}

/// A video that is no camera's, its results, and what to do in the middle of the fit. It ends with the stream.
fn learn_from(
    between: &str,
    name: &str,
    frames: u64,
    properties: &str,
    in_the_fit: impl FnOnce(&gst::Pipeline),
) -> (Vec<gst::Structure>, gst::Structure) {
    common::element::init();
    let path = scratch().join(name);
    let text = format!(
        "videotestsrc num-buffers={frames} pattern=snow ! video/x-raw,width=160,height=120,framerate=30/1 {between} \
         ! vadlite name=v mode=learn learn-frames=20 overlay=none model={} {properties} ! fakesink",
        path.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
    let element = pipeline.by_name("v").unwrap();
    let metas = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let list = metas.clone();
    let pad = element.static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let meta = common::element::structure(info.buffer().unwrap());
        list.lock().unwrap().push(meta);
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let mut in_the_fit = Some(in_the_fit);
    loop {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(120));
        let message = message.expect("no end in two minutes");
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => panic!("{error:?}"),
            gst::MessageView::Warning(warning) => panic!("{warning:?}"),
            gst::MessageView::Element(element)
                if element.structure().unwrap().get("phase") == Ok("fitting") =>
            {
                if let Some(act) = in_the_fit.take() {
                    act(&pipeline);
                }
            }
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    let stats = element.property("stats");
    (std::mem::take(&mut metas.lock().unwrap()), stats)
}

/// A fit that goes on for long enough to do something meanwhile.
const SLOW: &str = "method=patchcore learn-frames=10";

/// No frame passes uninspected but those that are learnt from: the source waits for the fit.
#[test]
fn a_file_is_held_until_the_model_is_there() {
    for (between, properties) in [
        ("", ""),
        ("! queue", ""),
        ("! queue ! identity", "interval=2"),
    ] {
        let (metas, stats) = learn_from(between, "held.vadlite", 60, properties, |_| {});
        let get = |meta: &gst::Structure, name: &str| meta.get::<bool>(name).unwrap();
        assert_eq!(metas.len(), 60);
        for (number, meta) in metas.iter().enumerate() {
            let told = (get(meta, "inspected"), get(meta, "skipped"));
            let expected = match number {
                0..20 => (false, false),
                _ if properties.is_empty() || number % 2 == 0 => (true, false),
                _ => (false, true),
            };
            assert_eq!(
                told, expected,
                "frame {number} with {between:?} {properties:?}"
            );
        }
        assert_eq!(stats.get::<u64>("uninspected"), Ok(20));
        assert_eq!(stats.get::<u64>("frames-lost"), Ok(0));
    }
}

#[test]
fn a_seek_while_the_source_is_held_comes_at_once_and_the_fit_goes_on() {
    let (metas, _) = learn_from("", "sought.vadlite", 20, SLOW, |pipeline| {
        let start = Instant::now();
        let flags = gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE;
        pipeline.seek_simple(flags, gst::ClockTime::ZERO).unwrap();
        let took = start.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
    let inspected = |meta: &gst::Structure| meta.get::<bool>("inspected").unwrap();
    let first = metas.iter().position(inspected).expect("no model");
    assert!(metas[first..].iter().all(inspected));
    assert_eq!(first, 10);
}

#[test]
fn a_model_that_is_set_while_the_source_is_held_lets_it_go() {
    let set = &model().path;
    let (metas, stats) = learn_from("", "let-go.vadlite", 60, SLOW, |pipeline| {
        let element = pipeline.by_name("v").unwrap();
        element.set_property("model", set.to_str().unwrap());
    });
    assert_eq!((metas.len(), stats.get::<u64>("inspected")), (60, Ok(50)));
    let used: String = stats.get("model").unwrap();
    // A fit that was too quick has written its model, and that one may have inspected all there was.
    let learnt = scratch().join("let-go.vadlite").exists();
    let set = set.file_name().unwrap().to_str().unwrap();
    assert!(used == set || learnt && used == "let-go.vadlite", "{used}");
}

/// Plays so many frames of a video that is no camera's to the end; returns the element messages and warnings.
fn learn_from_a_file(name: &str, frames: u32, wanted: u32) -> (Vec<gst::Structure>, Vec<String>) {
    common::element::init();
    let path = scratch().join(name);
    let text = format!(
        "videotestsrc num-buffers={frames} pattern=ball motion=sweep ! video/x-raw,width=320,height=240,framerate=30/1 \
         ! vadlite mode=learn learn-frames={wanted} model={} ! fakesink",
        path.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let (mut messages, mut warnings) = (Vec::new(), Vec::new());
    loop {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(60));
        let message = message.expect("no end in a minute");
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => panic!("{error:?}"),
            gst::MessageView::Warning(warning) => {
                warnings.push(warning.error().message().to_owned());
            }
            gst::MessageView::Element(element) => {
                messages.push(element.structure().unwrap().to_owned());
            }
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    (messages, warnings)
}

#[test]
fn a_file_waits_for_the_learner_and_its_end_for_the_model() {
    let (messages, warnings) = learn_from_a_file("from-file.vadlite", 60, 50);
    assert_eq!(warnings, Vec::<String>::new());
    // Behind it may come messages of frames that are flagged.
    let of_learning = |message: &&gst::Structure| message.name() == "vadlite-learn";
    let done = messages.iter().rfind(of_learning).unwrap();
    assert_eq!(done.get::<&str>("phase").unwrap(), "done", "{messages:?}");
    assert_eq!(done.get::<u64>("too-fast").unwrap(), 0);
    let metadata = ModelFile::read(&scratch().join("from-file.vadlite"))
        .unwrap()
        .metadata;
    let outliers = done.get::<u64>("outliers").unwrap();
    assert_eq!(metadata.good_images as u64 + outliers, 50);

    let (_, warnings) = learn_from_a_file("too-short.vadlite", 30, 50);
    let [warning] = warnings.as_slice() else {
        panic!("{warnings:?}")
    };
    assert!(
        warning.contains("30 of 50") && warning.contains("learn-frames"),
        "{warning}"
    );
    assert!(!scratch().join("too-short.vadlite").exists());
}

#[test]
fn stopping_does_not_wait_for_the_model() {
    common::element::init();
    let path = scratch().join("left.vadlite");
    // A fit of many seconds, in the middle of which the pipeline is stopped.
    let text = format!(
        "videotestsrc num-buffers=200 pattern=snow ! video/x-raw,width=320,height=240 \
         ! vadlite mode=learn method=patchcore learn-frames=200 model={} ! fakesink",
        path.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    loop {
        let kinds = [gst::MessageType::Element, gst::MessageType::Error];
        let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds);
        let message = message.expect("it does not begin to fit");
        assert_eq!(message.type_(), gst::MessageType::Element, "{message:?}");
        if message.structure().unwrap().get("phase") == Ok("fitting") {
            break;
        }
    }
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(!path.exists());
}

/// What is black in the mask is not judged, by the model that is learnt either.
#[test]
fn a_mask_holds_for_what_is_learnt() {
    let mask = scratch().join("mask.png");
    let half = |x: u32, _| image::Luma([if x < 20 { 255 } else { 0 }]);
    image::GrayImage::from_fn(40, 30, half).save(&mask).unwrap();
    let properties = format!("mask=\"{}\"", mask.display());
    learn_from("", "masked.vadlite", 30, &properties, |_| {});
    let metadata = ModelFile::read(&scratch().join("masked.vadlite"))
        .unwrap()
        .metadata;
    let row = format!("{}{}", "1".repeat(7), "0".repeat(7));
    assert_eq!(metadata.judged, Some(row.repeat(14)));
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    let refusal = |properties: &[(&str, &str)]| {
        let mut all = vec![("mode", "learn")];
        all.extend(properties);
        common::element::start_error(&common::element::element(&all))
    };
    let error = refusal(&[("model", "/nonexistent/folder/part.vadlite")]);
    assert!(
        error.contains("/nonexistent/folder") && error.contains("property model"),
        "{error}"
    );
    let error = refusal(&[("model", "")]);
    assert!(error.contains("mode=learn"), "{error}");
    let path = scratch().join("never.vadlite");
    let rate = [("false-reject-rate", "0.01"), ("learn-frames", "100")];
    let error = refusal(&[("model", path.to_str().unwrap()), rate[0], rate[1]]);
    assert!(
        error.contains("false-reject-rate") && error.contains("at least 105"),
        "{error}"
    );
    let error = refusal(&[
        ("model", path.to_str().unwrap()),
        ("mask", "/nonexistent/mask.png"),
    ]);
    assert!(
        error.contains("property mask") && error.contains("/nonexistent/mask.png"),
        "{error}"
    );
    let error = refusal(&[("model", path.to_str().unwrap()), ("roi", "0,0,2,1")]);
    assert!(error.contains("property roi"), "{error}");
}
