//! Where the parts in a frame are: from the scene, a picture of the frame at a fixed scale, to poses, and from a pose to the part upright.
//!
//! Machine vision calls it fixturing. A part is what differs from its background (`segment`); its pose comes from the moments of its
//! outline (`pose`), which of the possible ones it is and its last fraction of a pixel from the mean picture of good parts (`template`). What
//! good parts look like to this is learnt from good frames (`fit`). Knows neither GStreamer nor heads.
//!
//! Limits: a background without strong texture of its own, parts of one kind that do not overlap, seen from one side at one distance.

mod fit;
mod picture;
mod pose;
mod same;
mod segment;
mod template;
mod track;
mod warp;

pub use fit::{Demand, ENOUGH, Learnt, LocatorFitter, SCENE, Verdict, template_size};
pub use pose::Pose;
pub use same::View;
pub use template::TEMPLATE_REDUCTION;
pub use track::{Seen, Track, Tracker};

use ndarray::{ArrayView2, ArrayView3, ArrayViewMut3};
use picture::{Plane, Small};
use segment::{Background, Blob, Segmenter};
use serde::{Deserialize, Serialize};
use template::{Refiner, Template};

/// How a scene's values become grey levels of 0 to 255: one factor and one summand a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    pub gain: [f32; 3],
    pub bias: [f32; 3],
}

/// What is known of the part that a model is about, and of what it lies on. Lengths are in pixels of the scene.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct PartModel {
    /// The longer side of the scene.
    pub scene: usize,
    /// Pixels of the part's tensor for one of the scene.
    pub scale: f32,
    /// Size along the longer axis and across it, and area, of the typical good part.
    pub length: f32,
    pub width: f32,
    pub area: f32,
    /// The background's level in each channel, 0 to 255, and by how much what is no background differs from it.
    pub background: [f32; 3],
    pub contrast: f32,
    /// By how much the background of good frames was off that level, at most.
    #[serde(default)]
    pub background_off: f32,
    /// How many angles the outline leaves open: two for a long part, more for a round or square one.
    pub turns: usize,
    /// Likeness to the mean picture (correlation, up to 1) under which a part counts as not located.
    pub likeness: f32,
    /// Parts in a frame, where all good frames have the same number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<usize>,
}

impl PartModel {
    /// Whether every number is one that a fit can have come to.
    pub fn is_sound(&self) -> bool {
        let positive = [
            self.scale,
            self.length,
            self.width,
            self.area,
            self.contrast,
        ];
        (64..=4096).contains(&self.scene)
            && positive
                .iter()
                .all(|value| value.is_finite() && *value > 1e-3 && *value < 1e8)
            && self.background.iter().all(|level| level.is_finite())
            && (0.0..=255.0).contains(&self.background_off)
            && (-1.0..=1.0).contains(&self.likeness)
            && (1..=MOST_TURNS).contains(&self.turns)
            && self.scale < 64.0
    }
}

/// More angles than this are not tried.
const MOST_TURNS: usize = 72;
/// Most parts of a frame that are looked at; of more, the largest.
pub const MOST_PARTS: usize = 32;
/// Share of the typical area under which something is no part: a speck, a crumb.
const SPECK: f32 = 0.2;
/// Typical areas from which something may be several parts that touch.
const SEVERAL: f32 = 1.5;
/// Typical areas up to which what the frame's edge cuts can be a piece of one part.
const PIECE: f32 = 1.1;

/// What has become of something in the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It can be judged.
    Located,
    /// The frame's edge cuts it.
    Cut,
    /// Parts that touch, and cannot be told from each other.
    Touching,
    /// Too unlike a good part to know how it lies.
    Unlike,
}

/// Why nothing can be said of a frame as a whole: it may show parts that were not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Doubt {
    /// The light is off, something covers the frame, or the camera looks elsewhere.
    #[error("the background is not the one that was learnt")]
    Background,
    /// Of these the parts cannot be told, or there is no room for them.
    #[error("it shows too many things, over {MOST_PARTS} parts or noise")]
    TooMany,
}

/// One thing that lies on the background.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Located {
    /// In pixels of the scene.
    pub pose: Pose,
    pub state: State,
    /// Correlation with the mean picture; 0 where it was not looked at.
    pub likeness: f32,
    /// What it is in the last scene's picture of things.
    blob: Blob,
}

/// Finds the parts of one model in scenes. Keeps its memory: after the first scene of a size nothing is allocated.
pub struct Locator {
    model: PartModel,
    levels: Levels,
    template: Template,
    refiner: Refiner,
    small: Small,
    grey: Plane,
    coarse: Plane,
    segmenter: Segmenter,
    pieces: Vec<Blob>,
    found: Vec<Located>,
    doubt: Option<Doubt>,
}

impl Locator {
    /// `template` is the mean picture, grey levels, of a [`TEMPLATE_REDUCTION`]th of the sides of a part's tensor.
    pub fn new(model: PartModel, levels: Levels, template: ArrayView2<'_, u8>) -> Self {
        let template = Template::new(template.mapv(f32::from).view());
        Self {
            refiner: Refiner::new(&template),
            template,
            model,
            levels,
            small: Small::default(),
            grey: Plane::default(),
            coarse: Plane::default(),
            segmenter: Segmenter::default(),
            pieces: Vec::with_capacity(MOST_PARTS * segment::MOST_PIECES),
            found: Vec::with_capacity(MOST_PARTS),
            doubt: None,
        }
    }

    pub fn model(&self) -> &PartModel {
        &self.model
    }

