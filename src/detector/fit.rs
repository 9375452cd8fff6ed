//! From good images to a model: features, head, and a threshold from images that the head has not seen.

use super::Options;
use super::anomaly_map::AnomalyMap;
use super::backbone::{Backbone, BackboneFile, Normalization, TapShape};
use super::calibration::Calibration;
use super::device::Device;
use super::embedding::Embedding;
use super::error::{Error, Result};
use super::head_tensors::{HeadTensor, TensorReader};
use super::heads::{HeadFitter, Preset, Progress, Recipe};
use super::model_file::{FORMAT_VERSION, Metadata, ModelFile, Quantiles, RESIZE};
use super::samples::{self, Samples};
use super::tiles::{Features, Tiles};
use rayon::prelude::*;
use std::path::Path;
use std::time::SystemTime;

/// Fewer good images than this say too little about what varies.
pub const FEWEST_IMAGES: usize = 10;
/// Every fold's images are scored by a head fitted on the other folds.
const FOLDS: usize = 5;
/// Bytes of the heads that score held-out images at a time.
const HEADS_BYTES: usize = 1 << 28;
/// Height and width of the anomaly map for a square input of 224: half the input, eight times the patch grid.
const MAP_SCALE: usize = 2;

/// What to fit and on what.
#[derive(Debug, Clone)]
pub struct FitOptions<'a> {
    pub recipe: Recipe,
    pub backbone: &'a Path,
    /// Names of the feature taps; empty: the method's own.
    pub taps: Vec<String>,
    /// How many of the taps' channels to take, at random (PaDiM, section III.A); `None`: all.
    pub dimensions: Option<usize>,
    /// Tiles that an image is cut into for the backbone.
    pub tiles: Tiles,
    /// Height and width of the image tensor, all tiles together.
    pub input_size: [usize; 2],
    /// x, y, width, height in 0..1 of the frame.
    pub roi: [f32; 4],
    /// Rate that the threshold is set for; `None`: 0.01, or what the number of images supports.
    pub false_reject_rate: Option<f64>,
    /// How many images will come where they are frames of one video. A frame's neighbours tell a head about it: it is then scored by a
    /// head that has not seen a whole stretch of the video around it. `None`: the images do not depend on each other.
    pub video_of: Option<usize>,
    /// 0: one per core.
    pub threads: usize,
    pub library: Option<&'a Path>,
    pub device: Device,
}

/// Takes in good images one by one and makes a [`ModelFile`] of them.
pub struct Fitter<'a> {
    options: FitOptions<'a>,
    backbone_name: String,
    backbone_sha256: String,
    backbone: Backbone,
    channels: Option<Vec<usize>>,
    embedding: Embedding,
    features: Features,
    head: Box<dyn HeadFitter>,
    samples: Samples,
    images: usize,
}

impl<'a> Fitter<'a> {
    /// # Errors
    /// [`Error::Runtime`] or [`Error::Backbone`] as in [`Backbone::new`].
    pub fn new(mut options: FitOptions<'a>) -> Result<Self> {
        if options.taps.is_empty() {
            options.taps = options
                .recipe
                .default_taps()
                .iter()
                .map(|&tap| tap.to_owned())
                .collect();
        }
        let file = BackboneFile::read(options.backbone)?;
        let [height, width] = options.tiles.part(options.input_size).map_err(Error::Fit)?;
        let backbone = Backbone::new(
            &file,
            &options.taps,
            (height, width),
            Options {
                backbone: None,
                threads: options.threads,
                library: options.library,
                device: options.device,
            },
        )?;
        let channels = match options.dimensions {
            Some(count) => Some(random_channels(backbone.shapes(), count)?),
            None => None,
        };
        let embedding = options
            .recipe
            .embedding(backbone.shapes(), channels.as_deref(), options.tiles)
            .map_err(Error::Fit)?;
        let head = options.recipe.fitter(&embedding)?;
        Ok(Self {
            features: Features::new(options.tiles),
            options,
            backbone_name: file.name(),
            backbone_sha256: file.sha256,
            backbone,
            channels,
            samples: Samples::new(&embedding, samples::BYTES),
            embedding,
            head,
            images: 0,
        })
    }

