//! Values of properties that are refused: before the start they keep the element from starting, while it plays the old ones stay, and no
//! later start fails for them. What a stream's extremes and broken frames do to it.

mod common;

use common::element::{Rig, Seen, element, frame, info, start_error, structure};
use common::{Part, Picture, model};
use gst::prelude::*;
use gst_video::VideoFormat as F;
use std::time::{Duration, Instant};

fn good() -> Picture {
    Part::good(7).picture(160, 120)
}

/// Values that are refused, and a word of what is said.
const REFUSED: [(&str, &str, &str); 7] = [
    ("roi", "0.5,0.5,0.6,0.5", "0..1"),
    ("roi", "left", "x,y,w,h"),
    ("tiles", "0x3", "tiles"),
    ("tiles", "some", "COLUMNSxROWS"),
    ("drift-interval", "80", "nanoseconds"),
    ("stats-mqtt", "http://broker/line", "mqtt://HOST"),
    ("stats-mqtt", "mqtt:/me:hunter2@broker/line", "credentials"),
];

fn text(element: &gst::Element, name: &str) -> String {
    let value = element.property_value(name);
    value.serialize().map(Into::into).unwrap_or_default()
}

#[test]
fn before_the_start_they_keep_the_element_from_starting_until_another_is_set() {
    for (name, value, said) in REFUSED {
        let element = element(&[]);
        let before = text(&element, name);
        element.set_property_from_str(name, value);
        assert_eq!(text(&element, name), before, "{name}={value} is taken");
        let error = start_error(&element);
        assert!(error.contains(&format!("property {name}")), "{error}");
        assert!(
            error.contains(said) && !error.contains("hunter2"),
            "{error}"
        );
        // Not for once: it still holds.
        assert_eq!(start_error(&element), error);
        let default = element.find_property(name).unwrap().default_value().clone();
        element.set_property_from_value(name, &default);
        element.set_state(gst::State::Paused).unwrap();
        element.set_state(gst::State::Null).unwrap();
    }
}

#[test]
fn while_playing_the_old_ones_stay_and_the_next_start_works() {
    let mut rig = Rig::new(&[("roi", "0.1,0.1,0.8,0.8"), ("drift-interval", "2000000000")]);
    let before = rig.inspect(&good(), F::Rgb);
    for (name, value, said) in REFUSED {
        let old = text(&rig.element, name);
        rig.element.set_property_from_str(name, value);
        assert_eq!(text(&rig.element, name), old, "{name}={value}");
        let (_, warnings) = rig.messages();
        let [warning] = warnings.as_slice() else {
            panic!("{name}={value}: {warnings:?}")
        };
        assert!(warning.contains(&format!("property {name}")), "{warning}");
        assert!(
            warning.contains(said) && warning.contains("stays"),
            "{warning}"
        );
        assert!(!warning.contains("hunter2"), "{warning}");
    }
    rig.element.set_state(gst::State::Ready).unwrap();
    rig.element.set_state(gst::State::Playing).unwrap();
    assert_eq!(rig.inspect(&good(), F::Rgb).score, before.score);
}

