//! `vadlite calibrate`: the threshold of a model set anew on good images of today, without fitting again.

use super::console::{print_line, progress, warn};
use super::images::{self, Framing};
use super::learnt_from::LearntFrom;
use super::options::{ImageArguments, RuntimeArguments, parse_rate};
use crate::detector::calibration::Calibration;
use crate::detector::model_file::ModelFile;
use crate::detector::{CopiesOf, Detector, foreign_above};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Model file
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// Folder of good images that the model was not fitted on
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Model file to write [default: the model itself]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Share of good parts that the threshold may flag [default: 0.01, or what the number of images supports]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    false_reject_rate: Option<f64>,
    #[command(flatten)]
    files: ImageArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let paths = images::list(&arguments.images)?;
    let mut detector = Detector::open(&arguments.model, arguments.runtime.options())?;
    let metadata = detector.metadata();
    let framing = Framing::of(metadata);
    let bar = progress(paths.len(), "calibrating");
    let mut scores = Vec::new();
    let mut named = Vec::new();
    let reading = arguments.files.reading().of(metadata);
    let mut learnt_from = LearntFrom::new(metadata);
    let mut copies = CopiesOf::new(metadata.normalization);
    images::for_each_readable(&paths, framing, reading, &bar, |index, image| {
        for difference in learnt_from.differs(&paths[index], &image) {
            bar.suspend(|| warn(difference));
        }
        copies.add(image.tensor.view());
        let score = detector.inspect(image.tensor.view())?;
        scores.push(score);
        named.push((score, paths[index].as_path()));
        Ok(())
    })?;
    bar.finish_and_clear();
    let (all, scores) = (scores.len(), copies.one_of_each(&scores));
    if scores.len() < all {
        warn(format_args!(
            "{} of {all} images are copies of others, or nearly: each picture counts once for the threshold",
            all - scores.len()
        ));
    }
    let calibration = Calibration::new(scores)?;
    let rate = arguments
        .false_reject_rate
        .unwrap_or_else(|| calibration.default_rate());
    if let Some(foreign) = foreign(&calibration, rate, named) {
        warn(foreign);
    }
    let mut model = ModelFile::read(&arguments.model)?;
    let before = model.metadata.threshold;
    let images = calibration.scores().len();
    model.recalibrate(calibration, rate)?;
    let out = arguments.out.as_ref().unwrap_or(&arguments.model);
    model.write(out)?;
    print_line(&format!(
        "{}: threshold {:.4} (before: {before:.4}) for a false reject rate of {rate:.4}, from {images} good images",
        out.display(),
        model.metadata.threshold
    ))
}

/// Most files that are named.
const NAMED: usize = 10;

/// Which images raise the threshold far above the others: a hand, a crate of rejects. Nothing is left out by itself: the folder is what
/// a person has chosen.
fn foreign(calibration: &Calibration, rate: f64, mut named: Vec<(f32, &Path)>) -> Option<String> {
    let threshold = calibration.threshold(rate).ok()?;
    let (above, without) = match (
        foreign_above(calibration.scores()),
        calibration.long_tail(rate),
    ) {
        (Some(fence), _) if fence < threshold => (fence.next_up(), None),
        (_, Some(tail)) => (threshold, Some(tail.without)),
        _ => return None,
    };
    named.retain(|(score, _)| *score >= above);
    named.sort_by(|a, b| b.0.total_cmp(&a.0));
    let names = named.iter().take(NAMED);
    let names: Vec<_> = names
        .map(|(_, path)| path.file_name().unwrap_or_default().to_string_lossy())
        .collect();
    let without = without.map_or_else(String::new, |without| {
        format!("; without them it would be {without:.4}")
    });
    Some(format!(
        "the threshold is set by {} of {} images that are far from the others: {}{}{without}: look at them, and take them out of the folder if they are not good",
        named.len(),
        calibration.scores().len(),
        names.join(", "),
        if named.len() > NAMED { ", …" } else { "" },
    ))
}
