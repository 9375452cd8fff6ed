//! Many streams in one process: they share sessions and still get their own results.

mod common;

use common::{Part, backbone};
use gstvadlite::detector::backbone::{Backbone, BackboneFile};
use gstvadlite::detector::error::Chain;
use gstvadlite::detector::{Device, RuntimeOptions};
use gstvadlite::geometry::{Roi, Size};
use gstvadlite::video::preprocess::Target;
use ndarray::Array3;

const INPUT: Size = Size::square(96);

fn open(options: RuntimeOptions<'_>) -> Result<Backbone, String> {
    let file = BackboneFile::read(&backbone()).unwrap();
    Backbone::new(&file, &["features.4".to_owned()], INPUT, options)
        .map_err(|error| Chain(&error).to_string())
}

fn tensor(backbone: &Backbone, seed: u64) -> Array3<f32> {
    let target = Target {
        size: INPUT,
        normalization: backbone.normalization(),
        roi: Roi::WHOLE,
    };
    Part::good(seed).picture(160, 120).tensor(target)
}

/// More streams than sessions, each with pictures of its own, give what each would give alone.
#[test]
fn streams_that_share_sessions_do_not_mix_results() {
    let options = RuntimeOptions {
        threads: 1,
        ..RuntimeOptions::default()
    };
    let mut alone = open(options).unwrap();
    let taps = |backbone: &mut Backbone, seed| {
        let tensor = tensor(backbone, seed);
        backbone
            .run(tensor.view(), |taps| taps[0].to_owned())
            .unwrap()
    };
    let expected: Vec<Array3<f32>> = (0..40).map(|seed| taps(&mut alone, seed)).collect();
    assert_ne!(expected[0], expected[1]);
    std::thread::scope(|scope| {
        for stream in 0..8 {
            let expected = &expected;
            scope.spawn(move || {
                let mut backbone = open(options).unwrap();
                for (seed, expected) in expected.iter().enumerate().skip(stream).step_by(8) {
                    assert_eq!(
                        &taps(&mut backbone, seed as u64),
                        expected,
                        "picture {seed}"
                    );
                }
            });
        }
    });
}

/// A panic in one stream's work leaves the others their sessions.
#[test]
fn a_panic_gives_the_session_back() {
    let options = RuntimeOptions {
        threads: 3,
        ..RuntimeOptions::default()
    };
    let mut backbone = open(options).unwrap();
    let image = tensor(&backbone, 0);
    for _ in 0..3 {
        let mut other = open(options).unwrap();
        let image = &image;
        let panicked = std::thread::spawn({
            let image = image.clone();
            move || other.run(image.view(), |_| panic!("on purpose"))
        });
        assert!(panicked.join().is_err());
    }
    backbone
        .run(image.view(), |taps| assert_eq!(taps.len(), 1))
        .unwrap();
}

#[test]
fn a_device_that_the_library_lacks_is_an_error() {
    for (device, name) in [
        (Device::Cuda, "cuda"),
        (Device::Tensorrt, "tensorrt"),
        (Device::Xnnpack, "xnnpack"),
    ] {
        let options = RuntimeOptions {
            device,
            ..RuntimeOptions::default()
        };
        let error = open(options).err().unwrap();
        assert!(
            error.contains(name) && error.contains("libonnxruntime.so"),
            "{error}"
        );
    }
}
