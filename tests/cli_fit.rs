//! `vadlite fit` and `vadlite eval` on folders of pictures, sound and not.

mod common;

use common::program::{folder, json, keys, run, score, text};
use common::{BLOB_RADIUS, GOOD, PRESET, Part, Picture, model, save_good, scratch};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Arguments of a fit on a folder of images into a model beside it.
fn fit(images: &Path) -> (Vec<String>, PathBuf) {
    let out = images.with_extension("vadlite");
    let arguments = [
        "fit",
        "--method",
        "padim-lite",
        "--preset",
        PRESET,
        "--images",
    ];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).to_vec();
    arguments.push(images.to_str().unwrap().into());
    arguments.push("--out".into());
    arguments.push(out.to_str().unwrap().into());
    (arguments, out)
}

/// A backbone that is installed is found by its name, and the 8-bit one takes a third of the bytes to see the same defect.
#[test]
fn the_8_bit_backbone_is_chosen_by_name() {
    let images = folder("fit-int8");
    save_good(&images, GOOD);
    let (mut arguments, out) = fit(&images);
    arguments.extend(["--backbone".into(), "mobilenetv2-int8.onnx".into()]);
    run(&arguments, 0);
    let defective = images.join("defective.bmp");
    Part::defective(100, 0.6, 0.4)
        .picture(320, 240)
        .save(&defective);
    let good = images.join("unseen.bmp");
    Part::good(101).picture(320, 240).save(&good);
    let [out, defective, good] = [&out, &defective, &good].map(|path| path.to_str().unwrap());
    assert_eq!(
        json(&run(["info", "--json", out], 0))[0]["backbone"],
        "mobilenetv2-int8.onnx"
    );
    let lines = json(&run(
        ["score", "--json", "--model", out, defective, good],
        0,
    ));
    assert_eq!(
        (&lines[0]["flagged"], &lines[1]["flagged"]),
        (&true.into(), &false.into()),
        "{lines:?}"
    );
    let output = run(
        [
            "fit",
            "--method",
            "padim",
            "--images",
            images.to_str().unwrap(),
            "--out",
            out,
            "--backbone",
            "mobilenetv9.onnx",
        ],
        1,
    );
    let said = text(&output.stderr);
    assert!(
        said.contains("mobilenetv9.onnx") && said.contains("not found in"),
        "{said}"
    );
}

#[test]
fn fit_skips_what_it_cannot_read_and_counts_it() {
    let images = folder("fit-mixed");
    save_good(&images, 12);
    std::fs::write(images.join("005a.png"), b"").unwrap();
    std::fs::write(images.join("zzz.jpg"), b"\xff\xd8\xff no JPEG").unwrap();
    std::fs::write(images.join("notes.txt"), b"not an image").unwrap();
    save_good(&images.join("defects"), 3);
    let (arguments, out) = fit(&images);
    let output = run(&arguments, 0);
    let said = text(&output.stderr);
    assert!(
        said.contains("005a.png") && said.contains("zzz.jpg"),
        "{said}"
    );
    assert!(
        said.contains("2 of 14") && !said.contains("notes.txt"),
        "{said}"
    );
    assert!(
        text(&output.stdout).contains("12 good images"),
        "{output:?}"
    );
    let info = json(&run(["info", "--json", out.to_str().unwrap()], 0));
    assert_eq!(info[0]["good_images"], 12);
    assert_eq!(info[0]["smallest_false_reject_rate"], 1.0 / 13.0);
    // Whoever runs the pipeline may read it.
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(&out).unwrap().permissions().mode() & 0o777,
        0o644
    );

    // The same pictures make the same model.
    let scores = |model: &Path| {
        let path = images.join("000.png");
        json(&run(
            [
                "score",
                "--json",
                "--model",
                model.to_str().unwrap(),
                path.to_str().unwrap(),
            ],
            0,
        ))
    };
    let first = scores(&out);
    run(&arguments, 0);
    assert_eq!(scores(&out), first);
}

