//! From good images to a model: features, head, and a threshold from images that the head has not seen.

mod choice;
mod cluster;
mod defects;
mod embedder;
pub(super) mod foreign;
mod held_out;
mod judged;
mod left_out;
mod same_light;
mod told;

pub use cluster::Cluster;
pub use defects::DefectScores;
pub use held_out::HeldOutMaps;
pub use same_light::{fit_in_other_light, rejects_other_light};

use super::anomaly_map::AnomalyMap;
use super::backbone::{Backbone, BackboneFile, RuntimeOptions};
use super::calibration::Calibration;
use super::embedding::EmbeddingShape;
use super::error::{FitError, InferenceError, Result};
use super::heads::{HeadFitter, Recipe};
use super::image_score::ImageScore;
use super::light::Leveller;
use super::method::Preset;
use super::model_file::{FORMAT_VERSION, Metadata, ModelFile, Quantiles, RESIZE};
use super::near_copies::{Groups, Look, groups};
use super::progress::Progress;
use super::samples::{self, Samples};
use super::taps::{Normalization, TapShape};
use super::unusual::{Tried, Unusual};
use crate::geometry::{Grid, Roi, Size};
use crate::locate::PartModel;
use choice::{Candidate, Choice, Folds, choose, share_above};
use defects::{Defect, Defects, Kind};
use embedder::Embedder;
use held_out::{HeldOut, Scoring};
use ndarray::{Array2, ArrayView3};
use std::path::Path;
use std::time::SystemTime;

/// Fewer good images than this say too little about what varies.
pub const FEWEST_IMAGES: usize = 10;
/// Height and width of the anomaly map for a square input of 224: half the input, eight times the patch grid.
const MAP_SCALE: usize = 2;

/// What to fit and on what.
#[derive(Debug, Clone)]
pub struct FitOptions<'a> {
    /// The methods to choose from, whose features are the same.
    pub recipes: Vec<Recipe>,
    pub backbone: &'a Path,
    /// Names of the feature taps; empty: the method's own.
    pub taps: Vec<String>,
    /// How many of the taps' channels to take, at random (PaDiM, section III.A); `None`: all.
    pub dimensions: Option<usize>,
    /// What locates the parts that the images show; each image is then one part upright, of its tensor's size. `None`: whole frames.
    pub part: Option<FittedPart>,
    /// Why parts are located, or are not.
    pub located: Option<String>,
    /// Tiles that an image is cut into for the backbone.
    pub tiles: Grid,
    /// Size of the image tensor, all tiles together.
    pub input_size: Size,
    /// The inspected part of the frame.
    pub roi: Roi,
    /// What is judged of the image tensor (height x width); `None`: all of it.
    pub mask: Option<Array2<bool>>,
    /// Rate that the threshold is set for; `None`: 0.01, or what the number of images supports.
    pub false_reject_rate: Option<f64>,
    /// How many images will come where they are frames of one video. A frame's neighbours tell a head about it: it is then scored by a
    /// head that has not seen a whole stretch of the video around it. `None`: the images do not depend on each other.
    pub video_of: Option<usize>,
    /// Whether to paint defects on the images, to choose by and to say what each rate finds; always where there is a choice.
    pub paint: bool,
    /// Whether to make good images brighter and darker, to say how many of them would be rejected.
    pub light: bool,
    /// Whether images are brought to one level of light.
    pub same_light: bool,
    pub runtime: RuntimeOptions<'a>,
}

impl<'a> FitOptions<'a> {
    /// Whose features and folds are those of all.
    fn first(&self) -> Recipe {
        self.recipes[0]
    }

    /// Of whole frames as one image tensor of 224 x 224 pixels, the rest as the method has it.
    pub fn new(recipe: Recipe, backbone: &'a Path) -> Self {
        Self {
            recipes: vec![recipe],
            backbone,
            taps: Vec::new(),
            dimensions: None,
            part: None,
            located: None,
            tiles: Grid::ONE,
            input_size: Size::square(224),
            roi: Roi::WHOLE,
            mask: None,
            false_reject_rate: None,
            video_of: None,
            paint: false,
            light: false,
            same_light: false,
            runtime: RuntimeOptions::default(),
        }
    }
}

