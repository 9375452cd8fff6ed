//! `GstVadLiteMeta`: the result of an inspection as a custom meta on the buffer, and the same fields as a bus message.
//!
//! A custom meta is a named `GstStructure`, so a program in any language reads it with GStreamer alone. Its tag `video` lets it
//! survive conversion, scaling, cropping and encoding; its coordinates are in 0..1 of the frame so that they stay true.

use super::overlay::MapView;
use crate::detector::Region;
use std::sync::Once;

/// Name of the meta.
pub const META_NAME: &str = "GstVadLiteMeta";
/// Name of the structure of the bus message.
pub const MESSAGE_NAME: &str = "vadlite";

/// One frame's result.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'a> {
    pub score: f64,
    pub threshold: f64,
    pub flagged: bool,
    /// Whether a score was computed for this very frame.
    pub inspected: bool,
    /// Whether it was left out on purpose: by `interval`, as a gap, or while learning.
    pub skipped: bool,
    /// Whether heatmap or contour are in the picture.
    pub drawn: bool,
    /// Number of the frame since the element started, from 0.
    pub frame: u64,
    /// File name of the model.
    pub model: &'a str,
    /// Time the inspection took, in nanoseconds.
    pub latency: u64,
    /// In 0..1 of the frame, strongest first.
    pub regions: &'a [Region],
}

/// Makes the meta known to GStreamer; safe to call again.
pub fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| gst::meta::CustomMeta::register(META_NAME, &["video"]));
}

impl Outcome<'_> {
    fn write(&self, structure: &mut gst::StructureRef) {
        structure.set("score", self.score);
        structure.set("threshold", self.threshold);
        structure.set("flagged", self.flagged);
        structure.set("inspected", self.inspected);
        structure.set("skipped", self.skipped);
        structure.set("drawn", self.drawn);
        structure.set("frame", self.frame);
        structure.set("model", self.model);
        structure.set("latency", self.latency);
        let regions = self.regions.iter().map(|region| {
            gst::Structure::builder("region")
                .field("x", f64::from(region.x))
                .field("y", f64::from(region.y))
                .field("w", f64::from(region.width))
                .field("h", f64::from(region.height))
                .field("score", f64::from(region.score))
                .build()
        });
        structure.set("regions", gst::Array::new(regions));
    }

    /// Attaches the result to a buffer.
    ///
    /// # Errors
    /// The meta is not registered.
    pub fn attach(
        &self,
        buffer: &mut gst::BufferRef,
        map: Option<MapView<'_>>,
    ) -> Result<(), glib::BoolError> {
        let mut meta = gst::meta::CustomMeta::add(buffer, META_NAME)?;
        let structure = meta.mut_structure();
        self.write(structure);
        if let Some(map) = map {
            let bytes: Vec<u8> = map
                .values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            structure.set("map", glib::Bytes::from_owned(bytes));
            structure.set("map-width", map.width as u32);
            structure.set("map-height", map.height as u32);
            let [x, y, w, h] = map.roi.map(f64::from);
            let roi = gst::Structure::builder("roi")
                .field("x", x)
                .field("y", y)
                .field("w", w)
                .field("h", h)
                .build();
            structure.set("map-roi", roi);
        }
        Ok(())
    }

    /// The structure of a bus message.
    pub fn message(
        &self,
        pts: Option<gst::ClockTime>,
        running_time: Option<gst::ClockTime>,
    ) -> gst::Structure {
        let mut structure = gst::Structure::new_empty(MESSAGE_NAME);
        self.write(&mut structure);
        structure.set("pts", pts);
        structure.set("running-time", running_time);
        structure
    }
}
