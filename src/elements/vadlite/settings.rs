//! The values of the properties of `vadlite`, and their defaults.

use super::error::{SetupError, ValueError};
use super::export;
use crate::detector::Device;
use crate::detector::method::MethodChoice;
use crate::elements::time;
use crate::geometry::{GeometryError, Grid, Roi};
use crate::locate::Demand;
use crate::video::overlay;
use gst::prelude::*;
use std::path::{Path, PathBuf};

/// What the element does with frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVadLiteMode")]
pub enum Mode {
    /// Frames are scored with the model that the property `model` names.
    #[default]
    #[enum_value(name = "Detect: score frames with the model", nick = "detect")]
    Detect,
    /// Frames pass uninspected, with a bar for the progress drawn on them, until `learn-frames` of them have made a model. It is written
    /// to `model`, and the element goes on as with `detect`.
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
    /// When the property `model` is set, to another file or to the same one.
    #[default]
    #[enum_value(name = "None: when the property model is set", nick = "none")]
    None,
    /// Besides, when the file is another one, or has changed and then stayed as it is for half a second.
    #[enum_value(name = "Auto: when the file changes, too", nick = "auto")]
    Auto,
}

/// How a flagged frame is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVadLiteOverlay")]
pub enum Overlay {
    /// The picture stays as it is, and its memory is not copied where others share it.
    #[enum_value(name = "None: leave the picture alone", nick = "none")]
    None,
    /// The anomaly map as colours, from green below the threshold to red at twice the threshold.
    #[default]
    #[enum_value(name = "Heatmap: colour what looks wrong", nick = "heatmap")]
    Heatmap,
    /// A line where the anomaly map crosses the threshold.
    #[enum_value(name = "Contour: outline what looks wrong", nick = "contour")]
    Contour,
}

/// Which frames are reported on the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[enum_type(name = "GstVadLitePostMessages")]
pub enum PostMessages {
    /// No frame. Other messages, such as `vadlite-model`, are posted all the same.
    #[enum_value(name = "None: no frame", nick = "none")]
    None,
    /// Frames above the threshold.
    #[default]
    #[enum_value(name = "Flagged: frames above the threshold", nick = "flagged")]
    Flagged,
    /// Every frame, also those that are not inspected.
    #[enum_value(name = "All: every frame", nick = "all")]
    All,
}

/// What is read when the element starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub model: Option<PathBuf>,
    /// How often `model` was set: the same file set again is to be opened again.
    pub model_set: u64,
    pub backbone: Option<PathBuf>,
    pub onnxruntime: Option<PathBuf>,
    pub mode: Mode,
    pub method: MethodChoice,
    pub learn_frames: u32,
    pub locate: Demand,
    pub mask: Option<PathBuf>,
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
    /// 0: no test.
    pub drift_limit: u32,
    pub live: LiveSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            model: None,
            model_set: 0,
            backbone: None,
            onnxruntime: None,
            mode: Mode::default(),
            method: MethodChoice::default(),
            learn_frames: 300,
            locate: Demand::default(),
            mask: None,
            reload: Reload::default(),
            device: Device::default(),
            threads: 0,
            stats_file: None,
            stats_mqtt: String::new(),
            credentials: None,
            roi: String::new(),
            tiles: String::new(),
            drift_limit: 100_000,
            live: LiveSettings::default(),
        }
    }
}

/// What may change from frame to frame: the properties that are flagged as changeable while playing, but for `model`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LiveSettings {
    pub threshold: f64,
    pub false_reject_rate: f64,
    pub overlay: Overlay,
    pub overlay_always: bool,
    pub interval: u32,
    pub post_messages: PostMessages,
    /// Whole parts that a frame has to show; 0: any number.
    pub parts_expected: u32,
    /// Nanoseconds.
    pub drift_interval: u64,
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
            parts_expected: 0,
            drift_interval: 1_000_000_000,
        }
    }
}

/// The properties that a threshold comes from.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ThresholdFrom {
    pub threshold: f64,
    pub false_reject_rate: f64,
}

