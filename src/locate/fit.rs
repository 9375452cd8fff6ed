//! From good frames to what finds their parts; or to the reason why there is nothing to find.

use super::picture::{Plane, Small};
use super::pose::Pose;
use super::segment::{Blob, Segmenter};
use super::template::{COARSE, Refiner, TEMPLATE_REDUCTION, Template, sample, standardise};
use super::{Levels, PartModel};
use crate::geometry::Size;
use ndarray::{Array2, ArrayView3};
use rayon::prelude::*;

/// What is asked for.
// One list of names for the options, by clap, and the properties, by GLib's type system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, glib::Enum)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[enum_type(name = "GstVadLiteLocate")]
pub enum Demand {
    /// Where the good images show parts that lie differently
    #[default]
    #[enum_value(
        name = "Where the good frames show parts that lie differently",
        nick = "auto"
    )]
    Auto,
    /// The whole picture is judged as it is
    #[enum_value(name = "The whole picture is judged as it is", nick = "none")]
    None,
    /// Parts are located; a failure where there are none
    #[enum_value(
        name = "Parts are located; an error where there are none",
        nick = "part"
    )]
    Part,
}

/// What the good frames come to.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// There are parts to locate.
    Part(Box<Learnt>),
    /// The whole picture is judged, for this reason.
    None(String),
}

/// What is learnt of a part.
#[derive(Debug, Clone)]
pub struct Learnt {
    pub model: PartModel,
    /// Of the part's tensor.
    pub tensor: Size,
    /// The mean picture, 0 to 255.
    pub template: Array2<u8>,
    /// Where in the tensor a part may be, and what is near it: the rest is background, which nobody wants judged.
    pub mask: Array2<bool>,
    /// In a sentence, for people.
    pub said: String,
}

/// The longer side of the scenes that are learnt from.
pub const SCENE: usize = 1024;
/// Frames that are enough to know a part by.
pub const ENOUGH: usize = 120;
/// Fewest frames to know a part by.
const FEWEST: usize = 8;
/// Share of the frames that have to show a whole part.
const SHARE: f32 = 0.9;
/// Share of the picture that a part takes.
const AREA: (f32, f32) = (0.002, 0.85);
/// So many parts, several of them cut by the edge, are a pattern.
const MANY: usize = 6;
/// By how much the parts' areas may differ: the median deviation as a share.
const SAME_AREA: f32 = 0.12;
/// A blob of less than this share of the frame's largest is a speck.
const SPECK: f32 = 0.3;
/// By how much the tensor is longer and wider than the typical part: good ones are not all of one size.
const MARGIN: f32 = 1.12;
/// Pixels of the scene for one of the tensor.
const FINER: f32 = 1.5;
/// The scene's longer side.
const SCENES: (usize, usize) = (256, 1536);
/// An outline that is longer than wide by this factor tells its angle but for a half turn.
const LONG: f32 = 1.15;
const TURNS: usize = 36;
/// A mean picture that its parts resemble by less than this is none.
const LIKENESS: f32 = 0.5;
/// Parts that lie closer together than this share of the picture's longer side, and turn by less, lie as they should.
const STILL: f32 = 0.01;
const STILL_ANGLE: f32 = 3.0;
/// The silhouette's resolution in pixels of the tensor, how far around it is judged as well, and the share of parts that is too few for it.
const STEP: usize = 4;
const AROUND: isize = 12;
const SELDOM: f32 = 0.02;
/// Times that the mean picture is made anew.
const ROUNDS: usize = 4;

/// A whole part, in pixels of the scene, with its area and its elongation.
type Shown = (Pose, f32, f32);

/// What is kept of one good frame.
struct Frame {
    scene: Size,
    grey: Plane,
    coarse: Plane,
    /// Where things lie, and pixels of the scene for one of it.
    solid: Plane,
    unit: f32,
    /// The largest first.
    parts: Vec<Shown>,
    /// Things that the frame's edge cuts.
    cut: usize,
    background: [f32; 3],
    contrast: f32,
}

