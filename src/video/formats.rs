//! The raw formats of the elements: those that cameras deliver. This is the one list of them.

use gst_video::VideoFormat as F;

/// In the order in which they are offered to a source that can choose: without conversion and with few bytes first.
pub const FORMATS: [F; 15] = [
    F::Nv12,
    F::I420,
    F::Yuy2,
    F::Gray8,
    F::Rgb,
    F::Bgr,
    F::Rgbx,
    F::Bgrx,
    F::Rgba,
    F::Bgra,
    F::Xrgb,
    F::Nv21,
    F::Yv12,
    F::Uyvy,
    F::Gray16Le,
];

/// Whether frames of this format can be inspected and drawn into.
pub fn is_supported(format: F) -> bool {
    FORMATS.contains(&format)
}

/// Caps of all formats, in any size, in system memory.
pub fn caps() -> gst::Caps {
    gst_video::VideoCapsBuilder::new()
        .format_list(FORMATS)
        .build()
}
