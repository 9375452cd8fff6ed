//! The overlay in every format against an independent per-pixel computation in RGB.

use gst_video::{VideoFormat, VideoFrameRef, VideoInfo, VideoInterlaceMode};
use gstvadlite::geometry::Roi;
use gstvadlite::video::{
    colormap::turbo,
    formats::FORMATS,
    frame::WritableFrame,
    overlay::{MapView, Overlay, Style},
};
use ndarray::ArrayView2;
use proptest::prelude::*;

/// Mean and largest difference, of 255. Rows between two painted ones interpolate colours rather than scores (all formats: 0.15 and 11
/// here); one chroma sample for several pixels and 8 bits of limited range do the rest.
const LIMITS: (f64, f64) = (0.6, 18.0);
const WHOLE: Roi = Roi::WHOLE;

struct Map {
    values: Vec<f32>,
    width: usize,
    height: usize,
}

impl Map {
    fn new(width: usize, height: usize, value: impl Fn(f32, f32) -> f32) -> Self {
        let at = |i: usize, n: usize| (i as f32 + 0.5) / n as f32;
        let values = (0..width * height)
            .map(|i| value(at(i % width, width), at(i / width, height)))
            .collect();
        Self {
            values,
            width,
            height,
        }
    }

    /// Relative score 2 in the middle, 0.3 outside.
    fn blob() -> Self {
        Self::new(20, 16, |x, y| {
            let distance = (x - 0.45).powi(2) + (y - 0.55).powi(2);
            0.3 + 1.7 * (-distance / 0.03).exp()
        })
    }

    fn view(&self, roi: Roi) -> MapView<'_> {
        let values = ArrayView2::from_shape((self.height, self.width), &self.values);
        MapView {
            values: values.unwrap(),
            roi,
        }
    }

    /// The map at the middle of a pixel, bilinear.
    fn at(&self, x: usize, y: usize, width: usize, height: usize) -> f64 {
        let place = |i: usize, pixels: usize, cells: usize| {
            let at = (i as f64 + 0.5) / pixels as f64 * cells as f64 - 0.5;
            let at = at.clamp(0.0, (cells - 1) as f64);
            (at as usize, (at as usize + 1).min(cells - 1), at.fract())
        };
        let (x0, x1, fx) = place(x, width, self.width);
        let (y0, y1, fy) = place(y, height, self.height);
        let value = |x: usize, y: usize| f64::from(self.values[y * self.width + x]);
        let upper = value(x0, y0) * (1.0 - fx) + value(x1, y0) * fx;
        let lower = value(x0, y1) * (1.0 - fx) + value(x1, y1) * fx;
        upper * (1.0 - fy) + lower * fy
    }
}

fn info(format: VideoFormat, width: u32, height: u32, mode: VideoInterlaceMode) -> VideoInfo {
    VideoInfo::builder(format, width, height)
        .interlace_mode(mode)
        .build()
        .unwrap()
}

fn progressive(format: VideoFormat, width: u32, height: u32) -> VideoInfo {
    info(format, width, height, VideoInterlaceMode::Progressive)
}

fn convert(from: &gst::Buffer, from_info: &VideoInfo, to_info: &VideoInfo) -> gst::Buffer {
    let mut to = gst::Buffer::with_size(to_info.size()).unwrap();
    let mut config = gst_video::VideoConverterConfig::new();
    config.set_dither_method(gst_video::VideoDitherMethod::None);
    let converter = gst_video::VideoConverter::new(from_info, to_info, Some(config)).unwrap();
    let source = VideoFrameRef::from_buffer_ref_readable(from, from_info).unwrap();
    let mut target =
        VideoFrameRef::from_buffer_ref_writable(to.get_mut().unwrap(), to_info).unwrap();
    converter.frame_ref(&source, &mut target);
    drop(target);
    to
}

fn filled(info: &VideoInfo, value: u8) -> gst::Buffer {
    let mut buffer = gst::Buffer::with_size(info.size()).unwrap();
    buffer.make_mut().map_writable().unwrap().fill(value);
    buffer
}

