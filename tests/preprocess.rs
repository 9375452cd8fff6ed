//! Preprocessing against its definition: a two-dimensional triangle filter over each component, then the colour equations.

mod common;

use common::Random;
use common::layout::{Place, places};
use gst_video::{VideoFormat as F, VideoInfo};
use gstvadlite::detector::taps::Normalization;
use gstvadlite::geometry::{Roi, Size};
use gstvadlite::video::preprocess::{Layout, Plane, Preprocess, Target};
use proptest::prelude::*;

/// A picture of random bytes with random padding.
struct Raw {
    format: F,
    width: usize,
    height: usize,
    planes: Vec<(Vec<u8>, usize)>,
}

impl Raw {
    fn new(format: F, width: usize, height: usize, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let places = places(format);
        let count = places.iter().map(|place| place.0 + 1).max().unwrap();
        // Patches of one shade with noise: neither flat nor noise alone.
        let shades: Vec<f64> = (0..64).map(|_| 255.0 * random.unit()).collect();
        let planes = (0..count).map(|plane| {
            let mut row = 0;
            let mut rows = 0;
            for &(_, first, step, across, down) in places.iter().filter(|place| place.0 == plane) {
                row = row.max(
                    first
                        + (width.div_ceil(across) - 1) * step
                        + if format == F::Gray16Le { 2 } else { 1 },
                );
                rows = rows.max(height.div_ceil(down));
            }
            let stride = row + random.below(9);
            // Not a byte more than needed.
            let data = (0..stride * (rows - 1) + row).map(|index| {
                let (x, y) = (index % stride * 8 / stride, index / stride * 8 / rows);
                (shades[8 * y + x] + 60.0 * random.unit() - 30.0).clamp(0.0, 255.0) as u8
            });
            (data.collect(), stride)
        });
        Self {
            format,
            width,
            height,
            planes: planes.collect(),
        }
    }

    fn sample(&self, (plane, first, step, ..): Place, x: usize, y: usize) -> f64 {
        let (data, stride) = &self.planes[plane];
        let place = y * stride + first + x * step;
        if self.format == F::Gray16Le {
            f64::from(u16::from_le_bytes([data[place], data[place + 1]])) * 255.0 / 65535.0
        } else {
            f64::from(data[place])
        }
    }
}

/// Weights of the inputs for one output: a triangle as wide as the reduction, at least one input wide to each side.
fn triangle(inputs: usize, from: f64, to: f64, outputs: usize, output: usize) -> Vec<(usize, f64)> {
    let scale = (to - from) / outputs as f64;
    let reach = scale.max(1.0);
    let centre = from + (output as f64 + 0.5) * scale;
    let weights =
        (0..inputs).map(|input| (input, 1.0 - (input as f64 + 0.5 - centre).abs() / reach));
    let weights: Vec<_> = weights.filter(|&(_, weight)| weight > 0.0).collect();
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    weights
        .into_iter()
        .map(|(input, weight)| (input, weight / total))
        .collect()
}

/// RGB in 0..255 at an output pixel.
fn reference(raw: &Raw, info: &VideoInfo, target: &Target, row: usize, column: usize) -> [f64; 3] {
    let [x, y, width, height] = <[f32; 4]>::from(target.roi).map(f64::from);
    let site = info.chroma_site();
    let values: Vec<f64> = places(raw.format)
        .into_iter()
        .map(|place| {
            let (_, _, _, across, down) = place;
            // A co-sited chroma sample lies at the middle of the first luma sample of its block: half a luma pixel, or a quarter of
            // a chroma one, before the block's middle.
            let shift = |flag, block| {
                if block == 2 && site.contains(flag) {
                    0.25
                } else {
                    0.0
                }
            };
            let across_shift = shift(gst_video::VideoChromaSite::H_COSITED, across);
            let down_shift = shift(gst_video::VideoChromaSite::V_COSITED, down);
            let (w, h) = (
                raw.width as f64 / across as f64,
                raw.height as f64 / down as f64,
            );
            let columns = triangle(
                raw.width.div_ceil(across),
                x * w + across_shift,
                (x + width) * w + across_shift,
                target.size.width,
                column,
            );
            let rows = triangle(
                raw.height.div_ceil(down),
                y * h + down_shift,
                (y + height) * h + down_shift,
                target.size.height,
                row,
            );
            let mut sum = 0.0;
            for &(input_row, row_weight) in &rows {
                for &(input_column, column_weight) in &columns {
                    sum += row_weight * column_weight * raw.sample(place, input_column, input_row);
                }
            }
            sum
        })
        .collect();
    let limited = info.colorimetry().range() == gst_video::VideoColorRange::Range16_235;
    let luma = |value: f64| {
        if limited {
            (value - 16.0) * 255.0 / 219.0
        } else {
            value
        }
    };
    let chroma = |value: f64| (value - 128.0) * if limited { 255.0 / 224.0 } else { 1.0 };
    let rgb = match (values[..].len(), info.is_rgb()) {
        (1, _) => [luma(values[0]); 3],
        (_, true) => [values[0], values[1], values[2]],
        _ => {
            let (luma, u, v) = (luma(values[0]), chroma(values[1]), chroma(values[2]));
            match info.colorimetry().matrix() {
                // The equations of ITU-R BT.709 and BT.601 with their published coefficients.
                gst_video::VideoColorMatrix::Bt709 => [
                    luma + 1.5748 * v,
                    luma - 0.18732 * u - 0.46812 * v,
                    luma + 1.8556 * u,
                ],
                _ => [
                    luma + 1.402 * v,
                    luma - 0.344136 * u - 0.714136 * v,
                    luma + 1.772 * u,
                ],
            }
        }
    };
    rgb.map(|value| value.clamp(0.0, 255.0))
}

