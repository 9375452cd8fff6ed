//! From good images to a model: features, head, and a threshold from images that the head has not seen.

use super::Options;
use super::anomaly_map::AnomalyMap;
use super::backbone::{Backbone, BackboneFile, Normalization, TapShape};
use super::calibration::Calibration;
use super::device::Device;
use super::embedding::Embedding;
use super::error::{Error, Result};
use super::heads::{HeadFitter, Preset, Progress, Recipe};
use super::model_file::{
    FORMAT_VERSION, HeadTensor, Metadata, ModelFile, Quantiles, RESIZE, TensorReader,
};
use super::samples::{self, Samples};
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
    /// Height and width of the image tensor.
    pub input_size: [usize; 2],
    /// x, y, width, height in 0..1 of the frame.
    pub roi: [f32; 4],
    /// Rate that the threshold is set for; `None`: 0.01, or what the number of images supports.
    pub false_reject_rate: Option<f64>,
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
        let [height, width] = options.input_size;
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
            .embedding(backbone.shapes(), channels.as_deref())
            .map_err(Error::Fit)?;
        let head = options.recipe.fitter(&embedding)?;
        Ok(Self {
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
        let embedding = &mut self.embedding;
        self.backbone.run(image, |taps| embedding.fill(taps))?;
        // What is taken out of the statistics for a fold has to be exactly what went in: both get the rounded values.
        let patches = embedding.to_patches();
        if patches.iter().any(|value| !value.is_finite()) {
            return Err(Error::Inference(
                "a feature is not a finite number, or beyond 65504, the largest 16-bit float; choose other --taps".into(),
            ));
        }
        self.head.add(&patches);
        self.samples.add(self.images % FOLDS, &patches);
        self.images += 1;
        Ok(())
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
        let map_sigma = self.options.recipe.map_sigma();
        let map_size = self
            .options
            .input_size
            .map(|side| (side / MAP_SCALE).max(1));
        let map_offset = match self.options.recipe.preset {
            // The published code does not shift its maps.
            Preset::Paper => 0.0,
            Preset::Default => {
                self.backbone.patch_offset() * map_size[1] as f32
                    / self.options.input_size[1] as f32
            }
        };
        let map = AnomalyMap::new(
            self.embedding.grid(),
            (map_size[0], map_size[1]),
            map_sigma,
            map_offset,
        );
        let mut scores = vec![0.0; self.samples.images()];
        for fold in 0..FOLDS {
            progress("setting the threshold", fold, FOLDS);
            // Scored as they would be after storing, so that the threshold holds for what runs.
            let tensors = self
                .head
                .fit(&self.samples, Some(fold), &mut |_, _, _| ())?;
            for (image, score) in self.score_fold(fold, &tensors, &map)? {
                scores[image] = score;
            }
        }
        let calibration = Calibration::new(scores)?;
        let false_reject_rate = self
            .options
            .false_reject_rate
            .unwrap_or_else(|| calibration.default_rate());
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
            input_size: self.options.input_size,
            resize: RESIZE.into(),
            normalization: self.backbone.normalization(),
            roi: self.options.roi,
            map_size,
            map_sigma,
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
