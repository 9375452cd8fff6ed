//! The element `vadliterecord`: a sink that records the seconds before and after flagged frames.

/**
 * SECTION:element-vadliterecord
 * @see_also: vadlite, vadlitetrigger
 *
 * `vadliterecord` encodes all the time, keeps the last seconds in memory, and writes them to a file when `vadlite` flags a frame: from
 * `pre-roll` before the first flagged frame (and the key frame before that, up to a second more) to `post-roll` after the last. Incidents
 * whose recordings would overlap are one. Where several `vadlite` in a row have looked at a frame, one that flags it is enough.
 *
 * An incident is up to three files in the folder `location`, whose common name begins with `incident-` and its time (UTC), so that names
 * sort by it:
 *
 * - `.mkv`, the video. A crash leaves it playable up to its last second or so. One that goes on for more than `max-duration` continues in
 *   another file with the next key frame, and nothing is lost between the two.
 * - `.json`, what is known: `file`, `complete` (false until the video is), `begun` (UTC), `start` (running time of the video's first frame
 *   in ns; the `time` of a flagged frame less this is its time in the video), `frames`, `model`, `worst_frame` and `score` (of the frame
 *   with the highest score), and `flagged`, the flagged results, each with `frame`, `time`, `score`, `threshold`, `model` and `regions`
 *   (`x`, `y`, `w`, `h` in 0..1 of the frame, and `score`); 10,000 of them at most. Where parts are located, `parts` has the ids of those that
 *   are flagged, of the incident and of each result.
 * - `.png`, the frame with the highest score, with its heatmap.
 *
 * `max-bytes` and `max-files` hold for all incidents in the folder, those of former runs and of other recorders as well; each file of a
 * long incident counts as one. The one that was just written stays, and so do those that are being written.
 *
 * When an incident is on the disk the element posts the element message `vadliterecord` with `location` (of the video), `frames`,
 * `flagged` and `score`: soon after its end, whether or not frames come then. One that cannot be written is a warning, once for each
 * reason, and the pipeline goes on. A recording of a live source never holds up the line: what the encoder or the disk is too slow for is
 * dropped, and memory is bounded. `docs/recorder.md` says what is kept, lost and deleted in what case.
 *
 * Frames that were not inspected flag nothing: they are in a recording where one beside them is flagged.
 *
 * The property `stats` counts `incidents` that are complete, `flagged` frames seen, `bytes` written to videos, incidents that `failed`,
 * pictures, descriptions and removals that were `missed`, incidents `removed` for the limits, frames `dropped` because the encoder or the
 * disk was too slow or the run-up too large, frames that were `untimed` (recorded by when they came), `jumps` of time stamps, and frames
 * with results `unread`.
 *
 * ## Example pipelines
 *
 * ```bash
 * gst-launch-1.0 videotestsrc num-buffers=50 ! vadlite model=part.vadlite ! vadliterecord location=incidents
 * ```
 * Records what is flagged.
 *
 * ```bash
 * gst-launch-1.0 videotestsrc num-buffers=50 ! vadlite model=part.vadlite ! tee name=t ! queue ! vadliterecord location=incidents max-bytes=10000000000 t. ! queue ! fakesink
 * ```
 * The same beside something else, with the oldest incidents removed when they take more than 10 GB.
 */
use gst::prelude::*;
use std::sync::LazyLock;

mod chain;
mod cutter;
mod encoder;
mod error;
mod imp;
mod inbox;
mod incident;
mod picture;
mod queued;
mod recorder;
mod retention;
mod settings;
mod stats;
mod stream;
mod timeline;
mod trial;
mod writer;

static CAT: LazyLock<gst::DebugCategory> = LazyLock::new(|| {
    gst::DebugCategory::new(
        "vadliterecord",
        gst::DebugColorFlags::empty(),
        Some("Incident recorder"),
    )
});

glib::wrapper! {
    /// A `GstBin` that is a sink for raw video.
    pub struct VadLiteRecord(ObjectSubclass<imp::VadLiteRecord>) @extends gst::Bin, gst::Element, gst::Object, @implements gst::ChildProxy;
}

pub fn register(plugin: &gst::Plugin) -> Result<(), glib::BoolError> {
    gst::Element::register(
        Some(plugin),
        "vadliterecord",
        gst::Rank::NONE,
        VadLiteRecord::static_type(),
    )
}
