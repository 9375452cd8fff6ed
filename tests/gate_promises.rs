//! Rows of `docs/gate.md` that need the element, beside those that `trigger.rs` and `outputs.rs` show.

mod common;

use common::broker::Broker;
use common::element::init;
use common::line::{Line, Shown};
use common::model;
use common::recordings::result;
use gst::prelude::*;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MS: u64 = 1_000_000;
const LIMIT: Duration = Duration::from_secs(20);

/// Waits for the end of the stream on the bus.
#[track_caller]
fn wait_for_end(line: &Line) {
    let bus = line.pipeline.bus().unwrap();
    let limit = gst::ClockTime::from_seconds(LIMIT.as_secs());
    let end = bus.timed_pop_filtered(limit, &[gst::MessageType::Eos]);
    assert!(end.is_some(), "no end of stream; {:?}", line.stats());
}

/// Ends the line, and returns the warnings until then: the bus of a pipeline forgets them.
fn warnings_of_stop(line: &Line) -> Vec<String> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let its = heard.clone();
    let bus = line.pipeline.bus().unwrap();
    bus.set_sync_handler(move |_, message| {
        if let gst::MessageView::Warning(warning) = message.view() {
            its.lock().unwrap().push(warning.error().message().into());
        }
        gst::BusSyncReply::Drop
    });
    line.pipeline.set_state(gst::State::Null).unwrap();
    std::mem::take(&mut *heard.lock().unwrap())
}

#[test]
fn parts_on_their_way_at_the_stop_are_counted_and_said() {
    let mut line = Line::on_test_clock("vadlitetrigger delay=60000000000 merge-window=1000000");
    for time in [0, 50, 100] {
        line.run_to(time * MS);
        line.show(Shown::DEFECTIVE);
    }
    assert_eq!(line.messages("").1, Vec::<String>::new());
    let said = warnings_of_stop(&line);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("3 parts on their way"), "{said:?}");
    assert_eq!((line.stat("lost"), line.stat("pulses")), (3, 0));
}

#[test]
fn parts_beyond_the_most_that_is_remembered_are_counted_and_said_once() {
    let mut line = Line::on_test_clock("vadlitetrigger delay=86400000000000 merge-window=1000000");
    for part in 0..10_003 {
        line.show_at(2 * part * MS, Shown::DEFECTIVE);
        // Nobody is ahead of the clock.
        line.run_to(2 * part * MS);
    }
    assert_eq!(line.stat("lost"), 3);
    let (_, said) = line.messages("");
    let said: Vec<_> = said
        .iter()
        .filter(|text| text.contains("10000 parts are on their way"))
        .collect();
    assert_eq!(said.len(), 1, "{said:?}");
}

/// No frame has come since the start.
#[test]
fn a_camera_that_never_comes_holds_the_gate() {
    let line =
        Line::on_test_clock("vadlitetrigger delay=100000000 fail-safe=reject watchdog=500000000");
    line.wait(|line| line.awaited() == Some(500 * MS));
    line.run_to(500 * MS);
    line.wait(|line| line.stat("silences") == 1);
    line.run_to(3500 * MS);
    line.wait(|line| line.stat("held") == 3000 * MS);
    let (gate, said) = line.messages("vadlitetrigger-gate");
    let held: Vec<bool> = gate.iter().map(|it| it.get("held").unwrap()).collect();
    assert_eq!(held, [true]);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("no inspected frame for 500 ms"),
        "{said:?}"
    );
}

/// While a model is learnt, or where every inspection fails: a pulse for each part, and from the watchdog's time on the gate is held.
#[test]
fn frames_that_fail_for_longer_than_the_watchdog_waits_hold_the_gate() {
    let mut line = Line::on_test_clock(
        "vadlitetrigger delay=10000000 fail-safe=reject watchdog=500000000 merge-window=50000000",
    );
    line.show(Shown::GOOD);
    for frame in 1..=12 {
        // Whatever it waits for, it has seen to what was before.
        line.wait(|line| line.awaited().is_some_and(|time| time > line.now()));
        line.run_to(frame * 40 * MS);
        line.show(Shown::FAILED);
    }
    // Step by step through what it waits for: pulses, the watchdog's time, and when what is taken from then on is at the gate.
    let mut said = Vec::new();
    line.wait(|line| {
        if let Some(due) = line.awaited().filter(|due| *due <= 555 * MS) {
            line.run_to(due);
        }
        let (gate, more) = line.messages("vadlitetrigger-gate");
        said.extend(more);
        line.stat("silences") == 1 && gate.iter().any(|it| it.get("held") == Ok(true))
    });
    for frame in 14..50 {
        line.run_to(frame * 40 * MS);
        line.show(Shown::FAILED);
    }
    line.run_to(2000 * MS);
    // Not for a moment let go since then.
    line.wait(|line| line.stat("held") >= 1400 * MS);
    line.show(Shown::GOOD);
    line.run_to(2020 * MS);
    line.wait(|line| line.awaited() == Some(2500 * MS));
    let held = line.stat("held");
    line.run_to(2400 * MS);
    assert_eq!(line.stat("held"), held);
    assert_eq!(line.stat("uninspected"), 48);
    // Of what failed and of the silence.
    said.extend(line.messages("").1);
    assert_eq!(said.len(), 2, "{said:?}");
}

