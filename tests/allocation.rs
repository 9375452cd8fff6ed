//! After the first frames, nothing between the frame and its regions allocates memory, but for the backbone.

mod common;

use common::element::{frame, info, init};
use common::{Part, model, scratch};
use gst_video::VideoFormat as F;
use gstvadlite::detector::model_file::ModelFile;
use gstvadlite::detector::{Detector, Options};
use gstvadlite::geometry::Roi;
use gstvadlite::locate::{Levels, Locator, PartModel};
use gstvadlite::video::frame::{FrameFormat, WritableFrame};
use gstvadlite::video::overlay::{MapView, Overlay, Style};
use gstvadlite::video::preprocess::Target;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts what all threads ask for.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promises are those that this call needs.
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, memory: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, memory) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, memory: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, memory, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations during 50 runs, after two that are not counted. The least of three, since the test harness's own thread is counted too
/// and may report a slow test at any moment.
fn allocations(mut run: impl FnMut()) -> usize {
    run();
    run();
    let counts = [(); 3].map(|()| {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for _ in 0..50 {
            run();
        }
        ALLOCATIONS.load(Ordering::Relaxed) - before
    });
    counts.into_iter().min().unwrap_or(0)
}

/// Finding parts and turning them upright.
fn located(image: &ndarray::Array3<f32>) {
    let part = PartModel {
        scene: 224,
        scale: 1.0,
        length: 90.0,
        width: 60.0,
        area: 4000.0,
        background: [120.0; 3],
        contrast: 20.0,
        background_off: 0.0,
        turns: 36,
        likeness: -1.0,
        count: None,
    };
    let levels = Levels {
        gain: [127.5; 3],
        bias: [127.5; 3],
    };
    let template = ndarray::Array2::from_shape_fn((48, 64), |(y, x)| (3 * y + 2 * x) as u8);
    let mut locator = Locator::new(part, levels, template.view());
    let mut upright = ndarray::Array3::zeros((3, 96, 128));
    // A part in the middle, two that touch, and one on the edge.
    let mut scene = ndarray::Array3::from_shape_fn(image.dim(), |_| -0.05);
    for (x, y) in [(20, 20), (120, 90), (120, 132), (0, 180)] {
        let place = ndarray::s![.., y..(y + 44).min(224), x..x + 88];
        scene.slice_mut(place).fill(0.8);
    }
    let mut found = 0;
    let counted = allocations(|| {
        locator.locate(scene.view());
        found = locator.found().len();
        for located in 0..found {
            let part = locator.found()[located];
            locator.upright(scene.view(), &part, upright.view_mut());
        }
    });
    assert!(found >= 3, "{found}");
    assert_eq!(counted, 0, "locating");
}

/// One test alone: another would be counted too.
#[test]
fn nothing_is_allocated_per_frame() {
    init();
    let counted = allocations(|| drop(std::hint::black_box(Box::new(7))));
    assert_eq!(counted, 50, "the counter does not count");

    let mut detector = Detector::open(&model().path, Options::default()).unwrap();
    let metadata = detector.metadata().clone();
    let threshold = metadata.threshold;
    let target = Target {
        size: detector.metadata().input_size,
        normalization: metadata.normalization,
        roi: metadata.roi,
    };
    let picture = Part::defective(1, 0.6, 0.4).picture(640, 480);
    let mut tensor = target.tensor();
    for format in [F::Nv12, F::Yuy2, F::Gray16Le, F::Rgb, F::I420, F::Bgrx] {
        let info = info(format, &picture);
        let buffer = frame(&picture, &info);
        let name = info.name();
        let format = FrameFormat::new(info.clone()).unwrap();
        let mut preprocess = format.preprocess(target);
        let counted = allocations(|| {
            let frame = format.read(&buffer).unwrap();
            frame.to_tensor(&mut preprocess, tensor.view_mut()).unwrap();
        });
        assert_eq!(counted, 0, "preprocessing {name}");
    }

    let score = detector.inspect(picture.tensor(target).view()).unwrap();
    assert!(score > threshold);
    let counted = allocations(|| assert_eq!(detector.rescore(), score));
    assert_eq!(counted, 0, "head and map");
    // A model with a level of light and a mask asks for no more than one without.
    let image = picture.tensor(target);
    let plain = allocations(|| _ = detector.inspect(image.view()).unwrap());
    let mut other = ModelFile::read(&model().path).unwrap();
    other.metadata.light_level = Some(0.4);
    other.metadata.judged = Some("10".repeat(98));
    let path = scratch().join("light and mask.vadlite");
    other.write(&path).unwrap();
    let mut other = Detector::open(&path, Options::default()).unwrap();
    let counted = allocations(|| _ = other.inspect(image.view()).unwrap());
    assert_eq!(counted, plain, "light and mask");
    located(&image);
    // Many regions and few.
    for threshold in [threshold, score / 50.0] {
        assert!(!detector.regions(threshold).is_empty());
        let counted = allocations(|| _ = detector.regions(threshold));
        assert_eq!(counted, 0, "regions");
    }

    let map = MapView {
        values: detector.map(),
        roi: Roi::WHOLE,
    };
    for format in [F::Nv12, F::Yuy2, F::Gray16Le, F::Rgb] {
        let info = info(format, &picture);
        let mut buffer = frame(&picture, &info);
        let mut target = WritableFrame::map(buffer.get_mut().unwrap(), &info).unwrap();
        for style in [Style::Heatmap, Style::Contour] {
            let mut overlay = Overlay::new();
            let counted = allocations(|| overlay.draw(&mut target, map, threshold, style));
            assert_eq!(counted, 0, "drawing a {style:?} into {format:?}");
        }
    }
}
