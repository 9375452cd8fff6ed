//! `vadliterecord` when something goes wrong: what is in the files all the same, and what is said.

mod common;

use common::element::init;
use common::recordings::{
    FRAME, Feed, folder, json, play, record, record_results, recorder, result, small_frame, source,
    videos,
};
use gst::prelude::*;
use gstvadlite::video::meta::META_NAME;
use std::path::Path;

const SECOND: u64 = 1_000_000_000;
/// In either direction, of the clock of a camera.
const HOUR: u64 = 3600 * SECOND;

fn properties(folder: &Path) -> String {
    format!(
        "location=\"{}\" encoder=jpegenc pre-roll=500000000 post-roll=300000000",
        folder.display()
    )
}

fn frames(folder: &Path) -> Vec<usize> {
    let videos = videos(folder);
    videos.iter().map(|video| play(video).len()).collect()
}

/// What was warned of, but for frames that came too fast.
fn warnings(feed: &Feed) -> Vec<String> {
    let mut warnings = feed.warnings();
    warnings.retain(|text| !text.contains("too slow"));
    warnings
}

/// Each frame is in a video, or counted: one that is pushed as fast as this may be too fast for the encoder.
#[track_caller]
fn assert_all_there(feed: &Feed, folder: &Path, pushed: u64) {
    let recorded = frames(folder).iter().sum::<usize>() as u64;
    assert_eq!(recorded + feed.stat("dropped"), pushed);
}

#[test]
fn an_incident_is_complete_while_the_source_stalls() {
    for live in [true, false] {
        let folder = folder(&format!("stall {live}"));
        let mut feed = Feed::new(&properties(&folder), live, 64);
        feed.push_all(0..40, Some(38));
        let message = feed.wait_for_incident();
        assert_eq!(message.get::<u64>("flagged"), Ok(1));
        let video = videos(&folder).remove(0);
        assert_eq!(json(&video)["complete"], true);
        assert!(video.with_extension("png").exists());
        let count = play(&video).len();
        // From half a second before frame 38 on.
        // From half a second before frame 38 on; a live source may have been too fast.
        let dropped = feed.stat("dropped") as usize;
        assert!(count <= 18 && count + dropped >= 17, "{live}: {count}");
        // It comes back, and what is flagged then has its run-up.
        feed.push_all(40..60, Some(45));
        feed.end();
        let frames = frames(&folder);
        assert_eq!((frames.len(), frames[0]), (2, count));
        let dropped = feed.stat("dropped") as usize;
        assert!(frames[1] + dropped >= 15 + 10, "{live}: {frames:?}");
        assert_eq!(warnings(&feed), Vec::<String>::new());
    }
}

/// As a service is stopped: without an end of the stream.
#[test]
fn stopping_completes_the_incident() {
    for state in [gst::State::Null, gst::State::Ready] {
        let folder = folder(&format!("stop in {state:?}"));
        let mut feed = Feed::new(&properties(&folder), true, 64);
        feed.push_all(0..20, Some(10));
        feed.wait_until("flagged", |feed| {
            feed.stat("flagged") == 1 && !videos(&folder).is_empty()
        });
        feed.set_state(state).unwrap();
        feed.wait_until("complete", |feed| feed.stat("incidents") == 1);
        let video = videos(&folder).remove(0);
        assert_eq!(json(&video)["complete"], true);
        assert!(video.with_extension("png").exists());
        assert!(!play(&video).is_empty());
    }
}

#[test]
fn frames_without_time_stamps_are_recorded_and_told_once() {
    let folder = folder("untimed");
    let mut feed = Feed::new(&properties(&folder), true, 64);
    for _ in 0..50 {
        feed.push(None, true);
    }
    feed.end();
    assert_eq!(feed.stat("flagged"), 50);
    // The first may have got one from the source.
    assert!(feed.stat("untimed") >= 49);
    assert_all_there(&feed, &folder, 50);
    let warnings = warnings(&feed);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("no time stamps"), "{warnings:?}");
}

