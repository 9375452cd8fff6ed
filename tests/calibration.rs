//! Thresholds set anew on good images of today, and the report that scores have drifted from those the threshold was set on.

mod common;

use common::element::Rig;
use common::{Part, Picture, model, scratch, vadlite};
use gst_video::VideoFormat as F;
use gstvadlite::detector::model_file::ModelFile;

fn good(seed: u64) -> Picture {
    Part::good(seed).picture(320, 240)
}

/// Under a lamp that is fainter and warmer.
fn other_lamp(seed: u64) -> Picture {
    let mut picture = good(seed);
    for pixel in picture.rgb.chunks_exact_mut(3) {
        for (value, factor) in pixel.iter_mut().zip([0.75, 0.65, 0.5]) {
            *value = (f64::from(*value) * factor) as u8;
        }
    }
    picture
}

/// In the format that the model was fitted in: half the colour, as NV12 has it, would be a change of its own.
#[test]
fn another_lamp_is_reported_and_the_lamp_before_it_is_not() {
    let mut rig = Rig::new(&[
        ("drift-interval", "0"),
        ("drift-limit", "10000"),
        ("overlay", "none"),
    ]);
    let drifts = |rig: &Rig| -> Vec<String> {
        let (messages, _) = rig.messages();
        let drifts = messages
            .iter()
            .filter(|message| message.name() == "vadlite-drift");
        drifts
            .map(|message| message.get("direction").unwrap())
            .collect()
    };
    for seed in 1000..1100 {
        rig.inspect(&good(seed), F::Rgb);
    }
    assert_eq!(drifts(&rig), Vec::<String>::new());
    assert_eq!(rig.stat::<u64>("drift-alarms"), 0);
    for seed in 2000..2060 {
        rig.inspect(&other_lamp(seed), F::Rgb);
    }
    let drifts = drifts(&rig);
    assert_eq!(drifts.first().map(String::as_str), Some("up"));
    assert_eq!(rig.stat::<u64>("drift-alarms"), drifts.len() as u64);
}

#[test]
fn the_test_for_drift_takes_one_score_an_interval() {
    // Frames without a time are tested each; those of a second with an interval of one, once.
    let mut rig = Rig::new(&[("drift-interval", "1000000000"), ("drift-limit", "10000")]);
    let picture = other_lamp(1);
    let info = common::element::info(F::Nv12, &picture);
    rig.set_info(&info);
    for number in 0..60 {
        let mut buffer = common::element::frame(&picture, &info);
        let time = gst::ClockTime::from_mseconds(number * 1000 / 60);
        buffer.get_mut().unwrap().set_pts(time);
        rig.pass(buffer);
    }
    assert!(rig.stat::<f64>("drift") < 0.2);
    assert_eq!(rig.stat::<u64>("drift-alarms"), 0);
    // Without a limit there is no test.
    let mut rig = Rig::new(&[("drift-interval", "0"), ("drift-limit", "0")]);
    for seed in 0..40 {
        rig.inspect(&other_lamp(seed), F::Rgb);
    }
    assert_eq!(rig.stat::<f64>("drift"), 0.0);
}

#[test]
fn calibrate_sets_the_threshold_on_the_images_of_today() {
    let folder = scratch().join("today");
    std::fs::create_dir_all(&folder).unwrap();
    for seed in 0..30 {
        let picture = other_lamp(3000 + seed);
        let image =
            image::RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.rgb);
        image
            .unwrap()
            .save(folder.join(format!("{seed:02}.png")))
            .unwrap();
    }
    let path = scratch().join("calibrated.vadlite");
    let run = |extra: &[&str]| {
        vadlite()
            .args(["calibrate", "--model"])
            .arg(&model().path)
            .arg("--images")
            .arg(&folder)
            .arg("--out")
            .arg(&path)
            .args(extra)
            .output()
            .unwrap()
    };
    let output = run(&[]);
    assert!(output.status.success(), "{output:?}");
    let (before, after) = (&model().model, ModelFile::read(&path).unwrap());
    // Scores of these images by the program, and the largest of them: 30 images support no smaller rate than 1 in 31.
    let mut scores: Vec<f32> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| {
            let output = vadlite()
                .args(["score", "--json", "--model"])
                .arg(&model().path)
                .arg(file.unwrap().path())
                .output()
                .unwrap();
            let line: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            line["score"].as_f64().unwrap() as f32
        })
        .collect();
    scores.sort_by(f32::total_cmp);
    assert!((after.metadata.threshold - scores[29]).abs() < 1e-4 * scores[29]);
    assert!((after.metadata.false_reject_rate - 1.0 / 31.0).abs() < 1e-9);
    assert_eq!(after.calibration.scores().len(), 30);
    // The rest is the model as it was.
    assert_eq!(after.metadata.created, before.metadata.created);
    assert_eq!(after.head_bytes(), before.head_bytes());

    assert!(
        !String::from_utf8(output.stderr)
            .unwrap()
            .contains("far from the others")
    );

    // A hand in one of them: it sets the threshold, which is said with its name.
    let mut picture = other_lamp(4000);
    for (at, pixel) in picture.rgb.chunks_exact_mut(3).enumerate() {
        if at % 320 > 60 && at % 320 < 260 && at / 320 > 60 {
            pixel.copy_from_slice(&[230, 180, 150]);
        }
    }
    let image = image::RgbImage::from_raw(picture.width as u32, picture.height as u32, picture.rgb);
    let hand = folder.join("hand.png");
    image.unwrap().save(&hand).unwrap();
    let output = run(&[]);
    std::fs::remove_file(&hand).unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("1 of 31 images that are far from the others: hand.png"),
        "{text}"
    );

    let output = run(&["--false-reject-rate", "0.01"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("at least 99 good images"), "{text}");
}
