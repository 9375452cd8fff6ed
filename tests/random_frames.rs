//! Frames of random sizes and layouts, many of which say more than is true, at everything that maps one: inspecting, learning, drawing,
//! the recorder's picture. Their memory ends at a page that may not be touched, or begins behind one.
//!
//! Each frame follows from its number. `VADLITE_RANDOM_FRAMES` has another number of frames tried than some thousand, or those of a
//! range such as `17..18`.

mod common;

use common::Random;
use common::element::{FORMATS, Rig, Seen, init};
use common::layout::{extents, places, sample_bytes};
use common::scratch;
use gst_video::{VideoFormat as F, VideoFrameFlags, VideoInfo, VideoInterlaceMode, VideoMeta};
use gstvadlite::detector::taps::Normalization;
use gstvadlite::geometry::{Roi, Size};
use gstvadlite::video::frame::{FrameError, FrameFormat, ReadableFrame, WritableFrame};
use gstvadlite::video::overlay::{MapView, Overlay, Style};
use gstvadlite::video::preprocess::Target;
use gstvadlite::video::{heatmap, picture};
use ndarray::Array2;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

const FRAMES: u64 = 3000;
/// Of so many frames one also goes through the elements, where the network takes its time.
const ELEMENTS: u64 = 32;
/// Formats of which only the recorder knows, some without rows.
const OTHERS: [F; 12] = [
    F::Y42b,
    F::Y444,
    F::I42010le,
    F::P01010le,
    F::V210,
    F::Argb64,
    F::Ayuv,
    F::Rgb16,
    F::Iyu1,
    F::A420,
    F::Nv1264z32,
    F::Rgb8p,
];

/// The frame in hand, for the handler of its crash.
static NUMBER: AtomicU64 = AtomicU64::new(0);

fn name_frames_that_crash() {
    extern "C" fn handler(_signal: libc::c_int) {
        // Nothing here may allocate.
        let (mut number, mut digits) = (NUMBER.load(Ordering::Relaxed), [b'0'; 21]);
        digits[20] = b'\n';
        for digit in digits[..20].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
        for text in [b"memory fault at frame ".as_slice(), &digits] {
            // SAFETY: pointer and length are of one slice.
            unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        }
        // SAFETY: ends the process without any more of its code.
        unsafe { libc::_exit(1) };
    }
    for signal in [libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the handler calls nothing that a handler of signals may not call.
        unsafe { libc::signal(signal, handler as *const () as libc::sighandler_t) };
    }
}

/// Memory between two pages that may be neither read nor written.
struct Fenced {
    start: *mut u8,
    bytes: usize,
}

impl Fenced {
    fn new(bytes: usize) -> Self {
        // SAFETY: asks for a constant.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let bytes = bytes.next_multiple_of(page);
        let all = bytes + 2 * page;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: new memory, which stays for the rest of the process; the part in the middle lies within it.
        let start = unsafe {
            let start = libc::mmap(std::ptr::null_mut(), all, libc::PROT_NONE, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED);
            let start = start.cast::<u8>().add(page);
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            assert_eq!(libc::mprotect(start.cast(), bytes, rights), 0);
            start
        };
        Self { start, bytes }
    }

    /// So many bytes that end at the fence behind, or begin at that before.
    fn part(&self, bytes: usize, at_end: bool) -> Part {
        assert!(bytes <= self.bytes);
        let skipped = if at_end { self.bytes - bytes } else { 0 };
        // SAFETY: it ends within the memory.
        let start = unsafe { self.start.add(skipped) };
        Part { start, bytes }
    }
}

/// Some of that memory, which GStreamer and the test look at in turn.
#[derive(Clone, Copy)]
struct Part {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: nothing but bytes, which never go.
unsafe impl Send for Part {}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `Fenced` has given it out.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl AsMut<[u8]> for Part {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }
}

