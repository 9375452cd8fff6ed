//! The same picture in every format, size, stride and interlacing scores the same.

mod common;

use common::element::{FORMATS, Rig, Seen, bytes, frame, info, init, structure};
use common::{Part, Picture, assert_close};
use gst_video::VideoFormat as F;
use gst_video::{VideoFrameRef, VideoInfo};
use gstvadlite::detector::model_file::ModelFile;
use std::collections::BTreeSet;

fn defective() -> Part {
    Part::defective(1000, 0.4, 0.62)
}

fn is_grey(format: F) -> bool {
    matches!(format, F::Gray8 | F::Gray16Le)
}

/// How far a format's rounding to eight bits and its shared chroma samples may move a score.
fn tolerance(format: F) -> f64 {
    match format {
        F::Gray8 | F::Gray16Le => 0.01,
        F::Nv12 | F::Nv21 | F::I420 | F::Yv12 | F::Yuy2 | F::Uyvy => 0.03,
        _ => 1e-6,
    }
}

#[test]
fn the_formats_are_those_that_cameras_deliver() {
    init();
    let expected = [
        "GRAY8",
        "GRAY16_LE",
        "RGB",
        "BGR",
        "RGBx",
        "BGRx",
        "RGBA",
        "BGRA",
        "xRGB",
        "NV12",
        "NV21",
        "I420",
        "YV12",
        "YUY2",
        "UYVY",
    ];
    let factory = gst::ElementFactory::find("vadlite").unwrap();
    for template in factory.static_pad_templates() {
        let caps = template.caps();
        let formats: gst::List = caps.structure(0).unwrap().get("format").unwrap();
        let formats: BTreeSet<String> = formats.iter().map(|name| name.get().unwrap()).collect();
        assert_eq!(formats, expected.map(str::to_owned).into());
    }
}

#[test]
fn every_format_scores_like_rgb() {
    let picture = defective().picture(320, 240);
    let mut rig = Rig::new(&[]);
    let colour = rig.inspect(&picture, F::Rgb);
    let grey = rig.inspect(&picture.grey(), F::Rgb);
    assert!(colour.flagged && (colour.score / grey.score - 1.0).abs() > 0.002);
    for format in FORMATS {
        let (seen, expected) = if is_grey(format) {
            (rig.inspect(&picture.grey(), format), &grey)
        } else {
            (rig.inspect(&picture, format), &colour)
        };
        assert_close(
            format.to_str(),
            seen.score,
            expected.score,
            tolerance(format),
        );
        assert!(seen.points_at(0.4, 0.62), "{format:?}: {:?}", seen.regions);
    }
}

#[test]
fn one_picture_scores_the_same_at_every_size() {
    let mut large = defective().clean(3840, 2160);
    // Grain and hatching finer than the input of the network: a resize that skips pixels turns them into a pattern.
    let mut random = common::Random::new(9);
    for (index, sample) in large.rgb.iter_mut().enumerate() {
        let hatching = if index / 3 % 3840 % 6 < 3 {
            10.0
        } else {
            -10.0
        };
        let grain = 40.0 * random.unit() - 20.0;
        *sample = (f64::from(*sample) + hatching + grain).clamp(0.0, 255.0) as u8;
    }
    let pictures = [large.shrunk(1920, 1080), large.shrunk(640, 480), large];
    let mut rig = Rig::new(&[]);
    let mut scores = Vec::new();
    for picture in &pictures {
        for format in [F::Rgb, F::Nv12] {
            let score = rig.inspect(picture, format).score;
            scores.push((
                format!("{format:?} {}x{}", picture.width, picture.height),
                score,
            ));
        }
    }
    for (a, first) in &scores {
        for (b, second) in &scores {
            assert_close(&format!("{a} and {b}"), *first, *second, 0.03);
        }
    }
}

