//! The element `vadliterecord`: a sink that records the seconds before and after flagged frames.

use gst::prelude::*;

mod cutter;
mod encoder;
mod imp;
mod picture;
mod recorder;
mod retention;
mod settings;
mod writer;

glib::wrapper! {
    /// A `GstBin` that is a sink for raw video.
    pub struct VadLiteRecord(ObjectSubclass<imp::VadLiteRecord>) @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "vadliterecord",
        gst::Rank::NONE,
        VadLiteRecord::static_type(),
    )
}
