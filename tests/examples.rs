//! The examples in `docs/` run as they stand and tell what the program tells.

mod common;

use common::program::{plugins, score};
use common::{Part, model, scratch};
use std::path::Path;
use std::process::{Command, Output};

/// Runs the Python example on a source. Needs python3-gi and gir1.2-gstreamer-1.0, which `setup` installs.
fn read_meta(model: &Path, source: &str) -> Output {
    Command::new("/usr/bin/python3")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/examples/read_meta.py"))
        .arg(model)
        .arg(source)
        .env("GST_PLUGIN_PATH", plugins())
        .env("GST_REGISTRY", scratch().join("registry.bin"))
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn read_meta_reads_what_the_program_computes() {
    let (good, bad) = (scratch().join("good.png"), scratch().join("bad.png"));
    Part::good(3).picture(320, 240).save(&good);
    Part::defective(900, 0.4, 0.6).picture(320, 240).save(&bad);
    let lines = score(&[&good, &bad]);
    for (path, line, verdict) in [(&good, &lines[0], "good"), (&bad, &lines[1], "flagged")] {
        let source = format!(
            "filesrc location={} ! pngdec ! videoconvert ! video/x-raw,format=RGB",
            path.display()
        );
        let output = read_meta(&model().path, &source);
        let said = text(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        // JSON has the shortest digits that tell a 32-bit float.
        let number = |name: &str| format!("{:.4}", line[name].as_f64().unwrap() as f32);
        let (score, threshold) = (number("score"), number("threshold"));
        let expected = format!(
            "frame 0: score {score}, threshold {threshold}, {verdict}, map 112x112 up to {score}, model part.vadlite, "
        );
        assert!(
            said.starts_with(&expected),
            "{said:?} does not start with {expected:?}"
        );
        let regions: Vec<&str> = said
            .lines()
            .filter(|line| line.contains("region "))
            .collect();
        assert_eq!(regions.is_empty(), verdict == "good", "{said}");
        if let Some(first) = regions.first() {
            // "region x,y wxh score s"
            let numbers: Vec<f64> = first
                .split(|c: char| !c.is_ascii_digit() && c != '.')
                .filter_map(|number| number.parse().ok())
                .collect();
            let [x, y, width, height, strongest] = numbers[..] else {
                panic!("{first}")
            };
            assert!(
                (x..x + width).contains(&0.4) && (y..y + height).contains(&0.6),
                "{first}"
            );
            assert_eq!(format!("{strongest:.4}"), score);
        }
        assert_eq!(text(&output.stderr), "");
    }
}

#[test]
fn read_meta_passes_on_what_the_element_says() {
    let output = read_meta(Path::new("/nonexistent.vadlite"), "videotestsrc");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said.contains("inspector: the property model") && said.contains("/nonexistent.vadlite"),
        "{said}"
    );
}
