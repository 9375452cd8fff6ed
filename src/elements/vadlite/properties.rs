//! The properties of `vadlite`: their ranges and descriptions.

use super::settings::Settings;
use crate::elements::text;
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
                .blurb("The fitted .vadlite file: made by `vadlite fit`, or with mode=learn the one to write. Needed. Set while playing, the new model is opened beside the running one and takes over between two frames; one that cannot be used is refused with a warning, and the old one stays")
                .mutable_playing()
                .build(),
            text("backbone", "Backbone", "ONNX file of the backbone. Default: the file that the model names, looked up beside the model, beside the plugin and in the installed data folder"),
            text("onnxruntime", "ONNX Runtime", "Path of the ONNX Runtime library (libonnxruntime.so). Default: ORT_DYLIB_PATH, beside the plugin, the folder filled by ./setup, then the system's. One library serves a whole process"),
            glib::ParamSpecEnum::builder_with_default("mode", defaults.mode).nick("Mode").blurb("What to do with frames. In learn they pass uninspected, with a bar for the progress drawn on them, until learn-frames of them make a model; an element message vadlite-learn says how far it is").mutable_ready().build(),
            glib::ParamSpecEnum::builder_with_default("method", defaults.method).nick("Method").blurb("What mode=learn fits").mutable_ready().build(),
            glib::ParamSpecUInt::builder("learn-frames")
                .nick("Learn frames")
                .blurb("Frames of good parts that mode=learn takes. Frames that show what another one did already (at most one in a thousand of 112x112 samples differs by more than 2 % of full scale: an empty or standing belt) do not count, nor those of a camera that come faster than they are taken in; a file waits, and its end waits for the model. Of those taken, frames unlike the others are left out in the end: a held-out score beyond Tukey's outer fence and three times that of nine tenths of them")
                .minimum(10)
                .maximum(100_000)
                .default_value(defaults.learn_frames)
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("reload", defaults.reload).nick("Reload").blurb("When the model is loaded again").mutable_ready().build(),
            glib::ParamSpecDouble::builder("threshold")
                .nick("Threshold")
                .blurb("Raw score above which a frame is flagged; 0: the model's own, or what false-reject-rate asks for")
                .minimum(0.0)
                .maximum(f64::MAX)
                .default_value(live.threshold)
                .mutable_playing()
                .build(),
            glib::ParamSpecDouble::builder("false-reject-rate")
                .nick("False reject rate")
                .blurb("Choose the threshold so that at most this share of good parts is flagged, from the model's calibration; 0: the model's own. The property threshold goes first. A rate that is too small for the number of good images is an error")
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
            text("tiles", "Tiles", "COLUMNSxROWS that the inspected part is cut into, each seen by the backbone in full size: for small defects in large or line-scan frames. Given with mode=learn, or with vadlite fit --tiles; otherwise those of the model, and others are an error"),
            glib::ParamSpecUInt::builder("interval")
                .nick("Interval")
                .blurb("Inspect every n-th frame; the others pass with inspected=false")
                .minimum(1)
                .default_value(live.interval)
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("device", defaults.device).nick("Device").blurb("Where the backbone runs. A device that the ONNX Runtime library lacks, or that refuses, is an error; the one in use is in stats").mutable_ready().build(),
            glib::ParamSpecUInt::builder("threads")
                .nick("Threads")
                .blurb("Threads of the backbone; 0: one per core. Elements with the same model and as many threads share their sessions: with n threads one session per n cores, and two at least")
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
                .blurb("Mean time between the frames whose scores are tested for drift, in ns: so long that they show different parts; 0: every inspected frame, where each shows a part of its own")
                .default_value(live.drift_interval)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("drift-limit")
                .nick("Drift limit")
                .blurb("An element message vadlite-drift says when scores have become higher or lower than those of the good parts that the threshold was set on (a dirty lens, another lamp) by a quarter of the way from their median to the threshold, or more than a fifth of frames are flagged; fewer flagged frames count as defects. Scores tested until a false one, on average at least; 0: no test")
                .default_value(live.drift_limit)
                .mutable_ready()
                .build(),
            text("stats-file", "Statistics file", "File that the statistics are written to every 5 s in Prometheus' text format, such as vadlite.prom in the folder of node_exporter's textfile collector"),
            text("stats-mqtt", "Statistics by MQTT", "mqtt://HOST[:PORT]/TOPIC or mqtts://… that the statistics are published on every 5 s: JSON on TOPIC/stats, and online or offline (by the last will, too) on TOPIC/status, both retained. A broker that is away holds up nothing"),
            text("credentials", "Credentials", "File with lines user=, password= and ca= for stats-mqtt. Default: the variables VADLITE_MQTT_USER, VADLITE_MQTT_PASSWORD and VADLITE_MQTT_CA"),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("frames, inspected, flagged, failed, frames-lost: counts since the start; latency-median, latency-p99: of an inspection, in ns; device: where the backbone runs; model: the file in use; reloads, reloads-refused: models that took over, and that could not; drift: how much speaks for a drift, 0 to 1; drift-alarms: drifts reported")
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
