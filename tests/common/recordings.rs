//! What `vadliterecord` has written.

use super::element::init;
use gst::prelude::*;
use std::path::{Path, PathBuf};

pub fn videos(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut videos: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "mkv"))
        .collect();
    videos.sort();
    videos
}

/// The time stamps of a video's frames, all decoded.
#[track_caller]
pub fn play(video: &Path) -> Vec<u64> {
    init();
    let text = "filesrc name=file ! matroskademux ! decodebin ! videoconvert ! appsink name=sink sync=false";
    let pipeline = gst::parse::launch(text).unwrap();
    let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
    pipeline
        .by_name("file")
        .unwrap()
        .set_property("location", video);
    let sink: gst_app::AppSink = pipeline.by_name("sink").unwrap().downcast().unwrap();
    let bus = pipeline.bus().unwrap();
    let failed = || bus.pop_filtered(&[gst::MessageType::Error]);
    pipeline.set_state(gst::State::Playing).unwrap();
    let mut times = Vec::new();
    while !sink.is_eos() {
        match sink.try_pull_sample(gst::ClockTime::from_seconds(1)) {
            Some(sample) => times.push(sample.buffer().unwrap().pts().unwrap().nseconds()),
            None => assert!(failed().is_none(), "{} does not play", video.display()),
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    times
}

pub fn json(video: &Path) -> serde_json::Value {
    let text = std::fs::read_to_string(video.with_extension("json")).unwrap();
    serde_json::from_str(&text).unwrap()
}
