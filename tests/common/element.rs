//! The element in a harness: frames in, results out, and what it says on the bus.

use super::{Picture, model};
use gst::prelude::*;
use gst_video::{VideoFormat, VideoFrameRef, VideoInfo};
use std::sync::Once;

pub const FORMATS: [VideoFormat; 15] = gstvadlite::video::formats::FORMATS;

pub fn init() {
    static INIT: Once = Once::new();
    INIT.call_once(|| {
        gst::init().unwrap();
        gstvadlite::plugin_register_static().unwrap();
    });
}

/// The element with these properties and the test's model unless they name another.
pub fn element(properties: &[(&str, &str)]) -> gst::Element {
    init();
    let element = gst::ElementFactory::make("vadlite").build().unwrap();
    element.set_property("model", model().path.to_str().unwrap());
    for (name, value) in properties {
        element.set_property_from_str(name, value);
    }
    element
}

/// What an element says when it refuses to start.
pub fn start_error(element: &gst::Element) -> String {
    let bus = gst::Bus::new();
    element.set_bus(Some(&bus));
    let change = element.set_state(gst::State::Paused);
    assert!(change.is_err(), "it starts");
    let message = bus
        .pop_filtered(&[gst::MessageType::Error])
        .expect("no error on the bus");
    element.set_state(gst::State::Null).unwrap();
    let gst::MessageView::Error(error) = message.view() else {
        unreachable!()
    };
    error.error().message().to_owned()
}

/// Why a trigger with this output does not start.
pub fn output_refused(output: &str, credentials: &str) -> String {
    let element = gst::ElementFactory::make("vadlitetrigger")
        .property("output", output)
        .property("credentials", credentials)
        .build()
        .unwrap();
    start_error(&element)
}

/// The element between a source and a sink pad, with a bus of its own.
pub struct Rig {
    harness: gst_check::Harness,
    pub element: gst::Element,
    pub bus: gst::Bus,
}

impl Rig {
    pub fn new(properties: &[(&str, &str)]) -> Self {
        let element = element(properties);
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let harness = gst_check::Harness::with_element(&element, Some("sink"), Some("src"));
        Self {
            harness,
            element,
            bus,
        }
    }

    pub fn harness(&mut self) -> &mut gst_check::Harness {
        &mut self.harness
    }

    pub fn set_info(&mut self, info: &VideoInfo) {
        self.harness.set_src_caps(info.to_caps().unwrap());
    }

    /// Pushes a buffer and takes it out behind the element.
    pub fn pass(&mut self, buffer: gst::Buffer) -> gst::Buffer {
        self.harness.push(buffer).unwrap();
        self.harness.try_pull().expect("a buffer was dropped")
    }

    /// The result for a picture in some format.
    pub fn inspect(&mut self, picture: &Picture, format: VideoFormat) -> Seen {
        let info = info(format, picture);
        self.set_info(&info);
        let buffer = self.pass(frame(picture, &info));
        Seen::of(&buffer)
    }

