//! `vadlitetrigger`: one pulse for a part, at its time, at a real PLC's protocol and a real broker, and what happens when these are away.
//!
//! What is decided and when is tested on made-up clocks in `src/elements/vadlitetrigger/schedule/tests.rs`, and here on a pipeline whose
//! clock the test sets (`Line::on_test_clock`). In real time run only the tests with `Line::start`: one pulse on the system's clock, and
//! the outputs whose peer dies, comes late, comes back, refuses or closes what is idle. They wait for what is to happen, however long that
//! takes.

mod common;

use common::broker::Broker;
use common::element::{init, output_refused, start_error};
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

/// From one part to the next, in the tests that count parts and not time.
const NEXT: Duration = Duration::from_millis(20);

#[test]
fn a_part_gets_one_pulse_when_it_is_at_the_gate() {
    let plc = Plc::start();
    let mut line = Line::on_test_clock(&format!(
        "vadlitetrigger output={} delay=300000000 pulse=200000000 merge-window=150000000",
        plc.address(7)
    ));
    line.wait(|line| line.stat("connected") == 1);
    // Three frames of one part, then two good parts, then another bad one.
    line.run_to(100 * MS);
    line.show(Shown::DEFECTIVE);
    line.show(Shown::DEFECTIVE);
    line.run_to(130 * MS);
    line.show(Shown::DEFECTIVE);
    line.run_to(330 * MS);
    line.show(Shown::GOOD);
    line.run_to(340 * MS);
    line.show(Shown::DEFECTIVE);
    // It does nothing before.
    line.wait(|line| line.awaited() == Some(400 * MS));
    assert_eq!(line.stat("pulses"), 0);
    line.run_to(400 * MS);
    line.wait(|line| line.awaited() == Some(640 * MS));
    assert_eq!(line.stat("pulses"), 1);
    line.wait(|_| plc.edges().len() == 3);
    line.run_to(640 * MS);
    line.wait(|line| line.stat("pulses") == 2);
    line.wait(|_| plc.edges().len() == 5);
    let (messages, warnings) = line.messages("vadlitetrigger");
    assert!(warnings.is_empty(), "{warnings:?}");
    let field =
        |name: &str| -> Vec<u64> { messages.iter().map(|m| m.get(name).unwrap()).collect() };
    assert_eq!(field("due"), [400 * MS, 640 * MS]);
    assert_eq!(field("fired"), [400 * MS, 640 * MS]);
    assert_eq!(field("part"), [0, 1]);
    assert_eq!(field("frame"), [0, 4]);
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
fn a_pulse_comes_on_the_systems_clock_and_not_before_its_time() {
    let mut line = Line::start("vadlitetrigger delay=50000000");
    let due = line.show(Shown::DEFECTIVE) + 50 * MS;
    line.wait(|line| line.stat("pulses") == 1);
    assert!(line.now() + MS >= due);
    let (messages, _) = line.messages("vadlitetrigger");
    // Two clocks are read one after the other.
    let told = messages[0].get::<u64>("due").unwrap();
    assert!(told.abs_diff(due) < 5 * MS, "{told} {due}");
    assert!(messages[0].get::<u64>("fired").unwrap() >= told);
    let error: u64 = line.stat("error-max");
    assert!(error < 20_000 * MS, "{error} ns");
}

#[test]
fn settings_change_while_it_waits() {
    let mut line = Line::on_test_clock(
        "vadlitetrigger delay=9000000000 distance=0.5 belt-speed=2.0 merge-window=10000000",
    );
    line.show(Shown::DEFECTIVE);
    line.wait(|line| line.awaited() == Some(250 * MS));
    // The part under way goes faster too.
    line.element.set_property("belt-speed", 5.0);
    line.wait(|line| line.awaited() == Some(100 * MS));
    line.run_to(20 * MS);
    line.show(Shown::DEFECTIVE);
    // Sooner than the part.
    line.element.set_property("watchdog", 50 * MS);
    line.wait(|line| line.awaited() == Some(70 * MS));
    line.element.set_property("watchdog", 0_u64);
    line.wait(|line| line.awaited() == Some(100 * MS));
    line.run_to(100 * MS);
    line.wait(|line| line.awaited() == Some(120 * MS));
    // A belt that stands brings nothing.
    line.element.set_property("belt-speed", 0.0);
    line.wait(|line| line.awaited().is_none());
    line.run_to(5000 * MS);
    line.element.set_property("belt-speed", 1.0);
    line.wait(|line| line.awaited() == Some(5100 * MS));
    assert_eq!(line.stat("pulses"), 1);
    line.run_to(5100 * MS);
    line.wait(|line| line.stat("pulses") == 2);
    let (messages, warnings) = line.messages("vadlitetrigger");
    let parts: Vec<u64> = messages.iter().map(|m| m.get("part").unwrap()).collect();
    assert_eq!(parts, [0, 1]);
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// A value that cannot be meant stays without effect, and is told.
#[test]
fn values_are_checked_whenever_they_are_set() {
    let mut line = Line::on_test_clock("vadlitetrigger pulse=80000000 merge-window=1000000");
    line.element.set_property("pulse", 80_u64);
    line.element.set_property("pulse", 0_u64);
    line.element.set_property("delay", 300_u64);
    assert_eq!(line.element.property::<u64>("pulse"), 80 * MS);
    assert_eq!(line.element.property::<u64>("delay"), 0);
    let (_, warnings) = line.messages("");
    let told = ["80000000 is 80 ms", "pulse", "delay"];
    assert_eq!(warnings.len(), told.len(), "{warnings:?}");
    for (warning, told) in warnings.iter().zip(told) {
        assert!(
            warning.contains(told) && warning.contains("stays"),
            "{warning}"
        );
    }
    line.show(Shown::DEFECTIVE);
    let bus = line.pipeline.bus().unwrap();
    let limit = gst::ClockTime::from_seconds(20);
    let message = bus.timed_pop_filtered(limit, &[gst::MessageType::Element]);
    let message = message.expect("no pulse is told");
    let pulse = message.structure().unwrap().get::<u64>("pulse");
    assert_eq!(pulse.unwrap(), 80 * MS);
    // And the next start is as good as the first.
    line.pipeline.set_state(gst::State::Ready).unwrap();
    line.pipeline.set_state(gst::State::Playing).unwrap();
    // Before the start nobody may listen: it fails instead.
    line.pipeline.set_state(gst::State::Null).unwrap();
    line.element.set_property("watchdog", 2_u64);
    assert!(line.pipeline.set_state(gst::State::Playing).is_err());
    line.element.set_property("watchdog", 2000 * MS);
    line.pipeline.set_state(gst::State::Playing).unwrap();
}

#[test]
fn late_decisions_are_fired_and_counted_exactly() {
    let mut line = Line::on_test_clock("vadlitetrigger delay=50000000 merge-window=5000000");
    line.run_to(400 * MS);
    // Taken long ago, inspected too slowly: seven of ten are known too late.
    for part in 0..7 {
        line.show_at((100 + 10 * part) * MS, Shown::DEFECTIVE);
    }
    for part in 0..3 {
        line.show_at((400 + 10 * part) * MS, Shown::DEFECTIVE);
    }
    line.run_to(1000 * MS);
    line.wait(|line| line.stat("pulses") == 10);
    assert_eq!(line.stat("late"), 7);
    let (messages, _) = line.messages("vadlitetrigger");
    let late: Vec<bool> = messages.iter().map(|m| m.get("late").unwrap()).collect();
    assert_eq!(late, [[true; 7].as_slice(), &[false; 3]].concat());
    // How late they came is not how exactly the others were fired.
    assert!(line.stat("error-max") >= 530 * MS && line.stat("error-max") < 600 * MS);
}

#[test]
fn what_passes_uninspected_is_rejected_where_asked_for() {
    let mut line = Line::on_test_clock(
        "vadlitetrigger fail-safe=reject watchdog=500000000 merge-window=50000000",
    );
    // Left out on purpose: no reason to reject.
    line.show(Shown::GOOD);
    line.show(Shown::SKIPPED);
    line.run_to(60 * MS);
    line.show(Shown::FAILED);
    line.wait(|line| line.stat("pulses") == 1);
    // The next frame comes later than the pulse ends: held until then.
    line.wait(|line| line.awaited() == Some(105 * MS));
    line.run_to(105 * MS);
    line.wait(|line| line.awaited() == Some(500 * MS));
    line.run_to(200 * MS);
    // Without a result, and never seen by vadlite.
    line.show_results(200 * MS, &[]);
    line.wait(|line| line.stat("pulses") == 2);
    let (messages, warnings) = line.messages("vadlitetrigger");
    let reasons: Vec<&str> = messages.iter().map(|m| m.get("reason").unwrap()).collect();
    assert_eq!(reasons, ["fail-safe", "fail-safe"]);
    assert_eq!(messages[0].get::<u64>("frame").unwrap(), 2);
    assert!(!messages[1].has_field("frame"));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("fail-safe=reject"), "{warnings:?}");
    // Silence: held until frames are inspected again.
    let good = line.show(Shown::GOOD);
    line.run_to(good);
    line.wait(|line| line.awaited() == Some(700 * MS));
    // So long after the first frame.
    line.run_to(500 * MS);
    line.wait(|line| line.awaited() == Some(700 * MS));
    line.run_to(700 * MS);
    line.wait(|line| line.stat("silences") == 1);
    line.wait(|line| line.awaited().is_none());
    line.run_to(2000 * MS);
    line.wait(|line| line.stat("held") / MS == 1395);
    line.show(Shown::GOOD);
    line.wait(|line| line.awaited() == Some(2500 * MS));
    let (messages, warnings) = line.messages("vadlitetrigger-gate");
    let held: Vec<(bool, u64)> = messages
        .iter()
        .map(|message| {
            (
                message.get("held").unwrap(),
                message.get::<u64>("time").unwrap() / MS,
            )
        })
        .collect();
    assert_eq!(held, [(false, 200), (true, 700), (false, 2000)]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("no inspected frame for 500 ms"),
        "{warnings:?}"
    );
    assert_eq!((line.stat("fail-safe"), line.stat("uninspected")), (2, 2));
    line.run_to(2500 * MS);
    line.wait(|line| line.stat("silences") == 2);
    assert_eq!(line.messages("").1.len(), 1);
}

#[test]
fn what_passes_uninspected_passes_where_asked_for() {
    let mut line = Line::on_test_clock("vadlitetrigger fail-safe=pass watchdog=100000000");
    line.show(Shown::FAILED);
    line.show(Shown::FAILED);
    line.wait(|line| line.awaited() == Some(100 * MS));
    line.run_to(100 * MS);
    line.wait(|line| line.stat("silences") == 1);
    assert_eq!((line.stat("pulses"), line.stat("held")), (0, 0));
    let (_, warnings) = line.messages("");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    for warning in warnings {
        assert!(warning.contains("fail-safe=pass"), "{warning}");
    }
}

#[test]
fn every_result_on_a_frame_counts() {
    let mut line = Line::on_test_clock(
        "vadlitetrigger fail-safe=reject merge-window=50000000 watchdog=60000000000",
    );
    line.show_results(0, &[Shown::GOOD, Shown::SKIPPED]);
    line.run_to(100 * MS);
    line.show_results(100 * MS, &[Shown::GOOD, Shown::DEFECTIVE]);
    line.wait(|line| line.stat("pulses") == 1);
    line.run_to(200 * MS);
    line.show_results(200 * MS, &[Shown::GOOD, Shown::FAILED]);
    line.wait(|line| line.stat("pulses") == 2);
    // Results that are not understood are not none, and one warning is enough for all of them.
    for time in [300, 400] {
        line.run_to(time * MS);
        let mut buffer = gst::Buffer::with_size(256).unwrap();
        let inner = buffer.get_mut().unwrap();
        inner.set_pts(gst::ClockTime::from_mseconds(time));
        gst::meta::CustomMeta::add(inner, "GstVadLiteMeta").unwrap();
        line.pass(buffer);
    }
    line.wait(|line| line.stat("pulses") == 4);
    let (messages, warnings) = line.messages("vadlitetrigger");
    let reasons: Vec<&str> = messages.iter().map(|m| m.get("reason").unwrap()).collect();
    assert_eq!(reasons, ["flagged", "fail-safe", "fail-safe", "fail-safe"]);
    assert_eq!(messages[0].get::<f64>("score").unwrap(), 2.0);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("not inspected"), "{warnings:?}");
    assert!(warnings[1].contains("cannot be read"), "{warnings:?}");
    assert!(warnings[1].contains("score"), "{warnings:?}");
}