#[test]
fn time_stamps_that_jump_lose_nothing() {
    let folder = folder("jumps");
    let properties = format!(
        "location=\"{}\" encoder=jpegenc pre-roll=10000000000 post-roll=10000000000",
        folder.display()
    );
    let mut feed = Feed::new(&properties, true, 64);
    for frame in 0..90 {
        // An hour ahead from frame 30 on, and back at 60.
        let jump = if (30..60).contains(&frame) { HOUR } else { 0 };
        feed.push(Some(frame * FRAME + jump), [35, 65].contains(&frame));
    }
    feed.end();
    assert_eq!((feed.stat("flagged"), feed.stat("jumps")), (2, 2));
    assert_eq!(videos(&folder).len(), 1);
    assert_all_there(&feed, &folder, 90);
    let listed = json(&videos(&folder)[0])["flagged"].clone();
    assert_eq!(
        (&listed[0]["frame"], &listed[1]["frame"]),
        (&35.into(), &65.into())
    );
    let warnings = warnings(&feed);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

/// Frames outside of their segment would be left out by the encoder; one that begins anew may count from anywhere.
#[test]
fn segments_lose_nothing() {
    init();
    let folder = folder("segments");
    let (element, bus, mut harness) = recorder(&folder);
    let mut number = 0;
    for (start, first) in [(0, 0), (HOUR, HOUR), (HOUR, 0)] {
        let mut segment = gst::FormattedSegment::<gst::ClockTime>::new();
        segment.set_start(gst::ClockTime::from_nseconds(start));
        assert!(harness.push_event(gst::event::Segment::new(&segment)));
        for frame in 0..20 {
            harness
                .push(small_frame(number, first + frame * FRAME, frame == 10))
                .unwrap();
            number += 1;
        }
    }
    assert!(harness.push_event(gst::event::Eos::new()));
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &[gst::MessageType::Eos]);
    assert!(end.is_some());
    element.set_state(gst::State::Null).unwrap();
    let stats: gst::Structure = element.property("stats");
    assert_eq!(stats.get::<u64>("flagged"), Ok(3), "{stats:?}");
    let recorded = frames(&folder).iter().sum::<usize>() as u64;
    assert_eq!(recorded + stats.get::<u64>("dropped").unwrap(), 60);
}

/// Neither the message nor the limits wait for a picture.
#[test]
fn a_picture_that_fails_fails_alone() {
    let folder = folder("pictures");
    init();
    let properties = format!(
        "location={} encoder=jpegenc pre-roll=100000000 post-roll=100000000 max-files=2",
        folder.display()
    );
    let spoil = "identity name=spoil";
    let (stats, messages, warnings) = record_spoilt(
        &format!("{} ! {spoil}", source(400)),
        &properties,
        &[50, 120, 190, 260, 330],
    );
    assert_eq!(stats.get::<u64>("incidents"), Ok(5), "{stats:?}");
    assert_eq!(stats.get::<u64>("missed"), Ok(5), "{stats:?}");
    assert_eq!(stats.get::<u64>("failed"), Ok(0), "{stats:?}");
    assert_eq!((messages, stats.get::<u64>("removed")), (5, Ok(3)));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("anomaly map"), "{warnings:?}");
    let left = videos(&folder);
    assert_eq!(left.len(), 2);
    for video in left {
        assert_eq!(json(&video)["complete"], true);
        assert!(!video.with_extension("png").exists());
    }
}

/// As [`record`], with anomaly maps of another size than they say. Returns stats, the number of messages, and warnings.
fn record_spoilt(
    source: &str,
    properties: &str,
    flagged: &[u64],
) -> (gst::Structure, usize, Vec<String>) {
    let flagged = flagged.to_vec();
    let made = move |frame| vec![result("made-up.vadlite", frame, flagged.contains(&frame))];
    let (stats, messages, warnings) =
        common::recordings::record_changed(source, properties, made, |buffer| {
            let mut meta = gst::meta::CustomMeta::from_mut_buffer(buffer, META_NAME).unwrap();
            meta.mut_structure().set("map-width", 77u32);
        });
    (stats, messages.len(), warnings)
}

