//! The program `vadlite`: fitting, scoring, evaluating. One file per subcommand; what they share is in `images`.

mod bench;
mod calibrate;
mod dataset;
mod eval;
mod fit;
pub mod images;
mod info;
mod report;
mod score;
mod self_check;
mod sweep;

use crate::detector::{Device, Options, RuntimeOptions};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
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

/// Options of every subcommand that runs the backbone.
#[derive(Debug, Args)]
struct RuntimeArguments {
    /// ONNX file of the backbone, or the name of one that is installed: mobilenetv2-int8.onnx is smaller, and faster where the processor
    /// multiplies bytes [default: mobilenetv2.onnx, or the one that the model names]
    #[arg(long, value_name = "FILE")]
    backbone: Option<PathBuf>,
    /// Path of the ONNX Runtime library [default: searched for]
    #[arg(long, value_name = "FILE")]
    onnxruntime: Option<PathBuf>,
    /// Threads of the backbone; 0: one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,
    /// Where the backbone runs
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,
}

impl RuntimeArguments {
    fn options(&self) -> Options<'_> {
        Options {
            backbone: self.backbone.as_deref(),
            runtime: self.runtime(),
        }
    }

    fn runtime(&self) -> RuntimeOptions<'_> {
        RuntimeOptions {
            threads: self.threads,
            library: self.onnxruntime.as_deref(),
            device: self.device,
        }
    }
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
            eprintln!("vadlite: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints a line to standard output; a reader that has gone away (`| head`) ends the program quietly.
fn print_line(line: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    match writeln!(std::io::stdout().lock(), "{line}") {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}
