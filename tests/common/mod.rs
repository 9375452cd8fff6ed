//! Pictures made in code and a small model fitted on them: what the tests of several files share.

// Every test binary compiles this file and uses a part of it.
#![allow(dead_code)]

pub mod belt;
pub mod broker;
pub mod element;
pub mod layout;
pub mod lever;
pub mod line;
pub mod plc;
pub mod port;
pub mod program;
pub mod raw_broker;
pub mod recordings;
pub mod stall;

use gstvadlite::detector::model_file::ModelFile;
use gstvadlite::video::preprocess::{Layout, Plane, Preprocess, Target};
use ndarray::Array3;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The preset that the tests fit.
pub const PRESET: &str = "default";
/// Good pictures that the model of [`model`] is fitted on.
pub const GOOD: u64 = 20;

pub fn backbone() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/mobilenetv2.onnx")
}

/// A folder of this test binary's own, emptied once per run.
pub fn scratch() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let exe = std::env::current_exe().unwrap();
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(exe.file_name().unwrap());
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    })
}

/// Numbers in 0..1 from a seed (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.bits() % end as u64) as usize
    }
}

/// A part under a camera: a disc with rings on a shaded table, a little different for every seed, and a dark blob where it is defective.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    pub seed: u64,
    /// Centre of the blob, in 0..1.
    pub blob: Option<(f64, f64)>,
}

/// Radius of the blob in 0..1 of the picture, where it has lost most of its darkness.
pub const BLOB_RADIUS: f64 = 0.06;

impl Part {
    pub fn good(seed: u64) -> Self {
        Self { seed, blob: None }
    }

    pub fn defective(seed: u64, x: f64, y: f64) -> Self {
        Self {
            seed,
            blob: Some((x, y)),
        }
    }

    /// The part drawn at a size, with the camera's noise.
    pub fn picture(&self, width: usize, height: usize) -> Picture {
        let mut picture = self.clean(width, height);
        let mut random = Random::new(self.seed + 1_000_000);
        for sample in &mut picture.rgb {
            *sample = (f64::from(*sample) + 6.0 * random.unit() - 3.0).clamp(0.0, 255.0) as u8;
        }
        picture
    }

    /// The part drawn at a size, without noise: the same scene at every size.
    pub fn clean(&self, width: usize, height: usize) -> Picture {
        let mut random = Random::new(self.seed);
        let mut vary = |range: f64| (2.0 * random.unit() - 1.0) * range;
        let (light, left, top, turn) = (vary(5.0), vary(0.006), vary(0.006), vary(0.3));
        let mut rgb = Vec::with_capacity(3 * width * height);
        for row in 0..height {
            for column in 0..width {
                let x = (column as f64 + 0.5) / width as f64;
                let y = (row as f64 + 0.5) / height as f64;
                let distance = ((x - 0.5 - left).powi(2) + (y - 0.5 - top).powi(2)).sqrt();
                let inside = 1.0 / (1.0 + ((distance - 0.34) / 0.006).exp());
                let rings = 14.0 * (distance * 60.0).sin();
                let spokes = 8.0 * ((y - 0.5).atan2(x - 0.5) * 6.0 + turn).cos();
                let table = [96.0 + 20.0 * x, 100.0 + 12.0 * y, 118.0 - 16.0 * x];
                let part = [178.0, 160.0, 128.0].map(|value| value + rings + spokes);
                let dark = self.blob.map_or(0.0, |(bx, by)| {
                    let squared = (x - bx).powi(2) + (y - by).powi(2);
                    110.0 * (-squared / (BLOB_RADIUS / 1.5).powi(2)).exp()
                });
                rgb.extend((0..3).map(|channel| {
                    let value = table[channel] * (1.0 - inside) + part[channel] * inside;
                    (value + light - dark).round().clamp(0.0, 255.0) as u8
                }));
            }
        }
        Picture { width, height, rgb }
    }
}

