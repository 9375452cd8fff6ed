//! From shots to a fitter that has all it learns from: whole frames, or the parts that frames show.

use super::super::kept::KeptFrames;
use super::super::shots::{Handed, Looking, Shot, Shots};
use super::parts::Parts;
use super::scenes::{KeptScene, Rescaler, Scenes};
use super::{CAT, Thread};
use crate::detector::error::{Error, FitError};
use crate::detector::{Decision, Fitter};
use crate::geometry::{Roi, Size};
use crate::locate::Demand;
use crate::video::preprocess::Target;
use ndarray::ArrayView3;
use std::path::Path;

/// What a fit has learnt from.
pub struct Collection<'a> {
    thread: &'a Thread,
    backbone: &'a Path,
    pub fitter: Fitter<'a>,
    /// What the fitter has taken in.
    pub kept: KeptFrames,
    pub taken: usize,
    pub decision: Decision,
    /// Of the frames that show the parts, in pixels.
    pub frame: Option<Size>,
    /// Bits that the samples use, where they have 16.
    pub bits: Option<u8>,
    stage: Stage,
}

enum Stage {
    /// Whole frames are learnt from unless parts are asked for, in case there are none to locate.
    Undecided(Box<Scenes>),
    Frames,
    Parts(Box<(Parts, Rescaler)>),
}

impl<'a> Collection<'a> {
    pub fn new(thread: &'a Thread, backbone: &'a Path, fitter: Fitter<'a>) -> Self {
        let wanted = thread.wanted();
        let stage = match thread.input.demand {
            Demand::None => Stage::Frames,
            demand => {
                let scenes = Scenes::new(demand, wanted, thread.input.roi);
                Stage::Undecided(Box::new(scenes))
            }
        };
        Self {
            thread,
            backbone,
            fitter,
            kept: KeptFrames::new(wanted, thread.input.size),
            taken: 0,
            decision: Decision::default(),
            frame: None,
            bits: None,
            stage,
        }
    }

    /// Takes in what comes until there is enough of it or no more comes.
    ///
    /// # Errors
    /// Those of the fitter, parts that are asked for where there are none, or an end that was asked for.
    pub fn collect(&mut self, (shots, give_back): Shots) -> Result<(), Error> {
        for handed in shots {
            self.thread.cancel.check()?;
            match handed {
                Handed::Shot(shot) => {
                    self.take(&shot)?;
                    // Fails where the streaming thread has gone.
                    let _ = give_back.try_send(shot);
                }
                Handed::End => self.end()?,
            }
            self.count();
            self.thread.state.lock().handled += 1;
            self.thread.offers.wake();
            // Of whole frames the streaming thread sends no more than are wanted.
            if matches!(self.stage, Stage::Parts(_)) && self.taken >= self.thread.wanted() {
                break;
            }
        }
        if let (Stage::Parts(parts), Some(part)) = (&self.stage, &mut self.decision.part) {
            // Those that the part was known by may all have been of one minute.
            let off = parts.0.background_off().max(part.model.background_off);
            part.model.background_off = off;
            self.fitter.widen_background(off);
        }
        Ok(())
    }

    /// Says how many parts there are.
    fn count(&self) {
        if let Stage::Parts(parts) = &self.stage {
            let mut state = self.thread.state.lock();
            (state.parts, state.again) = (parts.0.count(), parts.0.again());
        }
    }

    /// Forgets all that came so far.
    fn begin_anew(&mut self) -> Result<(), Error> {
        let (thread, backbone) = (self.thread, self.backbone);
        let fitter = Fitter::new(thread.options(backbone, false, &Decision::default()))?;
        *self = Self::new(thread, backbone, fitter);
        thread.state.lock().forget(thread.input.looking());
        Ok(())
    }

