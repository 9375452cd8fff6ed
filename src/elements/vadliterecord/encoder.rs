//! The elements that encode all the time: `queue ! videoconvert ! ENCODER ! parser ! appsink`.
//!
//! `encodebin2` would choose by rank among the encoders of one format, take the first that can be made whether or not it can be used, and
//! put queues that do not leak and a `videorate` around it; what is wanted here is an order over H.264 and JPEG, and no frame more or less.

use super::CAT;
use super::error::StartError;
use gst::prelude::*;

/// Encoders by preference: in hardware, then the faster ones.
const ENCODERS: [&str; 5] = [
    "nvv4l2h264enc",
    "v4l2h264enc",
    "x264enc",
    "openh264enc",
    "jpegenc",
];
/// Frames that may wait for the encoder; with a live source the oldest of more go.
const QUEUED: u32 = 30;

/// The elements, in their order, not yet linked.
pub struct Encoder {
    pub elements: Vec<gst::Element>,
    pub queue: gst::Element,
    pub sink: gst_app::AppSink,
}

impl Encoder {
    /// With the encoder of this name, or the first found where the name is empty. `owner` is whom the log names.
    ///
    /// # Errors
    /// An element that GStreamer does not have.
    pub fn new(name: &str, owner: &gst::Element) -> Result<Self, StartError> {
        let encoder = choose(name, owner)?;
        tune(&encoder);
        let queue = make("queue").map_err(StartError::Element)?;
        queue.set_property("max-size-buffers", QUEUED);
        queue.set_property("max-size-bytes", 0u32);
        queue.set_property("max-size-time", 0u64);
        let convert = make("videoconvert").map_err(StartError::Element)?;
        let sink = gst_app::AppSink::builder().sync(false).build();
        sink.set_property("async", false);
        let h264 = encoder.static_pad("src").is_some_and(|pad| {
            let caps = pad.pad_template_caps();
            caps.iter()
                .any(|structure| structure.name() == "video/x-h264")
        });
        let mut elements = vec![queue.clone(), convert, encoder];
        if h264 {
            elements.push(make("h264parse").map_err(StartError::Parser)?);
            let caps = gst::Caps::builder("video/x-h264")
                .field("stream-format", "avc")
                .field("alignment", "au");
            sink.set_caps(Some(&caps.build()));
        }
        elements.push(sink.clone().upcast());
        Ok(Self {
            elements,
            queue,
            sink,
        })
    }
}

fn make(name: &str) -> Result<gst::Element, &str> {
    gst::ElementFactory::make(name).build().map_err(|_| name)
}

fn choose(name: &str, owner: &gst::Element) -> Result<gst::Element, StartError> {
    if !name.is_empty() {
        gst::debug!(CAT, obj = owner, "encoder {name}, as the property says");
        return make(name).map_err(|name| StartError::Encoder(name.into()));
    }
    for name in ENCODERS {
        match make(name) {
            Ok(encoder) => {
                gst::debug!(CAT, obj = owner, "encoder {name}, the first that is there");
                return Ok(encoder);
            }
            Err(name) => gst::debug!(CAT, obj = owner, "no encoder {name}"),
        }
    }
    Err(StartError::NoEncoder(ENCODERS.join(", ")))
}

/// Frames come out in their order and soon: for a recording of incidents speed counts more than size.
fn tune(encoder: &gst::Element) {
    let name = encoder.factory().map(|factory| factory.name().to_string());
    let properties: &[(&str, &str)] = match name.as_deref() {
        Some("x264enc") => &[
            ("tune", "zerolatency"),
            ("speed-preset", "ultrafast"),
            ("bframes", "0"),
            ("pass", "quant"),
            ("quantizer", "23"),
        ],
        Some("openh264enc") => &[("complexity", "low")],
        _ => &[],
    };
    for (name, value) in properties {
        if encoder.find_property(name).is_some() {
            encoder.set_property_from_str(name, value);
        }
    }
}
