//! A belt for a minute, from the first good part to the gate: learns, inspects, rejects and records, and tells how it went.
//!
//!     cargo run --release --example belt [METHOD]
//!
//! Parts pass under a camera at 30 frames a second, one a second, each a little different and at a height of its own. In the first half all
//! are good; from then on every fifth is scratched; after 50 seconds the lamp grows dim. The truth is known for every part.

use gst::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const WIDTH: usize = 320;
const HEIGHT: usize = 240;
const RATE: u64 = 30;
const SECONDS: u64 = 60;
/// Frames from one part to the next.
const PITCH: u64 = 30;
/// Frames that a part is in the picture, wholly or in part.
const SEEN: u64 = 26;
/// When defects begin, and when the lamp grows dim.
const DEFECTS_FROM: u64 = 30 * RATE;
const DIM_FROM: u64 = 50 * RATE;

fn defective(part: u64) -> bool {
    part * PITCH >= DEFECTS_FROM && part % 5 == 2
}

/// The picture of a frame, in 8-bit grey.
fn picture(frame: u64) -> Vec<u8> {
    let part = frame / PITCH;
    let mut random = fastrand::Rng::with_seed(part + 1);
    let (lift, shade, turn) = (
        8.0 * random.f64() - 4.0,
        8.0 * random.f64() - 4.0,
        random.f64(),
    );
    let (scratch_x, scratch_y) = (24.0 * random.f64() - 12.0, 24.0 * random.f64() - 12.0);
    let x0 = -40.0 + (frame % PITCH) as f64 * (WIDTH as f64 + 80.0) / SEEN as f64;
    let y0 = HEIGHT as f64 / 2.0 + lift;
    let mut noise = fastrand::Rng::with_seed(1_000_000 + frame);
    let lamp = if frame >= DIM_FROM { 0.6 } else { 1.0 };
    let mut pixels = Vec::with_capacity(WIDTH * HEIGHT);
    for y in 0..HEIGHT {
        for x in 0..WIDTH {
            let (dx, dy) = (x as f64 - x0, y as f64 - y0);
            let radius = dx.hypot(dy);
            let belt = 60.0 + 6.0 * (x as f64 / 9.0).sin() * (y as f64 / 7.0).sin();
            let teeth = 10.0 * (dy.atan2(dx) * 8.0 + turn).cos();
            let face = 170.0 + shade + 12.0 * (radius / 4.0).sin() + teeth;
            let inside = 1.0 / (1.0 + ((radius - 40.0) / 1.0).exp());
            let mut value = belt * (1.0 - inside) + face * inside;
            let scratch = ((dx - scratch_x) + (dy - scratch_y)).abs() < 3.0
                && (dx - scratch_x).hypot(dy - scratch_y) < 16.0;
            if defective(part) && scratch {
                value -= 90.0 * inside;
            }
            pixels.push((lamp * value + 4.0 * noise.f64()).clamp(0.0, 255.0) as u8);
        }
    }
    pixels
}