#[test]
fn parts_on_their_way_are_fired_before_the_end() {
    let mut line = Line::on_test_clock("vadlitetrigger delay=300000000 merge-window=1000000");
    line.show(Shown::DEFECTIVE);
    line.run_to(100 * MS);
    line.show(Shown::DEFECTIVE);
    line.end();
    for due in [300 * MS, 400 * MS] {
        line.wait(|line| line.awaited() == Some(due));
        line.run_to(due);
    }
    let bus = line.pipeline.bus().unwrap();
    use gst::MessageType::{Element, Eos};
    let limit = gst::ClockTime::from_seconds(20);
    let heard: Vec<_> = (0..3)
        .map(|_| {
            bus.timed_pop_filtered(limit, &[Element, Eos])
                .unwrap()
                .type_()
        })
        .collect();
    assert_eq!(heard, [Element, Element, Eos]);
    assert_eq!(line.stat("pulses"), 2);
}

#[test]
fn stopping_does_not_wait_for_a_gate_far_away() {
    let mut line = Line::on_test_clock("vadlitetrigger delay=60000000000");
    line.show(Shown::DEFECTIVE);
    line.end();
    line.wait(|line| line.awaited() == Some(60_000 * MS));
    // Else it would wait for ever: the clock stands still.
    line.pipeline.set_state(gst::State::Null).unwrap();
    assert_eq!(line.stat("pulses"), 0);
}

