//! The element `vadlitetrigger`: fires the reject gate when a flagged part is there.

/**
 * SECTION:element-vadlitetrigger
 * @see_also: vadlite, vadliterecord
 *
 * `vadlitetrigger` reads the results that `vadlite` attaches to frames and opens a reject gate behind the camera: one part, one pulse,
 * when the part is there. Frames pass it untouched and are never held up.
 *
 * A flagged frame begins a part. Frames within `merge-window` of it show the same part, and `decision` says how they make one decision:
 * `any` flagged frame rejects the part (the default), the `majority` of its inspected frames, or the frame with the highest score (`max`).
 * It is made when the part is at the gate, from the frames that have come by then: `delay` after its first flagged frame was taken, or
 * when the belt has gone `distance` at the `belt-speed` that is set from time to time. A part that is known to be bad only after that is
 * fired for at once and counted as late.
 *
 * Where `vadlite` locates parts, each is a decision by itself, of all frames in which it was judged, however close it is to another one, and
 * `merge-window` is not used. Its way to the gate counts from when its middle passes the line through the middle of the frame, across the
 * belt's motion (`reference=centre`), or from its first flagged frame (`reference=first-flagged`). `belt-speed=-1` measures the speed by the
 * parts, with the width of what a frame shows in `field-of-view`. A part that no frame has judged counts as uninspected.
 *
 * Where several `vadlite` in a row have looked at a frame, one that flags it is enough.
 *
 * What passes uninspected is reported, and with `fail-safe=reject` rejected: a frame that a `vadlite` could not inspect (those that its
 * `interval` leaves out on purpose are none of these), one without a result, frames that are missing, and all that passes when no
 * inspected frame has come for `watchdog`: then the gate is held, without a gap, until what is inspected again is at the gate.
 * `docs/gate.md` lists all that can happen, and what is done then.
 *
 * Pulses go to the addresses in `output`, each with a thread and a queue of its own, so that none holds up the pipeline or another one:
 *
 * - `mqtt://HOST[:PORT]/TOPIC`, `mqtts://` for TLS: one JSON message a pulse at QoS 1; retained, `online` or `offline` on `TOPIC/status`,
 *   and on `TOPIC/gate` `hold` while the gate is to stay open without a gap, whatever pulses say, else `released`. While the broker is
 *   away, up to `queue-size` pulses wait for it; then they say how late they are.
 * - `modbus-tcp://HOST[:PORT]/COIL[?unit=N][&base=0|1]`: the coil is on for `pulse`, counted from when it was asked for, and while the gate
 *   is held. Coils count from 0 as in the protocol, or from 1 as in most manuals with `base=1`: `/16` and `/17?base=1` are the same. A
 *   pulse whose part has passed the gate is left out as missed. At the end of the element a pulse under way is cut after 1 s; where the
 *   connection is gone another one is made to switch off, for 2 s in all, and if that fails it is said: the coil may still be on.
 * - `gpio://CHIP/LINE[?active-low]`: the same with a line of the GPIO character device.
 *
 * Each pulse is an element message `vadlitetrigger` with `part`, `id` (that of a located part in the meta; else left out), `frame` (the one with the highest score; left out where no frame stands
 * for the part), `score`, `threshold`, `reason` (`flagged` or `fail-safe`), `due`, `fired`, `pulse` (its width), `late` and `dropped`; when
 * the gate is held or let go, that is a message `vadlitetrigger-gate` with `held` and `time`; what happens at an output is a message
 * `vadlitetrigger-output` with `output`, `event` (`connected`, `disconnected`, `missed`, `failed` or `left-on`) and `reason` or `part`.
 *
 * The property `stats` counts `pulses` fired; of these `late`, known after the part was at the gate, and `fail-safe`, for uninspected
 * parts; pulses `missed` by an output that was away, and `dropped` by a full queue; parts `lost`, which pass because 10,000 others are on
 * their way or the element is stopped; frames `uninspected` and `frames-lost`, and `implausible-times` of frames; `silences` longer than
 * `watchdog`, and how long the gate was `held` in ns; `connected` outputs and their `reconnects`; and `error-median`, `error-p99` and
 * `error-max` of the time of firing in ns, of those that were not late.
 *
 * Times in messages are running times in ns. Parts and pulses go by a monotonic clock: the belt stops neither for a pause nor for a
 * flush, and a frame whose time stamp cannot be believed is taken to be of now, which is reported once.
 * `GST_DEBUG=vadlitetrigger:5` logs what is decided about each part and when, `vadlitetrigger:6` every frame.
 *
 * ## Example launch line
 *
 * ```bash
 * gst-launch-1.0 videotestsrc num-buffers=50 ! vadlite model=part.vadlite ! vadlitetrigger delay=500000000 ! fakesink
 * ```
 * Half a second from the camera to the gate; pulses are posted on the bus only.
 *
 * ```bash
 * gst-launch-1.0 videotestsrc num-buffers=50 ! vadlite model=part.vadlite ! vadlitetrigger distance=0.8 belt-speed=0.5 merge-window=300000000 decision=majority fail-safe=reject watchdog=2000000000 ! fakesink
 * ```
 * A gate 0.8 m behind the camera. Parts are seen for up to 0.3 s, and what passes uninspected is rejected.
 *
 * ```bash
 * gst-launch-1.0 videotestsrc num-buffers=50 ! vadlite model=part.vadlite ! vadlitetrigger distance=0.8 belt-speed=-1 field-of-view=0.4 fail-safe=reject watchdog=2000000000 ! fakesink
 * ```
 * The same for parts that are located, on a belt of which a frame shows 0.4 m and whose speed nobody tells.
 */
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::sync::LazyLock;

mod belt;
mod gate;
mod imp;
mod located;
mod log;
mod observation;
// A build without some of the outputs leaves what they alone use.
#[cfg_attr(
    not(all(feature = "mqtt", feature = "modbus", feature = "gpio")),
    allow(dead_code, unused_variables)
)]
mod output;
mod parts;
mod properties;
#[cfg_attr(
    not(all(feature = "mqtt", feature = "modbus", feature = "gpio")),
    allow(dead_code)
)]
mod pulse;
mod schedule;
mod settings;
mod stamps;
mod stats;
mod travel;

pub use parts::Decision;
pub use settings::{FailSafe, Reference};

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vadlitetrigger",
        gst::DebugColorFlags::empty(),
        Some("Reject gate trigger"),
    )
});

glib::wrapper! {
    /// A `GstBaseTransform` that passes frames on untouched.
    pub struct VadLiteTrigger(ObjectSubclass<imp::VadLiteTrigger>) @extends gst_base::BaseTransform, gst::Element, gst::Object;
}

impl VadLiteTrigger {
    /// From the next start on parts and pulses go by `clock`, in place of the system's monotonic one: for tests and simulations.
    pub fn set_clock(&self, clock: impl IsA<gst::Clock>) {
        self.imp().set_clock(clock.upcast());
    }
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    for enumeration in [
        Decision::static_type(),
        FailSafe::static_type(),
        Reference::static_type(),
    ] {
        enumeration.mark_as_plugin_api(gst::PluginAPIFlags::empty());
    }
    gst::Element::register(
        Some(plugin),
        "vadlitetrigger",
        gst::Rank::NONE,
        VadLiteTrigger::static_type(),
    )
}