fn main() -> anyhow::Result<()> {
    let method = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "patchcore-lite".into());
    gst::init()?;
    gstvadlite::plugin_register_static()?;
    let folder = tempfile::tempdir()?;
    let incidents = folder.path().join("incidents");
    let text = format!(
        "appsrc name=source is-live=true format=time caps=video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate={RATE}/1
         ! vadlite name=vadlite mode=learn method={method} learn-frames=450 false-reject-rate=0.003 model={} overlay=none drift-interval=400000000 drift-limit=1000 threads=1
         ! tee name=t ! queue ! vadliterecord name=record location={} pre-roll=1000000000 post-roll=300000000
         t. ! queue ! vadlitetrigger name=trigger delay=1200000000 merge-window=950000000 decision=majority ! fakesink sync=false",
        folder.path().join("part.vadlite").display(),
        incidents.display()
    );
    let pipeline = gst::parse::launch(&text)?;
    let pipeline: gst::Pipeline = pipeline
        .downcast()
        .expect("a description with several elements is a pipeline");
    let source = pipeline
        .by_name("source")
        .expect("it is in the description");
    let source: gst_app::AppSrc = source.downcast().expect("it is an appsrc");
    eprintln!("drawing {} frames", SECONDS * RATE);
    let frames: Arc<Vec<Vec<u8>>> = Arc::new((0..SECONDS * RATE).map(picture).collect());
    pipeline.set_state(gst::State::Playing)?;
    let camera = std::thread::spawn({
        let (frames, pipeline) = (frames.clone(), pipeline.clone());
        move || {
            while pipeline
                .current_running_time()
                .is_none_or(|time| time < gst::ClockTime::from_mseconds(200))
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            let start = pipeline.current_running_time().unwrap_or_default();
            for (number, pixels) in frames.iter().enumerate() {
                let time =
                    start + gst::ClockTime::from_nseconds(number as u64 * 1_000_000_000 / RATE);
                let now = pipeline.current_running_time().unwrap_or_default();
                std::thread::sleep(time.saturating_sub(now).into());
                let mut buffer = gst::Buffer::from_slice(pixels.clone());
                if let Some(buffer) = buffer.get_mut() {
                    buffer.set_pts(time);
                    buffer.set_duration(gst::ClockTime::from_nseconds(1_000_000_000 / RATE));
                }
                if source.push_buffer(buffer).is_err() {
                    return;
                }
            }
            let _ = source.end_of_stream();
        }
    });
    let (mut learnt, mut drift) = (None, None);
    let mut pulses: BTreeMap<u64, u32> = BTreeMap::new();
    let bus = pipeline.bus().expect("a pipeline has a bus");
    for message in bus.iter_timed(gst::ClockTime::NONE) {
        match message.view() {
            gst::MessageView::Eos(_) => break,
            gst::MessageView::Error(error) => anyhow::bail!("{}", error.error()),
            gst::MessageView::Element(element) => {
                let Some(structure) = element.structure() else {
                    continue;
                };
                match structure.name().as_str() {
                    "vadlite-learn" if structure.get("phase") == Ok("done") => {
                        let stats: gst::Structure = pipeline
                            .by_name("vadlite")
                            .expect("it is there")
                            .property("stats");
                        learnt = stats.get::<u64>("frames").ok();
                        eprintln!("learnt by frame {learnt:?}: {structure}");
                    }
                    "vadlite-drift" => {
                        drift = drift.or(structure.get::<u64>("frame").ok());
                        eprintln!("{structure}");
                    }
                    "vadlitetrigger" => {
                        *pulses
                            .entry(structure.get::<u64>("frame")? / PITCH)
                            .or_default() += 1;
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null)?;
    let _ = camera.join();

    // Parts that came wholly after the model was there and before the lamp grew dim.
    let from = learnt.ok_or_else(|| anyhow::anyhow!("no model was learnt"))? / PITCH + 2;
    let judged: Vec<u64> = (from..DIM_FROM / PITCH).collect();
    let of = |kind: bool| judged.iter().filter(move |part| defective(**part) == kind);
    let rejected = |kind: bool| of(kind).filter(|part| pulses.contains_key(part)).count();
    println!(
        "defective parts rejected  {} of {}",
        rejected(true),
        of(true).count()
    );
    println!(
        "good parts rejected       {} of {}",
        rejected(false),
        of(false).count()
    );
    let twice = pulses
        .iter()
        .filter(|(part, count)| judged.contains(part) && **count > 1)
        .count();
    println!("parts with two pulses     {twice}");
    // Which parts are in a recording whose beginning lies before they enter.
    let mut recorded: BTreeSet<u64> = BTreeSet::new();
    let mut files = 0;
    let mut single = 0;
    for entry in std::fs::read_dir(&incidents)? {
        let path = entry?.path();
        if path.extension().is_some_and(|kind| kind == "json") {
            files += 1;
            let report: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path)?)?;
            let start = report["start"].as_u64().unwrap_or(u64::MAX);
            for flagged in report["flagged"].as_array().into_iter().flatten() {
                let (frame, time) = (
                    flagged["frame"].as_u64().unwrap_or(0),
                    flagged["time"].as_u64().unwrap_or(0),
                );
                if judged.contains(&(frame / PITCH)) && !defective(frame / PITCH) {
                    single += 1;
                }
                // When the part's first frame was taken.
                let enters = time.saturating_sub(frame % PITCH * 1_000_000_000 / RATE);
                if start <= enters {
                    recorded.insert(frame / PITCH);
                }
            }
        }
    }
    let kept = of(true)
        .filter(|part| pulses.contains_key(part) && recorded.contains(part))
        .count();
    println!(
        "rejected and recorded from before they enter  {kept} of {} (in {files} files)",
        rejected(true)
    );
    println!(
        "frames of good parts flagged, and outvoted    {single} of {}",
        of(false).count() as u64 * PITCH
    );
    println!("drift reported at frame   {drift:?}; the lamp grows dim at {DIM_FROM}");
    Ok(())
}
