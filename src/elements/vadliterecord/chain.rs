//! An encoder with the elements that it needs around it, and how it is set.

use gst::prelude::*;

/// Memory that only NVIDIA's elements read, and the element that copies frames into it.
const NVMM: &str = "memory:NVMM";
const NVIDIA_CONVERTER: &str = "nvvidconv";
/// Formats that Matroska takes in one form only: name, parser and form.
const PARSED: [(&str, &str, &str); 2] = [
    ("video/x-h264", "h264parse", "avc"),
    ("video/x-h265", "h265parse", "hvc1"),
];
/// Why an encoder is not used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    #[error("GStreamer has no element {0}")]
    Missing(String),
    #[error("{name} cannot be connected: {error}")]
    Link {
        name: String,
        error: glib::BoolError,
    },
    /// The debug text says what the system said.
    #[error("{name}: {error}{}", debug.as_ref().map(|text| format!(" ({text})")).unwrap_or_default())]
    Failed {
        name: String,
        error: glib::Error,
        debug: Option<glib::GString>,
    },
    #[error("{0} does not start")]
    Start(String),
    #[error("{0} gives no frame")]
    Silent(String),
}

/// An encoder with what it needs before and behind it, in their order, not yet linked.
pub struct Chain {
    pub elements: Vec<gst::Element>,
    /// What is to come out of it.
    pub caps: Option<gst::Caps>,
}

impl Chain {
    /// # Errors
    /// [`Unusable::Missing`].
    pub fn new(name: &str) -> Result<Self, Unusable> {
        let encoder = make(name)?;
        tune(&encoder);
        let mut chain = Self {
            elements: Vec::new(),
            caps: None,
        };
        if let Some(converter) = converter(&encoder) {
            chain.elements.push(make(converter)?);
        }
        let gives = |media| {
            let pad = encoder.static_pad("src");
            pad.is_some_and(|pad| pad.pad_template_caps().iter().any(|is| is.name() == media))
        };
        let parsed = PARSED.into_iter().find(|(media, ..)| gives(*media));
        chain.elements.push(encoder);
        if let Some((media, parser, form)) = parsed {
            chain.elements.push(make(parser)?);
            let caps = gst::Caps::builder(media)
                .field("stream-format", form)
                .field("alignment", "au");
            chain.caps = Some(caps.build());
        }
        Ok(chain)
    }
}

/// What copies frames to where an encoder takes them, where it takes them nowhere else.
fn converter(encoder: &gst::Element) -> Option<&'static str> {
    takes_only(encoder, NVMM).then_some(NVIDIA_CONVERTER)
}

/// Whether an element takes frames in this memory and in no other.
fn takes_only(element: &gst::Element, memory: &str) -> bool {
    let Some(pad) = element.static_pad("sink") else {
        return false;
    };
    let caps = pad.pad_template_caps();
    !caps.is_any()
        && !caps.is_empty()
        && caps
            .iter_with_features()
            .all(|(_, features)| features.contains(memory))
}

pub fn make(name: &str) -> Result<gst::Element, Unusable> {
    let made = gst::ElementFactory::make(name).build();
    made.map_err(|_| Unusable::Missing(name.to_owned()))
}

/// Frames come out in their order and soon: for a recording of incidents speed counts more than size.
fn tune(encoder: &gst::Element) {
    let name = encoder.factory().map(|factory| factory.name().to_string());
    let properties: &[(&str, &str)] = match name.as_deref() {
        Some("nvv4l2h264enc") => &[("insert-sps-pps", "true")],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_that_takes_nvidias_memory_only_gets_its_converter() {
        gst::init().unwrap();
        let encoder = |caps: &str| {
            let caps: gst::Caps = caps.parse().unwrap();
            let (sink, always) = (gst::PadDirection::Sink, gst::PadPresence::Always);
            let template = gst::PadTemplate::new("sink", sink, always, &caps).unwrap();
            let bin = gst::Bin::new();
            bin.add_pad(&gst::Pad::from_template(&template)).unwrap();
            bin.upcast::<gst::Element>()
        };
        for (caps, expected) in [
            ("video/x-raw(memory:NVMM)", Some("nvvidconv")),
            (
                "video/x-raw(memory:NVMM),format=NV12; video/x-raw(memory:NVMM),format=I420",
                Some("nvvidconv"),
            ),
            ("video/x-raw; video/x-raw(memory:NVMM)", None),
            ("video/x-raw", None),
            ("ANY", None),
            ("EMPTY", None),
        ] {
            assert_eq!(converter(&encoder(caps)), expected, "{caps}");
        }
    }
}