impl Frame {
    /// The longer side of the scene.
    fn longest(&self) -> f32 {
        self.scene.height.max(self.scene.width) as f32
    }
}

/// Takes in good frames.
pub struct LocatorFitter {
    levels: Levels,
    frames: Vec<Frame>,
    small: Small,
    segmenter: Segmenter,
}

impl LocatorFitter {
    pub fn new(levels: Levels) -> Self {
        Self {
            levels,
            frames: Vec::new(),
            small: Small::default(),
            segmenter: Segmenter::default(),
        }
    }

    /// Frames that it goes by.
    pub fn frames(&self) -> usize {
        self.frames.len()
    }

    /// Takes the last frame out again.
    pub fn forget_last(&mut self) {
        self.frames.pop();
    }

    /// Takes in the scene (3 x height x width) of a good frame, and says whether it shows something whole on a background.
    pub fn add(&mut self, scene: ArrayView3<'_, f32>) -> bool {
        let (_, height, width) = scene.dim();
        self.small.of_scene(scene, self.levels);
        self.segmenter.run(&self.small, None);
        let unit = self.small.unit();
        let largest = self.segmenter.blobs().first().map_or(0, |blob| blob.area);
        let whole = |blob: &&Blob| blob.area as f32 >= SPECK * largest as f32 && !blob.touches_edge;
        let like_parts = self.segmenter.blobs().iter();
        let cut = like_parts
            .filter(|blob| blob.touches_edge && blob.area as f32 >= 0.1 * largest as f32)
            .count();
        let blobs: Vec<Blob> = self
            .segmenter
            .blobs()
            .iter()
            .filter(whole)
            .copied()
            .collect();
        let parts = blobs.into_iter().map(|blob| {
            let pose = self.segmenter.pose(blob).scaled(unit);
            let area = blob.area as f32 * unit * unit;
            (pose, area, self.segmenter.elongation(blob))
        });
        let parts: Vec<Shown> = parts.collect();
        let shows_something = !parts.is_empty();
        let mut grey = Plane::default();
        grey.half_of_scene(scene, self.levels);
        let mut coarse = Plane::default();
        coarse.reduced(&grey, COARSE);
        let (background, contrast) = self.segmenter.background();
        let solid = Plane {
            size: self.small.size,
            values: self.segmenter.solid(),
        };
        self.frames.push(Frame {
            scene: Size::new(height, width),
            grey,
            coarse,
            solid,
            unit,
            parts,
            cut,
            background,
            contrast,
        });
        shows_something
    }

