//! Damaged, foreign and wrong model and backbone files: each is refused with its name and what is wrong, none crashes.

mod common;

use common::{Part, Random, backbone, model, scratch, vadlite};
use gstvadlite::detector::RuntimeOptions;
use gstvadlite::detector::backbone::{Backbone, BackboneFile};
use gstvadlite::detector::error::Chain;
use gstvadlite::detector::model_file::ModelFile;
use gstvadlite::detector::taps::Normalization;
use gstvadlite::detector::{Detector, Options};
use gstvadlite::geometry::{Roi, Size};
use gstvadlite::video::preprocess::Target;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// A model file taken apart: the JSON of vadlite, the safetensors header without it, and the tensors' bytes.
#[derive(Clone)]
struct Parts {
    metadata: Map<String, Value>,
    header: Map<String, Value>,
    data: Vec<u8>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let metadata = header.remove("__metadata__").unwrap();
        let metadata = serde_json::from_str(metadata["vadlite"].as_str().unwrap()).unwrap();
        Self {
            metadata,
            header,
            data: bytes[8 + length..].to_vec(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut header = self.header.clone();
        let metadata = serde_json::to_string(&self.metadata).unwrap();
        header.insert("__metadata__".into(), json!({ "vadlite": metadata }));
        let header = serde_json::to_vec(&header).unwrap();
        [
            &(header.len() as u64).to_le_bytes()[..],
            &header,
            &self.data,
        ]
        .concat()
    }

    fn save(&self, name: &str) -> PathBuf {
        save(name, &self.bytes())
    }

    /// Names of the tensors of a type, the head's and others.
    fn tensors(&self, dtype: &str) -> Vec<String> {
        let named = self
            .header
            .iter()
            .filter(|(_, tensor)| tensor["dtype"] == dtype);
        named.map(|(name, _)| name.clone()).collect()
    }

    fn offset(&self, tensor: &str) -> usize {
        self.header[tensor]["data_offsets"][0].as_u64().unwrap() as usize
    }
}

fn original() -> Vec<u8> {
    std::fs::read(&model().path).unwrap()
}

fn save(name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch().join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn open(path: &Path) -> Result<Detector, String> {
    Detector::open(path, Options::default()).map_err(|error| Chain(&error).to_string())
}

/// Opening the file fails and says all of this, besides its name.
#[track_caller]
fn refused(path: &Path, words: &[&str]) {
    let Err(error) = open(path) else {
        panic!("{} opens", path.display())
    };
    for words in words.iter().chain([&path.to_str().unwrap()]) {
        assert!(error.contains(words), "{error:?} lacks {words:?}");
    }
}

#[test]
fn taken_apart_and_put_together_it_still_opens() {
    let whole = Parts::of(&original()).save("whole.vadlite");
    assert_eq!(open(&whole).unwrap().metadata(), &model().model.metadata);
    assert_eq!(ModelFile::read(&whole).unwrap(), model().model);
}

#[test]
fn files_that_are_no_models() {
    refused(&scratch().join("absent.vadlite"), &["cannot be read"]);
    refused(scratch(), &["cannot be read"]);
    refused(&save("empty.vadlite", b""), &["is empty"]);
    refused(
        &save("text.vadlite", b"A model? No."),
        &["damaged or not a .vadlite file"],
    );
    refused(
        &save("zeros.vadlite", &[0; 5000]),
        &["damaged or not a .vadlite file"],
    );
    let backbone = std::fs::read(backbone()).unwrap();
    refused(
        &save("onnx.vadlite", &backbone),
        &["damaged or not a .vadlite file"],
    );
    // A header that claims to be longer than any memory.
    let endless = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    refused(
        &save("endless.vadlite", &endless),
        &["damaged or not a .vadlite file"],
    );
    // A safetensors file of somebody else.
    let header = br#"{"__metadata__":{"format":"pt"},"weight":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#;
    let foreign = [&(header.len() as u64).to_le_bytes()[..], header, b"x"].concat();
    refused(&save("foreign.vadlite", &foreign), &["not one of vadlite"]);
}

#[test]
fn cut_short_anywhere() {
    let bytes = original();
    let mut random = Random::new(1);
    let near: Vec<usize> = (1..40).chain(bytes.len() - 40..bytes.len()).collect();
    let anywhere = (0..300).map(|_| 1 + random.below(bytes.len() - 1));
    for length in near.into_iter().chain(anywhere) {
        let path = save("short.vadlite", &bytes[..length]);
        let error = ModelFile::read(&path).expect_err("a part of a file is read");
        let error = Chain(&error).to_string();
        assert!(
            error.contains("short.vadlite") && error.contains("damaged"),
            "{length} bytes: {error}"
        );
    }
    let longer = [&bytes[..], b"more"].concat();
    refused(&save("longer.vadlite", &longer), &["damaged"]);
}

#[test]
fn flipped_bits_never_crash() {
    let bytes = original();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let target = Target {
        size: Size::square(224),
        normalization: Normalization {
            mean: [0.5; 3],
            std: [0.5; 3],
        },
        roi: Roi::WHOLE,
    };
    let tensor = Part::good(1).picture(64, 48).tensor(target);
    let mut random = Random::new(2);
    let (mut refused, mut opened) = (0, 0);
    for round in 0..1000 {
        let mut damaged = bytes.clone();
        let end = if round % 10 == 0 { bytes.len() } else { header };
        for _ in 0..1 + random.below(3) {
            let place = random.below(end);
            damaged[place] ^= 1 << random.below(8);
        }
        let path = save("flipped.vadlite", &damaged);
        if let Err(error) = ModelFile::read(&path) {
            assert!(error.to_string().contains("flipped.vadlite"), "{error}");
            refused += 1;
            continue;
        }
        // What reads well is opened and used; a backbone or head that does not fit is an error.
        match open(&path) {
            Err(error) => {
                assert!(
                    error.contains("flipped.vadlite") || error.contains("backbone"),
                    "{error}"
                );
                refused += 1;
            }
            Ok(mut detector) => {
                if detector.metadata().input_size == Size::square(224)
                    && let Ok(score) = detector.inspect(tensor.view())
                {
                    assert!(score.is_finite());
                    detector.regions(score / 2.0);
                }
                opened += 1;
            }
        }
    }
    assert!(
        refused > 300 && opened > 20,
        "{refused} refused, {opened} opened"
    );
}

/// Sets one entry of the metadata.
#[track_caller]
fn with(name: &str, value: Value, words: &[&str]) {
    let known = Parts::of(&original()).metadata.contains_key(name);
    assert!(known || OPTIONAL.contains(&name), "{name}");
    let mut parts = Parts::of(&original());
    parts.metadata.insert(name.into(), value);
    refused(&parts.save("metadata.vadlite"), words);
}

/// Entries that not every file has.
const OPTIONAL: [&str; 12] = [
    "copies",
    "highest_patches",
    "image_size",
    "judged",
    "left_out",
    "light_level",
    "light_rejects",
    "located",
    "sample_bits",
    "tried",
    "trades",
    "unusual",
];

#[test]
fn metadata_of_another_version_or_kind() {
    with(
        "format_version",
        json!(3),
        &["format version 3", "reads versions up to 2"],
    );
    with("format_version", json!("1"), &["damaged"]);
    with("format_version", json!(0), &["format version 0"]);
    with("judged", json!("10"), &["judged"]);
    with("judged", json!("0".repeat(196)), &["judged"]);
    with("light_level", json!(-0.5), &["light_level"]);
    with("highest_patches", json!(0), &["highest_patches"]);
    // One of before: no list, no mask, and the map's maximum is the score.
    let mut parts = Parts::of(&original());
    parts.metadata.insert("format_version".into(), json!(1));
    for name in OPTIONAL {
        parts.metadata.remove(name);
    }
    let old = open(&parts.save("version 1.vadlite")).unwrap();
    assert_eq!(old.metadata().highest_patches, None);
    with("method", json!("other"), &["unknown variant `other`"]);
    with("preset", json!("other"), &["unknown variant `other`"]);
    with(
        "resize",
        json!("nearest"),
        &["nearest", "bilinear-antialias"],
    );
    for name in Parts::of(&original()).metadata.keys() {
        let mut parts = Parts::of(&original());
        parts.metadata.remove(name);
        let path = parts.save("lacking.vadlite");
        // Files from before there was this open as they did.
        match name.as_str() {
            name if OPTIONAL.contains(&name) => drop(open(&path).unwrap()),
            _ => refused(&path, &["damaged", name]),
        }
    }
}

#[test]
fn metadata_out_of_range() {
    // A part whose numbers are none, and one whose tensor is too small for a mean picture.
    let part = |scale: f64| {
        json!({
            "scene": 300, "scale": scale, "length": 90.0, "width": 40.0, "area": 3000.0,
            "background": [10.0, 10.0, 10.0], "contrast": 40.0, "turns": 2, "likeness": 0.3
        })
    };
    let located = |scale: f64, size: [usize; 2], name: &str| {
        let mut parts = Parts::of(&original());
        parts.metadata.insert("part".into(), part(scale));
        parts.metadata.insert("input_size".into(), json!(size));
        parts.save(name)
    };
    let size = [224, 224];
    refused(
        &located(0.0, size, "no scale.vadlite"),
        &["part holds a number"],
    );
    refused(&located(0.8, size, "no picture.vadlite"), &["mean picture"]);
    refused(
        &located(0.8, [1, 1], "one pixel.vadlite"),
        &["multiple of 32"],
    );
    for name in ["input_size", "map_size"] {
        for size in [
            json!([0, 224]),
            json!([224, 0]),
            json!([4_000_000_000u64, 4_000_000_000u64]),
            json!([100_000, 1]),
            json!([8192, 8192]),
        ] {
            with(name, size, &[name]);
        }
        for size in [
            json!([-1, 224]),
            json!([224]),
            json!([1.5, 2]),
            json!([1e300, 1]),
            Value::Null,
        ] {
            with(name, size, &["damaged"]);
        }
    }
    for sigma in [json!(-1.0), json!(1e9)] {
        with("map_sigma", sigma, &["map_sigma"]);
    }
    for offset in [json!(-1e9), json!(65.0)] {
        with("map_offset", offset, &["map_offset"]);
    }
    with("threshold", Value::Null, &["damaged"]);
    with("threshold", json!(1e300), &["threshold"]);
    with(
        "normalization",
        json!({"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.0, 0.5]}),
        &["normalization.std"],
    );
    with(
        "normalization",
        json!({"mean": [1e300, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}),
        &["normalization"],
    );
    with("roi", json!([0.5, 0.0, 0.6, 1.0]), &["roi"]);
    with("roi", json!([0.0, 0.0, 0.0, 1.0]), &["roi"]);
}

#[test]
fn backbone_that_is_not_the_models() {
    with(
        "backbone_sha256",
        json!("00ff"),
        &["SHA-256", "00ff", "mobilenetv2.onnx"],
    );
    with(
        "backbone",
        json!("../models/mobilenetv2.onnx"),
        &["backbone"],
    );
    with("backbone", json!(""), &["backbone"]);
    let mut parts = Parts::of(&original());
    parts
        .metadata
        .insert("backbone".into(), json!("unknown.onnx"));
    let path = parts.save("unknown.vadlite");
    let error = open(&path).err().unwrap();
    for words in [
        "unknown.onnx",
        "not found",
        scratch().to_str().unwrap(),
        "/models",
    ] {
        assert!(error.contains(words), "{error:?} lacks {words:?}");
    }
}

#[test]
fn taps_that_the_backbone_lacks() {
    let opened = |taps: Value| {
        let mut parts = Parts::of(&original());
        parts.metadata.insert("taps".into(), taps);
        open(&parts.save("taps.vadlite")).err().expect("it opens")
    };
    let error = opened(json!(["features.7", "features.99"]));
    let expected = (4..=14).map(|block| format!("features.{block}"));
    for words in expected.chain([
        "no output named features.99".into(),
        "mobilenetv2.onnx".into(),
    ]) {
        assert!(error.contains(&words), "{error:?} lacks {words:?}");
    }
    assert!(opened(json!([])).contains("taps"));
    // Taps that are there, but not those of the head.
    assert!(opened(json!(["features.7"])).contains("taps.vadlite"));
    assert!(opened(json!(["features.7", "features.10", "features.14"])).contains("taps.vadlite"));
    for count in [2, 100] {
        let error = opened(json!(vec!["features.7"; count]));
        assert!(
            error.contains("backbone") || error.contains("taps.vadlite"),
            "{error}"
        );
    }
}

#[test]
fn tensors_that_are_missing_or_of_another_shape_or_type() {
    let whole = Parts::of(&original());
    let head: Vec<String> = whole
        .header
        .keys()
        .filter(|name| name.starts_with("head."))
        .cloned()
        .collect();
    assert!(!head.is_empty());
    for name in &head {
        let mut parts = whole.clone();
        let tensor = parts.header.remove(name).unwrap();
        parts.header.insert("head.other".into(), tensor.clone());
        refused(&parts.save("renamed.vadlite"), &[name]);

        // One row less, of a type of the same size, turned round.
        let shape: Vec<u64> = serde_json::from_value(tensor["shape"].clone()).unwrap();
        let mut parts = whole.clone();
        let mut flat = tensor.clone();
        flat["shape"] = json!([shape.iter().product::<u64>(), 1, 1]);
        parts.header.insert(name.clone(), flat);
        refused(&parts.save("shape.vadlite"), &[name, "the head needs"]);
        let same_size = match tensor["dtype"].as_str().unwrap() {
            "F16" => "BF16",
            "F32" => "I32",
            "U8" => "I8",
            _ => "U8",
        };
        let mut parts = whole.clone();
        let mut other = tensor.clone();
        other["dtype"] = json!(same_size);
        parts.header.insert(name.clone(), other);
        refused(&parts.save("type.vadlite"), &[name, same_size]);
    }
    let mut parts = whole.clone();
    parts.header.get_mut(&head[0]).unwrap()["shape"] = json!([u64::MAX, u64::MAX]);
    refused(&parts.save("overflow.vadlite"), &["damaged"]);

    let mut parts = whole.clone();
    let scores = parts.header.remove("calibration.scores").unwrap();
    parts.header.insert("calibration.other".into(), scores);
    refused(&parts.save("calibration.vadlite"), &["calibration.scores"]);
    // A model for another input size has other shapes.
    with("input_size", json!([160, 160]), &["head."]);
}

#[test]
fn numbers_that_are_none() {
    let whole = Parts::of(&original());
    let mut tried = 0;
    for (dtype, numbers) in [
        (
            "F16",
            [&0x7e00u16.to_le_bytes()[..], &0xfc00u16.to_le_bytes()[..]],
        ),
        (
            "F32",
            [
                &f32::NAN.to_le_bytes()[..],
                &f32::INFINITY.to_le_bytes()[..],
            ],
        ),
    ] {
        for name in whole.tensors(dtype) {
            for number in numbers {
                let mut parts = whole.clone();
                let start = parts.offset(&name);
                parts.data[start..start + number.len()].copy_from_slice(number);
                let path = parts.save("numbers.vadlite");
                let named = if name.starts_with("head.") {
                    &name
                } else {
                    "calibration"
                };
                refused(&path, &[named]);
                tried += 1;
            }
        }
    }
    assert!(tried >= 4);
}

#[test]
fn the_program_says_the_same() {
    let path = save("half.vadlite", &original()[..1000]);
    for command in [&["info"][..], &["score", "a.png", "--model"]] {
        let output = vadlite().args(command).arg(&path).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(
            said.contains("half.vadlite")
                && said.contains("damaged")
                && said.contains("fit the model again"),
            "{said}"
        );
    }
}

fn session(path: &Path) -> Result<Backbone, String> {
    let file = BackboneFile::read(path).map_err(|error| Chain(&error).to_string())?;
    let taps = ["features.7".to_owned(), "features.10".to_owned()];
    Backbone::new(&file, &taps, Size::square(64), RuntimeOptions::default())
        .map_err(|error| Chain(&error).to_string())
}

#[test]
fn backbones_that_are_damaged_or_no_onnx_files() {
    let bytes = std::fs::read(backbone()).unwrap();
    let whole = session(&backbone()).unwrap();
    assert_eq!(whole.shapes(), [[64, 4, 4], [64, 4, 4]]);
    assert_eq!(
        whole.normalization(),
        Normalization {
            mean: [0.5; 3],
            std: [0.5; 3]
        }
    );
    let text = b"no network".to_vec();
    for (name, bytes) in [
        ("empty.onnx", vec![]),
        ("text.onnx", text),
        ("model.onnx", original()),
    ] {
        let error = session(&save(name, &bytes)).err().expect("it opens");
        assert!(error.contains(name) && error.contains("ONNX"), "{error}");
    }
    let mut random = Random::new(3);
    for _ in 0..60 {
        let path = save("short.onnx", &bytes[..random.below(bytes.len())]);
        let error = session(&path).err().expect("a part of a file opens");
        assert!(error.contains("short.onnx"), "{error}");
    }
    for _ in 0..100 {
        let mut damaged = bytes.clone();
        // The structure lies at the beginning and the end, the weights between.
        let place = random.below(6000);
        let place = if place < 3000 {
            place
        } else {
            bytes.len() - 6000 + place
        };
        damaged[place] ^= 1 << random.below(8);
        if let Err(error) = session(&save("flipped.onnx", &damaged)) {
            assert!(error.contains("flipped.onnx"), "{error}");
        }
    }
}
