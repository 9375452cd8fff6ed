//! The properties of `vadlitetrigger`: their ranges and descriptions.

use super::settings::{MEASURED, Settings};
use crate::elements::text;
use gst::prelude::*;
use std::sync::LazyLock;

/// The property specifications, with the defaults of [`Settings`].
pub fn properties() -> &'static [glib::ParamSpec] {
    static PROPERTIES: LazyLock<Vec<glib::ParamSpec>> = LazyLock::new(|| {
        let defaults = Settings::default();
        let live = defaults.live;
        let time = |name: &str, nick: &str, default: u64, blurb: &str| {
            glib::ParamSpecUInt64::builder(name)
                .nick(nick)
                .blurb(blurb)
                .default_value(default)
                .mutable_playing()
                .build()
        };
        let number = |name: &str, nick: &str, minimum: f64, blurb: &str| {
            glib::ParamSpecDouble::builder(name)
                .nick(nick)
                .blurb(blurb)
                .minimum(minimum)
                .maximum(1e9)
                .mutable_playing()
                .build()
        };
        vec![
            text("output", "Output", "Where pulses go besides the bus, separated by spaces: mqtt://HOST[:PORT]/TOPIC, mqtts://HOST[:PORT]/TOPIC, modbus-tcp://HOST[:PORT]/COIL[?unit=N][&base=0|1] (the first coil is 0, with base=1 it is 1), gpio://CHIP/LINE[?active-low]"),
            text("credentials", "Credentials", "File with lines user=, password= and ca= for MQTT. Default: the variables VADLITE_MQTT_USER, VADLITE_MQTT_PASSWORD and VADLITE_MQTT_CA"),
            glib::ParamSpecUInt::builder("queue-size")
                .nick("Queue size")
                .blurb("Pulses that wait for an output; of more, the oldest is dropped and counted")
                .minimum(1)
                .maximum(100_000)
                .default_value(defaults.queue_size)
                .mutable_ready()
                .build(),
            time("delay", "Delay", live.delay, "Time of a part from the camera to the gate, in ns: from when its first flagged frame was taken, or, where vadlite locates parts, as reference says"),
            number("distance", "Distance", 0.0, "Distance from the camera to the gate, in m. Where it is set, a part is at the gate when the belt has gone so far, and delay is not used; 0: delay holds"),
            number("belt-speed", "Belt speed", MEASURED, "Speed of the belt, in m/s, as an encoder may set it all the time; it holds for parts under way too. 0: the belt stands, and nothing comes to the gate. -1: measured, by the parts that vadlite locates, which needs field-of-view"),
            number("field-of-view", "Field of view", 0.0, "Width of what a frame shows of the belt, in m: what belt-speed=-1 measures with"),
            glib::ParamSpecEnum::builder_with_default("reference", live.reference)
                .nick("Reference")
                .blurb("Where vadlite locates parts: from when on the way of a part to the gate counts")
                .mutable_playing()
                .build(),
            time("pulse", "Pulse", live.pulse, "How long the gate rejects for one part, in ns"),
            time("merge-window", "Merge window", live.merge_window, "Frames within so many ns of a part's first flagged frame show the same part, where vadlite does not locate parts, each of which is decided on by itself. At least as long as a part is seen, and at most from its end to the next part"),
            glib::ParamSpecEnum::builder_with_default("decision", live.decision)
                .nick("Decision")
                .blurb("How the frames of a part make one decision, when the part is at the gate")
                .mutable_playing()
                .build(),
            glib::ParamSpecEnum::builder_with_default("fail-safe", live.fail_safe)
                .nick("Fail safe")
                .blurb("What happens to parts that pass uninspected")
                .mutable_playing()
                .build(),
            time("watchdog", "Watchdog", live.watchdog, "Longest time without an inspected frame, in ns. After it fail-safe=reject holds the gate, from where the last inspected frame is at it until frames are inspected again; 0: no limit, and a dead camera is not noticed"),
            glib::ParamSpecBoxed::builder::<gst::Structure>("stats")
                .nick("Statistics")
                .blurb("Counted since the start: pulses, late, missed, dropped, lost, fail-safe, uninspected, frames-lost, implausible-times, silences, held (ns), reconnects, failures (of outputs' threads), connected, and the error of firing in ns (error-median, error-p99, error-max)")
                .read_only()
                .build(),
        ]
    });
    &PROPERTIES
}