#[test]
fn sizes_from_one_pixel_to_a_long_line() {
    let plain = |width: usize, height: usize, rgb: [u8; 3]| Picture {
        width,
        height,
        rgb: rgb.repeat(width * height),
    };
    let mut rig = Rig::new(&[("overlay-always", "true")]);
    let colour = rig.inspect(&plain(224, 224, [120, 140, 100]), F::Rgb).score;
    let grey = rig.inspect(&plain(224, 224, [130; 3]), F::Rgb).score;
    let sizes = [
        (1, 1),
        (2, 1),
        (1, 2),
        (3, 5),
        (1, 777),
        (641, 479),
        (16384, 2),
        (2, 16384),
    ];
    for format in FORMATS {
        for (width, height) in sizes {
            let (rgb, expected) = if is_grey(format) {
                ([130; 3], grey)
            } else {
                ([120, 140, 100], colour)
            };
            let seen = rig.inspect(&plain(width, height, rgb), format);
            assert!(seen.inspected);
            // One shade of difference in a chroma sample fills the whole picture here.
            let tolerance = tolerance(format).max(1e-5);
            assert_close(
                &format!("{format:?} {width}x{height}"),
                seen.score,
                expected,
                tolerance,
            );
        }
    }
    assert_eq!(rig.stat::<u64>("failed"), 0);
    assert_eq!(rig.messages().1, Vec::<String>::new());
}

/// The same frame with other strides and offsets, described by a video meta; what is between the rows is noise.
fn padded(buffer: &gst::Buffer, info: &VideoInfo) -> gst::Buffer {
    let source = VideoFrameRef::from_buffer_ref_readable(buffer, info).unwrap();
    let mut random = common::Random::new(5);
    let (mut data, mut offsets, mut strides) = (Vec::new(), Vec::new(), Vec::new());
    for plane in 0..info.n_planes() {
        data.extend((0..64 + 10 * plane).map(|_| random.bits() as u8));
        let stride = info.stride()[plane as usize] as usize;
        let padded = stride + 37 * (plane as usize + 2);
        offsets.push(data.len());
        strides.push(padded as i32);
        for row in source.plane_data(plane).unwrap().chunks_exact(stride) {
            data.extend_from_slice(row);
            data.extend((stride..padded).map(|_| random.bits() as u8));
        }
    }
    let mut buffer = gst::Buffer::from_mut_slice(data);
    gst_video::VideoMeta::add_full(
        buffer.get_mut().unwrap(),
        gst_video::VideoFrameFlags::empty(),
        info.format(),
        info.width(),
        info.height(),
        &offsets,
        &strides,
    )
    .unwrap();
    buffer
}

#[test]
fn padding_between_rows_and_planes_is_not_looked_at() {
    init();
    for (width, height) in [(320, 240), (161, 121)] {
        let picture = defective().picture(width, height);
        let mut rig = Rig::new(&[("overlay", "none")]);
        for format in FORMATS {
            let info = info(format, &picture);
            rig.set_info(&info);
            let tight = frame(&picture, &info);
            let padded = padded(&tight, &info);
            let before = bytes(&padded);
            let tight = Seen::of(&rig.pass(tight));
            let out = rig.pass(padded);
            let seen = Seen::of(&out);
            assert_eq!(
                (seen.score, &seen.map),
                (tight.score, &tight.map),
                "{format:?} {width}x{height}"
            );
            assert_eq!(bytes(&out), before);
        }
    }
}

#[test]
fn the_fourth_byte_is_not_looked_at() {
    let picture = defective().picture(320, 240);
    let mut rig = Rig::new(&[]);
    for (format, place) in [
        (F::Rgba, 3),
        (F::Bgra, 3),
        (F::Rgbx, 3),
        (F::Bgrx, 3),
        (F::Xrgb, 0),
    ] {
        let info = info(format, &picture);
        rig.set_info(&info);
        let scores = [0, 77, 255].map(|fourth| {
            let mut buffer = frame(&picture, &info);
            {
                let mut data = buffer.get_mut().unwrap().map_writable().unwrap();
                data.iter_mut()
                    .skip(place)
                    .step_by(4)
                    .for_each(|byte| *byte = fourth);
            }
            Seen::of(&rig.pass(buffer)).score
        });
        assert!(
            scores[0] == scores[1] && scores[1] == scores[2],
            "{format:?} {scores:?}"
        );
    }
}

