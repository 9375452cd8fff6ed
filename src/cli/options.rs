//! Options that several subcommands have.

use super::decode::LIMIT;
use super::images::Reading;
use crate::detector::method::{MethodChoice, Preset};
use crate::detector::{Device, Options, RuntimeOptions};
use crate::geometry::{Grid, Roi};
use crate::locate::Demand;
use std::path::PathBuf;

/// Options of every subcommand that runs the backbone.
#[derive(Debug, clap::Args)]
pub struct RuntimeArguments {
    /// ONNX file of the backbone, or the name of one that is installed: mobilenetv2-int8.onnx is smaller, and faster where the processor
    /// multiplies bytes [default: mobilenetv2.onnx, or the one that the model names]
    #[arg(long, value_name = "FILE")]
    pub backbone: Option<PathBuf>,
    /// Path of the ONNX Runtime library [default: searched for]
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// Threads of the backbone; 0: one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
    /// Where the backbone runs
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub device: Device,
}

impl RuntimeArguments {
    pub fn options(&self) -> Options<'_> {
        Options {
            backbone: self.backbone.as_deref(),
            runtime: self.runtime(),
        }
    }

    pub fn runtime(&self) -> RuntimeOptions<'_> {
        RuntimeOptions {
            threads: self.threads,
            library: self.onnxruntime.as_deref(),
            device: self.device,
        }
    }
}

/// Options of every subcommand that reads image files.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct ImageArguments {
    /// Refuse images that take more bytes decoded than this: two gibibytes unless changed
    #[arg(long, value_name = "BYTES", default_value_t = LIMIT, hide_default_value = true, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_image_bytes: u64,
}

impl ImageArguments {
    /// With all bits of 16-bit samples.
    pub fn reading(self) -> Reading {
        Reading {
            limit: self.max_image_bytes,
            bits: None,
        }
    }
}

/// What to fit, as every subcommand that fits asks for it.
#[derive(Debug, clap::Args)]
pub struct FitArguments {
    /// What to fit
    #[arg(long, value_name = "METHOD")]
    pub method: Option<MethodChoice>,
    /// Whose constants and equations
    #[arg(long, value_name = "PRESET", default_value = "default")]
    pub preset: Preset,
    /// Feature taps: output names of the backbone, separated by commas [default: the method's own]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub taps: Vec<String>,
    /// Take only so many channels of the taps, at random: for networks whose full covariances do not fit into memory [default: all]
    #[arg(long, value_name = "N")]
    pub dimensions: Option<usize>,
    /// Side of the square image tensor, in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = clap::value_parser!(u16).range(32..=2048))]
    pub size: u16,
    /// Cut the picture into so many tiles, each of --size pixels: for defects that are small in large or line-scan pictures
    #[arg(long, value_name = "CxR", default_value_t = Grid::ONE)]
    pub tiles: Grid,
    /// Inspected part of the frame, in 0..1 of it [default: all]
    #[arg(long, value_name = "X,Y,W,H")]
    pub roi: Option<Roi>,
    /// Whether parts are located, turned upright and judged one by one
    #[arg(long, value_name = "WHAT", default_value = "auto")]
    pub locate: Demand,
    /// PNG that lies on the whole picture: what is white in it is judged [default: all]
    #[arg(long, value_name = "PNG")]
    pub mask: Option<PathBuf>,
    /// Bits that images with 16 bits a sample use, as those of cameras with 10 or 12 do [default: what the brightest pixel of all needs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(8..=16))]
    pub bits: Option<u8>,
    /// Whether every image is brought to the same mean level first: a lamp that is brighter or darker is no defect then, nor is a part
    /// that is as a whole [default: if good images in other light would be flagged otherwise]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub same_light: Option<bool>,
    /// Share of good parts that the threshold may flag [default: 0.01, or what the number of images supports]
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub false_reject_rate: Option<f64>,
}

/// A false reject rate.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate < 1.0 => Ok(rate),
        _ => Err("a rate is a number between 0 and 1".into()),
    }
}