#[test]
fn the_belt_stops_neither_for_a_pause_nor_for_a_flush() {
    let mut line = Line::on_test_clock("vadlitetrigger delay=100000000 merge-window=1000000");
    line.show(Shown::DEFECTIVE);
    line.wait(|line| line.awaited() == Some(100 * MS));
    line.run_to(50 * MS);
    line.pipeline.set_state(gst::State::Paused).unwrap();
    line.run_to(100 * MS);
    line.wait(|line| line.stat("pulses") == 1);
    assert_eq!(line.stat("error-max"), 0);
    line.run_to(500 * MS);
    line.pipeline.set_state(gst::State::Playing).unwrap();
    // Running time has stood still.
    line.wait(|line| line.now() == 50 * MS);
    line.show_at(60 * MS, Shown::DEFECTIVE);
    let sink = line.element.static_pad("sink").unwrap();
    assert!(sink.send_event(gst::event::FlushStart::new()));
    assert!(sink.send_event(gst::event::FlushStop::new(false)));
    let clock = line.clock_time();
    line.advance(200 * MS);
    line.wait(|line| line.stat("pulses") == 2);
    assert!(line.clock_time() >= clock + 100 * MS);
    let (_, warnings) = line.messages("");
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn a_flush_ends_the_wait_for_parts_at_the_end_of_the_stream() {
    let mut line = Line::on_test_clock("vadlitetrigger delay=8000000000");
    line.show(Shown::DEFECTIVE);
    line.end();
    line.wait(|line| line.awaited() == Some(8000 * MS));
    // It holds the pad until then, but for a flush.
    let sink = line.element.static_pad("sink").unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        sink.send_event(gst::event::FlushStart::new());
        sink.send_event(gst::event::FlushStop::new(false));
        let _ = tell.send(());
    });
    told.recv_timeout(Duration::from_secs(20)).unwrap();
    line.wait(|line| line.awaited() == Some(8000 * MS));
}

