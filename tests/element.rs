//! What the element tells about a frame, and how its properties change that.

mod common;

use common::element::{Rig, Seen, bytes, element, frame, info, structure};
use common::{GOOD, Part, assert_close, model};
use gst::prelude::*;
use gst_video::VideoFormat::{Nv12, Rgb};
use std::collections::BTreeSet;

const BLOB: (f64, f64) = (0.7, 0.35);

/// One of those that the model was fitted on: others may be rejected at the model's rate.
fn good() -> common::Picture {
    Part::good(3).picture(320, 240)
}

fn defective() -> common::Picture {
    Part::defective(3, BLOB.0, BLOB.1).picture(320, 240)
}

#[test]
fn a_good_part_passes_and_a_defect_is_flagged_where_it_is() {
    let mut rig = Rig::new(&[]);
    let seen = rig.inspect(&good(), Rgb);
    assert!(seen.inspected && !seen.flagged, "{seen:?}");
    assert!(seen.score > 0.0 && seen.regions.is_empty());
    assert_eq!(seen.threshold, f64::from(model().model.metadata.threshold));

    let seen = rig.inspect(&defective(), Rgb);
    assert!(seen.inspected && seen.flagged, "{}", seen.score);
    assert!(seen.score > 2.0 * seen.threshold);
    assert!(seen.points_at(BLOB.0, BLOB.1), "{:?}", seen.regions);
    assert_eq!(seen.regions[0][4], seen.score);
    let sorted = seen.regions.is_sorted_by(|a, b| a[4] >= b[4]);
    assert!(sorted, "{:?}", seen.regions);

    // The map's maximum is the score, and lies on the blob.
    let (width, height, map) = seen.map.unwrap();
    assert_eq!(map.len(), (width * height) as usize);
    let (place, &top) = map
        .iter()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(b.1))
        .unwrap();
    assert_eq!(f64::from(top), seen.score);
    let x = (place as u32 % width) as f64 / f64::from(width);
    let y = (place as u32 / width) as f64 / f64::from(height);
    assert!((x - BLOB.0).hypot(y - BLOB.1) < 0.1, "hottest at {x},{y}");
}

#[test]
fn meta_has_the_fields_and_types_of_the_contract() {
    let mut rig = Rig::new(&[]);
    let picture = defective();
    let info = info(Rgb, &picture);
    rig.set_info(&info);
    let buffer = rig.pass(frame(&picture, &info));
    let meta = gst::meta::CustomMeta::from_buffer(&buffer, "GstVadLiteMeta").unwrap();
    assert_eq!(meta.tags(), ["video"]);
    let structure = structure(&buffer);
    let fields: BTreeSet<(&str, glib::Type)> = structure
        .iter()
        .map(|(name, value)| (name.as_str(), value.type_()))
        .collect();
    let expected = BTreeSet::from([
        ("score", f64::static_type()),
        ("threshold", f64::static_type()),
        ("flagged", bool::static_type()),
        ("inspected", bool::static_type()),
        ("skipped", bool::static_type()),
        ("drawn", bool::static_type()),
        ("frame", u64::static_type()),
        ("lost", u64::static_type()),
        ("model", String::static_type()),
        ("latency", u64::static_type()),
        ("width", u32::static_type()),
        ("height", u32::static_type()),
        ("regions", gst::Array::static_type()),
        ("map", glib::Bytes::static_type()),
        ("map-width", u32::static_type()),
        ("map-height", u32::static_type()),
        ("map-roi", gst::Structure::static_type()),
    ]);
    assert_eq!(fields, expected);
    let seen = Seen::from_structure(&structure);
    assert_eq!((seen.frame, seen.model.as_str()), (0, "part.vadlite"));
    let size = (picture.width as u32, picture.height as u32);
    let told = (structure.get("width"), structure.get("height"));
    assert_eq!(told, (Ok(size.0), Ok(size.1)));
    assert!(seen.latency > 0);
    assert!(!seen.regions.is_empty());
}

