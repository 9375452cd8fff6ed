//! The elements that encode all the time: `queue ! videoconvert ! ENCODER ! parser ! appsink`.
//!
//! `encodebin2` would choose by rank among the encoders of one format, take the first that can be made whether or not it can be used, and
//! put queues that do not leak and a `videorate` around it; what is wanted here is an order over H.264 and JPEG, and no frame more or less.

use super::CAT;
use super::chain::{Chain, Unusable, make};
use super::error::{Reasons, StartError};
use super::trial::try_out;
use gst::prelude::*;
use parking_lot::Mutex;

/// Encoders by preference: in hardware, then the faster ones.
const ENCODERS: [&str; 5] = [
    "nvv4l2h264enc",
    "v4l2h264enc",
    "x264enc",
    "openh264enc",
    "jpegenc",
];
/// Frames that may wait for the encoder, in number and in bytes; with a live source the oldest of more go. One alone may be larger.
pub const QUEUED: u32 = 30;
pub const QUEUED_BYTES: u32 = 256 << 20;

/// The elements from raw to encoded frames, in a bin.
pub struct Encoder {
    pub queue: gst::Element,
    pub sink: gst_app::AppSink,
    convert: gst::Element,
    bin: gst::Bin,
    chain: Mutex<Chosen>,
}

/// The encoder that is used.
struct Chosen {
    name: String,
    elements: Vec<gst::Element>,
    /// Another may take its place: nobody has asked for it, and no frame has come.
    replaceable: bool,
}

impl Encoder {
    /// Puts an encoder into `bin`: the one of this name, or the first that works where the name is empty.
    ///
    /// # Errors
    /// What there is does not work, or an element that GStreamer does not have.
    pub fn new(name: &str, bin: &gst::Bin) -> Result<Self, StartError> {
        let usable = |name: &str| try_out(name, None);
        let replaceable = name.is_empty();
        let name = match name {
            "" => first_usable(&ENCODERS, bin, usable).map_err(StartError::NoEncoder)?,
            name => {
                usable(name).map_err(|source| StartError::Encoder {
                    name: name.to_owned(),
                    source: Box::new(source),
                    usable: Reasons::list(ENCODERS.iter().filter(|name| usable(name).is_ok())),
                })?;
                name.to_owned()
            }
        };
        gst::debug!(CAT, obj = bin, "encoder {name}");
        let base = |name| make(name).map_err(StartError::Element);
        let queue = base("queue")?;
        queue.set_property("max-size-buffers", QUEUED);
        queue.set_property("max-size-bytes", QUEUED_BYTES);
        queue.set_property("max-size-time", 0u64);
        let convert = base("videoconvert")?;
        let sink = gst_app::AppSink::builder().sync(false).build();
        sink.set_property("async", false);
        let link = || {
            bin.add_many([&queue, &convert, sink.upcast_ref()])?;
            queue.link(&convert)
        };
        link().map_err(StartError::Link)?;
        let encoder = Self {
            queue,
            sink,
            convert,
            bin: bin.clone(),
            chain: Mutex::new(Chosen {
                name: String::new(),
                elements: Vec::new(),
                replaceable,
            }),
        };
        encoder.insert(name, &mut encoder.chain.lock())?;
        Ok(encoder)
    }

    /// Takes in the format of the frames to come. Before the first frame an encoder that nobody has asked for, and that does not take
    /// them, makes room for the next.
    ///
    /// # Errors
    /// None takes them.
    pub fn adapt(&self, caps: &gst::Caps) -> Result<(), StartError> {
        let mut chosen = self.chain.lock();
        if !std::mem::replace(&mut chosen.replaceable, false) {
            return Ok(());
        }
        let from = ENCODERS.iter().position(|name| *name == chosen.name);
        let names = &ENCODERS[from.unwrap_or(0)..];
        let name = first_usable(names, &self.bin, |name| try_out(name, Some(caps)));
        let name = name.map_err(StartError::NoEncoder)?;
        if name == chosen.name {
            return Ok(());
        }
        gst::info!(CAT, obj = self.bin, "{name} in place of {}", chosen.name);
        self.insert(name, &mut chosen)
    }

    /// Puts an encoder between the converter and the sink, in place of the one that is there.
    fn insert(&self, name: String, chosen: &mut Chosen) -> Result<(), StartError> {
        for element in chosen.elements.drain(..) {
            let _ = element.set_state(gst::State::Null);
            let _ = self.bin.remove(&element);
        }
        let chain = Chain::new(&name).map_err(StartError::Element)?;
        self.sink.set_caps(chain.caps.as_ref());
        let link = || {
            self.bin.add_many(&chain.elements)?;
            let mut all = vec![&self.convert];
            all.extend(&chain.elements);
            all.push(self.sink.upcast_ref());
            gst::Element::link_many(all)?;
            let mut elements = chain.elements.iter().rev();
            elements.try_for_each(gst::Element::sync_state_with_parent)
        };
        link().map_err(StartError::Link)?;
        (chosen.name, chosen.elements) = (name, chain.elements);
        Ok(())
    }
}

/// The first of these encoders that is usable. `owner` is whom the log names.
///
/// # Errors
/// Why each of them is not.
fn first_usable(
    names: &[&str],
    owner: &gst::Bin,
    usable: impl Fn(&str) -> Result<(), Unusable>,
) -> Result<String, Reasons> {
    let mut reasons = Reasons::default();
    for name in names {
        match usable(name) {
            Ok(()) => return Ok((*name).to_owned()),
            Err(reason) => {
                gst::info!(CAT, obj = owner, "encoder {name} is passed over: {reason}");
                reasons.0.push(reason);
            }
        }
    }
    Err(reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_usable_is_taken_and_each_other_has_its_reason() {
        gst::init().unwrap();
        let bin = gst::Bin::new();
        let asked = std::cell::RefCell::new(Vec::new());
        let choose = |usable: &[&str]| {
            asked.borrow_mut().clear();
            first_usable(&ENCODERS, &bin, |name| {
                asked.borrow_mut().push(name.to_owned());
                match usable.contains(&name) {
                    true => Ok(()),
                    false => Err(Unusable::Silent(name.to_owned())),
                }
            })
        };
        assert_eq!(choose(&["jpegenc", "x264enc"]).unwrap(), "x264enc");
        assert_eq!(*asked.borrow(), ENCODERS[..3]);
        assert_eq!(choose(&ENCODERS).unwrap(), "nvv4l2h264enc");
        let reasons = choose(&[]).unwrap_err().to_string();
        assert!(ENCODERS.iter().all(|name| reasons.contains(name)));
    }
}
