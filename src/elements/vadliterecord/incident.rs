//! One incident: its video, and beside it what is known of the incident (JSON) and its worst frame (PNG).

use super::cutter::Unit;
use super::error::RecordError;
use super::picture::HeldFrame;
use super::retention;
use super::writer::{WriteError, Writer};
use crate::video::meta::FrameResult;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
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
    /// Ids of the located parts that are flagged in it, those of the meta.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<u64>,
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
        let parts = result.parts.as_deref().unwrap_or_default().iter();
        let flagged = parts.filter(|part| part.flagged);
        Self {
            parts: flagged.map(|part| part.id).collect(),
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
    begun: SystemTime,
    video: Video,
    /// Running times of the video's first and last frame, in nanoseconds.
    pub span: Option<(u64, u64)>,
    /// Number of flagged frames, and the running time of the last.
    flagged: u64,
    last_flagged: Option<u64>,
    listed: Vec<FlaggedFrame>,
    /// The one with the highest score, and its picture to be.
    worst: Option<(FlaggedFrame, Option<HeldFrame>)>,
    described: bool,
}

/// How far the video is.
enum Video {
    /// Its first frame has not come.
    Awaited,
    Open(Open),
    /// It is not written any more, which has been told. What is on the disk by this name stays there.
    Failed(Option<String>),
}

struct Open {
    name: String,
    writer: Writer,
    /// Held for its lock, until all that belongs to the incident is there.
    _claim: File,
}

/// An incident that has ended.
#[derive(Debug, Default)]
pub struct Closed {
    /// Its name, where there is something on the disk.
    pub name: Option<String>,
    /// What is there, where the video is complete.
    pub recorded: Option<Recorded>,
    /// Why it is not.
    pub failure: Option<RecordError>,
    /// What is missing beside the video.
    pub missing: Vec<RecordError>,
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
    /// Ids of all located parts that are flagged in the frames listed.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    parts: BTreeSet<u64>,
    flagged: &'a [FlaggedFrame],
}

