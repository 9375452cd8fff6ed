//! `vadlite eval --report` in a browser.

mod browser;
mod common;

use browser::{ARROW_LEFT, Browser};
use common::program::{folder, json, run, score, text};
use common::{BLOB_RADIUS, Part, model};
use std::path::{Path, PathBuf};

const BLOB: (f64, f64) = (0.4, 0.55);
/// A good part's file name that would be markup if it were not escaped.
const NAME: &str = "<b>a&amp;\"' {{found}}.png";

/// A dataset in which one image is in the wrong folder on either side; the files of its good and of its defective images.
fn dataset(name: &str, masks: bool) -> (PathBuf, [Vec<PathBuf>; 2]) {
    let root = folder(name);
    let folders = ["test/good", "test/blob", "ground_truth/blob"].map(|name| root.join(name));
    for folder in &folders {
        std::fs::create_dir_all(folder).unwrap();
    }
    let [good, blob, ground_truth] = &folders;
    let blob_on = |seed| Part::defective(seed, BLOB.0, BLOB.1);
    let save = |part: Part, path: PathBuf| {
        part.picture(320, 240).save(&path);
        path
    };
    let mut files = [Vec::new(), Vec::new()];
    for seed in 700..706 {
        files[0].push(save(Part::good(seed), good.join(format!("{seed}.png"))));
        files[1].push(save(blob_on(seed), blob.join(format!("{seed}.png"))));
    }
    files[0].push(save(blob_on(710), good.join(NAME)));
    files[1].push(save(Part::good(711), blob.join("711.png")));
    let mask = image::GrayImage::from_fn(320, 240, |x, y| {
        let (x, y) = ((f64::from(x) + 0.5) / 320.0, (f64::from(y) + 0.5) / 240.0);
        let inside = (x - BLOB.0).hypot(y - BLOB.1) < BLOB_RADIUS;
        image::Luma([if inside { 255 } else { 0 }])
    });
    for file in files[1].iter().filter(|_| masks) {
        let stem = file.file_stem().unwrap().to_str().unwrap();
        mask.save(ground_truth.join(format!("{stem}_mask.png")))
            .unwrap();
    }
    (root, files)
}

/// Writes the report on a dataset.
fn report(dataset: &Path) -> PathBuf {
    let out = dataset.join("report.html");
    run(arguments(dataset, &out), 0);
    out
}

fn arguments<'a>(dataset: &'a Path, out: &'a Path) -> [&'a str; 7] {
    let text = |path: &'a Path| path.to_str().unwrap();
    [
        "eval",
        "--model",
        text(&model().path),
        "--dataset",
        text(dataset),
        "--report",
        text(out),
    ]
}

#[test]
fn the_report_works_in_a_browser() {
    let (root, files) = dataset("report", true);
    let page = report(&root);
    let scores = files.each_ref().map(|files| {
        let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let lines = score(&files);
        let scores = lines.iter().map(|line| line["score"].as_f64().unwrap());
        scores.collect::<Vec<f64>>()
    });
    let browser = Browser::start(360, 740);
    browser.open(&page);

    // The numbers are those of `vadlite score` at whatever threshold the page names.
    let check = || {
        let property = browser.text("#property");
        let threshold: f64 = property
            .strip_prefix("threshold=")
            .unwrap()
            .parse()
            .unwrap();
        let [alarms, found] = scores
            .each_ref()
            .map(|scores| scores.iter().filter(|&&score| score > threshold).count());
        let shown = ["#alarms", "#passed", "#found", "#missed"].map(|id| browser.number(id));
        let expected = [
            alarms,
            scores[0].len() - alarms,
            found,
            scores[1].len() - found,
        ];
        assert_eq!(shown, expected, "at {threshold}");
        let rate = format!("{:.1} %", 100.0 * found as f64 / scores[1].len() as f64);
        assert_eq!(browser.text("#found-rate"), rate);
        let wrong = browser.evaluate("return [...document.querySelectorAll('.card')].filter(card => !card.querySelector('.verdict.ok')).length");
        // Every image that is a mistake at some threshold up to the model's own is on the page.
        assert!(wrong.as_u64().unwrap() as usize <= shown[0] + shown[3]);
        (threshold, shown)
    };
    let (own, shown) = check();
    assert_eq!(own as f32, model().model.metadata.threshold);
    assert_eq!(shown, [1, 6, 6, 1], "{scores:?}");

    // Moved with the keyboard.
    browser.press("#slider", &ARROW_LEFT.repeat(5));
    let (lower, _) = check();
    assert!(lower < own && lower > 0.5 * own, "{lower} {own}");
    browser.evaluate("const slider = document.getElementById('slider'); slider.value = 1000; slider.dispatchEvent(new Event('input'))");
    let (_, shown) = check();
    assert_eq!(shown, [0, 7, 0, 7]);
    browser.click("[data-choice=all]");
    assert_eq!(check().1[3], 0);
    browser.click("[data-choice=quiet]");
    assert_eq!(check().1[0], 0);
    browser.click("[data-choice=f1]");
    check();
    browser.click("[data-choice=own]");
    assert_eq!(check().0, own);

    // Mistakes and hits, each with image, heatmap and mask; every picture has a text and is drawn.
    let count = |selector: &str| browser.count(selector);
    assert_eq!(count("section[aria-labelledby=mistakes-title] .card"), 2);
    assert_eq!(count("section[aria-labelledby=hits-title] .card"), 6);
    assert_eq!(count(".card img"), 3 * 7 + 2);
    assert_eq!(count(".blank"), 1);
    assert_eq!(browser.broken_pictures(), 0);
    assert_eq!(count("#roc-mark:not([hidden])"), 1);
    assert_eq!(count("#pro-mark"), 1);

    // File names are text.
    let names = browser
        .evaluate("return [...document.querySelectorAll('.file')].map(name => name.textContent)");
    let name = format!("good/{NAME}");
    assert!(
        names.as_array().unwrap().iter().any(|n| *n == *name),
        "{names}"
    );
    assert_eq!(count(".file b"), 0);

    // A card opens, and all fits a phone.
    browser.click(".card button");
    assert_eq!(count("dialog[open] img"), 2);
    browser.click("dialog form button");
    assert_eq!(count("dialog[open]"), 0);
    let wide = browser.evaluate("return document.documentElement.scrollWidth");
    assert_eq!(wide, 360);

    browser.assert_quiet();
}

#[test]
fn without_masks_the_report_says_what_it_cannot_show() {
    let (root, _) = dataset("report-classes", false);
    let page = std::fs::read_to_string(report(&root)).unwrap();
    assert!(page.contains("No masks") && !page.contains("id=\"pro-mark\""));
    assert!(page.contains("id=\"roc-mark\""));
    assert!(page.contains("needs masks") && !page.contains("class=\"blank\""));
    // Nothing in it points elsewhere.
    assert!(!page.contains("http:") && !page.contains("https:") && !page.contains("src=\"/"));
}

#[test]
fn a_report_that_cannot_be_written_is_an_error_at_once() {
    let (root, _) = dataset("report-nowhere", false);
    let out = root.join("absent/report.html");
    let output = run(arguments(&root, &out), 1);
    let said = text(&output.stderr);
    assert!(said.contains("absent/report.html"), "{said}");
    assert!(output.stdout.is_empty());
    // What is printed is the same with a report and without.
    let printed = json(&run(
        ["eval", "--json"]
            .into_iter()
            .chain(arguments(&root, &out)[1..5].iter().copied()),
        0,
    ));
    assert_eq!(printed[0]["images"], 14);
}
