//! The program `vadlite` as a whole: its usage, what it says of a model, and what it needs to run.

mod common;

use common::program::{folder, json, run, text};
use common::{GOOD, PRESET, Part, model, scratch, vadlite};
use gstvadlite::detector::model_file::Metadata;
use std::path::Path;
use std::process::Stdio;

#[test]
fn wrong_usage_ends_with_two_and_help_with_nought() {
    // Each is complete but for one thing.
    for line in [
        "",
        "inspect",
        "fit --method padim-lite --out x.vadlite",
        "fit --method padim-lite --images .",
        "fit --method padim-lite --images . --out x.vadlite --size 0",
        "fit --method padim-lite --images . --out x.vadlite --roi 0,0,2,1",
        "fit --method padim-lite --images . --out x.vadlite --preset other",
        "score a.png",
        "score --model x.vadlite",
        "score --model x.vadlite a.png --threshold nan",
        "eval --dataset .",
        "eval --model x.vadlite",
        "eval --model x.vadlite --method padim-lite --dataset .",
        "info",
    ] {
        let said = text(&run(line.split_whitespace(), 2).stderr);
        assert!(said.contains("--help"), "{line}: {said}");
    }
    let line = "fit --method other --images . --out x.vadlite";
    let said = text(&run(line.split(' '), 2).stderr);
    assert!(
        said.contains("other") && said.contains("padim-lite"),
        "{said}"
    );
    assert!(!Path::new("x.vadlite").exists());
    for line in [
        "--help",
        "--version",
        "fit --help",
        "score --help",
        "eval --help",
        "info --help",
    ] {
        assert!(!run(line.split(' '), 0).stdout.is_empty());
    }
}

#[test]
fn info_shows_the_metadata() {
    let output = run(
        ["info".as_ref(), "--json".as_ref(), model().path.as_os_str()],
        0,
    );
    let [info] = &json(&output)[..] else {
        panic!("{output:?}")
    };
    let metadata: Metadata = serde_json::from_value(info.clone()).unwrap();
    assert_eq!(metadata, model().model.metadata);
    for (name, value) in [
        ("method", "padim-lite"),
        ("preset", PRESET),
        ("backbone", "mobilenetv2.onnx"),
        ("resize", "bilinear-antialias"),
    ] {
        assert_eq!(info[name], value);
    }
    assert_eq!(info["format_version"], 2);
    assert_eq!(info["good_images"], GOOD);
    assert_eq!(info["taps"].as_array().unwrap().len(), 3);
    assert_eq!(info["input_size"], serde_json::json!([224, 224]));
    assert_eq!(info["backbone_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(info["head_bytes"], model().model.head_bytes());
    assert!(info["head_bytes"].as_u64().unwrap() > 1000);
    // RFC 3339, in this century and not in the future.
    let made = info["created"].as_str().unwrap();
    let made = humantime::parse_rfc3339(made).unwrap();
    assert!(made.elapsed().unwrap().as_secs() < 3600);

    let shown = text(&run(["info".as_ref(), model().path.as_os_str()], 0).stdout);
    for name in info.as_object().unwrap().keys() {
        assert!(
            shown.lines().any(|line| line.starts_with(name.as_str())),
            "{name}"
        );
    }
}

#[test]
fn a_reader_that_leaves_early_is_no_error() {
    let folder = folder("head");
    let path = folder.join("a.png");
    Part::good(505).picture(320, 240).save(&path);
    let path = path.to_str().unwrap();
    let model = model().path.to_str().unwrap();
    let mut score = vec!["score", "--json", "--model", model];
    score.extend([path; 40]);
    for arguments in [score, vec!["info", model], vec!["info", "--json", model]] {
        let mut child = vadlite()
            .args(&arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn a_missing_runtime_is_named() {
    let absent = scratch().join("nowhere/libonnxruntime.so");
    let other = scratch().join("libother.so");
    std::fs::write(&other, b"not a library").unwrap();
    let model = model().path.to_str().unwrap();
    for library in [&absent, &other] {
        let library = library.to_str().unwrap();
        let output = vadlite()
            .args(["score", "--model", model, "a.png"])
            .env("ORT_DYLIB_PATH", library)
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("ONNX Runtime")
                && said.contains("ORT_DYLIB_PATH")
                && said.contains(library),
            "{said}"
        );

        // The option goes before the variable.
        let output = vadlite()
            .args(["score", "--model", model, "--onnxruntime", library, "a.png"])
            .env("ORT_DYLIB_PATH", "/elsewhere")
            .output()
            .unwrap();
        let said = text(&output.stderr);
        assert!(
            said.contains(library) && !said.contains("elsewhere"),
            "{said}"
        );
    }
}

/// What is wrong comes with the option that helps, in one line.
#[test]
fn an_error_names_the_option_that_helps() {
    let folder = folder("remedies");
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (absent, empty, other) = (
        path("absent.vadlite"),
        path("empty.vadlite"),
        path("b.onnx"),
    );
    std::fs::write(&empty, b"").unwrap();
    let mut backbone = std::fs::read(common::backbone()).unwrap();
    backbone.push(0);
    std::fs::write(&other, backbone).unwrap();
    let images = folder.join("good");
    common::save_good(&images, 1);
    let (images, out) = (images.to_str().unwrap(), path("out.vadlite"));
    let taps = [4, 8, 9, 10, 11, 12, 13, 14].map(|layer| format!("features.{layer}"));
    let taps = taps.join(",");
    let fitted = model().path.to_str().unwrap();
    let fit = [
        "fit", "--method", "padim", "--images", images, "--out", &out,
    ];
    for (arguments, words) in [
        (
            vec!["info", &absent],
            vec![absent.as_str(), "`vadlite fit`"],
        ),
        (
            vec!["info", &empty],
            vec![&empty, "empty", "fit the model again"],
        ),
        (
            vec!["score", "--model", fitted, "--backbone", &other, "a.png"],
            vec![&other, fitted, "name the right file with --backbone"],
        ),
        (
            vec![
                "score",
                "--model",
                fitted,
                "--backbone",
                "none.onnx",
                "a.png",
            ],
            vec!["none.onnx", "not found in", "name its path with --backbone"],
        ),
        (
            [&fit[..], &["--taps", "features.99"]].concat(),
            vec!["features.99", "features.13", "with --taps"],
        ),
        (
            [&fit[..], &["--size", "640", "--taps", &taps]].concat(),
            vec!["GB", "--dimensions ", " or less", "--taps", "--size"],
        ),
    ] {
        let said = text(&run(&arguments, 1).stderr);
        for words in words {
            assert!(
                said.contains(words),
                "{arguments:?}: {said:?} lacks {words:?}"
            );
        }
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}
