//! `mode=learn`: from frames of good parts to a model, while the frames pass.
//!
//! The streaming thread makes the image tensor and decides whether the frame shows something new. Everything else, the backbone as well,
//! runs in a thread of its own.

use super::VadLite;
use super::inspection::{Inspection, Refusal};
use super::settings::{Overlay, Settings};
use super::shown::Shown;
use super::stream::Picture;
use crate::detector::backbone::{self, DEFAULT_BACKBONE};
use crate::detector::error::Chain;
use crate::detector::heads::Recipe;
use crate::detector::method::Preset;
use crate::detector::progress::{Cancel, Progress};
use crate::detector::taps::Normalization;
use crate::detector::{FitOptions, Fitter, RuntimeOptions};
use crate::geometry::{Grid, Roi, Size};
use crate::video::overlay::{self, MapView};
use crate::video::preprocess::{Preprocess, Target};
use gst::prelude::*;
use ndarray::{Array2, Array3};
use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

/// Name of the structure of the bus message.
pub const MESSAGE_NAME: &str = "vadlite-learn";
/// Size of a tile of the image tensor.
const TILE: Size = Size::square(224);
/// Tensors on their way to the backbone.
const TENSORS: usize = 4;
/// How often the bus hears of the progress.
const REPORT_EVERY: Duration = Duration::from_millis(500);
/// Cells of the progress bar.
const BAR: usize = 64;

/// What the fitting thread is at, for the streaming thread to show.
#[derive(Default)]
struct Work {
    stage: &'static str,
    done: usize,
    total: usize,
    /// When the stage began.
    since: Option<Instant>,
    outliers: usize,
    /// The model has been handed over.
    finished: bool,
    /// The thread has given up, and said so.
    failed: bool,
}

/// Collects frames until there are enough of them, and shows how far the model is.
pub struct Learner {
    target: Target,
    preprocess: Option<Preprocess>,
    /// Towards the fitting thread; none once it has all.
    tensors: Option<SyncSender<Array3<f32>>>,
    spare: Receiver<Array3<f32>>,
    /// The one in hand.
    tensor: Option<Array3<f32>>,
    /// The latest frames taken.
    shown: Shown,
    taken: usize,
    wanted: usize,
    duplicates: u64,
    /// Frames that came while all tensors were on their way.
    busy: u64,
    /// The source is no camera: it may be held up, and no frame has to be left out.
    pub waits: bool,
    work: Arc<Mutex<Work>>,
    /// Whether the model may be written: no more once the element has stopped. Apart from `work`, which frames wait for.
    may_write: Arc<Mutex<bool>>,
    started: Instant,
    reported: Option<Instant>,
    overlay: overlay::Overlay,
    bar: Array2<f32>,
    pub failing: bool,
}

impl Learner {
    /// Starts the fitting thread, which hands its model to `made`.
    ///
    /// # Errors
    /// No model path, a wrong region of interest, no backbone or ONNX Runtime, or a folder that cannot be written to.
    pub fn start(
        element: &VadLite,
        settings: &Settings,
        made: Sender<Box<Inspection>>,
    ) -> Result<Self, Refusal> {
        let path = settings.needed_model()?;
        let roi = settings
            .parsed_roi()
            .map_err(|reason| Refusal::Settings(format!("the property roi: {reason}")))?
            .unwrap_or_default();
        let tiles = settings.parsed_tiles()?.unwrap_or(Grid::ONE);
        let size = tiles.whole(TILE);
        let rate = settings.live.false_reject_rate;
        // Some of the frames may be left out as outliers.
        let needed = ((1.0 / rate - 1.0) / 0.95).ceil();
        if rate > 0.0 && needed > f64::from(settings.learn_frames) {
            return Err(Refusal::Settings(format!(
                "the property false-reject-rate: a rate of {rate} needs learn-frames of at least {needed}, and they are {}",
                settings.learn_frames
            )));
        }
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        // Found out now rather than after five minutes of learning.
        tempfile::tempfile_in(folder).map_err(|error| {
            Refusal::Resource(format!(
                "the property model: nothing can be written to the folder {}: {error}",
                folder.display()
            ))
        })?;
        let (tensors, to_fit) = mpsc::sync_channel(TENSORS);
        let (give_back, spare) = mpsc::sync_channel(TENSORS);
        for _ in 0..TENSORS {
            // There is room for all of them.
            let _ = give_back.send(Array3::zeros((3, size.height, size.width)));
        }
        let work = Arc::new(Mutex::new(Work::default()));
        let may_write = Arc::new(Mutex::new(true));
        let thread = Thread {
            element: element.downgrade(),
            settings: settings.clone(),
            roi,
            tiles,
            work: work.clone(),
            may_write: may_write.clone(),
            made,
        };
        let (started, answer) = mpsc::channel();
        std::thread::Builder::new()
            .name("vadlite-learner".into())
            .spawn(move || thread.run(&started, &to_fit, &give_back))
            .map_err(|error| Refusal::Resource(format!("no thread can be started: {error}")))?;
        let normalization = answer
            .recv()
            .map_err(|_| Refusal::Resource("the fitting thread has ended".into()))??;
        Ok(Self {
            target: Target {
                size,
                normalization,
                roi,
            },
            preprocess: None,
            tensors: Some(tensors),
            spare,
            tensor: None,
            shown: Shown::default(),
            taken: 0,
            wanted: settings.learn_frames as usize,
            duplicates: 0,
            busy: 0,
            waits: false,
            work,
            may_write,
            started: Instant::now(),
            reported: None,
            overlay: overlay::Overlay::new(),
            bar: Array2::zeros((1, BAR)),
            failing: false,
        })
    }

