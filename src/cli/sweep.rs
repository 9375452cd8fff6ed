//! `vadlite sweep`: what the constants of PatchCore-Lite (preset `paper`) cost and bring on a dataset.

mod trial;

use super::console::{print_line, progress, show_on};
use super::images::Framing;
use super::options::{ImageArguments, RuntimeArguments};
use super::{dataset, images};
use crate::detector::anomaly_map::AnomalyMap;
use crate::detector::backbone::{self, Backbone, BackboneFile, DEFAULT_BACKBONE};
use crate::detector::embedding::Embedding;
use crate::detector::heads::Recipe;
use crate::detector::heads::memory_bank::Coreset;
use crate::detector::method::{Method, Preset};
use crate::detector::metrics::Share;
use crate::detector::samples::{self, Samples};
use crate::detector::search::two_stage::Coarse;
use crate::detector::{Cancel, Progress};
use crate::geometry::{Grid, Input, Roi, Size};
use anyhow::Context as _;
use clap::builder::RangedU64ValueParser;
use ndarray::Array2;
use std::path::PathBuf;
use trial::{PAPER, Setting, Trial};

/// Size of the image tensor.
const INPUT: Size = Size::square(224);
const MAP: Size = Size::square(112);
const RECIPE: Recipe = Recipe {
    method: Method::PatchcoreLite,
    preset: Preset::Paper,
};
/// Of so many test images, the searches of one are compared with the truly nearest.
const RECALL_EVERY: usize = 8;

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Dataset in MVTec AD layout
    #[arg(long, value_name = "DIR")]
    dataset: PathBuf,
    /// Subspaces of the product quantiser (m)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [4, 8, 16, 32], value_parser = in_range(1..=4096))]
    subspaces: Vec<usize>,
    /// Bits of a code in each subspace (b)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [4, 6, 8], value_parser = in_range(1..=8))]
    bits: Vec<usize>,
    /// Vectors in the bank (K)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [1000, 2000, 5000, 10_000, 20_000], value_parser = in_range(1..=10_000_000))]
    bank: Vec<usize>,
    /// Candidates that the coarse search leaves (k)
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values_t = [10, 100, 1000], value_parser = in_range(1..=10_000_000))]
    candidates: Vec<usize>,
    /// What the coarse search compares codes with
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_enum, default_values_t = [Coarse::Symmetric, Coarse::Query])]
    coarse: Vec<Coarse>,
    /// Feature taps: output names of the backbone, separated by commas [default: the method's own]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    taps: Vec<String>,
    /// Print one JSON line per setting
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    files: ImageArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

