//! The truncated network: an image tensor in, the named feature taps out, computed by ONNX Runtime.

use super::error::{Error, Result};
use super::model_file::ModelFile;
use super::sessions::{Key, Sessions};
use super::{Options, onnx, runtime};
use ort::environment::Environment;
use ort::session::Session;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::value::TensorRef;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// File name of the committed backbone.
pub const DEFAULT_BACKBONE: &str = "mobilenetv2.onnx";

/// Normalisation of RGB in 0..1 per channel: (x - mean) / std.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Normalization {
    pub mean: [f32; 3],
    pub std: [f32; 3],
}

impl Normalization {
    /// What torchvision's weights were trained with; used for files that do not say.
    pub const IMAGENET: Self = Self {
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
}

/// One feature tap of one image: `channels` x `height` x `width`, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Tap<'a> {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub values: &'a [f32],
}

/// Shape of a tap: channels, height, width.
pub type TapShape = [usize; 3];

/// A backbone file, read and hashed, not yet a session.
pub struct BackboneFile {
    pub path: PathBuf,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    bytes: Vec<u8>,
}

impl BackboneFile {
    /// # Errors
    /// [`Error::Backbone`] where the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)
            .map_err(|error| Error::backbone(path, format!("cannot be read: {error}")))?;
        Ok(Self {
            path: path.to_path_buf(),
            sha256: sha256(&bytes),
            bytes,
        })
    }

    /// The file's name without folders, as a model file keeps it.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

/// SHA-256 in lower-case hex.
fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks a backbone up by name: beside the model file, beside the plugin or program, in the data folder's `models`.
///
/// # Errors
/// [`Error::Backbone`] with every place searched.
pub fn find(name: &str, beside: Option<&Path>) -> Result<PathBuf> {
    let model_dir = beside.and_then(Path::parent).map(|dir| {
        if dir.as_os_str().is_empty() {
            PathBuf::from(".")
        } else {
            dir.to_path_buf()
        }
    });
    let folders: Vec<PathBuf> = [
        model_dir,
        runtime::own_dir(),
        Some(runtime::data_dir().join("models")),
    ]
    .into_iter()
    .flatten()
    .collect();
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let searched: Vec<_> = folders
                .iter()
                .map(|folder| folder.display().to_string())
                .collect();
            Error::backbone(
                name,
                format!(
                    "not found in {}; name its path with the property or option backbone",
                    searched.join(", ")
                ),
            )
        })
}

/// The backbone that was `asked` for, by path or by the name of an installed one; where none was, the one named `default`.
///
/// # Errors
/// [`Error::Backbone`] as [`find`].
pub fn resolve(asked: Option<&Path>, default: &str, beside: Option<&Path>) -> Result<PathBuf> {
    match asked {
        Some(path) if path.exists() || path.components().count() != 1 => Ok(path.to_path_buf()),
        Some(name) => find(&name.to_string_lossy(), beside),
        None => find(default, beside),
    }
}

/// The graph cut to the asked-for taps. Its sessions are shared with other backbones of the same graph.
pub struct Backbone {
    sessions: Arc<Sessions>,
    input: (usize, usize),
    shapes: Vec<TapShape>,
    bytes: usize,
    normalization: Normalization,
    patch_offset: f32,
}

impl Backbone {
    /// Cuts `file` to `taps` for images of `input` (height, width) and makes a session of it, or finds one; the options' backbone is not
    /// used.
    ///
    /// # Errors
    /// [`Error::Runtime`] where ONNX Runtime is missing, [`Error::Backbone`] where the file is no ONNX file, lacks a tap, or fails, or
    /// where the device is not there.
    pub fn new(
        file: &BackboneFile,
        taps: &[String],
        input: (usize, usize),
        options: Options<'_>,
    ) -> Result<Self> {
        let environment = runtime::environment(options.library)?;
        let reason = |reason: String| Error::backbone(&file.path, reason);
        let graph = onnx::cut(&file.bytes, taps, input).map_err(reason)?;
        let key = Key {
            graph: sha256(&graph),
            threads: options.threads,
            device: options.device,
        };
        let zeros = vec![0.0; 3 * input.0 * input.1];
        let sessions = Sessions::shared(key.clone(), || {
            let builder =
                builder(&environment, key.threads).map_err(|error| reason(refused(&error)))?;
            let mut builder = key.device.add_to(builder, &key.graph, key.threads)?;
            let session = builder.commit_from_memory(&graph);
            let mut session = session.map_err(|error| {
                let hint = match key.device.is_processor() {
                    true => "",
                    false => "; GPUs take networks in floats, such as mobilenetv2.onnx: fit with that one, or use device=cpu",
                };
                reason(refused(&error) + hint)
            })?;
            // ONNX Runtime plans its memory, and TensorRT builds its engine, in the first run: before the first frame.
            run(&mut session, input, &zeros, |_| ()).map_err(|error| reason(error.to_string()))?;
            Ok(session)
        })?;
        let (normalization, patch_offset) = sessions
            .with(|session| Ok((normalization(session)?, patch_offset(session)?)))
            .map_err(reason)?;
        let mut backbone = Self {
            sessions,
            input,
            shapes: Vec::new(),
            bytes: graph.len(),
            normalization,
            patch_offset,
        };
        let shapes = backbone.run(&zeros, |taps| {
            taps.iter()
                .map(|tap| [tap.channels, tap.height, tap.width])
                .collect()
        });
        backbone.shapes = shapes.map_err(|error| reason(error.to_string()))?;
        Ok(backbone)
    }

