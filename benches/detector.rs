//! `detector`: the backbones, every head with its anomaly map, and the map alone. The heads are fitted on generated pictures.
//!
//!     cargo bench --bench detector

use criterion::{Criterion, criterion_group, criterion_main};
use gstvadlite::detector::anomaly_map::AnomalyMap;
use gstvadlite::detector::backbone::{Backbone, BackboneFile, resolve};
use gstvadlite::detector::heads::{Method, Preset, Recipe};
use gstvadlite::detector::tiles::Tiles;
use gstvadlite::detector::{Detector, Device, FitOptions, Fitter, Options};

const SIZE: usize = 224;
/// 30 pictures make as many candidates as a bank of 2,000 and more needs.
const PICTURES: u64 = 30;

fn picture(seed: u64) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut tensor = Vec::with_capacity(3 * SIZE * SIZE);
    for channel in 0..3 {
        for y in 0..SIZE {
            for x in 0..SIZE {
                let wave = (0.11 * (x + 7 * channel) as f32).sin() * (0.07 * y as f32).cos();
                tensor.push(0.5 * wave + 0.2 * (random.f32() - 0.5));
            }
        }
    }
    tensor
}

fn backbones(criterion: &mut Criterion) -> gstvadlite::detector::Result<()> {
    let image = picture(0);
    let mut group = criterion.benchmark_group("Backbone::run, one thread");
    for name in ["mobilenetv2.onnx", "mobilenetv2-int8.onnx"] {
        let file = BackboneFile::read(&resolve(None, name, None)?)?;
        for tap in ["features.10", "features.13"] {
            let options = Options {
                threads: 1,
                ..Options::default()
            };
            let mut backbone = Backbone::new(&file, &[tap.into()], (SIZE, SIZE), options)?;
            group.bench_function(format!("{name} to {tap}"), |b| {
                b.iter(|| backbone.run(&image, |taps| taps.len()));
            });
        }
    }
    group.finish();
    Ok(())
}

fn heads(criterion: &mut Criterion) -> gstvadlite::detector::Result<()> {
    let backbone = resolve(None, "mobilenetv2.onnx", None)?;
    let mut group = criterion.benchmark_group("Detector::rescore (head and map)");
    for (method, preset) in [
        (Method::PadimLite, Preset::Default),
        (Method::PadimLite, Preset::Paper),
        (Method::PatchcoreLite, Preset::Default),
        (Method::PatchcoreLite, Preset::Paper),
        (Method::Padim, Preset::Default),
        (Method::Patchcore, Preset::Default),
    ] {
        let mut fitter = Fitter::new(FitOptions {
            recipe: Recipe { method, preset },
            backbone: &backbone,
            taps: Vec::new(),
            dimensions: None,
            tiles: Tiles::ONE,
            input_size: [SIZE, SIZE],
            roi: [0.0, 0.0, 1.0, 1.0],
            false_reject_rate: None,
            video_of: None,
            threads: 0,
            library: None,
            device: Device::Cpu,
        })?;
        for seed in 0..PICTURES {
            fitter.add(&picture(seed))?;
        }
        let (model, backbone) = fitter.finish(&mut |_, _, _| ())?;
        let mut detector = match Detector::new(model, backbone) {
            Ok(detector) => detector,
            Err(reason) => return Err(gstvadlite::detector::Error::Fit(reason)),
        };
        detector.inspect(&picture(PICTURES))?;
        let name = format!("{} {}", method.name(), preset.name());
        group.bench_function(name, |b| b.iter(|| detector.rescore()));
    }
    group.finish();
    Ok(())
}

fn map(criterion: &mut Criterion) {
    let scores: Vec<f32> = (0..196).map(|patch| (patch % 17) as f32).collect();
    let mut map = AnomalyMap::new((14, 14), (112, 112), 3.0, 1.5);
    criterion.bench_function("AnomalyMap::update, 14x14 to 112x112", |b| {
        b.iter(|| map.update(&scores));
    });
    criterion.bench_function("AnomalyMap::regions", |b| {
        b.iter(|| map.regions(8.0).len());
    });
}

fn all(criterion: &mut Criterion) {
    if let Err(error) = backbones(criterion).and_then(|()| heads(criterion)) {
        eprintln!("{error}");
        std::process::exit(1);
    }
    map(criterion);
}

criterion_group!(detector, all);
criterion_main!(detector);
