//! Large frames: cut into tiles, a defect of a few pixels is found that the whole frame at once does not show.

mod common;

use common::element::{Rig, Seen, element, start_error};
use common::{Random, model, scratch, vadlite};
use gst_video::VideoInfo;
use std::time::{Duration, Instant};

const WIDTH: usize = 4096;
const HEIGHT: usize = 2048;
/// Side of the defect, in pixels.
const DEFECT: usize = 20;

/// A woven web under a line-scan camera: threads a dozen pixels apart, lit a little differently, never lying quite alike and cloudy, with
/// the camera's noise; and a flat square where the threads are missing, as light on the whole.
fn web(seed: u64, defect: Option<(usize, usize)>) -> gst::Buffer {
    let mut random = Random::new(seed);
    let mut vary = |range: f64| (2.0 * random.unit() - 1.0) * range;
    let (light, shift_x, shift_y) = (vary(4.0), vary(3.0), vary(3.0));
    let wave = |size: usize, shift: f64, period: f64| -> Vec<f64> {
        (0..size)
            .map(|at| ((at as f64 + shift) / period * std::f64::consts::TAU).sin())
            .collect()
    };
    let (warp, weft) = (wave(WIDTH, shift_x, 12.0), wave(HEIGHT, shift_y, 14.0));
    let (cloud_x, cloud_y) = (vary(400.0), vary(400.0));
    let clouds = (wave(WIDTH, cloud_x, 700.0), wave(HEIGHT, cloud_y, 500.0));
    let mut noise = Random::new(seed + 500);
    let mut data = Vec::with_capacity(WIDTH * HEIGHT);
    for (y, (weft, cloud_y)) in weft.iter().zip(&clouds.1).enumerate() {
        for (x, (warp, cloud_x)) in warp.iter().zip(&clouds.0).enumerate() {
            let missing = defect.is_some_and(|(left, top)| {
                (left..left + DEFECT).contains(&x) && (top..top + DEFECT).contains(&y)
            });
            let thread = if missing { 0.0 } else { 22.0 * (warp + weft) };
            let noise = (noise.bits() & 7) as f64;
            data.push((120.0 + light + 10.0 * cloud_x * cloud_y + thread + noise) as u8);
        }
    }
    gst::Buffer::from_mut_slice(data)
}

/// The element after it has learnt webs.
fn learnt(name: &str, tiles: &str) -> Rig {
    let path = scratch().join(name);
    let properties = [
        ("mode", "learn"),
        ("learn-frames", "40"),
        ("model", path.to_str().unwrap()),
        ("tiles", tiles),
        ("overlay", "none"),
    ];
    let mut rig = Rig::new(&properties);
    let format = gst_video::VideoFormat::Gray8;
    let info = VideoInfo::builder(format, WIDTH as u32, HEIGHT as u32);
    rig.set_info(&info.build().unwrap());
    let end = Instant::now() + Duration::from_secs(300);
    for seed in 0.. {
        let seen = Seen::of(&rig.pass(web(seed, None)));
        if seen.inspected {
            return rig;
        }
        let late = Instant::now() > end;
        assert!(
            !late,
            "no model in five minutes: {:?}",
            rig.messages().0.last()
        );
    }
    unreachable!()
}

#[test]
fn a_defect_of_20_pixels_is_found_in_tiles_and_missed_in_one() {
    let (left, top) = (2900, 700);
    let mut tiled = learnt("tiled.vadlite", "8x4");
    let mut whole = learnt("whole.vadlite", "");
    let good = Seen::of(&tiled.pass(web(9001, None)));
    assert!(!good.flagged, "{} of {}", good.score, good.threshold);
    let seen = Seen::of(&tiled.pass(web(9000, Some((left, top)))));
    assert!(seen.flagged, "{} of {}", seen.score, seen.threshold);
    // One map of the whole, and the strongest region on the defect.
    let (width, height, _) = seen.map.unwrap();
    assert_eq!((width, height), (896, 448));
    let [x, y, w, h, _] = seen.regions[0];
    let (middle_x, middle_y) = (
        (left + DEFECT / 2) as f64 / WIDTH as f64,
        (top + DEFECT / 2) as f64 / HEIGHT as f64,
    );
    let on_it = (x..x + w).contains(&middle_x) && (y..y + h).contains(&middle_y);
    assert!(on_it, "{middle_x}, {middle_y} of {:?}", seen.regions);
    // Not more than the receptive field of a patch blurs it to: 200 by 200 pixels.
    assert!(w * h < 0.005, "the region is {w} x {h}");

    let seen = Seen::of(&whole.pass(web(9000, Some((left, top)))));
    assert!(!seen.flagged, "{} of {}", seen.score, seen.threshold);
}

#[test]
fn tiles_are_those_of_the_model() {
    let error = start_error(&element(&[("tiles", "4x2")]));
    assert!(
        error.contains("property tiles") && error.contains("1x1"),
        "{error}"
    );
    let error = start_error(&element(&[("tiles", "4by2")]));
    assert!(
        error.contains("property tiles") && error.contains("8x4"),
        "{error}"
    );
    // What the model has may be said again.
    let mut rig = Rig::new(&[("tiles", "1x1")]);
    let picture = common::Part::good(1).picture(64, 48);
    assert!(
        rig.inspect(&picture, gst_video::VideoFormat::Gray8)
            .inspected
    );
}

#[test]
fn the_program_fits_and_scores_in_tiles() {
    let path = scratch().join("program.vadlite");
    let images = model().path.with_file_name("good");
    let fit = vadlite()
        .args([
            "fit",
            "--method",
            "padim-lite",
            "--tiles",
            "2x3",
            "--size",
            "64",
        ])
        .args(["--images".as_ref(), images.as_os_str()])
        .args(["--out".as_ref(), path.as_os_str()])
        .output()
        .unwrap();
    assert!(fit.status.success(), "{fit:?}");
    let info = vadlite()
        .args(["info", "--json"])
        .arg(&path)
        .output()
        .unwrap();
    let info: serde_json::Value = serde_json::from_slice(&info.stdout).unwrap();
    assert_eq!(info["tiles"], serde_json::json!([2, 3]));
    assert_eq!(info["input_size"], serde_json::json!([192, 128]));
    assert_eq!(info["map_size"], serde_json::json!([96, 64]));
    let first = std::fs::read_dir(&images).unwrap().next().unwrap().unwrap();
    let score = vadlite()
        .args(["score", "--json", "--model"])
        .args([&path, &first.path()])
        .output()
        .unwrap();
    let score: serde_json::Value = serde_json::from_slice(&score.stdout).unwrap();
    assert!(score["score"].as_f64().unwrap() > 0.0);
}
