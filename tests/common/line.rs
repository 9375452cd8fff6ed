//! A line for the tests of what comes after `vadlite`: frames with results made up, on a real pipeline, with the system's clock or one
//! that the test sets.

use gst::prelude::*;
use gst_check::TestClock;
use gstvadlite::VadLiteTrigger;
use gstvadlite::detector::Region;
use gstvadlite::video::meta::FrameResult;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long something may take that is to happen at once; only a failing test waits for it.
const LIMIT: Duration = Duration::from_secs(20);

/// The result of one frame.
#[derive(Debug, Clone, Copy)]
pub struct Shown {
    pub score: f64,
    pub inspected: bool,
    pub skipped: bool,
}

impl Shown {
    pub const GOOD: Self = Self {
        score: 0.5,
        inspected: true,
        skipped: false,
    };
    pub const DEFECTIVE: Self = Self {
        score: 2.0,
        inspected: true,
        skipped: false,
    };
    pub const FAILED: Self = Self {
        score: 0.0,
        inspected: false,
        skipped: false,
    };
    pub const SKIPPED: Self = Self {
        score: 0.0,
        inspected: false,
        skipped: true,
    };

    /// What `vadlite` would attach to the frame of this number.
    fn result(self, frame: u64) -> FrameResult<'static> {
        let flagged = self.score > 1.0;
        let region = Region {
            x: 0.25,
            y: 0.25,
            width: 0.5,
            height: 0.5,
            score: self.score as f32,
        };
        FrameResult {
            score: self.score,
            threshold: 1.0,
            flagged,
            inspected: self.inspected,
            skipped: self.skipped,
            drawn: false,
            frame,
            lost: 0,
            model: "made-up.vadlite".into(),
            latency: 1,
            size: gstvadlite::geometry::Size::new(240, 320),
            regions: if flagged { vec![region] } else { Vec::new() }.into(),
            map: None,
            parts: None,
            reason: None,
        }
    }
}

/// `appsrc ! ELEMENT ! fakesink`, playing.
pub struct Line {
    pub pipeline: gst::Pipeline,
    pub element: gst::Element,
    source: gst_app::AppSrc,
    /// Of a line whose time the test makes.
    clock: Option<TestClock>,
    /// Hears of each frame that leaves the element.
    passed: Receiver<()>,
    frame: u64,
    /// When the last frame was taken.
    last: u64,
}

impl Line {
    /// A line on the system's clock.
    pub fn start(element: &str) -> Self {
        super::element::init();
        let line = Self::new(element, None);
        line.wait(|line| line.now() > 0);
        line
    }

    /// A line whose clock stands still at the running time 0 until [`Line::run_to`] sets it.
    pub fn on_test_clock(element: &str) -> Self {
        super::element::init();
        Self::new(element, Some(TestClock::new()))
    }