#[test]
fn the_end_comes_with_a_watchdog_that_is_shorter_than_the_way() {
    let mut line = Line::on_test_clock(
        "vadlitetrigger delay=500000000 fail-safe=reject watchdog=200000000 merge-window=1000000",
    );
    line.show(Shown::DEFECTIVE);
    line.end();
    line.wait(|line| line.awaited() == Some(500 * MS));
    line.run_to(500 * MS);
    let bus = line.pipeline.bus().unwrap();
    let limit = gst::ClockTime::from_seconds(20);
    assert!(
        bus.timed_pop_filtered(limit, &[gst::MessageType::Eos])
            .is_some()
    );
    assert_eq!((line.stat("pulses"), line.stat("silences")), (1, 0));
}

#[test]
fn settings_that_let_parts_pass_are_told() {
    for (settings, told) in [
        ("fail-safe=reject", "without watchdog"),
        ("distance=0.8", "the belt stands"),
    ] {
        let line = Line::on_test_clock(&format!("vadlitetrigger {settings}"));
        let (_, warnings) = line.messages("");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains(told), "{warnings:?}");
    }
}

#[test]
fn frames_on_a_clock_of_their_own_are_taken_for_now_and_told_once() {
    let hour = 3_600_000;
    let epoch = 1_795_000_000_000;
    for ahead in [200, 5000, hour, epoch] {
        let mut line = Line::on_test_clock("vadlitetrigger delay=50000000 merge-window=10000000");
        for part in 0..10 {
            let time = part * 100 * MS;
            line.run_to(time);
            line.show_at(time + ahead * MS, Shown::DEFECTIVE);
            line.wait(|line| line.awaited() == Some(time + 50 * MS));
            line.run_to(time + 50 * MS);
            line.wait(|line| line.stat("pulses") == part + 1);
        }
        let (_, warnings) = line.messages("");
        assert_eq!(warnings.len(), 1, "{ahead}: {warnings:?}");
        assert!(
            warnings[0].contains("ahead of the pipeline's clock"),
            "{warnings:?}"
        );
        assert_eq!((line.stat("implausible-times"), line.stat("late")), (10, 0));
    }
}