#[test]
fn messages_carry_the_meta_and_the_time() {
    let picture = defective();
    for (post, expected) in [("none", 0), ("flagged", 1), ("all", 3)] {
        // The middle one of three is neither inspected nor flagged.
        let mut rig = Rig::new(&[("post-messages", post)]);
        let info = info(Rgb, &picture);
        rig.set_info(&info);
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(gst::ClockTime::from_seconds(10));
        rig.harness().push_event(gst::event::Segment::new(&segment));
        let mut metas = Vec::new();
        for (second, picture, gap) in [
            (11, &good(), false),
            (12, &picture, true),
            (13, &picture, false),
        ] {
            let mut buffer = frame(picture, &info);
            let writable = buffer.get_mut().unwrap();
            writable.set_pts(gst::ClockTime::from_seconds(second));
            if gap {
                writable.set_flags(gst::BufferFlags::GAP);
            }
            metas.push(structure(&rig.pass(buffer)));
        }
        let (messages, warnings) = rig.messages();
        assert_eq!((messages.len(), warnings.len()), (expected, 0), "{post}");
        let skipped = 3 - expected;
        for (index, message) in messages.iter().enumerate() {
            let frame = index + skipped;
            assert_eq!(message.name(), "vadlite");
            let second = 1_000_000_000u64;
            assert_eq!(
                message.get::<u64>("pts").unwrap(),
                (11 + frame as u64) * second
            );
            assert_eq!(
                message.get::<u64>("running-time").unwrap(),
                (1 + frame as u64) * second
            );
            let mut same = metas[frame].clone();
            same.remove_fields(["map", "map-width", "map-height", "map-roi"]);
            same.set_name("vadlite");
            let mut rest = message.clone();
            rest.remove_fields(["pts", "running-time"]);
            assert_eq!(rest, same);
        }
    }
}

#[test]
fn threshold_changes_while_playing() {
    let mut rig = Rig::new(&[]);
    let own = rig.inspect(&good(), Rgb);
    for (threshold, flagged) in [
        (0.9 * own.score, true),
        (1.1 * own.score, false),
        (0.0, false),
    ] {
        rig.element.set_property("threshold", threshold);
        let seen = rig.inspect(&good(), Rgb);
        assert_eq!(
            (seen.score, seen.flagged),
            (own.score, flagged),
            "{threshold}"
        );
        let expected = if threshold > 0.0 {
            threshold
        } else {
            own.threshold
        };
        assert_eq!(seen.threshold, expected);
        assert_eq!(seen.regions.is_empty(), !flagged);
    }
}

#[test]
fn false_reject_rate_takes_the_threshold_from_the_calibration() {
    let calibration = &model().model.calibration;
    assert_eq!(calibration.scores().len() as u64, GOOD);
    let mut rig = Rig::new(&[("false-reject-rate", "0.5")]);
    let half = rig.inspect(&good(), Rgb).threshold;
    assert_eq!(half, f64::from(calibration.threshold(0.5).unwrap()));
    rig.element.set_property("false-reject-rate", 0.1);
    let tenth = rig.inspect(&good(), Rgb).threshold;
    assert_eq!(tenth, f64::from(calibration.threshold(0.1).unwrap()));
    assert!(tenth > half);

    // Too small for so few images: said once, and the threshold stays.
    rig.element.set_property("false-reject-rate", 0.001);
    rig.messages();
    for _ in 0..3 {
        assert_eq!(rig.inspect(&good(), Rgb).threshold, tenth);
    }
    let (_, warnings) = rig.messages();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("0.001") && warnings[0].contains("0.0476"),
        "{warnings:?}"
    );

    // The property threshold goes first.
    rig.element.set_property("threshold", 7.5);
    assert_eq!(rig.inspect(&good(), Rgb).threshold, 7.5);
}

#[test]
fn interval_inspects_every_nth_frame() {
    let mut rig = Rig::new(&[("interval", "3"), ("threshold", "0.001")]);
    let seen: Vec<Seen> = (0..7).map(|_| rig.inspect(&good(), Rgb)).collect();
    for (index, seen) in seen.iter().enumerate() {
        assert_eq!(seen.frame, index as u64);
        assert_eq!(seen.inspected, index % 3 == 0, "frame {index}");
        assert_eq!(seen.flagged, seen.inspected);
        assert_eq!(seen.map.is_some(), seen.inspected);
        assert_eq!(seen.regions.is_empty(), !seen.inspected);
        assert_eq!(seen.score > 0.0, seen.inspected);
    }
    assert_eq!(
        (rig.stat::<u64>("frames"), rig.stat::<u64>("inspected")),
        (7, 3)
    );
}

