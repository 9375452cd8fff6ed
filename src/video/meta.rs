//! `GstVadLiteMeta`: the result of an inspection as a custom meta on the buffer, and the same fields as a bus message.
//!
//! A custom meta is a named `GstStructure`, so a program in any language reads it with GStreamer alone. Its tag `video` lets it
//! survive conversion, scaling, cropping and encoding. Its coordinates are in 0..1 of the frame that was looked at, whose size it has:
//! they stay true when the frame is scaled. GStreamer hands metas on across a crop or a flip as if nothing had happened.
//!
//! This file is the only one that knows the names of the fields: what is written here is read here.

use super::overlay::MapView;
use crate::detector::Region;
use crate::geometry::{Roi, Size};
use ndarray::Array2;
use std::borrow::Cow;
use std::sync::Once;

/// Name of the meta.
pub const META_NAME: &str = "GstVadLiteMeta";
/// Name of the structure of the bus message.
pub const MESSAGE_NAME: &str = "vadlite";

/// A meta of our name whose fields are not ours.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("the meta {META_NAME} has no field {field} of the type {wanted}")]
pub struct FieldError {
    pub field: &'static str,
    pub wanted: &'static str,
}

/// One frame's result, as `vadlite` attaches it to the frame and everything behind it reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameResult<'a> {
    /// The image score; 0 where the frame was not inspected.
    pub score: f64,
    /// The threshold in force for this frame.
    pub threshold: f64,
    pub flagged: bool,
    /// Whether a score was computed for this very frame.
    pub inspected: bool,
    /// Whether it was left out on purpose, by `interval`. Neither inspected nor skipped: a gap buffer, a frame while learning, a failure.
    pub skipped: bool,
    /// Whether heatmap or contour are in the picture.
    pub drawn: bool,
    /// Number of the frame since the element started, from 0.
    pub frame: u64,
    /// Frames missing before this one, as the element found them missing before itself.
    pub lost: u64,
    /// File name of the model.
    pub model: Cow<'a, str>,
    /// Time the inspection took, in nanoseconds.
    pub latency: u64,
    /// Of the frame that was looked at, in pixels: regions and map are in 0..1 of it.
    pub size: Size,
    /// In 0..1 of the frame, strongest first.
    pub regions: Cow<'a, [Region]>,
    /// Where the frame was inspected.
    pub map: Option<ResultMap>,
    /// Of a model that locates its parts: those in the frame. `None`: it looks at whole frames.
    pub parts: Option<Cow<'a, [PartResult]>>,
    /// Why the frame is flagged, where parts are located: whole frames are by their score.
    pub reason: Option<Reason>,
}

/// Why a frame is flagged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Its score, or that of one of its parts, is above the threshold.
    Score,
    /// It does not show as many whole parts as it should.
    Count,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::Score => "score",
            Self::Count => "count",
        }
    }

    fn of_name(name: &str) -> Option<Self> {
        [Self::Score, Self::Count]
            .into_iter()
            .find(|reason| reason.name() == name)
    }
}

/// One part in a frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PartResult {
    /// The same for the same part from frame to frame, from 1.
    pub id: u64,
    /// Its middle, in 0..1 of the frame.
    pub x: f32,
    pub y: f32,
    /// Width and height of the upright box around it, in 0..1 of the frame.
    pub width: f32,
    pub height: f32,
    /// By which its longer axis is turned from the frame's rows, clockwise, in degrees.
    pub angle: f32,
    /// 0 where it was not judged.
    pub score: f64,
    pub flagged: bool,
    /// Whether all of it is in the frame. One that the frame's edge cuts is not judged.
    pub complete: bool,
    /// Whether it was judged.
    pub inspected: bool,
}

/// The anomaly map as the meta holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultMap {
    /// 32-bit floats in little-endian, row-major.
    bytes: glib::Bytes,
    size: Size,
    /// The part of the frame that the map covers.
    pub roi: Roi,
}

impl ResultMap {
    /// A copy of the map.
    pub fn new(map: MapView<'_>) -> Self {
        let bytes: Vec<u8> = map
            .values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Self {
            bytes: glib::Bytes::from_owned(bytes),
            size: map.values.dim().into(),
            roi: map.roi,
        }
    }

