//! The values of the properties of `vadlite`, and their defaults.

use super::error::SetupError;
use crate::detector::Device;
use crate::detector::method::Method;
use crate::geometry::{Grid, Roi};
use crate::video::overlay;
use gst::prelude::*;
use std::path::{Path, PathBuf};

/// What the element does with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVadLiteMode")]
pub enum Mode {
    #[default]
    #[enum_value(name = "Detect: score frames with the model", nick = "detect")]
    Detect,
    #[enum_value(
        name = "Learn: fit the model on the frames to come, write it, and go on in detect",
        nick = "learn"
    )]
    Learn,
}

/// When a model is loaded again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVadLiteReload")]
pub enum Reload {
    #[default]
    #[enum_value(name = "None: when the property model is set", nick = "none")]
    None,
    #[enum_value(name = "Auto: when the file changes, too", nick = "auto")]
    Auto,
}

/// How a flagged frame is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVadLiteOverlay")]
pub enum Overlay {
    #[enum_value(name = "None: leave the picture alone", nick = "none")]
    None,
    #[default]
    #[enum_value(name = "Heatmap: colour what looks wrong", nick = "heatmap")]
    Heatmap,
    #[enum_value(name = "Contour: outline what looks wrong", nick = "contour")]
    Contour,
}

/// Which frames are reported on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVadLitePostMessages")]
pub enum PostMessages {
    #[enum_value(name = "None: no frame", nick = "none")]
    None,
    #[default]
    #[enum_value(name = "Flagged: frames above the threshold", nick = "flagged")]
    Flagged,
    #[enum_value(name = "All: every frame", nick = "all")]
    All,
}

/// What is read when the element starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub model: Option<PathBuf>,
    pub backbone: Option<PathBuf>,
    pub onnxruntime: Option<PathBuf>,
    pub mode: Mode,
    pub method: Method,
    pub learn_frames: u32,
    pub reload: Reload,
    pub device: Device,
    pub threads: u32,
    pub stats_file: Option<PathBuf>,
    /// Address of a broker, or empty.
    pub stats_mqtt: String,
    pub credentials: Option<String>,
    /// As set: `x,y,w,h`, or empty for the model's own.
    pub roi: String,
    /// As set: `CxR`, or empty for the model's own.
    pub tiles: String,
    pub live: LiveSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: None,
            backbone: None,
            onnxruntime: None,
            mode: Mode::default(),
            method: Method::default(),
            learn_frames: 300,
            reload: Reload::default(),
            device: Device::default(),
            threads: 0,
            stats_file: None,
            stats_mqtt: String::new(),
            credentials: None,
            roi: String::new(),
            tiles: String::new(),
            live: LiveSettings::default(),
        }
    }
}

/// What may change from frame to frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LiveSettings {
    pub threshold: f64,
    pub false_reject_rate: f64,
    pub overlay: Overlay,
    pub overlay_always: bool,
    pub interval: u32,
    pub post_messages: PostMessages,
    /// Nanoseconds.
    pub drift_interval: u64,
    /// 0: no test.
    pub drift_limit: u32,
}

impl Default for LiveSettings {
    fn default() -> Self {
        Self {
            threshold: 0.0,
            false_reject_rate: 0.0,
            overlay: Overlay::default(),
            overlay_always: false,
            interval: 1,
            post_messages: PostMessages::default(),
            drift_interval: 1_000_000_000,
            drift_limit: 100_000,
        }
    }
}

impl Overlay {
    /// How to draw; `None` where nothing is drawn.
    pub fn style(self) -> Option<overlay::Style> {
        match self {
            Self::None => None,
            Self::Heatmap => Some(overlay::Style::Heatmap),
            Self::Contour => Some(overlay::Style::Contour),
        }
    }
}

impl Settings {
    /// The model's path.
    ///
    /// # Errors
    /// It is not set.
    pub fn needed_model(&self) -> Result<&Path, SetupError> {
        self.model.as_deref().ok_or(SetupError::NoModel)
    }

