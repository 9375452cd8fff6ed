//! `vadlite eval --report`: one HTML page that shows how a model does on a dataset and lets its reader try other thresholds.
//!
//! The page needs nothing but itself: style, script and pictures are inside, and its content security policy forbids the rest.
//! Charts and numbers are in the page as it is written; the script moves the threshold.

mod charts;
mod data;
mod pictures;

use super::dataset::TestImage;
use super::eval::{AUPRO_LIMIT, Metrics};
use crate::detector::Detector;
use crate::detector::metrics::{CurvePoint, pro_curve, roc_curve};
use crate::detector::model_file::Metadata;
use crate::fs::folder_of;
use crate::geometry::Size;
use anyhow::{Context as _, bail};
use charts::Axis;
use pictures::{Pictures, Strongest};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Mistakes shown, and hits.
const SHOWN: usize = 20;

/// What the page needs to know of the images, gathered while they are inspected.
pub struct Report {
    out: PathBuf,
    metadata: Metadata,
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

impl Report {
    /// # Errors
    /// Where the page could not be written or its heatmaps not be drawn: better known before the dataset is inspected than after.
    pub fn new(out: &Path, metadata: &Metadata) -> anyhow::Result<Self> {
        gst::init().context("GStreamer, which the heatmaps are drawn with")?;
        if !folder_of(out).is_dir() || out.is_dir() {
            bail!("report {} cannot be written there", out.display());
        }
        Ok(Self {
            out: out.to_path_buf(),
            metadata: metadata.clone(),
            kinds: Vec::new(),
            mistakes: Strongest::new(SHOWN),
            hits: Strongest::new(SHOWN),
            pro: None,
        })
    }