#[test]
fn colour_matrix_and_range_are_those_of_the_caps() {
    let picture = defective().picture(320, 240);
    let mut rig = Rig::new(&[]);
    let rgb = rig.inspect(&picture, F::Rgb).score;
    for colorimetry in ["bt601", "bt709", "bt2020", "1:4:0:0", "1:3:0:0"] {
        for format in [F::Nv12, F::Yuy2] {
            let info = VideoInfo::builder(format, 320, 240)
                .colorimetry(&colorimetry.parse().unwrap())
                .build()
                .unwrap();
            rig.set_info(&info);
            // Its transfer function and primaries stay: a camera's picture is taken as it is.
            let buffer = frame(&picture, &info);
            let score = Seen::of(&rig.pass(buffer)).score;
            assert_close(&format!("{format:?} {colorimetry}"), score, rgb, 0.03);
        }
    }
    // Full-range grey.
    let grey = picture.grey();
    let expected = rig.inspect(&grey, F::Rgb).score;
    for format in [F::Gray8, F::Gray16Le] {
        for colorimetry in ["1:4:0:0", "2:4:0:0"] {
            let info = VideoInfo::builder(format, 320, 240)
                .colorimetry(&colorimetry.parse().unwrap())
                .build()
                .unwrap();
            rig.set_info(&info);
            let score = Seen::of(&rig.pass(frame(&grey, &info))).score;
            assert_close(&format!("{format:?} {colorimetry}"), score, expected, 0.03);
        }
    }
}

#[test]
fn interlaced_frames_are_looked_at_whole() {
    let picture = defective().picture(320, 240);
    let mut rig = Rig::new(&[]);
    for format in [F::Rgb, F::Nv12, F::I420, F::Yuy2] {
        let progressive = rig.inspect(&picture, format).score;
        for mode in [
            gst_video::VideoInterlaceMode::Interleaved,
            gst_video::VideoInterlaceMode::Mixed,
        ] {
            let info = VideoInfo::builder(format, 320, 240)
                .interlace_mode(mode)
                .build()
                .unwrap();
            let buffer = frame(&picture, &info_of(format));
            rig.set_info(&info);
            let mut buffer = buffer.copy_deep().unwrap();
            buffer
                .get_mut()
                .unwrap()
                .set_flags(gst::BufferFlags::from_bits_retain(
                    gst_video::VideoBufferFlags::INTERLACED.bits()
                        | gst_video::VideoBufferFlags::TFF.bits(),
                ));
            let seen = Seen::of(&rig.pass(buffer));
            assert_close(
                &format!("{format:?} {mode:?}"),
                seen.score,
                progressive,
                0.03,
            );
        }
    }
}

fn info_of(format: F) -> VideoInfo {
    VideoInfo::builder(format, 320, 240).build().unwrap()
}

#[test]
fn size_and_format_change_mid_stream() {
    let steps = [
        (F::Nv12, 320, 240),
        (F::Rgb, 160, 120),
        (F::Gray8, 640, 480),
        (F::Yuy2, 33, 17),
        (F::Nv12, 320, 240),
    ];
    let mut rig = Rig::new(&[("overlay-always", "true")]);
    for (index, (format, width, height)) in steps.into_iter().enumerate() {
        let picture = defective().picture(width, height);
        let alone = Rig::new(&[("overlay-always", "true")]).inspect(&picture, format);
        for repeat in 0..2 {
            let seen = rig.inspect(&picture, format);
            assert_eq!(seen.frame, 2 * index as u64 + repeat);
            assert_eq!(
                (seen.score, &seen.regions),
                (alone.score, &alone.regions),
                "{format:?} {width}x{height}"
            );
        }
    }
}