impl ThresholdFrom {
    pub fn of(live: &LiveSettings) -> Self {
        Self {
            threshold: live.threshold,
            false_reject_rate: live.false_reject_rate,
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
    pub fn roi(&self) -> Option<Roi> {
        parse_roi(&self.roi).ok().flatten()
    }

    /// The tiles that were asked for; `None` where the model's own hold.
    pub fn tiles(&self) -> Option<Grid> {
        parse_tiles(&self.tiles).ok().flatten()
    }

    /// Whether frames that are learnt from are looked at for parts: not where something lies on the whole picture.
    ///
    /// # Errors
    /// Parts are asked for, and what does not go with them.
    pub fn demand(&self) -> Result<Demand, SetupError> {
        let whole = match () {
            () if self.tiles().is_some_and(|tiles| tiles != Grid::ONE) => Some("tiles"),
            () if self.mask.is_some() => Some("mask"),
            () => None,
        };
        match (self.locate, whole) {
            (demand, None) => Ok(demand),
            (Demand::Auto | Demand::None, Some(_)) => Ok(Demand::None),
            (Demand::Part, Some(other)) => Err(SetupError::WholePicture { other }),
        }
    }

    /// Whether an element that starts with either does the same: what is read with every frame does not count.
    pub fn starts_like(&self, other: &Self) -> bool {
        let other = Self {
            live: self.live,
            ..other.clone()
        };
        *self == other
    }

    /// Takes the value of a property in.
    ///
    /// # Errors
    /// One that cannot mean anything; the property keeps the value that it had.
    pub fn set(&mut self, name: &str, value: &glib::Value) -> Result<(), ValueError> {
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
        match name {
            "model" => {
                self.model = path();
                self.model_set = self.model_set.wrapping_add(1);
            }
            "backbone" => self.backbone = path(),
            "onnxruntime" => self.onnxruntime = path(),
            "mask" => self.mask = path(),
            "stats-file" => self.stats_file = path(),
            "stats-mqtt" => {
                let address = text();
                export::check_address(&address)?;
                self.stats_mqtt = address;
            }
            "credentials" => self.credentials = Some(text()).filter(|file| !file.is_empty()),
            "mode" => self.mode = value.get().unwrap_or_default(),
            "method" => self.method = value.get().unwrap_or_default(),
            "learn-frames" => self.learn_frames = value.get().unwrap_or_default(),
            "locate" => self.locate = value.get().unwrap_or_default(),
            "reload" => self.reload = value.get().unwrap_or_default(),
            "device" => self.device = value.get().unwrap_or_default(),
            "threads" => self.threads = value.get().unwrap_or_default(),
            "roi" => {
                let roi = text();
                parse_roi(&roi).map_err(ValueError::Roi)?;
                self.roi = roi;
            }
            "tiles" => {
                let tiles = text();
                parse_tiles(&tiles).map_err(ValueError::Tiles)?;
                self.tiles = tiles;
            }
            "threshold" => {
                self.live.threshold = number("threshold", value, f64::MAX, "a score: 0 or more")?;
            }
            "false-reject-rate" => {
                self.live.false_reject_rate =
                    number("false-reject-rate", value, 1.0, "a share: 0 to 1")?;
            }
            "overlay" => self.live.overlay = value.get().unwrap_or_default(),
            "overlay-always" => self.live.overlay_always = value.get().unwrap_or_default(),
            "interval" => self.live.interval = value.get().unwrap_or(1),
            "drift-interval" => {
                let interval = value.get().unwrap_or_default();
                time::check("drift-interval", interval)?;
                self.live.drift_interval = interval;
            }
            "drift-limit" => self.drift_limit = value.get().unwrap_or_default(),
            "post-messages" => self.live.post_messages = value.get().unwrap_or_default(),
            "parts-expected" => self.live.parts_expected = value.get().unwrap_or_default(),
            _ => {}
        }
        Ok(())
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
            "mask" => path(&self.mask),
            "stats-file" => path(&self.stats_file),
            "stats-mqtt" => self.stats_mqtt.to_value(),
            "credentials" => self.credentials.to_value(),
            "mode" => self.mode.to_value(),
            "method" => self.method.to_value(),
            "learn-frames" => self.learn_frames.to_value(),
            "locate" => self.locate.to_value(),
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
            "drift-limit" => self.drift_limit.to_value(),
            "post-messages" => self.live.post_messages.to_value(),
            "parts-expected" => self.live.parts_expected.to_value(),
            _ => return None,
        })
    }
}