    /// Takes the image that `detector` has just given this score.
    pub fn add(&mut self, image: &TestImage, score: f32, detector: &Detector) {
        let name = image.path.parent().and_then(Path::file_name);
        let name = name.unwrap_or_default().to_string_lossy();
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

    /// Takes the maps (of `height` x `width`) and masks for the PRO curve, and spoils the maps: their values are rounded down by at most
    /// 0.05 %, so that the curve has thousands of points and not millions.
    pub fn add_maps(
        &mut self,
        mut maps: Vec<Vec<f32>>,
        masks: &[Vec<bool>],
        Size { height, width }: Size,
    ) {
        for value in maps.iter_mut().flatten() {
            *value = f32::from_bits(value.to_bits() & !0xfff);
        }
        let curve = pro_curve(&maps, masks, width, height);
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
        std::fs::write(&self.out, page)
            .with_context(|| format!("report {} cannot be written", self.out.display()))
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
        let axis = Axis::over(&all, threshold);
        let labels: Vec<bool> = (0..all.len()).map(|i| i >= good.len()).collect();
        let roc = roc_curve(&all, &labels).map(|curve| charts::thin(&curve, 1.0));
        let name = dataset
            .canonicalize()
            .unwrap_or_else(|_| dataset.to_path_buf());
        let name = name.file_name().unwrap_or_default().to_string_lossy();
        let flagged = |scores: &[f32]| scores.iter().filter(|&&score| score > threshold).count();
        let (found, alarms) = (flagged(&defective), flagged(&good));
        let mut pictures = Pictures::new(dataset, &self.metadata, self.pro.is_some());

        let fill = |key: &str| -> anyhow::Result<String> {
            Ok(match key {
                "style" => include_str!("report.css").into(),
                "script" => include_str!("report.js").into(),
                "name" => escape(&name),
                "method" => escape(self.metadata.method.name()),
                "summary" => summary(&good, &defective, found, alarms),
                "data" => data::json(self, &axis, &all, &labels)?,
                "facts" => self.facts(dataset, model, metrics),
                "tiles" => tiles(metrics),
                "histogram" => charts::histogram(&axis, &good, &defective),
                "ticks" => charts::ticks(&axis),
                "at" => format!("{:.3}", 100.0 * axis.part(f64::from(threshold))),
                "position" => format!("{:.0}", 1000.0 * axis.part(f64::from(threshold))),
                "threshold" => threshold.to_string(),
                "found" => found.to_string(),
                "missed" => (defective.len() - found).to_string(),
                "alarms" => alarms.to_string(),
                "passed" => (good.len() - alarms).to_string(),
                "found rate" => percent(found, defective.len()),
                "alarm rate" => percent(alarms, good.len()),
                "precision" => percent(found, found + alarms),
                "f1" => f1(found, defective.len() + alarms),
                "kinds" => self.kinds(&flagged),
                "roc" => roc.as_deref().map_or_else(
                    || missing("The ROC curve needs good and defective images."),
                    |curve| {
                        charts::curve(
                            "roc",
                            curve,
                            1.0,
                            ["good images flagged", "defective images flagged"],
                        )
                    },
                ),
                "pro" => self.pro.as_deref().map_or_else(
                    || missing("No masks: the per-region overlap (PRO) says how much of each defect is marked, and this dataset does not say where its defects are."),
                    |curve| {
                        charts::curve(
                            "pro",
                            curve,
                            AUPRO_LIMIT,
                            ["good pixels marked", "mean share of a defect marked"],
                        )
                    },
                ),
                "mistakes" => pictures.cards(&self.mistakes, "No mistakes at this threshold.")?,
                "hits" => pictures.cards(&self.hits, "Nothing defective was found at this threshold.")?,
                other => bail!("the report's template asks for {other:?}"),
            })
        };
        filled(include_str!("report.html"), fill)
    }

    /// Scores of the good or of the defective images, ascending.
    fn scores(&self, defective: bool) -> Vec<f32> {
        let kinds = self.kinds.iter().filter(|kind| kind.defective == defective);
        let mut scores: Vec<f32> = kinds.flat_map(|kind| kind.scores.clone()).collect();
        scores.sort_by(f32::total_cmp);
        scores
    }

    fn facts(&self, dataset: &Path, model: Option<&Path>, metrics: &Metrics) -> String {
        let metadata = &self.metadata;
        let Size { height, width } = metadata.input_size;
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
        let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let mut html = String::new();
        for (term, value) in [
            ("Dataset", dataset.display().to_string()),
            ("Test images", format!("{good} good, {defective} defective")),
            ("Model", model),
            ("Method", metadata.method.name().into()),
            ("Preset", metadata.preset.name().into()),
            (
                "Backbone",
                format!("{}, taps {}", metadata.backbone, metadata.taps.join(", ")),
            ),
            ("Image tensor", format!("{width} × {height} pixels")),
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
            ("Made", date.replace('T', " ").replace('Z', " UTC")),
            ("By", concat!("vadlite ", env!("CARGO_PKG_VERSION")).into()),
        ] {
            let _ = write!(
                html,
                "<div><dt>{term}</dt><dd>{}</dd></div>",
                escape(&value)
            );
        }
        html
    }

    fn kinds(&self, flagged: &dyn Fn(&[f32]) -> usize) -> String {
        let mut html = String::new();
        for kind in &self.kinds {
            let (count, of) = (flagged(&kind.scores), kind.scores.len());
            let class = if kind.defective { "defective" } else { "good" };
            let _ = write!(
                html,
                "<tr class=\"{class}\"><th scope=\"row\">{}</th><td><span class=\"bar\"><span style=\"width:{:.1}%\"></span></span></td><td><b>{count}</b> of {of}</td></tr>",
                escape(&kind.name),
                100.0 * count as f64 / of.max(1) as f64,
            );
        }
        html
    }
}

fn tiles(metrics: &Metrics) -> String {
    let mut html = String::new();
    for (name, value, why) in [
        (
            "Image AUROC",
            metrics.image_auroc,
            "needs good and defective images",
        ),
        ("Pixel AUROC", metrics.pixel_auroc, "needs masks"),
        ("AUPRO up to 0.3", metrics.aupro, "needs masks"),
        (
            "Best image F1",
            metrics.image_f1_max,
            "needs defective images",
        ),
    ] {
        let value = value.map_or_else(
            || format!("<dd class=\"none\">{why}</dd>"),
            |value| format!("<dd>{value:.4}</dd>"),
        );
        let _ = write!(html, "<div><dt>{name}</dt>{value}</div>");
    }
    html
}

fn summary(good: &[f32], defective: &[f32], found: usize, alarms: usize) -> String {
    format!(
        "At the model’s own threshold {found} of {} defective images are found and {alarms} of {} good ones flagged.",
        defective.len(),
        good.len()
    )
}

fn missing(text: &str) -> String {
    format!("<p class=\"none\">{text}</p>")
}

fn percent(part: usize, whole: usize) -> String {
    if whole == 0 {
        return "–".into();
    }
    format!("{:.1} %", 100.0 * part as f64 / whole as f64)
}

/// F1 = 2 true positives / (flagged + defective).
fn f1(found: usize, defective_and_alarms: usize) -> String {
    match found + defective_and_alarms {
        0 => "–".into(),
        whole => format!("{:.4}", 2.0 * found as f64 / whole as f64),
    }
}

/// Text for HTML, between tags or in a quoted attribute.
fn escape(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            other => html.push(other),
        }
    }
    html
}

/// The template with every `{{key}}` replaced. What is put in is not looked at again.
fn filled(
    template: &str,
    mut value: impl FnMut(&str) -> anyhow::Result<String>,
) -> anyhow::Result<String> {
    let mut parts = template.split("{{");
    let mut page = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (key, rest) = part.split_once("}}").context("an open {{ in a template")?;
        page.push_str(&value(key)?);
        page.push_str(rest);
    }
    Ok(page)
}
