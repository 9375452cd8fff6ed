//! `vadlite calibrate`: the threshold of a model set anew on good images of today, without fitting again.

use super::console::{print_line, progress, warn};
use super::images::{self, Framing};
use super::learnt_from::LearntFrom;
use super::options::{ImageArguments, RuntimeArguments, parse_rate};
use crate::detector::calibration::Calibration;
use crate::detector::model_file::ModelFile;
use crate::detector::{CopiesOf, Detector};
use std::path::PathBuf;

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
    let reading = arguments.files.reading().of(metadata);
    let mut learnt_from = LearntFrom::new(metadata);
    let mut copies = CopiesOf::new(metadata.normalization);
    images::for_each_readable(&paths, framing, reading, &bar, |index, image| {
        for difference in learnt_from.differs(&paths[index], &image) {
            bar.suspend(|| warn(difference));
        }
        copies.add(image.tensor.view());
        scores.push(detector.inspect(image.tensor.view())?);
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