    /// The normalisation that images have to come in.
    pub fn normalization(&self) -> Normalization {
        self.backbone.normalization()
    }

    /// Takes in one good image (3 x height x width, normalised).
    ///
    /// # Errors
    /// [`Error::Inference`] where ONNX Runtime fails or computes features that are not finite.
    pub fn add(&mut self, image: &[f32]) -> Result<()> {
        self.features
            .extract(&mut self.backbone, image, &mut self.embedding)?;
        // What is taken out of the statistics for a fold has to be exactly what went in: both get the rounded values.
        let patches = self.embedding.to_patches();
        if patches.iter().any(|value| !value.is_finite()) {
            return Err(Error::Inference(
                "a feature is not a finite number, or beyond 65504, the largest 16-bit float; choose other --taps".into(),
            ));
        }
        let fold = match self.options.video_of {
            Some(frames) => (self.images * FOLDS / frames.max(1)).min(FOLDS - 1),
            None => self.images % FOLDS,
        };
        self.head.add(&patches);
        self.samples.add(fold, &patches);
        self.images += 1;
        Ok(())
    }

    /// Leaves out images that are not like the others (a hand, another product) and returns how many these were: those whose held-out
    /// score lies further above the upper quartile than three times the distance of the quartiles, in logarithms (the outer fence of
    /// Tukey 1977), and above three times the score that a tenth of the images exceed: what is rare but good, as a part that just enters
    /// the picture, has to stay, or the threshold would be too low. Of more images than are held none is left out.
    ///
    /// # Errors
    /// [`Error::Fit`] as [`Fitter::finish`].
    pub fn leave_out_outliers(&mut self, progress: Progress<'_>) -> Result<usize> {
        if self.images < FEWEST_IMAGES || self.samples.images() < self.images {
            return Ok(0);
        }
        let scores = self.held_out_scores(progress)?;
        let fence = outer_fence(&scores);
        let outliers = scores.iter().filter(|score| **score > fence).count();
        if outliers == 0 {
            return Ok(0);
        }
        let mut head = self.options.recipe.fitter(&self.embedding)?;
        let mut samples = Samples::new(&self.embedding, samples::BYTES);
        for (image, _) in scores
            .iter()
            .enumerate()
            .filter(|(_, score)| **score <= fence)
        {
            let patches = self.samples.image(image);
            head.add(patches);
            samples.add(self.samples.folds()[image], patches);
        }
        (self.head, self.samples) = (head, samples);
        self.images -= outliers;
        Ok(outliers)
    }

    /// Fits the head on all images and sets the threshold, from 1 GiB of their embeddings where they are very many. Gives the
    /// backbone back for use with the model.
    ///
    /// # Errors
    /// [`Error::Fit`] for too few images, or a false reject rate that they do not support.
    pub fn finish(mut self, progress: Progress<'_>) -> Result<(ModelFile, Backbone)> {
        if self.images < FEWEST_IMAGES {
            return Err(Error::Fit(format!(
                "{} usable good images; fitting needs at least {FEWEST_IMAGES}, and a few hundred for a good threshold",
                self.images
            )));
        }
        let tensors = self.head.fit(&self.samples, None, progress)?;
        let calibration = Calibration::new(self.held_out_scores(progress)?)?;
        let false_reject_rate = self
            .options
            .false_reject_rate
            .unwrap_or_else(|| calibration.default_rate());
        let (map_size, map_offset) = (self.map_size(), self.map_offset());
        let metadata = Metadata {
            format_version: FORMAT_VERSION,
            vadlite_version: env!("CARGO_PKG_VERSION").into(),
            created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            method: self.options.recipe.method,
            preset: self.options.recipe.preset,
            backbone: self.backbone_name,
            backbone_sha256: self.backbone_sha256,
            taps: self.options.taps,
            channels: self.channels,
            tiles: self.options.tiles,
            input_size: self.options.input_size,
            resize: RESIZE.into(),
            normalization: self.backbone.normalization(),
            roi: self.options.roi,
            map_size,
            map_sigma: self.options.recipe.map_sigma(),
            map_offset,
            good_images: self.images,
            calibration_folds: FOLDS,
            calibration_quantiles: Quantiles::of(&calibration),
            threshold: calibration.threshold(false_reject_rate)?,
            false_reject_rate,
        };
        Ok((
            ModelFile::new(metadata, calibration, tensors),
            self.backbone,
        ))
    }
}