impl Part {
    fn range(&self, range: Range<usize>) -> Self {
        assert!(range.end <= self.bytes);
        // SAFETY: it lies within this part.
        let start = unsafe { self.start.add(range.start) };
        Self {
            start,
            bytes: range.len(),
        }
    }
}

/// Whether another buffer has the memory as well.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Holding {
    Nobody,
    Another,
    ReadOnly,
}

#[derive(Debug)]
struct Meta {
    format: F,
    size: (u32, u32),
    offsets: Vec<usize>,
    strides: Vec<i32>,
}

/// What a frame is said to be, and what there is.
#[derive(Debug)]
struct Case {
    info: VideoInfo,
    interlaced: bool,
    meta: Option<Meta>,
    bytes: usize,
    /// Where its memory is cut into several.
    cuts: Vec<usize>,
    holding: Holding,
    at_end: bool,
}

/// Any of a range, small ones as often as large ones.
fn side(random: &mut Random) -> usize {
    match random.below(10) {
        0 => [1, 2, 3, 4095, 4096][random.below(5)],
        _ => (12.0 * random.unit()).exp2() as usize,
    }
}

impl Case {
    fn new(number: u64) -> Self {
        let mut random = Random::new(number);
        let format = FORMATS[random.below(FORMATS.len())];
        let (mut width, mut height) = (side(&mut random), side(&mut random));
        // Large ones take long.
        if width * height > 1 << 16 && random.below(16) > 0 {
            (width, height) = (width.div_ceil(16), height.div_ceil(16));
        }
        let modes = [
            VideoInterlaceMode::Progressive,
            VideoInterlaceMode::Progressive,
            VideoInterlaceMode::Interleaved,
            VideoInterlaceMode::Mixed,
            VideoInterlaceMode::Fields,
        ];
        let info = VideoInfo::builder(format, width as u32, height as u32)
            .interlace_mode(modes[random.below(5)])
            .build()
            .unwrap();
        let mut case = Self {
            bytes: info.size(),
            info,
            interlaced: random.below(2) == 0,
            meta: None,
            cuts: Vec::new(),
            holding: [
                Holding::Nobody,
                Holding::Nobody,
                Holding::Another,
                Holding::ReadOnly,
            ][random.below(4)],
            at_end: random.below(4) > 0,
        };
        match random.below(6) {
            0 => match random.below(4) {
                0 => case.bytes -= 1 + random.below(case.bytes),
                1 => case.bytes += random.below(5000),
                _ => {}
            },
            _ => case.lay_out(&mut random),
        }
        if random.below(3) == 0 && case.bytes > 0 {
            let starts = case.meta.iter().flat_map(|meta| meta.offsets.clone());
            case.cuts = match random.below(2) {
                0 => starts.collect(),
                _ => (0..3).map(|_| random.below(case.bytes)).collect(),
            };
            case.cuts.retain(|cut| (1..case.bytes).contains(cut));
            case.cuts.sort_unstable();
            case.cuts.dedup();
        }
        case
    }

    /// A meta whose planes lie in any order, with gaps and padding, and not a byte more than needed; often something of it is not true.
    fn lay_out(&mut self, random: &mut Random) {
        let (width, height) = (self.info.width(), self.info.height());
        let extents = extents(self.info.format(), width as usize, height as usize);
        let mut order: Vec<usize> = (0..extents.len()).collect();
        if random.below(3) == 0 {
            order.reverse();
        }
        let (mut offsets, mut strides) = (vec![0; order.len()], vec![0; order.len()]);
        let mut end = 0;
        for plane in order {
            let (row, rows) = extents[plane];
            let stride = match random.below(5) {
                0 => row,
                1 => row.next_multiple_of(4),
                2 => row.next_multiple_of(64),
                _ => row + random.below(70),
            };
            offsets[plane] = end
                + if random.below(2) == 0 {
                    0
                } else {
                    random.below(70)
                };
            strides[plane] = stride as i32;
            end = offsets[plane] + stride * (rows - 1) + row;
        }
        self.bytes = end;
        let mut meta = Meta {
            format: self.info.format(),
            size: (width, height),
            offsets,
            strides,
        };
        if random.below(3) == 0 {
            meta.size.0 += random.below(3) as u32;
            meta.size.1 += random.below(1000) as u32;
        }
        if random.below(2) == 0 {
            self.lie(&mut meta, random);
        }
        self.meta = Some(meta);
    }