#[test]
fn gap_buffers_pass_uninspected_and_keep_their_flag() {
    let mut rig = Rig::new(&[("overlay-always", "true"), ("threshold", "0.001")]);
    let picture = good();
    let info = info(Rgb, &picture);
    rig.set_info(&info);
    // Alone, and shared as behind a tee.
    for shared in [false, true] {
        let mut gap = frame(&picture, &info);
        gap.get_mut().unwrap().set_flags(gst::BufferFlags::GAP);
        let before = bytes(&gap);
        let other = shared.then(|| gap.clone());
        let gap = rig.pass(gap);
        let seen = Seen::of(&gap);
        assert!(gap.flags().contains(gst::BufferFlags::GAP), "{shared}");
        assert!(!seen.inspected && !seen.flagged && seen.map.is_none());
        assert_eq!(bytes(&gap), before);
        drop(other);
    }
    let next = Seen::of(&rig.pass(frame(&picture, &info)));
    assert!(next.inspected && next.frame == 2);
    let counts = ["frames", "inspected", "failed", "uninspected"];
    assert_eq!(counts.map(|name| rig.stat::<u64>(name)), [3, 1, 0, 2]);
}

#[test]
fn roi_is_all_that_is_looked_at_and_regions_come_back_in_frame_coordinates() {
    let [left, top, width, height] = [0.25, 0.2, 0.5, 0.6];
    let scene = Part::defective(3, BLOB.0, BLOB.1).clean(320, 240);
    let whole = Rig::new(&[]).inspect(&scene, Rgb);
    let frame = |around: u8| {
        let mut picture = common::Picture {
            width: 640,
            height: 400,
            rgb: vec![around; 3 * 640 * 400],
        };
        let (x, y) = ((left * 640.0) as usize, (top * 400.0) as usize);
        // Two more pixels all round: an antialiased border looks that far.
        for row in 0..244usize {
            for column in 0..324usize {
                let source =
                    3 * (row.saturating_sub(2).min(239) * 320 + column.saturating_sub(2).min(319));
                let target = 3 * ((y + row - 2) * 640 + x + column - 2);
                picture.rgb[target..target + 3].copy_from_slice(&scene.rgb[source..source + 3]);
            }
        }
        picture
    };
    let mut rig = Rig::new(&[("roi", "0.25,0.2,0.5,0.6")]);
    let black = rig.inspect(&frame(0), Rgb);
    assert_close("in the roi", black.score, whole.score, 0.01);
    assert!(black.flagged && whole.flagged);
    let (x, y) = (left + width * BLOB.0, top + height * BLOB.1);
    assert!(black.points_at(x, y), "{:?}", black.regions);
    for [x, y, w, h, _] in &black.regions {
        assert!(*x >= left - 1e-6 && *y >= top - 1e-6);
        assert!(x + w <= left + width + 1e-6 && y + h <= top + height + 1e-6);
    }
    let white = rig.inspect(&frame(255), Rgb);
    assert_eq!(
        (white.score, &white.regions, &white.map),
        (black.score, &black.regions, &black.map)
    );

    // Where the map lies is told too.
    let picture = frame(0);
    let info = info(Rgb, &picture);
    rig.set_info(&info);
    let told: gst::Structure = structure(&rig.pass(common::element::frame(&picture, &info)))
        .get("map-roi")
        .unwrap();
    let told = ["x", "y", "w", "h"].map(|name| told.get::<f64>(name).unwrap());
    for (told, set) in told.into_iter().zip([left, top, width, height]) {
        assert!((told - set).abs() < 1e-6);
    }
}

/// Bytes that differ, as share of all, and whether all of those lie in this box (in 0..1, packed RGB).
fn changed(before: &[u8], after: &[u8], [left, top, right, bottom]: [f64; 4]) -> (f64, bool) {
    let (mut count, mut inside) = (0, true);
    for (index, _) in before
        .iter()
        .zip(after)
        .enumerate()
        .filter(|(_, (a, b))| a != b)
    {
        let x = (index / 3 % 320) as f64 / 320.0;
        let y = (index / 3 / 320) as f64 / 240.0;
        inside &= (left..right).contains(&x) && (top..bottom).contains(&y);
        count += 1;
    }
    (count as f64 / before.len() as f64, inside)
}

