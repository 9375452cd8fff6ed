//! What the log tells of `vadlitetrigger` and `vadliterecord`, and what it never tells.

mod common;

use common::broker::Broker;
use common::element::{Rig, init};
use common::line::{Line, Shown};
use common::port::Port;
use common::recordings::{Feed, folder, videos};
use common::{Part, scratch};
use gst::prelude::*;
use gst_video::VideoFormat as F;
use std::sync::{Mutex, MutexGuard, Once};

const MS: u64 = 1_000_000;

/// Category and line, of our own categories up to LOG and of all others up to what is warned of.
static LINES: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());
/// One test at a time has the log.
static ALONE: Mutex<()> = Mutex::new(());

/// Begins with an empty log.
fn log() -> MutexGuard<'static, ()> {
    static ONCE: Once = Once::new();
    let alone = ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    init();
    ONCE.call_once(|| {
        gst::log::remove_default_log_function();
        gst::log::set_threshold_for_name("vadlite*", gst::DebugLevel::Trace);
        gst::log::add_log_function(|category, _, _, _, _, _, message| {
            if let Some(message) = message.get() {
                let line = (category.name().to_string(), message.to_string());
                LINES.lock().unwrap().push(line);
            }
        });
    });
    LINES.lock().unwrap().clear();
    alone
}

/// Whether a line of this category holds all of these.
fn has(category: &str, texts: &[&str]) -> bool {
    let lines = LINES.lock().unwrap();
    lines
        .iter()
        .any(|(its, line)| its == category && texts.iter().all(|text| line.contains(text)))
}

#[track_caller]
fn assert_has(category: &str, texts: &[&str]) {
    assert!(
        has(category, texts),
        "{texts:?} of {:#?}",
        LINES.lock().unwrap()
    );
}

/// With `GST_DEBUG=vadlitetrigger:6`: what each frame was taken for, and what became of each part, of the gate and of the outputs.
#[test]
fn the_log_of_the_trigger_tells_what_was_decided_about_each_part() {
    let _alone = log();
    let nobody = Port::reserve();
    let mut line = Line::on_test_clock(&format!(
        "vadlitetrigger delay=300000000 decision=majority merge-window=50000000 fail-safe=reject watchdog=1000000000 \
         output=modbus-tcp://127.0.0.1:{nobody}/3"
    ));
    let category = "vadlitetrigger";
    assert_has(category, &["the property delay is", "300000000"]);
    assert_has(category, &["the property output is set"]);
    assert!(!has(category, &["the property output is \""]));
    line.show(Shown::GOOD);
    line.run_to(20 * MS);
    line.show(Shown::DEFECTIVE);
    line.run_to(320 * MS);
    line.wait(|line| line.stat("pulses") == 1);
    line.run_to(400 * MS);
    for shown in [Shown::DEFECTIVE, Shown::GOOD, Shown::GOOD] {
        line.show(shown);
    }
    line.run_to(700 * MS);
    line.wait(|_| has(category, &["passes at", "part 1"]));
    line.run_to(1400 * MS);
    line.wait(|line| line.stat("silences") == 1);
    line.wait(|_| has(category, &["the gate is held at"]));
    line.wait(|_| has(category, &["modbus-tcp://127.0.0.1", "tried again"]));
    // Each frame, its number, what it showed, and the part that it was counted to.
    assert_has(
        category,
        &[
            "frame 0: inspected, score 0.5 of threshold 1; taken at",
            "no part",
        ],
    );
    assert_has(
        category,
        &[
            "frame 1: inspected, score 2 of threshold 1, flagged; taken at",
            "begins part 0",
        ],
    );
    assert_has(
        category,
        &["frame 3: inspected, score 0.5", "belongs to part 1"],
    );
    // When it was fired, by which decision, and why.
    assert_has(
        category,
        &[
            "fired at",
            "decision=majority: part 0 since",
            "flagged, 1 of 1 inspected frames",
        ],
    );
    assert_has(
        category,
        &[
            "passes at",
            "decision=majority: part 1",
            "1 of 3 inspected frames",
        ],
    );
    drop(line);
    assert_has(category, &["stopped"]);
}

/// With `GST_DEBUG=vadliterecord:6`: which encoder, which frames, which files, and why a file ends.
#[test]
fn the_log_of_the_recorder_tells_of_each_incident() {
    let _alone = log();
    let folder = folder("logged");
    let mut feed = Feed::new(
        &format!(
            "location=\"{}\" encoder=jpegenc post-roll=100000000",
            folder.display()
        ),
        true,
        64,
    );
    feed.push_all(0..30, Some(10));
    feed.end();
    let name = videos(&folder)[0]
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let category = "vadliterecord";
    assert_has(category, &["encoder jpegenc"]);
    assert_has(category, &["the source is live: true"]);
    assert_has(
        category,
        &["frame at 0:00:00.000000000: 0 of 1 results flag it"],
    );
    assert_has(category, &["frame 10 at", "is flagged by made-up.vadlite"]);
    assert_has(category, &["key frame of"]);
    assert_has(
        category,
        &[&name, "is open", "frame 10 at", "with score 2.1 over 1"],
    );
    assert_has(category, &[&name, "ends: from"]);
    assert_has(category, &["on the disk", &name]);
    assert_has(category, &["end of stream: all is on the disk"]);
}

/// Whatever is logged, and wherever a password was put.
#[test]
fn no_log_tells_a_password() {
    let _alone = log();
    let credentials = scratch().join("credentials");
    std::fs::write(&credentials, "user=line1\npassword=hunter2\n").unwrap();
    let credentials = credentials.to_str().unwrap();
    let broker = Broker::start();
    let address = format!("mqtt://127.0.0.1:{}/line/1", broker.port());
    let mut line = Line::start(&format!(
        "vadlitetrigger output={address} credentials=\"{credentials}\""
    ));
    line.wait(|line| line.stat("connected") == 1);
    line.show(Shown::DEFECTIVE);
    line.wait(|line| line.stat("pulses") == 1);
    drop(line);
    let mut rig = Rig::new(&[("stats-mqtt", &address), ("credentials", credentials)]);
    rig.inspect(&Part::good(1).picture(320, 240), F::Rgb);
    drop(rig);
    // By mistake in a property or an address: refused, while it runs and before.
    for wrong in ["user=me password=hunter2", "hunter2"] {
        for name in ["vadlitetrigger", "vadlite"] {
            let element = gst::ElementFactory::make(name).build().unwrap();
            let publishes = if name == "vadlite" {
                "stats-mqtt"
            } else {
                "output"
            };
            element.set_property(publishes, &address);
            element.set_property("credentials", wrong);
            assert!(element.set_state(gst::State::Paused).is_err());
            element.set_property(publishes, "mqtt://me:hunter2@broker/a");
            assert!(element.set_state(gst::State::Paused).is_err());
            element.set_state(gst::State::Null).unwrap();
        }
    }
    let lines = LINES.lock().unwrap();
    // Both have said something of the broker.
    for category in ["vadlitetrigger", "vadlite"] {
        let mut its = lines.iter().filter(|(name, _)| name == category);
        assert!(its.any(|(_, line)| line.contains("mqtt")), "{category}");
    }
    let told: Vec<_> = lines
        .iter()
        .filter(|(_, line)| line.contains("hunter2"))
        .collect();
    assert!(told.is_empty(), "{told:?}");
}