    /// Decides. `pixels`: of the part's tensor, about; `frame`: the longer side of the frames, beyond which no scene goes.
    ///
    /// With [`Demand::Part`] a [`Verdict::None`] says why there can be no other.
    pub fn finish(mut self, demand: Demand, pixels: usize, frame: usize) -> Verdict {
        let count = self.frames.len();
        if demand == Demand::None {
            return Verdict::None("as asked for".into());
        }
        if count < FEWEST {
            return Verdict::None(format!("{count} images are too few to know a part by"));
        }
        let mut areas: Vec<f32> = self
            .frames
            .iter()
            .filter_map(|frame| Some(frame.parts.first()?.1))
            .collect();
        if (areas.len() as f32) < SHARE * count as f32 {
            return Verdict::None(format!(
                "{} of {count} images show something whole on a background; the others show a surface, or a part that their edge cuts",
                areas.len()
            ));
        }
        let area = median(&mut areas);
        let mut off: Vec<f32> = areas.iter().map(|own| (own / area - 1.0).abs()).collect();
        let varies = median(&mut off);
        if varies > SAME_AREA {
            return Verdict::None(format!(
                "what lies on the background differs in size, by {:.0} % in the middle",
                100.0 * varies
            ));
        }
        let of_scene = area
            / median(
                &mut self
                    .frames
                    .iter()
                    .map(|frame| frame.scene.area() as f32)
                    .collect::<Vec<_>>(),
            );
        if !(AREA.0..AREA.1).contains(&of_scene) {
            return Verdict::None(format!(
                "what stands out takes {:.1} % of the picture",
                100.0 * of_scene
            ));
        }
        for frame in &mut self.frames {
            frame
                .parts
                .retain(|(_, own, _)| (0.7..1.4).contains(&(own / area)));
        }
        self.frames.retain(|frame| !frame.parts.is_empty());
        let pattern = |frame: &&Frame| frame.parts.len() + frame.cut >= MANY && frame.cut > 1;
        let patterns = self.frames.iter().filter(pattern).count();
        if demand == Demand::Auto && 2 * patterns > count {
            return Verdict::None("they show a pattern that goes on beyond their edges".into());
        }
        let counts: Vec<usize> = self.frames.iter().map(|frame| frame.parts.len()).collect();
        let same = counts.iter().all(|count| *count == counts[0]);
        let of_parts = |value: fn(&Shown) -> f32| {
            let values = self.frames.iter().flat_map(|frame| &frame.parts).map(value);
            median(&mut values.collect::<Vec<_>>())
        };
        let (along, across) = (|part: &Shown| part.0.length, |part: &Shown| part.0.width);
        let longer = |part: &Shown| part.0.length.max(part.0.width);
        let long = of_parts(|part| part.2) > LONG;
        let (mut length, mut width) = (of_parts(along), of_parts(across));
        if !long {
            // Its axes mean nothing: a round part lies in a square, a square one at any angle in the circle around it.
            length = of_parts(longer);
            width = length;
        }
        let (tensor, scale) = tensor_of(length, width, pixels);
        let turns = if long { 2 } else { TURNS };
        let Some((template, poses, likeness)) = self.learn_template(tensor, scale, turns) else {
            return Verdict::None("its parts have no picture in common".into());
        };
        let mut ranked = likeness.clone();
        let (middle, low) = (median(&mut ranked), quantile(&mut ranked, 0.05));
        if middle < LIKENESS {
            return Verdict::None(format!(
                "what lies on the background is not alike (correlation {middle:.2} with its mean picture)"
            ));
        }
        let moves = self.moves(&poses, long);
        if demand == Demand::Auto && !moves.any() {
            return Verdict::None(format!(
                "the part lies at the same place in all images, within {:.1} % of the picture and {:.0} degrees",
                100.0 * moves.share,
                moves.degrees
            ));
        }
        let finest = frame.max(SCENES.0).min(SCENES.1);
        let learnt = median(&mut self.frames.iter().map(Frame::longest).collect::<Vec<_>>());
        let scene = ((FINER * scale * learnt).round() as usize).clamp(SCENES.0, finest);
        let factor = scene as f32 / learnt;
        let of_channel = |channel: usize| {
            median(
                &mut self
                    .frames
                    .iter()
                    .map(|frame| frame.background[channel])
                    .collect::<Vec<_>>(),
            )
        };
        let background = [0, 1, 2].map(of_channel);
        let off = self.frames.iter().map(|frame| {
            let off = frame.background.iter().zip(background);
            off.map(|(own, level)| (own - level).abs())
                .fold(0.0, f32::max)
        });
        let mut off: Vec<f32> = off.collect();
        let contrast = median(
            &mut self
                .frames
                .iter()
                .map(|frame| frame.contrast)
                .collect::<Vec<_>>(),
        );
        let model = PartModel {
            scene,
            scale: scale / factor,
            length: length * factor,
            width: width * factor,
            area: area * factor * factor,
            background,
            contrast,
            background_off: quantile(&mut off, 0.95).clamp(0.0, 255.0),
            turns,
            // Far below what good parts reach: a defect changes the picture, and is to be judged.
            likeness: (low - 3.0 * (middle - low)).clamp(0.0, 0.5 * middle),
            count: same.then(|| counts[0]),
        };
        let many = match model.count {
            Some(1) => "one part".into(),
            Some(count) => format!("{count} parts"),
            None => "one part or more".to_owned(),
        };
        let angles = match (moves.degrees > 60.0, long) {
            (_, false) => "round or square".into(),
            (true, true) => "any angle".into(),
            (false, true) => format!("angles within {:.0} degrees", moves.degrees),
        };
        let sizes: Vec<f32> = self
            .frames
            .iter()
            .flat_map(|frame| &frame.parts)
            .map(|part| (part.1 / area).sqrt())
            .collect();
        let size = quantile(
            &mut sizes
                .iter()
                .map(|size| (size - 1.0).abs())
                .collect::<Vec<_>>(),
            0.95,
        );
        let said = format!(
            "{} of {count} images: {many}, {angles}, ±{:.0} % size, at places that differ by {:.0} % of the picture",
            self.frames.len(),
            (100.0 * size).ceil(),
            100.0 * moves.share,
        );
        Verdict::Part(Box::new(Learnt {
            model,
            tensor,
            template: quantised(&template, tensor),
            mask: self.silhouette(&poses, tensor, scale),
            said,
        }))
    }

