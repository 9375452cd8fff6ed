//! `vadlite fit` on parts beside which something is restless: the place is named, and the mask that is offered leaves it out.

mod common;

use common::program::{folder, json, run, text};
use common::{Part, Random, save_good};
use serde_json::Value;
use std::path::Path;

const GOOD: u64 = 80;

/// Good parts with noise in the upper right corner, in one image more than in another.
fn save_restless(images: &Path) {
    for seed in 0..GOOD {
        let mut picture = Part::good(seed).picture(320, 240);
        let mut random = Random::new(7000 + seed);
        let range = 60.0 * random.unit();
        for y in 0..45 {
            for x in 262..320 {
                let change = range * (2.0 * random.unit() - 1.0);
                for sample in &mut picture.rgb[3 * (320 * y + x)..][..3] {
                    *sample = (f64::from(*sample) + change).clamp(0.0, 255.0) as u8;
                }
            }
        }
        picture.save(&images.join(format!("{seed:03}.png")));
    }
}

/// What a fit says, the page that it writes, and the model.
fn fit(images: &Path, more: &[&str]) -> (String, String, Value) {
    let (out, page) = (
        images.with_extension("vadlite"),
        images.with_extension("html"),
    );
    let paths = [("--images", images), ("--out", &out), ("--report", &page)];
    let paths = paths
        .iter()
        .flat_map(|(option, path)| [*option, path.to_str().unwrap()]);
    let arguments: Vec<&str> = ["fit", "--method", "patchcore-lite"]
        .into_iter()
        .chain(paths)
        .chain(more.iter().copied())
        .collect();
    let said = text(&run(arguments, 0).stdout);
    let info = json(&run(["info", "--json", out.to_str().unwrap()], 0)).remove(0);
    (said, std::fs::read_to_string(&page).unwrap(), info)
}

#[test]
fn a_restless_corner_is_named_and_its_mask_works_as_it_stands() {
    let images = folder("restless");
    save_restless(&images);
    let (said, page, before) = fit(&images, &[]);
    let line = said.lines().find(|line| line.starts_with("place "));
    let line = line.unwrap_or_else(|| panic!("{said}"));
    for part in [
        "in the upper right corner",
        "--mask",
        "--report",
        "of all 80",
    ] {
        assert!(line.contains(part), "{line}");
    }
    assert!(page.contains("in the upper right corner") && page.contains("download=\"mask.png\""));
    let (_, png) = page.split_once("data:image/png;base64,").unwrap();
    let (png, _) = png.split_once('"').unwrap();
    let mask = images.with_extension("png");
    std::fs::write(&mask, glib::base64_decode(png)).unwrap();
    let picture = image::open(&mask).unwrap().into_luma8();
    assert_eq!(picture.dimensions(), (224, 224));

    let (said, page, after) = fit(&images, &["--mask", mask.to_str().unwrap()]);
    let judged = after["judged"].as_str().unwrap();
    let (corner, rest): (Vec<_>, Vec<_>) = judged
        .bytes()
        .enumerate()
        .partition(|(patch, _)| patch / 14 < 5 && patch % 14 > 8);
    assert!(rest.iter().all(|(_, judged)| *judged == b'1'), "{judged}");
    assert!(
        corner.iter().filter(|(_, judged)| *judged == b'0').count() >= 6,
        "{judged}"
    );
    let threshold = |info: &Value| info["threshold"].as_f64().unwrap();
    assert!(
        threshold(&after) < 0.9 * threshold(&before),
        "{} {}",
        threshold(&before),
        threshold(&after)
    );
    assert!(
        !said.contains("\nplace ") && !page.contains("mask.png"),
        "{said}"
    );
}

/// A region of the frame: the mask is a picture of the whole frame, and leaves out the same place.
#[test]
fn the_mask_lies_on_the_whole_frame() {
    let images = folder("restless-roi");
    save_restless(&images);
    let roi = ["--roi", "0.25,0,0.75,0.8"];
    let (said, page, _) = fit(&images, &roi);
    assert!(said.contains("in the upper right corner"), "{said}");
    let (_, png) = page.split_once("data:image/png;base64,").unwrap();
    let (png, _) = png.split_once('"').unwrap();
    let mask = images.with_extension("png");
    std::fs::write(&mask, glib::base64_decode(png)).unwrap();
    let picture = image::open(&mask).unwrap().into_luma8();
    assert_eq!(picture.dimensions(), (299, 280));
    let (_, _, after) = fit(
        &images,
        &[&roi[..], &["--mask", mask.to_str().unwrap()]].concat(),
    );
    let black = after["judged"]
        .as_str()
        .unwrap()
        .bytes()
        .enumerate()
        .filter(|(_, judged)| *judged == b'0');
    let black: Vec<usize> = black.map(|(patch, _)| patch).collect();
    assert!(
        black.len() >= 6 && black.iter().all(|patch| patch / 14 < 6 && patch % 14 > 7),
        "{black:?}"
    );
}

#[test]
fn parts_that_vary_all_over_have_no_such_place() {
    let images = folder("calm");
    save_good(&images, GOOD);
    let (said, page, _) = fit(&images, &[]);
    assert!(
        !said.contains("\nplace ") && !page.contains("mask.png"),
        "{said}"
    );
}