    fn lie(&mut self, meta: &mut Meta, random: &mut Random) {
        let plane = random.below(meta.offsets.len());
        let (offset, stride) = (&mut meta.offsets[plane], &mut meta.strides[plane]);
        match random.below(8) {
            0 => {
                *stride = [0, 1, -1, i32::MIN, i32::MAX, *stride - 1, *stride + 1][random.below(7)];
            }
            // Upside down, from the row at its end on.
            1 => {
                *offset += *stride as usize * (self.info.comp_height(0) as usize - 1);
                *stride = -*stride;
            }
            2 => {
                let (last, far) = (self.bytes - 1, usize::MAX);
                *offset = [
                    last,
                    last + 1,
                    far,
                    far - *offset,
                    far / 2 + 1,
                    1 << 32,
                    5 << 30,
                ][random.below(7)];
            }
            // Upon another plane, or its own one a little further on.
            3 => *offset = [0, *offset + 1 + random.below(20)][random.below(2)],
            4 => self.bytes -= 1 + random.below(self.bytes.min(100)),
            5 => self.bytes -= 1 + random.below(self.bytes),
            6 => {
                meta.size = match random.below(4) {
                    0 => (0, 0),
                    1 => (meta.size.0, self.info.height() - 1),
                    2 => (self.info.width() - 1, meta.size.1),
                    _ => (u32::MAX, u32::MAX),
                }
            }
            _ => match random.below(3) {
                0 => meta.format = FORMATS[random.below(FORMATS.len())],
                1 => {
                    meta.offsets.pop();
                    meta.strides.pop();
                }
                _ => {
                    meta.offsets.push(0);
                    meta.strides.push(1);
                }
            },
        }
    }

    fn offsets(&self) -> &[usize] {
        let meta = self.meta.as_ref().map(|meta| meta.offsets.as_slice());
        meta.unwrap_or(self.info.offset())
    }

    fn strides(&self) -> &[i32] {
        let meta = self.meta.as_ref().map(|meta| meta.strides.as_slice());
        meta.unwrap_or(self.info.stride())
    }

    /// Whether it is what it says.
    fn is_true(&self) -> bool {
        let (width, height) = (self.info.width(), self.info.height());
        let extents = extents(self.info.format(), width as usize, height as usize);
        let Some(meta) = &self.meta else {
            return self.bytes >= self.info.size();
        };
        let same = meta.format == self.info.format() && meta.offsets.len() == extents.len();
        let covered = meta.size.0 >= width && meta.size.1 >= height;
        same && covered
            && extents.iter().enumerate().all(|(plane, &(row, rows))| {
                let (start, stride) = (meta.offsets[plane], i128::from(meta.strides[plane]));
                // A plane does not go on in the next memory.
                let end = self.cuts.iter().copied().find(|&cut| cut > start);
                let needed = stride * (rows as i128 - 1) + row as i128;
                stride >= row as i128 && start as i128 + needed <= end.unwrap_or(self.bytes) as i128
            })
    }

