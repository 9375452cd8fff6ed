//! Scores of images by heads that have not seen them.

use super::defects::Defect;
use crate::detector::anomaly_map::AnomalyMap;
use crate::detector::embedding::{Embedding, EmbeddingShape};
use crate::detector::error::{FitError, Result};
use crate::detector::head_tensors::{HeadTensor, TensorReader};
use crate::detector::heads::{HeadFitter, Recipe};
use crate::detector::image_score::ImageScore;
use crate::detector::progress::{Cancel, Progress};
use crate::detector::samples::{Samples, restore};
use crate::detector::scorer::Scorer;
use half::f16;
use ndarray::ArrayView2;
use rayon::prelude::*;

/// Bytes of the heads that score held-out images at a time.
const HEADS_BYTES: usize = 1 << 28;

/// A held-out image's score, and the patch that is least normal.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Scored {
    pub score: f32,
    pub patch: usize,
}

/// With one method: the good images held, and those with defects.
#[derive(Debug, Clone, Default)]
pub struct HeldOut {
    pub good: Vec<Scored>,
    /// Patch scores of the good ones.
    pub patches: Vec<Vec<f32>>,
    pub defects: Vec<f32>,
}

impl HeldOut {
    pub fn scores(&self) -> Vec<f32> {
        self.good.iter().map(|scored| scored.score).collect()
    }
}

/// Anomaly maps of the good images that a model names as unusual, by heads that have not seen them. One that has, finds nothing unusual
/// in what it keeps of just these images.
pub struct HeldOutMaps {
    map: AnomalyMap,
    image_score: ImageScore,
    patches: Vec<Option<Vec<f32>>>,
}

impl HeldOutMaps {
    /// `patches` are the patch scores of the images that the model was fitted on, in the order in which it names them.
    pub fn new(map: AnomalyMap, image_score: ImageScore, patches: Vec<Option<Vec<f32>>>) -> Self {
        Self {
            map,
            image_score,
            patches,
        }
    }

    /// The map, as inspecting makes it, of the image that stands there in the model's list of unusual ones, with this score; `None` where
    /// it was left out: the model itself has not seen it.
    pub fn of(&mut self, unusual: usize, score: f32) -> Option<ArrayView2<'_, f32>> {
        let patches = self.patches.get(unusual)?.as_deref()?;
        let maximum = self.map.update(patches);
        if let ImageScore::HighestPatches(_) = self.image_score {
            self.map.scale_to(maximum, score);
        }
        Some(self.map.values())
    }
}

/// What scores images: a method's head is loaded for each thread.
pub struct Scoring<'a> {
    pub recipe: Recipe,
    pub shape: EmbeddingShape,
    pub map: AnomalyMap,
    pub samples: &'a Samples,
    /// Which patches are judged; empty: all.
    pub judged: &'a [bool],
}

impl Scoring<'_> {
    /// Scores every image by a head that was fitted without its fold. `defects` come with their folds.
    pub fn held_out(
        &self,
        head: &mut dyn HeadFitter,
        defects: &[(usize, &Defect)],
        progress: &mut Progress<'_>,
    ) -> Result<HeldOut> {
        let mut held = HeldOut {
            good: vec![Scored::default(); self.samples.images()],
            patches: vec![Vec::new(); self.samples.images()],
            defects: vec![0.0; defects.len()],
        };
        let folds = self.recipe.folds();
        for fold in 0..folds {
            progress.at("setting the threshold", fold, folds)?;
            let of_fold = |of: usize| of == fold;
            let good = self.samples.folds().iter().enumerate();
            let good: Vec<usize> = good
                .filter(|(_, of)| of_fold(**of))
                .map(|(image, _)| image)
                .collect();
            let painted = defects.iter().enumerate();
            let painted: Vec<usize> = painted
                .filter(|(_, (of, _))| of_fold(*of))
                .map(|(number, _)| number)
                .collect();
            if good.is_empty() && painted.is_empty() {
                continue;
            }
            // Scored as they would be after storing, so that the threshold holds for what runs.
            let silent = &mut progress.silent();
            let without = Some(fold).filter(|_| !good.is_empty());
            let tensors = head.fit(self.samples, without, silent)?;
            let patches: Vec<&[f16]> = good
                .iter()
                .map(|&image| self.samples.image(image))
                .chain(painted.iter().map(|&number| &defects[number].1.patches[..]))
                .collect();
            let (scored, mut patches) = self.score(&tensors, &patches, progress.cancel())?;
            let (of_good, of_painted) = scored.split_at(good.len());
            for ((&image, &scored), patches) in good.iter().zip(of_good).zip(&mut patches) {
                held.good[image] = scored;
                held.patches[image] = std::mem::take(patches);
            }
            for (&number, scored) in painted.iter().zip(of_painted) {
                held.defects[number] = scored.score;
            }
        }
        Ok(held)
    }

    /// Scores images (each positions x dimensions) on all cores, each with a head of its own as far as these are small. The patch scores
    /// come with them.
    pub fn score(
        &self,
        tensors: &[HeadTensor],
        images: &[&[f16]],
        cancel: &Cancel,
    ) -> Result<(Vec<Scored>, Vec<Vec<f32>>), FitError> {
        let bytes: usize = tensors.iter().map(HeadTensor::bytes).sum();
        let heads = (HEADS_BYTES / bytes.max(1)).clamp(1, rayon::current_num_threads());
        let parts = images.par_chunks(images.len().div_ceil(heads).max(1));
        let scores = parts.map(|images| {
            let head = self.recipe.load(self.shape, &TensorReader::new(tensors))?;
            let mut scorer = Scorer::new(head, self.map.clone(), self.recipe.image_score());
            scorer.judge_only(self.judged);
            let mut embedding = Embedding::new(self.shape);
            let score = |patches: &&[f16]| {
                cancel.check()?;
                restore(patches, &mut embedding);
                let score = scorer.score(&embedding);
                let ranked = scorer.patch_scores().iter().enumerate();
                let patch = ranked
                    .max_by(|a, b| a.1.total_cmp(b.1))
                    .map_or(0, |(patch, _)| patch);
                Ok((Scored { score, patch }, scorer.patch_scores().to_vec()))
            };
            images.iter().map(score).collect()
        });
        let scores: Vec<Vec<_>> = scores.collect::<Result<_, FitError>>()?;
        Ok(scores.into_iter().flatten().unzip())
    }
}