/// What is known of a part and how to locate it.
#[derive(Debug, Clone)]
pub struct FittedPart {
    pub model: PartModel,
    /// The mean picture, grey levels, height x width.
    pub template: Array2<u8>,
}

/// What a fit comes to.
pub struct Finished {
    pub model: ModelFile,
    /// For use with the model.
    pub backbone: Backbone,
    /// With the method that was chosen.
    pub defects: DefectScores,
    pub maps: HeldOutMaps,
    /// Where the images that set the threshold are unusual, if in one place: of image scores that are means of patch scores.
    pub cluster: Option<Cluster>,
}

/// Takes in good images one by one and makes a [`ModelFile`] of them.
pub struct Fitter<'a> {
    options: FitOptions<'a>,
    backbone_name: String,
    backbone_sha256: String,
    embedder: Embedder,
    channels: Option<Vec<usize>>,
    /// Which patches are judged; empty: all.
    judged: Vec<bool>,
    /// One for each recipe.
    heads: Vec<Box<dyn HeadFitter>>,
    samples: Samples,
    /// What the images look like, where they may be copies of each other: of none where they are frames of one video.
    looks: Vec<Look>,
    /// Once they have been asked for.
    groups: Option<Groups>,
    defects: Defects,
    /// Of the images that are in: their numbers in the order in which all came.
    numbers: Vec<usize>,
    came: usize,
    /// Those that were left out.
    left_out: Vec<Unusual>,
    /// With each recipe, once it has been asked for.
    held_out: Option<Vec<HeldOut>>,
    sample_bits: Option<u8>,
    image_size: Option<Size>,
}

