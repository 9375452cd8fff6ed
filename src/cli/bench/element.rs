//! The whole element in a real pipeline: the time from a frame's arrival at its sink pad to its departure from its source pad.

use super::{quantile, scene};
use crate::detector::Options;
use anyhow::{Context as _, bail};
use gst::prelude::*;
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Milliseconds: median and 99th percentile.
#[derive(Debug, serde::Serialize)]
pub struct ElementTimes {
    pub element_ms: f64,
    pub element_p99_ms: f64,
    pub element_heatmap_ms: f64,
    pub element_heatmap_p99_ms: f64,
}

/// Without overlay on a good part, then with a heatmap on a defective one.
pub fn run(model: &Path, options: Options<'_>, frames: u32) -> anyhow::Result<ElementTimes> {
    start_gstreamer()?;
    let mut plain = measure(model, options, frames, "none", false)?;
    let mut heatmap = measure(model, options, frames, "heatmap", true)?;
    Ok(ElementTimes {
        element_ms: quantile(&mut plain, 0.5),
        element_p99_ms: quantile(&mut plain, 0.99),
        element_heatmap_ms: quantile(&mut heatmap, 0.5),
        element_heatmap_p99_ms: quantile(&mut heatmap, 0.99),
    })
}

/// Starts GStreamer and makes the element of this program known.
pub fn start_gstreamer() -> anyhow::Result<()> {
    gst::init().context("GStreamer cannot be started")?;
    // GStreamer may have loaded an installed plugin into this process when it looked for plugins; a type cannot be registered twice.
    if glib::Type::from_name("GstVadLite").is_none() {
        crate::plugin_register_static().context("the plugin cannot be registered")?;
    }
    Ok(())
}

/// The element, with the model and what the command line says of its runtime.
pub fn vadlite(model: &Path, options: Options<'_>) -> anyhow::Result<gst::Element> {
    let element = gst::ElementFactory::make("vadlite")
        .property("model", model)
        .property("threads", options.runtime.threads as u32)
        .build()?;
    element.set_property_from_str("device", options.runtime.device.name());
    if let Some(backbone) = options.backbone {
        element.set_property("backbone", backbone);
    }
    if let Some(library) = options.runtime.library {
        element.set_property("onnxruntime", library);
    }
    Ok(element)
}

fn measure(
    model: &Path,
    options: Options<'_>,
    frames: u32,
    overlay: &str,
    defective: bool,
) -> anyhow::Result<Vec<Duration>> {
    let warm_up = frames.div_ceil(10);
    let source = gst::ElementFactory::make("videotestsrc")
        .property("num-buffers", (frames + warm_up) as i32)
        .build()?;
    let caps = gst::ElementFactory::make("capsfilter")
        .property("caps", scene::info()?.to_caps()?)
        .build()?;
    let element = vadlite(model, options)?;
    element.set_property_from_str("overlay", overlay);
    let sink = gst::ElementFactory::make("fakesink").build()?;
    let pipeline = gst::Pipeline::new();
    pipeline.add_many([&source, &caps, &element, &sink])?;
    gst::Element::link_many([&source, &caps, &element, &sink])?;

    // What the test source drew is replaced by the picture to inspect.
    let frame = scene::nv12(scene::DEFECTIVE, defective);
    let pad = |element: &gst::Element, name: &str| {
        element
            .static_pad(name)
            .with_context(|| format!("{} has a pad {name}", element.name()))
    };
    pad(&caps, "src")?.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(map) = info.buffer_mut().and_then(|buffer| {
            let buffer = buffer.make_mut();
            buffer.map_writable().ok()
        }) {
            let mut map = map;
            let size = map.len().min(frame.len());
            map[..size].copy_from_slice(&frame[..size]);
        }
        gst::PadProbeReturn::Ok
    });
    let times = Arc::new(Mutex::new(Times::default()));
    let at_sink = times.clone();
    pad(&element, "sink")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        at_sink.lock().arrived = Some(Instant::now());
        gst::PadProbeReturn::Ok
    });
    let at_source = times.clone();
    pad(&element, "src")?.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let mut times = at_source.lock();
        if let Some(arrived) = times.arrived.take() {
            times.taken.push(arrived.elapsed());
        }
        gst::PadProbeReturn::Ok
    });

    pipeline.set_state(gst::State::Playing)?;
    let bus = pipeline.bus().context("a pipeline has a bus")?;
    let end = bus.timed_pop_filtered(
        gst::ClockTime::NONE,
        &[gst::MessageType::Eos, gst::MessageType::Error],
    );
    pipeline.set_state(gst::State::Null)?;
    if let Some(gst::MessageView::Error(error)) = end.as_ref().map(|message| message.view()) {
        bail!("{}", error.error());
    }
    let taken = std::mem::take(&mut times.lock().taken);
    Ok(taken.into_iter().skip(warm_up as usize).collect())
}

#[derive(Default)]
struct Times {
    arrived: Option<Instant>,
    taken: Vec<Duration>,
}