    /// The backbone of the model in the file `path`.
    ///
    /// # Errors
    /// [`Error::Backbone`] for a file that is missing or is another one than the model was fitted with, and as [`Backbone::new`].
    pub fn of_model(model: &ModelFile, path: &Path, options: Options<'_>) -> Result<Self> {
        let metadata = &model.metadata;
        let backbone_path = resolve(options.backbone, &metadata.backbone, Some(path))?;
        let file = BackboneFile::read(&backbone_path)?;
        if file.sha256 != metadata.backbone_sha256 {
            let reason = format!(
                "it is not the backbone that {} was fitted with ({}): its SHA-256 is {}, and the model needs {}; name the right file with the property or option backbone, or fit again",
                path.display(),
                metadata.backbone,
                file.sha256,
                metadata.backbone_sha256
            );
            return Err(Error::backbone(backbone_path, reason));
        }
        let [height, width] = metadata
            .tiles
            .part(metadata.input_size)
            .map_err(|reason| Error::model(path, reason))?;
        Self::new(&file, &metadata.taps, (height, width), options)
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

    /// Height and width of the image tensor.
    pub fn input(&self) -> (usize, usize) {
        self.input
    }

    /// Runs one normalised image (3 x height x width, RGB, row-major) and hands its taps to `use_taps`.
    ///
    /// # Errors
    /// [`Error::Inference`] with what ONNX Runtime says.
    pub fn run<T>(&mut self, image: &[f32], use_taps: impl FnOnce(&[Tap<'_>]) -> T) -> Result<T> {
        let input = self.input;
        self.sessions
            .with(|session| run(session, input, image, use_taps))
    }
}

fn run<T>(
    session: &mut Session,
    (height, width): (usize, usize),
    image: &[f32],
    use_taps: impl FnOnce(&[Tap<'_>]) -> T,
) -> Result<T> {
    let failed = |error: ort::Error| Error::Inference(error.to_string());
    let tensor = TensorRef::from_array_view(([1, 3, height, width], image)).map_err(failed)?;
    let outputs = session.run(ort::inputs![tensor]).map_err(failed)?;
    let mut taps: [Option<Tap<'_>>; MAX_TAPS] = [None; MAX_TAPS];
    if outputs.len() > MAX_TAPS {
        return Err(Error::Inference(format!(
            "{} taps; at most {MAX_TAPS} are supported",
            outputs.len()
        )));
    }
    for (index, slot) in taps.iter_mut().enumerate().take(outputs.len()) {
        let (shape, values) = outputs[index].try_extract_tensor::<f32>().map_err(failed)?;
        let [1, channels, height, width] = **shape else {
            return Err(Error::Inference(format!(
                "a tap has the shape {shape:?}, not 1 x channels x height x width"
            )));
        };
        *slot = Some(Tap {
            channels: channels as usize,
            height: height as usize,
            width: width as usize,
            values,
        });
    }
    let empty = Tap {
        channels: 0,
        height: 0,
        width: 0,
        values: &[],
    };
    Ok(use_taps(
        &taps.map(|tap| tap.unwrap_or(empty))[..outputs.len()],
    ))
}

/// More taps than any method uses; an array of this size keeps a run free of allocation.
const MAX_TAPS: usize = 8;

fn refused(error: &dyn std::fmt::Display) -> String {
    format!("ONNX Runtime refuses it: {error}")
}

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
fn patch_offset(session: &Session) -> std::result::Result<f32, String> {
    const KEY: &str = "vadlite.patch_offset";
    let metadata = session.metadata().map_err(|error| error.to_string())?;
    let Some(text) = metadata.custom(KEY) else {
        return Ok(0.0);
    };
    match text.trim().parse() {
        Ok(offset) if f32::abs(offset) <= 64.0 => Ok(offset),
        _ => Err(format!(
            "its metadata {KEY} is {text:?}, not a number of pixels from -64 to 64"
        )),
    }
}

/// Reads `vadlite.mean` and `vadlite.std` from the ONNX metadata; ImageNet's constants where the file has none.
fn normalization(session: &Session) -> std::result::Result<Normalization, String> {
    let metadata = session.metadata().map_err(|error| error.to_string())?;
    let read = |key: &str, default: [f32; 3]| {
        let Some(text) = metadata.custom(key) else {
            return Ok(default);
        };
        let numbers: Vec<f32> = text
            .split(',')
            .filter_map(|part| part.trim().parse().ok())
            .filter(|number: &f32| number.is_finite())
            .collect();
        numbers
            .try_into()
            .map_err(|_| format!("its metadata {key} is {text:?}, not three numbers"))
    };
    let normalization = Normalization {
        mean: read("vadlite.mean", Normalization::IMAGENET.mean)?,
        std: read("vadlite.std", Normalization::IMAGENET.std)?,
    };
    if normalization.std.iter().any(|&std| std <= 0.0) {
        return Err("its metadata vadlite.std holds a number that is not positive".into());
    }
    Ok(normalization)
}