/// A picture of soft colours as packed RGB.
fn picture(info: &VideoInfo) -> gst::Buffer {
    let (width, height) = (info.width() as usize, info.height() as usize);
    let mut data = vec![0u8; info.size()];
    for y in 0..height {
        for x in 0..width {
            let pixel = &mut data[y * info.stride()[0] as usize + 3 * x..][..3];
            pixel[0] = (60 + 120 * x / width) as u8;
            pixel[1] = (90 + 100 * y / height) as u8;
            pixel[2] = (180 - 100 * x / width) as u8;
        }
    }
    gst::Buffer::from_slice(data).copy_deep().unwrap()
}

/// The visible pixels of a packed RGB buffer.
fn pixels(buffer: &gst::Buffer, info: &VideoInfo) -> Vec<[f64; 3]> {
    let data = buffer.map_readable().unwrap();
    let row = |y: usize| &data[y * info.stride()[0] as usize..][..3 * info.width() as usize];
    (0..info.height() as usize)
        .flat_map(|y| {
            row(y)
                .chunks(3)
                .map(|p| [0, 1, 2].map(|i| f64::from(p[i])))
                .collect::<Vec<_>>()
        })
        .collect()
}

fn draw(buffer: &mut gst::Buffer, info: &VideoInfo, map: MapView<'_>, style: Style) {
    let buffer = buffer.make_mut();
    let mut frame = WritableFrame::map(buffer, info).unwrap();
    Overlay::new().draw(&mut frame, map, 1.0, style);
}

/// What the documentation promises, for one pixel.
fn heat(score: f64, grey: bool) -> (f64, [f64; 3]) {
    let rise = ((score - 0.7) / 0.6).clamp(0.0, 1.0);
    let colour = turbo(f64::min(0.6 + 0.3 * (score - 1.0), 0.9));
    let colour = if grey { [1.0; 3] } else { colour };
    (0.55 * rise * rise * (3.0 - 2.0 * rise), colour)
}

/// Draws the blob into `native` and gives the mean and largest difference (of 255) from the same drawn in RGB on what that format shows.
fn heatmap_error(native: &VideoInfo) -> (f64, f64) {
    let (width, height) = (native.width(), native.height());
    let rgb = info(VideoFormat::Rgb, width, height, native.interlace_mode());
    let map = Map::blob();
    let mut buffer = convert(&picture(&rgb), &rgb, native);
    let plain = pixels(&convert(&buffer, native, &rgb), &rgb);
    draw(&mut buffer, native, map.view(WHOLE), Style::Heatmap);
    let drawn = pixels(&convert(&buffer, native, &rgb), &rgb);
    let (mut sum, mut largest) = (0.0, 0.0f64);
    for (i, (before, after)) in plain.iter().zip(&drawn).enumerate() {
        let (x, y) = (i % width as usize, i / width as usize);
        let score = map.at(x, y, width as usize, height as usize);
        let (opacity, colour) = heat(score, native.is_gray());
        for channel in 0..3 {
            let expected = before[channel] * (1.0 - opacity) + 255.0 * colour[channel] * opacity;
            let error = (after[channel] - expected).abs();
            sum += error;
            largest = largest.max(error);
        }
    }
    (sum / (3 * plain.len()) as f64, largest)
}

#[test]
fn every_format_shows_what_rgb_shows() {
    gst::init().unwrap();
    for (width, height) in [(320, 240), (161, 123)] {
        for format in FORMATS {
            let (mean, largest) = heatmap_error(&progressive(format, width, height));
            println!("{format:?} {width}x{height}: mean {mean:.2}, largest {largest:.1}");
            assert!(
                mean < LIMITS.0 && largest < LIMITS.1,
                "{format:?}: {mean} {largest}"
            );
        }
    }
}

#[test]
fn every_colorimetry() {
    gst::init().unwrap();
    for format in [VideoFormat::Nv12, VideoFormat::Uyvy, VideoFormat::I420] {
        for text in [
            "bt601",
            "bt709",
            "bt2020",
            "smpte240m",
            "1:4:7:1",
            "1:3:5:1",
        ] {
            let colorimetry: gst_video::VideoColorimetry = text.parse().unwrap();
            let native = VideoInfo::builder(format, 320, 240)
                .colorimetry(&colorimetry)
                .build()
                .unwrap();
            let (mean, largest) = heatmap_error(&native);
            println!("{format:?} {text}: mean {mean:.2}, largest {largest:.1}");
            assert!(
                mean < LIMITS.0 && largest < LIMITS.1,
                "{format:?} {text}: {mean} {largest}"
            );
        }
    }
}

