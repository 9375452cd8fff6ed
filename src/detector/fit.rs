//! From good images to a model: features, head, and a threshold from images that the head has not seen.

use super::anomaly_map::AnomalyMap;
use super::backbone::{Backbone, BackboneFile, RuntimeOptions};
use super::calibration::Calibration;
use super::embedding::Embedding;
use super::error::{FitError, InferenceError, Result};
use super::features::Features;
use super::head_tensors::{HeadTensor, TensorReader};
use super::heads::{HeadFitter, Recipe};
use super::method::Preset;
use super::model_file::{FORMAT_VERSION, Metadata, ModelFile, Quantiles, RESIZE};
use super::near_copies::{Groups, Look, groups};
use super::progress::{Cancel, Progress};
use super::samples::{self, Samples};
use super::scorer::{ImageScore, Scorer};
use super::taps::{Normalization, TapShape};
use crate::geometry::{Grid, Roi, Size};
use ndarray::ArrayView3;
use rayon::prelude::*;
use std::path::Path;
use std::time::SystemTime;

/// Fewer good images than this say too little about what varies.
pub const FEWEST_IMAGES: usize = 10;
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
    pub tiles: Grid,
    /// Size of the image tensor, all tiles together.
    pub input_size: Size,
    /// The inspected part of the frame.
    pub roi: Roi,
    /// Rate that the threshold is set for; `None`: 0.01, or what the number of images supports.
    pub false_reject_rate: Option<f64>,
    /// How many images will come where they are frames of one video. A frame's neighbours tell a head about it: it is then scored by a
    /// head that has not seen a whole stretch of the video around it. `None`: the images do not depend on each other.
    pub video_of: Option<usize>,
    pub runtime: RuntimeOptions<'a>,
}

impl<'a> FitOptions<'a> {
    /// Of whole frames as one image tensor of 224 x 224 pixels, the rest as the method has it.
    pub fn new(recipe: Recipe, backbone: &'a Path) -> Self {
        Self {
            recipe,
            backbone,
            taps: Vec::new(),
            dimensions: None,
            tiles: Grid::ONE,
            input_size: Size::square(224),
            roi: Roi::WHOLE,
            false_reject_rate: None,
            video_of: None,
            runtime: RuntimeOptions::default(),
        }
    }
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
    /// What the images look like, where they may be copies of each other: of none where they are frames of one video.
    looks: Vec<Look>,
    /// Once they have been asked for.
    groups: Option<Groups>,
    images: usize,
    sample_bits: Option<u8>,
    image_size: Option<Size>,
}

