//! `vadliterecord`: what is in the files, by playing them again.

mod common;

use common::element::init;
use common::recordings::{json, play, videos};
use common::scratch;
use gst::prelude::*;
use gstvadlite::detector::Region;
use gstvadlite::geometry::Roi;
use gstvadlite::video::meta::{FrameResult, ResultMap};
use gstvadlite::video::overlay::MapView;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

const FRAME: u64 = 1_000_000_000 / 30;

/// A folder of its own.
fn folder(name: &str) -> PathBuf {
    let folder = scratch().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// `SOURCE ! vadliterecord`, where the frames with these numbers are flagged; played to the end. Returns stats, messages and warnings.
fn record(
    source: &str,
    properties: &str,
    flagged: &[u64],
) -> (gst::Structure, Vec<gst::Structure>, Vec<String>) {
    init();
    let text = format!("{source} ! identity name=marks ! vadliterecord name=it {properties}");
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
    let flagged: BTreeSet<u64> = flagged.iter().copied().collect();
    let frames = std::sync::atomic::AtomicU64::new(0);
    // As if the heatmap were on grey frames already.
    let drawn = source.contains("GRAY8");
    let pad = pipeline
        .by_name("marks")
        .unwrap()
        .static_pad("src")
        .unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let buffer = info.buffer_mut().unwrap().make_mut();
        let frame = frames.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        // Higher scores the later; hot in the upper left quarter.
        let (score, map) = (2.0 + frame as f64 / 100.0, [[3.0, 0.1], [0.1, 0.1]]);
        let region = Region {
            x: 0.0,
            y: 0.0,
            width: 0.5,
            height: 0.5,
            score: score as f32,
        };
        let flagged = flagged.contains(&frame);
        let result = FrameResult {
            score: if flagged { score } else { 0.5 },
            threshold: 1.0,
            flagged,
            inspected: true,
            skipped: false,
            drawn,
            frame,
            model: "made-up.vadlite".into(),
            latency: 1,
            regions: if flagged { vec![region] } else { Vec::new() }.into(),
            map: Some(ResultMap::new(MapView {
                values: ndarray::aview2(&map),
                roi: Roi::WHOLE,
            })),
        };
        result.write(buffer).unwrap();
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let mut messages = Vec::new();
    let mut warnings = Vec::new();
    let mut take = |message: &gst::MessageRef| match message.view() {
        gst::MessageView::Element(element) => {
            let structure = element
                .structure()
                .filter(|has| has.name() == "vadliterecord");
            messages.extend(structure.map(ToOwned::to_owned));
        }
        gst::MessageView::Warning(warning) => warnings.push(warning.error().message().to_owned()),
        gst::MessageView::Error(error) => panic!("{error:?}"),
        _ => {}
    };
    loop {
        let message = bus
            .timed_pop(gst::ClockTime::from_seconds(60))
            .expect("no end in a minute");
        take(&message);
        if wanted.contains(&message.type_()) {
            break;
        }
    }
    let element = pipeline.by_name("it").unwrap();
    // The last file is closed by the time the element has stopped.
    let held = element.clone();
    let (sender, receiver) = std::sync::mpsc::channel();
    bus.set_sync_handler(move |_, message| {
        let _ = sender.send(message.clone());
        gst::BusSyncReply::Drop
    });
    while let Some(message) = bus.pop() {
        take(&message);
    }
    pipeline.set_state(gst::State::Null).unwrap();
    bus.unset_sync_handler();
    for message in receiver.try_iter() {
        take(&message);
    }
    (held.property("stats"), messages, warnings)
}

fn source(frames: u32) -> String {
    format!(
        "videotestsrc num-buffers={frames} pattern=ball ! video/x-raw,format=NV12,width=320,height=240,framerate=30/1"
    )
}

#[test]
fn each_incident_is_one_file_with_its_run_up() {
    for encoder in ["x264enc", "openh264enc", "jpegenc"] {
        let folder = folder(encoder);
        let properties = format!(
            "location={} encoder={encoder} pre-roll=1000000000 post-roll=500000000",
            folder.display()
        );
        // Frames 100, 110 and 140 belong together (their recordings would overlap); and so do 250 and 290.
        let (stats, messages, warnings) =
            record(&source(300), &properties, &[100, 110, 140, 250, 290]);
        assert!(warnings.is_empty(), "{warnings:?}");
        assert_eq!(stats.get::<u64>("flagged"), Ok(5), "{stats:?}");
        assert_eq!(stats.get::<u64>("dropped"), Ok(0), "{stats:?}");
        let videos = videos(&folder);
        assert_eq!(
            (videos.len(), messages.len()),
            (2, 2),
            "{encoder}: {messages:?}"
        );
        for (video, (first, last)) in videos.iter().zip([(100, 140), (250, 290)]) {
            let json = json(video);
            assert_eq!(json["complete"], true);
            assert_eq!(json["model"], "made-up.vadlite");
            assert_eq!(json["worst_frame"], last);
            assert_eq!(json["flagged"][0]["frame"], first);
            let times = play(video);
            let start = json["start"].as_u64().unwrap();
            // A second before the first flagged frame, and up to one more to the key frame.
            let begin = first * 1_000_000_000 / 30;
            assert!(start <= begin - 1_000_000_000, "{encoder}: from {start}");
            assert!(
                start + 2_000_000_000 + 3 * FRAME > begin,
                "{encoder}: from {start}"
            );
            assert_eq!(times[0], 0);
            let end = (last * FRAME + 500_000_000).min(299 * FRAME);
            let seen = start + times.last().unwrap();
            // Matroska keeps milliseconds.
            assert!(
                seen.abs_diff(end) < FRAME + 2_000_000,
                "{encoder}: to {seen}, not {end}"
            );
            assert_eq!(json["frames"], times.len());
            // No frame is missing in between.
            let count = (seen - start).div_ceil(FRAME) + 1;
            assert!(
                (times.len() as u64).abs_diff(count) <= 1,
                "{encoder}: {} of {count}",
                times.len()
            );
        }
    }
}

#[test]
fn the_worst_frame_is_a_picture_with_its_heatmap() {
    for format in ["I420", "GRAY8"] {
        let folder = folder(&format!("picture in {format}"));
        let black = format!(
            "videotestsrc num-buffers=60 pattern=black ! video/x-raw,format={format},width=320,height=240,framerate=30/1"
        );
        record(
            &black,
            &format!("location=\"{}\"", folder.display()),
            &[20, 30],
        );
        let picture = image::open(videos(&folder)[0].with_extension("png"))
            .unwrap()
            .to_rgb8();
        assert_eq!(picture.dimensions(), (320, 240));
        // In colour, and only where the map is hot.
        let [red, _, blue] = picture.get_pixel(40, 30).0.map(i32::from);
        assert!((red - blue).abs() > 60, "{format}: {red}, {blue}");
        let cold = picture.get_pixel(280, 200).0;
        assert!(cold.iter().all(|value| *value < 20), "{format}: {cold:?}");
    }
}

#[test]
fn the_oldest_incidents_go_first() {
    let folder = folder("limits");
    let properties = format!(
        "location={} pre-roll=100000000 post-roll=100000000 max-files=2",
        folder.display()
    );
    let (stats, _, _) = record(&source(400), &properties, &[50, 150, 250, 350]);
    assert_eq!(stats.get::<u64>("incidents"), Ok(4));
    assert_eq!(stats.get::<u64>("removed"), Ok(2));
    let left: Vec<_> = videos(&folder)
        .iter()
        .map(|video| json(video)["worst_frame"].clone())
        .collect();
    assert_eq!(left, [250, 350]);
}

#[test]
fn an_incident_that_goes_on_continues_in_another_file() {
    let folder = folder("long");
    let all: Vec<u64> = (30..270).collect();
    let properties = format!(
        "location={} pre-roll=500000000 post-roll=500000000 max-duration=3000000000",
        folder.display()
    );
    let (stats, _, warnings) = record(&source(300), &properties, &all);
    assert_eq!(warnings, Vec::<String>::new());
    let files = videos(&folder);
    assert!(files.len() >= 2, "{files:?}");
    assert_eq!(stats.get::<u64>("incidents").unwrap(), files.len() as u64);
    let mut frames = 0;
    let mut listed = Vec::new();
    for file in &files {
        let count = play(file).len();
        // Up to a second more until the next key frame.
        assert!(count <= 4 * 30, "{count} frames in {}", file.display());
        frames += count;
        let report = json(file);
        let flagged = report["flagged"].as_array().unwrap();
        listed.extend(flagged.iter().map(|known| known["frame"].as_u64().unwrap()));
        let start = report["start"].as_u64().unwrap();
        let times = flagged.iter().map(|known| known["time"].as_u64().unwrap());
        for time in times {
            assert!((start..start + count as u64 * FRAME + FRAME).contains(&time));
        }
    }
    // Each frame once, from the run-up to the time after.
    assert!((15 + 240 + 15..=300).contains(&frames), "{frames}");
    assert_eq!(listed, all);
}

#[test]
fn a_new_size_makes_a_new_file() {
    let folder = folder("sizes");
    let part = |size| {
        format!("videotestsrc num-buffers=60 ! video/x-raw,format=I420,{size},framerate=30/1 ! c.")
    };
    let source = format!(
        "{} {} concat name=c",
        part("width=320,height=240"),
        part("width=160,height=120")
    );
    record(
        &source,
        &format!("location={}", folder.display()),
        &[58, 62],
    );
    let frames: Vec<_> = videos(&folder)
        .iter()
        .map(|video| play(video).len())
        .collect();
    assert_eq!(frames, [60, 60]);
}

/// A file system of a megabyte; gone with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(name: &str) -> Self {
        let folder = folder(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=400k", "tmpfs"])
            .arg(&folder)
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "tmpfs cannot be mounted: run the tests as root, as tests/run.sh is"
        );
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_a_warning_and_recording_goes_on_when_there_is_room() {
    let disk = SmallDisk::mount("full");
    let filler = disk.0.join("filler");
    std::fs::write(&filler, vec![0; 300 << 10]).unwrap();
    let snow = "videotestsrc num-buffers=150 pattern=snow ! video/x-raw,format=I420,width=640,height=480,framerate=30/1";
    let properties = format!("location={} encoder=jpegenc", disk.0.display());
    let (stats, _, warnings) = record(snow, &properties, &[75]);
    assert!(stats.get::<u64>("failed").unwrap() > 0, "{stats:?}");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("goes on"), "{warnings:?}");
    std::fs::remove_file(filler).unwrap();
    for video in videos(&disk.0) {
        std::fs::remove_file(video).unwrap();
    }
    let (stats, _, warnings) = record(&source(60), &properties, &[30]);
    assert_eq!(stats.get::<u64>("incidents"), Ok(1), "{warnings:?}");
}

#[test]
fn a_folder_that_cannot_be_written_is_refused_at_the_start() {
    init();
    let element = gst::ElementFactory::make("vadliterecord")
        .property("location", "/proc/incidents")
        .build()
        .unwrap();
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    assert!(element.set_state(gst::State::Ready).is_err());
    let message = bus.pop_filtered(&[gst::MessageType::Error]).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    let text = error.error().message().to_owned();
    assert!(
        text.contains("property location") && text.contains("/proc/incidents"),
        "{text}"
    );
    element.set_state(gst::State::Null).unwrap();
}
