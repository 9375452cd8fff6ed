//! Parts to learn from: each once, however many frames show it.
//!
//! What the tracker takes for a part of the frame before is that part if it has gone on as the belt does, without turning, or if what is its
//! own looks as it did there ([`View`]). Otherwise it is another one: the next still shows its part near where the last one lay. A part that
//! looks like one that was learnt from, nearly to the pixel ([`DuplicateFilter`]), is known already: it stands, or a video begins again.
//! Everything else is new. Of each part the view is learnt from that is nearest to the middle of the scene.

use crate::detector::{Cutter, FittedPart};
use crate::elements::vadlite::duplicate_filter::DuplicateFilter;
use crate::locate::{Doubt, Located, Seen, State, Track, Tracker, View};
use crate::video::preprocess::Target;
use ndarray::{Array3, ArrayView3};
use std::f32::consts::TAU;

/// A part that goes on with the belt is not farther from where it is expected than this share of its length, and of its way from the last
/// frame, and has turned by so many degrees at most.
const OFF_LENGTH: f32 = 0.06;
const OFF_WAY: f32 = 0.5;
const TURNED: f32 = 5.0;

/// A part that may come again in the next frame.
struct Followed {
    /// Its track's.
    id: u64,
    view: View,
    /// Radians.
    angle: f32,
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
    /// What the frame before has shown, and when that was.
    before: Vec<Track>,
    time: Option<u64>,
    /// By how much the belt moves parts from that frame to this one, in 0..1 of the scene's longer side.
    belt: Option<(f32, f32)>,
    wanted: usize,
    /// Parts that are learnt from, and those besides that are still followed.
    learnt: usize,
    pending: usize,
    again: u64,
    /// Of each scene that shows parts, grey levels.
    background_off: Vec<f32>,
    is_round: bool,
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
            before: Vec::new(),
            time: None,
            belt: None,
            wanted,
            learnt: 0,
            pending: 0,
            again: 0,
            background_off: Vec::new(),
            is_round: part.model.turns > 2,
        }
    }

    /// By how much the background of the scenes that show parts is off the part's, all but one in twenty, grey levels.
    pub fn background_off(&self) -> f32 {
        let mut all = self.background_off.clone();
        all.sort_unstable_by(f32::total_cmp);
        all.get(all.len() * 19 / 20).copied().unwrap_or(0.0)
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
        let locator = self.cutter.locator();
        locator.locate(scene);
        self.found.clear();
        // Another light on the background is nothing to doubt while it is learnt.
        if locator.doubt() != Some(Doubt::TooMany) {
            self.found.extend(locator.found());
        }
        if self.found.iter().any(|found| found.state == State::Located) {
            self.background_off.push(locator.background_off());
        }
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
        self.before.clear();
        self.before.extend(self.tracker.tracks());
        let elapsed = self.time.map_or(0, |before| time.saturating_sub(before)) as f32 / 1e9;
        self.time = Some(time);
        let speed = self.tracker.speed();
        self.belt = speed.map(|(x, y)| (x * elapsed, y * elapsed));
        let ids = self.tracker.update(time, &self.seen, bounds).to_vec();
        for (index, id) in ids.into_iter().enumerate() {
            let found = self.found[index];
            if found.state == State::Located {
                let seen = self.seen[index];
                let off = (seen.x - bounds.0 / 2.0).hypot(seen.y - bounds.1 / 2.0);
                self.see(scene, (&found, seen, id), off, learn)?;
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
        (found, seen, id): (&Located, Seen, u64),
        off: f32,
        learn: &mut dyn FnMut(ArrayView3<'_, f32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let known = self.followed.iter().position(|followed| followed.id == id);
        if let Some(known) = known {
            let goes_on = self.goes_on(&self.followed[known], found, &seen);
            let known = &mut self.followed[known];
            let locator = self.cutter.locator();
            if goes_on || locator.is_same(&known.view, found) {
                (known.view, known.angle) = (locator.view(found), found.pose.angle);
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
        self.followed.push(Followed {
            id,
            view,
            angle: found.pose.angle,
            best,
        });
        Ok(())
    }

    /// Whether a part is where the belt has carried one that was followed up to now, and lies as that did.
    fn goes_on(&self, before: &Followed, found: &Located, now: &Seen) -> bool {
        let track = self.before.iter().find(|track| track.id == before.id);
        let (Some(track), Some(belt)) = (track, self.belt) else {
            return false;
        };
        let way = (now.x - track.x, now.y - track.y);
        let off = (way.0 - belt.0).hypot(way.1 - belt.1);
        let turned = (found.pose.angle - before.angle).rem_euclid(TAU);
        let turned = turned.min(TAU - turned).to_degrees();
        off < OFF_LENGTH * now.length
            && off < OFF_WAY * way.0.hypot(way.1)
            // The angle of a round part is none.
            && (self.is_round || turned < TURNED)
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
