//! `vadlite eval --report`: one HTML page that shows how a model does on a dataset and lets its reader try other thresholds.
//!
//! The page needs nothing but itself: style, script and pictures are inside, and its content security policy forbids the rest.
//! Charts and numbers are in the page as it is written; the script moves the threshold.

pub mod charts;
mod data;
pub mod facts;
pub mod file;
mod page;
pub mod pictures;

use super::dataset::TestImage;
use super::images::Reading;
use super::metrics::Metrics;
use crate::detector::Detector;
use crate::detector::metrics::{AUPRO_LIMIT, CurvePoint, pro_curve, roc_curve};
use crate::detector::model_file::Metadata;
use askama::Template as _;
use charts::{Curve, Histogram, ScoreAxis};
use data::Data;
use ndarray::Array2;
use page::{Counts, Page, flagged};
use pictures::{Cards, Strongest};
use std::path::{Path, PathBuf};

/// Mistakes shown, and hits.
const SHOWN: usize = 20;

/// What the page needs to know of the images, gathered while they are inspected.
pub struct Report {
    out: PathBuf,
    metadata: Metadata,
    reading: Reading,
    kinds: Vec<Kind>,
    mistakes: Strongest,
    hits: Strongest,
    pro: Option<Vec<CurvePoint>>,
}

/// The test images of one folder.
#[derive(serde::Serialize)]
struct Kind {
    #[serde(skip)]
    name: String,
    defective: bool,
    scores: Vec<f32>,
}

impl Kind {
    fn flagged(&self, threshold: f32) -> usize {
        flagged(&self.scores, threshold)
    }

    fn percent_flagged(&self, threshold: f32) -> f64 {
        100.0 * self.flagged(threshold) as f64 / self.scores.len().max(1) as f64
    }
}

impl Report {
    /// # Errors
    /// Where the page could not be written or its heatmaps not be drawn: better known before the dataset is inspected than after.
    pub fn new(out: &Path, metadata: &Metadata, reading: Reading) -> anyhow::Result<Self> {
        file::check(out)?;
        Ok(Self {
            out: out.to_path_buf(),
            metadata: metadata.clone(),
            reading,
            kinds: Vec::new(),
            mistakes: Strongest::new(SHOWN),
            hits: Strongest::new(SHOWN),
            pro: None,
        })
    }

    /// Takes the image that `detector` has just given this score.
    pub fn add(&mut self, image: &TestImage, score: f32, detector: &Detector) {
        let name = image.kind();
        if self.kinds.last().is_none_or(|kind| kind.name != name) {
            self.kinds.push(Kind {
                name: name.into_owned(),
                defective: image.defective,
                scores: Vec::new(),
            });
        }
        if let Some(kind) = self.kinds.last_mut() {
            kind.scores.push(score);
        }
        let threshold = self.metadata.threshold;
        match (score > threshold, image.defective) {
            (true, true) => self.hits.offer(score, image, score, detector),
            // A mistake is the worse the further off the threshold the score is, as a ratio.
            (true, false) => self
                .mistakes
                .offer(score / threshold, image, score, detector),
            (false, true) => self
                .mistakes
                .offer(threshold / score, image, score, detector),
            (false, false) => {}
        }
    }

    /// Takes the maps and masks for the PRO curve, and spoils the maps: their values are rounded down by at most 0.05 %, so that the curve
    /// has thousands of points and not millions.
    pub fn add_maps(&mut self, mut maps: Vec<Array2<f32>>, masks: &[Array2<bool>]) {
        for value in maps.iter_mut().flatten() {
            *value = f32::from_bits(value.to_bits() & !0xfff);
        }
        let images = maps.iter().zip(masks);
        let curve = pro_curve(images.map(|(map, mask)| (map.view(), mask.view())));
        self.pro = curve.map(|curve| charts::thin(&curve, AUPRO_LIMIT));
    }

    /// Writes the page. `model` is the file that was measured, if it was not fitted for this.
    pub fn write(
        &mut self,
        dataset: &Path,
        model: Option<&Path>,
        metrics: &Metrics,
    ) -> anyhow::Result<()> {
        self.kinds.sort_by_key(|kind| !kind.defective);
        let page = self.page(dataset, model, metrics)?;
        file::write(&self.out, &page)
    }

