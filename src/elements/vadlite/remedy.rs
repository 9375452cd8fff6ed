//! What a user can do about an error of the detector: it tells what is wrong, here is what helps, in terms of the element's own properties.

use super::error::SetupError;
use super::settings::{Mode, Settings};
use crate::detector::backbone::DEFAULT_BACKBONE;
use crate::detector::error::{
    BackboneError, Chain, Error, FitError, InferenceError, ModelError, RuntimeError,
};
use std::io;

/// As [`explain`], as the reason that the element does not start.
pub fn setup_error(error: &Error, settings: &Settings) -> SetupError {
    SetupError::Detector(explain(error, settings))
}

/// An error of the detector in one line: the property that it comes from, what is wrong with all its causes, and the remedy where there
/// is one.
pub fn explain(error: &Error, settings: &Settings) -> String {
    let property = match error {
        Error::Backbone { .. } if settings.backbone.is_some() => "the property backbone: ",
        // Learning has no model yet that could name a backbone.
        Error::Backbone { .. } if settings.mode == Mode::Learn => "",
        Error::Backbone { .. } | Error::Model { .. } => "the property model: ",
        Error::Runtime(_) | Error::Fit(_) | Error::Inference(_) => "",
    };
    let chain = Chain(error);
    match remedy(error, settings.mode) {
        Some(remedy) => format!("{property}{chain}; {remedy}"),
        None => format!("{property}{chain}"),
    }
}

fn remedy(error: &Error, mode: Mode) -> Option<String> {
    match error {
        Error::Runtime(error) => Some(runtime_remedy(error).into()),
        Error::Backbone { source, .. } => Some(backbone_remedy(source, mode)),
        Error::Model { source, .. } => model_remedy(source).map(Into::into),
        Error::Fit(error) => fit_remedy(error).map(Into::into),
        Error::Inference(InferenceError::Feature) => {
            Some("choose another network with the property backbone".into())
        }
        Error::Inference(_) => None,
    }
}

fn runtime_remedy(error: &RuntimeError) -> &'static str {
    match error {
        RuntimeError::NotFound { .. } => {
            "run ./setup in the source tree, or unpack the wheel of the PyPI package onnxruntime and name its onnxruntime/capi/libonnxruntime.so.1.* with the property onnxruntime or the variable ORT_DYLIB_PATH"
        }
        RuntimeError::Named { .. } => {
            "name another library, such as onnxruntime/capi/libonnxruntime.so.1.* of the PyPI package onnxruntime, or leave it out for the one that is installed"
        }
        RuntimeError::Another { .. } => {
            "set the property onnxruntime alike in all elements, or leave it out"
        }
        RuntimeError::DeviceMissing { device, .. } => match *device {
            "xnnpack" => "take a library that was built with --use_xnnpack, or device=cpu",
            _ => {
                "take the library of the PyPI package onnxruntime-gpu (on a Jetson: NVIDIA's), or device=cpu"
            }
        },
        RuntimeError::DeviceRefuses { .. } => {
            "see that the device and its driver are there and are those that the library was built for, or take device=cpu"
        }
    }
}

fn backbone_remedy(error: &BackboneError, mode: Mode) -> String {
    match (error, mode) {
        (
            BackboneError::Read(_)
            | BackboneError::NotFound { .. }
            | BackboneError::NotTheModels { .. },
            Mode::Detect,
        ) => "name its path with the property backbone, or fit the model again".into(),
        (BackboneError::RefusedOnDevice { .. }, mode) => {
            let with_it = match mode {
                Mode::Detect => "fit the model again with that one",
                Mode::Learn => "name that one with the property backbone",
            };
            format!(
                "GPUs take networks in floats, such as {DEFAULT_BACKBONE}: {with_it}, or take device=cpu"
            )
        }
        (_, Mode::Learn) => "name the path of another one with the property backbone".into(),
        (_, Mode::Detect) => {
            "take another file with the property backbone, or fit the model again".into()
        }
    }
}