    /// The values, height x width; `None` where the bytes are not as many as the size asks for.
    pub fn to_array(&self) -> Option<Array2<f32>> {
        let (values, rest) = self.bytes.as_chunks();
        let values = values.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let shape = (self.size.height, self.size.width);
        match rest.is_empty() {
            true => Array2::from_shape_vec(shape, values.collect()).ok(),
            false => None,
        }
    }
}

/// Makes the meta known to GStreamer; safe to call again.
pub fn register() {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| gst::meta::CustomMeta::register(META_NAME, &["video"]));
}

impl<'a> FrameResult<'a> {
    /// Attaches the result to a buffer, beside those of other elements of this kind.
    ///
    /// # Errors
    /// The meta is not registered.
    pub fn write(&self, buffer: &mut gst::BufferRef) -> Result<(), glib::BoolError> {
        let mut meta = gst::meta::CustomMeta::add(buffer, META_NAME)?;
        let structure = meta.mut_structure();
        self.set_fields(structure);
        if let Some(map) = &self.map {
            structure.set("map", &map.bytes);
            structure.set("map-width", map.size.width as u32);
            structure.set("map-height", map.size.height as u32);
            structure.set("map-roi", region("roi", map.roi).build());
        }
        Ok(())
    }

    /// The structure of a bus message: all but the map, and the frame's times.
    pub fn message(
        &self,
        pts: Option<gst::ClockTime>,
        running_time: Option<gst::ClockTime>,
    ) -> gst::Structure {
        let mut structure = gst::Structure::new_empty(MESSAGE_NAME);
        self.set_fields(&mut structure);
        structure.set("pts", pts);
        structure.set("running-time", running_time);
        structure
    }

    fn set_fields(&self, structure: &mut gst::StructureRef) {
        structure.set("score", self.score);
        structure.set("threshold", self.threshold);
        structure.set("flagged", self.flagged);
        structure.set("inspected", self.inspected);
        structure.set("skipped", self.skipped);
        structure.set("drawn", self.drawn);
        structure.set("frame", self.frame);
        structure.set("lost", self.lost);
        structure.set("model", &*self.model);
        structure.set("latency", self.latency);
        structure.set("width", self.size.width as u32);
        structure.set("height", self.size.height as u32);
        let regions = self.regions.iter().map(|found| {
            let roi = Roi::new(found.x, found.y, found.width, found.height);
            region("region", roi)
                .field("score", f64::from(found.score))
                .build()
        });
        structure.set("regions", gst::Array::new(regions));
        if let Some(reason) = self.reason {
            structure.set("reason", reason.name());
        }
        if let Some(parts) = &self.parts {
            structure.set(
                "parts",
                gst::Array::new(parts.iter().map(PartResult::write)),
            );
        }
    }

    /// Hands the results on a buffer to `each`, in the order in which they were attached: several elements of this kind may have
    /// looked at the frame. Allocates nothing for a frame without regions.
    ///
    /// What cannot be read is handed on as an error: a result that is there and not understood is not the same as none.
    pub fn read_all(
        buffer: &gst::BufferRef,
        mut each: impl FnMut(Result<FrameResult<'_>, FieldError>),
    ) {
        for meta in buffer.iter_meta::<gst::Meta>() {
            if let Some(meta) = meta.try_as_custom_meta().filter(|meta| is_ours(meta)) {
                each(FrameResult::read(meta.structure()));
            }
        }
    }

    /// The result that a structure holds.
    ///
    /// # Errors
    /// A field that is missing or of another type.
    pub fn read(structure: &'a gst::StructureRef) -> Result<Self, FieldError> {
        Ok(Self {
            score: get(structure, "score", "double")?,
            threshold: get(structure, "threshold", "double")?,
            flagged: get(structure, "flagged", "boolean")?,
            inspected: get(structure, "inspected", "boolean")?,
            skipped: get(structure, "skipped", "boolean")?,
            drawn: get(structure, "drawn", "boolean")?,
            frame: get(structure, "frame", "uint64")?,
            lost: get(structure, "lost", "uint64")?,
            model: Cow::Borrowed(get(structure, "model", "string")?),
            latency: get(structure, "latency", "uint64")?,
            size: read_size(structure, "height", "width")?,
            regions: Cow::Owned(read_regions(structure)?),
            map: read_map(structure)?,
            parts: read_parts(structure)?.map(Cow::Owned),
            reason: match structure.has_field("reason") {
                true => Reason::of_name(get(structure, "reason", "string")?),
                false => None,
            },
        })
    }
}

impl PartResult {
    fn write(&self) -> gst::Structure {
        gst::Structure::builder("part")
            .field("id", self.id)
            .field("x", f64::from(self.x))
            .field("y", f64::from(self.y))
            .field("w", f64::from(self.width))
            .field("h", f64::from(self.height))
            .field("angle", f64::from(self.angle))
            .field("score", self.score)
            .field("flagged", self.flagged)
            .field("complete", self.complete)
            .field("inspected", self.inspected)
            .build()
    }

