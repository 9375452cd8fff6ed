//! The statistics where others collect them: a file for Prometheus, a real MQTT broker.

mod common;

use common::broker::Broker;
use common::element::{Rig, element, start_error};
use common::port::Port;
use common::raw_broker::{Manner, RawBroker};
use common::{Part, Picture, model, scratch};
use gst_video::VideoFormat as F;
use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

fn good(seed: u64) -> Picture {
    Part::good(seed).picture(320, 240)
}

/// A family of Prometheus' text format: its type, and its samples by name and labels.
#[derive(Debug)]
struct Family {
    kind: String,
    samples: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

/// Reads a file in Prometheus' text format by the rules of
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-format-details>, and panics where it breaks one.
fn read_prometheus(text: &str) -> BTreeMap<String, Family> {
    let is_name = |name: &str| {
        let mut letters = name.chars();
        letters
            .next()
            .is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
            && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut families = BTreeMap::<String, Family>::new();
    let mut helped = Vec::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(is_name(name) && !help.is_empty(), "{line}");
            assert!(!helped.contains(&name), "help twice: {line}");
            helped.push(name);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "summary"].contains(&kind), "{line}");
            assert_eq!(helped.last(), Some(&name), "no help before {line}");
            let family = Family {
                kind: kind.into(),
                samples: BTreeMap::new(),
            };
            // All of a family in one group, with its type once and first.
            assert!(
                families.insert(name.into(), family).is_none(),
                "type twice: {line}"
            );
            current = name.into();
        } else {
            let (name, rest) = line.split_once('{').unwrap();
            let (labels, value) = rest.rsplit_once("} ").unwrap();
            let family = families.get_mut(&current).unwrap();
            let suffixes: &[&str] = match family.kind.as_str() {
                "summary" => &["", "_sum", "_count"],
                _ => &[""],
            };
            let suffix = name.strip_prefix(current.as_str()).expect(line);
            assert!(is_name(name) && suffixes.contains(&suffix), "{line}");
            let key = (name.to_owned(), read_labels(labels));
            assert!(key.1.keys().all(|label| is_name(label)), "{line}");
            let quantile = family.kind == "summary" && suffix.is_empty();
            assert_eq!(key.1.contains_key("quantile"), quantile, "{line}");
            let before = family.samples.insert(key, value.parse().expect(line));
            assert!(before.is_none(), "the same sample twice: {line}");
        }
    }
    families
}

/// `name="value",…`, with backslash, quote and newline escaped in values.
fn read_labels(text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap();
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next().expect("no end of the value") {
                (at, '"') => break at,
                (_, '\\') => value.push(match letters.next().unwrap().1 {
                    'n' => '\n',
                    letter @ ('\\' | '"') => letter,
                    other => panic!("\\{other} in {text}"),
                }),
                (_, letter) => value.push(letter),
            }
        };
        assert!(labels.insert(name.into(), value).is_none(), "{name} twice");
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}

/// The value of a sample with these labels besides the element's.
fn sample(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let element = [("element", "line \"1\"\\\n")];
    let labels = element.iter().chain(labels);
    let labels = labels.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let key = (name.to_owned(), labels.collect());
    let found = families
        .values()
        .find_map(|family| family.samples.get(&key));
    *found.unwrap_or_else(|| panic!("no {key:?} in {families:?}"))
}

