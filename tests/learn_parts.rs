//! `mode=learn` where frames show parts at any place and angle: each part is learnt from once, from a belt and from stills.

mod common;

use common::element::{Rig, element, frame, info, start_error};
use common::lever::{HALF, HEIGHT, Lever, WIDTH, picture, result_of};
use common::program::{folder, run};
use common::{Part, Picture, scratch};
use gst::prelude::*;
use gst_video::VideoFormat as F;
use gstvadlite::detector::model_file::ModelFile;
use gstvadlite::video::meta::{FrameResult, PartResult};
use std::f32::consts::TAU;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// What came of frames that were shown to a learning element.
struct Learnt {
    results: Vec<(FrameResult<'static>, Vec<PartResult>)>,
    /// The fields of `vadlite-learn`, in their order.
    progress: Vec<gst::Structure>,
    /// Of the progress in words.
    texts: Vec<String>,
    warnings: Vec<String>,
    error: Option<String>,
}

impl Learnt {
    /// The first frame that was inspected.
    fn first(&self) -> usize {
        let first = self.results.iter().position(|(result, _)| result.inspected);
        first.unwrap_or_else(|| panic!("no model: {:?} {:?}", self.warnings, self.error))
    }

    fn done(&self) -> &gst::Structure {
        let mut done = self.progress.iter();
        let done = done.find(|progress| progress.get("phase") == Ok("done"));
        done.expect("nothing is said of the end")
    }
}

/// Shows pictures to an element that learns from the first of them. The source waits for it.
fn learn(
    model: &Path,
    properties: &str,
    timed: bool,
    pictures: impl Iterator<Item = Picture>,
) -> Learnt {
    common::element::init();
    let text = format!(
        "appsrc name=a format=time max-bytes=0 \
         ! vadlite name=v mode=learn method=padim-lite overlay=none threads=1 {properties} model={} ! fakesink sync=false",
        model.display()
    );
    let pipeline = gst::parse::launch(&text).unwrap();
    let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
    let source: gst_app::AppSrc = pipeline.by_name("a").unwrap().downcast().unwrap();
    let mut pictures = pictures.peekable();
    let info = info(F::Rgb, pictures.peek().unwrap());
    source.set_caps(Some(&info.to_caps().unwrap()));
    let results = Arc::new(Mutex::new(Vec::new()));
    let list = results.clone();
    let pad = pipeline.by_name("v").unwrap().static_pad("src").unwrap();
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        let mut result = result_of(info.buffer().unwrap());
        let parts = result.parts.take().unwrap_or_default().into_owned();
        list.lock().unwrap().push((result, parts));
        gst::PadProbeReturn::Ok
    });
    pipeline.set_state(gst::State::Playing).unwrap();
    for (number, picture) in pictures.enumerate() {
        let mut buffer = frame(&picture, &info);
        if timed {
            let time = gst::ClockTime::from_mseconds(40 * number as u64);
            buffer.get_mut().unwrap().set_pts(time);
        }
        if source.push_buffer(buffer).is_err() {
            break;
        }
    }
    let _ = source.end_of_stream();
    let mut learnt = Learnt {
        results: Vec::new(),
        progress: Vec::new(),
        texts: Vec::new(),
        warnings: Vec::new(),
        error: None,
    };
    let bus = pipeline.bus().unwrap();
    loop {
        let message = bus.timed_pop(gst::ClockTime::from_seconds(120));
        match message.expect("no end in two minutes").view() {
            gst::MessageView::Element(element) => {
                let structure = element.structure().unwrap();
                if structure.name() == "vadlite-learn" {
                    learnt.progress.push(structure.to_owned());
                }
            }
            gst::MessageView::Progress(progress) => learnt.texts.push(progress.get().2.to_owned()),
            gst::MessageView::Warning(warning) => {
                let text = warning.error().message().to_owned();
                learnt.warnings.push(text);
            }
            gst::MessageView::Error(error) => {
                learnt.error = Some(error.error().message().to_owned());
                break;
            }
            gst::MessageView::Eos(_) => break,
            _ => {}
        }
    }
    pipeline.set_state(gst::State::Null).unwrap();
    learnt.results = std::mem::take(&mut results.lock().unwrap());
    learnt
}

/// Pixels that the belt moves from frame to frame.
const STEP: f32 = 23.0;
/// Pixels from one lever of a lane to the next.
const PITCH: f32 = 140.0;

/// The frame from which on the belt is lighter: after what parts are known by.
const WORN: usize = 60;

