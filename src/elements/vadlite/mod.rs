//! The element `vadlite`: scores every frame, draws the heatmap, attaches the result.

use gst::prelude::*;

mod imp;
mod inspector;
mod settings;
mod stats;

pub use settings::{Device, Mode, Overlay, PostMessages};

glib::wrapper! {
    /// A `GstBaseTransform` that inspects frames in place.
    pub struct VadLite(ObjectSubclass<imp::VadLite>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    for enumeration in [
        Overlay::static_type(),
        Mode::static_type(),
        Device::static_type(),
        PostMessages::static_type(),
    ] {
        enumeration.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "vadlite",
        gst::Rank::NONE,
        VadLite::static_type(),
    )
}