fn in_range(range: impl std::ops::RangeBounds<u64>) -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(range)
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let settings = settings(arguments);
    let train = dataset::train(&arguments.dataset)?;
    let test = dataset::test(&arguments.dataset)?;
    let asked = arguments.runtime.backbone.as_deref();
    let file = BackboneFile::read(&backbone::resolve(asked, DEFAULT_BACKBONE, None)?)?;
    let taps: Vec<String> = match arguments.taps.is_empty() {
        true => RECIPE.default_taps().iter().map(|&t| t.into()).collect(),
        false => arguments.taps.clone(),
    };
    let mut backbone = Backbone::new(&file, &taps, INPUT, arguments.runtime.runtime())?;
    let mut features = RECIPE.features(backbone.shapes(), None, Grid::ONE)?;
    let shape = features.shape();
    check(&settings, shape.dimensions)?;
    let mut embedding = Embedding::new(shape);
    let framing = Framing {
        input: Input::Fixed(INPUT),
        normalization: backbone.normalization(),
        roi: Roi::WHOLE,
    };

    let mut samples = Samples::new(shape, samples::BYTES);
    let bar = progress(train.len(), "features");
    let mut reading = arguments.files.reading();
    reading.bits = images::sample_bits(&train, reading);
    images::for_each_tensor(&train, framing, reading, |index, image| {
        features
            .extract(&mut backbone, image?.tensor.view(), &mut embedding)
            .with_context(|| format!("image {}", train[index].display()))?;
        samples.add(index % RECIPE.folds(), &embedding.to_patches());
        bar.inc(1);
        Ok(())
    })?;
    let largest = settings.iter().map(|setting| setting.bank).max();
    let mut progress = Progress::new(show_on(&bar), Cancel::default());
    let coreset = Coreset::select(&samples, largest.unwrap_or(0), &mut progress)?;
    let mut map = AnomalyMap::new(shape.grid, MAP, RECIPE.map_sigma(), 0.0);
    let mut trials = Vec::with_capacity(settings.len());
    let count = settings.len();
    for (done, setting) in settings.into_iter().enumerate() {
        progress.at("setting thresholds", done, count)?;
        trials.push(Trial::new(setting, &coreset, &samples, shape, &map)?);
    }
    drop((samples, coreset));

    let mut masks = Vec::new();
    progress.at("testing", 0, test.len())?;
    let paths: Vec<PathBuf> = test.iter().map(|image| image.path.clone()).collect();
    images::for_each_tensor(&paths, framing, reading, |index, read| {
        let image = &test[index];
        features
            .extract(&mut backbone, read?.tensor.view(), &mut embedding)
            .with_context(|| format!("image {}", image.path.display()))?;
        let mask = match &image.mask {
            Some(mask) => Some(dataset::read_mask(mask, MAP, Roi::WHOLE, reading.limit)?.0),
            None => (!image.defective).then(|| Array2::from_elem((MAP.height, MAP.width), false)),
        };
        for trial in &mut trials {
            trial.inspect(
                &embedding,
                &mut map,
                mask.is_some(),
                index % RECALL_EVERY == 0,
            );
        }
        masks.extend(mask);
        bar.inc(1);
        Ok(())
    })?;
    bar.finish_and_clear();

    if !arguments.json {
        print_line(
            "  m  b      K      k  coarse       found    false  I-AUROC  P-AUROC    bytes  head ms  recall",
        )?;
    }
    for trial in trials {
        let row = trial.row(&test, &masks);
        if arguments.json {
            print_line(&serde_json::to_string(&row)?)?;
            continue;
        }
        let number =
            |value: Option<f64>| value.map_or_else(|| "-".into(), |value| format!("{value:.4}"));
        let share = |Share { part, whole }: Share| format!("{part}/{whole}");
        print_line(&format!(
            "{:3} {:2} {:6} {:6}  {:9}  {:>7}  {:>7}  {:>7}  {:>7} {:8} {:8.1}  {:.4}",
            row.subspaces,
            row.bits,
            row.bank,
            row.candidates,
            row.coarse,
            share(row.decision.found),
            share(row.decision.false_rejects),
            number(row.image_auroc),
            number(row.pixel_auroc),
            row.head_bytes,
            row.head_ms,
            row.recall,
        ))?;
    }
    Ok(())
}

/// Whether each setting can be had with so many channels: better known before all images are looked at than after.
fn check(settings: &[Setting], dimensions: usize) -> anyhow::Result<()> {
    for &Setting { subspaces, .. } in settings {
        anyhow::ensure!(
            dimensions.is_multiple_of(subspaces),
            "{dimensions} feature channels cannot be cut into {subspaces} subspaces; choose other --subspaces or --taps"
        );
    }
    Ok(())
}

/// Every constant over its list, the others as in the paper.
fn settings(arguments: &Arguments) -> Vec<Setting> {
    let mut settings = vec![PAPER];
    let mut add = |setting: Setting| {
        if !settings.contains(&setting) {
            settings.push(setting);
        }
    };
    for &subspaces in &arguments.subspaces {
        add(Setting { subspaces, ..PAPER });
    }
    for &bits in &arguments.bits {
        add(Setting { bits, ..PAPER });
    }
    for &bank in &arguments.bank {
        add(Setting { bank, ..PAPER });
    }
    for &candidates in &arguments.candidates {
        add(Setting {
            candidates,
            ..PAPER
        });
    }
    for &coarse in &arguments.coarse {
        add(Setting { coarse, ..PAPER });
    }
    settings
}
