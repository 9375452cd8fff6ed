//! Frames on their way: none lost, none copied, the result still on them far downstream.

mod common;

use common::element::{FORMATS, Rig, Seen, bytes, init};
use common::{model, scratch};
use gst::prelude::*;
use gst_video::VideoFormat as F;
use std::collections::HashSet;
use std::sync::{Arc, Mutex};

/// Ends with the test, however that ends.
struct Pipeline(gst::Pipeline);

impl std::ops::Deref for Pipeline {
    type Target = gst::Pipeline;

    fn deref(&self) -> &gst::Pipeline {
        &self.0
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.0.set_state(gst::State::Null);
    }
}

/// A pipeline in which `vadlite` is the element with the test's model.
fn pipeline(description: &str) -> Pipeline {
    init();
    let model = format!("vadlite name=v model={}", model().path.display());
    let description = description.replace("! vadlite", &format!("! {model}"));
    let pipeline = gst::parse::launch(&description).unwrap();
    Pipeline(pipeline.downcast().unwrap())
}

/// Plays to the end; panics on an error.
fn play(pipeline: &gst::Pipeline) {
    pipeline.set_state(gst::State::Playing).unwrap();
    let bus = pipeline.bus().unwrap();
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &wanted);
    let message = message.expect("no end of stream in a minute");
    assert_eq!(message.type_(), gst::MessageType::Eos, "{message:?}");
}

fn stat(pipeline: &gst::Pipeline, name: &str) -> u64 {
    let stats: gst::Structure = pipeline.by_name("v").unwrap().property("stats");
    stats.get(name).unwrap()
}

/// The buffers that an appsink still holds.
fn buffers(pipeline: &gst::Pipeline, sink: &str) -> Vec<gst::Buffer> {
    let sink = pipeline.by_name(sink).unwrap();
    let sink: gst_app::AppSink = sink.downcast().unwrap();
    std::iter::from_fn(|| sink.try_pull_sample(gst::ClockTime::ZERO))
        .map(|sample| sample.buffer_owned().unwrap())
        .collect()
}

/// Collects the results on the buffers that leave an element.
fn watch(pipeline: &gst::Pipeline, element: &str) -> Arc<Mutex<Vec<Seen>>> {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let pad = pipeline
        .by_name(element)
        .unwrap()
        .static_pad("src")
        .unwrap();
    let list = seen.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        list.lock().unwrap().push(Seen::of(info.buffer().unwrap()));
        gst::PadProbeReturn::Ok
    });
    seen
}

const TEE: &str = "videotestsrc num-buffers=FRAMES pattern=ball ! video/x-raw,format=FORMAT,width=96,height=64 ! tee name=t \
    t. ! queue max-size-buffers=0 max-size-time=0 ! appsink name=plain sync=false wait-on-eos=false \
    t. ! queue max-size-buffers=0 max-size-time=0 ! vadlite post-messages=none PROPERTIES ! appsink name=inspected sync=false wait-on-eos=false";

fn tee(format: F, frames: usize, properties: &str) -> (Vec<gst::Buffer>, Vec<gst::Buffer>, u64) {
    let description = TEE
        .replace("FORMAT", format.to_str())
        .replace("FRAMES", &frames.to_string())
        .replace("PROPERTIES", properties);
    let pipeline = pipeline(&description);
    play(&pipeline);
    (
        buffers(&pipeline, "plain"),
        buffers(&pipeline, "inspected"),
        stat(&pipeline, "flagged"),
    )
}

#[test]
fn no_pixel_is_copied_where_nothing_is_drawn() {
    for (properties, all_flagged) in [
        ("overlay=none threshold=0.001", true),
        // Drawn on flagged frames only, and none is.
        ("overlay=heatmap threshold=1e9", false),
    ] {
        let (plain, inspected, flagged) = tee(F::Nv12, 100, properties);
        assert_eq!((plain.len(), inspected.len()), (100, 100));
        assert_eq!(flagged, if all_flagged { 100 } else { 0 });
        let memory = |buffer: &gst::Buffer| {
            assert_eq!(buffer.n_memory(), 1);
            let map = buffer.map_readable().unwrap();
            (
                buffer.peek_memory(0).as_ptr() as usize,
                map.as_ptr() as usize,
            )
        };
        for (plain, inspected) in plain.iter().zip(&inspected) {
            assert_eq!(memory(plain), memory(inspected), "{properties}");
            assert!(gst::meta::CustomMeta::from_buffer(plain, "GstVadLiteMeta").is_err());
            assert!(Seen::of(inspected).inspected);
        }
        // All are alive, so that equal addresses mean the same memory.
        let addresses: HashSet<_> = plain.iter().map(memory).collect();
        assert_eq!(addresses.len(), 100);
    }
}