    /// What lies on the background of a scene (3 x height x width), the largest first, up to [`MOST_PARTS`]. Where there is a
    /// [`Locator::doubt`], there may be more.
    pub fn locate(&mut self, scene: ArrayView3<'_, f32>) -> &[Located] {
        self.small.of_scene(scene, self.levels);
        self.grey.half_of_scene(scene, self.levels);
        self.coarse.reduced(&self.grey, template::COARSE);
        self.found.clear();
        self.pieces.clear();
        let model = &self.model;
        // The small picture's pixels are `unit` of the scene's.
        let unit = self.small.unit();
        let (area, width) = (model.area / (unit * unit), model.width / unit);
        self.segmenter.run(
            &self.small,
            Some(Background {
                level: model.background,
                off: model.background_off,
                contrast: model.contrast,
            }),
        );
        self.doubt = match () {
            () if !self.segmenter.knows_background() => Some(Doubt::Background),
            () if self.segmenter.is_full() => Some(Doubt::TooMany),
            () => None,
        };
        for index in 0..self.segmenter.blobs().len() {
            let blob = self.segmenter.blobs()[index];
            let times = blob.area as f32 / area;
            if times < SPECK {
                break;
            }
            if self.found.len() + self.pieces.len() >= MOST_PARTS {
                self.doubt.get_or_insert(Doubt::TooMany);
                break;
            }
            let state = match () {
                // A part that something holds against the edge is not to pass as a piece of one.
                () if blob.touches_edge && times <= PIECE => State::Cut,
                () if blob.touches_edge => State::Touching,
                () if times > SEVERAL => {
                    if self.segmenter.split(index, area, width, &mut self.pieces) {
                        continue;
                    }
                    State::Touching
                }
                () => State::Located,
            };
            let pose = self.segmenter.pose(blob).scaled(unit);
            self.found.push(Located {
                pose,
                state,
                likeness: 0.0,
                blob,
            });
        }
        if self.found.len() + self.pieces.len() > MOST_PARTS {
            self.doubt.get_or_insert(Doubt::TooMany);
            self.pieces.truncate(MOST_PARTS - self.found.len());
        }
        for &piece in &self.pieces {
            let pose = self.segmenter.pose(piece).scaled(unit);
            self.found.push(Located {
                pose,
                state: State::Located,
                likeness: 0.0,
                blob: piece,
            });
        }
        let pictures = (&self.grey, &self.coarse);
        let located = self.found.iter_mut();
        for found in located.filter(|found| found.state == State::Located) {
            let (pose, likeness) = self.refiner.settle(
                &self.template,
                pictures,
                found.pose,
                model.scale,
                model.turns,
            );
            (found.pose, found.likeness) = (pose, likeness);
            if likeness < model.likeness {
                found.state = State::Unlike;
            }
        }
        &self.found
    }

    /// Why the last scene may show parts that were not found.
    pub fn doubt(&self) -> Option<Doubt> {
        self.doubt
    }

    /// What the last [`Locator::locate`] found.
    pub fn found(&self) -> &[Located] {
        &self.found
    }

    /// By how much the last scene's background is off the one that was learnt, grey levels.
    pub fn background_off(&self) -> f32 {
        let (own, _) = self.segmenter.background();
        let off = own.iter().zip(self.model.background);
        off.map(|(own, learnt)| (own - learnt).abs())
            .fold(0.0, f32::max)
    }

    /// How a part of the last scene looked there.
    pub fn view(&self, part: &Located) -> View {
        View::new(&self.grey, part, self.model.scale, self.template.size())
    }

    /// Whether a part of the last scene looks as one did before, moved but not turned: see [`View`].
    pub fn is_same(&mut self, before: &View, part: &Located) -> bool {
        let pictures = (&self.grey, &self.coarse);
        before.is(part, pictures, self.model.scale, &mut self.refiner)
    }

    /// A part that the last [`Locator::locate`] found in this scene, upright, into `out` (3 x height x width of its tensor). Beyond the scene its
    /// edge goes on, and where its neighbours lie there is background: each is judged by itself.
    pub fn upright(
        &self,
        scene: ArrayView3<'_, f32>,
        part: &Located,
        mut out: ArrayViewMut3<'_, f32>,
    ) {
        let scale = self.model.scale;
        warp::upright(scene, &part.pose, scale, out.view_mut());
        // As far from the middle as the tensor's corners.
        let (_, height, width) = out.dim();
        let reach = (height as f32).hypot(width as f32) / (2.0 * scale) / self.small.unit();
        let middle = part.pose.scaled(1.0 / self.small.unit());
        let of_others = |other: &&Located| {
            other.blob != part.blob && other.blob.is_within(middle.x, middle.y, reach)
        };
        let mut others = segment::Labels::new();
        others.extend(
            self.found
                .iter()
                .filter(of_others)
                .map(|other| other.blob.label()),
        );
        if others.is_empty() {
            return;
        }
        let Levels { gain, bias } = self.levels;
        // Places in the picture of things: of the tensor's corner, and from there a pixel along and across.
        let fine = scale * self.small.unit();
        let corner = (0.5 - width as f32 / 2.0, 0.5 - height as f32 / 2.0);
        let (left, top) = middle.place(corner.0 / fine, corner.1 / fine);
        let (sin, cos) = middle.angle.sin_cos();
        let step = (cos / fine, sin / fine);
        for v in 0..height {
            for u in 0..width {
                let (along, across) = (u as f32, v as f32);
                let x = left + along * step.0 - across * step.1;
                let y = top + along * step.1 + across * step.0;
                if self.segmenter.is_of(&others, part.blob, x, y) {
                    let levels = self.segmenter.background_at(x, y);
                    for channel in 0..3 {
                        let level = (levels[channel] - bias[channel]) / gain[channel];
                        out[[channel, v, u]] = level;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