/// A leaky queue before `vadlite` and one behind it: what they drop is rejected.
#[test]
fn lost_frames_are_rejected_and_told_once() {
    let mut line = Line::on_test_clock(
        "vadlitetrigger fail-safe=reject watchdog=2000000000 merge-window=10000000 delay=200000000",
    );
    line.show_lost(0, 0, Shown::GOOD);
    line.run_to(300 * MS);
    // Two before vadlite.
    line.show_lost(2, 0, Shown::GOOD);
    line.run_to(500 * MS);
    // One behind it.
    line.show_lost(0, 1, Shown::GOOD);
    line.run_to(2000 * MS);
    line.wait(|line| line.stat("pulses") == 3);
    assert_eq!((line.stat("fail-safe"), line.stat("frames-lost")), (3, 3));
    let (messages, warnings) = line.messages("vadlitetrigger");
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("2 frames are missing"), "{warnings:?}");
    let late: Vec<bool> = messages.iter().map(|m| m.get("late").unwrap()).collect();
    // What passed the camera at 100 ms was at the gate when the next frame came.
    assert_eq!(late, [false; 3]);
}

/// Whoever hears of something may ask the element about it and set it, in the thread in which it is said.
#[test]
fn nothing_is_said_with_a_lock_held() {
    let mut line = Line::on_test_clock(
        "vadlitetrigger delay=10000000 fail-safe=reject watchdog=500000000 merge-window=1000000",
    );
    let (tell, told) = std::sync::mpsc::channel();
    let element = line.element.clone();
    line.pipeline
        .bus()
        .unwrap()
        .set_sync_handler(move |_, message| {
            let kind = message.type_();
            if matches!(kind, gst::MessageType::Element | gst::MessageType::Warning) {
                element.property::<gst::Structure>("stats");
                element.set_property("pulse", 60 * MS);
                let _ = tell.send(kind);
            }
            gst::BusSyncReply::Drop
        });
    // A frame that failed, its pulse, the gate that is held, and the watchdog.
    line.show(Shown::FAILED);
    line.run_to(10 * MS);
    let hear = || told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(hear(), gst::MessageType::Warning);
    assert_eq!(hear(), gst::MessageType::Element);
    line.wait(|line| line.awaited().is_some_and(|time| time < 100 * MS));
    line.run_to(100 * MS);
    assert_eq!(hear(), gst::MessageType::Element);
    line.wait(|line| line.awaited() == Some(500 * MS));
    line.run_to(500 * MS);
    assert_eq!(hear(), gst::MessageType::Warning);
    line.wait(|line| line.stat("held") == 400 * MS);
}

