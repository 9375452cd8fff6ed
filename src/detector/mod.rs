//! Inspection without GStreamer: backbone, heads, anomaly map, threshold and model file.
//!
//! An image tensor comes in, a score, a map and regions come out; [`Detector`] is the way of one frame, [`Fitter`] makes its model.

// Public for the project's own benchmarks.
#[doc(hidden)]
pub mod anomaly_map;
pub mod backbone;
pub mod calibration;
pub(crate) mod drift;
pub(crate) mod embedding;
pub mod error;
pub(crate) mod features;
mod fit;
mod flood;
pub(crate) mod head_tensors;
pub(crate) mod heads;
pub(crate) mod image_score;
mod inspector;
mod light;
mod located;
mod long_tail;
pub mod method;
#[cfg(feature = "cli")]
pub(crate) mod metrics;
pub mod model_file;
mod near_copies;
mod parts;
pub(crate) mod progress;
mod regions;
pub(crate) mod samples;
pub(crate) mod scorer;
#[doc(hidden)]
pub mod search;
pub(crate) mod synthetic;
pub mod taps;
pub mod unusual;

pub use backbone::{Device, RuntimeOptions};
pub use error::{Error, Result};
#[cfg(feature = "cli")]
pub(crate) use fit::foreign::fence as foreign_above;
pub use fit::{Cluster, DefectScores, Finished, FitOptions, FittedPart, Fitter, HeldOutMaps};
pub(crate) use fit::{fit_in_other_light, rejects_other_light};
pub use heads::Recipe;
pub(crate) use located::{Cutter, Decision};
pub use near_copies::{CopiesOf, Groups};
pub(crate) use parts::levels;
pub use parts::{Part, Verdict};
pub use progress::{Cancel, Progress};
pub use regions::Region;

use crate::geometry::Input;
use crate::locate::Doubt;
use anomaly_map::AnomalyMap;
use backbone::{Backbone, BackboneFile};
use calibration::Calibration;
use embedding::Embedding;
use error::{BackboneError, InferenceError, ModelError};
use inspector::Inspector;
use light::Leveller;
use model_file::{Metadata, ModelFile};
use ndarray::{ArrayView2, ArrayView3};
use parts::PartFinder;
use scorer::Scorer;
use std::path::Path;
use std::time::{Duration, Instant};

/// How to open a model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// Backbone file; looked up by the name in the model otherwise.
    pub backbone: Option<&'a Path>,
    pub runtime: RuntimeOptions<'a>,
}

/// What the last inspection cost.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timing {
    /// Finding the parts and turning them upright.
    pub locate: Duration,
    pub backbone: Duration,
    pub head: Duration,
    pub map: Duration,
}

/// A fitted model, ready to inspect images.
pub struct Detector {
    metadata: Metadata,
    calibration: Calibration,
    head_bytes: usize,
    inspector: Inspector,
    /// Where the model locates its parts.
    finder: Option<PartFinder>,
}

/// The backbone of the model that was read from the file `path`.
///
/// # Errors
/// [`Error::Backbone`] for a file that is missing or is another one than the model was fitted with, and as [`Backbone::new`].
pub fn open_backbone(model: &ModelFile, path: &Path, options: Options<'_>) -> Result<Backbone> {
    let metadata = &model.metadata;
    let backbone_path = backbone::resolve(options.backbone, &metadata.backbone, Some(path))?;
    let file = BackboneFile::read(&backbone_path)?;
    if file.sha256 != metadata.backbone_sha256 {
        let source = BackboneError::NotTheModels {
            model: path.to_path_buf(),
            name: metadata.backbone.clone(),
            found: file.sha256,
            needed: metadata.backbone_sha256.clone(),
        };
        return Err(Error::backbone(backbone_path, source));
    }
    let tile = metadata.tiles.tile(metadata.input_size);
    let tile = tile.map_err(|source| {
        let field = "tiles";
        Error::model(path, ModelError::Geometry { field, source })
    })?;
    Backbone::new(&file, &metadata.taps, tile, options.runtime)
}

impl Detector {
    /// Opens a model file with its backbone.
    ///
    /// # Errors
    /// [`Error::Model`] for a file that is missing, damaged or does not fit its backbone; [`Error::Backbone`] for a backbone that is
    /// missing, is another one than the model was fitted with, or lacks a tap; [`Error::Runtime`] without ONNX Runtime.
    pub fn open(path: &Path, options: Options<'_>) -> Result<Self> {
        let model = ModelFile::read(path)?;
        let backbone = open_backbone(&model, path, options)?;
        Self::new(model, backbone).map_err(|source| Error::model(path, source))
    }

