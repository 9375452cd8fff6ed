//! The result as GStreamer's own analytics metadata (GStreamer 1.24 and up), beside [`GstVadLiteMeta`](super::meta): overlays, converters
//! and trackers that know nothing of vadlite see the regions as detected objects, and the verdict as a classification of the frame.

use super::meta::FrameResult;
use crate::geometry::Size;
use gst_analytics::prelude::*;
use gst_analytics::{AnalyticsRelationMeta, RelTypes};
use std::sync::LazyLock;

/// Type of the detected objects, and the class of a flagged frame.
pub const ANOMALY: &str = "anomaly";
/// Class of a frame that is not flagged.
pub const GOOD: &str = "good";

struct Quarks {
    anomaly: glib::Quark,
    good: glib::Quark,
}

static QUARKS: LazyLock<Quarks> = LazyLock::new(|| Quarks {
    anomaly: glib::Quark::from_str(ANOMALY),
    good: glib::Quark::from_str(GOOD),
});

/// Attaches to a frame of this size in pixels: a classification with the classes `anomaly` and `good`, and an object of the type `anomaly`
/// for each region, which the classification contains. What an element before this one has detected stays.
///
/// A frame that was not inspected gets none: nothing is known of it.
///
/// # Errors
/// The meta takes no more data.
pub fn attach(
    result: &FrameResult<'_>,
    size: Size,
    buffer: &mut gst::BufferRef,
) -> Result<(), glib::BoolError> {
    if !result.inspected {
        return Ok(());
    }
    let present = buffer.meta::<AnalyticsRelationMeta>().is_some();
    let meta = match present {
        true => buffer.meta_mut::<AnalyticsRelationMeta>(),
        false => Some(AnalyticsRelationMeta::add(buffer)),
    };
    let mut meta = meta.ok_or_else(|| glib::bool_error!("the analytics meta is gone"))?;
    let anomalous = confidence(result.score, result.threshold);
    let frame = meta
        .add_cls_mtd(
            &[anomalous, 1.0 - anomalous],
            &[QUARKS.anomaly, QUARKS.good],
        )?
        .id();
    for region in &*result.regions {
        let (x, width) = pixels(region.x, region.width, size.width);
        let (y, height) = pixels(region.y, region.height, size.height);
        let confidence = confidence(region.score.into(), result.threshold);
        let object = meta
            .add_od_mtd(QUARKS.anomaly, x, y, width, height, confidence)?
            .id();
        meta.set_relation(RelTypes::CONTAIN, frame, object)?;
        meta.set_relation(RelTypes::IS_PART_OF, object, frame)?;
    }
    Ok(())
}

/// A score on a scale that knows no vadlite: 0 for a score of 0, 0.5 at the threshold, towards 1 far above it. It is no probability.
fn confidence(score: f64, threshold: f64) -> f32 {
    let sum = score + threshold;
    match sum > 0.0 {
        true => (score / sum) as f32,
        false => 0.0,
    }
}

/// First pixel and number of pixels, at least one, of a stretch in 0..1.
fn pixels(from: f32, length: f32, side: usize) -> (i32, i32) {
    let side = side as f32;
    let first = (from * side).round();
    let last = ((from + length) * side).round().min(side);
    (first as i32, ((last - first) as i32).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::Region;
    use gst_analytics::{AnalyticsClassificationMtd, AnalyticsODMtd};

    fn result(flagged: bool) -> FrameResult<'static> {
        let region = Region {
            x: 0.25,
            y: 0.5,
            width: 0.5,
            height: 0.25,
            score: 3.0,
        };
        FrameResult {
            score: if flagged { 3.0 } else { 0.5 },
            threshold: 1.0,
            flagged,
            inspected: true,
            skipped: false,
            drawn: false,
            frame: 7,
            lost: 0,
            model: "part.vadlite".into(),
            latency: 1,
            size: Size::new(100, 200),
            regions: if flagged { vec![region] } else { Vec::new() }.into(),
            map: None,
            parts: None,
            reason: None,
        }
    }

    /// What a program that knows only GstAnalytics reads: objects with their boxes and confidence, and the frame's classes.
    #[test]
    fn regions_are_objects_and_the_verdict_is_a_classification() {
        gst::init().unwrap();
        for flagged in [true, false] {
            let mut buffer = gst::Buffer::new();
            attach(
                &result(flagged),
                Size::new(100, 200),
                buffer.get_mut().unwrap(),
            )
            .unwrap();
            let meta = buffer.meta::<AnalyticsRelationMeta>().unwrap();
            let classes = meta.iter::<AnalyticsClassificationMtd>().next().unwrap();
            let best = usize::from(classes.level(0) < classes.level(1));
            let expected = if flagged { ANOMALY } else { GOOD };
            assert_eq!(classes.quark(best).as_str(), expected);
            let objects: Vec<_> = meta
                .iter::<AnalyticsODMtd>()
                .map(|object| {
                    let place = object.location().unwrap();
                    let kind = object.obj_type().unwrap().as_str().to_string();
                    (kind, place.x, place.y, place.w, place.h, place.loc_conf_lvl)
                })
                .collect();
            match flagged {
                true => assert_eq!(objects, [(ANOMALY.to_owned(), 50, 50, 100, 25, 0.75)]),
                false => assert!(objects.is_empty()),
            }
        }
    }

    #[test]
    fn what_others_have_detected_stays() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let kind = glib::Quark::from_str("bottle");
        AnalyticsRelationMeta::add(buffer.get_mut().unwrap())
            .add_od_mtd(kind, 1, 2, 3, 4, 0.9)
            .unwrap();
        attach(
            &result(true),
            Size::new(100, 200),
            buffer.get_mut().unwrap(),
        )
        .unwrap();
        assert_eq!(buffer.iter_meta::<AnalyticsRelationMeta>().count(), 1);
        let meta = buffer.meta::<AnalyticsRelationMeta>().unwrap();
        assert_eq!(meta.iter::<AnalyticsODMtd>().count(), 2);
    }

    #[test]
    fn a_frame_that_was_not_inspected_has_no_verdict() {
        gst::init().unwrap();
        let mut buffer = gst::Buffer::new();
        let result = FrameResult {
            inspected: false,
            ..result(false)
        };
        attach(&result, Size::new(100, 200), buffer.get_mut().unwrap()).unwrap();
        assert!(buffer.meta::<AnalyticsRelationMeta>().is_none());
    }
}
