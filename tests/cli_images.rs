//! Files as they come from cameras, viewers and file managers: what is read, how, and what is refused.

mod common;

use common::program::{folder, json, run, score, text};
use common::{Part, Picture, model, save_good, scratch};
use image::{DynamicImage, ImageEncoder as _, ImageFormat};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

fn picture(seed: u64) -> Picture {
    Part::good(seed).picture(320, 240)
}

fn dynamic(picture: &Picture) -> DynamicImage {
    let (width, height) = (picture.width as u32, picture.height as u32);
    let image = image::RgbImage::from_raw(width, height, picture.rgb.clone());
    image.unwrap().into()
}

fn jpeg(image: &DynamicImage, quality: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality);
    image.write_with_encoder(encoder).unwrap();
    bytes
}

/// Fits `images` into a model beside the folder.
fn fit(images: &Path, more: &[&str], code: i32) -> (Output, PathBuf) {
    let out = images.with_extension("vadlite");
    let mut arguments: Vec<&OsStr> = ["fit", "--method", "padim-lite", "--images"]
        .map(OsStr::new)
        .to_vec();
    arguments.extend([images.as_os_str(), "--out".as_ref(), out.as_ref()]);
    arguments.extend(more.iter().map(OsStr::new));
    (run(arguments, code), out)
}

fn info(model: &Path) -> serde_json::Value {
    json(&run(
        ["info".as_ref(), "--json".as_ref(), model.as_os_str()],
        0,
    ))[0]
        .clone()
}

/// Scores by this model, with what is said on standard error.
fn score_by(model: &Path, files: &[PathBuf], code: i32) -> (Vec<f64>, String) {
    let mut arguments: Vec<&OsStr> = ["score", "--json", "--model"].map(OsStr::new).to_vec();
    arguments.push(model.as_ref());
    arguments.extend(files.iter().map(|file| file.as_os_str()));
    let output = run(arguments, code);
    let scores = json(&output);
    let scores = scores.iter().map(|line| line["score"].as_f64().unwrap());
    (scores.collect(), text(&output.stderr))
}

#[test]
fn images_without_variation_are_refused_and_the_old_model_stays() {
    let same = folder("same");
    let black = folder("black");
    for number in 0..40 {
        let path = |folder: &Path| folder.join(format!("{number:02}.png"));
        picture(1).save(&path(&same));
        image::GrayImage::new(64, 48).save(path(&black)).unwrap();
    }
    for images in [same, black] {
        let out = images.with_extension("vadlite");
        std::fs::write(&out, b"the old one").unwrap();
        let said = text(&fit(&images, &[], 1).0.stderr);
        assert!(
            said.contains("only 1 of 40 good images differ") && said.contains("at least 10"),
            "{said}"
        );
        assert_eq!(std::fs::read(&out).unwrap(), b"the old one");
    }
}

/// Every type that is read, cut off: skipped by `fit`, refused by `score`, which goes on.
#[test]
fn files_cut_off_are_named_and_the_others_used() {
    let images = folder("cut");
    save_good(&images, 12);
    let image = dynamic(&picture(30));
    let names = ["a.jpg", "b.png", "c.tiff", "d.bmp", "e.webp", "f.ppm"];
    for name in names {
        let path = images.join(name);
        image.save(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() * 7 / 10]).unwrap();
    }
    let whole = jpeg(&image, 90);
    // Cut, but with an end; and whole, with what a camera has written behind it.
    let cut = [&whole[..whole.len() / 2], &[0xff, 0xd9]].concat();
    std::fs::write(images.join("g.jpg"), cut).unwrap();
    std::fs::write(
        images.join("h.jpeg"),
        [&whole[..], b"more\0\xff\xd8"].concat(),
    )
    .unwrap();
    std::fs::write(images.join("i.PNG"), b"").unwrap();
    let (output, out) = fit(&images, &["--leave-out", "none"], 0);
    let said = text(&output.stderr);
    for name in names.iter().chain(&["g.jpg", "i.PNG"]) {
        assert!(said.contains(name), "{name}: {said}");
    }
    assert!(said.contains("8 of 21 images were skipped"), "{said}");
    assert_eq!(info(&out)["good_images"], 13);

    let files = ["000.png", "a.jpg", "g.jpg", "h.jpeg"].map(|name| images.join(name));
    let (scores, said) = score_by(&out, &files, 1);
    assert_eq!(scores.len(), 2);
    assert!(said.contains("a.jpg") && said.contains("cut off"), "{said}");
    assert!(said.contains("g.jpg") && said.contains("2 of 4"), "{said}");
}