/// Packed 8-bit RGB without padding.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    pub width: usize,
    pub height: usize,
    pub rgb: Vec<u8>,
}

impl Picture {
    /// Averages over areas: every pixel of the smaller picture is the mean of what it covers of the larger one.
    pub fn shrunk(&self, width: usize, height: usize) -> Self {
        let cover = |index: usize, outputs: usize, inputs: usize| {
            let scale = inputs as f64 / outputs as f64;
            let (from, to) = (index as f64 * scale, (index + 1) as f64 * scale);
            let last = (to.ceil() as usize).min(inputs);
            (from as usize..last)
                .map(|input| {
                    let share = (input as f64 + 1.0).min(to) - (input as f64).max(from);
                    (input, share / scale)
                })
                .collect::<Vec<_>>()
        };
        let columns: Vec<_> = (0..width).map(|x| cover(x, width, self.width)).collect();
        let mut rgb = Vec::with_capacity(3 * width * height);
        for y in 0..height {
            let rows = cover(y, height, self.height);
            for columns in &columns {
                let mut sums = [0.0f64; 3];
                for &(row, row_share) in &rows {
                    for &(column, share) in columns {
                        let pixel = &self.rgb[3 * (row * self.width + column)..][..3];
                        for (sum, &sample) in sums.iter_mut().zip(pixel) {
                            *sum += row_share * share * f64::from(sample);
                        }
                    }
                }
                rgb.extend(sums.map(|sum| sum.round() as u8));
            }
        }
        Self { width, height, rgb }
    }

    /// The same picture without colour.
    pub fn grey(&self) -> Self {
        let rgb = self
            .rgb
            .chunks_exact(3)
            .flat_map(|pixel| [pixel[1]; 3])
            .collect();
        Self {
            rgb,
            ..self.clone()
        }
    }

    pub fn save(&self, path: &Path) {
        let size = (self.width as u32, self.height as u32);
        image::save_buffer(path, &self.rgb, size.0, size.1, image::ColorType::Rgb8).unwrap();
    }

    pub fn tensor(&self, target: Target) -> Array3<f32> {
        let mut tensor = target.tensor();
        let plane = Plane {
            data: &self.rgb,
            stride: 3 * self.width,
        };
        Preprocess::new(
            Layout::interleaved(self.width, self.height, 3, false),
            target,
        )
        .run(&[plane], tensor.view_mut())
        .unwrap();
        tensor
    }
}

/// A fitted model and where it lies.
pub struct Fitted {
    pub path: PathBuf,
    pub model: ModelFile,
}

/// The model of this test binary, fitted by the program on [`GOOD`] good parts when first asked for.
pub fn model() -> &'static Fitted {
    static MODEL: OnceLock<Fitted> = OnceLock::new();
    MODEL.get_or_init(|| {
        let images = scratch().join("good");
        save_good(&images, GOOD);
        let path = scratch().join("part.vadlite");
        let output = vadlite()
            .args(["fit", "--method", "padim-lite", "--preset", PRESET])
            .args([OsStr::new("--images"), images.as_ref()])
            .args([OsStr::new("--out"), path.as_ref()])
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let model = ModelFile::read(&path).unwrap();
        Fitted { path, model }
    })
}

/// The program under test.
pub fn vadlite() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vadlite"))
}

/// Writes good parts with the seeds `0..count` into a folder.
pub fn save_good(folder: &Path, count: u64) {
    std::fs::create_dir_all(folder).unwrap();
    for seed in 0..count {
        let picture = Part::good(seed).picture(320, 240);
        picture.save(&folder.join(format!("{seed:03}.png")));
    }
}

/// Whether two scores agree to a relative difference.
#[track_caller]
pub fn assert_close(what: &str, score: f64, expected: f64, tolerance: f64) {
    let difference = (score / expected - 1.0).abs();
    assert!(
        difference <= tolerance,
        "{what}: {score} and {expected} differ by {:.3} %",
        100.0 * difference
    );
}
