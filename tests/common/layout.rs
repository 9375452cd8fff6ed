//! Where the formats of the elements keep their samples: written down from GStreamer's format documentation, not taken from its tables.

use gst_video::VideoFormat as F;

/// Where a format keeps one of its components: plane, first byte, distance of neighbours in bytes, subsampling across and down.
pub type Place = (usize, usize, usize, usize, usize);

/// Its one or three components; alpha and what only fills a pixel up are left out.
pub fn places(format: F) -> Vec<Place> {
    match format {
        F::Gray8 => vec![(0, 0, 1, 1, 1)],
        F::Gray16Le => vec![(0, 0, 2, 1, 1)],
        F::Rgb => packed([0, 1, 2], 3),
        F::Bgr => packed([2, 1, 0], 3),
        F::Rgbx | F::Rgba => packed([0, 1, 2], 4),
        F::Bgrx | F::Bgra => packed([2, 1, 0], 4),
        F::Xrgb => packed([1, 2, 3], 4),
        F::Nv12 => vec![(0, 0, 1, 1, 1), (1, 0, 2, 2, 2), (1, 1, 2, 2, 2)],
        F::Nv21 => vec![(0, 0, 1, 1, 1), (1, 1, 2, 2, 2), (1, 0, 2, 2, 2)],
        F::I420 => vec![(0, 0, 1, 1, 1), (1, 0, 1, 2, 2), (2, 0, 1, 2, 2)],
        F::Yv12 => vec![(0, 0, 1, 1, 1), (2, 0, 1, 2, 2), (1, 0, 1, 2, 2)],
        F::Yuy2 => vec![(0, 0, 2, 1, 1), (0, 1, 4, 2, 1), (0, 3, 4, 2, 1)],
        F::Uyvy => vec![(0, 1, 2, 1, 1), (0, 0, 4, 2, 1), (0, 2, 4, 2, 1)],
        _ => unreachable!(),
    }
}

fn packed(order: [usize; 3], pixel: usize) -> Vec<Place> {
    order.map(|offset| (0, offset, pixel, 1, 1)).to_vec()
}

/// Bytes of one sample.
pub fn sample_bytes(format: F) -> usize {
    if format == F::Gray16Le { 2 } else { 1 }
}

/// Of each plane the bytes of a row up to its last sample, and the rows.
pub fn extents(format: F, width: usize, height: usize) -> Vec<(usize, usize)> {
    let places = places(format);
    let planes = places.iter().map(|place| place.0 + 1).max().unwrap_or(0);
    let mut extents = vec![(0, 0); planes];
    for (plane, first, step, across, down) in places {
        let last = first + (width.div_ceil(across) - 1) * step;
        let (row, rows) = &mut extents[plane];
        *row = (*row).max(last + sample_bytes(format));
        *rows = (*rows).max(height.div_ceil(down));
    }
    // Alpha is a sample too.
    if matches!(format, F::Rgba | F::Bgra) {
        extents[0].0 = 4 * width;
    }
    extents
}
