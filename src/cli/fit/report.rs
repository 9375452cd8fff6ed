//! `vadlite fit --report`: one HTML page that shows which good images are unlike the others, and what each false reject rate finds.
//!
//! Its reader marks the images that do not belong and copies the option that leaves them out; a slider tells what to set for another rate.
//! As the report of `vadlite eval`, with which it shares its parts, the page needs nothing but itself.

mod cards;
mod mask;
mod rates;

use super::said;
use super::{NONE, UNUSUAL};
use crate::cli::images::Reading;
use crate::cli::report::charts::{self, Curve, short};
use crate::cli::report::facts::{self, Fact};
use crate::detector::calibration::Calibration;
use crate::detector::model_file::Metadata;
use crate::detector::{Cluster, DefectScores, Detector, HeldOutMaps};
use askama::Template;
use cards::Card;
use mask::Mask;
use rates::{Row, Stop, share};
use std::path::{Path, PathBuf};

/// What was fitted, and on what.
pub struct Fitted<'a> {
    /// File of the model.
    pub model: &'a Path,
    /// Folder of the good images, and of those with defects.
    pub folder: &'a Path,
    pub bad: Option<&'a Path>,
    /// The good images, without those that were named to be left out.
    pub paths: &'a [PathBuf],
    /// `--leave-out` as it was given.
    pub leave_out: &'a [String],
    pub defects: &'a DefectScores,
    pub maps: &'a mut HeldOutMaps,
    pub cluster: Option<&'a Cluster>,
}

/// What `fit.html` and the templates that it includes name.
#[derive(Template)]
#[template(path = "fit.html")]
struct Page<'a> {
    /// Of the model's file.
    name: String,
    metadata: &'a Metadata,
    /// In per cent.
    rate: String,
    /// Images that were left out by their names.
    named: usize,
    /// What few images do to the threshold.
    tail: Option<String>,
    /// What leaves out the place in which the images that set the threshold are unusual.
    mask: Option<Mask>,
    /// Share of the defects found at the model's own rate.
    found: Option<String>,
    bad_found: Option<String>,
    /// Shown at once, and on demand.
    first: Vec<Card>,
    others: Vec<Card>,
    /// Good images without a card.
    more: usize,
    /// In per cent, at the ends of the slider.
    ends: [String; 2],
    /// The model's own stop.
    stop: &'a Stop,
    rows: Vec<Row>,
    painted: Option<Curve>,
    bad: Option<Curve>,
    facts: Vec<Fact>,
    data: Data<'a>,
}

/// What the script reads.
#[derive(serde::Serialize)]
#[serde(rename_all = "camelCase")]
struct Data<'a> {
    stops: &'a [Stop],
    /// The number of the model's own stop.
    own: usize,
    /// How many there are of the scores, and of the images with defects.
    good: usize,
    painted: usize,
    bad: usize,
    /// The largest rate of the curves, and where their plot is.
    limit: f64,
    plot: [f64; 4],
    leave_out: LeaveOut<'a>,
}

/// What was left out, for the option that leaves out more or less.
#[derive(serde::Serialize)]
struct LeaveOut<'a> {
    /// [`UNUSUAL`] or [`NONE`].
    keyword: Option<&'a str>,
    /// By their names.
    named: Vec<&'a str>,
    /// By themselves.
    itself: Vec<&'a str>,
}

impl<'a> LeaveOut<'a> {
    fn new(asked: &'a [String], metadata: &'a Metadata) -> Self {
        let asked = asked.iter().map(String::as_str);
        let (keywords, named): (Vec<_>, Vec<_>) =
            asked.partition(|&word| word == UNUSUAL || word == NONE);
        let itself = metadata.unusual.iter().filter(|unusual| unusual.left_out);
        Self {
            keyword: keywords.last().copied(),
            named,
            itself: itself.filter_map(|left| left.file.as_deref()).collect(),
        }
    }
}