    /// The mean picture (of mean 0 and deviation 1) of the largest part of each frame, their poses, and how like it each is.
    fn learn_template(
        &self,
        tensor: Size,
        scale: f32,
        turns: usize,
    ) -> Option<(Vec<f32>, Vec<Pose>, Vec<f32>)> {
        let size = template_size(tensor);
        let look = |frame: &Frame, pose: &Pose| {
            let mut view = Vec::new();
            sample(
                &frame.grey,
                pose,
                scale,
                TEMPLATE_REDUCTION,
                size,
                &mut view,
            );
            standardise(&mut view);
            view
        };
        let first = self.frames.first()?;
        let mut mean = look(first, &first.parts[0].0);
        let (mut poses, mut likeness) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let picture = Array2::from_shape_vec((size.height, size.width), mean.clone()).ok()?;
            // Deviations of one would count as no picture at all.
            let template = Template::new((picture * 64.0).view());
            let settled = self.frames.par_iter().map(|frame| {
                let pictures = (&frame.grey, &frame.coarse);
                let mut refiner = Refiner::new(&template);
                let (pose, like) =
                    refiner.settle(&template, pictures, frame.parts[0].0, scale, turns);
                (pose, like, look(frame, &pose))
            });
            let settled: Vec<_> = settled.collect();
            mean.fill(0.0);
            for (_, _, view) in &settled {
                mean.iter_mut()
                    .zip(view)
                    .for_each(|(mean, value)| *mean += value / settled.len() as f32);
            }
            (poses, likeness) = settled
                .into_iter()
                .map(|(pose, like, _)| (pose, like))
                .unzip();
        }
        Some((mean, poses, likeness))
    }

    /// Where in the tensor any good part is, and a little farther.
    fn silhouette(&self, poses: &[Pose], tensor: Size, scale: f32) -> Array2<bool> {
        let Size { height, width } = tensor;
        let mut covered = Array2::from_elem((height / STEP, width / STEP), 0.0f32);
        for (frame, pose) in self.frames.iter().zip(poses) {
            for ((row, column), covered) in covered.indexed_iter_mut() {
                let middle = |index: usize, side: usize| {
                    ((index * STEP + STEP / 2) as f32 - side as f32 / 2.0) / scale
                };
                let (x, y) = pose.place(middle(column, width), middle(row, height));
                let solid = frame.solid.at(x / frame.unit - 0.5, y / frame.unit - 0.5);
                *covered += solid / self.frames.len() as f32;
            }
        }
        let reach = AROUND / STEP as isize;
        Array2::from_shape_fn((height, width), |(y, x)| {
            let near =
                (-reach..=reach).flat_map(|down| (-reach..=reach).map(move |right| (down, right)));
            let mut near = near.filter_map(|(down, right)| {
                let row = (y / STEP).checked_add_signed(down)?;
                covered.get((row, (x / STEP).checked_add_signed(right)?))
            });
            near.any(|covered| *covered > SELDOM)
        })
    }

    /// By how much places and angles differ.
    fn moves(&self, poses: &[Pose], long: bool) -> Moves {
        let places: Vec<(f32, f32)> = self
            .frames
            .iter()
            .zip(poses)
            .map(|(frame, pose)| (pose.x / frame.longest(), pose.y / frame.longest()))
            .collect();
        let middle_x = median(&mut places.iter().map(|place| place.0).collect::<Vec<_>>());
        let middle_y = median(&mut places.iter().map(|place| place.1).collect::<Vec<_>>());
        let mut off: Vec<f32> = places
            .iter()
            .map(|(x, y)| (x - middle_x).hypot(y - middle_y))
            .collect();
        let share = quantile(&mut off, 0.9);
        // Of a long part: its axis is known. Angles that differ by a half turn do differ.
        let (sin, cos) = poses.iter().fold((0.0, 0.0), |sum, pose| {
            (sum.0 + pose.angle.sin(), sum.1 + pose.angle.cos())
        });
        let mean = sin.atan2(cos);
        let mut turned: Vec<f32> = poses
            .iter()
            .map(|pose| {
                let off = (pose.angle - mean).rem_euclid(std::f32::consts::TAU);
                off.min(std::f32::consts::TAU - off).to_degrees()
            })
            .collect();
        let degrees = if long {
            quantile(&mut turned, 0.9)
        } else {
            0.0
        };
        Moves { share, degrees }
    }
}