#[test]
fn drawing_leaves_the_other_branch_alone() {
    for format in FORMATS {
        let (untouched, _, _) = tee(format, 6, "overlay=none interval=100");
        let (plain, inspected, flagged) = tee(format, 6, "threshold=0.001");
        assert_eq!((plain.len(), inspected.len(), flagged), (6, 6, 6));
        for ((untouched, plain), inspected) in untouched.iter().zip(&plain).zip(&inspected) {
            assert_eq!(bytes(untouched), bytes(plain));
            assert_ne!(bytes(plain), bytes(inspected), "nothing is drawn");
        }
    }
}

#[test]
fn the_result_outlives_conversion_and_scaling_unchanged() {
    let pipeline = pipeline(
        "videotestsrc num-buffers=5 pattern=ball ! video/x-raw,format=RGB,width=320,height=240 ! \
         vadlite threshold=0.001 ! queue ! videoconvert ! videoscale ! identity name=far ! \
         video/x-raw,format=I420,width=100,height=50,pixel-aspect-ratio=1/1 ! fakesink",
    );
    let (near, far) = (watch(&pipeline, "v"), watch(&pipeline, "far"));
    play(&pipeline);
    let (near, far) = (near.lock().unwrap(), far.lock().unwrap());
    assert_eq!(near.len(), 5);
    assert!(
        near.iter()
            .all(|seen| !seen.regions.is_empty() && seen.map.is_some())
    );
    assert_eq!(*near, *far);
}

/// GStreamer hands the result on as it is where a frame is cropped or flipped. It tells of the frame that was looked at, and its size.
#[test]
fn behind_a_crop_or_a_flip_the_result_is_of_the_frame_that_was_looked_at() {
    for (change, size) in [
        ("videocrop left=100 top=20", (220, 220)),
        ("videoflip video-direction=horiz", (320, 240)),
        ("videoflip video-direction=90r", (240, 320)),
    ] {
        let pipeline = pipeline(&format!(
            "videotestsrc num-buffers=3 pattern=ball ! video/x-raw,format=I420,width=320,height=240 ! \
             vadlite threshold=0.001 ! {change} ! appsink name=far sync=false wait-on-eos=false"
        ));
        let near = watch(&pipeline, "v");
        play(&pipeline);
        let sink: gst_app::AppSink = pipeline.by_name("far").unwrap().downcast().unwrap();
        let near = near.lock().unwrap();
        for near in near.iter() {
            let sample = sink.try_pull_sample(gst::ClockTime::ZERO).unwrap();
            let info = gst_video::VideoInfo::from_caps(sample.caps().unwrap()).unwrap();
            assert_eq!((info.width(), info.height()), size, "{change}");
            let far = common::element::structure(sample.buffer().unwrap());
            assert_eq!(Seen::from_structure(&far), *near, "{change}");
            let told = (far.get::<u32>("width"), far.get::<u32>("height"));
            assert_eq!(told, (Ok(320), Ok(240)), "{change}");
            let roi: gst::Structure = far.get("map-roi").unwrap();
            let roi = ["x", "y", "w", "h"].map(|side| roi.get::<f64>(side).unwrap());
            assert_eq!(roi, [0.0, 0.0, 1.0, 1.0], "{change}");
        }
        assert_eq!(near.len(), 3);
    }
}

#[test]
fn no_frame_is_dropped_before_a_slow_sink() {
    let pipeline = pipeline(
        "videotestsrc is-live=true num-buffers=40 ! video/x-raw,format=GRAY8,width=32,height=32,framerate=200/1 ! \
         vadlite ! identity sleep-time=10000 ! fakesink sync=true qos=true",
    );
    let seen = watch(&pipeline, "v");
    play(&pipeline);
    assert_eq!(
        (stat(&pipeline, "frames"), stat(&pipeline, "inspected")),
        (40, 40)
    );
    let seen = seen.lock().unwrap();
    assert!(seen.len() == 40 && seen.iter().all(|seen| seen.inspected));
}

#[test]
fn frames_that_a_leaky_queue_drops_are_counted_as_lost() {
    let pipeline = pipeline(
        "videotestsrc num-buffers=60 ! video/x-raw,format=GRAY8,width=32,height=32 ! identity sleep-time=5000 ! \
         queue leaky=downstream max-size-buffers=2 ! identity name=arrived sleep-time=30000 ! vadlite ! fakesink",
    );
    let first = Arc::new(Mutex::new(None));
    let pad = pipeline
        .by_name("arrived")
        .unwrap()
        .static_pad("src")
        .unwrap();
    let offset = first.clone();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        offset
            .lock()
            .unwrap()
            .get_or_insert(info.buffer().unwrap().offset());
        gst::PadProbeReturn::Remove
    });
    play(&pipeline);
    let (frames, lost) = (stat(&pipeline, "frames"), stat(&pipeline, "frames-lost"));
    let before_the_first = first.lock().unwrap().unwrap();
    assert!(lost > 0, "the queue has dropped nothing");
    assert_eq!(frames + lost + before_the_first, 60);
}