    /// Prepares for frames like this picture.
    pub fn negotiate(&mut self, picture: &Picture) {
        self.preprocess = Some(Preprocess::new(picture.layout.clone(), self.target));
    }

    /// Takes the frame in where it shows something new, as long as frames are wanted.
    ///
    /// # Errors
    /// What is wrong with the buffer.
    pub fn look(&mut self, buffer: &gst::BufferRef, picture: &Picture) -> Result<(), String> {
        let Some(tensors) = &self.tensors else {
            return Ok(());
        };
        if self.tensor.is_none() {
            self.tensor = match self.waits {
                true => self.spare.recv().ok(),
                false => self.spare.try_recv().ok(),
            };
        }
        let Some(tensor) = &mut self.tensor else {
            self.busy += 1;
            return Ok(());
        };
        let preprocess = self.preprocess.as_mut().ok_or("no caps yet")?;
        picture.to_tensor(buffer, preprocess, tensor.view_mut())?;
        if !self.shown.take(tensor.view(), &self.target) {
            self.duplicates += 1;
            return Ok(());
        }
        self.taken += 1;
        // Does not wait: every tensor that exists has a place. Fails where the thread has given up.
        let sent = self.tensor.take().map(|tensor| tensors.send(tensor));
        if !matches!(sent, Some(Ok(()))) || self.taken == self.wanted {
            self.tensors = None;
        }
        Ok(())
    }

    /// Draws the bar: as long as the frames or, after these, the fit have come.
    pub fn draw(&mut self, buffer: &mut gst::BufferRef, picture: &Picture, overlay: Overlay) {
        let Some(style) = overlay.style() else { return };
        let share = self.share();
        for (cell, value) in self.bar.iter_mut().enumerate() {
            *value = if (cell as f64) < share * BAR as f64 {
                2.0
            } else {
                0.0
            };
        }
        let map = MapView {
            values: self.bar.view(),
            roi: Roi::new(0.1, 0.94, 0.8, 0.03),
        };
        if let Ok(mut frame) =
            gst_video::VideoFrameRef::from_buffer_ref_writable(buffer, &picture.info)
        {
            self.overlay.draw(&mut frame, map, 1.0, style);
        }
    }

    /// How much of the frames, or else of the fit's present stage, is done: 0 to 1.
    fn share(&self) -> f64 {
        let (done, total) = match self.tensors {
            Some(_) => (self.taken, self.wanted),
            None => {
                let work = self.work.lock();
                (work.done, work.total)
            }
        };
        done as f64 / total.max(1) as f64
    }

    /// What to tell the bus, where it is time to: the fields of `vadlite-learn`, and the same in words.
    pub fn report(&mut self, finished: bool) -> Option<(gst::Structure, String)> {
        let first = self.reported.is_none();
        if !finished && self.reported.is_some_and(|at| at.elapsed() < REPORT_EVERY) {
            return None;
        }
        self.reported = Some(Instant::now());
        let share = self.share();
        let (frames, wanted) = (self.taken, self.wanted);
        let work = self.work.lock();
        let collecting = self.tensors.is_some();
        let since = match collecting {
            true => Some(self.started),
            false => work.since,
        };
        let left = since
            .filter(|_| !first && share > 0.0)
            .map(|since| since.elapsed().mul_f64((1.0 - share) / share));
        let phase = match (finished, collecting) {
            (true, _) => "done",
            (false, true) => "collecting",
            (false, false) => "fitting",
        };
        let text = match phase {
            "done" => format!(
                "the model is learnt from {} frames; {} were left out as outliers, {} as duplicates",
                frames - work.outliers,
                work.outliers,
                self.duplicates
            ),
            "collecting" => format!(
                "{frames} of {wanted} frames, {} duplicates, {} too fast{}",
                self.duplicates,
                self.busy,
                left.map(|left| format!("; {:.0} s left", left.as_secs_f64()))
                    .unwrap_or_default()
            ),
            _ => format!("{} ({:.0} %)", work.stage, 100.0 * share),
        };
        let mut structure = gst::Structure::builder(MESSAGE_NAME)
            .field("phase", phase)
            .field("frames", frames as u64)
            .field("learn-frames", wanted as u64)
            .field("duplicates", self.duplicates)
            .field("too-fast", self.busy)
            .field("outliers", work.outliers as u64)
            .field("stage", work.stage)
            .field("share", share)
            .build();
        if let Some(left) = left {
            structure.set("time-left", left.as_nanos() as u64);
        }
        Some((structure, text))
    }

