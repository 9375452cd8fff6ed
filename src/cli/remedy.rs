//! What helps against an error of the detector, in terms of this program's options.

use crate::detector::Device;
use crate::detector::error::{
    BackboneError, Error, FitError, InferenceError, ModelError, RuntimeError,
};
use std::io::ErrorKind;

/// The error with all its causes, and what helps where that is known, in one line.
pub fn described(error: &anyhow::Error) -> String {
    match error.chain().find_map(remedy) {
        Some(remedy) => format!("{error:#}; {remedy}"),
        None => format!("{error:#}"),
    }
}

/// What helps against one cause of a chain.
fn remedy(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    // These two speak for their causes, which are no causes of their own then.
    let text = match cause.downcast_ref::<Error>() {
        Some(Error::Runtime(error)) => runtime_remedy(error),
        Some(Error::Fit(error)) => return fit_remedy(error),
        _ => {
            if let Some(error) = cause.downcast_ref::<FitError>() {
                return fit_remedy(error);
            }
            let backbone = cause.downcast_ref().and_then(backbone_remedy);
            let model = || cause.downcast_ref().and_then(model_remedy);
            let inference = || cause.downcast_ref().and_then(inference_remedy);
            backbone.or_else(model).or_else(inference)
        }
    };
    text.map(str::to_owned)
}

fn runtime_remedy(error: &RuntimeError) -> Option<&'static str> {
    match error {
        RuntimeError::DeviceMissing { device, .. } if *device == Device::Xnnpack.name() => {
            Some("take a library that was built with --use_xnnpack, or --device cpu")
        }
        RuntimeError::DeviceMissing { .. } => Some(
            "take the library of the PyPI package onnxruntime-gpu (on a Jetson: NVIDIA's), or --device cpu",
        ),
        RuntimeError::DeviceRefuses { .. } => {
            Some("see that the device and its driver are there, or take --device cpu")
        }
        RuntimeError::NotFound { .. } => Some(
            "run ./setup in the source tree, or `pip download --no-deps onnxruntime`, unpack the wheel, and name its onnxruntime/capi/libonnxruntime.so.1.* with --onnxruntime or ORT_DYLIB_PATH",
        ),
        // These tell which library, and why not.
        RuntimeError::Named { .. } | RuntimeError::Another { .. } => None,
    }
}

fn backbone_remedy(error: &BackboneError) -> Option<&'static str> {
    match error {
        BackboneError::NotFound { .. } => Some("name its path with --backbone"),
        BackboneError::NotTheModels { .. } => {
            Some("name the right file with --backbone, or fit the model again")
        }
        BackboneError::NoTap { .. } => Some("choose among them with --taps"),
        BackboneError::RefusedOnDevice { .. } => Some(
            "GPUs take networks in floats, such as mobilenetv2.onnx: fit with that one, or use --device cpu",
        ),
        _ => None,
    }
}

fn model_remedy(error: &ModelError) -> Option<&'static str> {
    match error {
        ModelError::Read(error) if error.kind() == ErrorKind::NotFound => {
            Some("make one with `vadlite fit`")
        }
        ModelError::Read(_) | ModelError::Write(_) => None,
        ModelError::Version { found, known } if found > known => {
            Some("take a newer vadlite, or fit the model again")
        }
        // Whatever it is, a fit makes a file without it.
        _ => Some("fit the model again"),
    }
}

fn fit_remedy(error: &FitError) -> Option<String> {
    match error {
        FitError::TooLarge { fitting, .. } => Some(format!(
            "choose --dimensions {fitting} or less, smaller --taps or a smaller --size"
        )),
        FitError::NoChoice(_) => Some("name one with --method".into()),
        FitError::Subspaces { .. } => Some("choose other --taps or --dimensions".into()),
        _ => None,
    }
}

fn inference_remedy(error: &InferenceError) -> Option<&'static str> {
    match error {
        InferenceError::Feature => Some("choose other --taps"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::error::TensorError;
    use anyhow::Context as _;
    use std::path::PathBuf;

    #[test]
    fn what_helps_follows_the_causes_in_one_line() {
        let missing = Error::model("a.vadlite", ModelError::Read(ErrorKind::NotFound.into()));
        let not_found = BackboneError::NotFound {
            searched: vec![PathBuf::from("/models")],
        };
        let too_large = FitError::TooLarge {
            positions: 196,
            dimensions: 4000,
            bytes: 7 << 30,
            fitting: 810,
        };
        let device = RuntimeError::DeviceMissing {
            device: "cuda",
            library: "lib.so".into(),
        };
        let number = ModelError::from(TensorError::NotFinite("head.mean".into()));
        for (error, end) in [
            (
                missing.into(),
                "model a.vadlite: cannot be read: entity not found; make one with `vadlite fit`",
            ),
            (
                Error::backbone("b.onnx", not_found).into(),
                "backbone b.onnx: not found in /models; name its path with --backbone",
            ),
            (
                Error::from(too_large).into(),
                "; choose --dimensions 810 or less, smaller --taps or a smaller --size",
            ),
            (Error::from(device).into(), ", or --device cpu"),
            // What comes without the detector's own error around it, and with words before it.
            (
                number.into(),
                "the tensor head.mean holds NaN or infinity; fit the model again",
            ),
            (
                Err::<(), _>(InferenceError::Feature)
                    .context("image a.png")
                    .unwrap_err(),
                "; choose other --taps",
            ),
            // Where nothing is known to help, nothing is said.
            (
                Error::model(
                    "a.vadlite",
                    ModelError::Write(ErrorKind::StorageFull.into()),
                )
                .into(),
                "cannot be written: no storage space",
            ),
        ] as [(anyhow::Error, &str); 7]
        {
            let said = described(&error);
            assert!(said.ends_with(end), "{said:?} does not end with {end:?}");
            assert_eq!(said.lines().count(), 1);
        }
    }
}
