//! What a fit tells of its good images: the most unusual ones, and what other rates would cost and find.

use super::choice::share_above;
use super::cluster::{Cluster, cluster};
use super::held_out::{HeldOut, Scored};
use super::{DefectScores, Fitter};
use crate::detector::calibration::Calibration;
use crate::detector::error::FitError;
use crate::detector::heads::Recipe;
use crate::detector::image_score::ImageScore;
use crate::detector::unusual::{Trade, Unusual, place};
use crate::geometry::Size;
use std::collections::HashMap;

/// The most unusual good images that a model names: this share, and no more than so many.
const NAMED: f64 = 0.2;
const MOST_NAMED: usize = 200;
/// Rates that a model says the price of.
const TRADES: [f64; 5] = [0.005, 0.01, 0.02, 0.05, 0.1];

impl Fitter<'_> {
    /// What each rate that so many images support costs and brings.
    pub(super) fn trades(
        &self,
        scores: &[f32],
        counted: &[usize],
        DefectScores { painted, real, .. }: &DefectScores,
    ) -> Result<Vec<Trade>, FitError> {
        let calibration = Calibration::new(scores.to_vec())?;
        TRADES
            .into_iter()
            .filter(|rate| *rate >= calibration.smallest_rate())
            .map(|rate| {
                let threshold = calibration.threshold(rate)?;
                let set_by = scores.iter().position(|score| *score == threshold);
                let set_by =
                    set_by.map(|index| self.numbers[self.samples.numbers()[counted[index]]]);
                Ok(Trade {
                    false_reject_rate: rate,
                    threshold,
                    synthetic_found: (!painted.is_empty()).then(|| share_above(painted, threshold)),
                    bad_found: (!real.is_empty()).then(|| share_above(real, threshold)),
                    set_by: set_by.map(|number| number.to_string()),
                })
            })
            .collect()
    }

    /// The most unusual images, first those that were left out.
    pub(super) fn unusual(&self, good: &[Scored]) -> Vec<Unusual> {
        let scores: Vec<f32> = good.iter().map(|scored| scored.score).collect();
        let (middle, grid) = (median(&scores), self.shape().grid);
        let named = good.iter().zip(self.held_numbers());
        let mut named: Vec<Unusual> = named
            .map(|(&scored, number)| unusual(number, scored, middle, grid))
            .collect();
        let mut all = self.left_out.clone();
        for list in [&mut all, &mut named] {
            list.sort_by(|a, b| b.score.total_cmp(&a.score));
        }
        let most = ((NAMED * self.came as f64).ceil() as usize).min(MOST_NAMED);
        named.truncate(most.saturating_sub(all.len()));
        all.append(&mut named);
        all
    }

    /// The place in which the images that set the threshold are unusual, where it is one.
    pub(super) fn cluster(
        &self,
        recipe: Recipe,
        held: &HeldOut,
        counted: &[usize],
        rate: f64,
    ) -> Option<Cluster> {
        let ImageScore::HighestPatches(patches) = recipe.image_score() else {
            return None;
        };
        let image = |&image: &usize| (held.good[image], &held.patches[image][..]);
        let images: Vec<_> = counted.iter().map(image).collect();
        cluster(&images, self.shape().grid, &self.judged, patches, rate)
    }

    /// Of the images held: their numbers in the order in which all came.
    fn held_numbers(&self) -> impl Iterator<Item = usize> {
        let held = self.samples.numbers().iter();
        held.map(|&number| self.numbers[number])
    }

    /// The held-out patch scores of those that are named, but for those left out.
    pub(super) fn patches_of(&self, unusual: &[Unusual], held: &HeldOut) -> Vec<Option<Vec<f32>>> {
        let held: HashMap<usize, &Vec<f32>> = self.held_numbers().zip(&held.patches).collect();
        let patches = |unusual: &Unusual| Some((*held.get(&unusual.frame?)?).clone());
        unusual
            .iter()
            .map(|unusual| patches(unusual).filter(|_| !unusual.left_out))
            .collect()
    }
}

pub fn median(scores: &[f32]) -> f32 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(0.0)
}

pub fn unusual(number: usize, scored: Scored, median: f32, grid: Size) -> Unusual {
    let times = scored.score / median.max(f32::MIN_POSITIVE);
    Unusual {
        file: None,
        frame: Some(number),
        score: scored.score,
        reason: format!("{}: {times:.2} times the median", place(grid, scored.patch)),
        left_out: false,
    }
}