    fn new(element: &str, clock: Option<TestClock>) -> Self {
        let text = format!(
            "appsrc name=source is-live=true format=time caps=video/x-raw,format=GRAY8,width=16,height=16,framerate=100/1 ! {element} name=it ! fakesink sync=false"
        );
        let pipeline = gst::parse::launch(&text).unwrap();
        let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
        let source = pipeline.by_name("source").unwrap();
        let element = pipeline.by_name("it").unwrap();
        if let Some(clock) = &clock {
            pipeline.use_clock(Some(clock));
            if let Some(trigger) = element.downcast_ref::<VadLiteTrigger>() {
                trigger.set_clock(clock.clone());
            }
        }
        let (pass, passed) = channel();
        let pad = element.static_pad("src").unwrap();
        pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
            let _ = pass.send(());
            gst::PadProbeReturn::Ok
        });
        pipeline.set_state(gst::State::Playing).unwrap();
        Self {
            element,
            source: source.downcast().unwrap(),
            pipeline,
            clock,
            passed,
            frame: 0,
            last: 0,
        }
    }

    /// Running time in nanoseconds.
    pub fn now(&self) -> u64 {
        self.element
            .current_running_time()
            .map_or(0, gst::ClockTime::nseconds)
    }

    fn clock(&self) -> &TestClock {
        self.clock.as_ref().expect("a line on the system's clock")
    }

    /// Lets this running time come, which ends what waits for it.
    pub fn run_to(&self, time: u64) {
        let base = self.pipeline.base_time().unwrap();
        let clock = self.clock();
        clock.set_time(base + gst::ClockTime::from_nseconds(time));
        while clock.process_next_clock_id().is_some() {}
    }

    /// The same by so much.
    pub fn advance(&self, by: u64) {
        let clock = self.clock();
        clock.advance_time(by as i64);
        while clock.process_next_clock_id().is_some() {}
    }

    /// What the clock shows, in nanoseconds.
    pub fn clock_time(&self) -> u64 {
        self.clock().time().nseconds()
    }

    /// The running time that the element waits for.
    pub fn awaited(&self) -> Option<u64> {
        let base = self.pipeline.base_time().unwrap();
        let next = self.clock().peek_next_pending_id()?;
        Some((next.time() - base).nseconds())
    }

    /// Passes a frame with these results that was taken at this running time, and returns when the element has seen it.
    pub fn show_results(&mut self, time: u64, results: &[Shown]) {
        let mut buffer = gst::Buffer::with_size(256).unwrap();
        let inner = buffer.get_mut().unwrap();
        inner.set_pts(gst::ClockTime::from_nseconds(time));
        for shown in results {
            shown.result(self.frame).write(inner).unwrap();
        }
        // What vadlite has not seen has no number.
        self.frame += u64::from(!results.is_empty());
        self.last = time;
        self.pass(buffer);
    }

    /// Passes a frame taken now before which so many are missing: before `vadlite`, and between there and here.
    pub fn show_lost(&mut self, before: u64, between: u64, shown: Shown) {
        self.frame += between;
        let now = self.now();
        let mut buffer = gst::Buffer::with_size(256).unwrap();
        let inner = buffer.get_mut().unwrap();
        inner.set_pts(gst::ClockTime::from_nseconds(now));
        let result = FrameResult {
            lost: before,
            ..shown.result(self.frame)
        };
        result.write(inner).unwrap();
        self.frame += 1;
        self.last = now;
        self.pass(buffer);
    }

    /// Passes a buffer, and returns when the element has seen it.
    pub fn pass(&self, buffer: gst::Buffer) {
        self.source.push_buffer(buffer).unwrap();
        self.passed
            .recv_timeout(LIMIT)
            .expect("a frame does not pass");
    }

    /// Passes a frame taken at this running time.
    pub fn show_at(&mut self, time: u64, shown: Shown) {
        self.show_results(time, &[shown]);
    }

    /// Passes a frame taken just now, and returns when that was. No two are taken at the same time.
    pub fn show(&mut self, shown: Shown) -> u64 {
        let now = match self.frame {
            0 => self.now(),
            _ => self.now().max(self.last + 1),
        };
        self.show_at(now, shown);
        now
    }

    /// Passes a frame that was taken so long after the one before it, whatever time it is now.
    pub fn show_after(&mut self, gap: Duration, shown: Shown) {
        self.show_at(self.last + gap.as_nanos() as u64, shown);
    }

    /// Waits until something is so, for 20 seconds at most.
    #[track_caller]
    pub fn wait(&self, mut done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + LIMIT;
        while !done(self) {
            assert!(
                Instant::now() < end,
                "it does not happen; {:?}",
                self.stats()
            );
            // Who has asked for a time just after it had come waits for this: a test clock lets nobody go by itself.
            if let Some(clock) = &self.clock {
                while clock.process_next_clock_id().is_some() {}
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn stats(&self) -> gst::Structure {
        self.element.property("stats")
    }

    pub fn stat(&self, name: &str) -> u64 {
        self.stats().get(name).unwrap()
    }

    /// Element messages of this name since the last call, and all warnings.
    pub fn messages(&self, name: &str) -> (Vec<gst::Structure>, Vec<String>) {
        let bus = self.pipeline.bus().unwrap();
        let (mut found, mut warnings) = (Vec::new(), Vec::new());
        while let Some(message) = bus.pop() {
            match message.view() {
                gst::MessageView::Element(element) => {
                    let structure = element.structure().filter(|has| has.name() == name);
                    found.extend(structure.map(ToOwned::to_owned));
                }
                gst::MessageView::Warning(warning) => {
                    warnings.push(warning.error().message().to_owned());
                }
                gst::MessageView::Error(error) => panic!("{error:?}"),
                _ => {}
            }
        }
        (found, warnings)
    }

    pub fn end(&self) {
        self.source.end_of_stream().unwrap();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
    }
}