/// Levers that lie on a belt of two lanes, each at an angle and with looks of its own.
struct Belt {
    levers: Vec<Lever>,
}

impl Belt {
    fn new(count: usize, bad_from: usize) -> Self {
        let mut random = fastrand::Rng::with_seed(11);
        let levers = (0..count).map(|number| {
            let (lane, place) = (number % 2, (number / 2) as f32);
            let jitter = 10.0 * (random.f32() - 0.5);
            let x = -1.3 * HALF - PITCH * (place + 0.5 * lane as f32) + jitter;
            let y = 75.0 + 150.0 * lane as f32 + jitter;
            Lever {
                own: 0.1 + random.f32(),
                spot: (number >= bad_from && number % 4 == 1).then_some(-0.5),
                ..Lever::at(x, y, TAU * random.f32())
            }
        });
        Self {
            levers: levers.collect(),
        }
    }

    /// Where levers are in a frame.
    fn at(&self, frame: usize) -> Vec<Lever> {
        let moved = self.levers.iter().map(|lever| Lever {
            x: lever.x + STEP * frame as f32,
            ..*lever
        });
        moved
            .filter(|lever| (-2.0 * HALF..WIDTH as f32 + 2.0 * HALF).contains(&lever.x))
            .collect()
    }

    /// The belt is worn: from a frame on it is lighter.
    fn picture(&self, frame: usize) -> Picture {
        let mut picture = picture(&self.at(frame), 3000 + frame as u64);
        if frame >= WORN {
            let belt = picture.rgb.iter_mut().filter(|level| **level < 90);
            belt.for_each(|level| *level += 30);
        }
        picture
    }

    /// The first frame that shows so many levers or a piece of them, of those that have come up to then.
    fn frame_of(&self, count: usize) -> usize {
        let comes = self.levers[count - 1].x + HALF;
        (-comes / STEP).max(0.0) as usize
    }
}

const LEARNT: usize = 40;

#[test]
fn a_belt_is_learnt_part_by_part_and_bad_ones_are_found() {
    let model = scratch().join("belt.vadlite");
    let belt = Belt::new(LEARNT + 24, LEARNT + 4);
    let frames = belt.frame_of(LEARNT + 24) + 24;
    let learnt = learn(
        &model,
        &format!("learn-frames={LEARNT} locate=part"),
        true,
        (0..frames).map(|frame| belt.picture(frame)),
    );
    assert_eq!(learnt.error, None);
    // Each part once: the last one that is wanted has to come, and no other one is waited for.
    let (first, comes) = (learnt.first(), belt.frame_of(LEARNT));
    assert!(
        (comes..comes + 14).contains(&first),
        "{first}, and part {LEARNT} comes with frame {comes}"
    );
    let done = learnt.done();
    let number = |name: &str| done.get::<u64>(name).unwrap();
    assert_eq!(
        (number("frames"), number("learn-frames")),
        (LEARNT as u64, LEARNT as u64)
    );
    // Views of the same parts in later frames.
    assert!(number("duplicates") > 4 * LEARNT as u64, "{done:?}");
    let located: String = done.get("located").unwrap();
    assert!(located.contains("any angle"), "{located}");
    let told = |text: &String| text.contains("parts are located: ") && text.contains(&located);
    assert_eq!(learnt.texts.iter().filter(|text| told(text)).count(), 1);
    assert!(
        learnt
            .texts
            .iter()
            .any(|text| text.contains("40 parts; 0 were left out")),
        "{:?}",
        learnt.texts.last()
    );
    let counts = learnt.progress.iter().filter_map(|progress| {
        let parts = progress.get::<&str>("located").is_ok();
        parts.then(|| progress.get::<u64>("frames").unwrap())
    });
    assert!(counts.collect::<Vec<_>>().is_sorted());
    let metadata = ModelFile::read(&model).unwrap().metadata;
    assert_eq!(metadata.good_images + metadata.left_out, LEARNT);
    let size = metadata.input_size;
    assert!(size.width > size.height, "{size}");

    let (mut views, mut wrong) = ([0, 0], [0, 0]);
    for (number, (result, parts)) in learnt.results.iter().enumerate().skip(first) {
        assert!(result.inspected, "frame {number}");
        let levers = belt.at(number);
        for part in parts.iter().filter(|part| part.inspected) {
            let lever = levers.iter().find(|lever| lever.near(part));
            let lever = lever.unwrap_or_else(|| panic!("frame {number}: {part:?} is no lever"));
            let bad = usize::from(lever.spot.is_some());
            views[bad] += 1;
            wrong[bad] += usize::from(part.flagged != lever.spot.is_some());
        }
    }
    let [good, bad] = views;
    assert!(good > 100 && bad > 40, "{views:?}");
    // One in forty is allowed of the good ones.
    assert!(
        wrong[0] * 10 <= good && wrong[1] == 0,
        "{wrong:?} of {views:?}"
    );
}

