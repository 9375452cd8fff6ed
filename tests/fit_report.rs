//! `vadlite fit --report` in a browser.

mod browser;
mod common;

use browser::{ARROW_LEFT, Browser};
use common::program::{folder, json, run, text};
use common::{PRESET, Part, Picture, Random, save_good, vadlite};
use gstvadlite::detector::model_file::ModelFile;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const GOOD: u64 = 45;
/// Good parts' file names that are hard on markup and on shells. Both parts are damaged a little.
const HARD: [&str; 2] = ["<b>it's \"odd\" &amp; $HOME.png", "-1 spare `part`.png"];
/// What is no part at all.
const FOREIGN: [&str; 2] = ["hand 1.png", "hand2.png"];

/// A folder of images most of which are good.
fn images(name: &str) -> PathBuf {
    let images = folder(name);
    save_good(&images, GOOD);
    for (name, seed) in HARD.iter().zip(900..) {
        damaged(seed).save(&images.join(name));
    }
    for (name, seed) in FOREIGN.iter().zip(1..) {
        let mut random = Random::new(seed);
        let rgb = (0..3 * 320 * 240)
            .map(|_| random.below(256) as u8)
            .collect();
        let noise = Picture {
            width: 320,
            height: 240,
            rgb,
        };
        noise.save(&images.join(name));
    }
    images
}

/// A part with a blob that is hardly there.
fn damaged(seed: u64) -> Picture {
    let [good, blob] =
        [Part::good(seed), Part::defective(seed, 0.4, 0.55)].map(|part| part.picture(320, 240));
    let samples = good.rgb.iter().zip(&blob.rgb);
    let rgb = samples
        .map(|(good, blob)| ((3 * u16::from(*good) + u16::from(*blob)) / 4) as u8)
        .collect();
    Picture { rgb, ..good }
}

fn arguments(method: &str, images: &Path, out: &Path, page: &Path) -> Vec<String> {
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    [
        ["fit", "--method", method, "--preset", PRESET]
            .map(str::to_owned)
            .to_vec(),
        vec![
            "--images".into(),
            text(images),
            "--out".into(),
            text(out),
            "--report".into(),
            text(page),
        ],
    ]
    .concat()
}

fn info(model: &Path) -> Value {
    json(&run(["info", "--json", model.to_str().unwrap()], 0)).remove(0)
}

/// Fits again with an option as the page gives it, as a shell understands it.
fn fit_again(images: &Path, option: &str) -> Value {
    let out = images.with_extension("again.vadlite");
    let program = vadlite();
    let command = format!(
        "\"$0\" fit --method=padim-lite --preset {PRESET} --images \"$1\" {option} --out \"$2\""
    );
    let status = Command::new("sh")
        .args(["-euc", &command])
        .args([program.get_program(), images.as_os_str(), out.as_os_str()])
        .status()
        .unwrap();
    assert!(status.success(), "{option}");
    info(&out)
}

/// The names of the unusual images, those that were left out and the others.
fn unusual(info: &Value) -> [Vec<&str>; 2] {
    [true, false].map(|left_out| {
        let all = info["unusual"].as_array().unwrap().iter();
        all.filter(|unusual| (unusual["left_out"] == true) == left_out)
            .map(|unusual| unusual["file"].as_str().unwrap())
            .collect()
    })
}

