//! A frame whose parts are located first: each upright and judged by itself, and one map of the frame made of theirs.

use super::error::{InferenceError, ModelError};
use super::inspector::Inspector;
use super::model_file::{Metadata, ModelFile};
use super::regions::{Region, Regions};
use super::taps::Normalization;
use crate::geometry::Size;
use crate::locate::{Doubt, Levels, Locator, Pose, State, template_size};
use ndarray::{Array2, Array3, ArrayView2, ArrayView3};

/// Pixels of a part's tensor for one of the frame's map.
const MAP_REDUCTION: f32 = 2.0;

/// What became of a part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Verdict {
    /// It was judged, with this score.
    Judged(f32),
    /// The frame's edge cuts it: it is not judged.
    Cut,
    /// It cannot be told from its neighbours, or is too unlike a good part for its pose to be known: it is not judged.
    NotLocated,
}

/// A part in the frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Part {
    /// In 0..1 of the scene, but for the angle, which is that in the picture, in radians: middle, length, width.
    pub x: f32,
    pub y: f32,
    /// Of the upright box around it, in 0..1 of the scene.
    pub width: f32,
    pub height: f32,
    pub angle: f32,
    /// Along its longer axis and across it, in 0..1 of the scene's longer side.
    pub length: f32,
    pub breadth: f32,
    pub verdict: Verdict,
}

impl Part {
    fn new(pose: &Pose, scene: Size, verdict: Verdict) -> Self {
        let (width, height) = (scene.width as f32, scene.height as f32);
        let [_, _, box_width, box_height] = pose.bounds();
        let longest = width.max(height);
        Self {
            x: pose.x / width,
            y: pose.y / height,
            width: box_width / width,
            height: box_height / height,
            angle: pose.angle,
            length: pose.length / longest,
            breadth: pose.width / longest,
            verdict,
        }
    }

    /// The angle in degrees, above -180 and up to 180.
    pub fn degrees(&self) -> f32 {
        let degrees = self.angle.to_degrees().rem_euclid(360.0);
        if degrees > 180.0 {
            degrees - 360.0
        } else {
            degrees
        }
    }

    /// Its score, where it was judged.
    pub fn score(&self) -> Option<f32> {
        match self.verdict {
            Verdict::Judged(score) => Some(score),
            Verdict::Cut | Verdict::NotLocated => None,
        }
    }
}

/// Grey levels, 0 to 255, of tensors that were normalised like this.
pub fn levels(Normalization { mean, std }: Normalization) -> Levels {
    Levels {
        gain: std.map(|std| 255.0 * std),
        bias: mean.map(|mean| 255.0 * mean),
    }
}

/// Finds parts and joins what was found of each.
pub struct PartFinder {
    locator: Locator,
    tensor: Array3<f32>,
    parts: Vec<Part>,
    map: Array2<f32>,
    regions: Regions,
}

impl PartFinder {
    /// What a model needs that locates its parts; `None` for one that does not.
    ///
    /// # Errors
    /// A template of another size than the tensor's.
    pub fn new(model: &ModelFile) -> Result<Option<Self>, ModelError> {
        let Metadata {
            part,
            input_size,
            normalization,
            ..
        } = &model.metadata;
        let Some(part) = part else {
            return Ok(None);
        };
        let template = model.template.as_ref();
        let template =
            template.filter(|template| Size::from(template.dim()) == template_size(*input_size));
        let template = template.ok_or(ModelError::Value(
            "its parts' mean picture is missing, or of another size than the tensor asks for",
        ))?;
        let Size { height, width } = *input_size;
        Ok(Some(Self {
            locator: Locator::new(*part, levels(*normalization), template.view()),
            tensor: Array3::zeros((3, height, width)),
            parts: Vec::with_capacity(crate::locate::MOST_PARTS),
            map: Array2::zeros((0, 0)),
            regions: Regions::default(),
        }))
    }

    /// Judges every part of the scene (3 x height x width) that can be. Returns the highest score; 0 where there is none.
    ///
    /// # Errors
    /// As [`Inspector::inspect`].
    pub fn inspect(
        &mut self,
        scene: ArrayView3<'_, f32>,
        inspector: &mut Inspector,
    ) -> Result<f32, InferenceError> {
        let scene_size = self.begin(scene);
        let scale = self.locator.model().scale;
        let mut highest = 0.0f32;
        for index in 0..self.locator.found().len() {
            let found = self.locator.found()[index];
            let verdict = match found.state {
                State::Cut => Verdict::Cut,
                State::Touching | State::Unlike => Verdict::NotLocated,
                State::Located => {
                    let (locator, tensor) = (&self.locator, &mut self.tensor);
                    locator.upright(scene, &found, tensor.view_mut());
                    let score = inspector.inspect(self.tensor.view())?;
                    highest = highest.max(score);
                    let map = inspector.scorer.map().values();
                    lay_back(&mut self.map, scene_size, map, &found.pose, scale, score);
                    Verdict::Judged(score)
                }
            };
            self.parts.push(Part::new(&found.pose, scene_size, verdict));
        }
        Ok(highest)
    }

