//! One setting of the constants: its codes, its search, its threshold, and what they come to on the test images.

use super::RECIPE;
use crate::cli::dataset::TestImage;
use crate::cli::metrics::Decision;
use crate::detector::Cancel;
use crate::detector::anomaly_map::AnomalyMap;
use crate::detector::calibration::Calibration;
use crate::detector::embedding::{Embedding, EmbeddingShape};
use crate::detector::error::FitError;
use crate::detector::heads::memory_bank::Coreset;
use crate::detector::heads::patchcore_lite::paper;
use crate::detector::metrics::{auroc, pixel_auroc};
use crate::detector::samples::Samples;
use crate::detector::search::two_stage::{Coarse, TwoStageSearch};
use clap::ValueEnum as _;
use ndarray::Array2;
use rayon::prelude::*;
use std::time::Instant;

/// One setting of the constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Setting {
    pub subspaces: usize,
    pub bits: usize,
    pub bank: usize,
    pub candidates: usize,
    pub coarse: Coarse,
}

/// As in the paper.
pub const PAPER: Setting = Setting {
    subspaces: paper::SUBSPACES,
    bits: paper::BITS as usize,
    bank: paper::BANK,
    candidates: 1000,
    coarse: Coarse::Symmetric,
};

#[derive(Debug, serde::Serialize)]
pub struct Row {
    pub subspaces: usize,
    pub bits: usize,
    pub bank: usize,
    pub candidates: usize,
    pub coarse: String,
    /// The rate that the threshold is set for, and the threshold, from good images that were held out.
    pub false_reject_rate: f64,
    pub threshold: f32,
    /// Of the test images, what lies above it.
    #[serde(flatten)]
    pub decision: Decision,
    pub image_auroc: Option<f64>,
    pub pixel_auroc: Option<f64>,
    /// Codes and codebooks (16-bit floats).
    pub head_bytes: usize,
    /// Median per image, one thread.
    pub head_ms: f64,
    /// Share of the patches whose neighbour found is the truly nearest decoded vector.
    pub recall: f64,
}

/// A setting being measured.
pub struct Trial {
    setting: Setting,
    search: PatchSearch,
    bytes: usize,
    false_reject_rate: f64,
    threshold: f32,
    scores: Vec<f32>,
    maps: Vec<Array2<f32>>,
    times: Vec<f64>,
    found: usize,
    searched: usize,
}

impl Trial {
    /// Fits on the samples, and sets the threshold as a fit does: for the default rate, or what so many images support. `map` is what
    /// image scores are the maximum of.
    ///
    /// # Errors
    /// Samples that cannot be quantised, or that no threshold comes of.
    pub fn new(
        setting: Setting,
        coreset: &Coreset,
        samples: &Samples,
        shape: EmbeddingShape,
        map: &AnomalyMap,
    ) -> anyhow::Result<Self> {
        let folds = 0..RECIPE.folds();
        let held_out: Result<Vec<Vec<f32>>, FitError> = folds
            .into_par_iter()
            .map(|fold| held_out(setting, coreset, samples, shape, map.clone(), fold))
            .collect();
        let calibration = Calibration::new(held_out?.concat())?;
        let false_reject_rate = calibration.default_rate();
        let (search, bytes) = PatchSearch::new(setting, coreset, samples, None)?;
        Ok(Self {
            setting,
            search,
            bytes,
            false_reject_rate,
            threshold: calibration.threshold(false_reject_rate)?,
            scores: Vec::new(),
            maps: Vec::new(),
            times: Vec::new(),
            found: 0,
            searched: 0,
        })
    }

    pub fn inspect(
        &mut self,
        embedding: &Embedding,
        map: &mut AnomalyMap,
        keep_map: bool,
        recall: bool,
    ) {
        let start = Instant::now();
        let scores = self.search.scores(embedding);
        self.times.push(start.elapsed().as_secs_f64() * 1e3);
        self.scores.push(map.update(&scores));
        if keep_map {
            self.maps.push(map.values().to_owned());
        }
        if recall {
            self.search.each(embedding, |_, squared, search| {
                self.searched += 1;
                self.found += usize::from(squared <= search.nearest_decoded());
            });
        }
    }

