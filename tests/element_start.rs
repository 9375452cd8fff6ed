//! What keeps the element from starting, and what it says then.

mod common;

use common::element::{Rig, element, start_error};
use common::{backbone, model, scratch};
use gst::prelude::*;
use std::path::Path;

/// The element with these properties does not start, and says all of this.
#[track_caller]
fn refuses(properties: &[(&str, &str)], said: &[&str]) {
    let error = start_error(&element(properties));
    for words in said {
        assert!(error.contains(words), "{error:?} lacks {words:?}");
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn model_is_missing_or_damaged() {
    refuses(&[("model", "")], &["property model", "vadlite fit"]);
    let absent = scratch().join("absent.vadlite");
    refuses(
        &[("model", text(&absent))],
        &["property model", text(&absent), "vadlite fit"],
    );
    refuses(
        &[("model", text(scratch()))],
        &["property model", text(scratch())],
    );
    let damaged = scratch().join("damaged.vadlite");
    let bytes = std::fs::read(&model().path).unwrap();
    std::fs::write(&damaged, &bytes[..bytes.len() / 2]).unwrap();
    refuses(
        &[("model", text(&damaged))],
        &["property model", text(&damaged), "damaged", "fit"],
    );
}

#[test]
fn backbone_is_missing_or_another_one() {
    let absent = scratch().join("absent.onnx");
    refuses(
        &[("backbone", text(&absent))],
        &["property backbone", text(&absent)],
    );
    let other = scratch().join("other.onnx");
    let mut bytes = std::fs::read(backbone()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&other, bytes).unwrap();
    refuses(
        &[("backbone", text(&other))],
        &["property backbone", text(&other), "SHA-256", "part.vadlite"],
    );

    // The one beside the model goes before the installed one.
    let folder = scratch().join("beside");
    std::fs::create_dir_all(&folder).unwrap();
    let moved = folder.join("part.vadlite");
    std::fs::copy(&model().path, &moved).unwrap();
    let beside = folder.join("mobilenetv2.onnx");
    std::fs::copy(&other, &beside).unwrap();
    refuses(
        &[("model", text(&moved))],
        &["property model", text(&beside), "SHA-256"],
    );
    std::fs::copy(backbone(), &beside).unwrap();
    Rig::new(&[("model", text(&moved))]);
}

#[test]
fn device_is_not_in_the_library() {
    for device in ["cuda", "tensorrt", "xnnpack"] {
        refuses(
            &[("device", device)],
            &[
                &format!("the device {device} was asked for"),
                "libonnxruntime.so",
                "device=cpu",
            ],
        );
    }
}

#[test]
fn roi_is_not_a_part_of_the_frame() {
    for roi in [
        "0.5,0.5,0.6,0.5",
        "0.5,0.5,0.5,0.6",
        "-0.1,0,0.5,0.5",
        "0,0,0,1",
        "0,0,1,-1",
        "nan,0,1,1",
        "0,0,inf,1",
        "0,0,1",
        "0,0,1,1,1",
        "left",
    ] {
        refuses(&[("roi", roi)], &["property roi"]);
    }
    for roi in ["0,0,1,1", " 0.1 , 0.2, 0.9,0.8 ", ""] {
        Rig::new(&[("roi", roi)]);
    }
}

#[test]
fn false_reject_rate_is_too_small_for_the_good_images() {
    refuses(
        &[("false-reject-rate", "0.01")],
        &["property false-reject-rate", "0.01", "20", "0.0476"],
    );
    Rig::new(&[("false-reject-rate", "0.0477")]);
    // What the property threshold overrides is not asked for.
    Rig::new(&[("false-reject-rate", "0.01"), ("threshold", "5")]);
}

#[test]
fn another_onnxruntime_than_the_one_in_use() {
    // One is in use from here on.
    Rig::new(&[]);
    let absent = scratch().join("libonnxruntime.so");
    refuses(
        &[("onnxruntime", text(&absent))],
        &["onnxruntime", text(&absent), "one process"],
    );
}

#[test]
fn it_starts_once_the_cause_is_gone() {
    let element = element(&[("model", "/nonexistent.vadlite")]);
    start_error(&element);
    element.set_property("model", text(&model().path));
    element.set_state(gst::State::Paused).unwrap();
    element.set_state(gst::State::Null).unwrap();
    // And again.
    element.set_state(gst::State::Paused).unwrap();
    element.set_state(gst::State::Null).unwrap();
}
