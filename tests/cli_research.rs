//! What serves choosing a method: `--dimensions`, `eval --self-check`, `sweep`.

mod common;

use common::program::{folder, json, run, text};
use common::{Part, save_good};
use std::path::{Path, PathBuf};

/// A dataset in MVTec AD layout: good parts, and test parts with and without a blob.
fn dataset(name: &str, good: u64) -> PathBuf {
    let root = folder(name);
    save_good(&root.join("train/good"), good);
    for kind in ["good", "blob"] {
        let folder = root.join("test").join(kind);
        std::fs::create_dir_all(&folder).unwrap();
        for seed in 500..503 {
            let part = match kind {
                "good" => Part::good(seed),
                _ => Part::defective(seed, 0.6, 0.45),
            };
            part.picture(320, 240)
                .save(&folder.join(format!("{seed}.png")));
        }
    }
    root
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_random_choice_of_channels_is_stored_and_used() {
    let root = dataset("channels", 12);
    let (images, model) = (root.join("train/good"), root.join("part.vadlite"));
    let fit = |dimensions, code| {
        run(
            [
                "fit",
                "--method",
                "padim",
                "--dimensions",
                dimensions,
                "--images",
                path(&images),
                "--out",
                path(&model),
            ],
            code,
        )
    };
    fit("30", 0);
    let info = json(&run(["info", "--json", path(&model)], 0));
    let channels = info[0]["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 30);
    assert!(
        channels
            .iter()
            .all(|channel| channel.as_u64().unwrap() < 224)
    );
    // Mean, and the lower triangle of the factor, in 16 bits.
    assert_eq!(info[0]["head_bytes"], 196 * (30 + 30 * 31 / 2) * 2);
    let score = |file: &str| {
        let file = root.join("test").join(file);
        json(&run(
            ["score", "--json", "--model", path(&model), path(&file)],
            0,
        ))[0]["score"]
            .as_f64()
            .unwrap()
    };
    assert!(score("blob/500.png") > 2.0 * score("good/500.png"));
    for wrong in ["0", "225"] {
        let said = text(&fit(wrong, 1).stderr);
        assert!(said.contains("1 to 224"), "{said}");
    }
}

#[test]
fn a_self_check_needs_only_good_images() {
    let root = folder("self-check");
    save_good(&root.join("train/good"), 20);
    let eval = ["eval", "--self-check", "--json", "--dataset", path(&root)];
    let check = |method: &[&str], code| {
        let arguments: Vec<&str> = eval.iter().chain(method).copied().collect();
        run(arguments, code)
    };
    let output = json(&check(&["--method", "padim-lite"], 0));
    // Every fifth image is held out; each is seen as it is and with four defects.
    assert_eq!(output[0]["images"], 4 * 5);
    let auroc = output[0]["image_auroc"].as_f64().unwrap();
    assert!((0.7..=1.0).contains(&auroc), "{auroc}");
    assert!(output[0]["pixel_auroc"].as_f64().unwrap() > 0.8);
    // At the model's own threshold, by kind of defect.
    let kinds = output[0]["images_by_kind"].as_object().unwrap();
    assert!(
        kinds.len() == 4 && kinds.values().all(|images| *images == 4),
        "{output:?}"
    );
    assert!(output[0]["detection"].as_f64().unwrap() > 0.0, "{output:?}");
    assert!(output[0]["false_rejects"].is_number());
    let shown = [
        "eval",
        "--self-check",
        "--dataset",
        path(&root),
        "--method",
        "padim-lite",
    ];
    let shown = text(&run(shown, 0).stdout);
    assert!(
        shown.starts_with("found ")
            && shown.contains("of 16 defective images at the model's own threshold"),
        "{shown}"
    );
    assert!(shown.contains("of 4 good images"), "{shown}");
    // The same defects every time.
    assert_eq!(json(&check(&["--method", "padim-lite"], 0)), output);

    check(&["--model", "part.vadlite"], 2);
}

#[test]
fn a_sweep_measures_each_constant_by_itself() {
    let root = dataset("sweep", 10);
    let sweep = |subspaces, code| {
        run(
            [
                "sweep",
                "--json",
                "--dataset",
                path(&root),
                "--subspaces",
                subspaces,
                "--bits",
                "4",
                "--bank",
                "500",
                "--candidates",
                "20",
                "--coarse",
                "query",
            ],
            code,
        )
    };
    let rows = json(&sweep("16", 0));
    // The paper's constants first; there are fewer patches than K = 10000.
    let patches = 10 * 784;
    let bytes = |m: u64, bits: u64, rows: u64| m * bits * rows / 8 + (1 << bits) * 160 * 2;
    let expected = [
        (8, 8, 10_000, bytes(8, 8, patches)),
        (16, 8, 10_000, bytes(16, 8, patches)),
        (8, 4, 10_000, bytes(8, 4, patches)),
        (8, 8, 500, bytes(8, 8, 500)),
        (8, 8, 10_000, bytes(8, 8, patches)),
        (8, 8, 10_000, bytes(8, 8, patches)),
    ];
    assert_eq!(rows.len(), expected.len());
    for (row, (subspaces, bits, bank, bytes)) in rows.iter().zip(expected) {
        assert_eq!(row["subspaces"], subspaces, "{row}");
        assert_eq!(row["bits"], bits, "{row}");
        assert_eq!(row["bank"], bank, "{row}");
        assert_eq!(row["head_bytes"], bytes, "{row}");
        assert!(row["recall"].as_f64().unwrap() > 0.5, "{row}");
    }
    assert_eq!(rows[0]["image_auroc"], 1.0);
    // Each setting at its own threshold, from images held out: 10 support a rate of 1/11.
    for row in &rows {
        assert_eq!(row["detection"], row["detection_by_kind"]["blob"], "{row}");
        // Four bits, or a bank of one image, tell nothing apart here.
        assert!(
            row["detection"] == 1.0 || row["image_auroc"] != 1.0,
            "{row}"
        );
        assert_eq!(row["images_by_kind"]["blob"], 3, "{row}");
        let false_rejects = row["false_rejects"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&false_rejects), "{row}");
        let rate = row["false_reject_rate"].as_f64().unwrap();
        assert!((rate - 1.0 / 11.0).abs() < 1e-9, "{row}");
    }
    assert!(rows[2]["threshold"] != rows[0]["threshold"]);
    assert_eq!(
        (&rows[4]["candidates"], &rows[5]["coarse"]),
        (&20.into(), &"query".into())
    );
    assert_eq!(rows[5]["recall"], 1.0, "the query itself misses nothing");

    let arguments = [
        "sweep",
        "--dataset",
        path(&root),
        "--subspaces",
        "8",
        "--bits",
        "4",
        "--bank",
        "500",
        "--candidates",
        "20",
        "--coarse",
        "query",
    ];
    let shown = text(&run(arguments, 0).stdout);
    let mut lines = shown.lines();
    let heading = lines.next().unwrap();
    assert!(heading.contains("found    false  I-AUROC"), "{shown}");
    assert!(
        lines.all(|line| line.contains("/3      ") && line.len() == heading.len()),
        "{shown}"
    );

    let said = text(&sweep("7", 1).stderr);
    assert!(
        said.contains("160") && said.contains("7 subspaces"),
        "{said}"
    );
    sweep("0", 2);
}

#[test]
fn a_bench_gives_the_time_of_every_stage() {
    let bench = |arguments: &[&str]| {
        let all: Vec<&str> = ["bench", "--json", "--threads", "1", "--frames", "3"]
            .iter()
            .chain(arguments)
            .copied()
            .collect();
        json(&run(all, 0)).remove(0)
    };
    let stages = [
        "backbone_ms",
        "preprocess_ms",
        "head_ms",
        "map_ms",
        "total_ms",
    ];
    for method in ["padim-lite", "patchcore-lite"] {
        let report = bench(&["--method", method]);
        assert_eq!(report["threads"], 1);
        assert_eq!(report.as_object().unwrap().len(), 2 + stages.len());
        // Of a model of whole pictures nothing is located.
        assert_eq!(report["locate_ms"], 0.0);
        let times = stages.map(|stage| report[stage].as_f64().unwrap());
        assert!(times.iter().all(|&time| time > 0.0), "{report}");
        assert!(times[4] >= times[1], "{report}");
    }
    let model = common::model().path.to_str().unwrap();
    let report = bench(&["--model", model, "--element"]);
    let element = report["element_ms"].as_f64().unwrap();
    assert!(
        element > report["preprocess_ms"].as_f64().unwrap(),
        "{report}"
    );
    assert!(
        report["element_heatmap_p99_ms"].as_f64().unwrap()
            >= report["element_heatmap_ms"].as_f64().unwrap()
    );
    run(["bench", "--threads", "1"], 2);
}
