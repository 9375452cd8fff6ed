//! `vadliterecord`: what is in the files, by playing them again.

mod common;

use common::element::init;
use common::recordings::{
    FRAME, folder, json, play, record, record_results, recorder, result, small_frame, source,
    videos,
};
use gst::prelude::*;
use std::path::PathBuf;
use std::process::Command;

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
fn every_result_of_a_frame_counts() {
    let folder = folder("results");
    let properties = format!(
        "location={} encoder=jpegenc pre-roll=100000000 post-roll=100000000",
        folder.display()
    );
    let (stats, messages, warnings) = record_results(&source(100), &properties, |frame| {
        let first = result("first.vadlite", frame, frame == 70);
        let second = result("second.vadlite", frame, [30, 70].contains(&frame));
        vec![first, second]
    });
    assert_eq!(warnings, Vec::<String>::new());
    // Frames, however many have flagged them.
    assert_eq!(stats.get::<u64>("flagged"), Ok(2), "{stats:?}");
    let counted = messages.iter().map(|message| message.get("flagged"));
    assert_eq!(counted.collect::<Vec<_>>(), [Ok(1u64), Ok(1)]);
    let listed: Vec<Vec<_>> = videos(&folder)
        .iter()
        .map(|video| {
            let listed = json(video)["flagged"].as_array().unwrap().clone();
            let entry =
                |known: &serde_json::Value| (known["model"].clone(), known["frame"].clone());
            listed.iter().map(entry).collect()
        })
        .collect();
    let entry = |model: &str, frame: u64| (model.into(), frame.into());
    assert_eq!(
        listed,
        [
            vec![entry("second.vadlite", 30)],
            vec![entry("first.vadlite", 70), entry("second.vadlite", 70)]
        ]
    );
}

/// The description's fields are an interface: as they are, in their order, numbers as double.
#[test]
fn the_description_has_its_fields() {
    let folder = folder("fields");
    record(
        &source(30),
        &format!("location={} encoder=jpegenc", folder.display()),
        &[10],
    );
    let video = &videos(&folder)[0];
    let text = std::fs::read_to_string(video.with_extension("json")).unwrap();
    let begun = json(video)["begun"].as_str().unwrap().to_owned();
    let name = video.file_name().unwrap().to_str().unwrap();
    assert_eq!(
        text,
        format!(
            r#"{{
  "file": "{name}",
  "complete": true,
  "begun": "{begun}",
  "start": 0,
  "frames": 30,
  "model": "made-up.vadlite",
  "worst_frame": 10,
  "score": 2.1,
  "flagged": [
    {{
      "frame": 10,
      "time": 333333333,
      "score": 2.1,
      "threshold": 1.0,
      "model": "made-up.vadlite",
      "regions": [
        {{
          "x": 0.0,
          "y": 0.0,
          "w": 0.5,
          "h": 0.5,
          "score": 2.0999999046325684
        }}
      ]
    }}
  ]
}}
"#
        )
    );
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

/// 60 frames of one size, and 60 of another.
fn two_sizes() -> String {
    let part = |size| {
        format!("videotestsrc num-buffers=60 ! video/x-raw,format=I420,{size},framerate=30/1 ! c.")
    };
    format!(
        "{} {} concat name=c",
        part("width=320,height=240"),
        part("width=160,height=120")
    )
}

#[test]
fn a_new_size_makes_a_new_file() {
    let folder = folder("sizes");
    let source = two_sizes();
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

/// The time after a flagged frame is recorded in whatever format it comes.
#[test]
fn a_new_size_within_an_incident_loses_nothing_of_it() {
    let folder = folder("sizes within");
    let source = two_sizes();
    let properties = format!("location=\"{}\" post-roll=1000000000", folder.display());
    record(&source, &properties, &[50]);
    let frames: Vec<_> = videos(&folder)
        .iter()
        .map(|video| play(video).len())
        .collect();
    // Up to frame 80, and the flagged one a second before it.
    assert_eq!(frames.len(), 2, "{frames:?}");
    assert!(
        frames[0] == 60 && (20..=22).contains(&frames[1]),
        "{frames:?}"
    );
}

/// What was flagged before a flush and never encoded does not flag the frames after it, whose times begin anew.
#[test]
fn a_flush_takes_what_is_on_its_way() {
    init();
    let folder = folder("flush");
    let (element, bus, mut harness) = recorder(&folder);
    let push = |harness: &mut gst_check::Harness, frame: u64, flagged| {
        harness
            .push(small_frame(frame, frame * FRAME, flagged))
            .unwrap();
    };
    // Nothing gets to the encoder before the flush.
    let children = element.downcast_ref::<gst::Bin>().unwrap().children();
    let is_queue = |child: &&gst::Element| child.name().starts_with("queue");
    let queue = children.iter().find(is_queue).unwrap();
    let pad = queue.static_pad("src").unwrap();
    let types = gst::PadProbeType::BLOCK | gst::PadProbeType::BUFFER;
    let block = pad
        .add_probe(types, |_, _| gst::PadProbeReturn::Ok)
        .unwrap();
    for frame in 0..20 {
        push(&mut harness, frame, frame == 10);
    }
    assert!(harness.push_event(gst::event::FlushStart::new()));
    pad.remove_probe(block);
    assert!(harness.push_event(gst::event::FlushStop::new(true)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(harness.push_event(gst::event::Segment::new(&segment)));
    for frame in 0..20 {
        push(&mut harness, frame, false);
    }
    assert!(harness.push_event(gst::event::Eos::new()));
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(30), &[gst::MessageType::Eos]);
    assert!(end.is_some());
    element.set_state(gst::State::Null).unwrap();
    let stats: gst::Structure = element.property("stats");
    assert_eq!(stats.get::<u64>("flagged"), Ok(1), "{stats:?}");
    assert_eq!(videos(&folder), Vec::<PathBuf>::new());
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
