//! `vadlite fit`: a folder of good images to a model file.

mod locate;
mod report;
mod said;

use super::console::{progress, show_on, warn};
use super::images::{self, Framing, Reading};
use super::learnt_from::Sizes;
use super::options::{FitArguments, ImageArguments, RuntimeArguments};
use super::report::file;
use crate::detector::Recipe;
use crate::detector::backbone::{self, Backbone, DEFAULT_BACKBONE};
use crate::detector::calibration::Calibration;
use crate::detector::fit_in_other_light;
use crate::detector::model_file::{Metadata, ModelFile};
use crate::detector::{
    Cancel, Cluster, Cutter, Decision, DefectScores, Detector, Finished, FitOptions, Fitter,
    Groups, HeldOutMaps, Progress,
};
use crate::geometry::{Input, Size};
use crate::video::mask;
use crate::video::sample_bits::bits_of;
use ndarray::ArrayView3;
use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(mut_arg("method", |method| method.default_value("auto")))]
pub struct Arguments {
    #[command(flatten)]
    fit: FitArguments,
    /// Folder of good images
    #[arg(long, value_name = "DIR")]
    images: PathBuf,
    /// Folder of images with defects: counted in choosing the method, and told how many each rate finds; never needed
    #[arg(long, value_name = "DIR")]
    bad: Option<PathBuf>,
    /// Good images to be left out, by their names; `unusual`: those far from the others; `none`: not even what is foreign beyond doubt
    #[arg(long, value_name = "FILE", num_args = 1..)]
    leave_out: Vec<String>,
    /// Model file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also write one HTML page: the most unusual good images, to mark those that do not belong, and what each false reject rate finds
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    #[command(flatten)]
    files: ImageArguments,
    #[command(flatten)]
    runtime: RuntimeArguments,
}

/// Images that differ by less than this, in grey levels of 255 over areas, show little but noise.
const STILL: f32 = 0.2;

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if let Some(out) = &arguments.report {
        file::check(out)?;
    }
    let mut paths = images::list(&arguments.images)?;
    let leave_out = LeaveOut::apply(&arguments.leave_out, &mut paths)?;
    let bad = match &arguments.bad {
        Some(folder) => images::list(folder)?,
        None => Vec::new(),
    };
    let asked = Asked {
        leave_out,
        bad: &bad,
    };
    let reading = arguments.files.reading();
    let mut fitted = fit(&arguments.fit, &arguments.runtime, reading, &paths, asked)?;
    fitted.model.write(&arguments.out)?;
    said::say(&arguments.out, &fitted.model, fitted.cluster.as_ref())?;
    if let Some(out) = &arguments.report {
        let mut detector = Detector::new(fitted.model, fitted.backbone)?;
        let fitted = report::Fitted {
            model: &arguments.out,
            folder: &arguments.images,
            bad: arguments.bad.as_deref(),
            paths: &paths,
            leave_out: &arguments.leave_out,
            defects: &fitted.defects,
            maps: &mut fitted.maps,
            cluster: fitted.cluster.as_ref(),
        };
        let page = report::page(fitted, &mut detector, reading)?;
        file::write(out, &page)?;
    }
    Ok(())
}

/// What is asked for besides a method.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    leave_out: LeaveOut,
    /// Images with defects.
    bad: &'a [PathBuf],
}

/// What `--leave-out` takes besides names.
const UNUSUAL: &str = "unusual";
const NONE: &str = "none";

/// Which images are left out once all are read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
enum LeaveOut {
    /// What is foreign beyond doubt.
    #[default]
    Foreign,
    Unusual,
    None,
}

impl LeaveOut {
    /// Takes the files that are named out of `paths`.
    fn apply(asked: &[String], paths: &mut Vec<PathBuf>) -> anyhow::Result<Self> {
        let mut leave_out = Self::default();
        for name in asked {
            match name.as_str() {
                UNUSUAL => leave_out = Self::Unusual,
                NONE => leave_out = Self::None,
                name => {
                    let before = paths.len();
                    let is_it = |path: &PathBuf| {
                        path.as_path() == Path::new(name)
                            || path.file_name().is_some_and(|file| file == name)
                    };
                    paths.retain(|path| !is_it(path));
                    anyhow::ensure!(
                        paths.len() < before,
                        "--leave-out {name}: there is no such good image"
                    );
                }
            }
        }
        Ok(leave_out)
    }
}

