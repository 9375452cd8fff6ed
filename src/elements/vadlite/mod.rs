//! The element `vadlite`: scores every frame, draws the heatmap, attaches the result.

/**
 * SECTION:element-vadlite
 * @see_also: vadlitetrigger, vadliterecord
 *
 * Scores every frame against a model of good parts, in place and in the frame's own format. A frame whose score is above the threshold
 * is flagged, and what looks wrong is drawn on it (#GstVadLite:overlay). Every frame, whatever has become of it, carries a custom meta
 * `GstVadLiteMeta` with score, threshold, regions and anomaly map; an element message `vadlite` with the same fields is posted for
 * flagged frames (#GstVadLite:post-messages). A frame that cannot be inspected is marked so, counted and passed on; the first one for a
 * reason of each kind is warned of. Frames that are missing before one are told with it.
 *
 * ## Model and threshold
 *
 * A model is fitted by the program `vadlite fit`, or in the pipeline with #GstVadLite:mode `learn`. It names its backbone, an ONNX file,
 * which is looked up beside the model, beside the plugin and in the installed data folder. The threshold is the model's own, from its
 * good images alone; #GstVadLite:false-reject-rate chooses another one from the same calibration, as far as the number of good images
 * supports it, and #GstVadLite:threshold, which goes first, sets the raw score. All three may change while playing: a new
 * #GstVadLite:model is opened beside the running one and takes over between two frames, with an element message `vadlite-model`; one that
 * cannot be used is refused with a warning, and the old one stays. With #GstVadLite:reload `auto` that happens when the file changes, too.
 * Values that cannot mean anything are refused when they are set: while playing with a warning, else when the element starts. A property
 * whose value was refused keeps, or goes back to, the one in force.
 *
 * ## Learning
 *
 * With #GstVadLite:mode `learn` frames pass uninspected, with a bar for the progress drawn on them, until #GstVadLite:learn-frames of them
 * make a model; an element message `vadlite-learn` says how far it is. Frames that show what another one did already do not count (at
 * most one in a thousand of 112x112 samples differs by more than 2 % of full scale: an empty or standing belt), nor those of a camera that
 * come faster than they are taken in. A source that is not live (its answer to a latency query says so) waits for the learner and then for
 * the model, so that every frame after those is inspected; the end of any stream waits for a model that has its frames. When a model takes
 * over, #GstVadLite:mode becomes `detect`: started again, the element does not learn anew. Of the frames taken, those unlike
 * the others are left out in the end: with a held-out score beyond Tukey's outer fence and three times that of nine tenths of them.
 *
 * ## Parts to locate
 *
 * With #GstVadLite:locate `auto` the first 120 frames (or #GstVadLite:learn-frames, if fewer) decide whether they show parts to locate: nine
 * in ten show something whole on a plain background, of one size, alike, and at places or angles that differ. With `part` they do, and
 * frames between parts do not count; where there are none, the fit fails. Of parts each is learnt from once, by the view nearest to the
 * middle of the frame, and #GstVadLite:learn-frames counts parts. The field `located` of `vadlite-learn` says what was decided and why. With
 * #GstVadLite:tiles or #GstVadLite:mask whole pictures are judged. `docs/locating.md` has the rules.
 *
 * ## Drift
 *
 * An element message `vadlite-drift` says when scores have become higher or lower than those of the good parts that the threshold was set
 * on (a dirty lens, another lamp), by a quarter of the way from their median to the threshold, or when more than a fifth of the frames are
 * flagged; fewer count as defects. It takes #GstVadLite:drift-limit scores until a false one on average at least, where the scores are of
 * frames so far apart (#GstVadLite:drift-interval) that they show different parts.
 *
 * ## Example launch lines
 *
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=50 ! vadlite model=part.vadlite ! fakesink
 * ]| Inspects with a fitted model.
 *
 * |[
 * gst-launch-1.0 -m videotestsrc num-buffers=50 ! video/x-raw,format=NV12 ! vadlite model=part.vadlite post-messages=all ! fakesink
 * ]| Prints the result of every frame.
 *
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=50 ! vadlite model=part.vadlite overlay=contour overlay-always=true ! videoconvert ! fakesink
 * ]| Outlines on every frame where the anomaly map crosses the threshold.
 *
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=50 ! vadlite model=part.vadlite false-reject-rate=0.2 interval=5 roi=0.25,0.25,0.5,0.5 ! fakesink
 * ]| Inspects the middle of every fifth frame with a threshold that flags up to a fifth of good parts.
 *
 * |[
 * gst-launch-1.0 videotestsrc num-buffers=200 ! video/x-raw,width=224,height=224 ! vadlite mode=learn learn-frames=20 model=learnt.vadlite ! fakesink
 * ]| Learns from a source that is not live, and goes on with the model.
 *
 * What happens to each frame is in the log: `GST_DEBUG=vadlite:6`.
 */
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
mod part_watch;
mod properties;
mod remedy;
mod session;
mod settings;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod wakeup;

pub use crate::detector::Device;
pub use crate::detector::method::MethodChoice;
pub use crate::locate::Demand;
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
        MethodChoice::static_type(),
        Demand::static_type(),
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