#[test]
fn overlay_is_drawn_on_what_is_flagged_or_always() {
    let draw = |properties: &[(&str, &str)], picture: &common::Picture| {
        let mut rig = Rig::new(properties);
        let info = info(Rgb, picture);
        rig.set_info(&info);
        let before = frame(picture, &info);
        let after = rig.pass(before.copy_deep().unwrap());
        // A strong defect reaches as far as the deepest tap sees.
        let around = [BLOB.0 - 0.35, BLOB.1 - 0.35, BLOB.0 + 0.35, BLOB.1 + 0.35];
        changed(&bytes(&before), &bytes(&after), around)
    };
    let score = Rig::new(&[]).inspect(&good(), Rgb).score;
    let (above, far_above) = ((1.1 * score).to_string(), (3.0 * score).to_string());
    // Where the map is above half of its maximum.
    let half = (Rig::new(&[]).inspect(&defective(), Rgb).score / 2.0).to_string();
    let (heat, inside) = draw(&[("threshold", &half)], &defective());
    assert!(
        heat > 0.01 && inside,
        "heatmap by default: {heat}, {inside}"
    );
    let (contour, inside) = draw(
        &[("overlay", "contour"), ("threshold", &half)],
        &defective(),
    );
    assert!(
        contour > 0.001 && contour < heat && inside,
        "contour: {contour}, {inside}"
    );
    assert_eq!(
        draw(
            &[("overlay", "none"), ("overlay-always", "true")],
            &defective()
        )
        .0,
        0.0
    );
    // A good part whose map reaches the colours without reaching the threshold.
    assert_eq!(draw(&[("threshold", &above)], &good()).0, 0.0);
    assert!(
        draw(
            &[("threshold", &above), ("overlay-always", "true")],
            &good()
        )
        .0 > 0.0
    );
    assert_eq!(
        draw(
            &[("threshold", &far_above), ("overlay-always", "true")],
            &good()
        )
        .0,
        0.0
    );
}

#[test]
fn statistics_count_what_happened_and_start_again_with_the_element() {
    let mut rig = Rig::new(&[]);
    for picture in [good(), defective(), good()] {
        rig.inspect(&picture, Nv12);
    }
    let stats: gst::Structure = rig.element.property("stats");
    let fields: BTreeSet<(&str, glib::Type)> = stats
        .iter()
        .map(|(name, value)| (name.as_str(), value.type_()))
        .collect();
    let count = |name| (name, u64::static_type());
    let expected = BTreeSet::from([
        count("frames"),
        count("inspected"),
        count("flagged"),
        count("failed"),
        count("uninspected"),
        count("frames-lost"),
        count("latency-median"),
        count("latency-p99"),
        ("device", String::static_type()),
        ("model", String::static_type()),
        count("reloads"),
        count("reloads-refused"),
        ("drift", f64::static_type()),
        count("drift-alarms"),
    ]);
    assert_eq!(fields, expected);
    let counts = ["frames", "inspected", "flagged", "failed", "frames-lost"]
        .map(|name| rig.stat::<u64>(name));
    assert_eq!(counts, [3, 3, 1, 0, 0]);
    let median = rig.stat::<u64>("latency-median");
    assert!(median > 0 && median <= rig.stat::<u64>("latency-p99"));
    assert_eq!(rig.stat::<String>("device"), "cpu");

    rig.element.set_state(gst::State::Ready).unwrap();
    assert_eq!(
        rig.stat::<u64>("frames"),
        3,
        "they stay to be read after the end"
    );
    rig.element.set_state(gst::State::Playing).unwrap();
    assert_eq!(rig.stat::<u64>("frames"), 0);
}

#[test]
fn properties_have_their_defaults_and_ranges() {
    let element = element(&[]);
    for (name, value) in [
        ("backbone", ""),
        ("mode", "detect"),
        ("threshold", "0"),
        ("false-reject-rate", "0"),
        ("overlay", "heatmap"),
        ("overlay-always", "false"),
        ("interval", "1"),
        ("device", "cpu"),
        ("threads", "0"),
        ("post-messages", "flagged"),
    ] {
        let pspec = element.find_property(name).unwrap();
        assert!(
            pspec.blurb().is_some_and(|blurb| blurb.len() > 10),
            "{name}"
        );
        let default = glib::Value::serialize(&element.property_value(name));
        assert_eq!(default.unwrap_or_default(), value, "{name}");
    }
    for (name, value) in [
        ("threshold", "-1"),
        ("false-reject-rate", "1"),
        ("interval", "0"),
        ("threads", "257"),
    ] {
        let before = element.property_value(name).serialize().unwrap();
        let set = std::panic::catch_unwind(|| element.set_property_from_str(name, value));
        assert!(set.is_err(), "{name}={value} is taken");
        assert_eq!(element.property_value(name).serialize().unwrap(), before);
    }
}
