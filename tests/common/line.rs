//! A line for the tests of what comes after `vadlite`: frames with results made up, on a real pipeline with a real clock.

use gst::prelude::*;
use gstvadlite::detector::Region;
use gstvadlite::video::meta::FrameResult;
use std::time::{Duration, Instant};

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
}

/// `appsrc ! ELEMENT ! fakesink`, playing.
pub struct Line {
    pub pipeline: gst::Pipeline,
    pub element: gst::Element,
    source: gst_app::AppSrc,
    frame: u64,
}

impl Line {
    pub fn start(element: &str) -> Self {
        super::element::init();
        let text = format!(
            "appsrc name=source is-live=true format=time caps=video/x-raw,format=GRAY8,width=16,height=16,framerate=100/1 ! {element} name=it ! fakesink sync=false"
        );
        let pipeline = gst::parse::launch(&text).unwrap();
        let pipeline: gst::Pipeline = pipeline.downcast().unwrap();
        let source = pipeline.by_name("source").unwrap();
        pipeline.set_state(gst::State::Playing).unwrap();
        let line = Self {
            element: pipeline.by_name("it").unwrap(),
            source: source.downcast().unwrap(),
            pipeline,
            frame: 0,
        };
        line.wait(|line| line.now() > 0);
        line
    }

    /// Running time in nanoseconds.
    pub fn now(&self) -> u64 {
        self.element
            .current_running_time()
            .map_or(0, gst::ClockTime::nseconds)
    }

    /// Passes a frame taken at this running time.
    pub fn show_at(&mut self, time: u64, shown: Shown) {
        let mut buffer = gst::Buffer::with_size(256).unwrap();
        let flagged = shown.score > 1.0;
        let region = Region {
            x: 0.25,
            y: 0.25,
            width: 0.5,
            height: 0.5,
            score: shown.score as f32,
        };
        let result = FrameResult {
            score: shown.score,
            threshold: 1.0,
            flagged,
            inspected: shown.inspected,
            skipped: shown.skipped,
            drawn: false,
            frame: self.frame,
            model: "made-up.vadlite".into(),
            latency: 1,
            regions: if flagged { vec![region] } else { Vec::new() }.into(),
            map: None,
        };
        let inner = buffer.get_mut().unwrap();
        inner.set_pts(gst::ClockTime::from_nseconds(time));
        result.write(inner).unwrap();
        self.frame += 1;
        self.source.push_buffer(buffer).unwrap();
    }

    /// Passes a frame taken just now, and returns when that was.
    pub fn show(&mut self, shown: Shown) -> u64 {
        let now = self.now();
        self.show_at(now, shown);
        now
    }

    /// Waits until something is so, for 20 seconds at most.
    #[track_caller]
    pub fn wait(&self, mut done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !done(self) {
            assert!(
                Instant::now() < end,
                "it does not happen; {:?}",
                self.stats()
            );
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