    /// Whether the bus has heard of the progress.
    pub fn reported(&self) -> bool {
        self.reported.is_some()
    }

    /// The frames taken and wanted, where more would be needed.
    pub fn missing(&self) -> Option<(usize, usize)> {
        self.tensors.as_ref().map(|_| (self.taken, self.wanted))
    }

    /// Whether the model is learnt and handed over.
    pub fn finished(&self) -> bool {
        self.work.lock().finished
    }

    /// Whether the fitting thread has given up; it has said why.
    pub fn failed(&self) -> bool {
        self.work.lock().failed
    }
}

impl Drop for Learner {
    fn drop(&mut self) {
        // Waits for a write that has begun; none begins afterwards.
        *self.may_write.lock() = false;
    }
}

/// The thread that fits.
struct Thread {
    element: glib::WeakRef<VadLite>,
    settings: Settings,
    roi: Roi,
    tiles: Grid,
    work: Arc<Mutex<Work>>,
    may_write: Arc<Mutex<bool>>,
    made: Sender<Box<Inspection>>,
}

impl Thread {
    fn run(
        self,
        started: &Sender<Result<Normalization, Refusal>>,
        tensors: &Receiver<Array3<f32>>,
        give_back: &SyncSender<Array3<f32>>,
    ) {
        let resolved = backbone::resolve(self.settings.backbone.as_deref(), DEFAULT_BACKBONE, None);
        let fitter = resolved
            .as_ref()
            .map_err(|error| Chain(error).to_string())
            .and_then(|path| {
                Fitter::new(self.options(path)).map_err(|error| Chain(&error).to_string())
            });
        let fitter = match fitter {
            Ok(fitter) => fitter,
            Err(reason) => return drop(started.send(Err(Refusal::Resource(reason)))),
        };
        if started.send(Ok(fitter.normalization())).is_err() {
            return;
        }
        match self.learn(fitter, tensors, give_back) {
            // Refused where the element has stopped meanwhile.
            Ok(Some(inspection)) => {
                self.work.lock().finished = true;
                let _ = self.made.send(Box::new(inspection));
            }
            Ok(None) => {}
            Err(reason) => {
                self.work.lock().failed = true;
                if let Some(element) = self.element.upgrade() {
                    gst::element_error!(
                        element,
                        gst::LibraryError::Failed,
                        ("the model could not be learnt: {reason}")
                    );
                }
            }
        }
    }

    fn options<'a>(&'a self, backbone: &'a Path) -> FitOptions<'a> {
        let settings = &self.settings;
        FitOptions {
            recipe: Recipe {
                method: settings.method,
                preset: Preset::Default,
            },
            backbone,
            taps: Vec::new(),
            dimensions: None,
            tiles: self.tiles,
            input_size: self.tiles.whole(TILE),
            roi: self.roi,
            false_reject_rate: Some(settings.live.false_reject_rate).filter(|rate| *rate > 0.0),
            video_of: Some(settings.learn_frames as usize),
            runtime: RuntimeOptions {
                threads: settings.threads as usize,
                library: settings.onnxruntime.as_deref(),
                device: settings.device,
            },
        }
    }

    /// The model, written and opened; `None` where the element has stopped meanwhile.
    fn learn(
        &self,
        mut fitter: Fitter<'_>,
        tensors: &Receiver<Array3<f32>>,
        give_back: &SyncSender<Array3<f32>>,
    ) -> Result<Option<Inspection>, String> {
        let mut frames = 0;
        for tensor in tensors {
            fitter
                .add(tensor.view())
                .map_err(|error| Chain(&error).to_string())?;
            frames += 1;
            // Fails where the streaming thread has gone.
            let _ = give_back.try_send(tensor);
        }
        if frames < self.settings.learn_frames {
            return Ok(None);
        }
        let report = |stage: &'static str, done: usize, total: usize| {
            let mut work = self.work.lock();
            if work.stage != stage || done == 0 {
                work.since = Some(Instant::now());
            }
            (work.stage, work.done, work.total) = (stage, done, total);
        };
        let mut progress = Progress::new(report, Cancel::default());
        let outliers = fitter
            .leave_out_outliers(&mut progress)
            .map_err(|error| Chain(&error).to_string())?;
        self.work.lock().outliers = outliers;
        let (model, _backbone) = fitter
            .finish(&mut progress)
            .map_err(|error| Chain(&error).to_string())?;
        let path = self
            .settings
            .needed_model()
            .map_err(|error| error.to_string())?;
        {
            let may_write = self.may_write.lock();
            if !*may_write {
                return Ok(None);
            }
            model
                .write(path)
                .map_err(|error| Chain(&error).to_string())?;
        }
        let inspection = Inspection::new(&self.settings).map_err(|error| error.to_string())?;
        Ok(Some(inspection))
    }
}
