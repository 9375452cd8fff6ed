//! Parts to learn from: each once, however many frames show it.
//!
//! What the tracker follows from one frame to the next at the place where a part is to be expected is the same part if it also looks as it
//! did there, at the angle that it had ([`View`]); if it does not, it is another one, such as that of the next still. A part that looks like
//! one that was learnt from, nearly to the pixel ([`DuplicateFilter`]), is known already: a video that begins again. Everything else is new.
//! Of each part the view is learnt from that is nearest to the middle of the scene.

use crate::detector::{Cutter, FittedPart};
use crate::elements::vadlite::duplicate_filter::DuplicateFilter;
use crate::locate::{Located, Seen, State, Tracker, View};
use crate::video::preprocess::Target;
use ndarray::{Array3, ArrayView3};

/// A part that may come again in the next frame.
struct Followed {
    /// Its track's.
    id: u64,
    view: View,
    /// None of what is known already.
    best: Option<Best>,
}

/// The view that is learnt from, so far.
struct Best {
    /// From the middle of the scene, in 0..1 of its longer side.
    off: f32,
    /// 3 x height x width of the part's tensor.
    tensor: Array3<f32>,
}

/// Finds the parts in scenes.
pub struct Parts {
    cutter: Cutter,
    /// Of parts' tensors.
    target: Target,
    tracker: Tracker,
    filter: DuplicateFilter,
    followed: Vec<Followed>,
    found: Vec<Located>,
    seen: Vec<Seen>,
    wanted: usize,
    /// Parts that are learnt from, and those besides that are still followed.
    learnt: usize,
    pending: usize,
    again: u64,
}

impl Parts {
    /// `target`: of parts' tensors, with the normalisation of the scenes.
    pub fn new(part: &FittedPart, target: Target, wanted: usize) -> Self {
        Self {
            cutter: Cutter::new(part, target.size, target.normalization),
            target,
            tracker: Tracker::default(),
            filter: DuplicateFilter::default(),
            followed: Vec::new(),
            found: Vec::new(),
            seen: Vec::new(),
            wanted,
            learnt: 0,
            pending: 0,
            again: 0,
        }
    }

    /// Parts so far.
    pub fn count(&self) -> usize {
        self.learnt + self.pending
    }

    /// Views of parts that were known already.
    pub fn again(&self) -> u64 {
        self.again
    }

    /// Takes in a scene (3 x height x width, normalised) of a time in nanoseconds. Parts that will not be seen any better go to `learn`: once
    /// there are as many as are wanted, all of them.
    ///
    /// # Errors
    /// Those of `learn`.
    pub fn look<E>(
        &mut self,
        scene: ArrayView3<'_, f32>,
        time: u64,
        learn: &mut dyn FnMut(ArrayView3<'_, f32>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.found.clear();
        self.found.extend(self.cutter.locate(scene));
        let (_, height, width) = scene.dim();
        let longest = height.max(width).max(1) as f32;
        let bounds = (width as f32 / longest, height as f32 / longest);
        self.seen.clear();
        self.seen.extend(self.found.iter().map(|found| Seen {
            x: found.pose.x / longest,
            y: found.pose.y / longest,
            length: found.pose.length / longest,
            whole: found.state != State::Cut,
            judged: None,
        }));
        let ids = self.tracker.update(time, &self.seen, bounds).to_vec();
        for index in 0..self.found.len() {
            let (found, id) = (self.found[index], ids[index]);
            if found.state == State::Located {
                let seen = &self.seen[index];
                let off = (seen.x - bounds.0 / 2.0).hypot(seen.y - bounds.1 / 2.0);
                self.see(scene, &found, id, off, learn)?;
            }
        }
        let left: Vec<u64> = self.tracker.left().iter().map(|track| track.id).collect();
        for id in left {
            self.close(id, learn)?;
        }
        if self.count() >= self.wanted {
            self.finish(learn)?;
        }
        Ok(())
    }

    /// Lets all parts go: there are enough, or no scene comes any more.
    ///
    /// # Errors
    /// Those of `learn`.
    pub fn finish<E>(
        &mut self,
        learn: &mut dyn FnMut(ArrayView3<'_, f32>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(first) = self.followed.first() {
            self.close(first.id, learn)?;
        }
        Ok(())
    }

    /// Takes in a part of the scene that lies whole in it.
    fn see<E>(
        &mut self,
        scene: ArrayView3<'_, f32>,
        found: &Located,
        id: u64,
        off: f32,
        learn: &mut dyn FnMut(ArrayView3<'_, f32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let known = self.followed.iter().position(|followed| followed.id == id);
        let known = known.map(|known| &mut self.followed[known]);
        if let Some(known) = known {
            let locator = self.cutter.locator();
            if locator.is_same(&known.view, found) {
                known.view = locator.view(found);
                self.again += 1;
                if let Some(best) = known.best.as_mut().filter(|best| off < best.off) {
                    best.off = off;
                    best.tensor.assign(&self.cutter.upright(scene, found));
                }
                return Ok(());
            }
            self.close(id, learn)?;
        }
        if self.count() >= self.wanted {
            return Ok(());
        }
        let tensor = self.cutter.upright(scene, found);
        let best = match self.filter.admits(tensor, &self.target) {
            true => {
                self.pending += 1;
                let tensor = tensor.to_owned();
                Some(Best { off, tensor })
            }
            false => {
                self.again += 1;
                None
            }
        };
        let view = self.cutter.locator().view(found);
        self.followed.push(Followed { id, view, best });
        Ok(())
    }

    /// Learns from a part that will not be seen again.
    fn close<E>(
        &mut self,
        id: u64,
        learn: &mut dyn FnMut(ArrayView3<'_, f32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let of_id = |followed: &Followed| followed.id == id;
        if let Some(index) = self.followed.iter().position(of_id)
            && let Some(best) = self.followed.remove(index).best
        {
            self.pending -= 1;
            self.learnt += 1;
            learn(best.tensor.view())?;
        }
        Ok(())
    }
}