    /// Of the images inspected, which these are.
    pub fn row(mut self, test: &[TestImage], masks: &[Array2<bool>]) -> Row {
        let labels: Vec<bool> = test.iter().map(|image| image.defective).collect();
        let mut decision = Decision::default();
        for (image, &score) in test.iter().zip(&self.scores) {
            decision.add(&image.kind(), image.defective, score > self.threshold);
        }
        self.times.sort_by(f64::total_cmp);
        let coarse = self.setting.coarse.to_possible_value();
        let pixels = self.maps.iter().zip(masks);
        let pixels = pixels.map(|(map, mask)| (map.view(), mask.view()));
        Row {
            subspaces: self.setting.subspaces,
            bits: self.setting.bits,
            bank: self.setting.bank,
            candidates: self.setting.candidates,
            coarse: coarse.map_or_else(String::new, |value| value.get_name().into()),
            false_reject_rate: self.false_reject_rate,
            threshold: self.threshold,
            decision,
            image_auroc: auroc(&self.scores, &labels),
            pixel_auroc: pixel_auroc(pixels),
            head_bytes: self.bytes,
            head_ms: self.times[self.times.len() / 2],
            recall: self.found as f64 / self.searched.max(1) as f64,
        }
    }
}

/// Scores of the good images of a fold by what was fitted without them.
fn held_out(
    setting: Setting,
    coreset: &Coreset,
    samples: &Samples,
    shape: EmbeddingShape,
    mut map: AnomalyMap,
    fold: usize,
) -> Result<Vec<f32>, FitError> {
    let of_fold = samples.folds().iter().enumerate();
    let images: Vec<usize> = of_fold
        .filter(|(_, of)| **of == fold)
        .map(|(image, _)| image)
        .collect();
    if images.is_empty() {
        return Ok(Vec::new());
    }
    let (mut search, _) = PatchSearch::new(setting, coreset, samples, Some(fold))?;
    let mut embedding = Embedding::new(shape);
    let score = |&image: &usize| {
        samples.restore(image, &mut embedding);
        map.update(&search.scores(&embedding))
    };
    Ok(images.iter().map(score).collect())
}

/// The paper's two stages for every patch of an embedding.
struct PatchSearch {
    search: TwoStageSearch,
    patch: Vec<f32>,
}

impl PatchSearch {
    /// Over what a fit keeps of the samples outside of a fold; with the bytes that it takes.
    fn new(
        setting: Setting,
        coreset: &Coreset,
        samples: &Samples,
        without: Option<usize>,
    ) -> Result<(Self, usize), FitError> {
        let dimensions = samples.dimensions();
        let bank = coreset.first_without(setting.bank, without);
        let training = paper::training(&bank, samples, without);
        let (quantizer, codes) = paper::quantize(
            &training,
            &bank,
            dimensions,
            setting.subspaces,
            setting.bits as u32,
            &Cancel::default(),
        )?;
        let bytes = (codes.len() * setting.bits).div_ceil(8) + 2 * quantizer.centroids().len();
        let search = TwoStageSearch::new(quantizer, codes, setting.coarse, setting.candidates);
        let patch = vec![0.0; dimensions];
        Ok((Self { search, patch }, bytes))
    }

    fn scores(&mut self, embedding: &Embedding) -> Vec<f32> {
        let mut scores = vec![0.0; embedding.positions()];
        self.each(embedding, |position, squared, _| {
            scores[position] = squared.sqrt();
        });
        scores
    }

    /// Runs `each` on every position and the squared distance there, after its search.
    fn each(&mut self, embedding: &Embedding, mut each: impl FnMut(usize, f32, &TwoStageSearch)) {
        for position in 0..embedding.positions() {
            paper::gather(embedding, position, &mut self.patch);
            let squared = self.search.nearest(&self.patch);
            each(position, squared, &self.search);
        }
    }
}