fn model_remedy(error: &ModelError) -> Option<&'static str> {
    match error {
        ModelError::Read(error) if error.kind() == io::ErrorKind::NotFound => {
            Some("make one with `vadlite fit` or with mode=learn")
        }
        ModelError::Read(_) => Some("see that it is a file that may be read"),
        ModelError::Write(_) => {
            Some("see that there is room and that its folder may be written to")
        }
        ModelError::Version { found, known } if found > known => {
            Some("take a newer vadlite, or fit the model again")
        }
        ModelError::Version { .. }
        | ModelError::Empty
        | ModelError::Damaged(_)
        | ModelError::NoMetadata
        | ModelError::Size { .. }
        | ModelError::Value(_)
        | ModelError::Resize { .. }
        | ModelError::Geometry { .. }
        | ModelError::Calibration(_)
        | ModelError::Channels(_)
        | ModelError::Tensor(_) => Some("fit the model again"),
    }
}

fn fit_remedy(error: &FitError) -> Option<&'static str> {
    match error {
        FitError::TooFewImages { .. }
        | FitError::TooFewDistinct { .. }
        | FitError::TooFewForVariance(_) => {
            Some("learn from more frames with the property learn-frames")
        }
        FitError::TooLarge { .. } => {
            Some("choose fewer tiles with the property tiles, or method=padim-lite")
        }
        FitError::Subspaces { .. } | FitError::Dimensions { .. } => {
            Some("choose another method with the property method, or another network with backbone")
        }
        FitError::NoPatches
        | FitError::NotFactored
        | FitError::Scores(_)
        | FitError::Threshold(_) => Some(
            "see that the frames show the part, or choose another method with the property method",
        ),
        FitError::NoParts(_) => Some(
            "see that the frames show whole parts on a plain background, or set the property locate to none",
        ),
        FitError::NothingJudged => Some("make more of the property mask's picture white"),
        FitError::Rate(_) => Some("set the property false-reject-rate between 0 and 1"),
        FitError::RateTooSmall { .. } => {
            Some("raise the property false-reject-rate, or learn from more frames")
        }
        FitError::Geometry(_) | FitError::Channels(_) => {
            Some("choose other tiles with the property tiles")
        }
        // The element fits default presets only.
        FitError::NoChoice(_)
        | FitError::Serialize(_)
        | FitError::Tensor(_)
        | FitError::Cancelled => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::backbone::runtime;
    use crate::detector::error::{LibraryError, TensorError};
    use crate::elements::vadlite::properties::properties;
    use std::collections::BTreeSet;

    /// An error of each kind that a user can do something about, and words of what that is.
    fn errors() -> Vec<(Error, &'static [&'static str])> {
        // Its errors are made by the library.
        runtime::environment(None).unwrap();
        let backbone = |source| Error::backbone("net.onnx", source);
        let model = |source| Error::model("part.vadlite", source);
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let refused = || ort::Error::new("no");
        let not_the_models = BackboneError::NotTheModels {
            model: "part.vadlite".into(),
            name: "net.onnx".into(),
            found: "1".into(),
            needed: "2".into(),
        };
        let too_large = FitError::TooLarge {
            positions: 1,
            dimensions: 1,
            bytes: 1,
            fitting: 1,
        };
        let missing_device = |device| RuntimeError::DeviceMissing {
            device,
            library: "libonnxruntime.so".into(),
        };
        let not_found = RuntimeError::NotFound {
            oldest: 20,
            searched: String::new(),
        };
        let named = RuntimeError::Named {
            by: "ORT_DYLIB_PATH",
            path: "lib.so".into(),
            source: LibraryError::Load("no".into()),
        };
        let gpu = BackboneError::RefusedOnDevice {
            device: "cuda",
            source: refused(),
        };
        vec![
            (
                not_found.into(),
                &["./setup", "property onnxruntime", "ORT_DYLIB_PATH"],
            ),
            (named.into(), &["PyPI package onnxruntime"]),
            (
                missing_device("cuda").into(),
                &["onnxruntime-gpu", "Jetson", "device=cpu"],
            ),
            (
                missing_device("xnnpack").into(),
                &["--use_xnnpack", "device=cpu"],
            ),
            (
                RuntimeError::DeviceRefuses {
                    device: "cuda",
                    source: refused(),
                }
                .into(),
                &["driver", "device=cpu"],
            ),
            (
                backbone(BackboneError::NotFound {
                    searched: Vec::new(),
                }),
                &["property backbone", "fit"],
            ),
            (
                backbone(not_the_models),
                &["property backbone", "fit the model again"],
            ),
            (backbone(gpu), &["mobilenetv2.onnx", "device=cpu"]),
            (backbone(BackboneError::Inputs(2)), &["property backbone"]),
            (
                model(ModelError::Read(missing())),
                &["vadlite fit", "mode=learn"],
            ),
            (model(ModelError::Empty), &["fit the model again"]),
            (
                model(ModelError::Version { found: 9, known: 1 }),
                &["newer vadlite"],
            ),
            (
                model(TensorError::NotFinite("head.mean".into()).into()),
                &["head.mean", "fit the model again"],
            ),
            (too_large.into(), &["property tiles", "method=padim-lite"]),
            (
                FitError::Subspaces {
                    dimensions: 1,
                    subspaces: 2,
                }
                .into(),
                &["property method"],
            ),
            (
                FitError::Dimensions { wanted: 1, all: 2 }.into(),
                &["property method"],
            ),
            (
                FitError::TooFewImages {
                    images: 1,
                    fewest: 2,
                }
                .into(),
                &["property learn-frames"],
            ),
            (
                FitError::NoParts("nothing".into()).into(),
                &["property locate", "background"],
            ),
            (InferenceError::Feature.into(), &["property backbone"]),
        ]
    }

    #[test]
    fn every_error_names_what_can_be_done_with_properties_of_the_element() {
        let names: BTreeSet<&str> = properties().iter().map(|pspec| pspec.name()).collect();
        for mode in [Mode::Detect, Mode::Learn] {
            let settings = Settings {
                mode,
                ..Settings::default()
            };
            for (error, words) in errors() {
                let text = explain(&error, &settings);
                assert!(text.contains(&Chain(&error).to_string()), "{text}");
                for word in words {
                    // What is being learnt cannot be fitted again.
                    let fits = word.contains("fit") && mode == Mode::Learn;
                    assert!(fits || text.contains(word), "{text} lacks {word}");
                }
                for word in text.split("the property ").skip(1) {
                    let name = word.split([' ', ':', ',', ';']).next().unwrap_or_default();
                    assert!(names.contains(name), "{name} is no property: {text}");
                }
                for option in ["--dimensions", "--taps", "--size", "--method", "--tiles"] {
                    assert!(!text.contains(option), "{text}");
                }
            }
        }
    }

    #[test]
    fn the_property_that_an_error_comes_from_is_named_first() {
        let error = |source| Error::backbone("net.onnx", source);
        let begin = |error: &Error, mode, backbone: Option<&str>| {
            let settings = Settings {
                mode,
                backbone: backbone.map(Into::into),
                ..Settings::default()
            };
            explain(error, &settings)
        };
        let damaged = error(BackboneError::Inputs(2));
        let text = begin(&damaged, Mode::Detect, None);
        assert!(
            text.starts_with("the property model: backbone net.onnx: "),
            "{text}"
        );
        let text = begin(&damaged, Mode::Detect, Some("net.onnx"));
        assert!(
            text.starts_with("the property backbone: backbone net.onnx: "),
            "{text}"
        );
        let text = begin(&damaged, Mode::Learn, None);
        assert!(text.starts_with("backbone net.onnx: "), "{text}");
    }
}
