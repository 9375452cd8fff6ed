//! A disk that stands still when a test wants it: an element with the name of GStreamer's `filesink`, around the real one.

use gst::prelude::*;
use gst::subclass::prelude::*;
use parking_lot::{Condvar, Mutex};
use std::sync::LazyLock;

/// What stops, as long as it is closed, who passes through.
pub struct Gate(Mutex<bool>, Condvar);

/// What every file waits for.
pub static DISK: Gate = Gate::open();

impl Gate {
    pub const fn open() -> Self {
        Self(Mutex::new(false), Condvar::new())
    }

    pub fn set_closed(&self, closed: bool) {
        *self.0.lock() = closed;
        self.1.notify_all();
    }

    fn pass(&self) {
        let mut closed = self.0.lock();
        while *closed {
            self.1.wait(&mut closed);
        }
    }

    /// Holds up the buffers that come to this pad.
    pub fn guard(&'static self, pad: &gst::Pad) {
        pad.add_probe(
            gst::PadProbeType::BUFFER | gst::PadProbeType::BUFFER_LIST,
            move |_, _| {
                self.pass();
                gst::PadProbeReturn::Ok
            },
        );
    }
}

static REAL: LazyLock<gst::ElementFactory> = LazyLock::new(|| {
    let factory = gst::ElementFactory::find("filesink").unwrap();
    factory.load().unwrap().downcast().unwrap()
});

#[derive(Default)]
pub struct Imp(std::sync::OnceLock<gst::Element>);

#[glib::object_subclass]
impl ObjectSubclass for Imp {
    const NAME: &'static str = "MadeUpFileSink";
    type Type = Element;
    type ParentType = gst::Bin;
}

impl ObjectImpl for Imp {
    fn constructed(&self) {
        self.parent_constructed();
        let bin = self.obj();
        bin.set_element_flags(gst::ElementFlags::SINK);
        let real = REAL.create().build().unwrap();
        bin.add(&real).unwrap();
        let target = real.static_pad("sink").unwrap();
        let pad = gst::GhostPad::with_target(&target).unwrap();
        DISK.guard(pad.upcast_ref());
        bin.add_pad(&pad).unwrap();
        self.0.set(real).unwrap();
    }

    fn properties() -> &'static [glib::ParamSpec] {
        static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
            vec![
                glib::ParamSpecString::builder("location").build(),
                glib::ParamSpecString::builder("buffer-mode").build(),
                glib::ParamSpecBoolean::builder("async").build(),
            ]
        });
        &PROPERTIES
    }

    fn set_property(&self, _id: usize, value: &glib::Value, pspec: &glib::ParamSpec) {
        let real = self.0.get().unwrap();
        match value.get::<String>() {
            Ok(text) => real.set_property_from_str(pspec.name(), &text),
            Err(_) => real.set_property_from_value(pspec.name(), value),
        }
    }

    fn property(&self, _id: usize, pspec: &glib::ParamSpec) -> glib::Value {
        pspec.default_value().clone()
    }
}

impl GstObjectImpl for Imp {}

impl ElementImpl for Imp {}

impl BinImpl for Imp {}

glib::wrapper! {
    pub struct Element(ObjectSubclass<Imp>) @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
}

/// From here on every `filesink` is such a disk.
pub fn register() {
    LazyLock::force(&REAL);
    gst::Element::register(None, "filesink", gst::Rank::NONE, Element::static_type()).unwrap();
}
