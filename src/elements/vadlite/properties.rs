//! The properties of `vadlite`: their ranges, and a sentence or two on each. What is longer stands in the element's documentation.

use super::settings::Settings;
use crate::elements::text;
use crate::locate::MOST_PARTS;
use gst::prelude::*;
use std::sync::LazyLock;

/// The property specifications, with the defaults of [`Settings`].
pub fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let defaults = Settings::default();
        let live = defaults.live;
        vec![
            glib::ParamSpecString::builder("model")
                .nick("Model")
                .blurb("The fitted .vadlite file; with mode=learn the one to write. Set while playing, it takes over between two frames, or is refused with a warning")
                .mutable_playing()
                .build(),
            text("backbone", "Backbone", "ONNX file of the backbone. Default: the file that the model names, beside the model, beside the plugin or in the installed data folder"),
            text("onnxruntime", "ONNX Runtime", "Path of ONNX Runtime's library, one for the whole process. Default: ORT_DYLIB_PATH, beside the plugin, the folder filled by ./setup, then the system's"),
            glib::ParamSpecEnum::builder_with_default("mode", defaults.mode).nick("Mode").blurb("What to do with frames: inspect them, or learn the model from them first").mutable_ready().build(),
            glib::ParamSpecEnum::builder_with_default("method", defaults.method).nick("Method").blurb("What mode=learn fits").mutable_ready().build(),
            glib::ParamSpecUInt::builder("learn-frames")
                .nick("Learn frames")
                .blurb("Frames of good parts that mode=learn takes, or parts where these are located. What shows nothing new does not count")
                .minimum(10)
                .maximum(100_000)
                .default_value(defaults.learn_frames)
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("locate", defaults.locate).nick("Locate").blurb("For mode=learn: whether the frames show parts to locate, turn upright and judge one by one. A fitted model has its own").mutable_ready().build(),
            glib::ParamSpecEnum::builder_with_default("reload", defaults.reload).nick("Reload").blurb("When the model is loaded again").mutable_ready().build(),
            glib::ParamSpecDouble::builder("threshold")
                .nick("Threshold")
                .blurb("Raw score above which a frame is flagged. 0: what false-reject-rate asks for, or the model's own")
                .minimum(0.0)
                .maximum(f64::MAX)
                .default_value(live.threshold)
                .mutable_playing()
                .build(),
            glib::ParamSpecDouble::builder("false-reject-rate")
                .nick("False reject rate")
                .blurb("Set the threshold so that at most this share of good parts is flagged, from the model's calibration. 0: the model's own threshold")
                .minimum(0.0)
                .maximum(0.999_999)
                .default_value(live.false_reject_rate)
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("overlay", live.overlay).nick("Overlay").blurb("How flagged frames are marked").mutable_playing().build(),
            glib::ParamSpecBoolean::builder("overlay-always")
                .nick("Overlay always")
                .blurb("Draw the overlay on every inspected frame, not on flagged ones only")
                .default_value(live.overlay_always)
                .mutable_playing()
                .build(),
            text("roi", "Region of interest", "The inspected part of the frame: x,y,w,h in 0..1 of it. Default: the part that the model was fitted on"),
            text("tiles", "Tiles", "COLUMNSxROWS that the inspected part is cut into, each seen by the backbone in full size. For mode=learn; a fitted model has its own"),
            glib::ParamSpecUInt::builder("interval")
                .nick("Interval")
                .blurb("Inspect every n-th frame; the others pass with inspected=false")
                .minimum(1)
                .default_value(live.interval)
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("device", defaults.device).nick("Device").blurb("Where the backbone runs. A device that is not there is an error").mutable_ready().build(),
            glib::ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb("Threads of the backbone; 0: one per core. Elements with the same model and as many threads share their sessions")
                .maximum(256)
                .default_value(defaults.threads)
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("post-messages", live.post_messages)
                .nick("Post messages")
                .blurb("Frames for which an element message named vadlite is posted on the bus")
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt64::builder("drift-interval")
                .nick("Drift interval")
                .blurb("Mean time between the frames whose scores are tested for drift, in ns. 0: every inspected frame shows a part of its own")
                .default_value(live.drift_interval)
                .mutable_playing()
                .build(),
            glib::ParamSpecUInt::builder("drift-limit")
                .nick("Drift limit")
                .blurb("Scores tested until a false message vadlite-drift, on average at least. 0: no test")
                .default_value(defaults.drift_limit)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("parts-expected")
                .nick("Parts expected")
                .blurb("Whole parts that a frame has to show, where the model locates parts: with another number it is flagged. 0: any number")
                .maximum(MOST_PARTS as u32)
                .default_value(live.parts_expected)
                .mutable_playing()
                .build(),
            text("mask", "Mask", "PNG that lies on the whole frame, for mode=learn: what is white in it is judged. A fitted model has its own"),
            text("stats-file", "Statistics file", "File that the statistics are written to every 5 s in Prometheus' text format, such as vadlite.prom in the folder of node_exporter's textfile collector"),
            text("stats-mqtt", "Statistics by MQTT", "mqtt://HOST[:PORT]/TOPIC or mqtts://… that the statistics are published on every 5 s, as JSON on TOPIC/stats beside TOPIC/status"),
            text("credentials", "Credentials", "File with lines user=, password= and ca= for stats-mqtt. Default: the variables VADLITE_MQTT_USER, VADLITE_MQTT_PASSWORD and VADLITE_MQTT_CA"),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Counts since the start, how long inspections took in ns, the model and the device in use")
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elements::vadlite::settings::{Overlay, PostMessages};

    /// What is changeable while playing is what is read with every frame, and `model`, which has a thread of its own for that.
    #[test]
    fn the_flags_say_when_a_property_is_read() {
        for pspec in properties() {
            let name = pspec.name();
            let value = match pspec.default_value().type_() {
                glib::Type::F64 => 0.5.to_value(),
                glib::Type::U32 => 77u32.to_value(),
                glib::Type::U64 => 77_000_000u64.to_value(),
                glib::Type::BOOL => true.to_value(),
                glib::Type::STRING => "text".to_value(),
                other if other == Overlay::static_type() => Overlay::Contour.to_value(),
                other if other == PostMessages::static_type() => PostMessages::All.to_value(),
                // The other enumerations and the statistics are none of a frame's business.
                _ => pspec.default_value().clone(),
            };
            let mut settings = Settings::default();
            // What is no value of the property is not taken.
            let _ = settings.set(name, &value);
            let per_frame = settings.live != Settings::default().live;
            let flags = pspec.flags();
            let playing = flags.contains(gst::PARAM_FLAG_MUTABLE_PLAYING);
            assert_eq!(playing, per_frame || name == "model", "{name}");
            let ready = flags.contains(gst::PARAM_FLAG_MUTABLE_READY);
            let read_only = !flags.contains(glib::ParamFlags::WRITABLE);
            assert_eq!(ready, !playing && !read_only, "{name}");
        }
    }

    #[test]
    fn every_property_is_explained_in_a_sentence_or_two() {
        for pspec in properties() {
            let name = pspec.name();
            let blurb = pspec.blurb().unwrap_or_default();
            assert!((15..=180).contains(&blurb.len()), "{name}: {blurb}");
            assert!(pspec.nick().len() > 3, "{name}");
        }
    }
}
