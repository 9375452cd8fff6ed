//! The GStreamer elements: `mod.rs` of each is the wrapper and the registration, `imp.rs` the behaviour.

use gst::prelude::*;

mod messages;
mod refused;
mod time;
pub mod vadlite;
pub mod vadliterecord;
pub mod vadlitetrigger;

/// Whether the source before this pad goes on without waiting for anybody; so it is held for where it does not say.
fn is_live(pad: &impl IsA<gst::Pad>) -> bool {
    let mut query = gst::query::Latency::new();
    let answered = pad.peer_query(&mut query);
    !answered || query.result().0
}

/// A property of text that is read when the element starts.
fn text(name: &str, nick: &str, blurb: &str) -> glib::ParamSpec {
    glib::ParamSpecString::builder(name)
        .nick(nick)
        .blurb(blurb)
        .mutable_ready()
        .build()
}
