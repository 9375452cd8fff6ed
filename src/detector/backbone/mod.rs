//! The truncated network: an image tensor in, the named feature taps out, computed by ONNX Runtime.
//!
//! Everything that touches ONNX Runtime is in this folder, and nothing else does.

mod device;
mod file;
mod onnx;
pub mod runtime;
mod sessions;

pub use device::Device;
pub use file::{BackboneFile, DEFAULT_BACKBONE, find, resolve};

use crate::detector::error::{BackboneError, Error, InferenceError, Result};
use crate::detector::taps::{Normalization, Tap, TapShape};
use crate::geometry::Size;
use ndarray::ArrayView3;
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;
use sessions::{Key, Sessions};
use smallvec::SmallVec;
use std::path::Path;
use std::sync::Arc;

/// How and where a backbone runs.
#[derive(Debug, Clone, Copy, Default)]
pub struct RuntimeOptions<'a> {
    /// Threads of the backbone; 0: one per core.
    pub threads: usize,
    /// ONNX Runtime library; searched for otherwise.
    pub library: Option<&'a Path>,
    pub device: Device,
}

/// The graph cut to the asked-for taps. Its sessions are shared with other backbones of the same graph.
pub struct Backbone {
    sessions: Arc<Sessions>,
    input: Size,
    shapes: Vec<TapShape>,
    bytes: usize,
    normalization: Normalization,
    patch_offset: f32,
}

impl Backbone {
    /// Cuts `file` to `taps` for images of this size and makes a session of it, or finds one.
    ///
    /// # Errors
    /// [`Error::Runtime`] where ONNX Runtime is missing, [`Error::Backbone`] where the file is no ONNX file, lacks a tap, or fails, or
    /// where the device is not there.
    pub fn new(
        file: &BackboneFile,
        taps: &[String],
        input: Size,
        options: RuntimeOptions<'_>,
    ) -> Result<Self> {
        let environment = runtime::environment(options.library)?;
        let unusable = |source: BackboneError| Error::backbone(&file.path, source);
        let graph = onnx::cut(&file.bytes, taps, input).map_err(unusable)?;
        let key = Key {
            graph: file::sha256(&graph),
            threads: options.threads,
            device: options.device,
        };
        let zeros = ndarray::Array3::zeros((3, input.height, input.width));
        let sessions = Sessions::shared(key.clone(), || {
            let refused = |source: ort::Error| {
                unusable(match key.device.is_processor() {
                    true => BackboneError::Refused(source),
                    false => BackboneError::RefusedOnDevice {
                        device: key.device.name(),
                        source,
                    },
                })
            };
            let builder = builder(&environment, key.threads).map_err(refused)?;
            let mut builder = key.device.add_to(builder, &key.graph, key.threads)?;
            let mut session = builder.commit_from_memory(&graph).map_err(refused)?;
            // ONNX Runtime plans its memory, and TensorRT builds its engine, in the first run: before the first frame.
            run(&mut session, input, zeros.view(), |_| ())
                .map_err(|error| unusable(error.into()))?;
            Ok::<_, Error>(session)
        })?;
        let (normalization, patch_offset) = sessions
            .with(|session| Ok((normalization(session)?, patch_offset(session)?)))
            .map_err(unusable)?;
        let mut backbone = Self {
            sessions,
            input,
            shapes: Vec::new(),
            bytes: graph.len(),
            normalization,
            patch_offset,
        };
        let shapes = backbone.run(zeros.view(), |taps| {
            taps.iter().map(|tap| tap.dim().into()).collect()
        });
        backbone.shapes = shapes.map_err(|error| unusable(error.into()))?;
        Ok(backbone)
    }

    /// Shapes of the taps, in the order asked for.
    pub fn shapes(&self) -> &[TapShape] {
        &self.shapes
    }