    fn page(
        &self,
        dataset: &Path,
        model: Option<&Path>,
        metrics: &Metrics,
    ) -> anyhow::Result<String> {
        let threshold = self.metadata.threshold;
        let [good, defective] = [false, true].map(|defective| self.scores(defective));
        let all: Vec<f32> = good.iter().chain(&defective).copied().collect();
        let axis = ScoreAxis::over(&all, threshold);
        let labels: Vec<bool> = (0..all.len()).map(|i| i >= good.len()).collect();
        let roc = roc_curve(&all, &labels).map(|curve| charts::thin(&curve, 1.0));
        let name = dataset
            .canonicalize()
            .unwrap_or_else(|_| dataset.to_path_buf());
        let mut cards = Cards::new(dataset, &self.metadata, self.pro.is_some(), self.reading);
        let page = Page {
            name: &name.file_name().unwrap_or_default().to_string_lossy(),
            method: self.metadata.method.name(),
            threshold,
            at: axis.part(f64::from(threshold)),
            counts: Counts::at(threshold, &good, &defective),
            figures: [
                (
                    "Image AUROC",
                    metrics.image_auroc,
                    "good and defective images",
                ),
                ("Pixel AUROC", metrics.pixel_auroc, "masks"),
                ("AUPRO up to 0.3", metrics.aupro, "masks"),
                ("Best image F1", metrics.image_f1_max, "defective images"),
            ],
            histogram: Histogram::new(&axis, &good, &defective),
            ticks: axis.ticks(),
            kinds: &self.kinds,
            roc: roc.as_deref().map(|curve| {
                let axes = ["good images flagged", "defective images flagged"];
                Curve::new("roc", curve, 1.0, axes, 1.0)
            }),
            pro: self.pro.as_deref().map(|curve| {
                let axes = ["good pixels marked", "mean share of a defect marked"];
                Curve::new("pro", curve, AUPRO_LIMIT, axes, 1.0)
            }),
            mistakes: cards.of(&self.mistakes)?,
            hits: cards.of(&self.hits)?,
            facts: self.facts(dataset, model, metrics),
            data: Data::new(self, &axis, &all, &labels),
        };
        Ok(page.render()?)
    }

    /// Scores of the good or of the defective images, ascending.
    fn scores(&self, defective: bool) -> Vec<f32> {
        let kinds = self.kinds.iter().filter(|kind| kind.defective == defective);
        let mut scores: Vec<f32> = kinds.flat_map(|kind| kind.scores.clone()).collect();
        scores.sort_by(f32::total_cmp);
        scores
    }

    fn facts(
        &self,
        dataset: &Path,
        model: Option<&Path>,
        metrics: &Metrics,
    ) -> Vec<(&'static str, String)> {
        let metadata = &self.metadata;
        let model = model.map_or_else(
            || {
                format!(
                    "fitted for this report on {} good images",
                    metadata.good_images
                )
            },
            |path| {
                format!(
                    "{}, fitted on {} good images ({})",
                    path.display(),
                    metadata.good_images,
                    metadata.created
                )
            },
        );
        let [good, defective] = [false, true].map(|defective| {
            let kinds = self.kinds.iter().filter(|kind| kind.defective == defective);
            kinds.map(|kind| kind.scores.len()).sum::<usize>()
        });
        let mut facts = vec![
            ("Dataset", dataset.display().to_string()),
            ("Test images", format!("{good} good, {defective} defective")),
            ("Model", model),
        ];
        facts.extend(facts::of_model(metadata));
        facts.extend([
            (
                "Bytes",
                format!(
                    "head {}, backbone {}, model file {}",
                    metrics.head_bytes, metrics.backbone_bytes, metrics.model_bytes
                ),
            ),
            (
                "Threshold",
                format!(
                    "{}, from good images alone, for a false reject rate of {:.4}",
                    metadata.threshold, metadata.false_reject_rate
                ),
            ),
        ]);
        facts.extend(facts::of_page());
        facts
    }
}
