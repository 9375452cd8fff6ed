//! A line from the first good part to the gate, on a generated belt whose defects are known: in one pipeline, and in the ready ones.
//!
//! What happened is printed: `cargo test --release --test belt -- --nocapture`. `VADLITE_BELT=7` runs another belt.

mod common;

use common::belt::{Belt, PITCH, Pace, RATE, frame_at, source, time};
use common::broker::Broker;
use common::plc::Plc;
use common::program::{plugins, text};
use common::scratch;
use gst::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// From the camera to the gate of a ready pipeline: long enough for a machine that has other work to have seen each part by then.
const TO_GATE: Duration = Duration::from_secs(5);

/// They run in real time, so one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

fn belt_seed() -> u64 {
    std::env::var("VADLITE_BELT").map_or(1, |seed| seed.parse().unwrap())
}

/// An incident as its description has it.
struct Incident {
    /// Time of the first frame.
    start: u64,
    /// Times of the flagged frames.
    flagged: Vec<u64>,
}

fn incidents(folder: &Path) -> Vec<Incident> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let reports = paths.filter(|path| path.extension().is_some_and(|kind| kind == "json"));
    reports
        .map(|path| {
            let report: serde_json::Value =
                serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(report["complete"], true, "{}", path.display());
            assert!(path.with_extension("mkv").metadata().unwrap().len() > 1000);
            let flagged = report["flagged"].as_array().unwrap();
            Incident {
                start: report["start"].as_u64().unwrap(),
                flagged: flagged
                    .iter()
                    .map(|known| known["time"].as_u64().unwrap())
                    .collect(),
            }
        })
        .collect()
}

/// In how many recordings a part is from before it enters (or from the stream's beginning).
fn recordings_of(incidents: &[Incident], part: u64) -> usize {
    let of_part = |time: &&u64| Belt::part(frame_at(**time)) == part;
    incidents
        .iter()
        .filter(|incident| {
            incident.flagged.iter().any(|time| of_part(&time))
                && incident.start <= time(part * PITCH) + 1_000_000
        })
        .count()
}

