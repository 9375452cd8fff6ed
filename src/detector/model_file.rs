//! The `.vadlite` file: a safetensors file whose metadata says how to inspect and whose tensors are the head's.
//!
//! Reading checks everything before anything is used, and runs no code.

use super::calibration::Calibration;
use super::error::{Error, FitError, ModelError, Result};
use super::head_tensors::{HEAD_PREFIX, HeadTensor, TensorReader};
use super::image_score::ImageScore;
use super::method::{Method, Preset};
use super::taps::Normalization;
use super::unusual::{Trade, Tried, Unusual};
use crate::fs::{self, Durability};
use crate::geometry::{Grid, Input, Roi, Size};
use crate::locate::PartModel;
use ndarray::Array2;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::Path;

/// Version of this format, and the oldest that is read; files of others are refused. With version 2 came the image score of several
/// patches, masks, levels of light and parts, which who reads version 1 would leave out without a word.
pub const FORMAT_VERSION: u32 = 2;
const OLDEST_VERSION: u32 = 1;
/// The one way in which images are brought to the input size: every component with a triangle filter that widens with the scale.
pub const RESIZE: &str = "bilinear-antialias";
/// Key of the JSON document in the safetensors metadata.
const METADATA_KEY: &str = "vadlite";
const CALIBRATION_SCORES: &str = "calibration.scores";
const TEMPLATE: &str = "locate.template";
/// Larger inputs, maps or folders of taps than any camera or network asks for point to a damaged file.
const LARGEST_SIDE: usize = 8192;
/// The first layers of a backbone need some hundred times this many bytes.
const LARGEST_AREA: usize = 2048 * 2048;

/// What stands in the file besides the tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    pub format_version: u32,
    /// Version of the program that made the file.
    pub vadlite_version: String,
    /// Time of making, RFC 3339.
    pub created: String,
    pub method: Method,
    pub preset: Preset,
    /// File name of the backbone, and the SHA-256 of that file.
    pub backbone: String,
    pub backbone_sha256: String,
    pub taps: Vec<String>,
    /// The channels taken, by their numbers among those of all taps; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<usize>>,
    /// Columns and rows of the tiles that the image tensor is cut into for the backbone; absent: one.
    #[serde(default = "one_tile", skip_serializing_if = "is_one_tile")]
    pub tiles: Grid,
    /// Size of the image tensor, all tiles together.
    pub input_size: Size,
    pub resize: String,
    pub normalization: Normalization,
    /// The inspected part of the frame.
    pub roi: Roi,
    /// Which patches are judged, row by row: 1, and 0 for those that a mask leaves out; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judged: Option<String>,
    /// The mean level that images are brought to before anything else, in 0..1 of white; absent: they are taken as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub light_level: Option<f32>,
    /// Share of good images that would be flagged where the light is 15 % brighter or darker, 0..1; absent: it was not tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub light_rejects: Option<f64>,
    /// What locates the parts, each of which makes an image tensor; absent: the frame, or its inspected part, makes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartModel>,
    /// Why there are parts to locate, or why there are none; absent: it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub located: Option<String>,
    /// Size of the anomaly map, and in its pixels: the smoothing, and how far to the right of and below the centre of its
    /// cell a patch looks.
    pub map_size: Size,
    pub map_sigma: f32,
    pub map_offset: f32,
    /// The image score is the mean of so many of the highest patch scores; absent: it is the map's maximum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub highest_patches: Option<usize>,
    /// Number of good images that the head was fitted on.
    pub good_images: usize,
    /// Good images that are copies of others: held out together with them, and not counted for the threshold.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copies: usize,
    /// Images among those shown that the model was not fitted on, as they are foreign or unusual.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: usize,
    /// Bits that the 16-bit samples of the good images use; absent: all, or there were no such images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_bits: Option<u8>,
    /// The most frequent size of the good images; absent: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<Size>,
    /// Number of folds that the calibration scores come from: each fold scored by a head fitted on the others. 0: from images that the
    /// head was not fitted on.
    pub calibration_folds: usize,
    /// Scores below which a fraction of the held-out good images lies.
    pub calibration_quantiles: Quantiles,
    pub false_reject_rate: f64,
    /// Raw score above which a frame is flagged.
    pub threshold: f32,
    /// The methods that were tried, where one was chosen.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tried: Vec<Tried>,
    /// What other rates would cost and bring.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trades: Vec<Trade>,
    /// The good images that are least like the others, first those that were left out, each list from the most unusual on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unusual: Vec<Unusual>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    pub min: f32,
    pub p50: f32,
    pub p90: f32,
    pub p95: f32,
    pub p99: f32,
    pub max: f32,
}

