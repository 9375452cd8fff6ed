//! `vadlitetrigger`: one pulse for a part, at its time, at a real PLC's protocol and a real broker, and what happens when these are away.

mod common;

use common::broker::Broker;
use common::element::{init, start_error};
use common::line::{Line, Shown};
use common::plc::{COILS, Plc};
use common::port::Port;
use gst::prelude::*;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

const MS: u64 = 1_000_000;

fn sleep(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

#[test]
fn a_part_gets_one_pulse_when_it_is_at_the_gate() {
    let plc = Plc::start();
    let mut line = Line::start(&format!(
        "vadlitetrigger output={} delay=300000000 pulse=40000000 merge-window=150000000",
        plc.address(7)
    ));
    line.wait(|line| line.stat("connected") == 1);
    // Three frames of one part, then two good parts, then another bad one.
    let first = line.show(Shown::DEFECTIVE);
    line.show(Shown::DEFECTIVE);
    sleep(30);
    line.show(Shown::DEFECTIVE);
    sleep(200);
    line.show(Shown::GOOD);
    let second = line.show(Shown::DEFECTIVE);
    line.wait(|line| line.stat("pulses") == 2);
    line.wait(|_| plc.edges().len() == 5);
    let (messages, warnings) = line.messages("vadlitetrigger");
    assert!(warnings.is_empty(), "{warnings:?}");
    let due: Vec<u64> = messages.iter().map(|m| m.get("due").unwrap()).collect();
    assert_eq!(due, [first + 300 * MS, second + 300 * MS]);
    let late: Vec<bool> = messages.iter().map(|m| m.get("late").unwrap()).collect();
    assert_eq!(late, [false, false]);
    // Off when it connects; then on and off for each part, of that coil alone.
    let edges: Vec<_> = plc
        .edges()
        .iter()
        .map(|edge| (edge.coil, edge.on))
        .collect();
    assert_eq!(
        edges,
        [(7, false), (7, true), (7, false), (7, true), (7, false)]
    );
}

#[test]
fn distance_and_speed_make_the_delay_and_change_while_playing() {
    let mut line = Line::start(
        "vadlitetrigger delay=9000000000 distance=0.5 belt-speed=2.0 merge-window=10000000",
    );
    let first = line.show(Shown::DEFECTIVE);
    line.wait(|line| line.stat("pulses") == 1);
    line.element.set_property("belt-speed", 5.0);
    let second = line.show(Shown::DEFECTIVE);
    line.wait(|line| line.stat("pulses") == 2);
    let (messages, _) = line.messages("vadlitetrigger");
    let due: Vec<u64> = messages.iter().map(|m| m.get("due").unwrap()).collect();
    assert_eq!(due, [first + 250 * MS, second + 100 * MS]);
}

#[test]
fn late_decisions_are_fired_and_counted_exactly() {
    let mut line = Line::start("vadlitetrigger delay=50000000 merge-window=5000000");
    sleep(400);
    let now = line.now();
    // Taken long ago, inspected too slowly: seven of ten are known too late.
    for part in 0..10 {
        let age = if part < 7 { 300 - 10 * part } else { 0 };
        line.show_at(
            now - age * MS + if age == 0 { 20 * part * MS } else { 0 },
            Shown::DEFECTIVE,
        );
    }
    line.wait(|line| line.stat("pulses") == 10);
    assert_eq!(line.stat("late"), 7);
    let (messages, _) = line.messages("vadlitetrigger");
    assert_eq!(messages.len(), 10);
    let late = messages.iter().filter(|m| m.get::<bool>("late").unwrap());
    assert_eq!(late.count(), 7);
}

#[test]
fn a_majority_decides_when_the_part_is_at_the_gate() {
    let mut line =
        Line::start("vadlitetrigger decision=majority delay=100000000 merge-window=80000000");
    line.show(Shown::DEFECTIVE);
    line.show(Shown::GOOD);
    line.show(Shown::GOOD);
    sleep(120);
    line.show(Shown::DEFECTIVE);
    line.show(Shown::DEFECTIVE);
    line.show(Shown::GOOD);
    sleep(200);
    let (messages, _) = line.messages("vadlitetrigger");
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].get::<u64>("frame").unwrap(), 3);
}

