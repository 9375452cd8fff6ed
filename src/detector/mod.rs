//! Inspection without GStreamer: backbone, heads, anomaly map, threshold and model file.
//!
//! An image tensor comes in, a score, a map and regions come out; [`Detector`] is the way of one frame, [`Fitter`] makes its model.

pub mod anomaly_map;
pub mod backbone;
pub mod calibration;
pub mod device;
pub mod drift;
pub(crate) mod embedding;
pub mod error;
mod fit;
pub mod head_tensors;
pub mod heads;
pub mod metrics;
pub mod model_file;
mod onnx;
pub mod runtime;
pub(crate) mod samples;
pub mod search;
mod sessions;
pub mod tiles;

pub use anomaly_map::Region;
pub use device::Device;
pub use error::{Error, Result};
pub use fit::{FitOptions, Fitter};

use anomaly_map::AnomalyMap;
use backbone::Backbone;
use calibration::Calibration;
use embedding::Embedding;
use heads::{Head, Recipe};
use model_file::{Metadata, ModelFile};
use std::path::Path;
use std::time::{Duration, Instant};
use tiles::Features;

/// How to open a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Backbone file; looked up by the name in the model otherwise.
    pub backbone: Option<&'a Path>,
    /// Threads of the backbone; 0: one per core.
    pub threads: usize,
    /// ONNX Runtime library; searched for otherwise.
    pub library: Option<&'a Path>,
    /// Where the backbone runs.
    pub device: Device,
}

/// What the last inspection cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    pub backbone: Duration,
    pub head: Duration,
    pub map: Duration,
}

/// A fitted model, ready to inspect images.
pub struct Detector {
    metadata: Metadata,
    calibration: Calibration,
    head_bytes: usize,
    backbone: Backbone,
    embedding: Embedding,
    features: Features,
    head: Box<dyn Head>,
    patch_scores: Vec<f32>,
    map: AnomalyMap,
    timing: Timing,
}

impl Detector {
    /// Opens a model file with its backbone.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that is missing, damaged or does not fit its backbone; [`Error::Backbone`] for a backbone that is
    /// missing, is another one than the model was fitted with, or lacks a tap; [`Error::Runtime`] without ONNX Runtime.
    pub fn open(path: &Path, options: Options<'_>) -> Result<Self> {
        let model = ModelFile::read(path)?;
        let backbone = Backbone::of_model(&model, path, options)?;
        Self::new(model, backbone).map_err(|reason| Error::model(path, reason))
    }

    /// Joins a model and a backbone that was made for its taps and input size.
    ///
    /// # Errors
    /// What in the model does not fit the backbone's taps.
    pub fn new(model: ModelFile, backbone: Backbone) -> std::result::Result<Self, String> {
        let metadata = &model.metadata;
        let recipe = Recipe {
            method: metadata.method,
            preset: metadata.preset,
        };
        let tiles = metadata.tiles;
        let embedding = recipe.embedding(backbone.shapes(), metadata.channels.as_deref(), tiles)?;
        let head = recipe.load(&embedding, &model.tensors())?;
        let head_bytes = model.head_bytes();
        // The head has what it needs of the tensors: from here on they would be there twice.
        let ModelFile {
            metadata,
            calibration,
            ..
        } = model;
        let [height, width] = metadata.map_size;
        let map = AnomalyMap::new(
            embedding.grid(),
            (height, width),
            metadata.map_sigma,
            metadata.map_offset,
        );
        let patch_scores = vec![0.0; embedding.positions()];
        Ok(Self {
            metadata,
            calibration,
            head_bytes,
            backbone,
            embedding,
            features: Features::new(tiles),
            head,
            patch_scores,
            map,
            timing: Timing::default(),
        })
    }

    /// Inspects one image (3 x height x width of [`Detector::input`], RGB, normalised, row-major) and returns the image score: the
    /// maximum of the anomaly map, times the head's image weight.
    ///
    /// # Errors
    /// [`Error::Inference`] where ONNX Runtime fails, or where the score is not a number.
    pub fn inspect(&mut self, image: &[f32]) -> Result<f32> {
        let start = Instant::now();
        let filling = self
            .features
            .extract(&mut self.backbone, image, &mut self.embedding)?;
        let backbone = start.elapsed() - filling;
        let score = self.rescore();
        self.timing.backbone = backbone;
        self.timing.head += filling;
        if !score.is_finite() {
            return Err(Error::Inference("the score is not a number".into()));
        }
        Ok(score)
    }

    /// Head and map once more on the features of the last inspection: all of it but the backbone. Allocates nothing.
    pub fn rescore(&mut self) -> f32 {
        let start = Instant::now();
        self.head.score(&self.embedding, &mut self.patch_scores);
        let after_head = Instant::now();
        let score = self.map.update(&self.patch_scores) * self.head.image_weight();
        self.timing.head = after_head - start;
        self.timing.map = after_head.elapsed();
        score
    }

    /// The anomaly map of the last inspection, row-major, with its height and width.
    pub fn map(&self) -> (&[f32], (usize, usize)) {
        (self.map.values(), self.map.size())
    }

    /// The parts of the last map above `threshold`, strongest first; none exactly where the score is not above it.
    pub fn regions(&mut self, threshold: f32) -> &[Region] {
        self.map.regions(threshold)
    }

    /// Stage times of the last inspection.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Height and width of the image tensor.
    pub fn input(&self) -> (usize, usize) {
        let [height, width] = self.metadata.input_size;
        (height, width)
    }

    /// Bytes of the backbone's graph as cut for this model.
    pub fn backbone_bytes(&self) -> usize {
        self.backbone.bytes()
    }

    /// What the model file says of itself.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The scores behind the threshold.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Bytes of the head's tensors in the model file.
    pub fn head_bytes(&self) -> usize {
        self.head_bytes
    }
}