    fn read(structure: &gst::StructureRef) -> Result<Self, FieldError> {
        let number = |field| get::<f64>(structure, field, "double").map(|number| number as f32);
        Ok(Self {
            id: get(structure, "id", "uint64")?,
            x: number("x")?,
            y: number("y")?,
            width: number("w")?,
            height: number("h")?,
            angle: number("angle")?,
            score: get(structure, "score", "double")?,
            flagged: get(structure, "flagged", "boolean")?,
            complete: get(structure, "complete", "boolean")?,
            inspected: get(structure, "inspected", "boolean")?,
        })
    }
}

/// As `has_name` of the meta, without the copy of the name that this makes.
fn is_ours(meta: &gst::meta::CustomMeta) -> bool {
    meta.structure().name() == META_NAME
}

fn get<'a, T: glib::value::FromValue<'a>>(
    structure: &'a gst::StructureRef,
    field: &'static str,
    wanted: &'static str,
) -> Result<T, FieldError> {
    structure
        .get(field)
        .map_err(|_| FieldError { field, wanted })
}

/// A structure of this name with the coordinates of a region.
fn region(name: &str, roi: Roi) -> gst::structure::Builder {
    gst::Structure::builder(name)
        .field("x", f64::from(roi.x))
        .field("y", f64::from(roi.y))
        .field("w", f64::from(roi.width))
        .field("h", f64::from(roi.height))
}

fn read_roi(structure: &gst::StructureRef) -> Result<Roi, FieldError> {
    let number = |field| get::<f64>(structure, field, "double").map(|number| number as f32);
    Ok(Roi::new(
        number("x")?,
        number("y")?,
        number("w")?,
        number("h")?,
    ))
}

fn read_size(
    structure: &gst::StructureRef,
    height: &'static str,
    width: &'static str,
) -> Result<Size, FieldError> {
    let side = |field| get::<u32>(structure, field, "uint").map(|side| side as usize);
    Ok(Size::new(side(height)?, side(width)?))
}

fn read_regions(structure: &gst::StructureRef) -> Result<Vec<Region>, FieldError> {
    let wanted = "array of structures";
    let wrong = |_| FieldError {
        field: "regions",
        wanted,
    };
    // Borrowed: an array taken out as a value of its own is a copy of all of it.
    let regions = get::<gst::ArrayRef<'_>>(structure, "regions", wanted)?;
    regions
        .iter()
        .map(|value| {
            let region = value.get::<&gst::StructureRef>().map_err(wrong)?;
            let roi = read_roi(region)?;
            Ok(Region {
                x: roi.x,
                y: roi.y,
                width: roi.width,
                height: roi.height,
                score: get::<f64>(region, "score", "double")? as f32,
            })
        })
        .collect()
}

fn read_parts(structure: &gst::StructureRef) -> Result<Option<Vec<PartResult>>, FieldError> {
    if !structure.has_field("parts") {
        return Ok(None);
    }
    let wanted = "array of structures";
    let field = "parts";
    let parts = get::<gst::ArrayRef<'_>>(structure, field, wanted)?;
    let read = |value: &glib::SendValue| {
        let part = value.get::<&gst::StructureRef>();
        PartResult::read(part.map_err(|_| FieldError { field, wanted })?)
    };
    parts.iter().map(read).collect::<Result<_, _>>().map(Some)
}

fn read_map(structure: &gst::StructureRef) -> Result<Option<ResultMap>, FieldError> {
    if !structure.has_field("map") {
        return Ok(None);
    }
    Ok(Some(ResultMap {
        bytes: get(structure, "map", "GBytes")?,
        size: read_size(structure, "map-height", "map-width")?,
        roi: read_roi(get(structure, "map-roi", "structure")?)?,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::ArrayView2;
    use proptest::prelude::*;

    prop_compose! {
        fn regions()(parts in prop::collection::vec((0.0f32..1.0, 0.0f32..1.0, 0.0f32..1.0, 0.0f32..1.0, 0.0f32..1e6), 0..5)) -> Vec<Region> {
            parts.into_iter().map(|(x, y, width, height, score)| Region { x, y, width, height, score }).collect()
        }
    }

    prop_compose! {
        fn parts()(parts in prop::collection::vec((any::<u64>(), prop::array::uniform5(0.0f32..1.0), 0.0f64..1e6, any::<[bool; 3]>()), 0..4)) -> Vec<PartResult> {
            parts.into_iter().map(|(id, [x, y, width, height, turn], score, [flagged, complete, inspected])| PartResult {
                id, x, y, width, height, angle: 360.0 * turn, score, flagged, complete, inspected,
            }).collect()
        }
    }

    proptest! {
        /// Whatever several elements write on one buffer is read back as it was, in their order, map and regions included.
        #[test]
        fn what_is_written_is_read(
            regions in regions(),
            numbers in (any::<f64>(), any::<f64>(), any::<u64>(), any::<u64>(), any::<u64>()),
            flags in any::<[bool; 4]>(),
            model in "[^\0]{0,20}",
            map in prop::option::of(prop::collection::vec(any::<f32>(), 6)),
            parts in prop::option::of(parts()),
            count in 1usize..4,
        ) {
            gst::init().unwrap();
            register();
            let result = FrameResult {
                score: if numbers.0.is_nan() { 0.0 } else { numbers.0 },
                threshold: if numbers.1.is_nan() { 0.0 } else { numbers.1 },
                flagged: flags[0],
                inspected: flags[1],
                skipped: flags[2],
                drawn: flags[3],
                frame: numbers.2,
                model: model.into(),
                latency: numbers.3,
                size: Size::new(numbers.2 as u16 as usize, numbers.3 as u16 as usize),
                lost: numbers.4,
                regions: regions.into(),
                parts: parts.map(Into::into),
                reason: flags[0].then_some(if flags[1] { Reason::Score } else { Reason::Count }),
                map: map.as_ref().map(|values| ResultMap::new(MapView {
                    values: ArrayView2::from_shape((2, 3), values).unwrap(),
                    roi: Roi::new(0.25, 0.0, 0.5, 1.0),
                })),
            };
            let mut buffer = gst::Buffer::new();
            for frame in 0..count as u64 {
                let result = FrameResult { frame, ..result.clone() };
                result.write(buffer.get_mut().unwrap()).unwrap();
            }
            let mut frame = 0;
            FrameResult::read_all(&buffer, |read| {
                assert_eq!(read.unwrap(), FrameResult { frame, ..result.clone() });
                frame += 1;
            });
            prop_assert_eq!(frame, count as u64);
            if let (Some(map), Some(values)) = (&result.map, map) {
                let bits = |value: &f32| value.to_bits();
                let read = map.to_array().unwrap();
                prop_assert_eq!(read.dim(), (2, 3));
                prop_assert!(read.iter().map(bits).eq(values.iter().map(bits)));
            }
        }
    }

    #[test]
    fn a_result_that_is_not_understood_is_told() {
        gst::init().unwrap();
        register();
        let mut buffer = gst::Buffer::new();
        gst::meta::CustomMeta::add(buffer.get_mut().unwrap(), META_NAME)
            .unwrap()
            .mut_structure()
            .set("score", "high");
        let mut errors = Vec::new();
        FrameResult::read_all(&buffer, |read| errors.push(read.unwrap_err().to_string()));
        assert_eq!(
            errors,
            ["the meta GstVadLiteMeta has no field score of the type double"]
        );
    }
}