#[test]
fn the_page_shows_what_does_not_belong_and_what_a_rate_finds() {
    let images = images("good images");
    let (model, page) = (
        images.with_extension("vadlite"),
        images.with_extension("html"),
    );
    run(arguments("padim-lite", &images, &model, &page), 0);
    let fitted = info(&model);
    let [left_out, within] = unusual(&fitted);
    assert_eq!((left_out.len(), within.len()), (2, 8), "{fitted:#}");
    let browser = Browser::start(360, 740);
    browser.open(&page);
    let list = |script: &str| -> Vec<Value> {
        let script =
            format!("return [...document.querySelectorAll('.card')].map(card => {script})");
        browser.evaluate(&script).as_array().unwrap().clone()
    };

    // A card for each that the model names, in its order, which is that of the scores.
    let names = list("card.querySelector('.file').textContent");
    assert_eq!(names, [&left_out[..], &within[..]].concat());
    for name in HARD.iter().chain(&FOREIGN) {
        assert!(names.iter().any(|shown| shown == name), "{names:?}");
    }
    assert_eq!(browser.count(".file b"), 0);
    let scores = list("Number(card.dataset.score)");
    let scores: Vec<f64> = scores.iter().map(|score| score.as_f64().unwrap()).collect();
    for list in [&scores[..2], &scores[2..]] {
        assert!(list.is_sorted_by(|a, b| a >= b), "{scores:?}");
    }
    assert!(scores[2] < scores[1], "{scores:?}");
    let reasons = list("card.querySelector('.score').textContent");
    for (reason, unusual) in reasons.iter().zip(fitted["unusual"].as_array().unwrap()) {
        assert!(
            reason
                .as_str()
                .unwrap()
                .ends_with(unusual["reason"].as_str().unwrap()),
            "{reasons:?}"
        );
    }
    // Each with the image and its heatmap, which differ.
    assert_eq!(browser.count(".card img"), 2 * names.len());
    let drawn = list("card.querySelectorAll('img')[0].src !== card.querySelectorAll('img')[1].src");
    assert!(drawn.iter().all(|drawn| *drawn == true));
    assert_eq!(browser.broken_pictures(), 0);

    // What is marked becomes an option that leaves out just this.
    let option = || {
        browser
            .evaluate("return document.getElementById('option').value")
            .as_str()
            .unwrap()
            .to_owned()
    };
    let tick = |name: &str| {
        let place = names.iter().position(|shown| shown == name).unwrap();
        browser.evaluate(&format!("const card = document.querySelectorAll('.card')[{place}]; for (let on = card; on; on = on.parentElement) if (on.tagName === 'DETAILS') on.open = true; card.querySelector('.mark').scrollIntoView({{block: 'center'}}); card.querySelector('.mark').click()"));
    };
    assert_eq!(option(), "");
    assert_eq!(browser.count(".mark input:checked"), 2);
    HARD.iter().for_each(|name| tick(name));
    let again = fit_again(&images, &option());
    assert_eq!(
        again["good_images"],
        fitted["good_images"].as_u64().unwrap() - 2
    );
    let [still, within] = unusual(&again);
    assert_eq!(still, left_out);
    assert!(HARD.iter().all(|name| !within.contains(name)), "{within:?}");
    // One of those left out is kept: the other has to be named.
    tick(FOREIGN[1]);
    tick(HARD[1]);
    let again = fit_again(&images, &option());
    assert_eq!(again["good_images"], fitted["good_images"]);
    let [still, within] = unusual(&again);
    assert!(still.is_empty(), "{still:?}");
    assert!(
        within.contains(&FOREIGN[1]) && within.contains(&HARD[1]),
        "{within:?}"
    );
    assert!(
        !within.contains(&FOREIGN[0]) && !within.contains(&HARD[0]),
        "{within:?}"
    );
    tick(FOREIGN[1]);
    tick(HARD[0]);
    assert_eq!(option(), "");

    stops_are_what_the_scores_say(&browser, &model, &fitted);

    browser.click(".card button");
    assert_eq!(browser.count("dialog[open] img"), 2);
    browser.click("dialog form button");
    let wide = browser.evaluate("return document.documentElement.scrollWidth");
    assert_eq!(wide, 360);
    browser.assert_quiet();
}

/// The heatmap of the damaged part has been drawn by a head that has not seen it: it is warmer about the blob than elsewhere. The model
/// keeps a part of this very image, and finds it less unusual than the rest.
fn heat_is_at_the_blob(browser: &Browser) {
    let script = "const card = [...document.querySelectorAll('.card')].find(card => card.querySelector('.file').textContent.includes('$HOME'));
        const pixels = [...card.querySelectorAll('img')].map(image => {
            const canvas = Object.assign(document.createElement('canvas'), {width: 320, height: 240});
            const context = canvas.getContext('2d');
            context.drawImage(image, 0, 0);
            return context.getImageData(0, 0, 320, 240).data;
        });
        const sums = [[0, 0], [0, 0]];
        for (let y = 0; y < 240; y++) for (let x = 0; x < 320; x++) {
            const at = 4 * (320 * y + x), near = Math.hypot(x / 320 - .4, y / 240 - .55) < .08 ? 0 : 1;
            sums[near][0] += [0, 1, 2].reduce((sum, i) => sum + Math.abs(pixels[1][at + i] - pixels[0][at + i]), 0);
            sums[near][1]++;
        }
        return sums.map(([sum, count]) => sum / count)";
    let changes = browser.evaluate(script);
    let [near, far] = [0, 1].map(|place| changes[place].as_f64().unwrap());
    assert!(near > 10.0 && near > 2.0 * far, "{near} {far}");
}