struct Moves {
    /// Of the picture's longer side.
    share: f32,
    degrees: f32,
}

impl Moves {
    fn any(&self) -> bool {
        self.share > STILL || self.degrees > STILL_ANGLE
    }
}

/// The size of the template of a part's tensor.
pub fn template_size(tensor: Size) -> Size {
    tensor.map(|side| side / TEMPLATE_REDUCTION)
}

/// The tensor, sides multiples of 32 and about as many pixels, that shows a part of this size largest; and how large.
fn tensor_of(length: f32, width: f32, pixels: usize) -> (Size, f32) {
    let most = pixels + pixels / 40;
    let (mut best, mut scale) = (Size::square(32), 0.0f32);
    for across in 1..=64 {
        for along in 1..=64 {
            let size = Size::new(32 * across, 32 * along);
            if size.area() > most {
                continue;
            }
            let fits =
                (size.width as f32 / (MARGIN * length)).min(size.height as f32 / (MARGIN * width));
            if fits > scale + 1e-6 {
                (best, scale) = (size, fits);
            }
        }
    }
    (best, scale)
}

/// As bytes that span the picture's values.
fn quantised(picture: &[f32], tensor: Size) -> Array2<u8> {
    let (low, high) = picture
        .iter()
        .fold((f32::MAX, f32::MIN), |(low, high), value| {
            (low.min(*value), high.max(*value))
        });
    let factor = 255.0 / (high - low).max(1e-6);
    let size = template_size(tensor);
    Array2::from_shape_fn((size.height, size.width), |(y, x)| {
        ((picture[y * size.width + x] - low) * factor).round() as u8
    })
}

fn median(values: &mut [f32]) -> f32 {
    quantile(values, 0.5)
}

/// 0 of none.
fn quantile(values: &mut [f32], share: f32) -> f32 {
    if values.is_empty() {
        return 0.0;
    }
    let rank = (share * (values.len() - 1) as f32).round() as usize;
    *values.select_nth_unstable_by(rank, f32::total_cmp).1
}
