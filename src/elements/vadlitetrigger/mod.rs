//! The element `vadlitetrigger`: fires the reject gate when a flagged part is there.

use gst::prelude::*;
use std::sync::LazyLock;

mod gate;
mod imp;
mod observation;
mod output;
mod parts;
mod pulse;
mod schedule;
mod settings;
mod stats;

pub use parts::Decision;
pub use settings::FailSafe;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vadlitetrigger",
        gst::DebugColorFlags::empty(),
        Some("Reject gate trigger"),
    )
});

glib::wrapper! {
    /// A `GstBaseTransform` that passes frames on untouched.
    pub struct VadLiteTrigger(ObjectSubclass<imp::VadLiteTrigger>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    for enumeration in [Decision::static_type(), FailSafe::static_type()] {
        enumeration.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "vadlitetrigger",
        gst::Rank::NONE,
        VadLiteTrigger::static_type(),
    )
}