impl<'a> Fitter<'a> {
    /// # Errors
    /// As [`Backbone::new`]; tiles, dimensions or taps that do not fit each other.
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
        let tile = options
            .tiles
            .tile(options.input_size)
            .map_err(FitError::from)?;
        let backbone = Backbone::new(&file, &options.taps, tile, options.runtime)?;
        let channels = match options.dimensions {
            Some(count) => Some(random_channels(backbone.shapes(), count)?),
            None => None,
        };
        let features = options
            .recipe
            .features(backbone.shapes(), channels.as_deref(), options.tiles)
            .map_err(FitError::from)?;
        let shape = features.shape();
        let head = options.recipe.fitter(shape)?;
        Ok(Self {
            features,
            options,
            backbone_name: file.name(),
            backbone_sha256: file.sha256,
            backbone,
            channels,
            samples: Samples::new(shape, samples::BYTES),
            embedding: Embedding::new(shape),
            head,
            looks: Vec::new(),
            groups: None,
            images: 0,
            sample_bits: None,
            image_size: None,
        })
    }

    /// The normalisation that images have to come in.
    pub fn normalization(&self) -> Normalization {
        self.backbone.normalization()
    }

    /// Takes in one good image (3 x height x width, normalised).
    ///
    /// # Errors
    /// ONNX Runtime fails, or computes features that are not finite.
    pub fn add(&mut self, image: ArrayView3<'_, f32>) -> Result<(), InferenceError> {
        self.features
            .extract(&mut self.backbone, image, &mut self.embedding)?;
        // What is taken out of the statistics for a fold has to be exactly what went in: both get the rounded values.
        let patches = self.embedding.to_patches();
        if patches.iter().any(|value| !value.is_finite()) {
            return Err(InferenceError::Feature);
        }
        let folds = self.options.recipe.folds();
        let fold = match self.options.video_of {
            Some(frames) => (self.images * folds / frames.max(1)).min(folds - 1),
            None => {
                self.looks.push(Look::new(image, self.normalization()));
                self.images % folds
            }
        };
        self.groups = None;
        self.head.add(&patches);
        self.samples.add(fold, &patches);
        self.images += 1;
        Ok(())
    }

    /// What the model is to say of the files: the bits that 16-bit samples use, where there are such, and the most frequent size.
    pub fn describe_files(&mut self, sample_bits: Option<u8>, image_size: Option<Size>) {
        (self.sample_bits, self.image_size) = (sample_bits, image_size);
    }

    /// Which of the images so far are copies of each other; of none where they are frames of one video.
    pub fn groups(&mut self) -> &Groups {
        self.groups.get_or_insert_with(|| groups(&self.looks))
    }

    /// Leaves out images that are not like the others (a hand, another product) and returns how many these were: those whose held-out
    /// score lies further above the upper quartile than three times the distance of the quartiles, in logarithms (the outer fence of
    /// Tukey 1977), and above three times the score that a tenth of the images exceed: what is rare but good, as a part that just enters
    /// the picture, has to stay, or the threshold would be too low. Of more images than are held none is left out.
    ///
    /// # Errors
    /// As [`Fitter::finish`].
    pub fn leave_out_outliers(&mut self, progress: &mut Progress<'_>) -> Result<usize> {
        if self.images < FEWEST_IMAGES || self.samples.images() < self.images {
            return Ok(0);
        }
        let scores = self.held_out_scores(progress)?;
        let fence = outer_fence(&scores);
        let outliers = scores.iter().filter(|score| **score > fence).count();
        if outliers == 0 {
            return Ok(0);
        }
        let shape = self.embedding.shape();
        let mut head = self.options.recipe.fitter(shape)?;
        let mut samples = Samples::new(shape, samples::BYTES);
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
        let mut kept = scores.iter().map(|score| *score <= fence);
        self.looks.retain(|_| kept.next().unwrap_or(true));
        self.groups = None;
        self.images -= outliers;
        Ok(outliers)
    }

    /// Fits the head on all images and sets the threshold, from 1 GiB of their embeddings where they are very many. Gives the
    /// backbone back for use with the model.
    ///
    /// Images that are copies of each other are held out together, and count as one for the threshold: a score that owes its height to a
    /// copy in the fit says nothing of an image that is new, and the same score twice no more than once.
    ///
    /// # Errors
    /// Too few images that differ, a false reject rate that they do not support, or an end that was asked for.
    pub fn finish(mut self, progress: &mut Progress<'_>) -> Result<(ModelFile, Backbone)> {
        if self.images < FEWEST_IMAGES {
            return Err(FitError::TooFewImages {
                images: self.images,
                fewest: FEWEST_IMAGES,
            }
            .into());
        }
        let groups = self.groups().clone();
        if !self.looks.is_empty() {
            if groups.count < FEWEST_IMAGES {
                return Err(FitError::TooFewDistinct {
                    images: self.images,
                    distinct: groups.count,
                    fewest: FEWEST_IMAGES,
                }
                .into());
            }
            let folds = folds_of(&groups, self.options.recipe.folds());
            self.samples.put_into_folds(|image| folds[groups.of[image]]);
        }
        let tensors = self.head.fit(&self.samples, None, progress)?;
        let mut scores = self.held_out_scores(progress)?;
        if groups.copies() > 0 {
            scores = one_of_each(&scores, self.samples.numbers(), &groups);
        }
        let calibration = Calibration::new(scores)?;
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
            highest_patches: match self.options.recipe.image_score() {
                ImageScore::MapMaximum => None,
                ImageScore::HighestPatches(count) => Some(count),
            },
            good_images: self.images,
            copies: groups.copies(),
            sample_bits: self.sample_bits,
            image_size: self.image_size,
            calibration_folds: self.options.recipe.folds(),
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
    /// Size of the anomaly map.
    fn map_size(&self) -> Size {
        let halved = |side: usize| (side / MAP_SCALE).max(1);
        self.options.input_size.map(halved)
    }

    /// How far the map is shifted to where the patches look, in its pixels.
    fn map_offset(&self) -> f32 {
        match self.options.recipe.preset {
            // The published code does not shift its maps.
            Preset::Paper => 0.0,
            Preset::Default => {
                self.backbone.patch_offset() * self.map_size().width as f32
                    / self.options.input_size.width as f32
            }
        }
    }

    /// The score of every image held, by a head that was fitted on the other folds.
    fn held_out_scores(&mut self, progress: &mut Progress<'_>) -> Result<Vec<f32>> {
        let map = AnomalyMap::new(
            self.embedding.shape().grid,
            self.map_size(),
            self.options.recipe.map_sigma(),
            self.map_offset(),
        );
        let mut scores = vec![0.0; self.samples.images()];
        let folds = self.options.recipe.folds();
        for fold in 0..folds {
            progress.at("setting the threshold", fold, folds)?;
            if !self.samples.folds().contains(&fold) {
                continue;
            }
            // Scored as they would be after storing, so that the threshold holds for what runs.
            let silent = &mut progress.silent();
            let tensors = self.head.fit(&self.samples, Some(fold), silent)?;
            for (image, score) in self.score_fold(fold, &tensors, &map, progress.cancel())? {
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
        cancel: &Cancel,
    ) -> Result<Vec<(usize, f32)>, FitError> {
        let folds = self.samples.folds().iter().enumerate();
        let images: Vec<usize> = folds
            .filter(|(_, of)| **of == fold)
            .map(|(image, _)| image)
            .collect();
        let bytes: usize = tensors.iter().map(HeadTensor::bytes).sum();
        let heads = (HEADS_BYTES / bytes.max(1)).clamp(1, rayon::current_num_threads());
        let parts = images.par_chunks(images.len().div_ceil(heads).max(1));
        let (recipe, shape, samples) = (self.options.recipe, self.embedding.shape(), &self.samples);
        let scores = parts.map(|images| {
            let head = recipe.load(shape, &TensorReader::new(tensors))?;
            let mut scorer = Scorer::new(head, map.clone(), recipe.image_score());
            let mut embedding = Embedding::new(shape);
            let score = |&image: &usize| {
                cancel.check()?;
                samples.restore(image, &mut embedding);
                Ok((image, scorer.score(&embedding)))
            };
            images.iter().map(score).collect()
        });
        let scores: Vec<Vec<_>> = scores.collect::<Result<_, FitError>>()?;
        Ok(scores.concat())
    }
}

/// The fold of each group: always the one with the fewest images, so that groups of one image each go round.
fn folds_of(groups: &Groups, folds: usize) -> Vec<usize> {
    let mut sizes = vec![0usize; groups.count];
    for &group in &groups.of {
        sizes[group] += 1;
    }
    let mut filled = vec![0; folds];
    sizes
        .into_iter()
        .map(|size| {
            let fold = (0..folds).min_by_key(|&fold| filled[fold]).unwrap_or(0);
            filled[fold] += size;
            fold
        })
        .collect()
}

/// The score of the first image of each group, of those groups that are held whole: a copy that is not held cannot be taken out of the
/// fit. `numbers` are those of the images that have `scores`.
fn one_of_each(scores: &[f32], numbers: &[usize], groups: &Groups) -> Vec<f32> {
    let mut held = vec![None; groups.of.len()];
    for (&score, &number) in scores.iter().zip(numbers) {
        held[number] = Some(score);
    }
    let mut of_group: Vec<Option<Option<f32>>> = vec![None; groups.count];
    for (&group, &score) in groups.of.iter().zip(&held) {
        match (&mut of_group[group], score) {
            (first @ None, score) => *first = Some(score),
            (Some(first), None) => *first = None,
            (Some(_), Some(_)) => {}
        }
    }
    of_group.into_iter().flatten().flatten().collect()
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
fn random_channels(shapes: &[TapShape], count: usize) -> Result<Vec<usize>, FitError> {
    let all: usize = shapes.iter().map(|shape| shape[0]).sum();
    if count == 0 || count > all {
        return Err(FitError::Dimensions { wanted: count, all });
    }
    let mut channels = fastrand::Rng::with_seed(0).choose_multiple(0..all, count);
    channels.sort_unstable();
    Ok(channels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(of: &[usize]) -> Groups {
        Groups {
            of: of.to_vec(),
            count: of.iter().max().map_or(0, |last| last + 1),
            typical: 1.0,
        }
    }

    #[test]
    fn copies_share_a_fold_and_folds_stay_even() {
        // Without copies, as if there were none to look for.
        let folds = folds_of(&of(&(0..12).collect::<Vec<_>>()), 5);
        assert_eq!(folds, [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]);
        // The first image four times.
        let groups = of(&[0, 0, 0, 0, 1, 2, 3, 4, 5, 6]);
        let folds = folds_of(&groups, 5);
        assert_eq!(folds, [0, 1, 2, 3, 4, 1, 2]);
    }

    #[test]
    fn a_picture_counts_once_and_only_with_all_its_copies() {
        let groups = of(&[0, 1, 0, 2, 1, 3]);
        let scores = [5.0, 6.0, 7.0, 8.0, 9.0];
        // All but the last are held; then all but the fifth, a copy of the second.
        assert_eq!(
            one_of_each(&scores, &[0, 1, 2, 3, 4], &groups),
            [5.0, 6.0, 8.0]
        );
        assert_eq!(
            one_of_each(&scores, &[0, 1, 2, 3, 5], &groups),
            [5.0, 8.0, 9.0]
        );
    }
}