/// A model, and what it was fitted on.
pub struct Fitted {
    pub model: ModelFile,
    pub backbone: Backbone,
    pub defects: DefectScores,
    pub maps: HeldOutMaps,
    cluster: Option<Cluster>,
    /// [`ReadImage::digest`](images::ReadImage::digest) of each image.
    pub seen: HashSet<u64>,
    /// The files that could be read.
    read: Vec<PathBuf>,
}

/// Fits on these files; unreadable ones are named, skipped and counted. Where good images in other light would be flagged, fits again on
/// images brought to the same level, and keeps what flags fewer.
pub fn fit(
    arguments: &FitArguments,
    runtime: &RuntimeArguments,
    reading: Reading,
    paths: &[PathBuf],
    asked: Asked<'_>,
) -> anyhow::Result<Fitted> {
    let decision = locate::decide(arguments, reading, paths)?;
    let once = Once {
        decision: &decision,
        arguments,
        runtime,
        reading,
        asked,
    };
    let mut read: Option<Vec<PathBuf>> = None;
    let fit = |same_light: bool| {
        // What is wrong with the images is said once.
        let fitted = once.fit(read.as_deref().unwrap_or(paths), same_light, read.is_none())?;
        read.get_or_insert_with(|| fitted.read.clone());
        anyhow::Ok(fitted)
    };
    fn metadata(fitted: &Fitted) -> &Metadata {
        &fitted.model.metadata
    }
    let fitted = fit_in_other_light(arguments.same_light, fit, metadata)?;
    Ok(with_warning(fitted))
}

/// Says how many images the model was fitted without, and where too few are left for what a line wants.
fn with_warning(fitted: Fitted) -> Fitted {
    let metadata = &fitted.model.metadata;
    if metadata.left_out > 0 {
        warn(format_args!(
            "{} of {} images were left out: if they show good parts, keep them with `vadlite fit --leave-out none`",
            metadata.left_out,
            metadata.left_out + metadata.good_images
        ));
    }
    if let Some(few) = Calibration::few(fitted.model.calibration.scores().len()) {
        warn(few);
    }
    fitted
}

/// A fit, which may be done twice.
struct Once<'a> {
    decision: &'a Decision,
    arguments: &'a FitArguments,
    runtime: &'a RuntimeArguments,
    reading: Reading,
    asked: Asked<'a>,
}

