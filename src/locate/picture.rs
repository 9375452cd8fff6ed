//! Pictures of a scene at the sizes that locating needs, in grey levels of 0 to 255.

use super::Levels;
use crate::geometry::Size;
use ndarray::ArrayView3;

/// The longer side of the picture in which parts are told from their background, in pixels.
const SMALL: usize = 256;

/// A grey picture.
#[derive(Debug, Clone, Default)]
pub struct Plane {
    pub size: Size,
    /// Height x width.
    pub values: Vec<f32>,
}

impl Plane {
    /// The scene at half its size, its channels' mean.
    pub fn half_of_scene(&mut self, scene: ArrayView3<'_, f32>, levels: Levels) {
        let (_, height, width) = scene.dim();
        self.size = Size::new((height / 2).max(1), (width / 2).max(1));
        self.values.clear();
        self.values.resize(self.size.area(), 0.0);
        let weight = levels.gain.map(|gain| gain / 12.0);
        let bias = levels.bias.iter().sum::<f32>() / 3.0;
        let pixels = scene.as_slice().unwrap_or_default();
        if pixels.len() < 3 * height * width || height < 2 || width < 2 {
            return;
        }
        for (y, row) in self.values.chunks_exact_mut(self.size.width).enumerate() {
            row.fill(bias);
            for (channel, weight) in weight.iter().enumerate() {
                let above = &pixels[(channel * height + 2 * y) * width..][..width];
                let below = &pixels[(channel * height + 2 * y + 1) * width..][..width];
                let (above, below) = (above.as_chunks::<2>().0, below.as_chunks::<2>().0);
                for ((value, a), b) in row.iter_mut().zip(above).zip(below) {
                    *value += weight * (a[0] + a[1] + b[0] + b[1]);
                }
            }
        }
    }

    /// The means of squares of `factor` pixels' side.
    pub fn reduced(&mut self, of: &Plane, factor: usize) {
        self.size = of.size.map(|side| (side / factor).max(1));
        self.values.clear();
        self.values.resize(self.size.area(), 0.0);
        let (factor_y, factor_x) = (factor.min(of.size.height), factor.min(of.size.width));
        let share = 1.0 / (factor_y * factor_x) as f32;
        for (y, row) in self.values.chunks_exact_mut(self.size.width).enumerate() {
            for source in 0..factor_y {
                let source = &of.values[(y * factor_y + source) * of.size.width..];
                for (value, group) in row.iter_mut().zip(source.chunks_exact(factor_x)) {
                    *value += share * group.iter().sum::<f32>();
                }
            }
        }
    }

    /// The value between pixels; places are from the middle of the first pixel on, and those outside are taken to the edge.
    #[inline]
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (right, bottom) = ((self.size.width - 1) as f32, (self.size.height - 1) as f32);
        let (x, y) = (x.clamp(0.0, right), y.clamp(0.0, bottom));
        let (left, top) = (x as usize, y as usize);
        let (fx, fy) = (x - left as f32, y - top as f32);
        let next = usize::from(left + 1 < self.size.width);
        let below = if top + 1 < self.size.height {
            self.size.width
        } else {
            0
        };
        let at = top * self.size.width + left;
        let a = self.values[at] + fx * (self.values[at + next] - self.values[at]);
        let b = self.values[at + below]
            + fx * (self.values[at + below + next] - self.values[at + below]);
        a + fy * (b - a)
    }
}

/// The scene's three channels in a picture of at most [`SMALL`] pixels' side.
#[derive(Debug, Clone, Default)]
pub struct Small {
    pub size: Size,
    /// One after the other, each height x width.
    pub channels: [Vec<f32>; 3],
    /// Pixels of the scene for one of this.
    unit: f32,
    /// A row's sums.
    row: Vec<f32>,
}

impl Small {
    pub fn of_scene(&mut self, scene: ArrayView3<'_, f32>, levels: Levels) {
        let (_, height, width) = scene.dim();
        let longest = height.max(width);
        let side = longest.min(SMALL);
        self.unit = longest as f32 / side as f32;
        self.size = Size::new(
            ((height as f32 / self.unit) as usize).max(1),
            ((width as f32 / self.unit) as usize).max(1),
        );
        let pixels = scene.as_slice().unwrap_or_default();
        let unit = self.unit;
        let range = |index: usize, limit: usize| {
            let start = (index as f32 * unit).round() as usize;
            let end = ((index + 1) as f32 * unit).round() as usize;
            start.min(limit - 1)..end.clamp(start.min(limit - 1) + 1, limit)
        };
        for (channel, values) in self.channels.iter_mut().enumerate() {
            values.clear();
            values.resize(self.size.area(), 0.0);
            let plane = &pixels[channel * height * width..][..height * width];
            let (gain, bias) = (levels.gain[channel], levels.bias[channel]);
            for (y, out) in values.chunks_exact_mut(self.size.width).enumerate() {
                let rows = range(y, height);
                self.row.clear();
                self.row.resize(width, 0.0);
                for source in rows.clone() {
                    let source = &plane[source * width..][..width];
                    for (sum, value) in self.row.iter_mut().zip(source) {
                        *sum += value;
                    }
                }
                for (x, out) in out.iter_mut().enumerate() {
                    let columns = range(x, width);
                    let count = (rows.len() * columns.len()) as f32;
                    *out = gain * self.row[columns].iter().sum::<f32>() / count + bias;
                }
            }
        }
    }

    /// Pixels of the scene for one of this.
    pub fn unit(&self) -> f32 {
        self.unit
    }
}