fn parse_roi(text: &str) -> Result<Option<Roi>, GeometryError> {
    match text.trim() {
        "" => Ok(None),
        roi => roi.parse().map(Some),
    }
}

fn parse_tiles(text: &str) -> Result<Option<Grid>, GeometryError> {
    match text.trim() {
        "" => Ok(None),
        tiles => tiles.parse().map(Some),
    }
}

/// A number from 0 to `most`. GLib holds to the range of a property where it is set; this holds to it whoever sets it.
fn number(
    name: &'static str,
    value: &glib::Value,
    most: f64,
    wanted: &'static str,
) -> Result<f64, ValueError> {
    let number = value.get().unwrap_or_default();
    match (0.0..=most).contains(&number) {
        true => Ok(number),
        false => Err(ValueError::Number {
            name,
            number,
            wanted,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_mean_anything_is_refused_and_what_was_set_stays() {
        let good: [(&str, glib::Value); 6] = [
            ("roi", "0.25,0,0.5,1".to_value()),
            ("tiles", "2x3".to_value()),
            ("threshold", 1.5.to_value()),
            ("false-reject-rate", 0.01.to_value()),
            ("drift-interval", 2_000_000_000u64.to_value()),
            ("stats-mqtt", "mqtt://broker/line".to_value()),
        ];
        let bad: [(&str, glib::Value, &str); 14] = [
            ("roi", "0,0,2,1".to_value(), "property roi"),
            ("roi", "left".to_value(), "x,y,w,h"),
            ("tiles", "0x1".to_value(), "property tiles"),
            ("tiles", "many".to_value(), "COLUMNSxROWS"),
            ("threshold", f64::NAN.to_value(), "property threshold"),
            ("threshold", (-1.0).to_value(), "-1"),
            ("threshold", f64::INFINITY.to_value(), "inf"),
            (
                "false-reject-rate",
                f64::NAN.to_value(),
                "false-reject-rate",
            ),
            ("false-reject-rate", 2.0.to_value(), "0 to 1"),
            ("drift-interval", 1u64.to_value(), "nanoseconds"),
            (
                "drift-interval",
                999_999u64.to_value(),
                "property drift-interval",
            ),
            (
                "stats-mqtt",
                "http://broker/line".to_value(),
                "property stats-mqtt",
            ),
            ("stats-mqtt", "mqtt://broker".to_value(), "topic"),
            (
                "stats-mqtt",
                "mqtt:/me:secret@broker".to_value(),
                "credentials",
            ),
        ];
        let mut settings = Settings::default();
        for (name, value) in &good {
            settings.set(name, value).unwrap();
        }
        let before = settings.clone();
        for (name, value, said) in bad {
            let error = settings.set(name, &value).unwrap_err().to_string();
            assert!(error.contains(said), "{name}: {error} lacks {said}");
            assert!(!error.contains("secret"), "{error}");
            assert_eq!(settings, before, "{name}");
        }
        // The largest and the empty ones mean something.
        for (name, value) in [
            ("drift-interval", u64::MAX.to_value()),
            ("drift-interval", 0u64.to_value()),
            ("threshold", f64::MAX.to_value()),
            ("roi", "".to_value()),
            ("tiles", None::<String>.to_value()),
            ("stats-mqtt", None::<String>.to_value()),
        ] {
            settings.set(name, &value).unwrap();
        }
    }

    #[test]
    fn the_same_model_set_again_is_another_start_and_a_threshold_is_none() {
        let mut settings = Settings::default();
        settings.set("model", &"part.vadlite".to_value()).unwrap();
        let before = settings.clone();
        settings.set("threshold", &2.0.to_value()).unwrap();
        assert!(settings.starts_like(&before));
        settings.set("model", &"part.vadlite".to_value()).unwrap();
        assert!(!settings.starts_like(&before));
    }
}
