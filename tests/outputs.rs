//! The life of connections to PLCs and brokers that close what is idle, answer slowly, refuse, break off, or are away at the end.
//!
//! The peers are made by hand (`common/plc.rs`, `common/raw_broker.rs`), since no real one behaves badly when it is asked to. Times are
//! real: they are what is tested here. `VADLITE_IDLE_PLC=1 cargo test --release --test outputs closes_idle -- --nocapture` takes the times
//! of a plant for the first test: 2 s until an idle connection is closed, 50 parts 4 s apart.

mod common;

use common::broker::Broker;
use common::element::{init, output_refused};
use common::line::{Line, Shown};
use common::plc::{Device, Edge, Reply};
use common::port::Port;
use common::raw_broker::{Manner, RawBroker};
use common::stall::Stalls;
use gst::prelude::*;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// When the coil was switched on, and how long it stayed so; rewriting changes nothing.
fn pulses(edges: &[Edge]) -> Vec<(Instant, Duration)> {
    let mut found = Vec::new();
    let mut since: Option<Instant> = None;
    for edge in edges {
        match (edge.on, since) {
            (true, None) => since = Some(edge.at),
            (false, Some(start)) => {
                found.push((start, edge.at - start));
                since = None;
            }
            _ => {}
        }
    }
    found
}

/// A part that was shown then has had its whole pulse. Counted from there, since the device may hear of it later.
#[track_caller]
fn assert_not_cut(shown: Instant, (on, width): (Instant, Duration), pulse: Duration) {
    let off = on + width;
    assert!(off - shown >= pulse, "off after {:?}", off - shown);
}

#[test]
fn a_plc_that_closes_idle_connections_gets_every_pulse_in_time() {
    let real = std::env::var_os("VADLITE_IDLE_PLC").is_some();
    let (idle, apart, parts) = match real {
        true => (ms(2000), ms(4000), 50),
        false => (ms(400), ms(600), 16),
    };
    let plc = Device::start(Some(idle), |_, _| Reply::Answer);
    let mut line = Line::start(&format!(
        "vadlitetrigger output={} pulse=300000000 merge-window=10000000",
        plc.address(3)
    ));
    line.wait(|line| line.stat("connected") == 1);
    let stalls = Stalls::start();
    let mut shown = Vec::new();
    for part in 1..=parts {
        std::thread::sleep(apart);
        shown.push(Instant::now());
        line.show(Shown::DEFECTIVE);
        line.wait(|_| pulses(&plc.edges()).len() == part);
    }
    // A machine that stood still meanwhile, for others' sake, is not the output's doing.
    let mut late: Vec<Duration> = pulses(&plc.edges())
        .iter()
        .zip(&shown)
        .map(|((at, _), shown)| (*at - *shown).saturating_sub(stalls.between(*shown, *at)))
        .collect();
    late.sort();
    let (half, p99) = (late[parts / 2], late[(parts * 99).div_ceil(100) - 1]);
    println!("{parts} of {parts} pulses, late by {half:?} (median) and {p99:?} (99 %)");
    assert_eq!((line.stat("missed"), line.stat("connected")), (0, 1));
    let (_, warnings) = line.messages("");
    assert!(warnings.is_empty(), "{warnings:?}");
    // An output that does not connect at once waits for at least so long.
    assert!(half < ms(100), "{late:?}");
    assert!(!real || p99 <= ms(20), "{late:?}");
    // It does not go on connecting to be closed again.
    assert!(plc.connections() <= 2 * parts + 10);
}

#[test]
fn a_slow_plc_does_not_stretch_pulses() {
    let answer = ms(600);
    let plc = Device::start(None, move |_, _| Reply::AnswerAfter(answer));
    let mut line = Line::start(&format!(
        "vadlitetrigger output={} pulse=200000000 merge-window=10000000",
        plc.address(3)
    ));
    line.wait(|line| line.stat("connected") == 1);
    let mut shown = Vec::new();
    for part in 1..=5 {
        shown.push(Instant::now());
        line.show(Shown::DEFECTIVE);
        line.wait(|_| pulses(&plc.edges()).len() == part);
        std::thread::sleep(answer + ms(150));
    }
    for (pulse, shown) in pulses(&plc.edges()).into_iter().zip(shown) {
        assert_not_cut(shown, pulse, ms(200));
        // It is off before what switched it on is answered.
        assert!(pulse.1 < answer, "{pulse:?}");
    }
    assert_eq!((line.stat("missed"), line.stat("connected")), (0, 1));
    assert_eq!(line.stat("reconnects"), 0);
    let (_, warnings) = line.messages("");
    assert!(warnings.is_empty(), "{warnings:?}");
    // As many as are needed at a time, and no new ones.
    assert!(plc.connections() <= 4, "{}", plc.connections());
}

