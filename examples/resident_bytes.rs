//! What a model holds on the heap once it is open, besides ONNX Runtime's own memory, and what an inspection adds.
//!
//!     cargo run --release --example resident_bytes -- part.vadlite...

use gstvadlite::detector::{Detector, Options};
use gstvadlite::geometry::{Roi, Size};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

struct Counting;

static HELD: AtomicIsize = AtomicIsize::new(0);

// SAFETY: every call goes on to the system's allocator with the arguments as they are.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller keeps the promises of the trait.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> anyhow::Result<()> {
    println!(
        "model                             head in the file   detector open   after an inspection"
    );
    let mut first = true;
    for path in std::env::args_os().skip(1) {
        // The first session also makes what all sessions share.
        if std::mem::take(&mut first) {
            drop(Detector::open(path.as_ref(), Options::default())?);
        }
        let before = HELD.load(Ordering::Relaxed);
        let mut detector = Detector::open(path.as_ref(), Options::default())?;
        let open = HELD.load(Ordering::Relaxed) - before;
        let size = detector.input().of(Size::new(720, 1280), Roi::WHOLE);
        let image = ndarray::Array3::zeros((3, size.height, size.width));
        let before_inspection = HELD.load(Ordering::Relaxed);
        detector.inspect(image.view())?;
        let after = open + HELD.load(Ordering::Relaxed) - before_inspection;
        println!(
            "{:32} {:17} {open:15} {after:21}",
            path.to_string_lossy(),
            detector.head_bytes()
        );
    }
    Ok(())
}
