//! One incident: its video, and beside it what is known of the incident (JSON) and its worst frame (PNG).

use super::cutter::Unit;
use super::error::RecordError;
use super::picture::HeldFrame;
use super::retention;
use super::writer::Writer;
use crate::fs::{self, Durability};
use crate::video::meta::FrameResult;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Flagged results that the JSON lists; more are counted only.
const LISTED: usize = 10_000;

/// A flagged result of a frame, as the JSON lists it. A frame that several elements have flagged has several.
#[derive(Debug, Clone, Serialize)]
pub struct FlaggedFrame {
    pub frame: u64,
    /// Running time in nanoseconds.
    pub time: u64,
    pub score: f64,
    pub threshold: f64,
    pub model: String,
    regions: Vec<Region>,
}

/// In 0..1 of the frame.
#[derive(Debug, Clone, Serialize)]
struct Region {
    x: f64,
    y: f64,
    w: f64,
    h: f64,
    score: f64,
}

impl FlaggedFrame {
    /// `time` is the frame's running time in nanoseconds.
    pub fn new(result: &FrameResult<'_>, time: u64) -> Self {
        let regions = result.regions.iter().map(|region| Region {
            x: region.x.into(),
            y: region.y.into(),
            w: region.width.into(),
            h: region.height.into(),
            score: region.score.into(),
        });
        Self {
            frame: result.frame,
            time,
            score: result.score,
            threshold: result.threshold,
            model: result.model.clone().into_owned(),
            regions: regions.collect(),
        }
    }
}

/// The incident that is open.
pub struct Incident {
    folder: PathBuf,
    pub name: String,
    begun: SystemTime,
    /// None before the first frame, and after a failure.
    writer: Option<Writer>,
    /// Running times of the video's first and last frame, in nanoseconds.
    pub span: Option<(u64, u64)>,
    /// Number of flagged frames, and the running time of the last.
    flagged: u64,
    last_flagged: Option<u64>,
    listed: Vec<FlaggedFrame>,
    /// The one with the highest score, and its picture to be.
    worst: Option<(FlaggedFrame, Option<HeldFrame>)>,
}

/// An incident that is on the disk.
#[derive(Debug)]
pub struct Recorded {
    /// The video.
    pub location: PathBuf,
    /// Frames in it, and how many of them were flagged.
    pub frames: u64,
    pub flagged: u64,
    /// The highest score.
    pub score: f64,
    /// Of the video's frames.
    pub bytes: u64,
    /// Its worst frame is there as a picture.
    pub picture: bool,
}

/// What stands in the JSON beside a video.
#[derive(Serialize)]
struct Description<'a> {
    file: String,
    complete: bool,
    begun: String,
    /// Running time at the file's beginning, in nanoseconds; a frame's `time` less this is its time in the file.
    start: u64,
    /// In the file, once it is complete.
    frames: u64,
    model: &'a str,
    worst_frame: Option<u64>,
    score: f64,
    flagged: &'a [FlaggedFrame],
}

impl Incident {
    pub fn new(folder: &Path) -> Self {
        let begun = SystemTime::now();
        Self {
            folder: folder.to_owned(),
            name: retention::new_name(begun),
            begun,
            writer: None,
            span: None,
            flagged: 0,
            last_flagged: None,
            listed: Vec::new(),
            worst: None,
        }
    }

    /// Takes in a flagged result of one of its frames. The first is written down at once, for the case that the end is not reached.
    ///
    /// # Errors
    /// [`RecordError::Description`].
    pub fn add_flagged(
        &mut self,
        flagged: FlaggedFrame,
        held: Option<HeldFrame>,
    ) -> Result<(), RecordError> {
        if self.last_flagged.replace(flagged.time) != Some(flagged.time) {
            self.flagged += 1;
        }
        let first = self.worst.is_none();
        if self
            .worst
            .as_ref()
            .is_none_or(|(worst, _)| flagged.score > worst.score)
        {
            self.worst = Some((flagged.clone(), held));
        }
        if self.listed.len() < LISTED {
            self.listed.push(flagged);
        }
        match first {
            true => self.describe(None),
            false => Ok(()),
        }
    }

    /// Appends a frame with these caps to the video. After a failure nothing more is written: what is on the disk stays there.
    ///
    /// # Errors
    /// [`RecordError::Folder`] and [`RecordError::Video`].
    pub fn write(&mut self, unit: Unit<gst::Buffer>, caps: &gst::Caps) -> Result<(), RecordError> {
        let (folder, name) = (&self.folder, &self.name);
        let path = || path(folder, name, "mkv");
        let failed = |source| RecordError::Video {
            path: path(),
            source,
        };
        let begins = self.span.is_none();
        self.span = Some((self.span.map_or(unit.time, |(start, _)| start), unit.time));
        if begins {
            // A folder that was taken away comes back with the next incident.
            std::fs::create_dir_all(folder).map_err(|source| RecordError::Folder {
                path: folder.clone(),
                source,
            })?;
            self.writer = Some(Writer::create(&path(), caps).map_err(failed)?);
        }
        if let Some(mut writer) = self.writer.take() {
            writer.write(unit.data).map_err(failed)?;
            self.writer = Some(writer);
        }
        Ok(())
    }

    /// Completes the video, and then what stands beside it. `None` where there is none, after a failure that has been told.
    ///
    /// # Errors
    /// What is missing of the incident.
    pub fn close(mut self) -> Result<Option<Recorded>, RecordError> {
        let Some(writer) = self.writer.take() else {
            return Ok(None);
        };
        let mut recorded = Recorded {
            location: self.path("mkv"),
            frames: writer.frames,
            flagged: self.flagged,
            score: self.worst.as_ref().map_or(0.0, |(worst, _)| worst.score),
            bytes: writer.bytes,
            picture: false,
        };
        writer.finish().map_err(|source| RecordError::Video {
            path: recorded.location.clone(),
            source,
        })?;
        if let Some((worst, Some(held))) = &self.worst {
            let path = self.path("png");
            held.save(&path, worst.threshold)
                .map_err(|error| RecordError::Picture {
                    path,
                    source: Box::new(error),
                })?;
            recorded.picture = true;
        }
        self.describe(Some(recorded.frames))?;
        Ok(Some(recorded))
    }

    fn path(&self, kind: &str) -> PathBuf {
        path(&self.folder, &self.name, kind)
    }

    /// Writes what is known, whole or not at all. A video of `frames` is complete.
    fn describe(&self, frames: Option<u64>) -> Result<(), RecordError> {
        let worst = self.worst.as_ref().map(|(worst, _)| worst);
        let description = Description {
            file: format!("{}.mkv", self.name),
            complete: frames.is_some(),
            begun: humantime::format_rfc3339_millis(self.begun).to_string(),
            start: self.span.map_or(0, |(start, _)| start),
            frames: frames.unwrap_or_default(),
            model: worst.map_or("", |worst| &worst.model),
            worst_frame: worst.map(|worst| worst.frame),
            score: worst.map_or(0.0, |worst| worst.score),
            flagged: &self.listed,
        };
        let path = self.path("json");
        fs::replace(&path, Durability::Cached, |file| {
            let text = serde_json::to_vec_pretty(&description)?;
            file.write_all(&text)?;
            file.write_all(b"\n")
        })
        .map_err(|source| RecordError::Description { path, source })
    }
}

fn path(folder: &Path, name: &str, kind: &str) -> PathBuf {
    folder.join(format!("{name}.{kind}"))
}
