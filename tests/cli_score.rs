//! `vadlite score` on files of all kinds.

mod common;

use common::program::{folder, json, keys, run, score, text};
use common::{Part, model, scratch};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;

const BLOB: (f64, f64) = (0.35, 0.6);

#[test]
fn score_prints_one_line_per_image() {
    let folder = folder("score");
    let (good, bad) = (folder.join("good one.png"), folder.join("bad.png"));
    // One that the model was fitted on: others may be rejected at the model's rate.
    Part::good(3).picture(320, 240).save(&good);
    Part::defective(500, BLOB.0, BLOB.1)
        .picture(320, 240)
        .save(&bad);
    let lines = score(&[&bad, &good]);
    assert_eq!(lines.len(), 2);
    for (line, (file, flagged)) in lines.iter().zip([(&bad, true), (&good, false)]) {
        assert_eq!(
            keys(line),
            BTreeSet::from(["file", "score", "threshold", "flagged"])
        );
        assert_eq!(line["file"], file.to_str().unwrap());
        assert_eq!(line["flagged"], flagged);
        assert_eq!(line["score"].as_f64() > line["threshold"].as_f64(), flagged);
        let threshold = line["threshold"].as_f64().unwrap() as f32;
        assert_eq!(threshold, model().model.metadata.threshold);
    }

    // For people, and with another threshold.
    let arguments = ["score", "--threshold", "100000", "--model"].map(OsStr::new);
    let output = run(
        arguments
            .into_iter()
            .chain([model().path.as_ref(), bad.as_ref()]),
        0,
    );
    let line = text(&output.stdout);
    assert!(
        line.contains("bad.png") && line.contains("100000") && line.contains("good"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1);
}

#[test]
fn unreadable_images_are_named_and_the_others_scored() {
    let folder = folder("score-damaged");
    let path = |name: &str| folder.join(name);
    Part::good(501).picture(64, 48).save(&path("a.png"));
    Part::good(502).picture(64, 48).save(&path("c.png"));
    std::fs::write(path("b.png"), b"no picture").unwrap();
    let files = ["a.png", "b.png", "absent.png", "c.png"].map(path);
    let arguments = ["score", "--json", "--model"].map(OsStr::new).into_iter();
    let output = run(
        arguments
            .chain([model().path.as_ref()])
            .chain(files.iter().map(|file| file.as_ref())),
        1,
    );
    let scored: Vec<_> = json(&output)
        .iter()
        .map(|line| line["file"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        scored,
        [files[0].to_str().unwrap(), files[3].to_str().unwrap()]
    );
    let said = text(&output.stderr);
    assert!(
        said.contains("b.png") && said.contains("absent.png"),
        "{said}"
    );
    assert!(said.contains("2 of 4"), "{said}");
}

#[test]
fn the_same_picture_scores_the_same_in_every_file() {
    let folder = folder("score-types");
    let picture = Part::defective(503, BLOB.0, BLOB.1).picture(320, 240);
    let path = |name: &str| folder.join(name);
    let buffer = image::RgbImage::from_raw(320, 240, picture.rgb.clone()).unwrap();
    let image = image::DynamicImage::from(buffer);
    let mut transparent = image.to_rgba8();
    transparent.pixels_mut().for_each(|pixel| pixel.0[3] = 7);
    transparent.save(path("alpha.png")).unwrap();
    for name in ["a.png", "a.bmp", "a.tiff", "a.ppm", "a.webp"] {
        image.save(path(name)).unwrap();
    }
    // What is in the file counts, not its name.
    std::fs::copy(path("a.png"), path("b.JPG")).unwrap();
    let files = [
        "a.png",
        "a.bmp",
        "a.tiff",
        "a.ppm",
        "a.webp",
        "alpha.png",
        "b.JPG",
    ]
    .map(path);
    let scores: Vec<f64> = score(&files.each_ref().map(PathBuf::as_path))
        .iter()
        .map(|line| line["score"].as_f64().unwrap())
        .collect();
    assert_eq!(scores.len(), 7);
    assert!(scores.iter().all(|&score| score == scores[0]), "{scores:?}");

    // Grey, in eight and sixteen bits.
    let grey = image.to_luma8();
    grey.save(path("grey8.png")).unwrap();
    image::DynamicImage::from(grey.clone())
        .to_rgb8()
        .save(path("grey-rgb.png"))
        .unwrap();
    image::DynamicImage::from(grey.clone())
        .to_luma_alpha8()
        .save(path("grey-alpha.png"))
        .unwrap();
    let deep: Vec<u16> = grey.iter().map(|&sample| u16::from(sample) * 257).collect();
    image::ImageBuffer::<image::Luma<u16>, _>::from_raw(320, 240, deep)
        .unwrap()
        .save(path("grey16.png"))
        .unwrap();
    let files = ["grey8.png", "grey-rgb.png", "grey-alpha.png", "grey16.png"].map(path);
    let lines = score(&files.each_ref().map(PathBuf::as_path));
    let scores: Vec<f64> = lines
        .iter()
        .map(|line| line["score"].as_f64().unwrap())
        .collect();
    for score in &scores {
        common::assert_close("grey", *score, scores[0], 1e-4);
    }
}

#[test]
fn heatmaps_show_where_the_blob_is() {
    let (first, second) = (folder("heat-1"), folder("heat-2"));
    let pictures = [
        (first.join("part.png"), BLOB, (320, 240)),
        (second.join("part.png"), (0.6, 0.4), (200, 300)),
    ];
    for (path, (x, y), (width, height)) in &pictures {
        Part::defective(504, *x, *y)
            .picture(*width, *height)
            .save(path);
    }
    let out = scratch().join("heatmaps/made on the way");
    let arguments = ["score", "--heatmaps"].map(OsStr::new).into_iter().chain([
        out.as_ref(),
        "--model".as_ref(),
        model().path.as_ref(),
    ]);
    run(
        arguments.chain(pictures.iter().map(|(path, ..)| path.as_ref())),
        0,
    );
    for (name, (source, (x, y), (width, height))) in
        ["part.png", "part-2.png"].iter().zip(&pictures)
    {
        let before = image::open(source).unwrap().into_rgb8();
        let after = image::open(out.join(name)).unwrap().into_rgb8();
        assert_eq!(after.dimensions(), (*width as u32, *height as u32));
        // Centre of what changed, weighted by how much.
        let (mut sum, mut sum_x, mut sum_y) = (0.0, 0.0, 0.0);
        for (column, row, pixel) in after.enumerate_pixels() {
            let old = before.get_pixel(column, row);
            let change: f64 = (0..3)
                .map(|channel| f64::from(pixel.0[channel].abs_diff(old.0[channel])))
                .sum();
            sum += change;
            sum_x += change * (f64::from(column) + 0.5) / *width as f64;
            sum_y += change * (f64::from(row) + 0.5) / *height as f64;
        }
        let (at_x, at_y) = (sum_x / sum, sum_y / sum);
        assert!(
            (at_x - x).hypot(at_y - y) < 0.06,
            "{name}: drawn around {at_x:.3},{at_y:.3}"
        );
    }
}