/// One pipeline: learns from the first half, then inspects, rejects and records; at last the lamp grows dim.
#[test]
fn a_minute_from_the_first_good_part_to_the_gate() {
    let _alone = alone();
    let belt = Belt {
        seed: belt_seed(),
        frames: 60 * RATE,
        defects_from: 30 * RATE,
        dim_from: 47 * RATE,
    };
    let video = scratch().join("minute.mkv");
    belt.write(&video);
    let folder = scratch().join("incidents of a minute");
    let plc = Plc::start();
    let text = format!(
        "{} ! vadlite name=vadlite mode=learn method=patchcore-lite learn-frames=360 false-reject-rate=0.003 model={} overlay=none drift-interval=333000000 drift-limit=5000 threads=1
         ! tee name=t ! queue ! vadliterecord name=record location=\"{}\" pre-roll=700000000 post-roll=100000000
         t. ! queue ! vadlitetrigger name=trigger output={} delay=900000000 pulse=150000000 merge-window=290000000 decision=majority ! fakesink",
        source(&video),
        scratch().join("minute.vadlite").display(),
        folder.display(),
        plc.address(3),
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
    // The frames for learning have come by then.
    let slow_from = time(20 * RATE);
    let pace = Pace::start(&pipeline, &pipeline.by_name("trigger").unwrap(), slow_from);
    pipeline.set_state(gst::State::Playing).unwrap();
    let (mut learnt, mut drift) = (None, None);
    let mut pulses: BTreeMap<u64, u32> = BTreeMap::new();
    let bus = pipeline.bus().unwrap();
    loop {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(90));
        let message = message.expect("nothing happens for 90 seconds");
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => panic!("{error:?}"),
            gst::MessageView::Element(element) => {
                let structure = element.structure().unwrap();
                match structure.name().as_str() {
                    "vadlite-learn" if structure.get("phase") == Ok("done") => {
                        let element = pipeline.by_name("vadlite").unwrap();
                        let stats: gst::Structure = element.property("stats");
                        learnt = Some(stats.get::<u64>("frames").unwrap());
                        pace.learnt();
                        println!("{structure}");
                    }
                    "vadlite-drift" => {
                        drift = drift.or(Some(structure.get::<u64>("frame").unwrap()));
                        println!("{structure}");
                    }
                    "vadlitetrigger" => {
                        let frame: u64 = structure.get("frame").unwrap();
                        *pulses.entry(Belt::part(frame)).or_default() += 1;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    let stat = |element: &str, name: &str| -> u64 {
        let stats: gst::Structure = pipeline.by_name(element).unwrap().property("stats");
        stats.get(name).unwrap()
    };
    assert_eq!(stat("trigger", "late"), 0);
    assert_eq!(stat("record", "failed") + stat("record", "dropped"), 0);
    let all_pulses = stat("trigger", "pulses");
    pipeline.set_state(gst::State::Null).unwrap();

    let learnt = learnt.expect("no model was learnt");
    println!("learnt by frame {learnt} of {}", belt.frames);
    assert!(learnt < belt.defects_from, "learnt at frame {learnt}");
    // While the lamp is as it was.
    let parts = belt.defects_from / PITCH..belt.dim_from / PITCH;
    let (defective, good): (Vec<u64>, Vec<u64>) = parts.partition(|part| belt.defective(*part));
    let rejected = |parts: &[u64]| -> Vec<u64> {
        let parts = parts.iter().copied();
        parts.filter(|part| pulses.contains_key(part)).collect()
    };
    let (hits, alarms) = (rejected(&defective), rejected(&good));
    println!(
        "rejected: {} of {} defective parts, {} of {} good ones",
        hits.len(),
        defective.len(),
        alarms.len(),
        good.len()
    );
    println!(
        "drift reported at frame {drift:?}; the lamp grows dim at {}",
        belt.dim_from
    );
    assert!(
        hits.len() as f64 >= 0.95 * defective.len() as f64,
        "{hits:?} of {defective:?}"
    );
    assert!(
        alarms.len() as f64 <= 0.01 * good.len() as f64,
        "{alarms:?}"
    );

    // A pulse each, at the gate too. Under the dim lamp everything is flagged, with nothing to tell parts apart by.
    let before = pulses.range(..belt.dim_from / PITCH);
    assert!(
        before.into_iter().all(|(_, count)| *count == 1),
        "{pulses:?}"
    );
    let opened = plc.edges().iter().filter(|edge| edge.on).count();
    assert_eq!(opened as u64, all_pulses);
    // A recording each, from before the part enters.
    let incidents = incidents(&folder);
    for part in hits {
        assert_eq!(
            recordings_of(&incidents, part),
            1,
            "recordings of part {part}"
        );
    }
    let drift = drift.expect("the dim lamp is not noticed");
    assert!(drift >= belt.dim_from, "drift is reported at frame {drift}");
}

/// Runs a ready pipeline on a video of the belt; returns what it prints.
fn run(script: &str, video: Option<&str>, gate: &str, arguments: &[&Path]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = Path::new(env!("CARGO_BIN_EXE_vadlite"));
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new("sh");
    command
        .arg(root.join("pipelines").join(script))
        .args(arguments)
        .env("GST_PLUGIN_PATH", plugins())
        .env(
            "GST_REGISTRY",
            scratch().join(format!("registry of {script}")),
        )
        .env(
            "PATH",
            format!("{}:{path}", program.parent().unwrap().display()),
        )
        .env("VADLITE_SINK", "fakesink")
        .env(
            "VADLITE_OPTIONS",
            "method=patchcore-lite false-reject-rate=0.004 threads=1",
        )
        .env("VADLITE_GATE", gate);
    if let Some(video) = video {
        command.env("VADLITE_SOURCE", video);
    }
    let output = command.output().unwrap();
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{script}: {said}{errors}");
    said
}

/// The numbers of the frames that a pipeline's lines call flagged.
fn flagged_frames(said: &str) -> Vec<u64> {
    let lines = said.lines().filter(|line| line.ends_with("flagged true"));
    let numbers = lines.map(|line| line.split_whitespace().nth(1).unwrap());
    numbers.map(|number| number.parse().unwrap()).collect()
}

#[test]
fn the_ready_pipelines_learn_inspect_record_and_reject() {
    let _alone = alone();
    let always = u64::MAX / 2;
    let good = Belt {
        seed: 100 + belt_seed(),
        frames: 28 * RATE,
        defects_from: always,
        dim_from: always,
    };
    let (video, model) = (scratch().join("good.mkv"), scratch().join("ready.vadlite"));
    good.write(&video);
    let said = run(
        "learn.sh",
        Some(&source(&video)),
        "",
        &[&model, "300".as_ref()],
    );
    assert!(
        said.contains("Progress: (learn) the model is learnt"),
        "{said}"
    );

    let belt = Belt {
        seed: 200 + belt_seed(),
        frames: 20 * RATE,
        defects_from: 2 * PITCH,
        dim_from: always,
    };
    let video = scratch().join("defects.mkv");
    belt.write(&video);
    let defective: BTreeSet<u64> = belt.parts().filter(|part| belt.defective(*part)).collect();

    // Every defective part in several frames, and of the others a frame here and there.
    let frames = flagged_frames(&run("inspect.sh", None, "", &[&model, &video]));
    let (of_defective, others): (Vec<u64>, Vec<u64>) = frames
        .iter()
        .map(|frame| Belt::part(*frame))
        .partition(|part| defective.contains(part));
    println!(
        "inspect.sh: {} frames of defective parts flagged, {} of others",
        of_defective.len(),
        others.len()
    );
    assert_eq!(of_defective.into_iter().collect::<BTreeSet<_>>(), defective);
    assert!(others.len() as u64 <= belt.frames / 50, "{others:?}");

    let folder: PathBuf = scratch().join("recordings");
    let said = run(
        "record-flagged.sh",
        Some(&source(&video)),
        "",
        &[&model, &folder],
    );
    let incidents = incidents(&folder);
    assert_eq!(said.matches("recorded ").count(), incidents.len(), "{said}");
    for part in &defective {
        assert_eq!(
            recordings_of(&incidents, *part),
            1,
            "recordings of part {part}"
        );
    }

    // Both gates at once, to save time.
    let (broker, plc) = (Broker::start(), Plc::start());
    let messages = broker.listen("line/#");
    let mqtt = format!("mqtt://127.0.0.1:{}/line/1", broker.port());
    let gate = |output: &str| {
        // A machine that has other work may lose frames, which are no part's: what was not seen passes. A pulse that has waited for its
        // width is missed; defective parts are further apart than that.
        let settings = "fail-safe=pass decision=majority merge-window=290000000 pulse=600000000";
        let delay = TO_GATE.as_millis().to_string();
        let arguments: [&Path; 3] = [&model, output.as_ref(), delay.as_ref()];
        run(
            "reject-gate.sh",
            Some(&source(&video)),
            settings,
            &arguments,
        )
    };
    let said = std::thread::scope(|scope| {
        let by_mqtt = scope.spawn(|| gate(&mqtt));
        let by_modbus = gate(&plc.address(7));
        [by_mqtt.join().unwrap(), by_modbus]
    });
    let mut heard = BTreeSet::new();
    while heard.len() < defective.len() {
        let (topic, text) = messages
            .recv_timeout(Duration::from_secs(5))
            .unwrap_or_else(|_| panic!("only {heard:?} of {defective:?} came; {}", said[0]));
        if topic == "line/1" {
            let part: serde_json::Value = serde_json::from_str(&text).unwrap();
            let seen = part["due"].as_u64().unwrap() - TO_GATE.as_nanos() as u64;
            assert!(
                heard.insert(Belt::part(frame_at(seen))),
                "{part} comes twice"
            );
        }
    }
    assert_eq!(heard, defective);
    let opened = plc.edges().iter().filter(|edge| edge.on).count();
    assert_eq!(opened, defective.len(), "{}", said[1]);
}
