//! The element `vadlite`: scores every frame, draws the heatmap, attaches the result.

use gst::prelude::*;
use std::sync::LazyLock;

mod drift_watch;
mod duplicate_filter;
mod error;
mod export;
mod imp;
mod inspection;
mod learner;
mod loader;
mod properties;
mod session;
mod settings;
mod stats;
mod stream;
mod wakeup;

pub use crate::detector::Device;
pub use crate::detector::method::Method;
pub use settings::{Mode, Overlay, PostMessages, Reload};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vadlite",
        gst::DebugColorFlags::empty(),
        Some("Visual anomaly detection"),
    )
});

glib::wrapper! {
    /// A `GstBaseTransform` that inspects frames in place.
    pub struct VadLite(ObjectSubclass<imp::VadLite>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    for enumeration in [
        Overlay::static_type(),
        Mode::static_type(),
        Method::static_type(),
        Reload::static_type(),
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