#[test]
fn a_model_that_is_refused_does_not_stand_in_the_way_of_the_next_start() {
    let mut rig = Rig::new(&[]);
    let path = model().path.to_str().unwrap();
    for bad in ["/nonexistent.vadlite", ""] {
        let refused: u64 = rig.stat("reloads-refused");
        rig.element.set_property("model", bad);
        let end = Instant::now() + Duration::from_secs(60);
        while rig.stat::<u64>("reloads-refused") == refused {
            assert!(Instant::now() < end, "{bad:?} is not refused");
            std::thread::sleep(Duration::from_millis(5));
        }
        let end = Instant::now() + Duration::from_secs(60);
        while rig.element.property::<Option<String>>("model").as_deref() != Some(path) {
            assert!(Instant::now() < end, "{bad:?} stays");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    rig.element.set_state(gst::State::Ready).unwrap();
    rig.element.set_state(gst::State::Playing).unwrap();
    assert!(rig.inspect(&good(), F::Rgb).inspected);
}

#[test]
fn a_rate_that_the_model_does_not_support_goes_back_to_the_one_in_force() {
    let mut rig = Rig::new(&[("false-reject-rate", "0.5")]);
    let before = rig.inspect(&good(), F::Rgb).threshold;
    rig.element.set_property("false-reject-rate", 0.001);
    for _ in 0..3 {
        assert_eq!(rig.inspect(&good(), F::Rgb).threshold, before);
    }
    let (_, warnings) = rig.messages();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("property false-reject-rate"),
        "{warnings:?}"
    );
    assert_eq!(rig.element.property::<f64>("false-reject-rate"), 0.5);
    rig.element.set_state(gst::State::Ready).unwrap();
    rig.element.set_state(gst::State::Playing).unwrap();
    assert_eq!(rig.inspect(&good(), F::Rgb).threshold, before);
}

/// One warning for each kind of failure in a run, not one a frame, however good and bad frames take turns; what they are is counted.
#[test]
fn frames_that_fail_are_warned_of_once_and_counted() {
    let mut rig = Rig::new(&[("overlay", "none")]);
    let info = info(F::Rgb, &good());
    let whole = frame(&good(), &info);
    rig.set_info(&info);
    let run = |rig: &mut Rig| {
        for size in 0..50 {
            // Each of another size, so that each has a text of its own.
            let buffer = gst::Buffer::with_size(size).unwrap();
            let bad = structure(&rig.pass(buffer));
            assert_eq!(
                (bad.get("inspected"), bad.get("skipped")),
                (Ok(false), Ok(false))
            );
            if size % 10 == 0 {
                assert!(Seen::of(&rig.pass(whole.clone())).inspected);
            }
        }
        let (_, warnings) = rig.messages();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains("frame 0") && warnings[0].contains("stats"),
            "{warnings:?}"
        );
        let counts = ["failed", "uninspected", "inspected"].map(|name| rig.stat::<u64>(name));
        assert_eq!(counts, [50, 50, 5]);
    };
    run(&mut rig);
    // Again in the next run.
    rig.element.set_state(gst::State::Ready).unwrap();
    rig.element.set_state(gst::State::Playing).unwrap();
    rig.set_info(&info);
    run(&mut rig);
}

/// What was left out by `interval` was left out on purpose; a gap was not, whatever its number.
#[test]
fn only_what_interval_leaves_out_is_skipped() {
    let mut rig = Rig::new(&[("overlay", "none"), ("interval", "2")]);
    let info = info(F::Rgb, &good());
    rig.set_info(&info);
    let told: Vec<(bool, bool)> = [false, false, true, true, false, false]
        .map(|gap| {
            let mut buffer = frame(&good(), &info);
            if gap {
                buffer.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
            }
            let meta = structure(&rig.pass(buffer));
            (meta.get("inspected").unwrap(), meta.get("skipped").unwrap())
        })
        .into();
    let (inspected, skipped, gap) = ((true, false), (false, true), (false, false));
    assert_eq!(told, [inspected, skipped, gap, gap, inspected, skipped]);
    let counts = ["frames", "inspected", "uninspected", "failed"].map(|name| rig.stat::<u64>(name));
    assert_eq!(counts, [6, 2, 2, 0]);
}

/// Times, sizes, rates and intervals at the ends of what they may be.
#[test]
fn extremes_are_inspected_like_everything_else() {
    let latest = u64::MAX - 1;
    for (width, height, rate) in [(1, 1, 0), (1, 1, i32::MAX), (160, 120, 0), (1, 500, 30)] {
        for interval in ["0", "1000000", "18446744073709551615"] {
            let mut rig = Rig::new(&[
                ("drift-interval", interval),
                ("drift-limit", "1"),
                ("overlay-always", "true"),
                ("threshold", "0.001"),
                ("post-messages", "all"),
            ]);
            let info = gst_video::VideoInfo::builder(F::Gray8, width, height)
                .fps(gst::Fraction::new(rate, 1))
                .build()
                .unwrap();
            rig.set_info(&info);
            for (time, duration) in [
                (0, 0),
                (latest, latest),
                (latest, 0),
                (1, latest),
                (latest / 2, 1),
                (0, latest),
            ] {
                let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
                {
                    let buffer = buffer.get_mut().unwrap();
                    buffer.set_pts(gst::ClockTime::from_nseconds(time));
                    buffer.set_duration(gst::ClockTime::from_nseconds(duration));
                    buffer.set_offset(time);
                    buffer.set_offset_end(time + 1);
                }
                let seen = Seen::of(&rig.pass(buffer));
                assert!(
                    seen.inspected,
                    "{width}x{height} at {rate}, {interval}, {time}"
                );
            }
            assert!(rig.stat::<u64>("frames-lost") < 1 << 24);
        }
    }
}