#[test]
fn what_passes_uninspected_is_rejected_where_asked_for() {
    let mut line =
        Line::start("vadlitetrigger fail-safe=reject watchdog=500000000 merge-window=50000000");
    // Left out on purpose: no reason to reject.
    line.show(Shown::GOOD);
    line.show(Shown::SKIPPED);
    sleep(60);
    assert_eq!(line.stat("pulses"), 0);
    line.show(Shown::FAILED);
    line.wait(|line| line.stat("pulses") == 1);
    let (messages, warnings) = line.messages("vadlitetrigger");
    assert_eq!(messages[0].get::<&str>("reason").unwrap(), "fail-safe");
    assert!(
        warnings
            .iter()
            .any(|text| text.contains("fail-safe=reject")),
        "{warnings:?}"
    );
    // Silence: again and again until frames are inspected again.
    line.show(Shown::GOOD);
    line.wait(|line| line.stat("fail-safe") >= 3);
    let (_, warnings) = line.messages("");
    let silent = warnings
        .iter()
        .filter(|text| text.contains("no inspected frame"));
    assert_eq!(silent.count(), 1, "{warnings:?}");

    let mut line = Line::start("vadlitetrigger fail-safe=pass watchdog=100000000");
    line.show(Shown::FAILED);
    sleep(300);
    assert_eq!(line.stat("pulses"), 0);
    let (_, warnings) = line.messages("");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
}

#[test]
fn parts_on_their_way_are_fired_before_the_end() {
    let mut line = Line::start("vadlitetrigger delay=300000000");
    line.show(Shown::DEFECTIVE);
    line.end();
    let bus = line.pipeline.bus().unwrap();
    let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(5), &[gst::MessageType::Eos]);
    assert!(end.is_some());
    assert_eq!(line.stat("pulses"), 1);
}

#[test]
fn stopping_does_not_wait_for_a_gate_far_away() {
    let mut line = Line::start("vadlitetrigger delay=60000000000");
    line.show(Shown::DEFECTIVE);
    line.end();
    sleep(100);
    let start = Instant::now();
    line.pipeline.set_state(gst::State::Null).unwrap();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(line.stat("pulses"), 0);
}

#[test]
fn a_plc_that_is_away_misses_pulses_that_are_counted_and_is_found_again() {
    let plc = Plc::start();
    let address = plc.address(1);
    let mut line = Line::start(&format!(
        "vadlitetrigger output={address} pulse=50000000 merge-window=10000000"
    ));
    line.wait(|line| line.stat("connected") == 1);
    let port = plc.stop();
    for _ in 0..3 {
        line.show(Shown::DEFECTIVE);
        sleep(150);
    }
    line.wait(|line| line.stat("missed") == 3);
    let (_, warnings) = line.messages("");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("modbus-tcp://127.0.0.1"),
        "{warnings:?}"
    );
    let plc = Plc::start_on(port);
    line.wait(|line| line.stat("connected") == 1);
    assert_eq!(line.stat("reconnects"), 1);
    line.show(Shown::DEFECTIVE);
    // What was missed is not made up for: it would hit other parts.
    line.wait(|_| plc.edges().len() == 3);
    let edges: Vec<_> = plc.edges().iter().map(|edge| edge.on).collect();
    assert_eq!(edges, [false, true, false]);
}

