//! Another model takes over between two frames; one that cannot is refused, and the old one stays.

mod common;

use common::element::{Rig, Seen};
use common::{Part, model, scratch};
use gst::prelude::*;
use gst_video::VideoFormat as F;
use std::path::Path;
use std::time::{Duration, Instant};

fn good(rig: &mut Rig) -> Seen {
    rig.inspect(&Part::good(7).picture(160, 120), F::Nv12)
}

/// Passes frames until `done` says so of one.
fn until(rig: &mut Rig, mut done: impl FnMut(&Rig, &Seen) -> bool) -> Seen {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let seen = good(rig);
        assert!(seen.inspected, "a frame passes uninspected");
        if done(rig, &seen) {
            return seen;
        }
        assert!(
            Instant::now() < end,
            "nothing happens; the last frame: {seen:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn copy(name: &str) -> String {
    let path = scratch().join(name);
    std::fs::copy(&model().path, &path).unwrap();
    path.to_str().unwrap().to_owned()
}

/// As a careful program replaces a file.
fn replace(path: &str, bytes: &[u8]) {
    let beside = format!("{path}.new");
    std::fs::write(&beside, bytes).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[test]
fn a_model_set_while_playing_takes_over_between_two_frames() {
    let (first, second) = (copy("first.vadlite"), copy("second.vadlite"));
    let mut rig = Rig::new(&[("model", &first)]);
    let before = good(&mut rig);
    assert_eq!(before.model, "first.vadlite");
    rig.element.set_property("model", &second);
    let after = until(&mut rig, |_, seen| seen.model == "second.vadlite");
    // The same model under another name says the same.
    assert_eq!(
        (before.score, before.threshold),
        (after.score, after.threshold)
    );
    assert_eq!(rig.stat::<u64>("reloads"), 1);
    let (messages, warnings) = rig.messages();
    assert!(warnings.is_empty(), "{warnings:?}");
    let name = messages
        .iter()
        .find(|message| message.name() == "vadlite-model");
    assert_eq!(
        name.unwrap().get::<&str>("model").unwrap(),
        "second.vadlite"
    );

    // Frames go on counting, and none is lost.
    let last = good(&mut rig);
    assert!(last.frame > after.frame);
    assert_eq!(rig.stat::<u64>("frames-lost"), 0);
}

#[test]
fn a_bad_model_is_refused_and_the_old_one_stays() {
    let first = copy("stays.vadlite");
    let mut rig = Rig::new(&[("model", &first)]);
    let before = good(&mut rig);
    let damaged = scratch().join("damaged.vadlite");
    std::fs::write(&damaged, b"not a model").unwrap();
    for (number, bad) in [damaged.to_str().unwrap(), "/nonexistent.vadlite", ""]
        .iter()
        .enumerate()
    {
        rig.element.set_property("model", bad);
        let after = until(&mut rig, |rig, _| {
            rig.stat::<u64>("reloads-refused") == number as u64 + 1
        });
        assert_eq!((before.score, &before.model), (after.score, &after.model));
        let (_, warnings) = rig.messages();
        let [warning] = warnings.as_slice() else {
            panic!("{warnings:?}")
        };
        assert!(warning.contains("stays"), "{warning}");
        assert!(warning.contains("property model"), "{warning}");
    }
    rig.element.set_property("model", &first);
    until(&mut rig, |rig, _| rig.stat::<u64>("reloads") == 1);
}

#[test]
fn a_file_that_changes_is_loaded_where_asked_for() {
    let path = copy("watched.vadlite");
    let bytes = std::fs::read(&path).unwrap();
    let mut rig = Rig::new(&[("model", &path), ("reload", "auto")]);
    good(&mut rig);
    replace(&path, &bytes);
    until(&mut rig, |rig, _| rig.stat::<u64>("reloads") == 1);
    // Half a file: refused, with the old model staying, until it is whole.
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    until(&mut rig, |rig, _| rig.stat::<u64>("reloads-refused") == 1);
    std::fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    good(&mut rig);
    replace(&path, &bytes);
    until(&mut rig, |rig, _| rig.stat::<u64>("reloads") == 2);
    assert_eq!(rig.stat::<u64>("reloads-refused"), 1);
    assert!(Path::new(&path).exists());
}

/// A model is judged by the properties as they are, not as they were at the start.
#[test]
fn the_next_model_is_judged_by_the_present_properties() {
    // Of 10 images, which support no rate below 1 in 11.
    let images = scratch().join("few");
    common::save_good(&images, 10);
    let few = scratch().join("few.vadlite");
    let output = common::vadlite()
        .args(["fit", "--method", "padim-lite", "--images"])
        .arg(&images)
        .arg("--out")
        .arg(&few)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let few = std::fs::read(few).unwrap();
    let path = copy("judged.vadlite");
    let bytes = std::fs::read(&path).unwrap();
    let mut rig = Rig::new(&[
        ("model", &path),
        ("reload", "auto"),
        ("false-reject-rate", "0.06"),
    ]);
    good(&mut rig);
    // At the rate of the start it would be refused.
    rig.element.set_property("false-reject-rate", 0.5);
    replace(&path, &few);
    until(&mut rig, |rig, _| rig.stat::<u64>("reloads") == 1);
    // And at a rate of now it is, though at the start it would have done.
    replace(&path, &bytes);
    until(&mut rig, |rig, _| rig.stat::<u64>("reloads") == 2);
    rig.element.set_property("false-reject-rate", 0.06);
    good(&mut rig);
    replace(&path, &few);
    until(&mut rig, |rig, _| rig.stat::<u64>("reloads-refused") == 1);
    let (_, warnings) = rig.messages();
    assert!(
        warnings
            .iter()
            .any(|warning| warning.contains("property false-reject-rate")),
        "{warnings:?}"
    );
}

#[test]
fn a_file_that_changes_is_left_alone_otherwise() {
    let path = copy("unwatched.vadlite");
    let mut rig = Rig::new(&[("model", &path)]);
    good(&mut rig);
    std::fs::write(&path, b"not a model").unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    good(&mut rig);
    assert_eq!(
        (
            rig.stat::<u64>("reloads"),
            rig.stat::<u64>("reloads-refused")
        ),
        (0, 0)
    );
}
