//! `detector`: the backbones, every head with its anomaly map, and the map alone. The heads are fitted on generated pictures.
//!
//!     cargo bench --bench detector

use criterion::{Criterion, criterion_group, criterion_main};
use gstvadlite::detector::Recipe;
use gstvadlite::detector::anomaly_map::AnomalyMap;
use gstvadlite::detector::backbone::{Backbone, BackboneFile, resolve};
use gstvadlite::detector::error::{Chain, Error};
use gstvadlite::detector::method::{Method, Preset};
use gstvadlite::detector::{Detector, Finished, FitOptions, Fitter, Progress, RuntimeOptions};
use gstvadlite::geometry::Size;
use ndarray::Array3;

const SIZE: Size = Size::square(224);
/// 30 pictures make as many candidates as a bank of 2,000 and more needs.
const PICTURES: u64 = 30;

fn picture(seed: u64) -> Array3<f32> {
    let mut random = fastrand::Rng::with_seed(seed);
    Array3::from_shape_fn((3, SIZE.height, SIZE.width), |(channel, y, x)| {
        let wave = (0.11 * (x + 7 * channel) as f32).sin() * (0.07 * y as f32).cos();
        0.5 * wave + 0.2 * (random.f32() - 0.5)
    })
}

fn backbones(criterion: &mut Criterion) -> gstvadlite::detector::Result<()> {
    let image = picture(0);
    let mut group = criterion.benchmark_group("Backbone::run, one thread");
    for name in ["mobilenetv2.onnx", "mobilenetv2-int8.onnx"] {
        let file = BackboneFile::read(&resolve(None, name, None)?)?;
        for tap in ["features.10", "features.13"] {
            let options = RuntimeOptions {
                threads: 1,
                ..RuntimeOptions::default()
            };
            let mut backbone = Backbone::new(&file, &[tap.into()], SIZE, options)?;
            group.bench_function(format!("{name} to {tap}"), |b| {
                b.iter(|| backbone.run(image.view(), |taps| taps.len()));
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
        let mut fitter = Fitter::new(FitOptions::new(Recipe { method, preset }, &backbone))?;
        for seed in 0..PICTURES {
            fitter.add(picture(seed).view())?;
        }
        let Finished {
            model, backbone, ..
        } = fitter.finish(&mut Progress::none())?;
        let detector = Detector::new(model, backbone);
        let mut detector = detector.map_err(|source| Error::Model {
            path: "fitted just now".into(),
            source,
        })?;
        detector.inspect(picture(PICTURES).view())?;
        let name = format!("{} {}", method.name(), preset.name());
        group.bench_function(name, |b| b.iter(|| detector.rescore()));
    }
    group.finish();
    Ok(())
}

fn map(criterion: &mut Criterion) {
    let scores: Vec<f32> = (0..196).map(|patch| (patch % 17) as f32).collect();
    let mut map = AnomalyMap::new(Size::square(14), Size::square(112), 3.0, 1.5);
    criterion.bench_function("AnomalyMap::update, 14x14 to 112x112", |b| {
        b.iter(|| map.update(&scores));
    });
    criterion.bench_function("AnomalyMap::regions", |b| {
        b.iter(|| map.regions(8.0).len());
    });
}

fn all(criterion: &mut Criterion) {
    if let Err(error) = backbones(criterion).and_then(|()| heads(criterion)) {
        eprintln!("{}", Chain(&error));
        std::process::exit(1);
    }
    map(criterion);
}

criterion_group!(detector, all);
criterion_main!(detector);
