//! The program `vadlite`: fitting, scoring, evaluating. One file per subcommand, which only this one knows of, but for `fit::fit`,
//! which others do first. What they share knows none of them: options, image files and datasets, and what is said on the terminal.

mod bench;
mod calibrate;
mod console;
mod dataset;
mod decode;
mod eval;
mod fit;
pub mod images;
mod info;
mod jpeg;
mod learnt_from;
mod metrics;
mod options;
mod remedy;
mod report;
mod score;
mod self_check;
mod sweep;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Visual anomaly detection on the device: learns what good parts look like, then scores images.
///
/// The same model runs in a GStreamer pipeline: gst-launch-1.0 v4l2src ! vadlite model=part.vadlite ! autovideosink
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Fit a model on a folder of good images
    Fit(fit::Arguments),
    /// Measure a model, or a method fitted on the spot, on a dataset in MVTec AD layout
    Eval(eval::Arguments),
    /// Score images
    Score(score::Arguments),
    /// Set the threshold of a model anew on good images of today, without fitting again
    Calibrate(calibrate::Arguments),
    /// Measure what the constants of PatchCore-Lite cost and bring: each over a list, the others as in the paper
    Sweep(sweep::Arguments),
    /// Measure what an inspection costs, stage by stage
    Bench(bench::Arguments),
    /// Show what is in a model file
    Info(info::Arguments),
}

/// Runs the program on the process' arguments. Exit codes: 0 done, 1 failed with a message, 2 wrong usage.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Fit(arguments) => fit::run(&arguments),
        Command::Eval(arguments) => eval::run(&arguments),
        Command::Score(arguments) => score::run(&arguments),
        Command::Calibrate(arguments) => calibrate::run(&arguments),
        Command::Sweep(arguments) => sweep::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Info(arguments) => info::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vadlite: {}", remedy::described(&error));
            ExitCode::FAILURE
        }
    }
}