    /// Joins a model and a backbone that was made for its taps and input size.
    ///
    /// # Errors
    /// What in the model does not fit the backbone's taps.
    pub fn new(model: ModelFile, backbone: Backbone) -> Result<Self, ModelError> {
        let metadata = &model.metadata;
        let recipe = Recipe {
            method: metadata.method,
            preset: metadata.preset,
        };
        let channels = metadata.channels.as_deref();
        let features = recipe.features(backbone.shapes(), channels, metadata.tiles)?;
        let shape = features.shape();
        let head = recipe.load(shape, &model.tensors())?;
        let head_bytes = model.head_bytes();
        let finder = PartFinder::new(&model)?;
        // The head has what it needs of the tensors: from here on they would be there twice.
        let ModelFile {
            metadata,
            calibration,
            ..
        } = model;
        let map = AnomalyMap::new(
            shape.grid,
            metadata.map_size,
            metadata.map_sigma,
            metadata.map_offset,
        );
        let mut scorer = Scorer::new(head, map, metadata.image_score());
        if let Some(judged) = metadata.judged(shape.positions())? {
            scorer.judge_only(&judged);
        }
        let level = metadata.light_level;
        let leveller =
            level.map(|_| Leveller::new(level, metadata.input_size, metadata.normalization));
        Ok(Self {
            metadata,
            calibration,
            head_bytes,
            inspector: Inspector {
                backbone,
                embedding: Embedding::new(shape),
                features,
                leveller,
                scorer,
                timing: Timing::default(),
            },
            finder,
        })
    }

    /// Inspects one image (3 x height x width of [`Detector::input`], RGB, normalised, row-major) and returns the image score
    /// (`ImageScore`); of a model that locates its parts, that of the highest whole part, and 0 where there is none.
    ///
    /// # Errors
    /// ONNX Runtime fails, or the score is not a number.
    pub fn inspect(&mut self, image: ArrayView3<'_, f32>) -> Result<f32, InferenceError> {
        let start = Instant::now();
        self.inspector.timing = Timing::default();
        match &mut self.finder {
            Some(finder) => {
                let score = finder.inspect(image, &mut self.inspector)?;
                let timing = &mut self.inspector.timing;
                let others = timing.backbone + timing.head + timing.map;
                timing.locate = start.elapsed().saturating_sub(others);
                Ok(score)
            }
            None => self.inspector.inspect(image),
        }
    }

    /// Head and map once more on the features of the last inspection, or of its last part: all of it but the backbone. Allocates nothing.
    pub fn rescore(&mut self) -> f32 {
        self.inspector.timing = Timing::default();
        self.inspector.rescore()
    }

    /// The anomaly map of the last inspection, height x width, row-major.
    pub fn map(&self) -> ArrayView2<'_, f32> {
        match &self.finder {
            Some(finder) => finder.map(),
            None => self.inspector.scorer.map().values(),
        }
    }

    /// The parts of the last map above `threshold`, strongest first; none exactly where the score is not above it.
    pub fn regions(&mut self, threshold: f32) -> &[Region] {
        match &mut self.finder {
            Some(finder) => finder.regions(threshold),
            None => self.inspector.scorer.map_mut().regions(threshold),
        }
    }

    /// The map of an image that was scored elsewhere, by a head that has not seen it, as this model shows maps: of a part, where the part lies
    /// in the scene.
    #[cfg(feature = "cli")]
    pub(crate) fn laid<'a>(
        &'a mut self,
        scene: ArrayView3<'_, f32>,
        map: ArrayView2<'a, f32>,
        score: f32,
    ) -> ArrayView2<'a, f32> {
        match &mut self.finder {
            Some(finder) => finder.lay(scene, map, score),
            None => map,
        }
    }

    /// The parts that the last inspection found; `None` for a model that looks at whole frames.
    pub fn parts(&self) -> Option<&[Part]> {
        self.finder.as_ref().map(PartFinder::parts)
    }

    /// How many parts of the last frame could not be located, and are not judged, though the frame's edge does not cut them.
    pub fn unlocated(&self) -> usize {
        let parts = self.parts().unwrap_or_default().iter();
        let unlocated = parts.filter(|part| part.verdict == Verdict::NotLocated);
        unlocated.count()
    }

    /// Why the last frame may show parts that were not found: a good score says nothing of it then.
    pub fn doubt(&self) -> Option<Doubt> {
        self.finder.as_ref().and_then(PartFinder::doubt)
    }

    /// Stage times of the last inspection.
    pub fn timing(&self) -> Timing {
        self.inspector.timing
    }

    /// Size of image tensors.
    pub fn input(&self) -> Input {
        self.metadata.input()
    }

    /// Bytes of the backbone's graph as cut for this model.
    pub fn backbone_bytes(&self) -> usize {
        self.inspector.backbone.bytes()
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