    pub fn stat<T: for<'a> glib::value::FromValue<'a> + 'static>(&self, name: &str) -> T {
        let stats: gst::Structure = self.element.property("stats");
        stats.get(name).unwrap()
    }

    /// Element messages and warnings since the last call.
    pub fn messages(&self) -> (Vec<gst::Structure>, Vec<String>) {
        let (mut results, mut warnings) = (Vec::new(), Vec::new());
        while let Some(message) = self.bus.pop() {
            match message.view() {
                gst::MessageView::Element(element) => {
                    results.extend(element.structure().map(ToOwned::to_owned));
                }
                gst::MessageView::Warning(warning) => {
                    warnings.push(warning.error().message().to_owned());
                }
                gst::MessageView::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
        (results, warnings)
    }
}

pub fn info(format: VideoFormat, picture: &Picture) -> VideoInfo {
    VideoInfo::builder(format, picture.width as u32, picture.height as u32)
        .build()
        .unwrap()
}

/// The picture as a frame, converted by GStreamer.
pub fn frame(picture: &Picture, info: &VideoInfo) -> gst::Buffer {
    let rgb = VideoInfo::builder(
        VideoFormat::Rgb,
        picture.width as u32,
        picture.height as u32,
    )
    .build()
    .unwrap();
    let mut source = gst::Buffer::with_size(rgb.size()).unwrap();
    {
        let mut data = source.get_mut().unwrap().map_writable().unwrap();
        let rows = data.chunks_exact_mut(rgb.stride()[0] as usize);
        for (row, pixels) in rows.zip(picture.rgb.chunks_exact(3 * picture.width)) {
            row[..pixels.len()].copy_from_slice(pixels);
        }
    }
    convert(&source, &rgb, info)
}

pub fn convert(from: &gst::Buffer, from_info: &VideoInfo, to_info: &VideoInfo) -> gst::Buffer {
    let mut to = gst::Buffer::with_size(to_info.size()).unwrap();
    let mut config = gst_video::VideoConverterConfig::new();
    config.set_dither_method(gst_video::VideoDitherMethod::None);
    let converter = gst_video::VideoConverter::new(from_info, to_info, Some(config)).unwrap();
    {
        let source = VideoFrameRef::from_buffer_ref_readable(from, from_info).unwrap();
        let target = to.get_mut().unwrap();
        let mut target = VideoFrameRef::from_buffer_ref_writable(target, to_info).unwrap();
        converter.frame_ref(&source, &mut target);
    }
    to
}

pub fn bytes(buffer: &gst::BufferRef) -> Vec<u8> {
    buffer.map_readable().unwrap().to_vec()
}

/// A region of the meta: x, y, w, h and score.
pub type Region = [f64; 5];

/// What a program that knows only GStreamer reads from the meta. Panics where a field is missing or of another type.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub score: f64,
    pub threshold: f64,
    pub flagged: bool,
    pub inspected: bool,
    pub frame: u64,
    pub model: String,
    pub latency: u64,
    pub regions: Vec<Region>,
    /// Width, height, row-major values.
    pub map: Option<(u32, u32, Vec<f32>)>,
}

impl Seen {
    pub fn of(buffer: &gst::BufferRef) -> Self {
        Self::from_structure(&structure(buffer))
    }

    pub fn from_structure(structure: &gst::StructureRef) -> Self {
        let map = structure.get::<glib::Bytes>("map").ok().map(|bytes| {
            let (values, rest) = bytes.as_chunks::<4>();
            assert!(rest.is_empty());
            (
                structure.get("map-width").unwrap(),
                structure.get("map-height").unwrap(),
                values.iter().map(|&b| f32::from_le_bytes(b)).collect(),
            )
        });
        let regions: gst::Array = structure.get("regions").unwrap();
        let regions = regions.iter().map(|region| {
            let region: gst::Structure = region.get().unwrap();
            ["x", "y", "w", "h", "score"].map(|name| region.get(name).unwrap())
        });
        Self {
            score: structure.get("score").unwrap(),
            threshold: structure.get("threshold").unwrap(),
            flagged: structure.get("flagged").unwrap(),
            inspected: structure.get("inspected").unwrap(),
            frame: structure.get("frame").unwrap(),
            model: structure.get("model").unwrap(),
            latency: structure.get("latency").unwrap(),
            regions: regions.collect(),
            map,
        }
    }

    /// Whether the strongest region's box covers this place.
    pub fn points_at(&self, x: f64, y: f64) -> bool {
        let Some(&[left, top, width, height, _]) = self.regions.first() else {
            return false;
        };
        (left..left + width).contains(&x) && (top..top + height).contains(&y)
    }
}

/// The structure of the meta on a buffer.
pub fn structure(buffer: &gst::BufferRef) -> gst::Structure {
    let meta = gst::meta::CustomMeta::from_buffer(buffer, "GstVadLiteMeta").expect("no meta");
    meta.structure().to_owned()
}