impl<'a> Fitter<'a> {
    /// # Errors
    /// As [`Backbone::new`]; tiles, dimensions or taps that do not fit each other.
    pub fn new(mut options: FitOptions<'a>) -> Result<Self> {
        let recipe = options.first();
        options.paint |= options.recipes.len() > 1;
        if options.taps.is_empty() {
            options.taps = recipe
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
        let features = recipe
            .features(backbone.shapes(), channels.as_deref(), options.tiles)
            .map_err(FitError::from)?;
        let shape = features.shape();
        let heads = heads(&options.recipes, shape)?;
        let judged = match &options.mask {
            Some(mask) => judged::judged(mask.view(), shape.grid)?,
            None => Vec::new(),
        };
        let leveller = options
            .same_light
            .then(|| Leveller::new(None, options.input_size, backbone.normalization()));
        let defects = Defects::new(options.paint, options.light);
        Ok(Self {
            embedder: Embedder::new(backbone, features, leveller),
            options,
            backbone_name: file.name(),
            backbone_sha256: file.sha256,
            channels,
            samples: Samples::new(shape, samples::BYTES),
            judged,
            heads,
            looks: Vec::new(),
            groups: None,
            defects,
            numbers: Vec::new(),
            came: 0,
            left_out: Vec::new(),
            held_out: None,
            sample_bits: None,
            image_size: None,
        })
    }

    /// The normalisation that images have to come in.
    pub fn normalization(&self) -> Normalization {
        self.embedder.normalization()
    }

    /// Takes in one good image (3 x height x width, normalised).
    ///
    /// # Errors
    /// ONNX Runtime fails, or computes features that are not finite.
    pub fn add(&mut self, image: ArrayView3<'_, f32>) -> Result<(), InferenceError> {
        let patches = self.embedder.embed(image)?;
        let (number, folds) = (self.numbers.len(), self.folds());
        let fold = match self.options.video_of {
            Some(frames) => (number * folds / frames.max(1)).min(folds - 1),
            None => {
                self.looks.push(Look::new(image, self.normalization()));
                number % folds
            }
        };
        let normalization = self.embedder.normalization();
        let embed = |image: ArrayView3<'_, f32>| self.embedder.embed(image);
        self.defects.paint_on(
            number,
            image,
            normalization,
            self.options.mask.as_ref(),
            embed,
        )?;
        self.forget();
        for head in &mut self.heads {
            head.add(&patches);
        }
        self.samples.add(fold, &patches);
        self.numbers.push(self.came);
        self.came += 1;
        Ok(())
    }

    /// Takes in an image with a real defect: the method is chosen that finds it, and the model says how many of these each rate finds.
    ///
    /// # Errors
    /// As [`Fitter::add`].
    pub fn add_bad(&mut self, image: ArrayView3<'_, f32>) -> Result<(), InferenceError> {
        let patches = self.embedder.embed(image)?;
        self.forget();
        self.defects.add_real(patches);
        Ok(())
    }

    /// What was computed of the images so far holds no more.
    fn forget(&mut self) {
        (self.groups, self.held_out) = (None, None);
    }

    fn folds(&self) -> usize {
        self.options.first().folds()
    }

    fn shape(&self) -> EmbeddingShape {
        self.embedder.shape()
    }

    /// What the model is to say of the files: the bits that 16-bit samples use, where there are such, and the most frequent size.
    pub fn describe_files(&mut self, sample_bits: Option<u8>, image_size: Option<Size>) {
        (self.sample_bits, self.image_size) = (sample_bits, image_size);
    }

    /// Says why whole frames are learnt from, where that is found out while they come.
    pub fn describe_located(&mut self, said: Option<String>) {
        self.options.located = said;
    }

    /// Says by how much the background of good frames is off the part's, at least, once more of them have come.
    pub fn widen_background(&mut self, off: f32) {
        if let Some(part) = &mut self.options.part {
            part.model.background_off = part.model.background_off.max(off);
        }
    }

    /// Which of the images so far are copies of each other; of none where they are frames of one video.
    pub fn groups(&mut self) -> &Groups {
        self.groups.get_or_insert_with(|| groups(&self.looks))
    }

    /// Of the images held, those that count for the threshold: one of each group of copies.
    fn counted(&mut self) -> Vec<usize> {
        let groups = self.groups().clone();
        match groups.copies() {
            0 => (0..self.samples.images()).collect(),
            _ => one_of_each(self.samples.numbers(), &groups),
        }
    }

    /// Fits the head on all images and sets the threshold, from 1 GiB of their embeddings where they are very many. Gives the
    /// backbone back.
    ///
    /// Images that are copies of each other are held out together, and count as one for the threshold: a score that owes its height to a
    /// copy in the fit says nothing of an image that is new, and the same score twice no more than once.
    ///
    /// # Errors
    /// Too few images that differ, a false reject rate that they do not support, or an end that was asked for.
    pub fn finish(mut self, progress: &mut Progress<'_>) -> Result<Finished> {
        let images = self.numbers.len();
        if images < FEWEST_IMAGES {
            return Err(FitError::TooFewImages {
                images,
                fewest: FEWEST_IMAGES,
            }
            .into());
        }
        let groups = self.groups().clone();
        if !self.looks.is_empty() && groups.count < FEWEST_IMAGES {
            return Err(FitError::TooFewDistinct {
                images,
                distinct: groups.count,
                fewest: FEWEST_IMAGES,
            }
            .into());
        }
        let held_out = self.held_out(progress)?.to_vec();
        let counted = self.counted();
        let rate = self.options.false_reject_rate;
        let rate = rate.unwrap_or_else(|| Calibration::default_rate_of(counted.len()));
        let Choice {
            chosen,
            scores,
            found,
        } = self.choose(&held_out, &counted, rate)?;
        let recipe = self.options.recipes[chosen];
        let tensors = self.heads[chosen].fit(&self.samples, None, progress)?;
        let defects = self.defects.scores(&held_out[chosen].defects);
        let trades = self.trades(&scores, &counted, &defects)?;
        let calibration = Calibration::new(scores)?;
        let threshold = calibration.threshold(rate)?;
        let unusual = self.unusual(&held_out[chosen].good);
        // A mask lies on whole pictures.
        let cluster = match self.options.part {
            Some(_) => None,
            None => self.cluster(recipe, &held_out[chosen], &counted, rate),
        };
        let map = self.scoring(recipe, &self.samples).map;
        let patches = self.patches_of(&unusual, &held_out[chosen]);
        let maps = HeldOutMaps::new(map, recipe.image_score(), patches);
        let tried = self.options.recipes.iter().zip(found);
        let tried = tried.map(|(recipe, found)| Tried {
            method: recipe.method,
            found,
        });
        let metadata = Metadata {
            format_version: FORMAT_VERSION,
            vadlite_version: env!("CARGO_PKG_VERSION").into(),
            created: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            method: recipe.method,
            preset: recipe.preset,
            tried: tried.filter(|_| self.options.recipes.len() > 1).collect(),
            map_size: self.map_size(),
            map_offset: self.map_offset(recipe),
            unusual,
            backbone: self.backbone_name,
            backbone_sha256: self.backbone_sha256,
            taps: self.options.taps,
            channels: self.channels,
            tiles: self.options.tiles,
            input_size: self.options.input_size,
            resize: RESIZE.into(),
            normalization: self.embedder.normalization(),
            part: self.options.part.as_ref().map(|part| part.model),
            located: self.options.located,
            roi: self.options.roi,
            map_sigma: recipe.map_sigma(),
            highest_patches: match recipe.image_score() {
                ImageScore::MapMaximum => None,
                ImageScore::HighestPatches(count) => Some(count),
            },
            good_images: images,
            copies: groups.copies(),
            left_out: self.left_out.len(),
            sample_bits: self.sample_bits,
            image_size: self.image_size,
            calibration_folds: recipe.folds(),
            calibration_quantiles: Quantiles::of(&calibration),
            judged: (!self.judged.is_empty()).then(|| {
                let judged = self.judged.iter();
                judged
                    .map(|judged| if *judged { '1' } else { '0' })
                    .collect()
            }),
            light_level: self.embedder.light_level(),
            light_rejects: (!defects.lit.is_empty()).then(|| share_above(&defects.lit, threshold)),
            threshold,
            false_reject_rate: rate,
            trades,
        };
        let mut model = ModelFile::new(metadata, calibration, tensors);
        model.template = self.options.part.map(|part| part.template);
        Ok(Finished {
            model,
            backbone: self.embedder.backbone,
            defects,
            maps,
            cluster,
        })
    }

    /// The method that finds most of the defects, and the scores of the images that are `counted` with it.
    fn choose(
        &self,
        held_out: &[HeldOut],
        counted: &[usize],
        rate: f64,
    ) -> Result<Choice, FitError> {
        let good: Vec<Vec<f32>> = held_out
            .iter()
            .map(|held| {
                counted
                    .iter()
                    .map(|&image| held.good[image].score)
                    .collect()
            })
            .collect();
        let of_good: Vec<usize> = counted
            .iter()
            .map(|&image| self.samples.folds()[image])
            .collect();
        let all = self.defects_with_folds();
        let defects = all.iter().filter(|(_, defect)| defect.kind != Kind::Lit);
        let of_defects: Vec<usize> = defects.map(|(fold, _)| *fold).collect();
        let defects: Vec<Vec<f32>> = held_out
            .iter()
            .map(|held| {
                let scores = all.iter().zip(&held.defects);
                let defects = scores.filter(|((_, defect), _)| defect.kind != Kind::Lit);
                defects.map(|(_, score)| *score).collect()
            })
            .collect();
        let candidates: Vec<Candidate<'_>> = good
            .iter()
            .zip(&defects)
            .map(|(good, defects)| Candidate { good, defects })
            .collect();
        let folds = Folds {
            good: &of_good,
            defects: &of_defects,
            count: self.folds(),
        };
        choose(&candidates, folds, rate)
    }
}

impl Fitter<'_> {
    /// Size of the anomaly map.
    fn map_size(&self) -> Size {
        let halved = |side: usize| (side / MAP_SCALE).max(1);
        self.options.input_size.map(halved)
    }