/// Where parts differ by no more than noise, the belt tells which is which: but for the first ones, before its speed is known.
#[test]
fn parts_that_look_alike_are_learnt_once_each_from_a_belt() {
    const ALIKE: usize = 24;
    let model = scratch().join("alike.vadlite");
    let mut belt = Belt::new(ALIKE + 8, usize::MAX);
    belt.levers.iter_mut().for_each(|lever| lever.own = 0.0);
    let frames = belt.frame_of(ALIKE + 8);
    // A camera in poor light: views of one part resemble each other no more than those of two.
    let noisy = |frame: usize| {
        let mut picture = belt.picture(frame);
        let mut random = fastrand::Rng::with_seed(7000 + frame as u64);
        for level in &mut picture.rgb {
            let noise = 60.0 * (random.f32() - 0.5);
            *level = (f32::from(*level) + noise).clamp(0.0, 255.0) as u8;
        }
        picture
    };
    let learnt = learn(
        &model,
        &format!("learn-frames={ALIKE} locate=part"),
        true,
        (0..frames).map(noisy),
    );
    assert_eq!(learnt.error, None);
    let (first, comes) = (learnt.first(), belt.frame_of(ALIKE - 2));
    assert!(
        (comes..belt.frame_of(ALIKE) + 14).contains(&first),
        "{first}, and part {} comes with frame {comes}",
        ALIKE - 2
    );
}

/// A lever about in the middle, at any angle.
fn still(seed: u64) -> Lever {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut near = |middle: usize| middle as f32 / 2.0 + 30.0 * (random.f32() - 0.5);
    let (x, y) = (near(WIDTH), near(HEIGHT));
    Lever {
        own: 0.1 + random.f32(),
        ..Lever::at(x, y, TAU * random.f32())
    }
}

/// The next part lies about where the last one did: every picture is learnt from, as `vadlite fit` would.
#[test]
fn every_still_is_a_part_and_the_model_is_that_of_the_program() {
    const STILLS: u64 = 40;
    let model = scratch().join("stills.vadlite");
    let good = || (0..STILLS).map(|seed| picture(&[still(seed)], seed));
    let bad = (100..110).map(|seed| {
        let spot = Some(-0.5);
        picture(
            &[Lever {
                spot,
                ..still(seed)
            }],
            seed,
        )
    });
    let properties = format!("learn-frames={STILLS}");
    // What is seen again, as in a loop over files, is known.
    let seen_again = good().take(3);
    let pictures = good()
        .take(5)
        .chain(seen_again)
        .chain(good().skip(5))
        .chain(bad);
    let learnt = learn(&model, &properties, false, pictures);
    assert_eq!(learnt.first(), STILLS as usize + 3);
    let done = learnt.done();
    assert_eq!(done.get::<u64>("frames"), Ok(STILLS));
    for (number, (result, parts)) in learnt.results.iter().enumerate().skip(learnt.first()) {
        assert!(parts.len() == 1 && result.flagged, "{number}: {parts:?}");
    }

    let images = folder("stills");
    for (seed, picture) in good().enumerate() {
        picture.save(&images.join(format!("{seed:02}.png")));
    }
    let by_program = scratch().join("program.vadlite");
    let arguments = [
        "fit",
        "--method",
        "padim-lite",
        "--locate",
        "part",
        "--images",
    ];
    let paths = [
        images.to_str().unwrap(),
        "--out",
        by_program.to_str().unwrap(),
    ];
    run(arguments.into_iter().chain(paths), 0);
    let [own, other] = [&model, &by_program].map(|path| ModelFile::read(path).unwrap());
    let [part, of_program] = [&own, &other].map(|model| model.metadata.part.unwrap());
    assert_eq!(own.metadata.input_size, other.metadata.input_size);
    assert_eq!(own.metadata.image_size, other.metadata.image_size);
    assert_eq!(own.metadata.judged, other.metadata.judged);
    assert_eq!(own.metadata.located, other.metadata.located);
    assert_eq!(part.scene, of_program.scene);
    assert_eq!((part.turns, part.count), (of_program.turns, Some(1)));
    for (own, other) in [
        (part.scale, of_program.scale),
        (part.length, of_program.length),
        (part.area, of_program.area),
        (part.background[0], of_program.background[0]),
    ] {
        assert!((own / other - 1.0).abs() < 0.01, "{part:?} {of_program:?}");
    }
    let (template, of_program) = (own.template.unwrap(), other.template.unwrap());
    let off = template.iter().zip(&of_program);
    let off = off.map(|(own, other)| f64::from(own.abs_diff(*other)));
    let mean = off.sum::<f64>() / template.len() as f64;
    assert!(mean < 2.0, "templates differ by {mean}");
}