#[test]
fn a_result_that_cannot_be_read_is_told_once() {
    let folder = folder("unread");
    let (stats, _, warnings) = common::recordings::record_changed(
        &source(30),
        &properties(&folder),
        |frame| vec![result("made-up.vadlite", frame, false)],
        |buffer| {
            let mut meta = gst::meta::CustomMeta::from_mut_buffer(buffer, META_NAME).unwrap();
            meta.mut_structure().set("score", "high");
        },
    );
    assert_eq!(stats.get::<u64>("unread"), Ok(30), "{stats:?}");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn a_folder_that_is_taken_away_costs_the_open_incident_only() {
    let folder = folder("taken away");
    let properties = format!(
        "location=\"{}\" encoder=jpegenc post-roll=20000000000",
        folder.display()
    );
    let mut feed = Feed::new(&properties, true, 64);
    feed.push_all(0..20, Some(10));
    // Its description comes after the video: from here on nothing is added to the folder while it is taken away.
    feed.wait_until("open", |_| {
        let mut files = std::fs::read_dir(&folder).unwrap();
        files.any(|file| file.unwrap().path().extension() == Some("json".as_ref()))
    });
    std::fs::remove_dir_all(&folder).unwrap();
    feed.push_all(20..800, None);
    feed.wait_until("failed", |feed| feed.stat("failed") == 1);
    feed.push_all(800..820, Some(810));
    feed.end();
    let warnings = warnings(&feed);
    assert_eq!(feed.stat("incidents"), 1, "{warnings:?}");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(frames(&folder).len(), 1);
}

#[test]
fn two_recorders_keep_the_limits_of_one_folder_together() {
    let folder = folder("two recorders");
    let properties = format!(
        "location=\"{}\" encoder=jpegenc pre-roll=100000000 post-roll=100000000 max-files=3",
        folder.display()
    );
    let flagged: Vec<u64> = (0..15).map(|incident| 20 + 30 * incident).collect();
    let threads = [(); 2].map(|()| {
        let (properties, flagged) = (properties.clone(), flagged.clone());
        std::thread::spawn(move || record(&source(500), &properties, &flagged))
    });
    for thread in threads {
        let (stats, messages, warnings) = thread.join().unwrap();
        assert_eq!(stats.get::<u64>("incidents"), Ok(15), "{stats:?}");
        assert_eq!(messages.len(), 15);
        assert_eq!(warnings, Vec::<String>::new());
    }
    let left = videos(&folder);
    assert_eq!(left.len(), 3, "{left:?}");
    for video in left {
        assert_eq!(json(&video)["complete"], true);
        assert_eq!(json(&video)["frames"], play(&video).len());
    }
}

#[test]
fn a_folder_may_have_any_name() {
    let folder = folder("100 % Ausschuß/%05d für \u{1F9EA}");
    let (stats, messages, _) = record(&source(30), &properties(&folder), &[10]);
    assert_eq!(stats.get::<u64>("incidents"), Ok(1), "{stats:?}");
    let location: String = messages[0].get("location").unwrap();
    assert_eq!(Path::new(&location), videos(&folder)[0]);
    assert!(!play(&videos(&folder)[0]).is_empty());
}

/// What cannot start can once it is put right, and what is set in READY counts.
#[test]
fn an_element_that_could_not_start_can_be_used_again() {
    let folder = folder("again");
    let mut feed = Feed::ready("location=/proc/incidents encoder=jpegenc", true, 64);
    let refused = |feed: &Feed, text: &str| {
        assert!(feed.set_state(gst::State::Playing).is_err());
        let errors = feed.errors();
        assert!(
            errors.iter().any(|error| error.contains(text)),
            "{errors:?}"
        );
        feed.set_state(gst::State::Null).unwrap();
    };
    refused(&feed, "/proc/incidents");
    feed.element
        .set_property("location", folder.to_str().unwrap());
    feed.element.set_property("pre-roll", 80u64);
    refused(&feed, "pre-roll");
    feed.element.set_property("pre-roll", 80_000_000u64);
    feed.element.set_property("encoder", "no-such-encoder");
    refused(&feed, "no-such-encoder");
    // It is there, and encodes nothing.
    feed.element.set_property("encoder", "fakesink");
    refused(&feed, "jpegenc");
    feed.element.set_property("encoder", "jpegenc");
    for round in 0..3 {
        let folder = folder.join(format!("round {round}"));
        // From READY, and from NULL.
        feed.set_state(gst::State::Ready).unwrap();
        feed.element
            .set_property("location", folder.to_str().unwrap());
        feed.play();
        feed.push_all(0..30, Some(10));
        feed.end();
        // Told at once, and the old value stays.
        feed.element.set_property("post-roll", 80u64);
        let warnings = warnings(&feed);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("post-roll"), "{warnings:?}");
        assert_eq!(feed.element.property::<u64>("post-roll"), 2 * SECOND);
        if round == 1 {
            feed.set_state(gst::State::Null).unwrap();
        }
        feed.set_state(gst::State::Ready).unwrap();
        feed.wait_until("recorded", |_| videos(&folder).len() == 1);
        assert!(!play(&videos(&folder)[0]).is_empty());
    }
}

