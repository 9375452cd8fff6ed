//! vadlite: visual anomaly detection on the device, as the GStreamer element `vadlite` and the program of the same name.
//!
//! A frame goes one way: [`video::preprocess`] makes a tensor of it, [`detector`] a score, a map and regions of that, and
//! [`video::overlay`] and [`video::meta`] bring these back onto the frame. `elements` joins them to GStreamer, `cli` to files.
//! The detector knows no GStreamer type; fitting and inspecting share every step. `ARCHITECTURE.md` has the map.
//!
//! What a Rust program may use: [`detector::Detector`], [`detector::Fitter`], [`video::preprocess::Preprocess`],
//! [`video::overlay::Overlay`], [`video::meta::FrameResult`], and what these take and give; and the plugin itself, by
//! [`plugin_register_static`]. The rest is hidden, and may change with every version.

// No part of the library: public for the program, and for the project's own examples and tests.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
pub mod detector;
mod elements;
mod fs;
pub mod geometry;
pub mod locate;
// A build without some of the outputs leaves what they alone use.
#[cfg_attr(
    not(all(feature = "mqtt", feature = "modbus", feature = "gpio")),
    allow(dead_code)
)]
mod net;
mod thread;
pub use elements::vadlitetrigger::VadLiteTrigger;
pub mod video;

fn plugin_init(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    video::meta::register();
    elements::vadlite::register(plugin)?;
    elements::vadlitetrigger::register(plugin)?;
    elements::vadliterecord::register(plugin)
}

gst::plugin_define!(
    vadlite,
    env!("CARGO_PKG_DESCRIPTION"),
    plugin_init,
    concat!(env!("CARGO_PKG_VERSION"), "-", env!("COMMIT_ID")),
    "MIT/X11",
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("CARGO_PKG_NAME"),
    env!("BUILD_REL_DATE")
);
