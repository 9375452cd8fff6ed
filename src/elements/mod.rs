//! The GStreamer elements: `mod.rs` of each is the wrapper and the registration, `imp.rs` the behaviour.

mod time;
pub mod vadlite;
pub mod vadliterecord;
pub mod vadlitetrigger;
