//! The GStreamer elements: `mod.rs` of each is the wrapper and the registration, `imp.rs` the behaviour.

use gst::prelude::*;

mod messages;
mod time;
pub mod vadlite;
pub mod vadliterecord;
pub mod vadlitetrigger;

/// A property of text that is read when the element starts.
fn text(name: &str, nick: &str, blurb: &str) -> glib::ParamSpec {
    glib::ParamSpecString::builder(name)
        .nick(nick)
        .blurb(blurb)
        .mutable_ready()
        .build()
}
