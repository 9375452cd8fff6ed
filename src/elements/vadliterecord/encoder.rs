//! The elements that encode all the time: `queue ! videoconvert ! ENCODER ! parser ! appsink`.

use gst::prelude::*;

/// Encoders by preference: in hardware, then the faster ones.
const ENCODERS: [&str; 5] = [
    "nvv4l2h264enc",
    "v4l2h264enc",
    "x264enc",
    "openh264enc",
    "jpegenc",
];
/// Name of the queue before the encoder.
pub const QUEUE: &str = "vadliterecord-queue";

/// The elements, in their order, not yet linked.
pub struct Encoder {
    pub elements: Vec<gst::Element>,
    pub queue: gst::Element,
    pub sink: gst_app::AppSink,
}

impl Encoder {
    /// With the encoder of this name, or the first found where the name is empty.
    ///
    /// # Errors
    /// An element that GStreamer does not have.
    pub fn new(name: &str) -> Result<Self, String> {
        let make = |name: &str| {
            let element = gst::ElementFactory::make(name).build();
            element.map_err(|_| format!("GStreamer has no element {name}"))
        };
        let name = match name {
            "" => ENCODERS
                .iter()
                .find(|name| gst::ElementFactory::find(name).is_some())
                .copied()
                .ok_or_else(|| {
                    format!(
                        "GStreamer has none of the encoders {}; install its good plugins",
                        ENCODERS.join(", ")
                    )
                })?,
            name => name,
        };
        let queue = make("queue")?;
        queue.set_property("name", QUEUE);
        queue.set_property("max-size-buffers", 30u32);
        queue.set_property("max-size-bytes", 0u32);
        queue.set_property("max-size-time", 0u64);
        let encoder = make(name).map_err(|error| {
            format!("the property encoder: {error}; leave it out, or install it")
        })?;
        tune(&encoder);
        let sink = gst_app::AppSink::builder().sync(false).build();
        sink.set_property("async", false);
        let h264 = encoder.static_pad("src").is_some_and(|pad| {
            let caps = pad.pad_template_caps();
            caps.iter()
                .any(|structure| structure.name() == "video/x-h264")
        });
        let mut elements = vec![queue.clone(), make("videoconvert")?, encoder];
        if h264 {
            elements.push(make("h264parse").map_err(|error| {
                format!(
                    "{error}, which Matroska needs; install its bad plugins, or set encoder=jpegenc"
                )
            })?);
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
