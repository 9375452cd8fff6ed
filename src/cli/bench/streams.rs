//! Several cameras in one process: how many frames pass in all, what memory they take, and what they cost while nothing moves.

use crate::detector::Options;
use anyhow::{Context as _, bail};
use gst::prelude::*;
use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long the pipelines stand still.
const IDLE: Duration = Duration::from_secs(5);

#[derive(Debug, serde::Serialize)]
pub struct StreamFigures {
    pub streams: usize,
    /// Of all streams together.
    pub frames_per_s: f64,
    /// Resident set of the process after the last frame, in MB (10^6 bytes).
    pub resident_mb: f64,
    /// Of one core, while the pipelines are paused.
    pub idle_percent: f64,
}

/// `streams` pipelines of 640x480 NV12, each of so many frames, as fast as they go.
pub fn run(
    model: &Path,
    options: Options<'_>,
    streams: usize,
    frames: u32,
) -> anyhow::Result<StreamFigures> {
    super::element::start_gstreamer()?;
    let pipelines = (0..streams)
        .map(|_| pipeline(model, options, frames))
        .collect::<anyhow::Result<Vec<_>>>()?;
    for pipeline in &pipelines {
        pipeline.set_state(gst::State::Paused)?;
    }
    for pipeline in &pipelines {
        pipeline.state(gst::ClockTime::NONE).0?;
    }
    let start = Instant::now();
    for pipeline in &pipelines {
        pipeline.set_state(gst::State::Playing)?;
    }
    for pipeline in &pipelines {
        let bus = pipeline.bus().context("a pipeline has a bus")?;
        let end = bus.timed_pop_filtered(
            gst::ClockTime::NONE,
            &[gst::MessageType::Eos, gst::MessageType::Error],
        );
        if let Some(gst::MessageView::Error(error)) = end.as_ref().map(|message| message.view()) {
            bail!("{}", error.error());
        }
    }
    let frames_per_s = streams as f64 * f64::from(frames) / start.elapsed().as_secs_f64();
    let resident_mb = resident_bytes()? as f64 * 1e-6;
    for pipeline in &pipelines {
        pipeline.set_state(gst::State::Paused)?;
    }
    let before = processor_time()?;
    std::thread::sleep(IDLE);
    let idle_percent = (processor_time()? - before).as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    for pipeline in &pipelines {
        pipeline.set_state(gst::State::Null)?;
    }
    Ok(StreamFigures {
        streams,
        frames_per_s,
        resident_mb,
        idle_percent,
    })
}

fn pipeline(model: &Path, options: Options<'_>, frames: u32) -> anyhow::Result<gst::Pipeline> {
    let caps = gst_video::VideoCapsBuilder::new()
        .format(gst_video::VideoFormat::Nv12)
        .width(640)
        .height(480)
        .build();
    let elements = [
        gst::ElementFactory::make("videotestsrc")
            .property("num-buffers", frames as i32)
            .build()?,
        gst::ElementFactory::make("capsfilter")
            .property("caps", caps)
            .build()?,
        super::element::vadlite(model, options)?,
        gst::ElementFactory::make("fakesink").build()?,
    ];
    let pipeline = gst::Pipeline::new();
    pipeline.add_many(&elements)?;
    gst::Element::link_many(&elements)?;
    Ok(pipeline)
}

fn resident_bytes() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes =
        line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(kilobytes.context("/proc/self/status has no VmRSS")? * 1024)
}

/// Time that all threads of this process have spent on a processor.
fn processor_time() -> anyhow::Result<Duration> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Ok(time.try_into()?)
}
