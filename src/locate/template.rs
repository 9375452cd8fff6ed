//! The mean picture of good parts: which of the poses that an outline leaves open is the part's, and where exactly it lies.
//!
//! Alignment is the inverse compositional one (Baker and Matthews 2004) of pictures brought to mean 0 and deviation 1, so that light does not
//! matter (as in Evangelidis and Psarakis 2008).

use super::picture::Plane;
use super::pose::Pose;
use crate::geometry::Size;
use ndarray::ArrayView2;
use std::f32::consts::TAU;

/// Pixels of the part's tensor for one of the template.
pub const TEMPLATE_REDUCTION: usize = 2;
/// Pixels of the template for one of the coarse one.
pub const COARSE: usize = 4;
/// Steps of the alignment, at most, and the one after which it has ended, in pixels.
const STEPS: usize = 10;
const SMALLEST_STEP: f32 = 0.02;
/// What an alignment may change: a share of the template's shorter side, and radians. Farther off, it has gone astray.
const FARTHEST: f32 = 0.12;
const WIDEST: f32 = 0.3;
/// Of many angles, so many are looked at in the fine picture.
const CANDIDATES: usize = 3;

/// One resolution of the mean picture, with what aligning to it needs.
#[derive(Debug, Clone)]
struct Level {
    size: Size,
    /// Pixels of the tensor for one.
    reduction: usize,
    /// Mean 0, deviation 1.
    values: Vec<f32>,
    /// By how much each value changes with a pixel to the right, one down, and a turn that moves the outer pixels by about one.
    slopes: Vec<[f32; 3]>,
    /// The inverse of the sum of the slopes' products.
    inverse: [[f32; 3]; 3],
    radius: f32,
}

/// The mean picture of a part that lies upright.
#[derive(Debug, Clone)]
pub struct Template {
    fine: Level,
    coarse: Level,
}

impl Template {
    /// Of grey levels, whatever their scale.
    pub fn new(picture: ArrayView2<'_, f32>) -> Self {
        let (height, width) = picture.dim();
        let fine = Plane {
            size: Size::new(height, width),
            values: picture.iter().copied().collect(),
        };
        let mut coarse = Plane::default();
        coarse.reduced(&fine, COARSE);
        Self {
            fine: Level::new(fine, TEMPLATE_REDUCTION),
            coarse: Level::new(coarse, TEMPLATE_REDUCTION * COARSE),
        }
    }

    /// In its own pixels.
    pub fn size(&self) -> Size {
        self.fine.size
    }
}

impl Level {
    fn new(mut picture: Plane, reduction: usize) -> Self {
        standardise(&mut picture.values);
        let Size { height, width } = picture.size;
        let at = |x: usize, y: usize| picture.values[y.min(height - 1) * width + x.min(width - 1)];
        let radius = (height.min(width) as f32 / 2.0).max(1.0);
        let mut slopes = Vec::with_capacity(height * width);
        for y in 0..height {
            for x in 0..width {
                let right = (at(x + 1, y) - at(x.saturating_sub(1), y)) / 2.0;
                let down = (at(x, y + 1) - at(x, y.saturating_sub(1))) / 2.0;
                let across = x as f32 + 0.5 - width as f32 / 2.0;
                let below = y as f32 + 0.5 - height as f32 / 2.0;
                slopes.push([right, down, (across * down - below * right) / radius]);
            }
        }
        let mut products = [[0.0f64; 3]; 3];
        for slope in &slopes {
            for (products, a) in products.iter_mut().zip(slope) {
                for (product, b) in products.iter_mut().zip(slope) {
                    *product += f64::from(a * b);
                }
            }
        }
        // What a picture does not tell, such as the angle of a round part, stays as it is.
        let largest = products[0][0].max(products[1][1]).max(products[2][2]);
        for (index, row) in products.iter_mut().enumerate() {
            row[index] += 0.01 * largest + 1e-6;
        }
        Self {
            size: picture.size,
            reduction,
            values: picture.values,
            slopes,
            inverse: inverse(products),
            radius,
        }
    }

    /// Samples the picture around a pose into `view`, as this level sees it, and returns the correlation with it.
    fn view(&self, picture: &Plane, pose: &Pose, scale: f32, view: &mut Vec<f32>) -> f32 {
        sample(picture, pose, scale, self.reduction, self.size, view);
        standardise(view);
        let sum: f32 = view.iter().zip(&self.values).map(|(a, b)| a * b).sum();
        sum / view.len().max(1) as f32
    }

