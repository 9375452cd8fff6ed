//! Whether an encoder works here: a factory is no proof of the hardware behind it.

use super::chain::{Chain, Unusable, make};
use gst::prelude::*;
use gst_video::{VideoFormat, VideoInfo};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Longest wait for one frame of a few pixels, or of the size that comes.
const LIMIT: gst::ClockTime = gst::ClockTime::from_seconds(5);

/// Encodes a black frame of this format, or a small one, into a Matroska stream.
///
/// # Errors
/// What does not work.
pub fn try_out(name: &str, caps: Option<&gst::Caps>) -> Result<(), Unusable> {
    let info = match caps.map(|caps| VideoInfo::from_caps(caps)) {
        Some(Ok(info)) => info,
        _ => VideoInfo::builder(VideoFormat::I420, 320, 240)
            .fps(gst::Fraction::new(30, 1))
            .build()
            .map_err(|error| Unusable::Link {
                name: name.to_owned(),
                error,
            })?,
    };
    let pipeline = scopeguard::guard(gst::Pipeline::new(), |pipeline| {
        let _ = pipeline.set_state(gst::State::Null);
    });
    let source = gst_app::AppSrc::builder()
        .format(gst::Format::Time)
        .caps(&info.to_caps().map_err(|error| Unusable::Link {
            name: name.to_owned(),
            error,
        })?)
        .build();
    let chain = Chain::new(name)?;
    let (convert, muxer, sink) = (
        make("videoconvert")?,
        make("matroskamux")?,
        make("fakesink")?,
    );
    sink.set_property("async", false);
    let mut elements = vec![source.upcast_ref(), &convert];
    elements.extend(&chain.elements);
    elements.extend([&muxer, &sink]);
    let link = || {
        pipeline.add_many(&elements)?;
        gst::Element::link_many(&elements)?;
        let last = chain
            .elements
            .last()
            .and_then(|last| last.static_pad("src"));
        last.ok_or_else(|| glib::bool_error!("It has no source pad"))
    };
    let last = link().map_err(|error| Unusable::Link {
        name: name.to_owned(),
        error,
    })?;
    let came = Arc::new(AtomicBool::new(false));
    let comes = came.clone();
    last.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        comes.store(true, Ordering::Release);
        gst::PadProbeReturn::Ok
    });
    let started = pipeline.set_state(gst::State::Playing).is_ok();
    if started {
        let mut frame = gst::Buffer::from_mut_slice(vec![0; info.size()]);
        if let Some(frame) = frame.get_mut() {
            frame.set_pts(gst::ClockTime::ZERO);
        }
        let _ = source.push_buffer(frame);
        let _ = source.end_of_stream();
    }
    let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
    let message = pipeline.bus().and_then(|bus| match started {
        true => bus.timed_pop_filtered(LIMIT, &wanted),
        false => bus.pop_filtered(&wanted),
    });
    match message.as_ref().map(|message| message.view()) {
        Some(gst::MessageView::Error(error)) => Err(Unusable::Failed {
            name: name.to_owned(),
            error: error.error(),
            debug: error.debug(),
        }),
        _ if !started => Err(Unusable::Start(name.to_owned())),
        Some(_) if came.load(Ordering::Acquire) => Ok(()),
        _ => Err(Unusable::Silent(name.to_owned())),
    }
}