#[test]
fn a_pulse_whose_connection_breaks_is_sent_again_at_once() {
    // The first request to switch on breaks the connection; in the thread of a new one it is done.
    let failed = AtomicBool::new(false);
    let plc = Device::start(None, move |_, on| {
        match on && !failed.swap(true, Ordering::Relaxed) {
            true => Reply::Close,
            false => Reply::Answer,
        }
    });
    let mut line = Line::start(&format!(
        "vadlitetrigger output={} pulse=2000000000",
        plc.address(3)
    ));
    line.wait(|line| line.stat("connected") == 1);
    let shown = Instant::now();
    line.show(Shown::DEFECTIVE);
    line.wait(|_| pulses(&plc.edges()).len() == 1);
    assert_not_cut(shown, pulses(&plc.edges())[0], ms(2000));
    assert_eq!(plc.connections(), 2);
    assert_eq!((line.stat("missed"), line.stat("connected")), (0, 1));
    let (_, warnings) = line.messages("");
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// Shows parts to a line for ten seconds, four a second; returns the warnings, and the messages about the output.
fn ten_seconds(output: &str) -> (Line, Vec<String>, Vec<gst::Structure>) {
    let mut line = Line::start(&format!(
        "vadlitetrigger output={output} pulse=50000000 merge-window=10000000"
    ));
    let end = Instant::now() + ms(10_000);
    while Instant::now() < end {
        line.show(Shown::DEFECTIVE);
        std::thread::sleep(ms(250));
    }
    let (events, warnings) = line.messages("vadlitetrigger-output");
    (line, warnings, events)
}

#[test]
fn a_peer_that_accepts_and_then_refuses_everything_is_left_in_peace() {
    type Manners = fn(u16, bool) -> Reply;
    let devices: [(&str, Manners); 7] = [
        ("exception to everything", |_, _| Reply::Exception(2)),
        ("exception to on", |_, on| match on {
            true => Reply::Exception(1),
            false => Reply::Answer,
        }),
        ("exception to off", |_, on| match on {
            true => Reply::Answer,
            false => Reply::Exception(4),
        }),
        ("closes at once", |_, _| Reply::Close),
        ("closes on on", |_, on| match on {
            true => Reply::Close,
            false => Reply::Answer,
        }),
        ("says nothing", |_, _| Reply::Nothing),
        ("says nothing to on", |_, on| match on {
            true => Reply::Nothing,
            false => Reply::Answer,
        }),
    ];
    let brokers = [
        Manner::RefusesClients,
        Manner::ClosesOnMessages,
        Manner::ClosesOnPulses,
        Manner::AcknowledgesNothing,
    ];
    init();
    std::thread::scope(|scope| {
        for (name, reply) in devices {
            scope.spawn(move || {
                let plc = Device::start(None, reply);
                let (line, warnings, _) = ten_seconds(&plc.address(3));
                // Five, and one more where the machine stood still: then the device seems slow. A connection for each pulse would be forty.
                assert!(plc.connections() <= 10, "{name}: {}", plc.connections());
                assert!(warnings.len() <= 2, "{name}: {warnings:?}");
                if name != "exception to off" {
                    assert!(!warnings.is_empty(), "{name}");
                    // All but those that are on their way yet.
                    let (missed, fired) = (line.stat("missed"), line.stat("pulses"));
                    assert!(
                        missed <= fired && missed + 10 > fired,
                        "{name}: {missed}/{fired}"
                    );
                }
            });
        }
        for manner in brokers {
            scope.spawn(move || {
                let broker = RawBroker::start(manner);
                let (_, warnings, _) = ten_seconds(&broker.address());
                assert!(
                    broker.connections() <= 5,
                    "{manner:?}: {}",
                    broker.connections()
                );
                assert!(
                    (1..=2).contains(&warnings.len()),
                    "{manner:?}: {warnings:?}"
                );
            });
        }
    });
}

/// Ends the line; returns how long that took.
fn stop(line: &Line) -> Duration {
    let start = Instant::now();
    line.pipeline.set_state(gst::State::Null).unwrap();
    start.elapsed()
}

/// A line whose coil is on for a minute, and a device that has just gone away from it.
fn left_alone_within_a_pulse() -> (Device, Line) {
    let plc = Device::start(None, |_, _| Reply::Answer);
    let mut line = Line::start(&format!(
        "vadlitetrigger output={} pulse=60000000000",
        plc.address(3)
    ));
    line.wait(|line| line.stat("connected") == 1);
    line.show(Shown::DEFECTIVE);
    line.wait(|_| plc.edges().last().is_some_and(|edge| edge.on));
    plc.set_reachable(false);
    line.wait(|line| line.stat("connected") == 0);
    (plc, line)
}

#[test]
fn what_is_on_at_the_end_is_switched_off_over_a_new_connection() {
    let (plc, line) = left_alone_within_a_pulse();
    std::thread::scope(|scope| {
        // In the half of the grace in which nothing is on any more.
        scope.spawn(|| {
            std::thread::sleep(ms(1100));
            plc.set_reachable(true);
        });
        let took = stop(&line);
        assert!(took < ms(4000), "{took:?}");
    });
    assert!(!plc.edges().last().unwrap().on);
    let (events, _) = line.messages("vadlitetrigger-output");
    assert!(
        events
            .iter()
            .all(|event| event.get::<&str>("event").unwrap() != "left-on")
    );
}

/// The warnings and output messages that are posted until the line has ended: the bus of a pipeline forgets them then.
fn heard_at_the_end(line: &Line) -> (Vec<String>, Vec<gst::Structure>) {
    let heard = Arc::new(Mutex::new((Vec::new(), Vec::new())));
    let its = heard.clone();
    let bus = line.pipeline.bus().unwrap();
    bus.set_sync_handler(move |_, message| {
        let mut heard = its.lock().unwrap();
        match message.view() {
            gst::MessageView::Warning(warning) => {
                heard.0.push(warning.error().message().to_owned());
            }
            gst::MessageView::Element(element) => {
                let named = element
                    .structure()
                    .filter(|it| it.name() == "vadlitetrigger-output");
                heard.1.extend(named.map(ToOwned::to_owned));
            }
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
    stop(line);
    std::mem::take(&mut *heard.lock().unwrap())
}

#[test]
fn what_cannot_be_switched_off_at_the_end_is_said() {
    let (_plc, line) = left_alone_within_a_pulse();
    let start = Instant::now();
    let (warnings, events) = heard_at_the_end(&line);
    let took = start.elapsed();
    assert!((ms(1900)..ms(4000)).contains(&took), "{took:?}");
    let said = |text: &str| {
        warnings
            .iter()
            .filter(|warning| warning.contains(text))
            .count()
    };
    assert_eq!(said("the coil may still be on: "), 1, "{warnings:?}");
    let left: Vec<_> = events
        .iter()
        .filter(|event| event.get::<&str>("event").unwrap() == "left-on")
        .collect();
    assert_eq!(left.len(), 1, "{events:?}");
    assert!(!left[0].get::<&str>("reason").unwrap().is_empty());
}

#[test]
fn nothing_that_is_off_holds_up_the_end() {
    let plc = Device::start(None, |_, _| Reply::Answer);
    let silent = Device::start(None, |_, _| Reply::Nothing);
    let nobody = Port::reserve();
    for output in [
        plc.address(3),
        silent.address(3),
        format!("modbus-tcp://127.0.0.1:{nobody}/1"),
        format!("mqtt://127.0.0.1:{nobody}/line/1"),
        // Nothing comes back from there, or an error.
        "modbus-tcp://192.0.2.1/1".into(),
        "mqtt://192.0.2.1/line/1".into(),
        "modbus-tcp://plc.invalid/1".into(),
        "mqtt://broker.invalid/line/1".into(),
    ] {
        let line = Line::start(&format!("vadlitetrigger output={output}"));
        if output == plc.address(3) {
            line.wait(|line| line.stat("connected") == 1);
        }
        let took = stop(&line);
        assert!(took < ms(1900), "{output}: {took:?}");
    }
}

#[test]
fn a_pulse_at_the_end_goes_out_and_ends() {
    let plc = Device::start(None, |_, _| Reply::Answer);
    let mut line = Line::start(&format!(
        "vadlitetrigger output={} pulse=300000000",
        plc.address(3)
    ));
    line.wait(|line| line.stat("connected") == 1);
    let shown = Instant::now();
    line.show(Shown::DEFECTIVE);
    line.wait(|line| line.stat("pulses") == 1);
    let (warnings, events) = heard_at_the_end(&line);
    let found = pulses(&plc.edges());
    assert_eq!(found.len(), 1);
    assert_not_cut(shown, found[0], ms(300));
    assert!(
        warnings.is_empty() && events.is_empty(),
        "{warnings:?} {events:?}"
    );
}

#[test]
fn what_a_broker_did_not_get_by_the_end_is_counted() {
    let broker = RawBroker::start(Manner::AcknowledgesNothing);
    let mut line = Line::start(&format!("vadlitetrigger output={}", broker.address()));
    line.wait(|_| broker.connections() == 1);
    line.show(Shown::DEFECTIVE);
    line.wait(|line| line.stat("pulses") == 1);
    let took = stop(&line);
    assert!(took < ms(4000), "{took:?}");
    assert_eq!(line.stat("missed"), 1);
}

#[test]
fn a_broker_knows_that_the_gate_is_not_held() {
    let broker = Broker::start();
    let address = format!("mqtt://127.0.0.1:{}/line/1", broker.port());
    // Left over from an element that was killed.
    let before = Line::start(&format!("vadlitetrigger output={address}"));
    before.wait(|line| line.stat("connected") == 1);
    let messages = broker.listen("line/1/gate");
    let gate = messages.recv_timeout(ms(20_000)).unwrap();
    assert_eq!(gate, ("line/1/gate".into(), "released".into()));
}

#[test]
fn a_connection_to_a_broker_that_breaks_is_made_anew_without_a_warning() {
    let broker = RawBroker::start(Manner::Good);
    let mut line = Line::start(&format!(
        "vadlitetrigger output={} merge-window=10000000",
        broker.address()
    ));
    line.wait(|line| line.stat("connected") == 1);
    broker.cut();
    line.wait(|_| broker.connections() == 2);
    line.show(Shown::DEFECTIVE);
    let heard: Vec<_> = std::iter::from_fn(|| broker.messages.recv_timeout(ms(20_000)).ok())
        .take_while(|message| message.topic != "line/1")
        .collect();
    // Each connection says both anew, but may be cut in between.
    assert_eq!(
        (heard[0].topic.as_str(), heard[0].text.as_str()),
        ("line/1/status", "online")
    );
    let last = heard.last().unwrap();
    assert_eq!(
        (last.topic.as_str(), last.text.as_str()),
        ("line/1/gate", "released")
    );
    assert!(heard.iter().all(|message| message.retained));
    let (_, warnings) = line.messages("");
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn threads_do_not_pile_up() {
    init();
    let count = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let threads = Arc::new(AtomicUsize::new(0));
    for round in 0..8 {
        let line = Line::start(
            "vadlitetrigger output=\"modbus-tcp://plc.invalid/1 mqtt://plc.invalid/a\"",
        );
        stop(&line);
        if round == 1 {
            threads.store(count(), Ordering::Relaxed);
        }
    }
    // Other tests run beside this one.
    let more = count().saturating_sub(threads.load(Ordering::Relaxed));
    assert!(more < 40, "{more}");
}

#[test]
fn secrets_in_the_wrong_place_are_not_repeated() {
    init();
    for output in [
        "mqtt:/me:hunter2@broker/a",
        "me:hunter2@broker",
        "mqtt://me:hunter2%40broker",
        "mqtt://me：hunter2＠broker/a",
        "mqtts:\\\\me:hunter2@broker",
        "mqtt://broker/a?password=hunter2",
        "mqtt://broker/a hunter2",
        "mqtt://broker/a password=hunter2",
        "modbus-tcp://plc/1?hunter2",
    ] {
        let error = output_refused(output, "");
        assert!(error.contains("property output"), "{error}");
        assert!(!error.contains("hunter2"), "{output}: {error}");
    }
    for credentials in [
        "me:hunter2",
        "hunter2",
        "user=me password=hunter2",
        "me hunter2",
    ] {
        let error = output_refused("mqtt://broker/a", credentials);
        assert!(error.contains("property credentials"), "{error}");
        assert!(!error.contains("hunter2"), "{credentials}: {error}");
    }
}
