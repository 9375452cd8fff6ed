//! The cards of the most unusual good images.

use super::Fitted;
use crate::cli::console::progress;
use crate::cli::images::{self, Framing, Reading};
use crate::cli::report::charts::short;
use crate::cli::report::pictures::{Drawn, Pictures};
use crate::detector::Detector;
use crate::detector::unusual::Unusual;
use anyhow::Context as _;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Images that have a card: each takes some 40 KB of the page.
const MOST: usize = 60;
/// Cards that are seen at once, if not more were left out or set the threshold.
pub const AT_ONCE: usize = 12;

/// A good image as the template shows it.
pub struct Card {
    pub file: String,
    /// Held-out score.
    pub score: f32,
    pub score_text: String,
    pub reason: String,
    pub left_out: bool,
    pub verdict: &'static str,
    /// Whether `--leave-out` can name it.
    pub can_be_named: bool,
    pub drawn: Drawn,
}

/// Draws the most unusual images, first those that were left out. One that can no longer be read is warned of, and has no card.
///
/// # Errors
/// The detector fails, or a heatmap cannot be drawn.
pub fn draw(
    fitted: &mut Fitted<'_>,
    detector: &mut Detector,
    reading: Reading,
) -> anyhow::Result<Vec<Card>> {
    let metadata = detector.metadata().clone();
    let by_name: HashMap<_, &PathBuf> = fitted
        .paths
        .iter()
        .map(|path| (name_of(path), path))
        .collect();
    let unusual = metadata.unusual.iter().enumerate();
    let (unusual, paths): (Vec<(usize, &Unusual)>, Vec<PathBuf>) = unusual
        .filter_map(|(place, unusual)| {
            let path = by_name.get(unusual.file.as_deref()?)?;
            Some(((place, unusual), (*path).clone()))
        })
        .take(MOST)
        .unzip();
    let reading = reading.of(&metadata);
    let framing = Framing::of(&metadata);
    let mut pictures = Pictures::new(&metadata, reading);
    let mut cards = Vec::with_capacity(paths.len());
    let bar = progress(paths.len(), "drawing");
    images::for_each_readable(&paths, framing, reading, &bar, |index, image| {
        let (path, (place, unusual)) = (&paths[index], unusual[index]);
        let drawn = match fitted.maps.of(place, unusual.score) {
            Some(map) => {
                let map = detector.laid(image.tensor.view(), map, unusual.score);
                pictures.of(path, map, unusual.score)
            }
            None => {
                let score = detector.inspect(image.tensor.view())?;
                pictures.of(path, detector.map(), score)
            }
        };
        let drawn = drawn.context("its pictures for the report")?;
        cards.push(Card {
            file: name_of(path),
            score: unusual.score,
            score_text: short(unusual.score.into()),
            reason: unusual.reason.clone(),
            left_out: unusual.left_out,
            verdict: match unusual.left_out {
                true => "left out",
                false if unusual.score > metadata.threshold => "above the threshold",
                false if unusual.score == metadata.threshold => "sets the threshold",
                false => "below the threshold",
            },
            can_be_named: path.to_str().is_some(),
            drawn,
        });
        Ok(())
    })?;
    bar.finish_and_clear();
    Ok(cards)
}

fn name_of(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}