fn format() -> impl Strategy<Value = F> {
    prop::sample::select(common::element::FORMATS.to_vec())
}

fn roi() -> impl Strategy<Value = Roi> {
    let part = prop_oneof![Just((0.0f32, 1.0f32)), (0.0f32..0.9, 0.1f32..1.0)];
    let part = part.prop_map(|(from, length)| (from, length.min(1.0 - from)));
    (part.clone(), part).prop_map(|((x, width), (y, height))| Roi::new(x, y, width, height))
}

fn side() -> impl Strategy<Value = usize> {
    prop_oneof![1..8usize, 8..90usize, Just(16usize)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_definition(
        format in format(), width in side(), height in side(), roi in roi(), out_width in 1..40usize, out_height in 1..40usize,
        seed in any::<u64>(), colorimetry in prop::sample::select(vec!["bt601", "bt709", "1:4:0:0"]),
        site in prop::sample::select(vec!["jpeg", "mpeg2", "cosited"]),
    ) {
        common::element::init();
        let raw = Raw::new(format, width, height, seed);
        let rgb = VideoInfo::builder(format, 1, 1).build().unwrap().is_rgb();
        let mut info = VideoInfo::builder(format, width as u32, height as u32);
        let colorimetry = colorimetry.parse().unwrap();
        if !rgb {
            info = info.colorimetry(&colorimetry).chroma_site(site.parse().unwrap());
        }
        let info = info.build().unwrap();
        let target = Target { size: Size::new(out_height, out_width), normalization: Normalization { mean: [0.5, 0.4, 0.3], std: [0.5, 0.25, 0.2] }, roi };
        let planes: Vec<Plane<'_>> = raw.planes.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
        let mut tensor = target.tensor();
        tensor.fill(f32::NAN);
        let mut preprocess = Preprocess::new(Layout::from_info(&info).unwrap(), target);
        preprocess.run(&planes, tensor.view_mut()).unwrap();
        for row in 0..out_height {
            for column in 0..out_width {
                let expected = reference(&raw, &info, &target, row, column);
                for channel in 0..3 {
                    let value = f64::from(tensor[[channel, row, column]]);
                    let value = (value * f64::from(target.normalization.std[channel]) + f64::from(target.normalization.mean[channel])) * 255.0;
                    prop_assert!(
                        (value - expected[channel]).abs() < 0.01,
                        "{:?} {}x{} to {}x{}, roi {:?}, channel {} at {},{}: {} instead of {}",
                        format, width, height, out_width, out_height, roi, channel, column, row, value, expected[channel]
                    );
                }
            }
        }
        // It remembers nothing of the last picture.
        let before = tensor.clone();
        preprocess.run(&planes, tensor.view_mut()).unwrap();
        prop_assert_eq!(before, tensor);
    }

    /// A plane that is one byte short is refused, and nothing behind a plane's last sample is read.
    #[test]
    fn short_planes_are_refused(format in format(), width in side(), height in side(), cut in 1..50usize, which in any::<prop::sample::Index>()) {
        common::element::init();
        let raw = Raw::new(format, width, height, 3);
        let info = VideoInfo::builder(format, width as u32, height as u32).build().unwrap();
        let target = Target { size: Size::new(7, 5), normalization: Normalization { mean: [0.0; 3], std: [1.0; 3] }, roi: Roi::WHOLE };
        let mut preprocess = Preprocess::new(Layout::from_info(&info).unwrap(), target);
        let mut tensor = target.tensor();
        let mut planes: Vec<Plane<'_>> = raw.planes.iter().map(|(data, stride)| Plane { data, stride: *stride }).collect();
        prop_assert!(preprocess.run(&planes, tensor.view_mut()).is_ok());
        let index = which.index(planes.len());
        let short = planes[index].data.len().saturating_sub(cut);
        planes[index].data = &planes[index].data[..short];
        let reason = preprocess.run(&planes, tensor.view_mut()).unwrap_err().to_string();
        prop_assert!(reason.contains(&format!("plane {index}")), "{}", reason);
        planes.truncate(index);
        let reason = preprocess.run(&planes, tensor.view_mut()).unwrap_err().to_string();
        prop_assert!(reason.contains("is missing"), "{}", reason);
    }
}

#[test]
fn files_and_frames_have_one_layout() {
    common::element::init();
    let picture = common::Part::defective(1, 0.5, 0.5).picture(61, 47);
    let target = Target {
        size: Size::square(32),
        normalization: Normalization::IMAGENET,
        roi: Roi::new(0.1, 0.2, 0.7, 0.6),
    };
    let info = VideoInfo::builder(F::Rgb, 61, 47).build().unwrap();
    let mut tensor = target.tensor();
    let plane = Plane {
        data: &picture.rgb,
        stride: 3 * 61,
    };
    Preprocess::new(Layout::from_info(&info).unwrap(), target)
        .run(&[plane], tensor.view_mut())
        .unwrap();
    assert_eq!(picture.tensor(target), tensor);
}
