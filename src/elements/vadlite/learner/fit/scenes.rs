//! Scenes that are kept until it is decided whether they show parts to locate.

use super::super::shots::{Shot, scene_size};
use crate::detector::taps::Normalization;
use crate::detector::{Decision, levels};
use crate::geometry::{Roi, Size};
use crate::locate::{Demand, ENOUGH, LocatorFitter, SCENE, Verdict};
use crate::video::preprocess::{Layout, Plane, PlaneError, Preprocess, Target};
use ndarray::{Array3, ArrayView3};

/// Bytes of scenes that are kept: those of 80 square frames or 150 of 16:9. What is learnt of them takes half as much besides.
const BYTES: usize = 1 << 28;
/// Where parts are asked for, so many times the frames that are needed are looked at until there are enough that show a part.
const PATIENCE: usize = 10;

/// A scene in bytes: a camera does not show it twice.
pub struct KeptScene {
    size: Size,
    /// Height x width x 3.
    rgb: Vec<u8>,
    pub time: u64,
    /// Of the frame that it shows, in pixels.
    pub frame: Size,
}

impl KeptScene {
    /// Of a shot whose scene has levels of 0 to 1.
    pub fn of(shot: &Shot) -> Self {
        let (_, height, width) = shot.scene.dim();
        let mut rgb = vec![0; 3 * height * width];
        for (channel, plane) in shot.scene.outer_iter().enumerate() {
            for (byte, level) in rgb[channel..].iter_mut().step_by(3).zip(plane) {
                *byte = (255.0 * level).round() as u8;
            }
        }
        Self {
            size: Size::new(height, width),
            rgb,
            time: shot.time,
            frame: shot.frame,
        }
    }
}

/// Looks at good frames until it knows whether they show parts to locate.
pub struct Scenes {
    demand: Demand,
    /// Frames that are enough.
    enough: usize,
    fitter: LocatorFitter,
    kept: Vec<KeptScene>,
    bytes: usize,
    looked: usize,
    shown: usize,
    /// Of the largest frame, in pixels.
    longest: usize,
    roi: Roi,
}

impl Scenes {
    /// `wanted`: frames or parts that are learnt from, of which no more are looked at than that.
    pub fn new(demand: Demand, wanted: usize, roi: Roi) -> Self {
        Self {
            demand,
            enough: ENOUGH.min(wanted),
            fitter: LocatorFitter::new(levels(Normalization::PLAIN)),
            kept: Vec::new(),
            bytes: 0,
            looked: 0,
            shown: 0,
            longest: 0,
            roi,
        }
    }

    /// Takes a frame in. Where parts are asked for, one that shows nothing whole is none: a belt is empty now and then.
    pub fn add(&mut self, shot: &Shot) {
        self.looked += 1;
        let shows = self.fitter.add(shot.scene.view());
        self.shown += usize::from(shows);
        if !shows && self.demand == Demand::Part {
            self.fitter.forget_last();
            return;
        }
        let (width, height) = (
            shot.frame.width as f32 * self.roi.width,
            shot.frame.height as f32 * self.roi.height,
        );
        self.longest = self.longest.max(width.max(height) as usize);
        self.bytes += shot.scene.len();
        self.kept.push(KeptScene::of(shot));
    }

    /// Whether it can decide.
    pub fn is_enough(&self) -> bool {
        self.fitter.frames() >= self.enough
            || self.bytes > BYTES
            || self.looked >= PATIENCE * self.enough
    }

    /// Decides. `pixels`: of the part's tensor, about. Gives the scenes back, in their order.
    ///
    /// # Errors
    /// Parts are asked for, and why there are none.
    pub fn decide(self, pixels: usize) -> Result<(Decision, Vec<KeptScene>), String> {
        // No scene can be made larger than it was kept.
        let verdict = self
            .fitter
            .finish(self.demand, pixels, self.longest.min(SCENE));
        match verdict {
            Verdict::None(_) if self.demand == Demand::Part && 2 * self.shown < self.looked => {
                let (shown, looked) = (self.shown, self.looked);
                Err(format!(
                    "{shown} of {looked} frames show something whole on a background"
                ))
            }
            Verdict::None(reason) if self.demand == Demand::Part => Err(reason),
            verdict => Ok((verdict.into(), self.kept)),
        }
    }
}

/// Brings kept scenes to the size and the normalisation that parts are located with.
pub struct Rescaler {
    /// Of whole frames: its normalisation and its region are those of scenes.
    target: Target,
    longest: usize,
    /// For scenes of one size.
    preprocess: Option<((Size, Size), Preprocess)>,
    scene: Array3<f32>,
}

impl Rescaler {
    pub fn new(target: Target, longest: usize) -> Self {
        Self {
            target,
            longest,
            preprocess: None,
            scene: Array3::zeros((3, 0, 0)),
        }
    }

    /// The scene as the streaming thread would have made it: 3 x height x width, normalised.
    ///
    /// # Errors
    /// None for a scene that was kept.
    pub fn scene(&mut self, kept: &KeptScene) -> Result<ArrayView3<'_, f32>, PlaneError> {
        let target = Target {
            size: scene_size(self.longest, &self.target, kept.frame),
            roi: Roi::WHOLE,
            ..self.target
        };
        let sizes = (kept.size, target.size);
        if self.preprocess.as_ref().is_none_or(|(of, _)| *of != sizes) {
            let layout = Layout::interleaved(kept.size.width, kept.size.height, 3, false);
            self.preprocess = Some((sizes, Preprocess::new(layout, target)));
            self.scene = target.tensor();
        }
        if let Some((_, preprocess)) = &mut self.preprocess {
            let plane = Plane {
                data: &kept.rgb,
                stride: 3 * kept.size.width,
            };
            preprocess.run(&[plane], self.scene.view_mut())?;
        }
        Ok(self.scene.view())
    }
}