    /// Lays the map of a part that was scored elsewhere onto its scene, where the first part that can be judged lies, with its score as the
    /// maximum.
    #[cfg(feature = "cli")]
    pub fn lay(
        &mut self,
        scene: ArrayView3<'_, f32>,
        map: ArrayView2<'_, f32>,
        score: f32,
    ) -> ArrayView2<'_, f32> {
        let size = self.begin(scene);
        let mut found = self.locator.found().iter();
        if let Some(found) = found.find(|found| found.state == State::Located) {
            let scale = self.locator.model().scale;
            lay_back(&mut self.map, size, map, &found.pose, scale, score);
        }
        self.map.view()
    }

    /// Locates the parts of a scene, of which this is the size; nothing lies on its map yet.
    fn begin(&mut self, scene: ArrayView3<'_, f32>) -> Size {
        let (_, height, width) = scene.dim();
        let size = Size::new(height, width);
        // As fine as the parts' own maps.
        let fine = self.locator.model().scale / MAP_REDUCTION;
        let of_map = size.map(|side| ((side as f32 * fine).round() as usize).clamp(1, side));
        if Size::from(self.map.dim()) != of_map {
            self.map = Array2::zeros((of_map.height, of_map.width));
            self.regions = Regions::new(of_map, of_map.area() / 64);
        }
        self.map.fill(0.0);
        self.parts.clear();
        self.locator.locate(scene);
        size
    }

    /// Why the last scene may show parts that were not found.
    pub fn doubt(&self) -> Option<Doubt> {
        self.locator.doubt()
    }

    /// What the last inspection found, those that were judged and those that were not.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The map of the last scene, height x width: of each part what its own map says, and 0 around them. Its maximum is the score.
    pub fn map(&self) -> ArrayView2<'_, f32> {
        self.map.view()
    }

    pub fn regions(&mut self, threshold: f32) -> &[Region] {
        self.regions.find(self.map.view(), threshold)
    }
}

/// Lays a part's map (of its tensor's shape) onto the scene's where the part lies, scaled so that its maximum there is `score`.
fn lay_back(
    onto: &mut Array2<f32>,
    scene: Size,
    map: ArrayView2<'_, f32>,
    pose: &Pose,
    scale: f32,
    score: f32,
) {
    let (rows, columns) = onto.dim();
    let (height, width) = map.dim();
    // Pixels of the scene for one of the map that is laid onto, and of the part's map for one of the scene.
    let unit = (
        scene.width as f32 / columns as f32,
        scene.height as f32 / rows as f32,
    );
    let fine = scale / MAP_REDUCTION;
    let box_of_map = Pose {
        length: width as f32 / fine,
        width: height as f32 / fine,
        ..*pose
    };
    let [left, top, across, down] = box_of_map.bounds();
    let cells = |from: f32, length: f32, unit: f32, limit: usize| {
        let first = (from / unit).floor().max(0.0) as usize;
        let last = ((from + length) / unit).ceil().max(0.0) as usize;
        first.min(limit)..last.min(limit)
    };
    let (across, down) = (
        cells(left, across, unit.0, columns),
        cells(top, down, unit.1, rows),
    );
    let at = |row: usize, column: usize| {
        let x = (column as f32 + 0.5) * unit.0;
        let y = (row as f32 + 0.5) * unit.1;
        let (along, across) = pose.own(x, y);
        let u = along * fine + width as f32 / 2.0 - 0.5;
        let v = across * fine + height as f32 / 2.0 - 0.5;
        let inside = u > -0.5 && v > -0.5 && u < width as f32 - 0.5 && v < height as f32 - 0.5;
        inside.then(|| between(map, u, v))
    };
    let mut highest: Option<(f32, usize, usize)> = None;
    for row in down.clone() {
        for column in across.clone() {
            if let Some(value) = at(row, column)
                && highest.is_none_or(|(highest, ..)| value > highest)
            {
                highest = Some((value, row, column));
            }
        }
    }
    let Some((highest, highest_row, highest_column)) = highest.filter(|(value, ..)| *value > 0.0)
    else {
        return;
    };
    let factor = score / highest;
    for row in down {
        for column in across.clone() {
            if let Some(value) = at(row, column) {
                let cell = &mut onto[[row, column]];
                *cell = cell.max((value * factor).min(score));
            }
        }
    }
    let cell = &mut onto[[highest_row, highest_column]];
    *cell = cell.max(score);
}

/// The value between cells, whose middles are at whole numbers.
fn between(map: ArrayView2<'_, f32>, u: f32, v: f32) -> f32 {
    let (height, width) = map.dim();
    let (u, v) = (
        u.clamp(0.0, (width - 1) as f32),
        v.clamp(0.0, (height - 1) as f32),
    );
    let (left, top) = (u as usize, v as usize);
    let (right, bottom) = ((left + 1).min(width - 1), (top + 1).min(height - 1));
    let (fu, fv) = (u - left as f32, v - top as f32);
    let above = map[[top, left]] + fu * (map[[top, right]] - map[[top, left]]);
    let below = map[[bottom, left]] + fu * (map[[bottom, right]] - map[[bottom, left]]);
    above + fv * (below - above)
}