/// Makes what listens on the port `to` reachable on another one, over a network that takes its time for a connection and ends it when
/// nothing has been asked for so long.
fn forward(port: &Port, to: &Port, delay: Duration, idle: Option<Duration>) {
    let listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
    let to = to.number();
    std::thread::spawn(move || {
        for near in listener.incoming().flatten() {
            std::thread::sleep(delay);
            let far = TcpStream::connect(("127.0.0.1", to)).unwrap();
            near.set_read_timeout(idle).unwrap();
            for (mut from, mut to) in [
                (near.try_clone().unwrap(), far.try_clone().unwrap()),
                (far, near),
            ] {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
}

#[test]
fn a_plc_that_closes_idle_connections_misses_nothing() {
    let (plc, port) = (Plc::start(), Port::reserve());
    let idle = Some(Duration::from_millis(1300));
    forward(&port, plc.port(), Duration::ZERO, idle);
    let mut line = Line::start(&format!(
        "vadlitetrigger output=modbus-tcp://127.0.0.1:{port}/3 pulse=50000000 merge-window=10000000"
    ));
    for part in 1..=3 {
        sleep(1600);
        line.show(Shown::DEFECTIVE);
        line.wait(|_| plc.edges().iter().filter(|edge| edge.on).count() == part);
    }
    assert_eq!((line.stat("missed"), line.stat("connected")), (0, 1));
    let (_, warnings) = line.messages("");
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// A broker that greets whoever comes, and closes the connection on the first message; with the number of connections so far.
fn unwilling_broker(port: &Port) -> Arc<AtomicUsize> {
    let listener = TcpListener::bind(("127.0.0.1", port.number())).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    std::thread::spawn(move || {
        for mut near in listener.incoming().flatten() {
            count.fetch_add(1, Ordering::Relaxed);
            let mut packet = [0; 1024];
            let _ = near.read(&mut packet);
            let _ = near.write_all(&[0x20, 2, 0, 0]);
            let _ = near.read(&mut packet);
        }
    });
    connections
}

#[test]
fn a_peer_that_accepts_and_then_refuses_is_not_connected() {
    let (plc, port) = (Plc::start(), Port::reserve());
    let connections = unwilling_broker(&port);
    let line = Line::start(&format!(
        "vadlitetrigger output=\"{} mqtt://127.0.0.1:{port}/line/1\"",
        plc.address(COILS)
    ));
    sleep(3000);
    assert_eq!(line.stat("connected"), 0);
    let (messages, warnings) = line.messages("vadlitetrigger-output");
    assert_eq!((messages.len(), warnings.len()), (2, 2), "{warnings:?}");
    // After 0, 0.1, 0.3, 0.7, 1.5 and 3.1 s.
    let connections = connections.load(Ordering::Relaxed);
    assert!((2..=6).contains(&connections), "{connections}");
}

#[test]
fn a_broker_over_a_slow_network_is_reached() {
    let (broker, port) = (Broker::start(), Port::reserve());
    let messages = broker.listen("line/#");
    forward(&port, broker.port(), Duration::from_millis(1500), None);
    let _line = Line::start(&format!(
        "vadlitetrigger output=mqtt://127.0.0.1:{port}/line/1"
    ));
    let status = messages.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(status, ("line/1/status".into(), "online".into()));
}

/// The parts reported on the topic of pulses, until `count` different ones have come.
fn parts(messages: &Receiver<(String, String)>, count: usize) -> Vec<serde_json::Value> {
    let mut found: Vec<serde_json::Value> = Vec::new();
    while found.len() < count {
        let (topic, text) = messages.recv_timeout(Duration::from_secs(10)).unwrap();
        if topic == "line/1" {
            let part: serde_json::Value = serde_json::from_str(&text).unwrap();
            // QoS 1 may say a thing twice.
            if found.iter().all(|other| other["part"] != part["part"]) {
                found.push(part);
            }
        }
    }
    found
}

#[test]
fn a_broker_hears_of_parts_and_of_the_element() {
    let broker = Broker::start();
    let messages = broker.listen("line/#");
    let mut line = Line::start(&format!(
        "vadlitetrigger output=mqtt://127.0.0.1:{}/line/1",
        broker.port()
    ));
    let status = messages.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(status, ("line/1/status".into(), "online".into()));
    line.show(Shown::DEFECTIVE);
    let part = &parts(&messages, 1)[0];
    assert_eq!(
        (part["part"].as_u64(), part["frame"].as_u64()),
        (Some(0), Some(0))
    );
    assert_eq!(
        (part["score"].as_f64(), part["threshold"].as_f64()),
        (Some(2.0), Some(1.0))
    );
    assert_eq!(part["reason"], "flagged");
    drop(line);
    let status = messages.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(status, ("line/1/status".into(), "offline".into()));
}

#[test]
fn a_broker_that_dies_and_comes_back_gets_every_part_and_delays_no_frame() {
    let broker = Broker::start();
    let mut line = Line::start(&format!(
        "vadlitetrigger output=mqtt://127.0.0.1:{}/line/1 merge-window=5000000",
        broker.port()
    ));
    line.wait(|line| line.stat("connected") == 1);
    let before = broker.listen("line/#");
    let mut slowest = Duration::ZERO;
    let mut show = |line: &mut Line, count| {
        for _ in 0..count {
            let start = Instant::now();
            line.show(Shown::DEFECTIVE);
            slowest = slowest.max(start.elapsed());
            sleep(10);
        }
    };
    show(&mut line, 10);
    assert_eq!(parts(&before, 10).len(), 10);
    let port = broker.kill();
    show(&mut line, 50);
    line.wait(|line| line.stat("pulses") == 60);
    let broker = Broker::start_on(port);
    let after = broker.listen("line/#");
    show(&mut line, 10);
    line.wait(|line| line.stat("pulses") == 70);
    // Without a gap from the first one that was listened to; those before it the broker has acknowledged.
    let mut heard: Vec<u64> = Vec::new();
    while heard.last() != Some(&69) {
        heard.extend(
            parts(&after, 1)
                .iter()
                .map(|part| part["part"].as_u64().unwrap()),
        );
        heard.dedup();
    }
    assert_eq!(heard, (heard[0]..70).collect::<Vec<_>>());
    assert!(heard[0] >= 10);
    assert_eq!(line.stat("dropped"), 0);
    assert_eq!(line.stat("reconnects"), 1);
    let (_, warnings) = line.messages("");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    // No frame waits as long as a camera takes for one.
    assert!(slowest < Duration::from_millis(33), "{slowest:?}");
}

#[test]
fn every_part_within_the_bound_is_delivered_when_the_broker_comes_late() {
    let port = Port::reserve();
    let mut line = Line::start(&format!(
        "vadlitetrigger output=mqtt://127.0.0.1:{port}/line/1 merge-window=5000000 queue-size=30"
    ));
    for _ in 0..40 {
        line.show(Shown::DEFECTIVE);
        sleep(6);
    }
    line.wait(|line| line.stat("pulses") == 40);
    assert_eq!(line.stat("dropped"), 10);
    // It becomes reachable for the element only after the listener is there: what it publishes before is nobody's.
    let broker = Broker::start();
    let messages = broker.listen("line/#");
    forward(&port, broker.port(), Duration::ZERO, None);
    let heard = parts(&messages, 30);
    let numbers: Vec<u64> = heard
        .iter()
        .map(|part| part["part"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (10..40).collect::<Vec<_>>());
    assert!(heard.iter().all(|part| part["late"].as_u64().unwrap() > 0));
}

/// In the environment of a process that is to be killed: the port of the broker.
const BROKER: &str = "VADLITE_TEST_BROKER";

/// What [`a_lost_element_is_reported_by_its_last_will`] runs in a process of its own; nothing otherwise.
#[test]
fn a_line_to_be_killed() {
    if let Ok(port) = std::env::var(BROKER) {
        let _line = Line::start(&format!(
            "vadlitetrigger output=mqtt://127.0.0.1:{port}/line/1"
        ));
        sleep(60_000);
    }
}

#[test]
fn a_lost_element_is_reported_by_its_last_will() {
    let broker = Broker::start();
    let messages = broker.listen("line/#");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_line_to_be_killed"])
        .env(BROKER, broker.port().to_string())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let status = messages.recv_timeout(Duration::from_secs(20));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(status.unwrap(), ("line/1/status".into(), "online".into()));
    let will = messages.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(will, ("line/1/status".into(), "offline".into()));
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    init();
    let refusal = |output: &str, credentials: &str| {
        let element = gst::ElementFactory::make("vadlitetrigger")
            .property("output", output)
            .property("credentials", credentials)
            .build()
            .unwrap();
        start_error(&element)
    };
    let error = refusal("mqtt://me:hunter2@broker/a", "");
    assert!(
        error.contains("property output") && error.contains("credentials"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
    for mistyped in [
        "mqtt:/me:hunter2@broker/a",
        "mqtt://me:hunter2 @broker/a",
        "mqtt://me:1#hunter2@broker/a",
    ] {
        let error = refusal(mistyped, "");
        assert!(
            error.contains("credentials") && !error.contains("hunter2"),
            "{error}"
        );
    }
    let error = refusal("mqtt://broker/a?qos=0", "");
    assert!(
        error.contains("?qos") && error.contains("mqtt://HOST"),
        "{error}"
    );
    let error = refusal("mqtt://broker/a", "/nonexistent/secrets");
    assert!(
        error.contains("property credentials") && error.contains("/nonexistent/secrets"),
        "{error}"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "user=me\nhunter2").unwrap();
    let error = refusal("mqtt://broker/a", file.path().to_str().unwrap());
    assert!(
        error.contains("password=") && !error.contains("hunter2"),
        "{error}"
    );
    let element = gst::ElementFactory::make("vadlitetrigger").build().unwrap();
    element.set_property("watchdog", 2000_u64);
    let error = start_error(&element);
    assert!(
        error.contains("property watchdog") && error.contains("2000000000 is 2000 ms"),
        "{error}"
    );
    let error = refusal("gpio://gpiochip77/3", "");
    assert!(error.contains("gpiochip77"), "{error}");
}