    fn buffer(&self, memory: Part) -> (gst::Buffer, gst::Buffer) {
        let mut buffer = gst::Buffer::new();
        let inner = buffer.get_mut().unwrap();
        let mut other = gst::Buffer::new();
        let ends = self.cuts.iter().copied().chain([self.bytes]);
        let mut start = 0;
        for end in ends.filter(|_| self.bytes > 0) {
            let part = memory.range(start..end);
            start = end;
            let memory = match self.holding {
                Holding::ReadOnly => gst::Memory::from_slice(part),
                _ => gst::Memory::from_mut_slice(part),
            };
            if self.holding == Holding::Another {
                let other = other.get_mut().unwrap();
                other.append_memory(memory.clone());
            }
            inner.append_memory(memory);
        }
        if self.interlaced {
            let flags = gst_video::VideoBufferFlags::INTERLACED.bits();
            inner.set_flags(gst::BufferFlags::from_bits_retain(flags));
        }
        if let Some(meta) = &self.meta {
            let ((width, height), flags) = (meta.size, VideoFrameFlags::empty());
            VideoMeta::add_full(
                inner,
                flags,
                meta.format,
                width,
                height,
                &meta.offsets,
                &meta.strides,
            )
            .unwrap();
        }
        (buffer, other)
    }

    /// Calls `each` with the bytes of visible colour samples, in stretches.
    fn for_each_visible(&self, mut each: impl FnMut(Range<usize>)) {
        let format = self.info.format();
        let (width, height) = (self.info.width() as usize, self.info.height() as usize);
        for (plane, (row, rows)) in extents(format, width, height).into_iter().enumerate() {
            let mut visible = vec![false; row];
            for (_, first, step, across, _) in
                places(format).into_iter().filter(|place| place.0 == plane)
            {
                for x in 0..width.div_ceil(across) {
                    visible[first + x * step..][..sample_bytes(format)].fill(true);
                }
            }
            let mut runs: Vec<Range<usize>> = Vec::new();
            for (byte, _) in visible.iter().enumerate().filter(|(_, visible)| **visible) {
                match runs.last_mut() {
                    Some(run) if run.end == byte => run.end += 1,
                    _ => runs.push(byte..byte + 1),
                }
            }
            let (offset, stride) = (self.offsets()[plane], self.strides()[plane] as usize);
            for start in (0..rows).map(|row| offset + row * stride) {
                runs.iter()
                    .for_each(|run| each(start + run.start..start + run.end));
            }
        }
    }
}

/// No two neighbouring bytes, rows or planes are alike.
fn fill(memory: &mut [u8]) {
    let pattern: [u8; 251] = std::array::from_fn(|index| (index * 89 % 251) as u8);
    for chunk in memory.chunks_mut(pattern.len()) {
        chunk.copy_from_slice(&pattern[..chunk.len()]);
    }
}

/// What is compared after each frame.
struct Checker {
    expected: Vec<u8>,
}

impl Checker {
    /// Nothing is written but visible samples, and not one of a frame that is refused. Returns how many bytes are.
    #[track_caller]
    fn check(&mut self, case: &Case, memory: Part, may_be_drawn: bool) -> usize {
        let after = memory.as_ref();
        self.expected.resize(after.len(), 0);
        fill(&mut self.expected);
        let mut drawn = 0;
        if may_be_drawn {
            case.for_each_visible(|bytes| {
                let (before, after) = (&mut self.expected[bytes.clone()], &after[bytes]);
                if before != after {
                    drawn += before.iter().zip(after).filter(|(a, b)| a != b).count();
                    before.copy_from_slice(after);
                }
            });
        }
        if self.expected != after {
            let byte = self.expected.iter().zip(after).position(|(a, b)| a != b);
            panic!("byte {byte:?} is written: {case:?}");
        }
        drawn
    }
}

/// The elements, with the frames that they have failed on.
struct Elements {
    detect: Rig,
    learn: Rig,
}

impl Elements {
    fn new() -> Self {
        let learnt = scratch().join("learnt.vadlite");
        let path = learnt.to_str().unwrap();
        Self {
            detect: Rig::new(&[("overlay-always", "true"), ("post-messages", "none")]),
            learn: Rig::new(&[
                ("mode", "learn"),
                ("model", path),
                ("learn-frames", "100000"),
            ]),
        }
    }