/// The times of a video's key frames, in nanoseconds.
fn key_frames(video: &Path) -> Vec<u64> {
    let text = format!(
        "filesrc location=\"{}\" ! matroskademux ! appsink name=sink sync=false",
        video.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
    let sink: gst_app::AppSink = pipeline.by_name("sink").unwrap().downcast().unwrap();
    pipeline.set_state(gst::State::Playing).unwrap();
    let samples = std::iter::from_fn(|| sink.pull_sample().ok());
    let keys = samples.filter_map(|sample| {
        let buffer = sample.buffer().unwrap();
        let delta = buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        (!delta).then(|| buffer.pts().unwrap().nseconds())
    });
    let keys = keys.collect();
    pipeline.set_state(gst::State::Null).unwrap();
    keys
}

#[test]
fn each_second_has_its_key_frame_after_a_restart_too() {
    let folder = folder("key frames");
    let properties = format!("location=\"{}\" encoder=x264enc", folder.display());
    let mut feed = Feed::ready(&properties, false, 64);
    for (round, state) in [gst::State::Null, gst::State::Null, gst::State::Ready]
        .into_iter()
        .enumerate()
    {
        feed.set_state(state).unwrap();
        feed.play();
        feed.push(Some(0), true);
        for frame in 1..150 {
            feed.push(Some(frame * FRAME), true);
        }
        feed.end();
        assert_eq!(videos(&folder).len(), round + 1);
        let keys = key_frames(&videos(&folder)[round]);
        assert!(keys.len() >= 4, "round {round}: {keys:?}");
        let far = keys
            .windows(2)
            .find(|pair| pair[1] - pair[0] > 3 * SECOND / 2);
        assert_eq!(far, None, "round {round}: {keys:?}");
    }
}

#[test]
fn only_the_newest_stays_where_the_limit_is_less_than_one() {
    let folder = folder("small limit");
    let properties = format!("{} max-bytes=1", properties(&folder));
    let (stats, _, warnings) = record(&source(200), &properties, &[20, 80, 140]);
    assert_eq!(stats.get::<u64>("removed"), Ok(2), "{stats:?}");
    assert_eq!(warnings, Vec::<String>::new());
    let left = videos(&folder);
    assert_eq!(left.len(), 1);
    assert_eq!(json(&left[0])["worst_frame"], 140);
}

/// Parts of one long incident are incidents for the limits.
#[test]
fn the_limit_may_be_less_than_the_parts_of_one_incident() {
    let folder = folder("parts");
    let properties = format!("{} max-files=2 max-duration=500000000", properties(&folder));
    let (stats, _, _) = record_results(&source(150), &properties, |frame| {
        vec![result("made-up.vadlite", frame, true)]
    });
    let parts = stats.get::<u64>("incidents").unwrap();
    assert!(parts > 4, "{stats:?}");
    assert_eq!(stats.get::<u64>("removed"), Ok(parts - 2), "{stats:?}");
    let last: Vec<_> = videos(&folder)
        .iter()
        .map(|video| json(video)["worst_frame"].clone())
        .collect();
    assert_eq!(last.len(), 2);
    assert_eq!(last[1], 149);
}