    /// How far the map is shifted to where the patches look, in its pixels.
    fn map_offset(&self, recipe: Recipe) -> f32 {
        match recipe.preset {
            // The published code does not shift its maps.
            Preset::Paper => 0.0,
            Preset::Default => {
                self.embedder.backbone.patch_offset() * self.map_size().width as f32
                    / self.options.input_size.width as f32
            }
        }
    }

    fn scoring<'b>(&'b self, recipe: Recipe, samples: &'b Samples) -> Scoring<'b> {
        let grid = self.shape().grid;
        Scoring {
            recipe,
            shape: self.shape(),
            map: AnomalyMap::new(
                grid,
                self.map_size(),
                recipe.map_sigma(),
                self.map_offset(recipe),
            ),
            samples,
            judged: &self.judged,
        }
    }

    /// With each recipe, the score of every image held, by a head that was fitted without its fold.
    fn held_out(&mut self, progress: &mut Progress<'_>) -> Result<&[HeldOut]> {
        if self.held_out.is_none() {
            let groups = self.groups().clone();
            if !self.looks.is_empty() {
                let folds = folds_of(&groups, self.folds());
                self.samples.put_into_folds(|image| folds[groups.of[image]]);
            }
            let mut heads = std::mem::take(&mut self.heads);
            let defects = self.defects_with_folds();
            let all = heads.iter_mut().zip(&self.options.recipes);
            let held = all.map(|(head, &recipe)| {
                self.scoring(recipe, &self.samples)
                    .held_out(&mut **head, &defects, progress)
            });
            let held: Result<Vec<HeldOut>> = held.collect();
            self.heads = heads;
            self.held_out = Some(held?);
        }
        Ok(self.held_out.as_deref().unwrap_or_default())
    }

