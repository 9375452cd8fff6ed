//! A model at work on a stream: from the buffer to score and regions, and back into the buffer.

use super::drift_watch::{DriftReading, DriftWatch};
use super::error::{FrameFailure, SetupError};
use super::remedy::setup_error;
use super::settings::{LiveSettings, Overlay, Settings, ThresholdFrom};
use crate::detector::error::FitError;
use crate::detector::{Detector, Options, Part, Region, RuntimeOptions};
use crate::geometry::Roi;
use crate::video::frame::{FrameError, FrameFormat};
use crate::video::overlay::{self, MapView};
use crate::video::preprocess::{Preprocess, Target};
use crate::video::sample_bits::{BitsWatch, OtherBits};
use ndarray::Array3;
use std::time::{Duration, Instant};

/// A model and what inspecting frames with it needs.
pub struct Inspection {
    detector: Detector,
    pub model_name: String,
    /// How long it took to open the model.
    pub opened_in: Duration,
    roi: Roi,
    /// Once there is a format.
    preprocess: Option<Preprocess>,
    tensor: Array3<f32>,
    threshold: Threshold,
    overlay: overlay::Overlay,
    drift: Option<DriftWatch>,
    bits: BitsWatch,
    /// Of the last frame.
    other_bits: Option<OtherBits>,
    /// Regions in frame coordinates, reused.
    pub regions: Vec<Region>,
}

/// The threshold in force and the properties it came from, so that it is worked out on change only.
struct Threshold {
    value: f64,
    from: ThresholdFrom,
}

impl Inspection {
    /// Opens the model that the settings name.
    ///
    /// # Errors
    /// There is none, it cannot be used, or other properties do not fit it.
    pub fn new(settings: &Settings) -> Result<Self, SetupError> {
        let start = Instant::now();
        let path = settings.needed_model()?;
        let roi = settings.roi();
        let options = Options {
            backbone: settings.backbone.as_deref(),
            runtime: RuntimeOptions {
                threads: settings.threads as usize,
                library: settings.onnxruntime.as_deref(),
                device: settings.device,
            },
        };
        let detector =
            Detector::open(path, options).map_err(|error| setup_error(&error, settings))?;
        let fitted = detector.metadata().tiles;
        if let Some(asked) = settings.tiles().filter(|tiles| *tiles != fitted) {
            return Err(SetupError::OtherTiles {
                model: path.to_path_buf(),
                fitted,
                asked,
            });
        }
        let drift = match settings.drift_limit {
            0 => None,
            limit => Some(DriftWatch::new(detector.calibration(), limit)),
        };
        let mut inspection = Self {
            model_name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            opened_in: Duration::ZERO,
            roi: roi.unwrap_or(detector.metadata().roi),
            preprocess: None,
            tensor: Array3::zeros((3, 0, 0)),
            threshold: Threshold {
                value: f64::from(detector.metadata().threshold),
                from: ThresholdFrom::default(),
            },
            overlay: overlay::Overlay::new(),
            drift,
            bits: BitsWatch::new(detector.metadata().sample_bits),
            other_bits: None,
            regions: Vec::new(),
            detector,
        };
        inspection
            .update_threshold(&settings.live)
            .map_err(SetupError::Rate)?;
        inspection.opened_in = start.elapsed();
        Ok(inspection)
    }

    /// The raw score above which a frame is flagged now.
    pub fn threshold(&self) -> f64 {
        self.threshold.value
    }

    /// The properties that it comes from.
    pub fn threshold_from(&self) -> ThresholdFrom {
        self.threshold.from
    }

    /// Prepares for frames of this format.
    pub fn negotiate(&mut self, format: &FrameFormat) {
        let target = Target {
            size: self.detector.input().of(format.size(), self.roi),
            normalization: self.detector.metadata().normalization,
            roi: self.roi,
        };
        let preprocess = format.preprocess(target);
        self.tensor = target.tensor();
        self.preprocess = Some(preprocess.of_bits(self.detector.metadata().sample_bits));
    }

    /// Works the threshold out again where the properties have changed, and says whether they have.
    ///
    /// # Errors
    /// A rate that the model's calibration does not support; the threshold stays.
    pub fn update_threshold(&mut self, live: &LiveSettings) -> Result<bool, FitError> {
        let from = ThresholdFrom::of(live);
        if self.threshold.from == from {
            return Ok(false);
        }
        let detector = &self.detector;
        let value = if from.threshold > 0.0 {
            from.threshold
        } else if from.false_reject_rate > 0.0 {
            let threshold = detector.calibration().threshold(from.false_reject_rate)?;
            f64::from(threshold)
        } else {
            f64::from(detector.metadata().threshold)
        };
        self.threshold = Threshold { value, from };
        Ok(true)
    }

    /// Scores the frame.
    ///
    /// # Errors
    /// The buffer is no frame of the negotiated format, or the backbone fails on it.
    pub fn inspect(
        &mut self,
        buffer: &gst::BufferRef,
        format: &FrameFormat,
    ) -> Result<f64, FrameFailure> {
        let preprocess = self.preprocess.as_mut();
        let preprocess = preprocess.ok_or(FrameFailure::NoFormat)?;
        let frame = format.read(buffer)?;
        self.other_bits = self.bits.look(|| frame.largest_sample());
        frame.to_tensor(preprocess, self.tensor.view_mut())?;
        let score = self.detector.inspect(self.tensor.view())?;
        Ok(f64::from(score))
    }

    /// That the frames use other bits of 16 than the model knows, where that is to be told now.
    pub fn other_bits(&mut self) -> Option<OtherBits> {
        self.other_bits.take()
    }

    /// Tests a score for drift, where it is time to.
    pub fn watch_drift(
        &mut self,
        score: f64,
        time: Option<gst::ClockTime>,
        interval: u64,
    ) -> Option<DriftReading> {
        let threshold = self.threshold.value as f32;
        let time = time.map(gst::ClockTime::nseconds);
        let drift = self.drift.as_mut()?;
        drift.observe(score as f32, threshold, time, interval)
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

    /// Why a good score says nothing of the last frame: parts that are not judged, or that may not have been found.
    pub fn doubt(&self) -> Option<FrameFailure> {
        match (self.detector.doubt(), self.detector.unlocated()) {
            (Some(doubt), _) => Some(FrameFailure::Doubt(doubt)),
            (None, 0) => None,
            (None, parts) => Some(FrameFailure::NotLocated(parts)),
        }
    }

    /// The parts that the last frame shows, and the part of it that was looked at; `None` for a model that looks at whole frames.
    pub fn parts(&self) -> Option<(&[Part], Roi)> {
        Some((self.detector.parts()?, self.roi))
    }

    pub fn map(&self) -> MapView<'_> {
        MapView {
            values: self.detector.map(),
            roi: self.roi,
        }
    }

    /// Draws the map, and says whether anything may have been drawn. A frame that others share is copied: this is the one place that does.
    ///
    /// # Errors
    /// The buffer is no frame of the negotiated format.
    pub fn draw(
        &mut self,
        buffer: &mut gst::BufferRef,
        format: &FrameFormat,
        overlay: Overlay,
    ) -> Result<bool, FrameError> {
        let Some(style) = overlay.style() else {
            return Ok(false);
        };
        let mut frame = format.write(buffer)?;
        let map = MapView {
            values: self.detector.map(),
            roi: self.roi,
        };
        self.overlay
            .draw(&mut frame, map, self.threshold.value as f32, style);
        Ok(true)
    }
}