    fn pass(&mut self, case: &Case, memory: Part, checker: &mut Checker) {
        let good = case.is_true();
        for (learns, rig) in [(false, &mut self.detect), (true, &mut self.learn)] {
            fill(memory.clone().as_mut());
            let failed: u64 = rig.stat("failed");
            rig.set_info(&case.info);
            let (buffer, other) = case.buffer(memory);
            let out = rig.pass(buffer);
            let seen = Seen::of(&out);
            let inspected = good && !learns;
            assert_eq!(seen.inspected, inspected, "learns: {learns}, {case:?}");
            let failures: u64 = rig.stat("failed");
            assert_eq!(
                failures - failed,
                u64::from(!good),
                "learns: {learns}, {case:?}"
            );
            drop((out, other));
            checker.check(case, memory, good);
            while rig.bus.pop().is_some() {}
        }
    }
}

/// A map of random scores somewhere in the frame, or the bar of the learner.
fn map(random: &mut Random) -> (Array2<f32>, Roi) {
    if random.below(3) == 0 {
        let bar = Array2::from_shape_fn((1, 64), |(_, x)| if x < 40 { 2.0 } else { 0.0 });
        return (bar, Roi::new(0.1, 0.94, 0.8, 0.03));
    }
    let shape = (1 + random.below(9), 1 + random.below(9));
    let values = Array2::from_shape_simple_fn(shape, || 3.0 * random.unit() as f32);
    let mut part = || {
        let from = random.unit() as f32;
        (from, (random.unit() as f32).min(1.0 - from).max(1e-3))
    };
    let ((x, width), (y, height)) = (part(), part());
    (values, Roi::new(x, y, width, height))
}

fn reads(case: &Case, buffer: &gst::BufferRef) -> Result<(), FrameError> {
    let format = FrameFormat::new(case.info.clone()).unwrap();
    let target = Target {
        size: Size::new(7, 5),
        normalization: Normalization::IMAGENET,
        roi: Roi::WHOLE,
    };
    let mut tensor = target.tensor();
    tensor.fill(f32::NAN);
    let mut preprocess = format.preprocess(target);
    let frame = format.read(buffer)?;
    frame.to_tensor(&mut preprocess, tensor.view_mut())?;
    assert!(tensor.iter().all(|value| value.abs() < 10.0), "{case:?}");
    Ok(())
}

fn numbers() -> Range<u64> {
    let Some(text) = std::env::var_os("VADLITE_RANDOM_FRAMES") else {
        return 0..FRAMES;
    };
    let text = text.to_str().unwrap();
    match text.split_once("..") {
        Some((from, to)) => from.parse().unwrap()..to.parse().unwrap(),
        None => 0..text.parse().unwrap(),
    }
}

#[test]
fn no_frame_leads_out_of_its_memory() {
    init();
    name_frames_that_crash();
    let fenced = Fenced::new(100 << 20);
    let mut checker = Checker {
        expected: Vec::new(),
    };
    let mut elements: Option<Elements> = None;
    let mut overlay = Overlay::new();
    let (mut good, mut drawn) = (0, 0);
    let numbers = numbers();
    let frames = numbers.end - numbers.start;
    for number in numbers {
        NUMBER.store(number, Ordering::Relaxed);
        let case = Case::new(number);
        let mut random = Random::new(!number);
        let mut memory = fenced.part(case.bytes, case.at_end);
        let is_true = case.is_true();
        good += u64::from(is_true);

        fill(memory.as_mut());
        let (mut buffer, other) = case.buffer(memory);
        let read = reads(&case, &buffer);
        assert_eq!(read.is_ok(), is_true, "frame {number}: {read:?}, {case:?}");
        // What does not go into the frame's own memory need not end at the fence.
        if case.bytes < 1 << 20 || number.is_multiple_of(8) {
            let picture = ReadableFrame::map(&buffer, &case.info).map(|frame| picture::rgb(&frame));
            match picture {
                Ok(picture) => {
                    let size = (case.info.width(), case.info.height());
                    assert_eq!(
                        picture.unwrap().dimensions(),
                        size,
                        "frame {number}: {case:?}"
                    );
                }
                Err(error) => assert!(!is_true, "frame {number}: {error}, {case:?}"),
            }
        }
        checker.check(&case, memory, false);

        let (values, roi) = map(&mut random);
        let map = MapView {
            values: values.view(),
            roi,
        };
        let style = [Style::Heatmap, Style::Contour][random.below(2)];
        match WritableFrame::map(buffer.get_mut().unwrap(), &case.info) {
            Ok(mut frame) => overlay.draw(&mut frame, map, 1.0, style),
            Err(error) => assert!(!is_true, "frame {number}: {error}, {case:?}"),
        }
        drop((other, buffer));
        let own = is_true && case.holding == Holding::Nobody;
        drawn += u64::from(checker.check(&case, memory, own) > 0);

        if number.is_multiple_of(ELEMENTS) {
            let elements = elements.get_or_insert_with(Elements::new);
            elements.pass(&case, memory, &mut checker);
        }
    }
    println!("{frames} frames, {good} as they say, {drawn} drawn into");
    // None of them is rare.
    assert!(frames < 100 || 4 * good > frames && 4 * (frames - good) > frames);
    assert!(frames < 100 || 10 * drawn > frames);
}