#[test]
fn gaps_are_counted_but_not_those_that_were_asked_for() {
    let mut rig = Rig::new(&[("overlay", "none"), ("interval", "1000")]);
    let info = gst_video::VideoInfo::builder(F::Gray8, 32, 32)
        .build()
        .unwrap();
    rig.set_info(&info);
    let mut lost = 0;
    // Offset, time in ms, discontinuity, and what is missing before it. A frame lasts 40 ms.
    let mut push =
        |rig: &mut Rig, offset: Option<u64>, time: Option<u64>, discont: bool, missing: u64| {
            let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
            {
                let buffer = buffer.get_mut().unwrap();
                buffer.set_offset(offset.unwrap_or(u64::MAX));
                buffer.set_offset_end(offset.map_or(u64::MAX, |offset| offset + 1));
                buffer.set_pts(time.map(gst::ClockTime::from_mseconds));
                buffer.set_duration(time.map(|_| gst::ClockTime::from_mseconds(40)));
                if discont {
                    buffer.set_flags(gst::BufferFlags::DISCONT);
                }
            }
            rig.pass(buffer);
            lost += missing;
            assert_eq!(
                rig.stat::<u64>("frames-lost"),
                lost,
                "at offset {offset:?}, time {time:?}"
            );
        };
    // By offsets.
    push(&mut rig, Some(7), Some(0), true, 0);
    push(&mut rig, Some(8), Some(40), false, 0);
    push(&mut rig, Some(12), Some(200), true, 3);
    push(&mut rig, Some(14), Some(240), false, 1);
    // By times, with a little jitter.
    push(&mut rig, None, Some(280), false, 0);
    push(&mut rig, None, Some(437), true, 3);
    // A slower camera is no loss.
    push(&mut rig, None, Some(1000), false, 0);
    // Without times either: one at least.
    push(&mut rig, None, None, true, 1);
    push(&mut rig, None, None, false, 0);
    // A source that starts its numbers again, with and without saying so.
    push(&mut rig, Some(100), Some(2000), false, 0);
    push(&mut rig, Some(0), Some(2040), false, 0);
    push(&mut rig, Some(1), Some(2080), false, 0);
    // After a seek.
    rig.harness().push_event(gst::event::FlushStart::new());
    rig.harness().push_event(gst::event::FlushStop::new(true));
    let segment = gst::FormattedSegment::<gst::ClockTime>::new();
    rig.harness().push_event(gst::event::Segment::new(&segment));
    push(&mut rig, Some(50), Some(9000), true, 0);
    push(&mut rig, Some(52), Some(9080), false, 1);
    // After a new segment without a flush.
    rig.harness().push_event(gst::event::Segment::new(&segment));
    push(&mut rig, Some(90), Some(12000), true, 0);
}

/// A file of raw frames counts its offsets in bytes.
#[test]
fn offsets_in_bytes_are_no_losses() {
    let path = scratch().join("frames.gray");
    std::fs::write(&path, vec![90u8; 20 * 32 * 32]).unwrap();
    let pipeline = pipeline(&format!(
        "filesrc location={} ! rawvideoparse format=gray8 width=32 height=32 framerate=25/1 ! vadlite ! fakesink",
        path.display()
    ));
    play(&pipeline);
    assert_eq!(
        (stat(&pipeline, "frames"), stat(&pipeline, "frames-lost")),
        (20, 0)
    );
}

/// A camera whose rows are padded hands its own memory on only if it is told that this is understood.
#[test]
fn strides_are_negotiated_between_the_neighbours() {
    for understood in [true, false] {
        let mut rig = Rig::new(&[]);
        let sink = rig.harness().sinkpad().unwrap();
        sink.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, move |_, info| {
            if let Some(gst::QueryViewMut::Allocation(query)) =
                info.query_mut().map(|query| query.view_mut())
                && understood
            {
                query.add_allocation_meta::<gst_video::VideoMeta>(None);
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
        let info = gst_video::VideoInfo::builder(F::Nv12, 320, 240)
            .build()
            .unwrap();
        rig.set_info(&info);
        let mut query = gst::query::Allocation::new(Some(&info.to_caps().unwrap()), true);
        let pad = rig.harness().srcpad().unwrap();
        assert!(pad.peer_query(query.query_mut()) || !understood);
        let offered = query
            .find_allocation_meta::<gst_video::VideoMeta>()
            .is_some();
        assert_eq!(offered, understood);
    }
}
