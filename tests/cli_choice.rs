//! What `vadlite fit` chooses, leaves out and says: the method, images that do not belong, and the price of other rates.

mod common;

use common::program::{folder, json, run, text};
use common::{Part, save_good};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn fit(images: &Path, more: &[&str], code: i32) -> (std::process::Output, PathBuf) {
    let out = images.with_extension("vadlite");
    let _ = std::fs::remove_file(&out);
    let paths = [
        "--images",
        images.to_str().unwrap(),
        "--out",
        out.to_str().unwrap(),
    ];
    let arguments = [&["fit"][..], &paths, more].concat();
    (run(arguments, code), out)
}

fn info(model: &Path) -> Value {
    json(&run(["info", "--json", model.to_str().unwrap()], 0))[0].clone()
}

fn files(info: &Value, left_out: bool) -> Vec<String> {
    let unusual = info["unusual"].as_array().unwrap().iter();
    let of = unusual.filter(|unusual| unusual["left_out"].as_bool().unwrap_or(false) == left_out);
    of.map(|unusual| unusual["file"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_method_is_chosen_and_the_price_of_rates_told() {
    let images = folder("chosen");
    save_good(&images, 40);
    let bad = folder("chosen-bad");
    std::fs::create_dir_all(&bad).unwrap();
    for number in 0..5u64 {
        let part = Part::defective(900 + number, 0.35 + 0.05 * number as f64, 0.5);
        part.picture(320, 240)
            .save(&bad.join(format!("{number}.png")));
    }
    let (output, out) = fit(&images, &["--bad", bad.to_str().unwrap()], 0);
    let (said, info) = (text(&output.stdout), info(&out));
    let tried = info["tried"].as_array().unwrap();
    assert_eq!(tried.len(), 2, "{info}");
    let best = tried.iter().max_by(|a, b| {
        a["found"]
            .as_f64()
            .unwrap()
            .total_cmp(&b["found"].as_f64().unwrap())
    });
    let found =
        |name: &str| tried.iter().find(|tried| tried["method"] == name).unwrap()["found"].as_f64();
    let chosen = info["method"].as_str().unwrap();
    assert_eq!(found(chosen), best.unwrap()["found"].as_f64());
    assert!(said.contains(&format!("chosen      {chosen}")), "{said}");

    // With 40 images rates from 1/41 on can be promised; the threshold is that of the nearest.
    let trades = info["trades"].as_array().unwrap();
    let rates: Vec<f64> = trades
        .iter()
        .map(|trade| trade["false_reject_rate"].as_f64().unwrap())
        .collect();
    assert_eq!(rates, [0.05, 0.1]);
    let number = |trade: &Value, name: &str| trade[name].as_f64().unwrap();
    for pair in trades.windows(2) {
        assert!(
            number(&pair[0], "threshold") >= number(&pair[1], "threshold"),
            "{info}"
        );
        assert!(
            number(&pair[0], "synthetic_found") <= number(&pair[1], "synthetic_found"),
            "{info}"
        );
    }
    assert_eq!(number(&trades[1], "bad_found"), 1.0);
    for trade in trades {
        let name = trade["set_by"].as_str().unwrap();
        assert!(images.join(name).is_file(), "{name}");
        // It is the image whose held-out score is the threshold.
        let unusual = info["unusual"]
            .as_array()
            .unwrap()
            .iter()
            .find(|unusual| unusual["file"] == name);
        if let Some(unusual) = unusual {
            assert_eq!(unusual["score"], trade["threshold"], "{info}");
        }
    }
    let scores: Vec<f64> = info["unusual"]
        .as_array()
        .unwrap()
        .iter()
        .map(|unusual| number(unusual, "score"))
        .collect();
    assert!(
        scores.is_sorted_by(|a, b| a >= b) && scores.len() == 8,
        "{scores:?}"
    );

    let (output, _) = fit(&images, &["--preset", "paper"], 1);
    assert!(text(&output.stderr).contains("name one with --method"));
}

/// Seven of 77 images show another thing: they are left out and named, unless the user wants them.
#[test]
fn a_crate_of_rejects_in_the_wrong_folder_does_not_blind_the_model() {
    let images = folder("contaminated");
    save_good(&images, 70);
    for number in 0..7u64 {
        let part = Part::defective(
            600 + number,
            0.3 + 0.06 * number as f64,
            0.6 - 0.05 * number as f64,
        );
        part.picture(320, 240)
            .save(&images.join(format!("reject {number}.png")));
    }
    let (output, out) = fit(&images, &[], 0);
    let cleaned = info(&out);
    let mut gone = files(&cleaned, true);
    gone.sort();
    let rejects: Vec<String> = (0..7)
        .map(|number| format!("reject {number}.png"))
        .collect();
    assert_eq!(gone, rejects, "{cleaned}");
    assert_eq!(
        (&cleaned["good_images"], &cleaned["left_out"]),
        (&70.into(), &7.into())
    );
    let said = text(&output.stderr);
    assert!(
        said.contains("7 of 77 images were left out") && said.contains("--leave-out none"),
        "{said}"
    );
    assert!(text(&output.stdout).contains("reject 3.png"));

    let (_, out) = fit(&images, &["--leave-out", "none"], 0);
    let kept = info(&out);
    assert_eq!(kept["good_images"], 77);
    // They are the most unusual ones all the same, and the threshold is theirs.
    let named = files(&kept, false);
    let first = named
        .iter()
        .take(7)
        .filter(|name| name.starts_with("reject"))
        .count();
    assert!(first >= 6, "{named:?}");
    assert!(
        kept["threshold"].as_f64() > cleaned["threshold"].as_f64(),
        "{kept}"
    );

    // By name, in any number, and by what a model calls unusual.
    let names: Vec<&str> = rejects.iter().map(String::as_str).collect();
    let (output, out) = fit(&images, &[&["--leave-out"][..], &names].concat(), 0);
    let named = info(&out);
    assert_eq!(named["good_images"], 70, "{output:?}");
    assert_eq!(named["threshold"], cleaned["threshold"]);
    let (_, out) = fit(&images, &["--leave-out", "unusual"], 0);
    let gone = files(&info(&out), true);
    assert!(rejects.iter().all(|name| gone.contains(name)), "{gone:?}");
    let (output, _) = fit(&images, &["--leave-out", "absent.png"], 1);
    assert!(text(&output.stderr).contains("absent.png"));
}

/// What lies where the mask is black is not judged, and nothing else changes.
#[test]
fn a_mask_leaves_out_what_nobody_wants_judged() {
    let images = folder("masked");
    save_good(&images, 30);
    let mask = images.with_extension("png");
    // The right half is black.
    let picture =
        image::GrayImage::from_fn(100, 50, |x, _| image::Luma([if x < 50 { 255 } else { 0 }]));
    picture.save(&mask).unwrap();
    let masked = [
        "--method",
        "patchcore-lite",
        "--mask",
        mask.to_str().unwrap(),
    ];
    let (_, out) = fit(&images, &masked, 0);
    let judged = info(&out)["judged"].as_str().unwrap().to_owned();
    assert_eq!(
        judged,
        format!("{}{}", "1".repeat(7), "0".repeat(7)).repeat(14)
    );

    let flagged = |x: f64| {
        let file = images.with_file_name(format!("masked {x}.png"));
        Part::defective(5000, x, 0.5).picture(320, 240).save(&file);
        let arguments = [
            "score",
            "--json",
            "--model",
            out.to_str().unwrap(),
            file.to_str().unwrap(),
        ];
        json(&run(arguments, 0))[0]["flagged"] == true
    };
    assert!(flagged(0.35), "a defect in the white passes");
    assert!(!flagged(0.72), "what is not judged is flagged");

    image::GrayImage::new(10, 10).save(&mask).unwrap();
    let (output, _) = fit(&images, &masked, 1);
    let said = text(&output.stderr);
    assert!(
        said.contains("masked.png") && said.contains("black"),
        "{said}"
    );
}