#[test]
fn interlaced_chroma_belongs_to_its_field() {
    gst::init().unwrap();
    for format in FORMATS {
        let native = info(format, 160, 120, VideoInterlaceMode::Interleaved);
        let (mean, largest) = heatmap_error(&native);
        println!("{format:?} interlaced: mean {mean:.2}, largest {largest:.1}");
        assert!(
            mean < LIMITS.0 && largest < LIMITS.1,
            "{format:?}: {mean} {largest}"
        );
    }
    // In a map that falls from top to bottom a chroma row tells where it lies: a picture four times as high has a row there.
    let map = Map::new(1, 8, |_, y| 2.0 - 2.0 * y);
    let chroma = |mode, height| -> Vec<i32> {
        let native = info(VideoFormat::I420, 8, height, mode);
        let mut buffer = filled(&native, 100);
        draw(&mut buffer, &native, map.view(WHOLE), Style::Heatmap);
        let data = buffer.map_readable().unwrap();
        let plane = data[native.offset()[2]..].chunks(native.stride()[2] as usize);
        plane
            .take(native.comp_height(2) as usize)
            .map(|row| row[0].into())
            .collect()
    };
    let high = chroma(VideoInterlaceMode::Progressive, 64);
    let fields = chroma(VideoInterlaceMode::Interleaved, 16);
    for (row, &value) in fields.iter().enumerate() {
        // Between luma rows 4k + f and 4k + f + 2, in pixels of 16.
        let middle = 4 * (row / 2) + row % 2;
        let expected = (high[2 * middle + 2] + high[2 * middle + 3]) / 2;
        assert!(
            (value - expected).abs() <= 2,
            "row {row}: {value} {expected}"
        );
    }
    assert_ne!(fields, chroma(VideoInterlaceMode::Progressive, 16));
}

#[test]
fn the_good_part_is_untouched() {
    gst::init().unwrap();
    let map = Map::blob();
    for format in FORMATS {
        for style in [Style::Heatmap, Style::Contour] {
            let native = progressive(format, 161, 123);
            let rgb = progressive(VideoFormat::Rgb, 161, 123);
            let before = convert(&picture(&rgb), &rgb, &native);
            let mut after = before.copy_deep().unwrap();
            draw(&mut after, &native, map.view(WHOLE), style);
            let (before, after) = (
                before.map_readable().unwrap(),
                after.map_readable().unwrap(),
            );
            let mut touched = 0;
            for component in 0..native.n_components().min(3) as u8 {
                let finfo = native.format_info();
                let (w, h) = (
                    finfo.w_sub()[component as usize],
                    finfo.h_sub()[component as usize],
                );
                for y in 0..native.comp_height(component) as usize {
                    for x in 0..native.comp_width(component) as usize {
                        let at = native.comp_offset(component)
                            + y * native.comp_stride(component) as usize
                            + x * native.comp_pstride(component) as usize;
                        if before[at] == after[at] {
                            continue;
                        }
                        touched += 1;
                        // Within eight rows or two pixels of something that is to be seen.
                        let (x, y) = (x << w, y << h);
                        let seen = (y.saturating_sub(8)..(y + 9).min(123)).any(|y| {
                            (x.saturating_sub(2)..(x + 3).min(161))
                                .any(|x| map.at(x, y, 161, 123) > 0.7)
                        });
                        assert!(
                            seen,
                            "{format:?} {style:?}: component {component} at {x}, {y}"
                        );
                    }
                }
            }
            assert!(touched > 100, "{format:?} {style:?}: {touched}");
        }
    }
}

