//! Whether `false-reject-rate` keeps its promise: fits on few good images, again and again, and counts which of the others it rejects.
//!
//!     cargo run --release --example false_rejects -- METHOD FOLDER… [--rate 0.01] [--images 150] [--splits 50]
//!
//! The folders hold good images; each split draws so many of them at random to fit on, with a threshold for the rate, and scores all
//! others. Prints a line of the table in docs/accuracy.md.

use clap::Parser as _;
use gstvadlite::cli::images::{Framing, ImageFile, Reading, list};
use gstvadlite::detector::Recipe;
use gstvadlite::detector::method::{MethodChoice, Preset};
use gstvadlite::detector::{Detector, FitOptions, Fitter, Progress, backbone};
use gstvadlite::geometry::{Input, Roi, Size};
use rayon::prelude::*;
use std::path::PathBuf;

#[derive(clap::Parser)]
struct Arguments {
    method: MethodChoice,
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    #[arg(long, default_value_t = 0.01)]
    rate: f64,
    #[arg(long, default_value_t = 150)]
    images: usize,
    #[arg(long, default_value_t = 50)]
    splits: u64,
}

fn main() -> anyhow::Result<()> {
    let Arguments {
        method,
        folders,
        rate,
        images,
        splits,
    } = Arguments::parse();
    let mut paths = Vec::new();
    for folder in &folders {
        paths.extend(list(folder)?);
    }
    anyhow::ensure!(paths.len() > images, "{} images are too few", paths.len());
    let file = backbone::resolve(None, backbone::DEFAULT_BACKBONE, None)?;
    let recipes = Recipe::candidates(method, Preset::Default)?;
    let options = || FitOptions {
        recipes: recipes.clone(),
        false_reject_rate: Some(rate),
        ..FitOptions::new(recipes[0], &file)
    };
    let normalization = Fitter::new(options())?.normalization();
    let looks = Framing {
        input: Input::Fixed(Size::square(224)),
        normalization,
        roi: Roi::WHOLE,
    };
    let tensors = paths
        .par_iter()
        .map(|path| ImageFile::open(path, Reading::default())?.tensor(looks))
        .collect::<anyhow::Result<Vec<_>>>()?;

    let unseen = paths.len() - images;
    let mut rejected = Vec::new();
    for split in 0..splits {
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        fastrand::Rng::with_seed(split).shuffle(&mut order);
        let (fit, rest) = order.split_at(images);
        let mut fitter = Fitter::new(options())?;
        for &image in fit {
            fitter.add(tensors[image].view())?;
        }
        fitter.leave_out_foreign(&mut Progress::none())?;
        let fitted = fitter.finish(&mut Progress::none())?;
        let threshold = fitted.model.metadata.threshold;
        let mut detector = Detector::new(fitted.model, fitted.backbone)?;
        let mut count = 0;
        for &image in rest {
            count += usize::from(detector.inspect(tensors[image].view())? > threshold);
        }
        eprintln!("split {split}: {count} of {unseen} rejected");
        rejected.push(count);
    }
    rejected.sort_unstable();

    // What may be rejected of the unseen by chance, where each is with the probability that was asked for.
    let bound = binomial_quantile(unseen, rate, 0.95);
    let beyond = rejected.iter().filter(|count| **count > bound).count();
    let mean = rejected.iter().sum::<usize>() as f64 / (splits as f64 * unseen as f64);
    let tight = Conformal::new(images, rate);
    println!(
        "| method | fitted on | unseen | rate asked | mean rate | median, most rejected | binomial bound (95 %) | splits beyond it | of an ideal threshold |"
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|--:|");
    println!(
        "| {} | {images} | {unseen} | {rate} | {mean:.4} | {}, {} | {bound} | {beyond} of {splits} | {:.1} of {splits} |",
        method.name(),
        rejected[rejected.len() / 2],
        rejected[rejected.len() - 1],
        splits as f64 * tight.beyond(unseen, bound)
    );
    Ok(())
}

/// The smallest count that so many draws exceed with a probability of at most 1 - `level`.
fn binomial_quantile(draws: usize, rate: f64, level: f64) -> usize {
    let mut probability = (draws as f64 * (1.0 - rate).ln()).exp();
    let (mut count, mut below) = (0, probability);
    while below < level {
        probability *= (draws - count) as f64 / (count + 1) as f64 * rate / (1.0 - rate);
        count += 1;
        below += probability;
    }
    count
}

/// The threshold that keeps the promise with nothing to spare: the chance of a good image to be rejected by it is itself a matter of the
/// draw, Beta(l, n + 1 - l) with l the held-out scores above it plus one (Vovk 2012, proposition 2a).
struct Conformal {
    a: f64,
    b: f64,
}

impl Conformal {
    fn new(images: usize, rate: f64) -> Self {
        let rank = ((images as f64 + 1.0) * (1.0 - rate) - 1e-9).ceil();
        Self {
            a: images as f64 + 1.0 - rank,
            b: rank,
        }
    }

    /// The probability that more than `bound` of so many are rejected (beta-binomial).
    fn beyond(&self, draws: usize, bound: usize) -> f64 {
        // P(0) = B(a, b + n) / B(a, b), and from one count to the next.
        let n = draws as f64;
        let ln_first: f64 = (0..draws)
            .map(|i| ((self.b + i as f64) / (self.a + self.b + i as f64)).ln())
            .sum();
        let mut probability = ln_first.exp();
        let mut below = 0.0;
        for count in 0..=bound {
            let k = count as f64;
            below += probability;
            probability *= (n - k) / (k + 1.0) * (self.a + k) / (self.b + n - k - 1.0);
        }
        1.0 - below
    }
}