/// The page. Its images are read again, and `detector`, of the model that was fitted, draws their heatmaps. GStreamer has to be
/// initialised.
///
/// # Errors
/// An image that can no longer be read, or a heatmap that cannot be drawn.
pub fn page(
    mut fitted: Fitted<'_>,
    detector: &mut Detector,
    reading: Reading,
) -> anyhow::Result<String> {
    let (metadata, calibration) = (detector.metadata().clone(), detector.calibration().clone());
    let DefectScores { painted, real, .. } = fitted.defects;
    let own = metadata.false_reject_rate;
    let limit = rates::limit(&calibration, own);
    let stops = rates::stops(&calibration, fitted.defects, own, limit);
    let place = stops.iter().position(|stop| stop.rate == own).unwrap_or(0);
    let stop = stops
        .get(place)
        .ok_or_else(|| anyhow::anyhow!("the scores support no rate that could be shown"))?;
    let curve = |id, scores: &[f32], up| {
        let axes = ["promised rate of false rejects, %", up];
        let points = rates::curve(&calibration, scores);
        let points = charts::thin(&points, limit);
        (!scores.is_empty()).then(|| Curve::new(id, &points, limit, axes, 100.0))
    };
    let curves = (
        curve("painted", painted, "painted defects found, %"),
        curve("bad", real, "real defects found, %"),
    );
    let mut first = cards::draw(&mut fitted, detector, reading)?;
    let tail = calibration.long_tail(own).map_or(0, |tail| tail.images);
    let at_once = cards::AT_ONCE.max(metadata.left_out + tail);
    let others = first.split_off(at_once.min(first.len()));
    let ends = [stops.first(), stops.last()];
    let leave_out = LeaveOut::new(fitted.leave_out, &metadata);
    let page = Page {
        name: file_name(fitted.model),
        rate: short(100.0 * own),
        named: leave_out.named.len(),
        tail: said::long_tail(&metadata, &calibration),
        mask: fitted
            .cluster
            .map(|cluster| Mask::new(cluster, &metadata))
            .transpose()?,
        found: share(stop.painted, painted.len()),
        bad_found: share(stop.bad, real.len()),
        more: metadata.good_images + metadata.left_out - first.len() - others.len(),
        first,
        others,
        ends: ends.map(|stop| stop.map_or_else(String::new, |stop| short(100.0 * stop.rate))),
        stop,
        rows: rates::rows(&metadata.trades, &stops, own),
        painted: curves.0,
        bad: curves.1,
        facts: facts(&fitted, &metadata, &calibration, detector.head_bytes()),
        data: Data {
            stops: &stops,
            own: place,
            good: calibration.scores().len(),
            painted: painted.len(),
            bad: real.len(),
            limit,
            plot: charts::PLOT,
            leave_out,
        },
        metadata: &metadata,
    };
    Ok(page.render()?)
}

fn facts(
    fitted: &Fitted<'_>,
    metadata: &Metadata,
    calibration: &Calibration,
    head_bytes: usize,
) -> Vec<Fact> {
    let DefectScores { painted, real, .. } = fitted.defects;
    let mut facts = vec![
        ("Good images", fitted.folder.display().to_string()),
        (
            "Of these",
            format!(
                "{} fitted on, {} left out by themselves, {} copies of others that do not count for the threshold",
                metadata.good_images, metadata.left_out, metadata.copies
            ),
        ),
        ("Model", fitted.model.display().to_string()),
    ];
    facts.extend(facts::of_model(metadata));
    facts.extend(said::tried(metadata).map(|tried| ("Chosen", tried)));
    facts.push((
        "Threshold",
        format!(
            "{}, from {} held-out scores, for a false reject rate of {:.4}; they support {:.4} and more",
            metadata.threshold,
            calibration.scores().len(),
            metadata.false_reject_rate,
            calibration.smallest_rate()
        ),
    ));
    facts.push((
        "Painted defects",
        format!(
            "{}, on good images that their scores have not seen",
            painted.len()
        ),
    ));
    if let Some(bad) = fitted.bad {
        facts.push(("Real defects", format!("{}, {}", real.len(), bad.display())));
    }
    facts.push(("Bytes", format!("head {head_bytes}")));
    facts.extend(facts::of_page());
    facts
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}
