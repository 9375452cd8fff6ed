//! Outputs without an element: a gate that is held, connections that break meanwhile, and panics.

use super::worker::Output;
use super::{Event, Report, Target};
use crate::elements::vadlitetrigger::parts::Part;
use crate::elements::vadlitetrigger::pulse::Pulse;
use crate::thread::panics::{self, ALONE};
use gst::prelude::*;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

#[path = "../../../../tests/common/plc.rs"]
#[allow(dead_code)]
mod plc;
#[path = "../../../../tests/common/port.rs"]
mod port;
#[path = "../../../../tests/common/raw_broker.rs"]
#[allow(dead_code)]
mod raw_broker;

/// How long something may take that is to happen at once; only a failing test waits for it.
const LIMIT: Duration = Duration::from_secs(20);

fn output(address: &str) -> (Output, Receiver<Event>) {
    let [target] = &Target::parse_all(address).unwrap()[..] else {
        panic!("one address");
    };
    let (tell, told) = channel();
    let report: Report = Arc::new(move |_, event| drop(tell.send(event)));
    (Output::start(target, None, 10, report).unwrap(), told)
}

fn wait(mut done: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !done() {
        assert!(Instant::now() < end, "it does not happen");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A pulse that is fired now.
pub fn pulse(number: u64, width: Duration) -> Pulse {
    let part = Part::flagged(number);
    Pulse {
        part,
        due: 0,
        fired: Instant::now(),
        width,
        late: Duration::ZERO,
    }
}

#[cfg(feature = "modbus")]
mod modbus {
    use super::plc::{Device, Reply};
    use super::*;

    fn levels(plc: &Device) -> Vec<bool> {
        plc.edges().iter().map(|edge| edge.on).collect()
    }

    /// A panic is reported, and the output works on: here, by finding that nobody listens.
    #[test]
    fn an_output_that_panics_begins_anew() {
        let _alone = ALONE.lock();
        let port = port::Port::reserve();
        panics::want("vadlite-output");
        let (output, told) = output(&format!("modbus-tcp://127.0.0.1:{port}/1"));
        let first = told.recv_timeout(LIMIT).unwrap();
        assert!(
            matches!(&first, Event::Failed(text) if text.contains("vadlite-output")),
            "{first:?}"
        );
        let next = told.recv_timeout(LIMIT).unwrap();
        assert!(matches!(next, Event::Disconnected { .. }), "{next:?}");
        drop(output);
    }

    #[test]
    fn a_held_coil_is_on_until_it_is_let_go() {
        let _alone = ALONE.lock();
        let plc = Device::start(None, |_, _| Reply::Answer);
        let (output, told) = output(&plc.address(3));
        wait(|| levels(&plc) == [false]);
        output.hold(true);
        wait(|| levels(&plc) == [false, true]);
        // A pulse within ends unseen, one that goes on is seen to its end.
        let fired = Instant::now();
        output.push(pulse(0, Duration::from_millis(200)));
        output.push(pulse(1, Duration::from_millis(800)));
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!(levels(&plc), [false, true]);
        output.hold(false);
        wait(|| levels(&plc) == [false, true, false]);
        assert!(fired.elapsed() >= Duration::from_millis(800));
        // Not after the end, and nothing was missed.
        output.hold(true);
        wait(|| levels(&plc) == [false, true, false, true]);
        drop(output);
        assert_eq!(levels(&plc), [false, true, false, true, false]);
        let events: Vec<Event> = told.iter().collect();
        assert!(matches!(events[..], [Event::Connected]), "{events:?}");
    }

    /// The thread that decides has failed: nothing passes as if somebody decided, nor as if nobody was asked.
    #[test]
    fn a_gate_without_decisions_is_held() {
        let _alone = ALONE.lock();
        gst::init().unwrap();
        crate::plugin_register_static().unwrap();
        for (fail_safe, held) in [("reject", true), ("pass", false)] {
            let plc = Device::start(None, |_, _| Reply::Answer);
            let element = gst::ElementFactory::make("vadlitetrigger")
                .property("output", plc.address(3))
                .property_from_str("fail-safe", fail_safe)
                .build()
                .unwrap();
            let bus = gst::Bus::new();
            element.set_bus(Some(&bus));
            panics::want("vadlitetrigger");
            element.set_state(gst::State::Paused).unwrap();
            let error = bus
                .timed_pop_filtered(gst::ClockTime::from_seconds(20), &[gst::MessageType::Error]);
            assert!(error.is_some(), "no error is posted");
            wait(|| levels(&plc).last() == Some(&held));
            element.set_state(gst::State::Null).unwrap();
            assert_eq!(levels(&plc).last(), Some(&false));
        }
    }

    #[test]
    fn a_held_coil_is_on_again_after_a_connection_has_broken() {
        let _alone = ALONE.lock();
        let plc = Device::start(None, |_, _| Reply::Answer);
        let (output, _told) = output(&plc.address(3));
        output.hold(true);
        wait(|| levels(&plc).last() == Some(&true));
        let before = levels(&plc).len();
        plc.set_reachable(false);
        plc.set_reachable(true);
        wait(|| levels(&plc).len() > before);
        // Not off in between.
        assert!(levels(&plc)[before]);
        drop(output);
        assert_eq!(levels(&plc).last(), Some(&false));
    }

    #[test]
    fn a_coil_is_held_however_many_pulses_wait() {
        let _alone = ALONE.lock();
        let plc = Device::start(None, |_, _| Reply::Answer);
        plc.set_reachable(false);
        let (output, told) = output(&plc.address(3));
        assert!(matches!(
            told.recv_timeout(LIMIT),
            Ok(Event::Disconnected { .. })
        ));
        output.hold(true);
        let given_up = (0..30).filter(|number| output.push(pulse(*number, LIMIT)).is_some());
        assert_eq!(given_up.count(), 20);
        plc.set_reachable(true);
        wait(|| levels(&plc) == [true]);
        drop(output);
    }

    #[test]
    fn a_panic_changes_nothing_about_what_the_coil_is_to_be() {
        let _alone = ALONE.lock();
        let plc = Device::start(None, |_, _| Reply::Answer);
        let (output, told) = output(&plc.address(3));
        wait(|| levels(&plc) == [false]);
        let panics = |held| {
            panics::want("vadlite-output: modbus");
            output.hold(held);
            wait(|| {
                told.try_iter()
                    .any(|event| matches!(event, Event::Failed(_)))
            });
            wait(|| levels(&plc).last() == Some(&held));
        };
        panics(true);
        panics(false);
        panics(true);
        // The last thing it does is not left undone either.
        panics::want("vadlite-output: modbus");
        drop(output);
        assert_eq!(levels(&plc).last(), Some(&false));
        assert!(told.iter().all(|event| !matches!(event, Event::LeftOn(_))));
    }
}

#[cfg(feature = "mqtt")]
mod mqtt {
    use super::raw_broker::{Manner, RawBroker};
    use super::*;

    #[test]
    fn a_broker_is_told_that_the_gate_is_held_and_again_after_a_connection_has_broken() {
        let _alone = ALONE.lock();
        let broker = RawBroker::start(Manner::Good);
        let (output, _told) = output(&broker.address());
        // What is said next on that topic.
        let gate = || loop {
            let message = broker.messages.recv_timeout(LIMIT).unwrap();
            if message.topic == "line/1/gate" {
                assert!(message.retained);
                return message.text;
            }
        };
        assert_eq!(gate(), "released");
        output.hold(true);
        assert_eq!(gate(), "hold");
        broker.cut();
        assert_eq!(gate(), "hold");
        output.hold(false);
        assert_eq!(gate(), "released");
        output.hold(true);
        assert_eq!(gate(), "hold");
        drop(output);
        assert_eq!(gate(), "released");
        let last = broker.messages.recv_timeout(LIMIT).unwrap();
        assert_eq!(
            (last.topic.as_str(), last.text.as_str()),
            ("line/1/status", "offline")
        );
    }
}