/// At every stop of the slider the threshold is the conformal quantile of the model's scores, and where the model names a rate, it and
/// what is found there are the model's.
fn stops_are_what_the_scores_say(browser: &Browser, model: &Path, fitted: &Value) {
    let stops = browser.evaluate("const slider = document.getElementById('slider'), stops = [];
        for (slider.value = 0; ; slider.value++) {
            slider.dispatchEvent(new Event('input'));
            stops.push(['property', 'threshold-now', 'painted-found', 'above-now'].map(id => document.getElementById(id).textContent));
            if (slider.value === slider.max) return stops;
        }");
    let scores = ModelFile::read(model)
        .unwrap()
        .calibration
        .scores()
        .to_vec();
    let count = scores.len() as f64;
    let stops: Vec<(f64, f64, String)> = stops
        .as_array()
        .unwrap()
        .iter()
        .map(|stop| {
            let field = |at: usize| stop[at].as_str().unwrap();
            let rate: f64 = field(0)
                .strip_prefix("false-reject-rate=")
                .unwrap()
                .parse()
                .unwrap();
            let threshold: f64 = field(1).parse().unwrap();
            // Of n + 1 scores, so many may lie above.
            let above = f64::floor((count + 1.0) * rate + 1e-9);
            assert_eq!(
                threshold as f32,
                scores[scores.len() - above as usize],
                "{stop}"
            );
            let above = scores
                .iter()
                .filter(|score| **score > threshold as f32)
                .count();
            assert_eq!(field(3), format!("{above} of {count}"));
            (rate, threshold, field(2).to_owned())
        })
        .collect();
    assert!(
        stops.len() > 20 && stops.is_sorted_by(|a, b| a.0 < b.0 && a.1 >= b.1),
        "{stops:?}"
    );
    let trades = fitted["trades"].as_array().unwrap();
    assert!(trades.len() > 1, "{trades:?}");
    for trade in trades {
        let stop = stops
            .iter()
            .find(|stop| stop.0 == trade["false_reject_rate"].as_f64().unwrap());
        let (_, threshold, found) = stop.unwrap();
        let named = trade["threshold"].as_f64().unwrap();
        assert_eq!(*threshold as f32, named as f32);
        let share = format!(
            "{:.1} % (",
            100.0 * trade["synthetic_found"].as_f64().unwrap()
        );
        assert!(found.starts_with(&share), "{found} {trade}");
    }
    // The model's own is where the page begins, and one step to the left another one.
    browser.click("[data-stop]");
    assert_eq!(
        browser.text("#property-note"),
        "the model’s own: need not be set"
    );
    assert_eq!(
        browser.text("#property"),
        format!("false-reject-rate={}", fitted["false_reject_rate"])
    );
    browser.click(".choices button:last-child");
    browser.press("#slider", ARROW_LEFT);
    assert_eq!(browser.text("#property"), "false-reject-rate=0.099");
    assert_eq!(browser.count("#painted-mark:not([hidden])"), 1);
}

#[test]
fn what_was_named_stays_named() {
    let images = images("named");
    let (model, page) = (
        images.with_extension("vadlite"),
        images.with_extension("html"),
    );
    let bad = folder("named-bad");
    for seed in 0..4 {
        Part::defective(seed, 0.4, 0.55)
            .picture(320, 240)
            .save(&bad.join(format!("{seed}.png")));
    }
    let mut arguments = arguments("patchcore-lite", &images, &model, &page);
    arguments.extend(["--bad".into(), bad.to_str().unwrap().into()]);
    arguments.extend(["--leave-out", "none", FOREIGN[0]].map(str::to_owned));
    run(arguments, 0);
    let written = std::fs::read_to_string(&page).unwrap();
    assert!(written.contains(", 1 by name") && written.contains("No image was left out by itself"));
    // Only few images are this far from the others, and the page says so.
    assert!(written.contains("the threshold is set by 1 of"));
    // Nothing in it points elsewhere, and without a script it says what it needs one for.
    assert!(
        !written.contains("http:") && !written.contains("https:") && !written.contains("src=\"/")
    );
    assert!(written.contains("needs JavaScript"));
    let browser = Browser::start(1280, 900);
    browser.open(&page);
    assert_eq!(browser.count(".mark input:checked"), 0);
    let option = "return document.getElementById('option').value";
    assert_eq!(browser.evaluate(option), "");
    browser.evaluate("document.querySelector('.mark').click()");
    let option = browser.evaluate(option);
    assert_eq!(
        option,
        format!("--leave-out none '{}' {}", FOREIGN[0], FOREIGN[1])
    );
    heat_is_at_the_blob(&browser);
    // The real defects have a curve of their own.
    assert_eq!(browser.count("#bad-mark:not([hidden])"), 1);
    assert!(browser.text("#bad-found").ends_with("of 4)"));
    browser.assert_quiet();
}

#[test]
fn a_page_that_cannot_be_written_is_an_error_before_the_fit() {
    let images = folder("nowhere");
    save_good(&images, 12);
    let model = images.with_extension("vadlite");
    for page in [images.join("absent/page.html"), images.clone()] {
        let output = run(arguments("padim-lite", &images, &model, &page), 1);
        let said = text(&output.stderr);
        assert!(said.contains(page.to_str().unwrap()), "{said}");
        assert!(!model.exists());
    }
}