/// Between the elements, which their numbers tell.
#[test]
fn frames_that_a_flush_drops_are_rejected() {
    let mut line = Line::on_test_clock(
        "vadlitetrigger delay=100000000 fail-safe=reject watchdog=5000000000 merge-window=1000000",
    );
    line.show(Shown::GOOD);
    let sink = line.element.static_pad("sink").unwrap();
    // Once the thread that has brought the frame is back: else it would be told to bring no more.
    drop(sink.stream_lock());
    assert!(sink.send_event(gst::event::FlushStart::new()));
    assert!(sink.send_event(gst::event::FlushStop::new(false)));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    assert!(sink.send_event(gst::event::Segment::new(&segment)));
    line.run_to(300 * MS);
    line.show_lost(0, 2, Shown::GOOD);
    assert_eq!(line.stat("frames-lost"), 2);
    line.run_to(1000 * MS);
    line.wait(|line| line.stat("pulses") == 2);
    let (_, said) = line.messages("");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("2 frames are missing"), "{said:?}");
}

/// Through both elements.
#[test]
fn a_gap_is_rejected_as_a_failed_inspection() {
    init();
    let text = format!(
        "vadlite model=\"{}\" ! vadlitetrigger fail-safe=reject watchdog=60000000000 merge-window=1000000",
        model().path.display()
    );
    let line = Line::on_test_clock(&text);
    for (number, gap) in [false, true, false].into_iter().enumerate() {
        // As the caps say.
        let time = 10 * MS * number as u64;
        line.run_to(time);
        let mut buffer = gst::Buffer::from_mut_slice(vec![90; 256]);
        let inner = buffer.get_mut().unwrap();
        inner.set_pts(gst::ClockTime::from_nseconds(time));
        if gap {
            inner.set_flags(gst::BufferFlags::GAP);
        }
        line.pass(buffer);
        assert_eq!(line.stat("uninspected"), u64::from(number > 0));
    }
    let of_gaps = |line: &Line| line.stat("fail-safe");
    line.run_to(1000 * MS);
    line.wait(|line| of_gaps(line) == 1);
}

/// Without a pipeline there may be no clock: parts are fired all the same, and the end is not waited for for ever.
#[test]
fn without_a_clock_the_end_comes_behind_the_last_part() {
    init();
    let element = gst::ElementFactory::make("vadlitetrigger")
        .property("delay", 300 * MS)
        .build()
        .unwrap();
    let source = gst::Pad::builder(gst::PadDirection::Src).build();
    source.set_active(true).unwrap();
    let (tell, told) = channel();
    let sink = gst::Pad::builder(gst::PadDirection::Sink)
        .chain_function(|_, _, _| Ok(gst::FlowSuccess::Ok))
        .event_function(move |_, _, event| {
            if event.type_() == gst::EventType::Eos {
                let _ = tell.send(());
            }
            true
        })
        .build();
    sink.set_active(true).unwrap();
    source.link(&element.static_pad("sink").unwrap()).unwrap();
    element.static_pad("src").unwrap().link(&sink).unwrap();
    element.set_state(gst::State::Playing).unwrap();
    assert!(element.clock().is_none());
    let stat = |name: &str| -> u64 {
        let stats: gst::Structure = element.property("stats");
        stats.get(name).unwrap()
    };
    let pushes = source.clone();
    let streaming = std::thread::spawn(move || {
        let caps: gst::Caps = "video/x-raw,format=GRAY8,width=16,height=16,framerate=100/1"
            .parse()
            .unwrap();
        let segment = gst::FormattedSegment::<gst::ClockTime>::new();
        assert!(pushes.push_event(gst::event::StreamStart::new("of no pipeline")));
        assert!(pushes.push_event(gst::event::Caps::new(&caps)));
        assert!(pushes.push_event(gst::event::Segment::new(&segment)));
        let mut buffer = gst::Buffer::with_size(256).unwrap();
        let inner = buffer.get_mut().unwrap();
        inner.set_pts(gst::ClockTime::ZERO);
        result("made-up.vadlite", 0, true).write(inner).unwrap();
        pushes.push(buffer).unwrap();
        assert!(pushes.push_event(gst::event::Eos::new()));
    });
    told.recv_timeout(LIMIT).expect("no end of stream");
    assert_eq!(stat("pulses"), 1);
    streaming.join().unwrap();
    element.set_state(gst::State::Null).unwrap();
}

/// By their stamps they are at the gate in hours, or in decades.
#[test]
fn the_end_comes_behind_frames_ahead_of_the_clock() {
    for ahead in [5_000, 3_600_000, 1_795_000_000_000] {
        let mut line = Line::on_test_clock("vadlitetrigger delay=50000000 merge-window=10000000");
        for part in 0..3 {
            line.run_to(part * 20 * MS);
            line.show_at((part * 20 + ahead) * MS, Shown::DEFECTIVE);
        }
        line.end();
        for due in [50, 70, 90] {
            line.wait(|line| line.awaited() == Some(due * MS));
            line.run_to(due * MS);
        }
        wait_for_end(&line);
        assert_eq!(line.stat("pulses"), 3, "{ahead}");
    }
}

#[test]
fn a_broker_hears_that_no_frame_stands_for_a_part() {
    let broker = Broker::start();
    let messages = broker.listen("line/1");
    let mut line = Line::start(&format!(
        "vadlitetrigger fail-safe=reject watchdog=60000000000 output=mqtt://127.0.0.1:{}/line/1",
        broker.port()
    ));
    line.wait(|line| line.stat("connected") == 1);
    let now = line.now();
    line.show_results(now, &[]);
    let (_, text) = messages.recv_timeout(LIMIT).unwrap();
    let part: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(part["reason"], "fail-safe");
    assert!(
        part.as_object().unwrap().contains_key("frame") && part["frame"].is_null(),
        "{part}"
    );
}
