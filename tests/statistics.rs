//! The statistics where others collect them: a file for Prometheus, a real MQTT broker.

mod common;

use common::broker::Broker;
use common::element::{Rig, element, start_error};
use common::port::Port;
use common::{Part, Picture, scratch};
use gst_video::VideoFormat as F;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

fn good(seed: u64) -> Picture {
    Part::good(seed).picture(320, 240)
}

#[test]
fn statistics_are_written_for_prometheus() {
    let path = scratch().join("line1.prom");
    let mut rig = Rig::new(&[
        ("stats-file", path.to_str().unwrap()),
        ("name", "line \"1\""),
    ]);
    for seed in 0..3 {
        rig.inspect(&good(seed), F::Rgb);
    }
    drop(rig);
    let text = std::fs::read_to_string(&path).unwrap();
    let line =
        r#"vadlite_inspected_total{element="line \"1\"",model="part.vadlite",device="cpu"} 3"#;
    assert!(text.lines().any(|has| has == line), "{text}");
    // Each sample has its type, and nothing else is in the file.
    let lines: Vec<&str> = text.lines().collect();
    for lines in lines.chunks(3) {
        let name = lines[2].split('{').next().unwrap();
        assert!(
            lines[0].starts_with(&format!("# HELP {name} ")),
            "{lines:?}"
        );
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        assert_eq!(lines[1], format!("# TYPE {name} {kind}"));
        lines[2].rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
    }
}

/// The next message on this topic.
#[track_caller]
fn next(messages: &Receiver<(String, String)>, topic: &str) -> String {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let (its, text) = messages.recv_timeout(left).expect(topic);
        if its == topic {
            return text;
        }
    }
}

#[test]
fn statistics_are_published_until_the_element_stops() {
    let broker = Broker::start();
    let messages = broker.listen("plant/#");
    let address = format!("mqtt://127.0.0.1:{}/plant/line1", broker.port());
    let mut rig = Rig::new(&[("stats-mqtt", &address)]);
    assert_eq!(next(&messages, "plant/line1/status"), "online");
    let first: serde_json::Value =
        serde_json::from_str(&next(&messages, "plant/line1/stats")).unwrap();
    assert_eq!(
        (&first["frames"], &first["device"]),
        (&0.into(), &"cpu".into())
    );
    for seed in 0..3 {
        rig.inspect(&good(seed), F::Rgb);
    }
    drop(rig);
    let last: serde_json::Value =
        serde_json::from_str(&next(&messages, "plant/line1/stats")).unwrap();
    assert_eq!(
        (&last["frames"], &last["inspected"]),
        (&3.into(), &3.into())
    );
    assert_eq!(last["model"], "part.vadlite");
    let latency = last["latency_median"].as_f64().unwrap();
    assert!((1e-4..10.0).contains(&latency), "{latency}");
    assert_eq!(next(&messages, "plant/line1/status"), "offline");
    // Once: an orderly end is no case for the last will.
    let more = messages.recv_timeout(Duration::from_millis(300));
    assert!(more.is_err(), "{more:?}");
    // Who comes later hears of it as well.
    let later = broker.listen("plant/#");
    assert_eq!(next(&later, "plant/line1/status"), "offline");
}

#[test]
fn a_broker_that_comes_late_holds_up_nothing() {
    let port = Port::reserve();
    let address = format!("mqtt://127.0.0.1:{port}/plant/line1");
    let mut rig = Rig::new(&[("stats-mqtt", &address)]);
    let end = Instant::now() + Duration::from_secs(10);
    let mut warnings = Vec::new();
    while warnings.is_empty() {
        rig.inspect(&good(0), F::Rgb);
        warnings.extend(rig.messages().1);
        assert!(Instant::now() < end, "no warning");
    }
    assert!(
        warnings[0].contains("property stats-mqtt") && warnings[0].contains("tried again"),
        "{warnings:?}"
    );
    let broker = Broker::start_on(port);
    let messages = broker.listen("plant/#");
    next(&messages, "plant/line1/stats");
    // Once for all attempts.
    assert_eq!((warnings.len(), rig.messages().1.len()), (1, 0));
    // A broker that dies does not hold up the end.
    broker.kill();
    let start = Instant::now();
    drop(rig);
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    for (address, wrong) in [
        ("http://broker/plant", "mqtt://HOST"),
        ("mqtt://broker", "topic"),
        ("mqtt://me:hunter2@broker/plant", "VADLITE_MQTT_PASSWORD"),
    ] {
        let error = start_error(&element(&[("stats-mqtt", address)]));
        assert!(
            error.contains("property stats-mqtt") && error.contains(wrong),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    let error = start_error(&element(&[("stats-file", "/nonexistent/line1.prom")]));
    assert!(error.contains("/nonexistent/line1.prom"), "{error}");
}