    /// The region of interest that was asked for; `None` where the model's own holds.
    ///
    /// # Errors
    /// Not four numbers, or not inside of the frame.
    pub fn parsed_roi(&self) -> Result<Option<Roi>, SetupError> {
        match self.roi.trim() {
            "" => Ok(None),
            roi => roi.parse().map(Some).map_err(SetupError::Roi),
        }
    }

    /// The tiles that were asked for; `None` where the model's own hold.
    ///
    /// # Errors
    /// Not `CxR`.
    pub fn parsed_tiles(&self) -> Result<Option<Grid>, SetupError> {
        match self.tiles.trim() {
            "" => Ok(None),
            tiles => tiles.parse().map(Some).map_err(SetupError::Tiles),
        }
    }

    pub fn set(&mut self, name: &str, value: &glib::Value) {
        let path = || {
            value
                .get::<Option<String>>()
                .ok()
                .flatten()
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        };
        let text = || {
            value
                .get::<Option<String>>()
                .ok()
                .flatten()
                .unwrap_or_default()
        };
        let number = || value.get::<f64>().unwrap_or_default();
        match name {
            "model" => self.model = path(),
            "backbone" => self.backbone = path(),
            "onnxruntime" => self.onnxruntime = path(),
            "stats-file" => self.stats_file = path(),
            "stats-mqtt" => self.stats_mqtt = text(),
            "credentials" => self.credentials = Some(text()).filter(|file| !file.is_empty()),
            "mode" => self.mode = value.get().unwrap_or_default(),
            "method" => self.method = value.get().unwrap_or_default(),
            "learn-frames" => self.learn_frames = value.get().unwrap_or_default(),
            "reload" => self.reload = value.get().unwrap_or_default(),
            "device" => self.device = value.get().unwrap_or_default(),
            "threads" => self.threads = value.get().unwrap_or_default(),
            "roi" => self.roi = text(),
            "tiles" => self.tiles = text(),
            "threshold" => self.live.threshold = number(),
            "false-reject-rate" => self.live.false_reject_rate = number(),
            "overlay" => self.live.overlay = value.get().unwrap_or_default(),
            "overlay-always" => self.live.overlay_always = value.get().unwrap_or_default(),
            "interval" => self.live.interval = value.get().unwrap_or(1),
            "drift-interval" => self.live.drift_interval = value.get().unwrap_or_default(),
            "drift-limit" => self.live.drift_limit = value.get().unwrap_or_default(),
            "post-messages" => self.live.post_messages = value.get().unwrap_or_default(),
            _ => {}
        }
    }

    pub fn get(&self, name: &str) -> Option<glib::Value> {
        let path = |path: &Option<PathBuf>| {
            path.as_ref()
                .map(|path| path.to_string_lossy().into_owned())
                .to_value()
        };
        Some(match name {
            "model" => path(&self.model),
            "backbone" => path(&self.backbone),
            "onnxruntime" => path(&self.onnxruntime),
            "stats-file" => path(&self.stats_file),
            "stats-mqtt" => self.stats_mqtt.to_value(),
            "credentials" => self.credentials.to_value(),
            "mode" => self.mode.to_value(),
            "method" => self.method.to_value(),
            "learn-frames" => self.learn_frames.to_value(),
            "reload" => self.reload.to_value(),
            "device" => self.device.to_value(),
            "threads" => self.threads.to_value(),
            "roi" => self.roi.to_value(),
            "tiles" => self.tiles.to_value(),
            "threshold" => self.live.threshold.to_value(),
            "false-reject-rate" => self.live.false_reject_rate.to_value(),
            "overlay" => self.live.overlay.to_value(),
            "overlay-always" => self.live.overlay_always.to_value(),
            "interval" => self.live.interval.to_value(),
            "drift-interval" => self.live.drift_interval.to_value(),
            "drift-limit" => self.live.drift_limit.to_value(),
            "post-messages" => self.live.post_messages.to_value(),
            _ => return None,
        })
    }
}