/// A camera that dies on a line with a real PLC: the coil is on from where the last inspected part is at the gate, until parts are
/// inspected again.
#[test]
fn a_dead_camera_holds_the_gate() {
    let plc = Plc::start();
    let mut line = Line::start(&format!(
        "vadlitetrigger output={} delay=300000000 pulse=50000000 fail-safe=reject watchdog=500000000",
        plc.address(7)
    ));
    line.wait(|line| line.stat("connected") == 1);
    line.show(Shown::GOOD);
    let last = Instant::now();
    line.wait(|line| line.stat("silences") == 1);
    // The part behind the last one has been at the gate for 200 ms.
    line.wait(|_| plc.edges().last().is_some_and(|edge| edge.on));
    let held = plc.edges().last().unwrap().at;
    assert!(held.duration_since(last) >= Duration::from_millis(490));
    line.wait(|line| line.stat("held") > 2000 * MS);
    assert_eq!(plc.edges().last().unwrap().at, held);
    let again = Instant::now();
    line.show(Shown::GOOD);
    let let_go = || {
        let edges = plc.edges();
        edges
            .iter()
            .find(|edge| !edge.on && edge.at > again)
            .copied()
    };
    line.wait(|_| let_go().is_some());
    // As long as the first part that was inspected again takes to the gate.
    let let_go = let_go().unwrap().at.duration_since(again);
    assert!(let_go >= Duration::from_millis(290), "{let_go:?}");
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
        line.show_after(NEXT, Shown::DEFECTIVE);
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
        "vadlitetrigger output=modbus-tcp://127.0.0.1:{port}/3 pulse=300000000 merge-window=10000000"
    ));
    line.wait(|_| plc.edges().len() == 1);
    for part in 1..=3 {
        // Each connection begins with a coil that is off: the idle one has been closed.
        let before = plc.edges().len();
        line.wait(|_| plc.edges().len() > before);
        line.show(Shown::DEFECTIVE);
        line.wait(|_| {
            let edges = plc.edges();
            let opened = edges.iter().filter(|edge| edge.on).count();
            opened >= part && edges.last().is_some_and(|edge| !edge.on)
        });
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
    let start = Instant::now();
    let line = Line::start(&format!(
        "vadlitetrigger output=\"{} mqtt://127.0.0.1:{port}/line/1\"",
        plc.address(COILS)
    ));
    let (mut messages, mut warnings) = (Vec::new(), Vec::new());
    line.wait(|line| {
        let (more, warned) = line.messages("vadlitetrigger-output");
        messages.extend(more);
        warnings.extend(warned);
        messages.len() >= 2 && connections.load(Ordering::Relaxed) >= 3
    });
    // After 0, 1 and 3 s, and never as if it were the first time.
    assert!(start.elapsed() >= Duration::from_millis(3000));
    assert_eq!(line.stat("connected"), 0);
    assert_eq!((messages.len(), warnings.len()), (2, 2), "{warnings:?}");
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
    // Each returns when the frame has passed, so that none waits for a broker that is away.
    let show = |line: &mut Line, count| {
        for _ in 0..count {
            line.show_after(NEXT, Shown::DEFECTIVE);
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
    // The acknowledgement of the tenth may have been lost with the broker; no other was on its way.
    assert!(heard[0] >= 9);
    assert_eq!(line.stat("dropped"), 0);
    assert_eq!(line.stat("reconnects"), 1);
    let (_, warnings) = line.messages("");
    // The frames come faster than they are taken.
    let warnings: Vec<_> = warnings
        .iter()
        .filter(|text| !text.contains("time stamp"))
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn every_part_within_the_bound_is_delivered_when_the_broker_comes_late() {
    let port = Port::reserve();
    let mut line = Line::start(&format!(
        "vadlitetrigger output=mqtt://127.0.0.1:{port}/line/1 merge-window=5000000 queue-size=30"
    ));
    for _ in 0..40 {
        line.show_after(NEXT, Shown::DEFECTIVE);
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
        std::thread::sleep(Duration::from_secs(60));
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
    let gate = messages.recv_timeout(Duration::from_secs(20));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(status.unwrap(), ("line/1/status".into(), "online".into()));
    assert_eq!(gate.unwrap(), ("line/1/gate".into(), "released".into()));
    let will = messages.recv_timeout(Duration::from_secs(20)).unwrap();
    assert_eq!(will, ("line/1/status".into(), "offline".into()));
}

#[test]
fn what_cannot_work_is_refused_at_the_start() {
    init();
    let error = output_refused("mqtt://me:hunter2@broker/a", "");
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
        let error = output_refused(mistyped, "");
        assert!(
            error.contains("credentials") && !error.contains("hunter2"),
            "{error}"
        );
    }
    let error = output_refused("mqtt://broker/a?qos=0", "");
    assert!(
        error.contains("?qos") && error.contains("mqtt://HOST"),
        "{error}"
    );
    let error = output_refused("mqtt://broker/a", "/nonexistent/secrets");
    assert!(
        error.contains("property credentials") && error.contains("/nonexistent/secrets"),
        "{error}"
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "user=me\nhunter2").unwrap();
    let error = output_refused("mqtt://broker/a", file.path().to_str().unwrap());
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
    let error = output_refused("gpio://gpiochip77/3", "");
    assert!(error.contains("gpiochip77"), "{error}");
}
