//! `vadliterecord` and a disk that stands still for good: nothing waits for it for ever.

mod common;

use common::disk::{self, DISK};
use common::recordings::{FRAME, Feed, folder, videos};
use gst::prelude::*;
use std::path::Path;
use std::sync::Once;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// What the element allows the disk, and some time for the machine.
const GRACE: Duration = Duration::from_secs(10);
const MORE: Duration = Duration::from_secs(3);

/// From here on no file takes anything.
fn init() {
    static ONCE: Once = Once::new();
    common::element::init();
    ONCE.call_once(|| {
        disk::register();
        DISK.set_closed(true);
    });
}

/// A recorder of raw frames, which cost no time, into this folder.
fn feed(folder: &Path, live: bool, width: usize) -> Feed {
    let properties = format!(
        "location=\"{}\" encoder=identity pre-roll=100000000 post-roll=1000000000",
        folder.display()
    );
    Feed::new(&properties, live, width)
}

fn wait_for_video(folder: &Path) {
    let end = Instant::now() + Duration::from_secs(60);
    while videos(folder).is_empty() {
        assert!(Instant::now() < end, "no incident is begun");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// How long the pipeline takes to stop, whoever holds up its threads.
fn stop(pipeline: &gst::Object) -> Duration {
    let pipeline = pipeline.clone().downcast::<gst::Pipeline>().unwrap();
    let (tell, told) = channel();
    let start = Instant::now();
    std::thread::spawn(move || {
        let _ = tell.send(pipeline.set_state(gst::State::Null));
    });
    let stopped = told.recv_timeout(6 * GRACE).expect("it never stops");
    assert!(stopped.is_ok());
    start.elapsed()
}

/// A recorder to which the stream has ended, within an incident.
fn at_the_end(name: &str) -> Feed {
    let folder = folder(name);
    let mut feed = feed(&folder, true, 64);
    feed.push_all(0..10, Some(3));
    wait_for_video(&folder);
    // The end has come through the encoder.
    let bin = feed.element.downcast_ref::<gst::Bin>().unwrap();
    let sink = bin
        .children()
        .into_iter()
        .find_map(|child| child.downcast::<gst_app::AppSink>().ok());
    let (tell, told) = channel();
    let pad = sink.unwrap().static_pad("sink").unwrap();
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |_, info| {
        if info
            .event()
            .is_some_and(|event| event.type_() == gst::EventType::Eos)
        {
            let _ = tell.send(());
        }
        gst::PadProbeReturn::Ok
    });
    feed.begin_end();
    told.recv_timeout(MORE).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    assert!(
        feed.bus.pop_filtered(&[gst::MessageType::Eos]).is_none(),
        "the end is reported before all is on the disk"
    );
    feed
}

#[test]
fn a_stop_ends_the_wait_for_the_disk_at_the_end_of_the_stream() {
    init();
    let feed = at_the_end("stopped at the end");
    let took = stop(&feed.element.parent().unwrap());
    assert!(took < GRACE + MORE, "{took:?}");
}

#[test]
fn a_flush_ends_the_wait_for_the_disk_at_the_end_of_the_stream() {
    init();
    let feed = at_the_end("flushed");
    let start = Instant::now();
    let pad = feed.element.static_pad("sink").unwrap();
    assert!(pad.send_event(gst::event::FlushStart::new()));
    assert!(pad.send_event(gst::event::FlushStop::new(false)));
    let took = start.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_live_line_stops_and_says_what_is_not_on_the_disk() {
    init();
    let folder = folder("stopped");
    let mut feed = feed(&folder, true, 64);
    feed.push_all(0..10, Some(3));
    wait_for_video(&folder);
    let took = stop(&feed.element.parent().unwrap());
    assert!(took < GRACE + MORE, "{took:?}");
    let said = feed.warnings();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("has not taken the last incident within 10 s"),
        "{said:?}"
    );
}

/// Its frames are held up, none is lost: the thread that brings them has to be let go first.
#[test]
fn a_file_that_is_held_up_stops() {
    init();
    let folder = folder("held up");
    let mut feed = feed(&folder, false, 4000);
    let pipeline = feed.element.parent().unwrap();
    let pushes = std::thread::spawn(move || {
        // More than fits anywhere on the way.
        for frame in 0..60 {
            let buffer = gst::Buffer::from_mut_slice(vec![0; 4000 * 3000 * 3 / 2]);
            if feed.offer(buffer, Some(frame * FRAME), frame == 3).is_err() {
                return (feed, frame);
            }
        }
        (feed, 60)
    });
    wait_for_video(&folder);
    // It goes no further.
    std::thread::sleep(Duration::from_secs(1));
    assert!(!pushes.is_finished(), "nothing is held up");
    let took = stop(&pipeline);
    assert!(took < GRACE + MORE, "{took:?}");
    let (feed, pushed) = pushes.join().unwrap();
    assert!(pushed < 60);
    assert_eq!(feed.stat("dropped"), 0);
}