impl Incident {
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            begun: SystemTime::now(),
            video: Video::Awaited,
            span: None,
            flagged: 0,
            last_flagged: None,
            listed: Vec::new(),
            worst: None,
            described: false,
        }
    }

    /// Its name, for the log.
    pub fn name(&self) -> &str {
        match &self.video {
            Video::Awaited => "incident",
            Video::Open(open) => &open.name,
            Video::Failed(name) => name.as_deref().unwrap_or("incident"),
        }
    }

    /// Takes in a flagged result of one of its frames. The first is written down at once, for the case that the end is not reached.
    pub fn add_flagged(&mut self, flagged: FlaggedFrame, held: Option<HeldFrame>) {
        if self.last_flagged.replace(flagged.time) != Some(flagged.time) {
            self.flagged += 1;
        }
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
        if let Video::Open(open) = &self.video
            && !std::mem::replace(&mut self.described, true)
        {
            // What fails now fails at the end as well, and is told then.
            let _ = self.describe(&open.name, None);
        }
    }

    /// Appends a frame with these caps to the video. After a failure nothing more is written.
    ///
    /// # Errors
    /// [`RecordError::Folder`] and [`RecordError::Video`], once.
    pub fn write(&mut self, unit: Unit<gst::Buffer>, caps: &gst::Caps) -> Result<(), RecordError> {
        self.span = Some((self.span.map_or(unit.time, |(start, _)| start), unit.time));
        if let Video::Awaited = self.video {
            self.video = Video::Failed(None);
            self.video = Video::Open(self.open(caps)?);
        }
        if let Video::Open(open) = &mut self.video
            && let Err(source) = open.writer.write(unit.data)
        {
            let path = retention::path(&self.folder, &open.name, "mkv");
            self.video = Video::Failed(Some(open.name.clone()));
            return Err(RecordError::Video { path, source });
        }
        Ok(())
    }

    fn open(&self, caps: &gst::Caps) -> Result<Open, RecordError> {
        // A folder that was taken away comes back with the next incident.
        let folder = &self.folder;
        let (name, claim) = std::fs::create_dir_all(folder)
            .and_then(|()| retention::claim(folder, self.begun))
            .map_err(|source| RecordError::Folder {
                path: folder.clone(),
                source,
            })?;
        let path = retention::path(folder, &name, "mkv");
        match Writer::create(&path, caps) {
            Ok(writer) => Ok(Open {
                name,
                writer,
                _claim: claim,
            }),
            Err(source) => {
                // Nothing is in it.
                let _ = std::fs::remove_file(&path);
                Err(RecordError::Video { path, source })
            }
        }
    }

    /// Completes the video, and then what stands beside it; one that fails does not keep the others from being written.
    pub fn close(mut self) -> Closed {
        let mut closed = Closed::default();
        let mut claim = None;
        match std::mem::replace(&mut self.video, Video::Awaited) {
            Video::Awaited => {
                if self.worst.is_some() {
                    closed.failure = Some(RecordError::NoFrames);
                }
                return closed;
            }
            Video::Failed(name) => closed.name = name.filter(|name| self.has_left(name)),
            Video::Open(open) => {
                let location = retention::path(&self.folder, &open.name, "mkv");
                let (frames, bytes) = (open.writer.frames, open.writer.bytes);
                claim = Some(open._claim);
                let finished = open.writer.finish().and_then(|()| {
                    // Where the folder was taken away the file is written to the end, and gone.
                    location.symlink_metadata().map_err(WriteError::Gone)
                });
                match finished {
                    Ok(_) => {
                        closed.name = Some(open.name);
                        closed.recorded = Some(Recorded {
                            location,
                            frames,
                            flagged: self.flagged,
                            score: self.worst.as_ref().map_or(0.0, |(worst, _)| worst.score),
                            bytes,
                        });
                    }
                    Err(source) => {
                        closed.name = Some(open.name).filter(|name| self.has_left(name));
                        let path = location;
                        closed.failure = Some(RecordError::Video { path, source });
                    }
                }
            }
        }
        if let Some(name) = &closed.name {
            let picture = self.save_picture(name);
            let frames = closed.recorded.as_ref().map(|recorded| recorded.frames);
            let description = self.describe(name, frames);
            let missing = [picture, description].into_iter().filter_map(Result::err);
            closed.missing.extend(missing);
        }
        drop(claim);
        closed
    }

    /// Whether a video that has failed has left anything on the disk; a file without a byte goes.
    fn has_left(&self, name: &str) -> bool {
        let path = retention::path(&self.folder, name, "mkv");
        match path.symlink_metadata() {
            Ok(file) if file.len() == 0 => std::fs::remove_file(&path).is_err(),
            found => found.is_ok(),
        }
    }

    fn save_picture(&self, name: &str) -> Result<(), RecordError> {
        let Some((worst, Some(held))) = &self.worst else {
            return Ok(());
        };
        let path = retention::path(&self.folder, name, "png");
        let part = retention::path(&self.folder, name, "png.part");
        let saved = held.save(&part, worst.threshold).and_then(|()| {
            std::fs::rename(&part, &path).map_err(|source| held.error(source.into()))
        });
        saved.map_err(|error| {
            let _ = std::fs::remove_file(&part);
            RecordError::Picture {
                path,
                source: Box::new(error),
            }
        })
    }

    /// Writes what is known, whole or not at all. A video of `frames` is complete.
    fn describe(&self, name: &str, frames: Option<u64>) -> Result<(), RecordError> {
        let worst = self.worst.as_ref().map(|(worst, _)| worst);
        let description = Description {
            file: format!("{name}.mkv"),
            complete: frames.is_some(),
            begun: humantime::format_rfc3339_millis(self.begun).to_string(),
            start: self.span.map_or(0, |(start, _)| start),
            frames: frames.unwrap_or_default(),
            model: worst.map_or("", |worst| &worst.model),
            worst_frame: worst.map(|worst| worst.frame),
            score: worst.map_or(0.0, |worst| worst.score),
            parts: self
                .listed
                .iter()
                .flat_map(|frame| frame.parts.iter().copied())
                .collect(),
            flagged: &self.listed,
        };
        let path = retention::path(&self.folder, name, "json");
        let part = retention::path(&self.folder, name, "json.part");
        let write = || -> io::Result<()> {
            let mut file = BufWriter::new(File::create(&part)?);
            serde_json::to_writer_pretty(&mut file, &description)?;
            file.write_all(b"\n")?;
            file.flush()?;
            std::fs::rename(&part, &path)
        };
        write().map_err(|source| {
            let _ = std::fs::remove_file(&part);
            RecordError::Description { path, source }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::meta::FrameResult;

    fn result(frame: u64) -> FrameResult<'static> {
        FrameResult {
            score: 2.0,
            threshold: 1.0,
            flagged: true,
            inspected: true,
            skipped: false,
            drawn: false,
            frame,
            lost: 0,
            model: "made-up.vadlite".into(),
            latency: 1,
            size: crate::geometry::Size::new(10, 10),
            regions: Vec::new().into(),
            map: None,
            parts: None,
            reason: None,
        }
    }

    fn flagged(frame: u64) -> FlaggedFrame {
        FlaggedFrame::new(&result(frame), 0)
    }

    fn frame() -> (Unit<gst::Buffer>, gst::Caps) {
        let mut buffer = gst::Buffer::with_size(100).unwrap();
        buffer.get_mut().unwrap().set_pts(gst::ClockTime::ZERO);
        let unit = Unit {
            time: 0,
            key: true,
            size: 100,
            data: buffer,
        };
        let caps = gst::Caps::builder("image/jpeg")
            .field("width", 64)
            .field("height", 48)
            .field("framerate", gst::Fraction::new(30, 1));
        (unit, caps.build())
    }

    /// An incident of a frame, before whose end `spoil` does something to its folder and name.
    fn close(spoil: impl FnOnce(&Path, &str)) -> (tempfile::TempDir, Closed) {
        gst::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut incident = Incident::new(folder.path());
        let (unit, caps) = frame();
        incident.write(unit, &caps).unwrap();
        spoil(folder.path(), incident.name());
        incident.add_flagged(flagged(0), None);
        (folder, incident.close())
    }

    #[test]
    fn a_description_that_cannot_be_written_leaves_the_video_complete() {
        let (folder, closed) = close(|folder, name| {
            std::fs::create_dir(retention::path(folder, name, "json")).unwrap();
        });
        let recorded = closed.recorded.unwrap();
        assert_eq!(recorded.frames, 1);
        assert!(recorded.location.metadata().unwrap().len() > 100);
        assert!(closed.failure.is_none());
        let [RecordError::Description { .. }] = &closed.missing[..] else {
            panic!("{:?}", closed.missing);
        };
        // And nothing half-written beside it.
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn an_incident_names_its_parts() {
        let part = |id, flagged| crate::video::meta::PartResult {
            id,
            x: 0.5,
            y: 0.5,
            width: 0.1,
            height: 0.1,
            angle: 0.0,
            score: if flagged { 2.0 } else { 0.5 },
            flagged,
            complete: true,
            inspected: true,
        };
        gst::init().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut incident = Incident::new(folder.path());
        let (unit, caps) = frame();
        incident.write(unit, &caps).unwrap();
        for (frame, ids) in [(1, [(7, true), (8, false)]), (2, [(7, true), (9, true)])] {
            let parts: Vec<_> = ids.iter().map(|&(id, bad)| part(id, bad)).collect();
            let result = FrameResult {
                parts: Some(parts.into()),
                ..result(frame)
            };
            incident.add_flagged(FlaggedFrame::new(&result, frame), None);
        }
        let video = incident.close().recorded.unwrap().location;
        let text = std::fs::read(video.with_extension("json")).unwrap();
        let told: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(told["parts"], serde_json::json!([7, 9]));
        assert_eq!(told["flagged"][1]["parts"], serde_json::json!([7, 9]));
    }

    #[test]
    fn a_video_whose_folder_was_taken_away_is_no_success() {
        let (_folder, closed) = close(|folder, _| std::fs::remove_dir_all(folder).unwrap());
        assert!(closed.recorded.is_none());
        assert!(matches!(
            closed.failure,
            Some(RecordError::Video {
                source: WriteError::Gone(_),
                ..
            })
        ));
    }

    #[test]
    fn one_without_a_frame_is_a_failure_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut incident = Incident::new(folder.path());
        incident.add_flagged(flagged(0), None);
        let closed = incident.close();
        assert!(matches!(closed.failure, Some(RecordError::NoFrames)));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