impl Once<'_> {
    /// `say`: whether to warn of what is odd about the images.
    fn fit(&self, paths: &[PathBuf], same_light: bool, say: bool) -> anyhow::Result<Fitted> {
        let Self {
            decision,
            arguments,
            runtime,
            reading,
            asked,
        } = *self;
        let method = arguments.method.unwrap_or_default();
        let backbone = backbone::resolve(runtime.backbone.as_deref(), DEFAULT_BACKBONE, None)?;
        let whole = arguments.tiles.whole(Size::square(arguments.size.into()));
        let input_size = decision.tensor.unwrap_or(whole);
        let roi = arguments.roi.unwrap_or_default();
        let mut fitter = Fitter::new(FitOptions {
            recipes: Recipe::candidates(method, arguments.preset)?,
            backbone: &backbone,
            taps: arguments.taps.clone(),
            dimensions: arguments.dimensions,
            part: decision.part.clone(),
            located: decision.said.clone(),
            tiles: arguments.tiles,
            input_size,
            roi,
            false_reject_rate: arguments.false_reject_rate,
            video_of: None,
            mask: match &decision.mask {
                Some(mask) => Some(mask.clone()),
                None => arguments
                    .mask
                    .as_deref()
                    .map(|path| mask::read(path, input_size, roi))
                    .transpose()?,
            },
            paint: true,
            light: true,
            same_light,
            runtime: runtime.runtime(),
        })?;
        let part = decision.part.as_ref();
        let framing = Framing {
            input: part.map_or(Input::Fixed(input_size), |part| Input::Scene {
                longest: part.model.scene,
                roi,
                frame: None,
            }),
            normalization: fitter.normalization(),
            roi,
        };
        let mut cutter = part.map(|part| Cutter::new(part, input_size, fitter.normalization()));
        let mut without = Vec::new();
        let bar = progress(paths.len(), "fitting");
        let reading = Reading {
            bits: arguments
                .bits
                .or_else(|| images::sample_bits(paths, reading)),
            ..reading
        };
        let (mut sizes, mut deep, mut beyond) = (Sizes::default(), false, 0);
        let (mut seen, mut names, mut readable) = (HashSet::new(), Vec::new(), Vec::new());
        images::for_each_readable(paths, framing, reading, &bar, |index, image| {
            sizes.add(image.size);
            seen.insert(image.digest());
            deep |= image.largest.is_some();
            let bits = image.largest.map(bits_of);
            beyond += usize::from(bits > Some(reading.bits.unwrap_or(16)));
            let name = paths[index].file_name().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            let parts = cut(&mut cutter, image.tensor.view(), |part| {
                names.push(name.clone());
                Ok(fitter.add(part)?)
            })?;
            if parts == 0 {
                without.push(name);
            }
            readable.push(paths[index].clone());
            Ok(())
        })?;
        if !asked.bad.is_empty() {
            images::for_each_readable(asked.bad, framing, reading, &bar, |_, image| {
                let add = |part: ArrayView3<'_, f32>| Ok(fitter.add_bad(part)?);
                cut(&mut cutter, image.tensor.view(), add)?;
                Ok(())
            })?;
        }
        fitter.describe_files(reading.bits.filter(|_| deep), sizes.usual());
        if say {
            let beyond = reading
                .bits
                .filter(|_| deep && beyond > 0)
                .map(|bits| (beyond, bits));
            let several = sizes.several(input_size).filter(|_| part.is_none());
            bar.suspend(|| {
                warn_of(fitter.groups(), several, beyond);
                warn_without(&without, paths.len());
            });
        }
        let mut progress = Progress::new(show_on(&bar), Cancel::default());
        match asked.leave_out {
            LeaveOut::Foreign => fitter.leave_out_foreign(&mut progress)?,
            LeaveOut::Unusual => fitter.leave_out_unusual(&mut progress)?,
            LeaveOut::None => 0,
        };
        let fitted = fitter.finish(&mut progress);
        drop(progress);
        bar.finish_and_clear();
        let Finished {
            mut model,
            backbone,
            defects,
            maps,
            cluster,
        } = fitted?;
        model.metadata.name_images(&names);
        Ok(Fitted {
            model,
            backbone,
            defects,
            maps,
            cluster,
            seen,
            read: readable,
        })
    }
}

/// Hands the parts that an image shows to `each`, or the whole of it where there are none to locate. Returns how many there were.
fn cut(
    cutter: &mut Option<Cutter>,
    image: ArrayView3<'_, f32>,
    mut each: impl FnMut(ArrayView3<'_, f32>) -> anyhow::Result<()>,
) -> anyhow::Result<usize> {
    match cutter {
        Some(cutter) => cutter.cut(image, each),
        None => each(image).map(|()| 1),
    }
}

/// Good images that are named as being without a part.
const NAMED: usize = 8;

/// Warns of good images in which no part was located.
fn warn_without(without: &[String], images: usize) {
    if without.is_empty() {
        return;
    }
    let named = without[..without.len().min(NAMED)].join(", ");
    let more = match without.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    warn(format_args!(
        "{} of {images} images show no part that can be located, and are left out: {named}{more}",
        without.len()
    ));
}

/// Warns of what is odd about the images. `beyond`: how many hold samples of more than so many bits.
fn warn_of(groups: &Groups, several: Option<impl fmt::Display>, beyond: Option<(usize, u8)>) {
    if let Some(several) = several {
        warn(several);
    }
    if let Some((images, bits)) = beyond {
        warn(format_args!(
            "{images} images hold samples of more than {bits} bits, which count as white; raise --bits"
        ));
    }
    if groups.copies() > 0 {
        warn(format_args!(
            "{} of {} images are copies of others, or nearly: they are held out together, and each picture counts once for the threshold",
            groups.copies(),
            groups.of.len()
        ));
    } else if (0.0..STILL).contains(&groups.typical) && groups.count > 1 {
        warn(format_args!(
            "the images hardly differ, by {:.2} of 255 grey levels over areas: frames of one part that stands still do not show how good parts vary",
            groups.typical
        ));
    }
}