#[test]
fn a_frame_that_cannot_be_read_is_counted_and_passes_on() {
    let picture = defective().picture(320, 240);
    let mut rig = Rig::new(&[("overlay-always", "true"), ("post-messages", "all")]);
    let info = info(F::Rgb, &picture);
    rig.set_info(&info);
    let good = frame(&picture, &info);
    let short = gst::Buffer::from_mut_slice(bytes(&good)[..100_000].to_vec());
    let empty = gst::Buffer::new();
    // A meta whose rows run past the end of the memory.
    let mut outside = good.copy_deep().unwrap();
    {
        let outside = outside.get_mut().unwrap();
        gst_video::VideoMeta::add(
            outside,
            gst_video::VideoFrameFlags::empty(),
            F::Rgb,
            320,
            240,
        )
        .unwrap();
        outside.replace_all_memory(gst::Memory::from_slice(vec![0u8; 320]));
    }
    let mut upside_down = good.copy_deep().unwrap();
    let last = 960 * 239;
    gst_video::VideoMeta::add_full(
        upside_down.get_mut().unwrap(),
        gst_video::VideoFrameFlags::empty(),
        F::Rgb,
        320,
        240,
        &[last],
        &[-960],
    )
    .unwrap();

    assert!(Seen::of(&rig.pass(good.copy_deep().unwrap())).inspected);
    for (index, buffer) in [short, empty, outside, upside_down].into_iter().enumerate() {
        let before = bytes(&buffer);
        let out = rig.pass(buffer);
        assert_eq!(bytes(&out), before);
        let structure = structure(&out);
        let seen = Seen::from_structure(&structure);
        assert!(
            !seen.inspected && !seen.flagged,
            "buffer {index} counts as inspected"
        );
        assert!(seen.map.is_none() && seen.regions.is_empty());
        assert_eq!(seen.score, 0.0);
        assert_eq!(rig.stat::<u64>("failed"), 1 + index as u64);
    }
    assert!(Seen::of(&rig.pass(good)).inspected);
    assert_eq!(
        (rig.stat::<u64>("frames"), rig.stat::<u64>("inspected")),
        (6, 2)
    );
    let (messages, warnings) = rig.messages();
    let inspected: Vec<bool> = messages
        .iter()
        .map(|message| message.get("inspected").unwrap())
        .collect();
    assert_eq!(inspected, [true, false, false, false, false, true]);
    // Two cannot be mapped, which is told once; one says more than its memory holds, and one has rows upside down.
    assert_eq!(warnings.len(), 3, "one for each kind: {warnings:?}");
    assert!(
        warnings[0].contains("frame 1") && warnings[0].contains("320x240"),
        "{warnings:?}"
    );

    // Later ones are counted.
    rig.pass(gst::Buffer::new());
    assert_eq!(rig.messages().1.len(), 0);
    assert_eq!(rig.stat::<u64>("failed"), 5);
}

/// A meta of so many rows more than the caps have, which the memory has not.
fn taller(buffer: &gst::Buffer, info: &VideoInfo, rows: u32) -> gst::Buffer {
    let mut buffer = buffer.copy_deep().unwrap();
    gst_video::VideoMeta::add_full(
        buffer.get_mut().unwrap(),
        gst_video::VideoFrameFlags::empty(),
        info.format(),
        info.width(),
        info.height() + rows,
        info.offset(),
        info.stride(),
    )
    .unwrap();
    buffer
}

#[test]
fn a_meta_larger_than_the_caps_is_looked_at_and_drawn_into_as_the_caps_say() {
    let picture = defective().picture(320, 240);
    let mut rig = Rig::new(&[("overlay-always", "true")]);
    for format in FORMATS {
        let info = info(format, &picture);
        rig.set_info(&info);
        let plain = frame(&picture, &info);
        let taller = taller(&plain, &info, 100_000);
        let (plain, taller) = (rig.pass(plain), rig.pass(taller));
        let (seen, expected) = (Seen::of(&taller), Seen::of(&plain));
        assert_eq!(
            (seen.score, &seen.regions, &seen.map),
            (expected.score, &expected.regions, &expected.map),
            "{format:?}"
        );
        assert_eq!(bytes(&taller), bytes(&plain), "{format:?}");
    }
    assert_eq!(rig.stat::<u64>("failed"), 0);
}

/// A camera of 12 bits in samples of 16: white is 4095 for a model that was learnt from such images, and 65535 for another.
#[test]
fn grey_frames_of_16_bits_are_scaled_as_the_model_says() {
    let picture = defective().picture(320, 240).grey();
    let expected = Rig::new(&[]).inspect(&picture, F::Gray8).score;
    let samples: Vec<u8> = picture
        .rgb
        .chunks_exact(3)
        .flat_map(|pixel| (u16::from(pixel[0]) * 257 / 16).to_le_bytes())
        .collect();
    let info = VideoInfo::builder(F::Gray16Le, 320, 240).build().unwrap();
    let mut model = ModelFile::read(&common::model().path).unwrap();
    model.metadata.sample_bits = Some(12);
    let path = common::scratch().join("twelve-bits.vadlite");
    model.write(&path).unwrap();
    let score = |properties: &[(&str, &str)]| {
        let mut rig = Rig::new(properties);
        rig.set_info(&info);
        Seen::of(&rig.pass(gst::Buffer::from_slice(samples.clone()))).score
    };
    assert_close(
        "12 bits",
        score(&[("model", path.to_str().unwrap())]),
        expected,
        0.03,
    );
    let dark = score(&[]);
    assert!(
        (dark - expected).abs() > 0.1 * expected,
        "{dark} {expected}"
    );
}
