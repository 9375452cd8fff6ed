//! A model at work on a stream: from the buffer to score and regions, and back into the buffer.

use super::settings::{Live, Overlay, Settings};
use super::stream::Picture;
use crate::detector::drift::{Direction, Drift};
use crate::detector::error::Chain;
use crate::detector::{Detector, Error, Options, Region, RuntimeOptions};
use crate::geometry::Roi;
use crate::video::overlay::{self, MapView};
use crate::video::preprocess::{Preprocess, Target};
use ndarray::Array3;
use std::fmt;

/// Why a model cannot be used.
#[derive(Debug)]
pub enum Refusal {
    Settings(String),
    Resource(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Settings(reason) | Self::Resource(reason)) = self;
        f.write_str(reason)
    }
}

impl From<Refusal> for gst::ErrorMessage {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Settings(reason) => {
                gst::error_msg!(gst::LibraryError::Settings, ("{reason}"))
            }
            Refusal::Resource(reason) => {
                gst::error_msg!(gst::ResourceError::OpenRead, ("{reason}"))
            }
        }
    }
}

impl Refusal {
    /// Names the property that an error of the detector comes from.
    pub fn of(error: &Error, settings: &Settings) -> Self {
        let cause = match error {
            Error::Runtime(_) => "",
            Error::Backbone { .. } if settings.backbone.is_some() => "the property backbone: ",
            _ => "the property model: ",
        };
        Self::Resource(format!("{cause}{}", Chain(error)))
    }
}

/// A model and what inspecting frames with it needs.
pub struct Inspection {
    detector: Detector,
    pub model_name: String,
    roi: Roi,
    /// Once there is a picture.
    preprocess: Option<Preprocess>,
    tensor: Array3<f32>,
    threshold: Threshold,
    overlay: overlay::Overlay,
    drift: Option<Drift>,
    /// When a score was last tested for drift, and how long after that the next one is.
    tested: Option<(gst::ClockTime, gst::ClockTime)>,
    random: fastrand::Rng,
    /// Regions in frame coordinates, reused.
    pub regions: Vec<Region>,
    pub failing: bool,
}

/// The threshold in force and the properties it came from, so that it is worked out on change only.
struct Threshold {
    value: f64,
    from: (f64, f64),
}

impl Inspection {
    pub fn new(settings: &Settings) -> Result<Self, Refusal> {
        let path = settings.needed_model()?;
        let roi = settings
            .parsed_roi()
            .map_err(|reason| Refusal::Settings(format!("the property roi: {reason}")))?;
        let options = Options {
            backbone: settings.backbone.as_deref(),
            runtime: RuntimeOptions {
                threads: settings.threads as usize,
                library: settings.onnxruntime.as_deref(),
                device: settings.device,
            },
        };
        let detector =
            Detector::open(path, options).map_err(|error| Refusal::of(&error, settings))?;
        let own = detector.metadata().tiles;
        if let Some(tiles) = settings.parsed_tiles()?.filter(|tiles| *tiles != own) {
            return Err(Refusal::Settings(format!(
                "the property tiles: {} was fitted for {own} tiles, not {tiles}; leave the property out, or fit with --tiles {tiles}",
                path.display()
            )));
        }
        let size = detector.input();
        let mut inspection = Self {
            model_name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            roi: roi.unwrap_or(detector.metadata().roi),
            preprocess: None,
            tensor: Array3::zeros((3, size.height, size.width)),
            threshold: Threshold {
                value: f64::from(detector.metadata().threshold),
                from: (0.0, 0.0),
            },
            overlay: overlay::Overlay::new(),
            drift: match settings.live.drift_limit {
                0 => None,
                limit => Some(Drift::new(detector.calibration(), limit.into())),
            },
            tested: None,
            random: fastrand::Rng::with_seed(0),
            regions: Vec::new(),
            failing: false,
            detector,
        };
        inspection
            .update_threshold(&settings.live)
            .map_err(|reason| {
                Refusal::Settings(format!("the property false-reject-rate: {reason}"))
            })?;
        Ok(inspection)
    }

    /// The raw score above which a frame is flagged now.
    pub fn threshold(&self) -> f64 {
        self.threshold.value
    }

    /// Prepares for frames like this picture.
    pub fn negotiate(&mut self, picture: &Picture) {
        let normalization = self.detector.metadata().normalization;
        let target = Target {
            size: self.detector.input(),
            normalization,
            roi: self.roi,
        };
        self.preprocess = Some(Preprocess::new(picture.layout.clone(), target));
    }

    /// Works the threshold out again where the properties have changed.
    pub fn update_threshold(&mut self, live: &Live) -> Result<(), String> {
        let from = (live.threshold, live.false_reject_rate);
        if self.threshold.from == from {
            return Ok(());
        }
        self.threshold.from = from;
        let detector = &self.detector;
        self.threshold.value = if live.threshold > 0.0 {
            live.threshold
        } else if live.false_reject_rate > 0.0 {
            f64::from(
                detector
                    .calibration()
                    .threshold(live.false_reject_rate)
                    .map_err(|error| error.to_string())?,
            )
        } else {
            f64::from(detector.metadata().threshold)
        };
        Ok(())
    }

    /// Scores the frame.
    pub fn inspect(&mut self, buffer: &gst::BufferRef, picture: &Picture) -> Result<f64, String> {
        let preprocess = self.preprocess.as_mut().ok_or("no caps yet")?;
        picture.to_tensor(buffer, preprocess, self.tensor.view_mut())?;
        self.detector
            .inspect(self.tensor.view())
            .map(f64::from)
            .map_err(|error| Chain(&error).to_string())
    }

    /// Tests a score for drift, where it is time to: how much speaks for one, and which one it is where that is enough.
    pub fn test_drift(
        &mut self,
        score: f64,
        time: Option<gst::ClockTime>,
        interval: u64,
    ) -> Option<(f64, Option<Direction>)> {
        let drift = self.drift.as_mut()?;
        // Time that has gone back begins anew.
        if let Some((time, (last, wait))) = time.zip(self.tested)
            && time >= last
            && time - last < wait
        {
            return None;
        }
        // Half to one and a half times the interval: in step with the parts it would see the same of each.
        let wait = (interval as f64 * (0.5 + self.random.f64())) as u64;
        self.tested = time.map(|time| (time, gst::ClockTime::from_nseconds(wait)));
        let alarm = drift.take(score as f32, self.threshold.value as f32);
        Some((drift.level(), alarm))
    }

    /// Brings the regions of the map into frame coordinates; none for a frame that is not flagged.
    pub fn find_regions(&mut self, flagged: bool) {
        self.regions.clear();
        if flagged {
            let regions = self.detector.regions(self.threshold.value as f32);
            self.regions.extend(regions.iter().map(|region| {
                let part = self
                    .roi
                    .part(region.x, region.y, region.width, region.height);
                Region {
                    x: part.x,
                    y: part.y,
                    width: part.width,
                    height: part.height,
                    score: region.score,
                }
            }));
        }
    }

    pub fn map(&self) -> MapView<'_> {
        MapView {
            values: self.detector.map(),
            roi: self.roi,
        }
    }

    pub fn draw(&mut self, buffer: &mut gst::BufferRef, picture: &Picture, overlay: Overlay) {
        let Some(style) = overlay.style() else { return };
        // Mapping for writing copies a frame that others share; this is the one place that does.
        if let Ok(mut frame) =
            gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &picture.info)
        {
            let map = MapView {
                values: self.detector.map(),
                roi: self.roi,
            };
            self.overlay
                .draw(&mut frame, map, self.threshold.value as f32, style);
        }
    }
}