/// Heatmaps on pictures from files.
#[test]
fn pictures_of_any_size_take_a_heatmap() {
    init();
    for number in 0..numbers().end.min(1000) {
        let mut random = Random::new(number);
        let (width, height) = (side(&mut random) as u32, 1 + random.below(64) as u32);
        let mut picture = image::RgbImage::new(width, height);
        fill(&mut picture);
        let (values, roi) = map(&mut random);
        let map = MapView {
            values: values.view(),
            roi,
        };
        let drawn = heatmap::draw(&mut Overlay::new(), picture.clone(), map, 1.0).unwrap();
        assert_eq!(drawn.dimensions(), (width, height));
        // One row below the region and one pixel before it, where there are such, are as before.
        let below = ((roi.y + roi.height) * height as f32).ceil() as u32 + 1;
        for y in below..height {
            assert_eq!(drawn.get_pixel(0, y), picture.get_pixel(0, y));
        }
    }
}

/// The recorder takes frames of all formats.
#[test]
fn frames_of_other_formats_become_pictures_or_are_refused() {
    init();
    name_frames_that_crash();
    let fenced = Fenced::new(1 << 20);
    for number in 0..numbers().end.min(2000) {
        NUMBER.store(number, Ordering::Relaxed);
        let mut random = Random::new(number);
        let format = OTHERS[random.below(OTHERS.len())];
        let (width, height) = (1 + random.below(90) as u32, 1 + random.below(70) as u32);
        let info = VideoInfo::builder(format, width, height).build().unwrap();
        let short = [0, 0, 1, 1 + random.below(info.size())][random.below(4)];
        let memory = fenced.part(info.size() - short, true);
        let mut buffer = gst::Buffer::new();
        let inner = buffer.get_mut().unwrap();
        inner.append_memory(gst::Memory::from_mut_slice(memory));
        let described = random.below(2) == 0;
        if described {
            let flags = VideoFrameFlags::empty();
            let (offsets, strides) = (info.offset(), info.stride());
            VideoMeta::add_full(inner, flags, format, width, height + 1, offsets, strides).unwrap();
        }
        let frame = ReadableFrame::map(&buffer, &info);
        if matches!(format, F::Nv1264z32 | F::Rgb8p) {
            let error = frame.err().unwrap().to_string();
            assert!(error.contains(format.to_str().as_str()), "{error}");
            continue;
        }
        if !described {
            assert_eq!(
                frame.is_ok(),
                short == 0,
                "{format:?} {width}x{height}, {short} short"
            );
        }
        if let Ok(frame) = frame {
            assert_eq!(picture::rgb(&frame).unwrap().dimensions(), (width, height));
        }
    }
}