impl Quantiles {
    pub fn of(calibration: &Calibration) -> Self {
        let at = |q| calibration.quantile(q);
        Self {
            min: at(0.0),
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            max: at(1.0),
        }
    }
}

/// A model: what it says of itself, its head's tensors, and the scores behind its threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFile {
    pub metadata: Metadata,
    pub calibration: Calibration,
    /// The mean picture of upright parts, where parts are located: grey levels, height x width.
    pub template: Option<Array2<u8>>,
    tensors: Vec<HeadTensor>,
}

impl ModelFile {
    pub fn new(metadata: Metadata, calibration: Calibration, tensors: Vec<HeadTensor>) -> Self {
        Self {
            metadata,
            calibration,
            template: None,
            tensors,
        }
    }

    /// Sets the threshold anew from scores of good images that the head was not fitted on.
    ///
    /// # Errors
    /// There are too few of them for the rate.
    pub fn recalibrate(
        &mut self,
        calibration: Calibration,
        false_reject_rate: f64,
    ) -> Result<(), FitError> {
        self.metadata.threshold = calibration.threshold(false_reject_rate)?;
        self.metadata.false_reject_rate = false_reject_rate;
        self.metadata.calibration_folds = 0;
        // Those were of the scores before.
        self.metadata.trades.clear();
        self.metadata.calibration_quantiles = Quantiles::of(&calibration);
        self.calibration = calibration;
        Ok(())
    }

    /// Bytes of all the head's tensors as stored.
    pub fn head_bytes(&self) -> usize {
        self.tensors.iter().map(|tensor| tensor.data.len()).sum()
    }

    /// The head's tensors, to be read with checks.
    pub fn tensors(&self) -> TensorReader<'_> {
        TensorReader::new(&self.tensors)
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// A value cannot be written (a number that is not finite).
    pub fn to_bytes(&self) -> Result<Vec<u8>, FitError> {
        let json = serde_json::to_string(&self.metadata)
            .map_err(|error| FitError::Serialize(error.into()))?;
        let scores: Vec<u8> = self
            .calibration
            .scores()
            .iter()
            .flat_map(|score| score.to_le_bytes())
            .collect();
        let mut views = vec![(
            CALIBRATION_SCORES.to_owned(),
            Dtype::F32,
            vec![self.calibration.scores().len()],
            scores.as_slice(),
        )];
        if let Some(template) = &self.template {
            let (height, width) = template.dim();
            let bytes = template.as_slice().unwrap_or_default();
            views.push((TEMPLATE.to_owned(), Dtype::U8, vec![height, width], bytes));
        }
        views.extend(self.tensors.iter().map(|t| {
            (
                format!("{HEAD_PREFIX}{}", t.name),
                t.dtype,
                t.shape.clone(),
                t.data.as_slice(),
            )
        }));
        let views = views
            .into_iter()
            .map(|(name, dtype, shape, data)| {
                Ok((
                    name,
                    TensorView::new(dtype, shape, data)
                        .map_err(|error| FitError::Serialize(error.into()))?,
                ))
            })
            .collect::<Result<Vec<_>, FitError>>()?;
        let metadata = HashMap::from([(METADATA_KEY.to_owned(), json)]);
        safetensors::serialize(views, Some(metadata))
            .map_err(|error| FitError::Serialize(error.into()))
    }

