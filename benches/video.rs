//! `video`: frames to tensors, and heatmaps into frames, at 1920x1080.
//!
//!     cargo bench --bench video

use criterion::{Criterion, criterion_group, criterion_main};
use gst_video::{VideoFormat, VideoInfo};
use gstvadlite::detector::taps::Normalization;
use gstvadlite::geometry::{Roi, Size};
use gstvadlite::video::frame::{FrameFormat, WritableFrame};
use gstvadlite::video::overlay::{MapView, Overlay, Style};
use gstvadlite::video::preprocess::Target;
use ndarray::Array2;

const FORMATS: [VideoFormat; 6] = [
    VideoFormat::Nv12,
    VideoFormat::I420,
    VideoFormat::Yuy2,
    VideoFormat::Gray8,
    VideoFormat::Rgb,
    VideoFormat::Bgrx,
];

/// A frame of noise.
fn frame(format: VideoFormat) -> Option<(VideoInfo, gst::Buffer)> {
    let info = VideoInfo::builder(format, 1920, 1080).build().ok()?;
    let mut random = fastrand::Rng::with_seed(0);
    let bytes: Vec<u8> = (0..info.size()).map(|_| random.u8(16..235)).collect();
    Some((info, gst::Buffer::from_mut_slice(bytes)))
}

fn preprocess(criterion: &mut Criterion) {
    let target = Target {
        size: Size::square(224),
        normalization: Normalization::IMAGENET,
        roi: Roi::WHOLE,
    };
    let mut tensor = target.tensor();
    let mut group = criterion.benchmark_group("Preprocess::run, 1920x1080 to 224x224");
    for (info, buffer) in FORMATS.into_iter().filter_map(frame) {
        let name = info.name();
        let Some(format) = FrameFormat::new(info.clone()) else {
            continue;
        };
        let mut preprocess = format.preprocess(target);
        group.bench_function(name, |b| {
            b.iter(|| {
                let frame = format.read(&buffer)?;
                frame.to_tensor(&mut preprocess, tensor.view_mut())
            });
        });
    }
    group.finish();
}

/// A defect that covers a tenth of the picture.
fn overlay(criterion: &mut Criterion) {
    let size = 112;
    let values = Array2::from_shape_fn((size, size), |(y, x)| {
        let (x, y) = (x as f32 - 50.0, y as f32 - 60.0);
        2.0 * (-(x * x + y * y) / 700.0).exp()
    });
    let map = MapView {
        values: values.view(),
        roi: Roi::WHOLE,
    };
    let mut group = criterion.benchmark_group("Overlay::draw, 1920x1080");
    for (info, mut buffer) in FORMATS.into_iter().filter_map(frame) {
        let Some(buffer) = buffer.get_mut() else {
            continue;
        };
        for (style, name) in [(Style::Heatmap, "heatmap"), (Style::Contour, "contour")] {
            let mut overlay = Overlay::new();
            group.bench_function(format!("{} {name}", info.name()), |b| {
                b.iter(|| {
                    if let Ok(mut frame) = WritableFrame::map(buffer, &info) {
                        overlay.draw(&mut frame, map, 1.0, style);
                    }
                });
            });
        }
    }
    group.finish();
}

fn both(criterion: &mut Criterion) {
    if let Err(error) = gst::init() {
        eprintln!("GStreamer cannot be started: {error}");
        std::process::exit(1);
    }
    preprocess(criterion);
    overlay(criterion);
}

criterion_group!(video, both);
criterion_main!(video);