/// A TIFF header in the byte order of Intel with one entry: the orientation.
fn exif(orientation: u8) -> Vec<u8> {
    let mut bytes = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0".to_vec();
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

/// Pictures that viewers show alike score alike, whatever way up they are stored, and their heatmaps are upright.
#[test]
fn orientation_is_applied_in_every_type_that_has_it() {
    let folder = folder("turned");
    let upright = dynamic(&Part::defective(40, 0.3, 0.6).picture(320, 240));
    let path = |name: &str| folder.join(name);
    upright.save(path("upright.png")).unwrap();
    let mut files = vec![path("upright.png")];
    // Stored so that turning it right by a quarter shows it upright.
    let (stored, orientation) = (upright.rotate270(), 6);
    let (width, height) = (stored.width(), stored.height());
    let pixels = stored.as_bytes();
    let colour = image::ExtendedColorType::Rgb8;
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.set_exif_metadata(exif(orientation)).unwrap();
    encoder.write_image(pixels, width, height, colour).unwrap();
    std::fs::write(path("a.png"), bytes).unwrap();
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut bytes);
    encoder.set_exif_metadata(exif(orientation)).unwrap();
    encoder.write_image(pixels, width, height, colour).unwrap();
    std::fs::write(path("b.webp"), bytes).unwrap();
    // The encoder of TIFF has no orientation: it is put in the place of another entry, the software's or whatever there is.
    std::fs::write(path("c.tiff"), tiff(&stored, orientation)).unwrap();
    files.extend(["a.png", "b.webp", "c.tiff"].map(path));
    let lines = score(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>());
    let of = |line: &serde_json::Value| line["score"].as_f64().unwrap();
    for line in &lines {
        common::assert_close("turned", of(line), of(&lines[0]), 1e-6);
    }

    // JPEG's blocks are others when turned: nearly the same.
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, 100);
    encoder.set_exif_metadata(exif(orientation)).unwrap();
    encoder.write_image(pixels, width, height, colour).unwrap();
    std::fs::write(path("d.jpg"), bytes).unwrap();
    let turned = score(&[&path("d.jpg")]);
    common::assert_close("JPEG", of(&turned[0]), of(&lines[0]), 0.05);

    let out = folder.join("heatmaps");
    let arguments = ["score", "--model"].map(OsStr::new).into_iter();
    let arguments = arguments.chain([model().path.as_ref(), "--heatmaps".as_ref()]);
    run(arguments.chain([out.as_ref(), path("d.jpg").as_ref()]), 0);
    let drawn = image::open(out.join("d.png")).unwrap();
    assert_eq!((drawn.width(), drawn.height()), (320, 240));
}

/// An uncompressed TIFF with an orientation.
fn tiff(image: &DynamicImage, orientation: u8) -> Vec<u8> {
    let pixels = image.as_bytes();
    let (width, height) = (image.width(), image.height());
    let entries: [(u16, u16, u32, u32); 10] = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, 3, 134),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 140),
        (274, 3, 1, orientation.into()),
        (277, 3, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, pixels.len() as u32),
    ];
    let mut bytes = b"II*\0\x08\0\0\0\x0a\0".to_vec();
    for (tag, kind, count, value) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend(count.to_le_bytes());
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend([0; 4]);
    assert_eq!(bytes.len(), 134);
    bytes.extend([8, 0, 8, 0, 8, 0]);
    bytes.extend(pixels);
    bytes
}