#[test]
fn fit_refuses_too_few_images_and_leaves_the_old_model() {
    // Folder, number of readable images, damaged ones beside them, and what is said.
    let cases = [
        ("fit-absent", None, 0, vec!["cannot be read", "fit-absent"]),
        (
            "fit-empty",
            Some(0),
            0,
            vec!["holds no images", "fit-empty"],
        ),
        ("fit-one", Some(1), 0, vec!["1 usable", "at least 10"]),
        ("fit-nine", Some(9), 0, vec!["9 usable", "at least 10"]),
        (
            "fit-damaged",
            Some(0),
            12,
            vec!["0 usable", "12 of 12", "at least 10"],
        ),
        (
            "fit-mostly",
            Some(9),
            3,
            vec!["9 usable", "3 of 12", "at least 10"],
        ),
    ];
    for (name, readable, damaged, words) in cases {
        let images = scratch().join(name);
        if let Some(readable) = readable {
            save_good(&images, readable);
        }
        for index in 0..damaged {
            std::fs::write(images.join(format!("damaged-{index}.png")), b"x").unwrap();
        }
        let (arguments, out) = fit(&images);
        std::fs::write(&out, b"the old one").unwrap();
        let output = run(&arguments, 1);
        let said = text(&output.stderr);
        for words in words {
            assert!(said.contains(words), "{name}: {said:?} lacks {words:?}");
        }
        assert_eq!(std::fs::read(&out).unwrap(), b"the old one");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn fit_says_what_false_reject_rate_the_images_support() {
    let images = folder("fit-rate");
    save_good(&images, 12);
    let (arguments, out) = fit(&images);
    let with = |rate: &str| {
        [
            arguments.clone(),
            vec![format!("--false-reject-rate={rate}")],
        ]
        .concat()
    };
    let said = text(&run(with("0.01"), 1).stderr);
    assert!(
        said.contains("at least 99") && said.contains("12") && said.contains("0.0769"),
        "{said}"
    );
    assert!(!out.exists());
    run(with("0.25"), 0);
    let info = &json(&run(["info", "--json", out.to_str().unwrap()], 0))[0];
    assert_eq!(info["false_reject_rate"], 0.25);
    for rate in ["0", "1", "-0.1", "nan", "some"] {
        let said = text(&run(with(rate), 2).stderr);
        assert!(said.contains("--false-reject-rate"), "{said}");
    }
}

/// An easy dataset in MVTec AD layout.
fn dataset(name: &str) -> PathBuf {
    let root = scratch().join(name);
    save_good(&root.join("train/good"), GOOD);
    let make = |path: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    for index in 0..6u64 {
        let picture = Part::good(700 + index).picture(320, 240);
        picture.save(&make(&format!("test/good/{index:03}.png")));
        let (x, y) = (0.3 + 0.08 * index as f64, 0.62 - 0.05 * index as f64);
        let picture = Part::defective(800 + index, x, y).picture(320, 240);
        picture.save(&make(&format!("test/blob/{index:03}.png")));
        let mask = (0..320 * 240).flat_map(|pixel| {
            let (column, row) = ((pixel % 320) as f64 + 0.5, (pixel / 320) as f64 + 0.5);
            let distance = (column / 320.0 - x).hypot(row / 240.0 - y);
            [if distance < BLOB_RADIUS { 255 } else { 0 }; 3]
        });
        let mask = Picture {
            width: 320,
            height: 240,
            rgb: mask.collect(),
        };
        mask.save(&make(&format!("ground_truth/blob/{index:03}_mask.png")));
    }
    root
}

#[test]
fn eval_finds_the_blobs() {
    let root = dataset("easy");
    let dataset = root.to_str().unwrap();
    let model = model().path.to_str().unwrap();
    let output = run(
        ["eval", "--json", "--model", model, "--dataset", dataset],
        0,
    );
    let [report] = &json(&output)[..] else {
        panic!("{output:?}")
    };
    let expected = [
        "detection",
        "detection_interval",
        "false_rejects",
        "false_rejects_interval",
        "detection_by_kind",
        "intervals_by_kind",
        "images_by_kind",
        "image_auroc",
        "pixel_auroc",
        "aupro",
        "image_f1_max",
        "images",
        "head_bytes",
        "backbone_bytes",
        "model_bytes",
    ];
    assert_eq!(keys(report), BTreeSet::from(expected));
    let value = |name: &str| report[name].as_f64().unwrap();
    assert_eq!((value("image_auroc"), value("image_f1_max")), (1.0, 1.0));
    assert!(value("pixel_auroc") > 0.97, "{report}");
    assert!(value("aupro") > 0.85 && value("aupro") <= 1.0, "{report}");
    assert_eq!(report["images"], 12);
    assert_eq!(
        value("model_bytes") as u64,
        std::fs::metadata(model).unwrap().len()
    );
    let whole = std::fs::metadata(common::backbone()).unwrap().len() as f64;
    assert!(value("backbone_bytes") > 2e6 && value("backbone_bytes") < whole);

    // The model of this binary is fitted on the same parts: fitting on the spot comes to the same.
    let output = run(
        [
            "eval",
            "--json",
            "--method",
            "padim-lite",
            "--preset",
            PRESET,
            "--dataset",
            dataset,
        ],
        0,
    );
    let again = &json(&output)[0];
    for name in expected.iter().filter(|name| **name != "model_bytes") {
        assert_eq!(again[name], report[name], "{name}");
    }

    let shown = text(&run(["eval", "--model", model, "--dataset", dataset], 0).stdout);
    assert!(shown.contains("I-AUROC           1.0000"), "{shown}");
    // The decision comes first, and is what `vadlite score` flags.
    let flagged = |folder: &str| {
        let files: Vec<_> = std::fs::read_dir(root.join("test").join(folder))
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        let lines = score(&files.iter().map(|file| file.as_path()).collect::<Vec<_>>());
        (
            lines.iter().filter(|line| line["flagged"] == true).count(),
            lines.len(),
        )
    };
    let ((found, blobs), (alarms, good)) = (flagged("blob"), flagged("good"));
    let first = format!("found             {found} of {blobs} defective images");
    assert!(shown.starts_with(&first), "{shown}");
    assert_eq!(value("detection"), found as f64 / blobs as f64);
    assert_eq!(value("false_rejects"), alarms as f64 / good as f64);
    assert_eq!(report["detection_by_kind"]["blob"], report["detection"]);
    assert_eq!(report["images_by_kind"]["blob"], blobs);
    let interval: Vec<f64> =
        serde_json::from_value(report["intervals_by_kind"]["blob"].clone()).unwrap();
    assert!(
        (interval[0]..=interval[1]).contains(&value("detection")),
        "{report}"
    );
}

#[test]
fn eval_copes_with_an_imperfect_dataset() {
    let root = dataset("imperfect");
    let arguments = [
        "eval",
        "--json",
        "--model",
        model().path.to_str().unwrap(),
        "--dataset",
        root.to_str().unwrap(),
    ];
    std::fs::write(root.join("test/good/003.png"), b"damaged").unwrap();
    std::fs::remove_file(root.join("ground_truth/blob/002_mask.png")).unwrap();
    let output = run(arguments, 0);
    let said = text(&output.stderr);
    assert!(
        said.contains("good/003.png") && said.contains("1 of 12") && said.contains("1 defective"),
        "{said}"
    );
    assert_eq!(json(&output)[0]["images"], 11);

    // Without masks, without good ones: what cannot be measured is null.
    std::fs::remove_dir_all(root.join("ground_truth")).unwrap();
    let report = &json(&run(arguments, 0))[0];
    assert_eq!(report["image_auroc"], 1.0);
    assert!(
        report["pixel_auroc"].is_null() && report["aupro"].is_null(),
        "{report}"
    );
    std::fs::remove_dir_all(root.join("test/good")).unwrap();
    assert!(json(&run(arguments, 0))[0]["image_auroc"].is_null());
}

#[test]
fn eval_says_what_layout_it_wants() {
    let images = folder("not-a-dataset");
    save_good(&images, 1);
    for (what, value) in [
        ("--model", model().path.to_str().unwrap()),
        ("--method", "padim-lite"),
    ] {
        for dataset in [images.to_str().unwrap(), "/nonexistent"] {
            let said = text(&run(["eval", what, value, "--dataset", dataset], 1).stderr);
            assert!(
                said.contains(dataset) && said.contains("MVTec AD layout (train/good"),
                "{said}"
            );
        }
    }
    // Test images, but nothing to fit on.
    let root = dataset("no-train");
    std::fs::remove_dir_all(root.join("train")).unwrap();
    let said = text(
        &run(
            [
                "eval",
                "--method",
                "padim-lite",
                "--dataset",
                root.to_str().unwrap(),
            ],
            1,
        )
        .stderr,
    );
    assert!(
        said.contains("train/good") && said.contains("MVTec AD layout"),
        "{said}"
    );
}
