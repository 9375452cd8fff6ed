//! `mode=learn` from a camera that uses 12 of 16 bits: as if it had delivered the same pictures in 8.

mod common;

use common::element::{Rig, Seen, frame, info};
use common::{Part, Picture, Random, assert_close, scratch};
use gst::prelude::*;
use gst_video::{VideoFormat as F, VideoInfo};
use gstvadlite::detector::model_file::{Metadata, ModelFile};
use std::path::{Path, PathBuf};

const FRAMES: usize = 40;
const SIZE: (usize, usize) = (320, 240);
/// Frames before the lamp is on.
const DARK: usize = 10;

fn part(seed: u64) -> Picture {
    Part::good(seed).picture(SIZE.0, SIZE.1).grey()
}

/// The picture with so many bits of 16 used.
fn deep(picture: &Picture, bits: u32) -> gst::Buffer {
    let white = (1u32 << bits) - 1;
    let sample = |pixel: &[u8]| ((u32::from(pixel[0]) * white + 127) / 255) as u16;
    let samples = picture.rgb.chunks_exact(3).map(sample);
    gst::Buffer::from_mut_slice(samples.flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
}

/// What a camera shows in the dark: noise, in the lowest bits.
fn noise(seed: u64) -> gst::Buffer {
    let mut random = Random::new(seed);
    let samples = (0..SIZE.0 * SIZE.1).map(|_| (200.0 * random.unit()) as u16);
    gst::Buffer::from_mut_slice(samples.flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
}

fn of_format(format: F) -> VideoInfo {
    info(format, &part(0))
}

/// Learns a model from the frames, whose source waits for it. Returns it, and how many of the frames were not inspected by it.
fn learn(name: &str, format: F, frames: impl Iterator<Item = gst::Buffer>) -> (PathBuf, usize) {
    common::element::init();
    let path = scratch().join(name);
    let text = format!(
        "appsrc name=a format=time ! vadlite name=v mode=learn method=padim-lite learn-frames={FRAMES} overlay=none model={} ! appsink name=s sync=false",
        path.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
    let by_name = |name| pipeline.by_name(name).unwrap();
    let source = by_name("a").downcast::<gst_app::AppSrc>().unwrap();
    let sink = by_name("s").downcast::<gst_app::AppSink>().unwrap();
    source.set_caps(Some(&of_format(format).to_caps().unwrap()));
    pipeline.set_state(gst::State::Playing).unwrap();
    for (number, mut buffer) in frames.enumerate() {
        let time = gst::ClockTime::from_mseconds(40 * number as u64);
        buffer.get_mut().unwrap().set_pts(time);
        source.push_buffer(buffer).unwrap();
    }
    source.end_of_stream().unwrap();
    let mut uninspected = 0;
    while let Ok(sample) = sink.pull_sample() {
        uninspected += usize::from(!Seen::of(sample.buffer().unwrap()).inspected);
    }
    let said = pipeline
        .bus()
        .unwrap()
        .pop_filtered(&[gst::MessageType::Error, gst::MessageType::Warning]);
    pipeline.set_state(gst::State::Null).unwrap();
    assert!(said.is_none(), "{said:?}");
    (path, uninspected)
}

fn metadata(path: &Path) -> Metadata {
    ModelFile::read(path).unwrap().metadata
}

#[test]
fn the_bits_that_a_camera_uses_are_found_while_it_plays_and_kept() {
    // Some look like an earlier one and are not learnt from.
    let shown = || (0..150).map(part);
    let eight_bits = shown().map(|picture| frame(&picture, &of_format(F::Gray8)));
    let (plain, first) = learn("bits-8.vadlite", F::Gray8, eight_bits);
    let (lit, second) = learn(
        "bits-12.vadlite",
        F::Gray16Le,
        shown().map(|picture| deep(&picture, 12)),
    );
    let dark = (0..DARK as u64).map(noise);
    let (dark_first, third) = learn(
        "bits-dark.vadlite",
        F::Gray16Le,
        dark.chain(shown().map(|picture| deep(&picture, 12))),
    );
    assert_eq!(metadata(&plain).sample_bits, None);
    for (model, uninspected, before) in [(&lit, second, 0), (&dark_first, third, DARK)] {
        let (found, expected) = (metadata(model), metadata(&plain));
        assert_eq!(found.sample_bits, Some(12), "{}", model.display());
        // The same frames are learnt from, and none of those in the dark.
        assert_eq!(uninspected, first + before);
        assert_eq!(found.good_images, expected.good_images);
        assert_eq!(found.left_out, expected.left_out);
        let (threshold, expected) = (f64::from(found.threshold), f64::from(expected.threshold));
        assert_close("threshold", threshold, expected, 0.05);
    }
    let defective = Part::defective(5000, 0.6, 0.45).picture(SIZE.0, SIZE.1);
    let score = |model: &Path, format, buffer| {
        let mut rig = Rig::new(&[("model", model.to_str().unwrap())]);
        rig.set_info(&of_format(format));
        let seen = Seen::of(&rig.pass(buffer));
        assert!(seen.flagged, "{} of {}", seen.score, seen.threshold);
        seen.score
    };
    let picture = defective.grey();
    let expected = score(&plain, F::Gray8, frame(&picture, &of_format(F::Gray8)));
    for model in [&lit, &dark_first] {
        let seen = score(model, F::Gray16Le, deep(&picture, 12));
        assert_close("score", seen, expected, 0.05);
    }
}

/// Too bright or too dark, which the score alone does not tell.
#[test]
fn frames_with_other_bits_than_the_models_are_said_once() {
    let mut model = ModelFile::read(&common::model().path).unwrap();
    let mut warnings = |learnt: Option<u8>, frames: &[gst::Buffer]| {
        model.metadata.sample_bits = learnt;
        let path = scratch().join("other-bits.vadlite");
        model.write(&path).unwrap();
        let mut rig = Rig::new(&[("model", path.to_str().unwrap())]);
        rig.set_info(&of_format(F::Gray16Le));
        for frame in frames {
            assert!(Seen::of(&rig.pass(frame.copy())).inspected);
        }
        rig.messages().1
    };
    let bright = deep(&part(1), 16);
    let (usual, dim) = (deep(&part(1), 12), deep(&part(1), 10));
    let frames = [usual.clone(), bright.clone(), bright.clone()];
    let said = warnings(Some(12), &frames);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].contains("frame 1 holds samples up to") && said[0].contains("12 bits"),
        "{said:?}"
    );
    assert_eq!(warnings(Some(16), &frames), Vec::<String>::new());
    // Of a few dark frames it is the lamp; a camera that never uses its bits is another one.
    let mut often = vec![dim.clone(); 99];
    assert_eq!(warnings(Some(14), &often), Vec::<String>::new());
    often.push(dim);
    let said = warnings(Some(14), &often);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("uses 10 of 16 bits"), "{said:?}");
    often[50] = bright;
    assert_eq!(warnings(None, &often), Vec::<String>::new());
    let said = warnings(None, &vec![usual; 120]);
    assert!(said.len() == 1 && said[0].contains("12 of 16"), "{said:?}");
}