/// A camera of 12 bits in files of 16: as if the same pictures had 8.
#[test]
fn the_bits_that_a_camera_uses_are_found_and_kept() {
    let (eight, twelve) = (folder("bits-8"), folder("bits-12"));
    let deep = |grey: &image::GrayImage, white: f32| {
        let samples = grey
            .iter()
            .map(|v| (f32::from(*v) / 255.0 * white).round() as u16);
        let (width, height) = grey.dimensions();
        image::ImageBuffer::<image::Luma<u16>, _>::from_raw(
            width,
            height,
            samples.collect::<Vec<_>>(),
        )
        .unwrap()
    };
    for seed in 0..20 {
        let grey = dynamic(&picture(seed)).into_luma8();
        grey.save(eight.join(format!("{seed:02}.png"))).unwrap();
        deep(&grey, 4095.0)
            .save(twelve.join(format!("{seed:02}.png")))
            .unwrap();
    }
    let (first, second) = (fit(&eight, &[], 0).1, fit(&twelve, &["--bits", "12"], 0).1);
    assert!(info(&first).get("sample_bits").is_none());
    assert_eq!(info(&second)["sample_bits"], 12);
    // The pictures reach over 2047: without the option the same comes of them.
    let found = fit(&twelve, &[], 0).1;
    assert_eq!(info(&found)["sample_bits"], 12);
    common::assert_close(
        "threshold",
        info(&found)["threshold"].as_f64().unwrap(),
        info(&first)["threshold"].as_f64().unwrap(),
        0.1,
    );
    let defective = Part::defective(50, 0.4, 0.6).picture(320, 240);
    let grey = dynamic(&defective).into_luma8();
    let files = [eight.join("unseen.png"), twelve.join("unseen.tiff")];
    grey.save(&files[0]).unwrap();
    deep(&grey, 4095.0).save(&files[1]).unwrap();
    let (scores, said) = score_by(&found, &files, 0);
    assert_eq!(said, "");
    common::assert_close("12 bits", scores[1], scores[0], 0.01);
    // Another camera: said once for all its files.
    let other = folder("bits-16");
    let bright = [other.join("a.png"), other.join("b.png")];
    for path in &bright {
        deep(&grey, 65535.0).save(path).unwrap();
    }
    let said = score_by(&found, &bright, 0).1;
    assert!(said.contains("a.png") && said.contains("12 bits"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let said = score_by(&first, &files[1..], 0).1;
    assert!(
        said.contains("unseen.tiff") && said.contains("12 of 16"),
        "{said}"
    );
}

#[test]
fn several_sizes_are_said() {
    let images = folder("sizes");
    save_good(&images, 12);
    Part::good(60)
        .picture(640, 480)
        .save(&images.join("large.png"));
    let (output, out) = fit(&images, &[], 0);
    let said = text(&output.stderr);
    assert!(
        said.contains("2 sizes: 12 x 320x240, 1 x 640x480; all are scaled to 224x224"),
        "{said}"
    );
    let wide = images.join("wide.bmp");
    Part::good(61).picture(640, 240).save(&wide);
    let said = score_by(&out, &[images.join("large.png"), wide], 0).1;
    assert!(said.contains("wide.bmp is 640x240"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// Hidden files, folders and pipes with an image's name, links, and links in circles.
#[test]
fn what_is_no_picture_is_left_out_and_nothing_hangs() {
    let images = folder("litter");
    save_good(&images, 10);
    let path = |name: &str| images.join(name);
    for name in [".DS_Store", "._000.png", ".hidden.png"] {
        std::fs::write(path(name), b"no picture").unwrap();
    }
    std::fs::create_dir_all(path(".thumbnails")).unwrap();
    picture(70).save(&path(".thumbnails/a.png"));
    std::fs::create_dir_all(path("folder.png")).unwrap();
    symlink(".", path("circle")).unwrap();
    let elsewhere = folder("litter-elsewhere").join("b.png");
    picture(71).save(&elsewhere);
    symlink(&elsewhere, path("LINK.PNG")).unwrap();
    symlink("nowhere.png", path("dangling.png")).unwrap();
    symlink("loop.png", path("loop.png")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(path("pipe.png"))
        .status();
    assert!(made.unwrap().success());
    let link = scratch().join("litter-link");
    let _ = std::fs::remove_file(&link);
    symlink(&images, &link).unwrap();
    let (output, out) = fit(&link, &[], 0);
    assert_eq!(info(&out)["good_images"], 11);
    let said = text(&output.stderr);
    for words in [
        "dangling.png",
        "loop.png",
        "pipe.png",
        "no file but a pipe",
        "3 of 14",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(
        !said.contains("hidden") && !said.contains("._000"),
        "{said}"
    );
    // By name, each is an error of its own.
    let (scores, said) = score_by(
        &out,
        &[path("pipe.png"), path("folder.png"), path("LINK.PNG")],
        1,
    );
    assert_eq!(scores.len(), 1);
    assert!(
        said.contains("it is a folder") && said.contains("pipe"),
        "{said}"
    );
}

#[test]
fn a_name_that_is_not_utf_8_is_scored_and_drawn() {
    let folder = folder("names");
    let path = folder.join(OsStr::from_bytes(b"caf\xe9 \"1\".png"));
    let mut bytes = std::io::Cursor::new(Vec::new());
    dynamic(&picture(80))
        .write_to(&mut bytes, ImageFormat::Png)
        .unwrap();
    std::fs::write(&path, bytes.into_inner()).unwrap();
    let lines = score(&[&path]);
    assert!(
        lines[0]["file"]
            .as_str()
            .unwrap()
            .ends_with("caf\u{fffd} \"1\".png")
    );
}

/// Transparent, grey with alpha, of one bit, with a palette: all are read.
#[test]
fn every_kind_of_pixels_is_read() {
    let folder = folder("kinds");
    let image = dynamic(&picture(90));
    let path = |name: &str| folder.join(name);
    let (width, height) = (320u32, 240u32);
    image.to_luma_alpha16().save(path("a.png")).unwrap();
    image.to_rgba16().save(path("b.png")).unwrap();
    let bits = image.to_luma8();
    let mut one = format!("P4\n{width} {height}\n").into_bytes();
    for row in bits.rows() {
        let row: Vec<u8> = row.map(|p| u8::from(p[0] < 128)).collect();
        one.extend(
            row.chunks(8)
                .map(|c| c.iter().fold(0, |byte, bit| byte << 1 | bit)),
        );
    }
    std::fs::write(path("c.pbm"), one).unwrap();
    let mut ascii = format!("P2\n{width} {height}\n255\n");
    ascii.extend(bits.iter().map(|value| format!("{value}\n")));
    std::fs::write(path("d.pgm"), ascii).unwrap();
    bits.save(path("e.png")).unwrap();
    let files = ["a.png", "b.png", "c.pbm", "d.pgm", "e.png"].map(path);
    let lines = score(&files.each_ref().map(PathBuf::as_path));
    let of = |place: usize| lines[place]["score"].as_f64().unwrap();
    common::assert_close("ASCII", of(3), of(4), 1e-6);
    common::assert_close(
        "16 bits of colour",
        of(1),
        score(&[&rgb(&folder, &image)])[0]["score"]
            .as_f64()
            .unwrap(),
        1e-3,
    );
}

fn rgb(folder: &Path, image: &DynamicImage) -> PathBuf {
    let path = folder.join("rgb.png");
    image.save(&path).unwrap();
    path
}

#[test]
fn an_image_over_the_limit_is_named_with_the_option() {
    let folder = folder("limit");
    let path = folder.join("a.png");
    picture(95).save(&path);
    let arguments = |limit: &'static str| {
        let words = ["score", "--max-image-bytes", limit, "--model"].map(OsStr::new);
        words
            .into_iter()
            .chain([model().path.as_os_str(), path.as_os_str()])
    };
    run(arguments("230400"), 0);
    let said = text(&run(arguments("230399"), 1).stderr);
    for words in ["a.png", "320 x 240", "230400 bytes", "--max-image-bytes"] {
        assert!(said.contains(words), "{said}");
    }
}

/// As line-scan cameras make them, without an option; larger ones are refused before any of it is read.
#[test]
fn images_of_half_a_gibibyte_are_read_and_those_of_over_two_are_not() {
    let folder = folder("large");
    let large = |name: &str, side: u64, bytes: u64| {
        let path = folder.join(name);
        let header = format!("P5\n{side} {side}\n255\n");
        std::fs::write(&path, &header).unwrap();
        // Black, and takes no room on the disk.
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(header.len() as u64 + bytes).unwrap();
        path
    };
    let read = large("read.pgm", 24_000, 24_000 * 24_000);
    assert_eq!(score(&[&read]).len(), 1);
    let refused = large("refused.pgm", 47_000, 1);
    let arguments = [
        "score".as_ref(),
        "--model".as_ref(),
        model().path.as_os_str(),
    ];
    let said = text(&run(arguments.into_iter().chain([refused.as_os_str()]), 1).stderr);
    for words in [
        "refused.pgm",
        "47000 x 47000",
        "2147483648",
        "--max-image-bytes",
    ] {
        assert!(said.contains(words), "{said}");
    }
}

/// What is written over keeps its links and mode bits: models, reports and heatmaps.
#[test]
fn links_and_mode_bits_of_what_is_replaced_stay() {
    let folder = folder("links");
    let store = folder.join("store");
    std::fs::create_dir_all(&store).unwrap();
    let (real, link) = (store.join("v1.vadlite"), folder.join("part.vadlite"));
    std::fs::copy(&model().path, &real).unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o600)).unwrap();
    symlink("store/v1.vadlite", &link).unwrap();
    let images = folder.join("good");
    save_good(&images, 12);
    let arguments = ["calibrate", "--model"].map(OsStr::new).into_iter();
    run(
        arguments.chain([link.as_ref(), "--images".as_ref(), images.as_os_str()]),
        0,
    );
    let arguments = ["fit", "--method", "padim-lite", "--images"].map(OsStr::new);
    let unchanged = || {
        assert!(std::fs::symlink_metadata(&link).unwrap().is_symlink());
        let mode = std::fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    };
    unchanged();
    assert_eq!(info(&real)["calibration_folds"], 0);
    run(
        arguments
            .into_iter()
            .chain([images.as_ref(), "--out".as_ref(), link.as_os_str()]),
        0,
    );
    unchanged();
    assert_eq!(info(&real)["calibration_folds"], 10);

    let heatmaps = folder.join("heat");
    std::fs::create_dir_all(&heatmaps).unwrap();
    let kept = folder.join("kept.png");
    std::fs::write(&kept, b"old").unwrap();
    symlink("../kept.png", heatmaps.join("000.png")).unwrap();
    let arguments = ["score", "--model"].map(OsStr::new).into_iter();
    let arguments = arguments.chain([link.as_os_str(), "--heatmaps".as_ref()]);
    run(
        arguments.chain([heatmaps.as_os_str(), images.join("000.png").as_os_str()]),
        0,
    );
    assert!(image::open(&kept).is_ok());
}

/// Rows of any length: none of them has GStreamer's padding.
#[test]
fn heatmaps_are_drawn_at_every_width() {
    let folder = folder("widths");
    let files: Vec<PathBuf> = [1, 2, 3, 5, 7, 101, 854]
        .map(|width| {
            let path = folder.join(format!("{width}.png"));
            Part::good(97).picture(width, 48).save(&path);
            path
        })
        .into();
    let out = folder.join("out");
    let arguments = ["score", "--threshold", "0", "--model"]
        .map(OsStr::new)
        .into_iter();
    let arguments = arguments.chain([model().path.as_os_str(), "--heatmaps".as_ref()]);
    let arguments = arguments.chain([out.as_os_str()]);
    run(
        arguments.chain(files.iter().map(|file| file.as_os_str())),
        0,
    );
    for file in &files {
        let drawn = image::open(out.join(file.file_name().unwrap())).unwrap();
        let source = image::open(file).unwrap();
        assert_eq!(drawn.width(), source.width());
    }
}

/// Folders of the layout that hold no pictures, and pictures that were learnt from already.
#[test]
fn eval_leaves_out_litter_and_says_what_it_has_seen_before() {
    let root = folder("dataset");
    save_good(&root.join("train/good"), 12);
    save_good(&root.join("test/good"), 3);
    picture(98).save(&root.join("test/good/new.png"));
    let blob = root.join("test/blob");
    std::fs::create_dir_all(&blob).unwrap();
    for seed in 0..3 {
        let defective = Part::defective(300 + seed, 0.4, 0.5).picture(321, 240);
        defective.save(&blob.join(format!("{seed}.png")));
    }
    for hidden in [
        "test/.ipynb_checkpoints",
        "test/empty",
        "test/good/.thumbnails",
    ] {
        std::fs::create_dir_all(root.join(hidden)).unwrap();
    }
    picture(99).save(&root.join("test/.ipynb_checkpoints/x.png"));
    std::fs::write(blob.join("._0.png"), b"not one").unwrap();
    let report = root.join("report.html");
    let arguments = ["eval", "--json", "--method", "padim-lite", "--dataset"].map(OsStr::new);
    let arguments = arguments.into_iter().chain([root.as_os_str()]);
    let output = run(
        arguments.chain(["--report".as_ref(), report.as_os_str()]),
        0,
    );
    assert_eq!(json(&output)[0]["images"], 7);
    let said = text(&output.stderr);
    assert!(
        said.contains("test/empty") && !said.contains("ipynb"),
        "{said}"
    );
    assert!(
        said.contains("3 of 7 test images are also among those"),
        "{said}"
    );
    assert!(
        std::fs::read_to_string(&report)
            .unwrap()
            .contains("data:image/jpeg")
    );
}