impl Fitter<'_> {
    /// Height and width of the anomaly map.
    fn map_size(&self) -> [usize; 2] {
        self.options
            .input_size
            .map(|side| (side / MAP_SCALE).max(1))
    }

    /// How far the map is shifted to where the patches look, in its pixels.
    fn map_offset(&self) -> f32 {
        match self.options.recipe.preset {
            // The published code does not shift its maps.
            Preset::Paper => 0.0,
            Preset::Default => {
                self.backbone.patch_offset() * self.map_size()[1] as f32
                    / self.options.input_size[1] as f32
            }
        }
    }

    /// The score of every image held, by a head that was fitted on the other folds.
    fn held_out_scores(&mut self, progress: Progress<'_>) -> Result<Vec<f32>> {
        let [height, width] = self.map_size();
        let map = AnomalyMap::new(
            self.embedding.grid(),
            (height, width),
            self.options.recipe.map_sigma(),
            self.map_offset(),
        );
        let mut scores = vec![0.0; self.samples.images()];
        for fold in 0..FOLDS {
            progress("setting the threshold", fold, FOLDS);
            if !self.samples.folds().contains(&fold) {
                continue;
            }
            // Scored as they would be after storing, so that the threshold holds for what runs.
            let tensors = self
                .head
                .fit(&self.samples, Some(fold), &mut |_, _, _| ())?;
            for (image, score) in self.score_fold(fold, &tensors, &map)? {
                scores[image] = score;
            }
        }
        Ok(scores)
    }

    /// Image scores of the samples of one fold, on all cores, each with a head of its own as far as these are small.
    fn score_fold(
        &self,
        fold: usize,
        tensors: &[HeadTensor],
        map: &AnomalyMap,
    ) -> Result<Vec<(usize, f32)>> {
        let folds = self.samples.folds().iter().enumerate();
        let images: Vec<usize> = folds
            .filter(|(_, of)| **of == fold)
            .map(|(image, _)| image)
            .collect();
        let bytes: usize = tensors.iter().map(HeadTensor::bytes).sum();
        let heads = (HEADS_BYTES / bytes.max(1)).clamp(1, rayon::current_num_threads());
        let parts = images.par_chunks(images.len().div_ceil(heads).max(1));
        let (recipe, shape, samples) = (self.options.recipe, &self.embedding, &self.samples);
        let scores = parts.map(|images| {
            let head = recipe.load(shape, &TensorReader::new(tensors));
            let mut head = head.map_err(Error::Fit)?;
            let (mut map, mut embedding) = (map.clone(), shape.clone());
            let mut patch_scores = vec![0.0; embedding.positions()];
            let score = |&image: &usize| {
                samples.restore(image, &mut embedding);
                head.score(&embedding, &mut patch_scores);
                (image, map.update(&patch_scores) * head.image_weight())
            };
            Ok(images.iter().map(score).collect())
        });
        Ok(scores.collect::<Result<Vec<Vec<_>>>>()?.concat())
    }
}

/// The outer fence of scores, in logarithms: above it lies what is not like the rest.
fn outer_fence(scores: &[f32]) -> f32 {
    let mut logarithms: Vec<f32> = scores.iter().map(|score| score.max(1e-6).ln()).collect();
    logarithms.sort_by(f32::total_cmp);
    let quantile = |share: f64| logarithms[((logarithms.len() - 1) as f64 * share) as usize];
    let (lower, upper) = (quantile(0.25), quantile(0.75));
    let tukey = upper + 3.0 * (upper - lower);
    tukey.max(quantile(0.9) + 3.0f32.ln()).exp()
}

/// `count` of the taps' channels, the same ones every time.
fn random_channels(shapes: &[TapShape], count: usize) -> Result<Vec<usize>> {
    let all: usize = shapes.iter().map(|shape| shape[0]).sum();
    if count == 0 || count > all {
        return Err(Error::Fit(format!(
            "{count} dimensions were asked for, and the taps have 1 to {all}"
        )));
    }
    let mut channels = fastrand::Rng::with_seed(0).choose_multiple(0..all, count);
    channels.sort_unstable();
    Ok(channels)
}