    fn take(&mut self, shot: &Shot) -> Result<(), Error> {
        if shot.anew {
            self.begin_anew()?;
        }
        self.bits = shot.bits;
        let in_scene = matches!(shot.looking, Looking::AtParts { .. });
        if in_scene && !matches!(self.stage, Stage::Parts(_)) {
            // Made before the streaming thread has heard that all begins anew.
            return Ok(());
        }
        let learns_frames = match &self.stage {
            Stage::Undecided(_) => self.thread.input.demand == Demand::Auto,
            Stage::Frames => true,
            Stage::Parts(_) => false,
        };
        if learns_frames {
            learn(&mut self.fitter, &mut self.kept, &mut self.taken)(shot.whole.view())?;
        }
        match &mut self.stage {
            // The same.
            Stage::Undecided(_) if shot.looking != Looking::ForParts => Ok(()),
            Stage::Undecided(scenes) => {
                scenes.add(shot);
                match scenes.is_enough() {
                    true => self.decide(),
                    false => Ok(()),
                }
            }
            Stage::Frames => Ok(()),
            // On its way when it was decided.
            Stage::Parts(_) if shot.looking == Looking::ForParts => {
                self.look_again(&KeptScene::of(shot))
            }
            Stage::Parts(parts) => {
                let mut learn = learn(&mut self.fitter, &mut self.kept, &mut self.taken);
                parts.0.look(shot.scene.view(), shot.time, &mut learn)
            }
        }
    }

    /// The stream ends.
    fn end(&mut self) -> Result<(), Error> {
        match &self.stage {
            Stage::Undecided(_) => self.decide(),
            Stage::Frames | Stage::Parts(_) => Ok(()),
        }
    }

    /// Decides by the scenes so far whether parts are located, and then learns from those that they show.
    fn decide(&mut self) -> Result<(), Error> {
        let Stage::Undecided(scenes) = std::mem::replace(&mut self.stage, Stage::Frames) else {
            return Ok(());
        };
        let pixels = self.thread.input.size.area();
        let decided = scenes.decide(pixels);
        let (decision, kept) = decided.map_err(|reason| Error::from(FitError::NoParts(reason)))?;
        self.thread.cancel.check()?;
        if let Some(element) = self.thread.element.upgrade() {
            let said = decision.said.as_deref().unwrap_or_default();
            gst::info!(CAT, obj = element, "located: {said}");
        }
        self.decision = decision;
        let located = self.decision.said.clone();
        let (Some(part), Some(size)) = (&self.decision.part, self.decision.tensor) else {
            self.fitter.describe_located(located.clone());
            self.say(Looking::AtFrames, located);
            return Ok(());
        };
        let scene = part.model.scene;
        self.fitter = Fitter::new(self.thread.options(self.backbone, false, &self.decision))?;
        let wanted = self.thread.wanted();
        self.kept = KeptFrames::new(wanted, size);
        self.taken = 0;
        let target = Target {
            size,
            normalization: self.fitter.normalization(),
            roi: Roi::WHOLE,
        };
        let of_frames = Target {
            roi: self.thread.input.roi,
            ..target
        };
        let parts = Parts::new(part, target, wanted);
        self.stage = Stage::Parts(Box::new((parts, Rescaler::new(of_frames, scene))));
        self.frame = kept.last().map(|kept| kept.frame);
        self.fitter.describe_files(self.bits, self.frame);
        for kept in kept {
            self.thread.cancel.check()?;
            if self.taken < wanted {
                self.look_again(&kept)?;
            }
        }
        self.count();
        self.say(Looking::AtParts { scene }, located);
        Ok(())
    }

    fn say(&self, looking: Looking, located: Option<String>) {
        let mut state = self.thread.state.lock();
        (state.looking, state.located) = (looking, located);
    }

    /// Learns from the parts of a scene that was kept.
    fn look_again(&mut self, kept: &KeptScene) -> Result<(), Error> {
        let Stage::Parts(parts) = &mut self.stage else {
            return Ok(());
        };
        let (parts, rescaler) = &mut **parts;
        // What it kept itself is as it needs it.
        if let Ok(scene) = rescaler.scene(kept) {
            let mut learn = learn(&mut self.fitter, &mut self.kept, &mut self.taken);
            parts.look(scene, kept.time, &mut learn)?;
        }
        Ok(())
    }
}

/// Has a fitter take in a part or a frame, and keeps it.
fn learn<'b>(
    fitter: &'b mut Fitter<'_>,
    kept: &'b mut KeptFrames,
    taken: &'b mut usize,
) -> impl FnMut(ArrayView3<'_, f32>) -> Result<(), Error> {
    |tensor| {
        fitter.add(tensor)?;
        kept.add(tensor);
        *taken += 1;
        Ok(())
    }
}
