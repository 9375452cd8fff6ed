//! One setting of the constants: its codes, its search, and what both come to on the test images.

use crate::detector::Cancel;
use crate::detector::anomaly_map::AnomalyMap;
use crate::detector::embedding::Embedding;
use crate::detector::heads::patchcore_lite::paper;
use crate::detector::metrics::{auroc, pixel_auroc};
use crate::detector::samples::Samples;
use crate::detector::search::two_stage::{Coarse, TwoStageSearch};
use clap::ValueEnum as _;
use ndarray::Array2;
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
    scores: Vec<f32>,
    maps: Vec<Array2<f32>>,
    times: Vec<f64>,
    found: usize,
    searched: usize,
}

impl Trial {
    pub fn new(setting: Setting, coreset: &[f32], samples: &Samples) -> anyhow::Result<Self> {
        let dimensions = samples.dimensions();
        let bank = &coreset[..(setting.bank * dimensions).min(coreset.len())];
        let training = paper::training(bank, samples, None);
        let (quantizer, codes) = paper::quantize(
            &training,
            bank,
            dimensions,
            setting.subspaces,
            setting.bits as u32,
            &Cancel::default(),
        )?;
        let bytes = (codes.len() * setting.bits).div_ceil(8) + 2 * quantizer.centroids().len();
        let search = TwoStageSearch::new(quantizer, codes, setting.coarse, setting.candidates);
        Ok(Self {
            setting,
            search: PatchSearch {
                search,
                patch: vec![0.0; dimensions],
            },
            bytes,
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
        let mut scores = vec![0.0; embedding.positions()];
        let start = Instant::now();
        self.search.each(embedding, |position, squared, _| {
            scores[position] = squared.sqrt();
        });
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

    pub fn row(mut self, labels: &[bool], masks: &[Array2<bool>]) -> Row {
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
            image_auroc: auroc(&self.scores, labels),
            pixel_auroc: pixel_auroc(pixels),
            head_bytes: self.bytes,
            head_ms: self.times[self.times.len() / 2],
            recall: self.found as f64 / self.searched.max(1) as f64,
        }
    }
}

/// The paper's two stages for every patch of an embedding.
struct PatchSearch {
    search: TwoStageSearch,
    patch: Vec<f32>,
}

impl PatchSearch {
    /// Runs `each` on every position and the squared distance there, after its search.
    fn each(&mut self, embedding: &Embedding, mut each: impl FnMut(usize, f32, &TwoStageSearch)) {
        for position in 0..embedding.positions() {
            paper::gather(embedding, position, &mut self.patch);
            let squared = self.search.nearest(&self.patch);
            each(position, squared, &self.search);
        }
    }
}
