//! `vadlite bench`: what an inspection costs, stage by stage, on generated 1080p NV12 frames.

mod element;
mod scene;
mod streams;

use super::console::print_line;
use super::fit;
use super::images::{Framing, Reading};
use super::options::{FitArguments, RuntimeArguments};
use crate::detector::model_file::ModelFile;
use crate::detector::{Detector, Options, RuntimeOptions, Timing, open_backbone};
use crate::geometry::Size;
use crate::video::preprocess::{Layout, Plane, Preprocess};
use anyhow::Context as _;
use ndarray::Array3;
use scene::{HEIGHT, WIDTH};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Good pictures that a method is fitted on where no model is given.
const GOOD: u64 = 30;

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["model", "method"]))]
pub struct Arguments {
    /// Model file; or give --method to fit on generated pictures first
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,
    #[command(flatten)]
    fit: FitArguments,
    /// Frames to measure, after a tenth as many to warm up
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    frames: u32,
    /// Also measure the whole element in a pipeline: median and 99th percentile
    #[arg(long)]
    element: bool,
    /// Measure so many 640x480 streams in one process instead: frames per second, memory, and the cost of standing still
    #[arg(long, value_name = "N", conflicts_with = "element", value_parser = clap::value_parser!(u16).range(1..=256))]
    streams: Option<u16>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// Medians in milliseconds.
#[derive(Debug, serde::Serialize)]
struct StageTimes {
    threads: usize,
    /// The backbone alone.
    backbone_ms: f64,
    /// From a 1080p NV12 frame to the image tensor.
    preprocess_ms: f64,
    /// Of a model that locates its parts.
    locate_ms: f64,
    /// Embedding and patch scores.
    head_ms: f64,
    map_ms: f64,
    total_ms: f64,
    #[serde(flatten)]
    element: Option<element::ElementTimes>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Holds the generated pictures' model until all is done.
    let (folder, fitted);
    let path = match &arguments.model {
        Some(path) => path,
        None => {
            folder = tempfile::tempdir().context("no temporary folder can be made")?;
            fitted = folder.path().join("bench.vadlite");
            model_of_generated(arguments, folder.path())?.write(&fitted)?;
            &fitted
        }
    };
    let threads = match arguments.runtime.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let options = arguments.runtime.options();
    let options = Options {
        runtime: RuntimeOptions {
            threads,
            ..options.runtime
        },
        ..options
    };
    if let Some(streams) = arguments.streams {
        let figures = streams::run(path, options, streams.into(), arguments.frames)?;
        return print_line(&if arguments.json {
            serde_json::to_string(&figures)?
        } else {
            format!(
                "{} streams of 640x480 NV12, {threads} thread(s) each: {:.0} frames/s in all, {:.1} MB resident, {:.2} % of a core when paused",
                figures.streams, figures.frames_per_s, figures.resident_mb, figures.idle_percent
            )
        });
    }
    let mut times = stages(path, options, arguments.frames as usize)?;
    if arguments.element {
        times.element = Some(element::run(path, options, arguments.frames)?);
    }
    if arguments.json {
        return print_line(&serde_json::to_string(&times)?);
    }
    let line = |name: &str, milliseconds: f64| {
        print_line(&format!(
            "{name:44} {milliseconds:8.3} ms  {:6.2} x backbone",
            milliseconds / times.backbone_ms
        ))
    };
    print_line(&format!(
        "{} thread(s), {} frames of {WIDTH}x{HEIGHT} NV12, medians",
        times.threads, arguments.frames
    ))?;
    line("backbone", times.backbone_ms)?;
    line("preprocess", times.preprocess_ms)?;
    if times.locate_ms > 0.0 {
        line("locate", times.locate_ms)?;
    }
    line("head", times.head_ms)?;
    line("map", times.map_ms)?;
    line("all", times.total_ms)?;
    if let Some(element) = &times.element {
        line("element, overlay off", element.element_ms)?;
        line(
            "element, overlay off, 99th percentile",
            element.element_p99_ms,
        )?;
        line("element, flagged with heatmap", element.element_heatmap_ms)?;
        line(
            "element, flagged with heatmap, 99th percentile",
            element.element_heatmap_p99_ms,
        )?;
    }
    Ok(())
}

/// Fits the method asked for on generated pictures of good parts.
fn model_of_generated(arguments: &Arguments, folder: &Path) -> anyhow::Result<ModelFile> {
    let paths = (0..GOOD)
        .map(|seed| {
            let path = folder.join(format!("{seed:03}.png"));
            let (width, height) = (WIDTH / 4, HEIGHT / 4);
            let picture = scene::luma(seed, width, height, false);
            image::GrayImage::from_raw(width as u32, height as u32, picture)
                .context("a picture of another size")?
                .save(&path)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            Ok(path)
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let fitted = fit::fit(
        &arguments.fit,
        &arguments.runtime,
        Reading::default(),
        &paths,
        fit::Asked::default(),
    )?;
    Ok(fitted.model)
}

/// Every stage of every frame in turn, so that a disturbance falls on all of them alike.
fn stages(path: &Path, options: Options<'_>, frames: usize) -> anyhow::Result<StageTimes> {
    let mut detector = Detector::open(path, options)?;
    let metadata = detector.metadata();
    let target = Framing::of(metadata).target(Size::new(HEIGHT, WIDTH));
    let mut backbone = open_backbone(&ModelFile::read(path)?, path, options)?;
    let info = scene::info()?;
    let layout = Layout::from_info(&info).context("NV12 is a format of the element")?;
    let mut preprocess = Preprocess::new(layout, target);
    let frame = scene::nv12(scene::DEFECTIVE, true);
    let (luma, chroma) = frame.split_at(WIDTH * HEIGHT);
    let planes = [luma, chroma].map(|data| Plane {
        data,
        stride: WIDTH,
    });
    let mut tensor = target.tensor();
    let Size { height, width } = detector.metadata().input_size;
    let part = Array3::<f32>::zeros((3, height, width));
    let mut times: [Vec<Duration>; 6] = Default::default();
    for number in 0..frames + frames.div_ceil(10) {
        let start = Instant::now();
        preprocess.run(&planes, tensor.view_mut())?;
        let preprocessed = start.elapsed();
        detector.inspect(tensor.view())?;
        let timing = detector.timing();
        let start = Instant::now();
        backbone.run(part.view(), |_| ())?;
        let alone = start.elapsed();
        if number >= frames.div_ceil(10) {
            let inspected = timing.locate + timing.backbone + timing.head + timing.map;
            let total = preprocessed + inspected;
            let Timing {
                locate, head, map, ..
            } = timing;
            let stages = [alone, preprocessed, locate, head, map, total];
            for (times, time) in times.iter_mut().zip(stages) {
                times.push(time);
            }
        }
    }
    let [
        backbone_ms,
        preprocess_ms,
        locate_ms,
        head_ms,
        map_ms,
        total_ms,
    ] = times.map(|mut times| quantile(&mut times, 0.5));
    Ok(StageTimes {
        threads: options.runtime.threads,
        backbone_ms,
        preprocess_ms,
        locate_ms,
        head_ms,
        map_ms,
        total_ms,
        element: None,
    })
}

/// A quantile of times, in milliseconds.
fn quantile(times: &mut [Duration], q: f64) -> f64 {
    times.sort_unstable();
    let rank = (times.len() as f64 * q).ceil() as usize;
    times
        .get(rank.saturating_sub(1))
        .map_or(0.0, |time| time.as_secs_f64() * 1e3)
}
