//! A belt under a camera as a video, with the truth known for every part; and a clock for it that waits for the machine.

use gst::prelude::*;
use gst_check::TestClock;
use gstvadlite::VadLiteTrigger;
use rayon::prelude::*;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub const WIDTH: usize = 320;
pub const HEIGHT: usize = 240;
/// Frames a second.
pub const RATE: u64 = 30;
/// Frames from one part to the next.
pub const PITCH: u64 = 10;
/// Frames that a part is in the picture, wholly or in part, from the first of its pitch on.
const SEEN: u64 = 9;
/// In pixels.
const RADIUS: f64 = 40.0;

/// Toothed wheels that pass one by one, each with a shade, a turn and a height of its own; some are scratched.
#[derive(Debug, Clone, Copy)]
pub struct Belt {
    pub seed: u64,
    pub frames: u64,
    /// Frame from which on every fourth part is scratched.
    pub defects_from: u64,
    /// Frame from which on the lamp is dim.
    pub dim_from: u64,
}

impl Belt {
    /// The part that is in the picture, if any.
    pub fn part(frame: u64) -> u64 {
        frame / PITCH
    }

    pub fn parts(&self) -> std::ops::Range<u64> {
        0..self.frames / PITCH
    }

    pub fn defective(&self, part: u64) -> bool {
        part * PITCH >= self.defects_from && part % 4 == 2
    }

    /// 8-bit grey, row by row.
    pub fn picture(&self, frame: u64) -> Vec<u8> {
        let part = Self::part(frame);
        let mut random = super::Random::new(1_000_000 * self.seed + part);
        let mut vary = |range: f64| (2.0 * random.unit() - 1.0) * range;
        let (lift, shade, turn) = (vary(4.0), vary(4.0), vary(3.0));
        let (scratch_x, scratch_y) = (vary(12.0), vary(12.0));
        let way = WIDTH as f64 + 2.0 * RADIUS;
        let x0 = (frame % PITCH) as f64 * way / SEEN as f64 - RADIUS;
        let y0 = HEIGHT as f64 / 2.0 + lift;
        let lamp = if frame >= self.dim_from { 0.6 } else { 1.0 };
        let mut noise = super::Random::new(1_000_000_000 * (self.seed + 1) + frame);
        let mut pixels = Vec::with_capacity(WIDTH * HEIGHT);
        for y in 0..HEIGHT {
            for x in 0..WIDTH {
                let (dx, dy) = (x as f64 - x0, y as f64 - y0);
                let radius = dx.hypot(dy);
                let mut value = 60.0 + 6.0 * (x as f64 / 9.0).sin() * (y as f64 / 7.0).sin();
                let inside = 1.0 / (1.0 + (radius - RADIUS).exp());
                if inside > 1e-3 {
                    let teeth = 10.0 * (dy.atan2(dx) * 8.0 + turn).cos();
                    let face = 170.0 + shade + 12.0 * (radius / 4.0).sin() + teeth;
                    let (along, across) = (dx - scratch_x, dy - scratch_y);
                    let scratch = (along + across).abs() < 3.0 && along.hypot(across) < 16.0;
                    let face = face
                        - if self.defective(part) && scratch {
                            90.0
                        } else {
                            0.0
                        };
                    value = value * (1.0 - inside) + face * inside;
                }
                pixels.push((lamp * value + 4.0 * noise.unit()).clamp(0.0, 255.0) as u8);
            }
        }
        pixels
    }

    /// Motion JPEG in Matroska.
    pub fn write(&self, path: &Path) {
        super::element::init();
        let text = format!(
            "appsrc name=source format=time caps=video/x-raw,format=GRAY8,width={WIDTH},height={HEIGHT},framerate={RATE}/1 \
             ! jpegenc quality=95 ! matroskamux ! filesink location={}",
            path.display()
        );
        let pipeline = gst::parse::launch(&text).unwrap();
        let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
        let source: gst_app::AppSrc = pipeline.by_name("source").unwrap().downcast().unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let numbers: Vec<u64> = (0..self.frames).collect();
        for numbers in numbers.chunks(120) {
            let pictures: Vec<_> = numbers.par_iter().map(|&n| self.picture(n)).collect();
            for (number, pixels) in numbers.iter().zip(pictures) {
                let mut buffer = gst::Buffer::from_mut_slice(pixels);
                let inner = buffer.get_mut().unwrap();
                inner.set_pts(gst::ClockTime::from_nseconds(time(*number)));
                inner.set_duration(gst::ClockTime::from_nseconds(time(1)));
                source.push_buffer(buffer).unwrap();
            }
        }
        source.end_of_stream().unwrap();
        let bus = pipeline.bus().unwrap();
        let kinds = [gst::MessageType::Eos, gst::MessageType::Error];
        let end = bus.timed_pop_filtered(gst::ClockTime::from_seconds(60), &kinds);
        assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
        pipeline.set_state(gst::State::Null).unwrap();
    }
}