#[test]
fn statistics_are_written_for_prometheus() {
    let path = scratch().join("line1.prom");
    let mut rig = Rig::new(&[
        ("stats-file", path.to_str().unwrap()),
        ("name", "line \"1\"\\\n"),
        ("threshold", "0.001"),
        ("interval", "2"),
    ]);
    let read = || read_prometheus(&std::fs::read_to_string(&path).unwrap());
    // Before the first frame there is no median, which is not one of 0.
    let families = read();
    let quantile = |families: &_, quantile| {
        sample(
            families,
            "vadlite_latency_seconds",
            &[("quantile", quantile)],
        )
    };
    assert!(quantile(&families, "0.5").is_nan());
    assert_eq!(sample(&families, "vadlite_latency_seconds_count", &[]), 0.0);

    let mut latencies = Vec::new();
    for seed in 0..5 {
        let seen = rig.inspect(&good(seed), F::Rgb);
        latencies.extend(seen.inspected.then_some(seen.latency as f64 / 1e9));
    }
    drop(rig);
    let families = read();
    let kinds = families
        .iter()
        .map(|(name, family)| (name.as_str(), family.kind.as_str()));
    let expected = [
        ("vadlite_drift", "gauge"),
        ("vadlite_drift_alarms_total", "counter"),
        ("vadlite_failed_total", "counter"),
        ("vadlite_flagged_total", "counter"),
        ("vadlite_frames_total", "counter"),
        ("vadlite_info", "gauge"),
        ("vadlite_inspected_total", "counter"),
        ("vadlite_latency_seconds", "summary"),
        ("vadlite_lost_total", "counter"),
        ("vadlite_reloads_refused_total", "counter"),
        ("vadlite_reloads_total", "counter"),
        ("vadlite_uninspected_total", "counter"),
    ];
    assert!(kinds.eq(expected), "{families:?}");
    // Model and device are labels of one sample: a counter's series has to outlive them.
    let model = [("model", "part.vadlite"), ("device", "cpu")];
    assert_eq!(sample(&families, "vadlite_info", &model), 1.0);
    for (name, value) in [
        ("frames", 5.0),
        ("inspected", 3.0),
        ("flagged", 3.0),
        ("failed", 0.0),
        ("uninspected", 0.0),
    ] {
        assert_eq!(
            sample(&families, &format!("vadlite_{name}_total"), &[]),
            value,
            "{name}"
        );
    }
    assert_eq!(sample(&families, "vadlite_latency_seconds_count", &[]), 3.0);
    let sum: f64 = latencies.iter().sum();
    let told = sample(&families, "vadlite_latency_seconds_sum", &[]);
    assert!((told / sum - 1.0).abs() < 1e-6, "{told} and {sum}");
    // Two digits.
    latencies.sort_by(f64::total_cmp);
    for (name, latency) in [("0.5", latencies[1]), ("0.99", latencies[2])] {
        let told = quantile(&families, name);
        assert!((told / latency - 1.0).abs() < 0.02, "{told} and {latency}");
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

/// The next attempt comes later and later, and a warning once.
#[test]
fn a_broker_that_misbehaves_is_left_in_peace() {
    let model = model();
    std::thread::scope(|scope| {
        for (manner, most, warned) in [
            (Manner::Good, 1, 0),
            (Manner::RefusesClients, 5, 1),
            (Manner::ClosesOnMessages, 5, 1),
            (Manner::AcknowledgesNothing, 5, 1),
        ] {
            scope.spawn(move || {
                let broker = RawBroker::start(manner);
                let properties = [
                    ("model", model.path.to_str().unwrap()),
                    ("stats-mqtt", &broker.address()),
                ];
                let mut rig = Rig::new(&properties);
                let end = Instant::now() + Duration::from_secs(10);
                while Instant::now() < end {
                    assert!(rig.inspect(&good(0), F::Rgb).inspected);
                    std::thread::sleep(Duration::from_millis(100));
                }
                let (_, said) = rig.messages();
                println!("{manner:?}: {} connections, {said:?}", broker.connections());
                assert!(
                    (1..=most).contains(&broker.connections()),
                    "{manner:?}: {}",
                    broker.connections()
                );
                assert!(said.len() <= warned, "{manner:?}: {said:?}");
                let stopping = Instant::now();
                drop(rig);
                let took = stopping.elapsed();
                assert!(took < Duration::from_secs(5), "{manner:?}: {took:?}");
            });
        }
    });
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
