//! How a part lies.

/// A part's place: its axes turned by `angle` from the picture's, clockwise as seen (y goes down).
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Pose {
    /// Middle of the box around the part along its own axes, in pixels from the upper left corner on.
    pub x: f32,
    pub y: f32,
    /// Radians.
    pub angle: f32,
    /// Of that box, along the longer axis and across it, in pixels.
    pub length: f32,
    pub width: f32,
}

impl Pose {
    /// The same in a picture whose pixels are `1 / factor` as large.
    pub fn scaled(self, factor: f32) -> Self {
        Self {
            x: self.x * factor,
            y: self.y * factor,
            angle: self.angle,
            length: self.length * factor,
            width: self.width * factor,
        }
    }

    /// The same, turned about its middle.
    pub fn turned(self, by: f32) -> Self {
        Self {
            angle: self.angle + by,
            ..self
        }
    }

    /// Where a place given along the part's own axes, from its middle on, lies in the picture.
    pub fn place(&self, along: f32, across: f32) -> (f32, f32) {
        let (sin, cos) = self.angle.sin_cos();
        (
            self.x + cos * along - sin * across,
            self.y + sin * along + cos * across,
        )
    }

    /// The place along the part's own axes, from its middle on, of one in the picture.
    pub fn own(&self, x: f32, y: f32) -> (f32, f32) {
        let (sin, cos) = self.angle.sin_cos();
        let (dx, dy) = (x - self.x, y - self.y);
        (cos * dx + sin * dy, -sin * dx + cos * dy)
    }

    /// The upright box around the turned one: left, top, width and height, in pixels.
    pub fn bounds(&self) -> [f32; 4] {
        let (sin, cos) = self.angle.sin_cos();
        let width = self.length * cos.abs() + self.width * sin.abs();
        let height = self.length * sin.abs() + self.width * cos.abs();
        [self.x - width / 2.0, self.y - height / 2.0, width, height]
    }
}

/// What of the pixels may lie beyond the box on either side: burrs, single pixels of noise.
const BEYOND: f64 = 0.002;

/// The pose of the pixels `places` (x, y in pixels, at their middles): the longer principal axis, towards the side where they reach farther
/// (third moment), and the box around them. `memory` is to work in.
pub fn of_pixels(places: &[(f32, f32)], memory: &mut Vec<f32>) -> Pose {
    let count = places.len().max(1) as f64;
    let sum = places.iter().fold((0.0f64, 0.0f64), |sum, &(x, y)| {
        (sum.0 + f64::from(x), sum.1 + f64::from(y))
    });
    let (mx, my) = (sum.0 / count, sum.1 / count);
    let (mut xx, mut xy, mut yy) = (0.0f64, 0.0f64, 0.0f64);
    for &(x, y) in places {
        let (dx, dy) = (f64::from(x) - mx, f64::from(y) - my);
        (xx, xy, yy) = (xx + dx * dx, xy + dx * dy, yy + dy * dy);
    }
    let mut angle = 0.5 * (2.0 * xy).atan2(xx - yy);
    let (mut sin, mut cos) = angle.sin_cos();
    let third: f64 = places
        .iter()
        .map(|&(x, y)| ((f64::from(x) - mx) * cos + (f64::from(y) - my) * sin).powi(3))
        .sum();
    if third < 0.0 {
        angle += std::f64::consts::PI;
        (sin, cos) = (-sin, -cos);
    }
    let mut extent = |ux: f64, uy: f64| {
        memory.clear();
        memory.extend(
            places
                .iter()
                .map(|&(x, y)| ((f64::from(x) - mx) * ux + (f64::from(y) - my) * uy) as f32),
        );
        if memory.is_empty() {
            return (0.0, 0.0);
        }
        let rank = (BEYOND * (memory.len() - 1) as f64).round() as usize;
        let last = memory.len() - 1 - rank;
        let low = *memory.select_nth_unstable_by(rank, f32::total_cmp).1;
        let high = *memory.select_nth_unstable_by(last, f32::total_cmp).1;
        // From edge to edge of the pixels.
        (f64::from(low) - 0.5, f64::from(high) + 0.5)
    };
    let (a, b) = extent(cos, sin);
    let (c, d) = extent(-sin, cos);
    let (along, across) = (f64::midpoint(a, b), f64::midpoint(c, d));
    Pose {
        x: (mx + cos * along - sin * across) as f32,
        y: (my + sin * along + cos * across) as f32,
        angle: angle as f32,
        length: (b - a) as f32,
        width: (d - c) as f32,
    }
}

/// By how much more the pixels spread along the longer axis than across it, 1 or more.
pub fn elongation(places: &[(f32, f32)]) -> f32 {
    let count = places.len().max(1) as f64;
    let (mx, my) = places.iter().fold((0.0, 0.0), |sum, &(x, y)| {
        (sum.0 + f64::from(x) / count, sum.1 + f64::from(y) / count)
    });
    let (mut xx, mut xy, mut yy) = (0.0f64, 0.0f64, 0.0f64);
    for &(x, y) in places {
        let (dx, dy) = (f64::from(x) - mx, f64::from(y) - my);
        (xx, xy, yy) = (xx + dx * dx, xy + dx * dy, yy + dy * dy);
    }
    let (mean, spread) = (
        (xx + yy) / 2.0,
        (((xx - yy) / 2.0).powi(2) + xy * xy).sqrt(),
    );
    ((mean + spread) / (mean - spread).max(1e-9)).sqrt() as f32
}