    /// Writes the file so that at every moment either the old or the new one is there, whole.
    ///
    /// # Errors
    /// [`Error::Model`] where the folder cannot be written to.
    pub fn write(&self, path: &Path) -> Result<()> {
        let bytes = self.to_bytes()?;
        fs::replace(path, Durability::Synced, |file| file.write_all(&bytes))
            .map_err(|error| Error::model(path, ModelError::Write(error)))
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`Error::Model`] that says what is wrong with it.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes =
            std::fs::read(path).map_err(|error| Error::model(path, ModelError::Read(error)))?;
        Self::from_bytes(&bytes).map_err(|error| Error::model(path, error))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        if bytes.is_empty() {
            return Err(ModelError::Empty);
        }
        let (_, header) =
            SafeTensors::read_metadata(bytes).map_err(|error| ModelError::Damaged(error.into()))?;
        let json = header
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get(METADATA_KEY))
            .ok_or(ModelError::NoMetadata)?;
        // The version first, so that a file of another version is not called damaged.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version: Version =
            serde_json::from_str(json).map_err(|error| ModelError::Damaged(error.into()))?;
        if !(OLDEST_VERSION..=FORMAT_VERSION).contains(&version.format_version) {
            return Err(ModelError::Version {
                found: version.format_version,
                known: FORMAT_VERSION,
            });
        }
        let metadata: Metadata =
            serde_json::from_str(json).map_err(|error| ModelError::Damaged(error.into()))?;
        metadata.check()?;
        let safetensors =
            SafeTensors::deserialize(bytes).map_err(|error| ModelError::Damaged(error.into()))?;
        let mut scores = None;
        let mut template = None;
        let mut tensors = Vec::new();
        for (name, view) in safetensors.iter() {
            if name == CALIBRATION_SCORES && view.dtype() == Dtype::F32 {
                scores = Some(
                    view.data()
                        .chunks_exact(4)
                        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                        .collect(),
                );
            } else if name == TEMPLATE && view.dtype() == Dtype::U8 {
                if let [height, width] = *view.shape() {
                    template = Array2::from_shape_vec((height, width), view.data().to_vec()).ok();
                }
            } else if let Some(name) = name.strip_prefix(HEAD_PREFIX) {
                tensors.push(HeadTensor {
                    name: name.into(),
                    dtype: view.dtype(),
                    shape: view.shape().to_vec(),
                    data: view.data().to_vec(),
                });
            }
        }
        tensors.sort_by(|a, b| a.name.cmp(&b.name));
        let scores = scores.ok_or(ModelError::Value("it lacks the tensor calibration.scores"))?;
        let calibration =
            Calibration::new(scores).map_err(|error| ModelError::Calibration(error.into()))?;
        Ok(Self {
            metadata,
            calibration,
            template,
            tensors,
        })
    }
}

impl Metadata {
    /// Calls the good images by their names rather than by their numbers, in the order in which they came.
    pub fn name_images(&mut self, names: &[String]) {
        for unusual in &mut self.unusual {
            unusual.file = unusual.frame.and_then(|number| names.get(number).cloned());
            unusual.frame = unusual.frame.filter(|_| unusual.file.is_none());
        }
        for trade in &mut self.trades {
            let number: Option<usize> = trade.set_by.as_deref().and_then(|text| text.parse().ok());
            if let Some(name) = number.and_then(|number| names.get(number)) {
                trade.set_by = Some(name.clone());
            }
        }
    }

