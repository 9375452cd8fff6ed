//! Copies among good images: found, and counted once.

mod common;

use common::Part;
use common::program::{folder, json, run, text};
use image::DynamicImage;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;

fn jpeg(image: &DynamicImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
    image.write_with_encoder(encoder).unwrap();
    bytes
}

/// Fits `images` into a model beside the folder.
fn fit(method: &str, images: &Path) -> (Output, PathBuf) {
    let out = images.with_extension("vadlite");
    let words = ["fit", "--method", method, "--images"].map(OsStr::new);
    let more = [images.as_os_str(), "--out".as_ref(), out.as_ref()];
    (run(words.into_iter().chain(more), 0), out)
}

fn info(model: &Path) -> serde_json::Value {
    let words = ["info", "--json"].map(OsStr::new).into_iter();
    json(&run(words.chain([model.as_os_str()]), 0))[0].clone()
}

/// How many of the files the model flags.
fn flagged(model: &Path, files: &[PathBuf]) -> usize {
    let words = ["score", "--json", "--model"].map(OsStr::new).into_iter();
    let files = files.iter().map(|file| file.as_os_str());
    let lines = json(&run(words.chain([model.as_os_str()]).chain(files), 0));
    lines.iter().filter(|line| line["flagged"] == true).count()
}

/// A part with a grain of its own, as forty soft spots that no other part has at the same places.
fn grained(seed: u64) -> DynamicImage {
    let mut random = common::Random::new(seed + 5_000);
    let mut picture = Part::good(seed).picture(320, 240);
    for _ in 0..40 {
        let (x, y) = (320.0 * random.unit(), 240.0 * random.unit());
        let (radius, dark) = (5.0 + 7.0 * random.unit(), 50.0 * random.unit() - 25.0);
        for (index, value) in picture.rgb.iter_mut().enumerate() {
            let (column, row) = ((index / 3 % 320) as f64, (index / 960) as f64);
            let squared = (column - x).powi(2) + (row - y).powi(2);
            if squared < 9.0 * radius.powi(2) {
                let spot = dark * (-squared / radius.powi(2)).exp();
                *value = (f64::from(*value) + spot).clamp(0.0, 255.0) as u8;
            }
        }
    }
    let image = image::RgbImage::from_raw(320, 240, picture.rgb);
    image.unwrap().into()
}

/// Each picture a second time, as another file with another name: the threshold is what it is without, and unseen parts pass as they do
/// without.
#[test]
fn copies_in_the_folder_do_not_lower_the_threshold() {
    let unseen = folder("unseen");
    let unseen: Vec<_> = (1000..1060)
        .map(|seed| {
            let path = unseen.join(format!("{seed}.png"));
            grained(seed).save(&path).unwrap();
            path
        })
        .collect();
    for method in ["padim-lite", "patchcore-lite"] {
        copies_do_not_lower_the_threshold_of(method, &unseen);
    }
}

fn copies_do_not_lower_the_threshold_of(method: &str, unseen: &[PathBuf]) {
    let (once, twice) = (
        folder(&format!("once-{method}")),
        folder(&format!("twice-{method}")),
    );
    for seed in 0..24 {
        let name = format!("{seed:03}.png");
        grained(seed).save(once.join(&name)).unwrap();
        std::fs::copy(once.join(&name), twice.join(&name)).unwrap();
    }
    let (output, without) = fit(method, &once);
    let alone = info(&without);
    assert!(!text(&output.stderr).contains("copies"), "{output:?}");
    assert!(alone.get("copies").is_none(), "{alone}");

    for seed in 0..24u64 {
        let image = grained(seed);
        // In an order that has nothing to do with the names of what they are copies of.
        let path = |end: &str| twice.join(format!("x{:02}-{}.{end}", 7 * seed % 24, seed % 5));
        match seed % 3 {
            0 => image.save(path("bmp")).unwrap(),
            1 => std::fs::write(path("jpg"), jpeg(&image, 80)).unwrap(),
            _ => {
                let mut brighter = image.into_rgb8();
                for value in brighter.iter_mut() {
                    *value = (f32::from(*value) * 1.01).round() as u8;
                }
                brighter.save(path("png")).unwrap();
            }
        }
    }
    let (output, with) = fit(method, &twice);
    let said = text(&output.stderr);
    let both = info(&with);
    assert_eq!(both["good_images"], 48);
    assert_eq!(both["copies"], 24, "{said}");
    assert!(said.contains("24 of 48 images are copies"), "{said}");
    assert!(text(&output.stdout).contains("24 of them copies"));
    // Each picture counts once, whatever it is copied.
    let rate = "smallest_false_reject_rate";
    assert_eq!(both[rate], alone[rate]);
    let threshold = |info: &serde_json::Value| info["threshold"].as_f64().unwrap();
    assert!(threshold(&both) > 0.7 * threshold(&alone), "{both} {alone}");
    let (before, after) = (flagged(&without, unseen), flagged(&with, unseen));
    println!(
        "{method}: {before} and {after} of {} unseen parts flagged",
        unseen.len()
    );
    // One in 25 is allowed; more than ten of 60 has a chance of 1 in 10,000.
    assert!(
        before <= 10 && after <= 10,
        "{method}: {before} and {after}"
    );
}