#[test]
fn contour_is_a_line_of_its_width() {
    gst::init().unwrap();
    // Crosses the threshold in the middle, in both directions.
    let map = Map::new(16, 16, |x, y| 1.0 + 0.8 * (x - 0.5) + 0.8 * (y - 0.5));
    for format in FORMATS {
        for (width, height, thickness) in [(320u32, 320u32, 2.0), (64, 2160, 6.0)] {
            let native = progressive(format, width, height);
            let rgb = progressive(VideoFormat::Rgb, width, height);
            let grey = filled(&rgb, 128);
            let mut buffer = convert(&grey, &rgb, &native);
            draw(&mut buffer, &native, map.view(WHOLE), Style::Contour);
            let drawn = pixels(&convert(&buffer, &native, &rgb), &rgb);
            // Rows of the column in the middle; the line stands at 45 degrees in the first picture, nearly across in the second.
            let column: Vec<_> = drawn
                .iter()
                .skip(width as usize / 2)
                .step_by(width as usize)
                .collect();
            let lit = |p: &&&[f64; 3]| {
                if native.is_gray() {
                    p[0] > 180.0
                } else {
                    p[0] > 150.0 && p[1] < 110.0
                }
            };
            let rows = column.iter().filter(lit).count() as f64;
            let slant = f64::from(height).hypot(f64::from(width)) / f64::from(width);
            let across = rows / slant;
            println!("{format:?} {width}x{height}: {rows} rows, {across:.1} px");
            assert!((across - thickness).abs() <= 1.0, "{format:?}: {across}");
            // The edge by its luma: the red of subsampled chroma reaches into it.
            let luma = |p: &[f64; 3]| 0.299 * p[0] + 0.587 * p[1] + 0.114 * p[2];
            let (middle, far) = (height as usize / 2, (3.0 * slant * thickness) as usize);
            let beside = column[middle - far..middle].iter().map(|p| luma(p));
            let dark = beside.fold(255.0, f64::min);
            assert!(dark < 95.0, "{format:?}: edge {dark}");
            // Far from the line it is as before.
            assert!(column[0].iter().all(|v| (v - 128.0).abs() <= 4.0));
        }
    }
}

#[test]
fn odd_sizes_and_values() {
    gst::init().unwrap();
    let hot = Map::new(3, 2, |_, _| 2.0);
    for format in FORMATS {
        for (width, height) in [(1, 1), (1, 2), (2, 1), (3, 5), (16384, 2), (2, 16384)] {
            let native = progressive(format, width, height);
            let flat = vec![100u8; native.size()];
            let mut buffer = gst::Buffer::from_slice(flat.clone()).copy_deep().unwrap();
            draw(&mut buffer, &native, hot.view(WHOLE), Style::Heatmap);
            let data = buffer.map_readable().unwrap();
            // The first and the last sample of each component, and all between.
            for component in 0..native.n_components().min(3) as u8 {
                let at = |x: usize, y: usize| {
                    data[native.comp_offset(component)
                        + y * native.comp_stride(component) as usize
                        + x * native.comp_pstride(component) as usize]
                };
                let (w, h) = (native.comp_width(component), native.comp_height(component));
                for y in 0..h as usize {
                    assert!(
                        (0..w as usize).all(|x| at(x, y) == at(0, 0)),
                        "{format:?} {width}x{height}"
                    );
                }
                assert_ne!(
                    at(0, 0),
                    100,
                    "{format:?} {width}x{height} component {component}"
                );
            }
        }
        let native = progressive(format, 33, 17);
        let flat = vec![100u8; native.size()];
        let nothing = |map: MapView<'_>, threshold: f32| {
            let mut buffer = gst::Buffer::from_slice(flat.clone()).copy_deep().unwrap();
            let mut frame = WritableFrame::map(buffer.get_mut().unwrap(), &native).unwrap();
            for style in [Style::Heatmap, Style::Contour] {
                Overlay::new().draw(&mut frame, map, threshold, style);
            }
            drop(frame);
            buffer.map_readable().unwrap().as_slice() == flat
        };
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, 0.0, 0.69] {
            assert!(
                nothing(Map::new(4, 4, |_, _| value).view(WHOLE), 1.0),
                "{value}"
            );
        }
        for threshold in [0.0, -1.0, f32::NAN, f32::INFINITY] {
            assert!(nothing(hot.view(WHOLE), threshold), "{threshold}");
        }
        for roi in [
            [0.0; 4],
            [2.0, 0.0, 1.0, 1.0],
            [-2.0, 0.0, 1.0, 1.0],
            [f32::NAN, 0.0, 1.0, 1.0],
        ] {
            assert!(nothing(hot.view(roi.into()), 1.0), "{roi:?}");
        }
        let empty = MapView {
            values: ArrayView2::from_shape((0, 0), &[]).unwrap(),
            roi: WHOLE,
        };
        assert!(nothing(empty, 1.0));
    }
}