#[test]
fn the_number_of_parts_is_no_frame_s() {
    // Six good levers a frame, all of another picture: fifty are there after nine frames, before eight a part can be known by have gone.
    let model = scratch().join("many.vadlite");
    let six = |number: u64| {
        let mut random = fastrand::Rng::with_seed(500 + number);
        let levers: Vec<Lever> = (0..6)
            .map(|place| {
                let (column, row) = ((place % 3) as f32, (place / 3) as f32);
                let x = 70.0 + 130.0 * column + 12.0 * random.f32();
                let y = 75.0 + 145.0 * row + 12.0 * random.f32();
                Lever {
                    own: 0.1 + random.f32(),
                    ..Lever::at(x, y, TAU * random.f32())
                }
            })
            .collect();
        picture(&levers, number)
    };
    let learnt = learn(
        &model,
        "learn-frames=60 locate=part",
        false,
        (0..10).map(six),
    );
    assert_eq!(learnt.error, None);
    assert_eq!(learnt.warnings, [""; 0]);
    let metadata = ModelFile::read(&model).unwrap().metadata;
    assert_eq!(metadata.good_images + metadata.left_out, 60);
}

#[test]
fn a_part_that_lies_still_is_learnt_as_whole_frames() {
    let model = scratch().join("still.vadlite");
    let pictures = || (0..60).map(|seed| Part::good(seed).picture(320, 240));
    let asked = learn(&model, "learn-frames=20", true, pictures());
    let located: String = asked.done().get("located").unwrap();
    assert!(located.starts_with("whole pictures: "), "{located}");
    assert!(
        asked.texts.iter().any(|text| text.contains(&located)),
        "{:?}",
        asked.texts
    );
    let metadata = ModelFile::read(&model).unwrap().metadata;
    assert!(metadata.part.is_none());
    assert_eq!(metadata.located.as_ref(), Some(&located));
    // The same frames and the same threshold as if nobody had looked for parts.
    let unasked = learn(&model, "learn-frames=20 locate=none", true, pictures());
    assert!(!unasked.done().has_field("located"));
    assert_eq!(asked.first(), unasked.first());
    let other = ModelFile::read(&model).unwrap().metadata;
    assert_eq!(other.located, None);
    assert_eq!(other.threshold, metadata.threshold);
}

#[test]
fn parts_that_are_asked_for_and_are_not_there_are_an_error() {
    let model = scratch().join("none.vadlite");
    let noise = |seed: u64| {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut picture = picture(&[], seed);
        let lighter = (20.0 * random.f32()) as u8;
        picture.rgb.iter_mut().for_each(|level| *level += lighter);
        picture
    };
    let learnt = learn(
        &model,
        "learn-frames=10 locate=part",
        true,
        (0..40).map(noise),
    );
    let error = learnt.error.expect("no error");
    for word in [
        "could not be learnt",
        "no parts to locate: 0 of ",
        "the property locate",
    ] {
        assert!(error.contains(word), "{error}");
    }
    assert!(!model.exists());
}

#[test]
fn what_lies_on_the_whole_picture_does_not_go_with_parts() {
    let mask = scratch().join("mask.png");
    image::GrayImage::from_pixel(8, 8, image::Luma([255]))
        .save(&mask)
        .unwrap();
    let mask = mask.to_str().unwrap();
    let out = scratch().join("refused.vadlite");
    let common = [("mode", "learn"), ("model", out.to_str().unwrap())];
    for other in [("mask", mask), ("tiles", "2x1")] {
        let all = |locate| [&common[..], &[("locate", locate), other]].concat();
        let error = start_error(&element(&all("part")));
        for word in ["the property locate", other.0] {
            assert!(error.contains(word), "{error}");
        }
        for locate in ["auto", "none"] {
            Rig::new(&all(locate));
        }
    }
}