/// When a frame is taken, in nanoseconds.
pub fn time(frame: u64) -> u64 {
    frame * 1_000_000_000 / RATE
}

/// The frame that was taken at this time.
pub fn frame_at(time: u64) -> u64 {
    (time * RATE + 500_000_000) / 1_000_000_000
}

/// A pipeline that plays such a video as a camera would.
pub fn source(path: &Path) -> String {
    format!(
        "filesrc location={} ! matroskademux ! jpegdec ! identity sync=true",
        path.display()
    )
}

/// How far the frames that come to the trigger may be behind the belt before it stands.
const BEHIND: u64 = 300_000_000;
/// The most that the belt goes on at once, however long the machine stood still.
const STEP: Duration = Duration::from_millis(20);

/// The time of a pipeline and its trigger: as real time, but it stands while what others do on the machine keeps frames from coming, and
/// goes slowly from a time on until the fit is through. Times on the belt are then those of a quiet machine. Ends the pipeline when dropped.
pub struct Pace {
    pipeline: gst::Pipeline,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// When the last frame that has come to the trigger was taken, in nanoseconds.
    come: AtomicU64,
    learnt: AtomicBool,
    end: AtomicBool,
}

impl Pace {
    /// For a pipeline that does not play yet.
    pub fn start(pipeline: &gst::Pipeline, trigger: &gst::Element, slow_from: u64) -> Self {
        let clock = TestClock::new();
        pipeline.use_clock(Some(&clock));
        let element = trigger.downcast_ref::<VadLiteTrigger>().unwrap();
        element.set_clock(clock.clone());
        let shared = Arc::<Shared>::default();
        let its = shared.clone();
        let seen = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
        let sink = trigger.static_pad("sink").unwrap();
        sink.add_probe(seen, move |_, info| {
            let come = match &info.data {
                Some(gst::PadProbeData::Buffer(buffer)) => buffer.pts().map(|pts| pts.nseconds()),
                // Nothing is waited for any more.
                Some(gst::PadProbeData::Event(event)) if event.type_() == gst::EventType::Eos => {
                    Some(u64::MAX)
                }
                _ => None,
            };
            if let Some(come) = come {
                its.come.store(come, Ordering::Relaxed);
            }
            gst::PadProbeReturn::Ok
        });
        let (its, paced) = (shared.clone(), pipeline.clone());
        let thread = std::thread::spawn(move || its.run(&clock, &paced, slow_from));
        Self {
            pipeline: pipeline.clone(),
            shared,
            thread: Some(thread),
        }
    }

    /// The fit is through.
    pub fn learnt(&self) {
        self.shared.learnt.store(true, Ordering::Relaxed);
    }
}

impl Drop for Pace {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
        self.shared.end.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

impl Shared {
    fn run(&self, clock: &TestClock, pipeline: &gst::Pipeline, slow_from: u64) {
        let mut last = Instant::now();
        while !self.end.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
            let now = Instant::now();
            let mut step = (now - last).min(STEP);
            last = now;
            let running = pipeline.current_running_time();
            let running = running.map_or(0, gst::ClockTime::nseconds);
            if running > self.come.load(Ordering::Relaxed).saturating_add(BEHIND) {
                step = Duration::ZERO;
            } else if running > slow_from && !self.learnt.load(Ordering::Relaxed) {
                step /= 10;
            }
            clock.advance_time(step.as_nanos() as i64);
            // Who asks for a time that has come waits for this as well.
            while clock.process_next_clock_id().is_some() {}
        }
    }
}
