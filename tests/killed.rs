//! Killed at any moment while it learns, loads models anew and records: the model file is the old or the new one, recordings play.
//!
//! `VADLITE_KILLS=200 cargo test --release --test killed -- --nocapture` kills it more often than the tests need to.

mod common;

use common::element::init;
use common::recordings::{json, play, videos};
use common::{Random, model, scratch};
use gst::prelude::*;
use gstvadlite::detector::model_file::ModelFile;
use gstvadlite::detector::{Detector, Options};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// In the environment of the process that is to be killed: the folder that it works in.
const FOLDER: &str = "VADLITE_TEST_FOLDER";
/// Fewest frames that a model can be learnt from.
const FRAMES: u64 = 10;

/// What the other test runs in a process of its own; nothing otherwise.
#[test]
fn a_line_to_be_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    init();
    let folder = Path::new(&folder);
    let camera = "videotestsrc is-live=true pattern=ball motion=sweep ! video/x-raw,format=I420,width=320,height=240,framerate=60/1";
    let model = folder.join("part.vadlite");
    // Flags everything, in files of a third of a second.
    let inspect = gst::parse::launch(&format!(
        "{camera} ! vadlite model={} reload=auto threshold=0.000001 threads=1 \
         ! vadliterecord location={} encoder=jpegenc pre-roll=100000000 post-roll=100000000 max-duration=300000000",
        model.display(),
        folder.join("incidents").display()
    ));
    let inspect = inspect.unwrap();
    inspect.set_state(gst::State::Playing).unwrap();
    // Learns the model again and again.
    loop {
        let learn = gst::parse::launch(&format!(
            "{camera} ! vadlite mode=learn learn-frames={FRAMES} model={} threads=1 ! fakesink",
            model.display()
        ));
        let learn: gst::Pipeline = learn.unwrap().downcast().unwrap();
        learn.set_state(gst::State::Playing).unwrap();
        let bus = learn.bus().unwrap();
        loop {
            let kinds = [gst::MessageType::Element, gst::MessageType::Error];
            let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &kinds);
            let message = message.expect("nothing is learnt");
            let structure = message.structure().unwrap();
            assert_ne!(message.type_(), gst::MessageType::Error, "{structure}");
            if structure.get("phase") == Ok("done") {
                break;
            }
        }
        learn.set_state(gst::State::Null).unwrap();
    }
}

/// Nothing is left but what the limits of the next run know: names of incidents, of files that may not be whole as well.
fn only_incidents(folder: &Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let (stem, kind) = name.split_once("Z-").unwrap();
        assert!(stem.starts_with("incident-"), "{name}");
        let (_, kind) = kind.split_once('.').unwrap();
        let kinds = ["mkv", "json", "png", "json.part", "png.part"];
        assert!(kinds.contains(&kind), "{name}");
    }
}

#[test]
fn killed_at_any_moment_models_are_whole_and_recordings_play() {
    let kills = std::env::var("VADLITE_KILLS").map_or(12, |kills| kills.parse().unwrap());
    let old = std::fs::read(&model().path).unwrap();
    let mut random = Random::new(3);
    let (mut new, mut recordings, mut cut) = (0, 0, 0);
    for round in 0..kills {
        let folder = scratch().join(format!("round-{round}"));
        std::fs::create_dir(&folder).unwrap();
        let path = folder.join("part.vadlite");
        std::fs::write(&path, &old).unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_line_to_be_killed"])
            .env(FOLDER, &folder)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(200 + random.below(2800) as u64));
        let ended = child.try_wait().unwrap();
        child.kill().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(ended.is_none(), "it ended by itself: {output:?}");

        if std::fs::read(&path).unwrap() != old {
            new += 1;
            let metadata = ModelFile::read(&path).unwrap().metadata;
            assert!(metadata.good_images as u64 <= FRAMES);
        }
        Detector::open(&path, Options::default()).unwrap();

        let incidents = folder.join("incidents");
        if incidents.exists() {
            only_incidents(&incidents);
        }
        let videos = incidents.exists().then(|| videos(&incidents));
        let videos = videos.unwrap_or_default();
        recordings += videos.len();
        let Some((last, before)) = videos.split_last() else {
            continue;
        };
        for video in before {
            let report = json(video);
            assert_eq!(report["complete"], true, "{}", video.display());
            assert_eq!(report["frames"], play(video).len(), "{}", video.display());
        }
        // The last may have been begun just now, or been complete by chance; what it has plays.
        let size = last.metadata().unwrap().len();
        if size > 0 {
            let frames = play(last).len();
            cut += usize::from(frames > 0);
        }
        // Never half a description.
        if last.with_extension("json").exists() {
            json(last);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
    println!(
        "{kills} kills: the new model {new} times; {recordings} recordings, {cut} of them cut short after at least a frame"
    );
}