    /// The images with defects, with the folds that they are scored in: those of the images that they were painted on.
    fn defects_with_folds(&self) -> Vec<(usize, &Defect)> {
        let mut folds = vec![0; self.numbers.len()];
        for (&number, &fold) in self.samples.numbers().iter().zip(self.samples.folds()) {
            folds[number] = fold;
        }
        let fold = |defect: &Defect| match defect.kind {
            Kind::Real => defect.image % self.folds(),
            Kind::Painted | Kind::Lit => folds[defect.image],
        };
        self.defects
            .all()
            .iter()
            .map(|defect| (fold(defect), defect))
            .collect()
    }
}

fn heads(recipes: &[Recipe], shape: EmbeddingShape) -> Result<Vec<Box<dyn HeadFitter>>> {
    recipes.iter().map(|recipe| recipe.fitter(shape)).collect()
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

/// Of the images held, the first of each group, of those groups that are held whole: a copy that is not held cannot be taken out of the
/// fit. `numbers` are those of the images held.
fn one_of_each(numbers: &[usize], groups: &Groups) -> Vec<usize> {
    let mut held = vec![None; groups.of.len()];
    for (image, &number) in numbers.iter().enumerate() {
        held[number] = Some(image);
    }
    let mut of_group: Vec<Option<Option<usize>>> = vec![None; groups.count];
    for (&group, &image) in groups.of.iter().zip(&held) {
        match (&mut of_group[group], image) {
            (first @ None, image) => *first = Some(image),
            (Some(first), None) => *first = None,
            (Some(_), Some(_)) => {}
        }
    }
    of_group.into_iter().flatten().flatten().collect()
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
        // All but the last are held; then all but the fifth, a copy of the second.
        assert_eq!(one_of_each(&[0, 1, 2, 3, 4], &groups), [0, 1, 3]);
        assert_eq!(one_of_each(&[0, 1, 2, 3, 5], &groups), [0, 3, 4]);
    }
}