    /// Which of so many patches are judged, where not all are.
    ///
    /// # Errors
    /// The file says so of another number of patches, or of none.
    pub fn judged(&self, patches: usize) -> Result<Option<Vec<bool>>, ModelError> {
        let Some(judged) = &self.judged else {
            return Ok(None);
        };
        let known = judged.bytes().all(|byte| matches!(byte, b'0' | b'1'));
        if !known || judged.len() != patches || !judged.contains('1') {
            return Err(ModelError::Value(
                "judged does not say 0 or 1 of each patch, and 1 of some",
            ));
        }
        Ok(Some(judged.bytes().map(|byte| byte == b'1').collect()))
    }

    /// What size image tensors have.
    pub fn input(&self) -> Input {
        match &self.part {
            Some(part) => Input::Scene {
                longest: part.scene,
                roi: self.roi,
                frame: self.image_size,
            },
            None => Input::Fixed(self.input_size),
        }
    }

    /// What of the patch scores is the image score.
    pub fn image_score(&self) -> ImageScore {
        self.highest_patches
            .map_or(ImageScore::MapMaximum, ImageScore::HighestPatches)
    }

    fn check(&self) -> Result<(), ModelError> {
        let side = |field, size: Size| {
            let sides = [size.height, size.width];
            match sides.iter().all(|side| (1..=LARGEST_SIDE).contains(side))
                && size.area() <= LARGEST_AREA
            {
                true => Ok(()),
                false => Err(ModelError::Size {
                    field,
                    size: sides,
                    side: LARGEST_SIDE,
                    area: LARGEST_AREA,
                }),
            }
        };
        side("input_size", self.input_size)?;
        side("map_size", self.map_size)?;
        let geometry = |field| move |source| ModelError::Geometry { field, source };
        self.tiles
            .tile(self.input_size)
            .map_err(geometry("tiles"))?;
        let numbers = [self.threshold, self.map_sigma, self.map_offset]
            .into_iter()
            .chain(self.normalization.mean)
            .chain(self.normalization.std);
        if numbers.into_iter().any(|number| !number.is_finite())
            || !(0.0..=64.0).contains(&self.map_sigma)
            || !(-64.0..=64.0).contains(&self.map_offset)
        {
            return Err(ModelError::Value(
                "threshold, map_sigma, map_offset or normalization is not a number in its range",
            ));
        }
        if self.normalization.std.iter().any(|&std| std <= 0.0) {
            return Err(ModelError::Value(
                "normalization.std holds a number that is not positive",
            ));
        }
        self.roi.check().map_err(geometry("roi"))?;
        if self
            .sample_bits
            .is_some_and(|bits| !(8..=16).contains(&bits))
        {
            return Err(ModelError::Value("sample_bits is not between 8 and 16"));
        }
        if self
            .light_level
            .is_some_and(|level| !(level > 0.0 && level <= 1.0))
        {
            return Err(ModelError::Value("light_level is not in 0..1"));
        }
        if self.part.is_some_and(|part| !part.is_sound()) {
            return Err(ModelError::Value(
                "part holds a number outside of its range",
            ));
        }
        let sides = [self.input_size.height, self.input_size.width];
        if self.part.is_some() && sides.iter().any(|side| !side.is_multiple_of(32)) {
            return Err(ModelError::Value(
                "input_size is no multiple of 32, as that of a part is",
            ));
        }
        if self.part.is_some() && self.tiles != Grid::ONE {
            return Err(ModelError::Value("it has both tiles and parts"));
        }
        if self.highest_patches == Some(0) {
            return Err(ModelError::Value("highest_patches is 0"));
        }
        if self.resize != RESIZE {
            return Err(ModelError::Resize {
                found: self.resize.clone(),
                known: RESIZE,
            });
        }
        if self.taps.is_empty() || self.backbone.is_empty() || self.backbone.contains('/') {
            return Err(ModelError::Value(
                "it names no taps, or no file name of a backbone",
            ));
        }
        Ok(())
    }
}

fn one_tile() -> Grid {
    Grid::ONE
}

fn is_one_tile(tiles: &Grid) -> bool {
    *tiles == Grid::ONE
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}