    /// Size of the cut graph in bytes: what this session was made from.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn normalization(&self) -> Normalization {
        self.normalization
    }

    /// How far to the right of and below the centre of its cell a patch looks, in pixels of the image tensor: the mean over the taps, as
    /// `models/patch_offset.py` measures it.
    pub fn patch_offset(&self) -> f32 {
        self.patch_offset
    }

    /// Size of the image tensor.
    pub fn input(&self) -> Size {
        self.input
    }

    /// Runs one normalised image (3 x height x width, RGB, row-major) and hands its taps to `use_taps`.
    ///
    /// # Errors
    /// What ONNX Runtime says, or an image of another shape.
    pub fn run<T>(
        &mut self,
        image: ArrayView3<'_, f32>,
        use_taps: impl FnOnce(&[Tap<'_>]) -> T,
    ) -> Result<T, InferenceError> {
        let input = self.input;
        self.sessions
            .with(|session| run(session, input, image, use_taps))
    }
}

fn run<T>(
    session: &mut Session,
    size: Size,
    image: ArrayView3<'_, f32>,
    use_taps: impl FnOnce(&[Tap<'_>]) -> T,
) -> Result<T, InferenceError> {
    let Size { height, width } = size;
    let shape = image.dim();
    let values = image
        .as_slice()
        .filter(|_| shape == (3, height, width))
        .ok_or(InferenceError::Image { shape, size })?;
    let tensor = TensorRef::from_array_view(([1, 3, height, width], values))?;
    let outputs = session.run(ort::inputs![tensor])?;
    let count = outputs.len();
    if count > MAX_TAPS {
        return Err(InferenceError::Taps {
            count,
            most: MAX_TAPS,
        });
    }
    let mut taps = SmallVec::<[Tap<'_>; MAX_TAPS]>::new();
    for index in 0..count {
        let (shape, values) = outputs[index].try_extract_tensor::<f32>()?;
        let tap = match **shape {
            [1, channels, height, width] => {
                let shape = (channels as usize, height as usize, width as usize);
                Tap::from_shape(shape, values).ok()
            }
            _ => None,
        }
        .ok_or_else(|| InferenceError::TapShape(shape.to_vec()))?;
        taps.push(tap);
    }
    Ok(use_taps(&taps))
}

/// More taps than any method uses: so many are held without allocation.
const MAX_TAPS: usize = 8;

/// Whether the processor adds two 8-bit products in 16 bits, where they saturate, so that ONNX Runtime has to be told to take its slower
/// kernels that do not. It takes these on any x86 when told so.
fn products_saturate() -> bool {
    #[cfg(target_arch = "x86_64")]
    return !(is_x86_feature_detected!("avx512vnni") || is_x86_feature_detected!("avxvnni"));
    #[cfg(not(target_arch = "x86_64"))]
    false
}

fn builder(environment: &Environment, threads: usize) -> ort::Result<SessionBuilder> {
    Session::builder(environment)?
        // `All`, since the libraries 1.20 to 1.22 do not know `Level3`.
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        // Blocks that are reused as they come take 2 MB less than one block for all of them besides those of the first run.
        .with_memory_pattern(false)?
        .with_config_entry(
            "session.x64quantprecision",
            if products_saturate() { "1" } else { "0" },
        )?
        // Spinning threads burn a core while the line stands still.
        .with_intra_op_spinning(false)
        .map_err(ort::Error::from)
}

/// Reads `vadlite.patch_offset` from the ONNX metadata; 0 where the file has none.
fn patch_offset(session: &Session) -> Result<f32, BackboneError> {
    const KEY: &str = "vadlite.patch_offset";
    let metadata = session.metadata().map_err(BackboneError::Refused)?;
    let Some(text) = metadata.custom(KEY) else {
        return Ok(0.0);
    };
    match text.trim().parse() {
        Ok(offset) if f32::abs(offset) <= 64.0 => Ok(offset),
        _ => Err(BackboneError::Metadata {
            key: KEY,
            text,
            wanted: "a number of pixels from -64 to 64",
        }),
    }
}

/// Reads `vadlite.mean` and `vadlite.std` from the ONNX metadata; ImageNet's constants where the file has none.
fn normalization(session: &Session) -> Result<Normalization, BackboneError> {
    let metadata = session.metadata().map_err(BackboneError::Refused)?;
    let read = |key: &'static str, default: [f32; 3], fits: fn(&f32) -> bool, wanted| {
        let Some(text) = metadata.custom(key) else {
            return Ok(default);
        };
        let numbers: Vec<f32> = text
            .split(',')
            .filter_map(|part| part.trim().parse().ok())
            .filter(fits)
            .collect();
        numbers
            .try_into()
            .map_err(|_| BackboneError::Metadata { key, text, wanted })
    };
    let Normalization { mean, std } = Normalization::IMAGENET;
    Ok(Normalization {
        mean: read(
            "vadlite.mean",
            mean,
            |value| value.is_finite(),
            "three numbers",
        )?,
        std: read(
            "vadlite.std",
            std,
            |value| value.is_finite() && *value > 0.0,
            "three positive numbers",
        )?,
    })
}
