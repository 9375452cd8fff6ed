//! Good images that are left out of a fit: those that are none beyond doubt, and on demand those that are unusual.

use super::held_out::Scored;
use super::told::{median, unusual};
use super::{FEWEST_IMAGES, Fitter, foreign, heads};
use crate::detector::error::Result;
use crate::detector::heads::{HeadFitter, Recipe};
use crate::detector::progress::Progress;
use crate::detector::samples::{self, Samples};
use half::f16;

/// Times that foreign images are looked for: those that are left hide others no more.
const LOOKS: usize = 3;

impl Fitter<'_> {
    /// Leaves out images that are not like the others (a hand, a crate of rejects) where there can be no doubt (`fit/foreign.rs`), and
    /// returns how many these were. Of more images than are held none is left out.
    ///
    /// # Errors
    /// As [`Fitter::finish`].
    pub fn leave_out_foreign(&mut self, progress: &mut Progress<'_>) -> Result<usize> {
        let before = self.left_out.len();
        for _ in 0..LOOKS {
            if !self.can_leave_out() {
                break;
            }
            let scored = self.held_out(progress)?[0].good.clone();
            // Each picture once: copies say nothing of how many others are like it.
            let counted = self.counted();
            let scores: Vec<f32> = counted.iter().map(|&image| scored[image].score).collect();
            let Some(fence) = foreign::fence(&scores) else {
                break;
            };
            let out = scored
                .iter()
                .map(|scored| (scored.score > fence).then_some(*scored));
            if !self.leave_out(&out.collect::<Vec<_>>(), median(&scores))? {
                break;
            }
        }
        Ok(self.left_out.len() - before)
    }

    /// Leaves out what is unusual, wanted or not: of the 15 % with the highest held-out scores those that a head which has learnt from
    /// none of them finds far from the others (`fit/foreign.rs`). Returns how many these were. The promise then is one about
    /// parts like those that stay.
    ///
    /// # Errors
    /// As [`Fitter::finish`].
    pub fn leave_out_unusual(&mut self, progress: &mut Progress<'_>) -> Result<usize> {
        let before = self.left_out.len();
        self.leave_out_foreign(progress)?;
        if !self.can_leave_out() {
            return Ok(self.left_out.len() - before);
        }
        // The method that keeps a bank, where there is a choice, is the more exact one.
        let judge = self.options.recipes.len() - 1;
        let recipe = self.options.recipes[judge];
        let scores = self.held_out(progress)?[judge].scores();
        let mut suspect = vec![false; scores.len()];
        for image in foreign::suspects(&scores) {
            suspect[image] = true;
        }
        let (mut heads, others) = self.without(&suspect, &[recipe])?;
        let scoring = self.scoring(recipe, &others);
        let held = scoring.held_out(&mut *heads[0], &[], progress)?.scores();
        let tensors = heads[0].fit(&others, None, progress)?;
        let suspects: Vec<usize> = (0..suspect.len()).filter(|&image| suspect[image]).collect();
        let patches: Vec<&[f16]> = suspects
            .iter()
            .map(|&image| self.samples.image(image))
            .collect();
        let (scored, _) = scoring.score(&tensors, &patches, progress.cancel())?;
        let limit = foreign::unusual_above(&held);
        let mut out = vec![None; suspect.len()];
        for (&image, &scored) in suspects.iter().zip(&scored) {
            out[image] = Some(scored).filter(|scored| scored.score > limit);
        }
        let middle = median(&held);
        self.leave_out(&out, middle)?;
        Ok(self.left_out.len() - before)
    }

    /// Whether all images are held, and enough of them that differ.
    fn can_leave_out(&mut self) -> bool {
        let all = self.numbers.len();
        let differ = match self.looks.is_empty() {
            true => all,
            false => self.groups().count,
        };
        differ >= FEWEST_IMAGES && self.samples.images() == all
    }

    /// Leaves out the images that have a score here, unless too few would stay. Returns whether any was.
    fn leave_out(&mut self, out: &[Option<Scored>], median: f32) -> Result<bool> {
        let count = out.iter().flatten().count();
        if count == 0 || out.len() - count < FEWEST_IMAGES {
            return Ok(false);
        }
        let grid = self.shape().grid;
        for (scored, &number) in out.iter().zip(&self.numbers) {
            if let Some(scored) = scored {
                let mut unusual = unusual(number, *scored, median, grid);
                unusual.left_out = true;
                self.left_out.push(unusual);
            }
        }
        let gone: Vec<bool> = out.iter().map(Option::is_some).collect();
        (self.heads, self.samples) = self.without(&gone, &self.options.recipes)?;
        let mut new = 0;
        let renumbered: Vec<Option<usize>> = gone
            .iter()
            .map(|gone| {
                new += usize::from(!gone);
                (!gone).then(|| new - 1)
            })
            .collect();
        self.defects
            .renumber(|image| renumbered.get(image).copied().flatten());
        keep(&mut self.looks, &gone);
        keep(&mut self.numbers, &gone);
        self.forget();
        Ok(true)
    }

    /// Heads to be fitted, and samples, without the images that are `gone`.
    fn without(
        &self,
        gone: &[bool],
        recipes: &[Recipe],
    ) -> Result<(Vec<Box<dyn HeadFitter>>, Samples)> {
        let mut heads = heads(recipes, self.shape())?;
        let mut samples = Samples::new(self.shape(), samples::BYTES);
        for image in (0..gone.len()).filter(|&image| !gone[image]) {
            let patches = self.samples.image(image);
            for head in &mut heads {
                head.add(patches);
            }
            samples.add(self.samples.folds()[image], patches);
        }
        Ok((heads, samples))
    }
}

fn keep<T>(values: &mut Vec<T>, gone: &[bool]) {
    let mut gone = gone.iter();
    values.retain(|_| !gone.next().copied().unwrap_or(false));
}