    /// Moves and turns the pose until the picture around it fits; the pose as it was where that leads astray.
    fn align(&self, picture: &Plane, start: Pose, scale: f32, view: &mut Vec<f32>) -> (Pose, f32) {
        let unit = self.reduction as f32 / scale;
        let mut pose = start;
        let before = self.view(picture, &pose, scale, view);
        let (mut best, mut likeness) = (pose, before);
        for _ in 0..STEPS {
            let mut sums = [0.0f32; 3];
            for ((value, own), slope) in view.iter().zip(&self.values).zip(&self.slopes) {
                let off = value - own;
                sums.iter_mut()
                    .zip(slope)
                    .for_each(|(sum, slope)| *sum += off * slope);
            }
            let step = self
                .inverse
                .map(|row| row.iter().zip(sums).map(|(a, b)| a * b).sum::<f32>());
            let turn = step[2] / self.radius;
            // The inverse of the step, in the part's own axes.
            let (sin, cos) = turn.sin_cos();
            let (dx, dy) = (
                -(cos * step[0] + sin * step[1]),
                -(-sin * step[0] + cos * step[1]),
            );
            let (x, y) = pose.place(dx * unit, dy * unit);
            pose = Pose {
                x,
                y,
                angle: pose.angle - turn,
                ..pose
            };
            let now = self.view(picture, &pose, scale, view);
            if now > likeness {
                (best, likeness) = (pose, now);
            }
            if step.iter().all(|step| step.abs() < SMALLEST_STEP) {
                break;
            }
        }
        let farthest = FARTHEST * self.size.height.min(self.size.width) as f32 * unit;
        let (dx, dy) = (best.x - start.x, best.y - start.y);
        let astray = dx.hypot(dy) > farthest || (best.angle - start.angle).abs() > WIDEST;
        match astray {
            true => (start, before),
            false => (best, likeness),
        }
    }
}

/// Samples a picture of a `reduction`th of the scene around a pose, into height x width of `size`, of a `reduction`th of the tensor.
pub fn sample(
    picture: &Plane,
    pose: &Pose,
    scale: f32,
    reduction: usize,
    size: Size,
    view: &mut Vec<f32>,
) {
    let Size { height, width } = size;
    let (sin, cos) = pose.angle.sin_cos();
    // In pixels of the picture for one of the view.
    let (step_x, step_y) = (cos / scale, sin / scale);
    let middle = (
        pose.x / reduction as f32 - 0.5,
        pose.y / reduction as f32 - 0.5,
    );
    view.clear();
    for v in 0..height {
        let across = v as f32 + 0.5 - height as f32 / 2.0;
        let along = 0.5 - width as f32 / 2.0;
        let x = middle.0 + along * step_x - across * step_y;
        let y = middle.1 + along * step_y + across * step_x;
        view.extend((0..width).map(|u| picture.at(x + u as f32 * step_x, y + u as f32 * step_y)));
    }
}

/// To mean 0 and deviation 1; all 0 where nothing differs.
pub fn standardise(values: &mut [f32]) {
    let count = values.len().max(1) as f32;
    let mean = values.iter().sum::<f32>() / count;
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f32>()
        / count;
    let factor = match variance > 1e-3 {
        true => variance.sqrt().recip(),
        false => 0.0,
    };
    values
        .iter_mut()
        .for_each(|value| *value = (*value - mean) * factor);
}

fn inverse(m: [[f64; 3]; 3]) -> [[f32; 3]; 3] {
    let minor = |r: [usize; 2], c: [usize; 2]| {
        m[r[0]][c[0]] * m[r[1]][c[1]] - m[r[0]][c[1]] * m[r[1]][c[0]]
    };
    const OTHERS: [[usize; 2]; 3] = [[1, 2], [0, 2], [0, 1]];
    let sign = |row: usize, column: usize| {
        if (row + column).is_multiple_of(2) {
            1.0
        } else {
            -1.0
        }
    };
    let determinant: f64 = (0..3)
        .map(|column| m[0][column] * sign(0, column) * minor([1, 2], OTHERS[column]))
        .sum();
    std::array::from_fn(|row| {
        std::array::from_fn(|column| {
            (sign(row, column) * minor(OTHERS[column], OTHERS[row]) / determinant) as f32
        })
    })
}

/// Settles poses; keeps its memory.
#[derive(Debug, Clone)]
pub struct Refiner {
    view: Vec<f32>,
    /// Angle and likeness of those that are tried.
    tried: Vec<(f32, f32)>,
}

impl Refiner {
    pub fn new(template: &Template) -> Self {
        Self {
            view: Vec::with_capacity(template.fine.size.area()),
            tried: Vec::with_capacity(super::MOST_TURNS),
        }
    }

    /// Of `turns` poses, turned evenly about `pose`, the one that is most like the template, aligned to it; and how like it is (correlation).
    /// The pictures are the scene's at the template's two resolutions.
    pub fn settle(
        &mut self,
        template: &Template,
        (grey, coarse): (&Plane, &Plane),
        pose: Pose,
        scale: f32,
        turns: usize,
    ) -> (Pose, f32) {
        self.tried.clear();
        for turn in 0..turns.max(1) {
            let angle = TAU * turn as f32 / turns.max(1) as f32;
            let turned = pose.turned(angle);
            let likeness = match turns > 2 {
                true => template.coarse.view(coarse, &turned, scale, &mut self.view),
                false => 0.0,
            };
            self.tried.push((angle, likeness));
        }
        self.tried.sort_unstable_by(|a, b| b.1.total_cmp(&a.1));
        let mut best = (pose, f32::NEG_INFINITY);
        for index in 0..self.tried.len().min(CANDIDATES) {
            let start = pose.turned(self.tried[index].0);
            let (near, _) = template.coarse.align(coarse, start, scale, &mut self.view);
            let (settled, likeness) = template.fine.align(grey, near, scale, &mut self.view);
            if likeness > best.1 {
                best = (settled, likeness);
            }
        }
        best
    }
}