#[test]
fn drawn_inside_the_region_only() {
    gst::init().unwrap();
    let native = progressive(VideoFormat::Gray8, 64, 48);
    let mut buffer = filled(&native, 100);
    let hot = Map::new(4, 4, |_, _| 2.0);
    draw(
        &mut buffer,
        &native,
        hot.view(Roi::new(0.25, 0.5, 0.5, 0.25)),
        Style::Heatmap,
    );
    let data = buffer.map_readable().unwrap();
    for y in 0..48 {
        for x in 0..64 {
            let inside = (16..48).contains(&x) && (24..36).contains(&y);
            assert_eq!(
                data[y * native.stride()[0] as usize + x] != 100,
                inside,
                "{x}, {y}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]
    /// Whatever the strides, offsets, map and region: no byte is written but those of visible colour samples. Alpha, the x of RGBx and
    /// the padding keep theirs.
    #[test]
    fn only_visible_samples_are_written(
        format in 0..FORMATS.len(),
        width in 1u32..40,
        height in 1u32..24,
        padding in proptest::collection::vec(0usize..20, 8),
        interlaced in any::<bool>(),
        contour in any::<bool>(),
        (cells, values) in (1usize..9, 1usize..9).prop_flat_map(|(w, h)| {
            let value = prop_oneof![0.0..4.0f32, Just(1.0f32), Just(f32::NAN), Just(f32::INFINITY), Just(1e30f32)];
            (Just((w, h)), proptest::collection::vec(value, w * h))
        }),
        roi in (-0.5..1.0f32, -0.5..1.0f32, 0.001..2.0f32, 0.001..2.0f32),
    ) {
        gst::init().unwrap();
        let mode = if interlaced { VideoInterlaceMode::Interleaved } else { VideoInterlaceMode::Progressive };
        let native = info(FORMATS[format], width, height, mode);
        // Planes one after another, each with its own gap before it and padding at each row's end.
        let finfo = native.format_info();
        let (mut offsets, mut strides, mut size) = (vec![], vec![], 0);
        for plane in 0..native.n_planes() as usize {
            let stride = native.stride()[plane] as usize + padding[plane] * 4;
            size += padding[4 + plane] * 2;
            offsets.push(size);
            strides.push(stride as i32);
            let component = finfo.plane().iter().position(|&p| p as usize == plane).unwrap();
            // GStreamer rounds plane heights up.
            size += stride * (native.comp_height(component as u8) as usize + 3);
        }
        let before: Vec<u8> = (0..size).map(|i| (i * 7 % 251) as u8).collect();
        let mut buffer = gst::Buffer::from_slice(before.clone()).copy_deep().unwrap();
        gst_video::VideoMeta::add_full(
            buffer.get_mut().unwrap(), gst_video::VideoFrameFlags::empty(), FORMATS[format], width, height, &offsets, &strides,
        ).unwrap();
        let map = MapView { values: ArrayView2::from_shape((cells.1, cells.0), &values).unwrap(), roi: Roi::new(roi.0, roi.1, roi.2, roi.3) };
        let style = if contour { Style::Contour } else { Style::Heatmap };
        draw(&mut buffer, &native, map, style);
        let mut visible = vec![false; size];
        for component in 0..native.n_components().min(3) as usize {
            let plane = finfo.plane()[component] as usize;
            let bytes = finfo.depth()[component] as usize / 8;
            for y in 0..native.comp_height(component as u8) as usize {
                for x in 0..native.comp_width(component as u8) as usize {
                    let at = offsets[plane] + y * strides[plane] as usize
                        + finfo.poffset()[component] as usize + x * finfo.pixel_stride()[component] as usize;
                    visible[at..at + bytes].fill(true);
                }
            }
        }
        let after = buffer.map_readable().unwrap();
        for i in 0..size {
            prop_assert!(visible[i] || before[i] == after[i], "byte {} of {:?}", i, FORMATS[format]);
        }
    }
}
