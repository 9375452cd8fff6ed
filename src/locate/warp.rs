//! A part of the scene upright.

use super::pose::Pose;
use ndarray::{ArrayView3, ArrayViewMut3};

/// Fills `out` (channels x height x width) with the scene around `pose`, whose longer axis becomes the rows': `scale` pixels for one of the
/// scene, bilinear. The scene has about the scale of `out`, so that nothing aliases. Beyond the scene its edge goes on.
pub fn upright(
    scene: ArrayView3<'_, f32>,
    pose: &Pose,
    scale: f32,
    mut out: ArrayViewMut3<'_, f32>,
) {
    let (channels, height, width) = out.dim();
    let (of_scene, rows, columns) = scene.dim();
    let (Some(source), Some(out)) = (scene.as_slice(), out.as_slice_mut()) else {
        return;
    };
    if channels != 3 || of_scene != 3 || rows == 0 || columns == 0 {
        return;
    }
    sample(source, (rows, columns), pose, scale, out, (height, width));
}

#[multiversion::multiversion(targets("x86_64+avx512f", "x86_64+avx2+fma"))]
fn sample(
    source: &[f32],
    (rows, columns): (usize, usize),
    pose: &Pose,
    scale: f32,
    out: &mut [f32],
    (height, width): (usize, usize),
) {
    let (sin, cos) = pose.angle.sin_cos();
    let (step_x, step_y) = (cos / scale, sin / scale);
    let (right, bottom) = ((columns - 1) as f32, (rows - 1) as f32);
    let area = rows * columns;
    let (red, rest) = out.split_at_mut(height * width);
    let (green, blue) = rest.split_at_mut(height * width);
    for v in 0..height {
        // From the middle of the tensor on, and from the middle of the scene's first pixel on.
        let across = v as f32 + 0.5 - height as f32 / 2.0;
        let along = 0.5 - width as f32 / 2.0;
        let x = pose.x - 0.5 + along * step_x - across * step_y;
        let y = pose.y - 0.5 + along * step_y + across * step_x;
        let line = v * width..(v + 1) * width;
        let pixels = red[line.clone()]
            .iter_mut()
            .zip(&mut green[line.clone()])
            .zip(&mut blue[line]);
        for (u, ((red, green), blue)) in pixels.enumerate() {
            let x = (x + u as f32 * step_x).clamp(0.0, right);
            let y = (y + u as f32 * step_y).clamp(0.0, bottom);
            let (left, top) = (x as usize, y as usize);
            let (fx, fy) = (x - left as f32, y - top as f32);
            let next = usize::from(left + 1 < columns);
            let below = if top + 1 < rows { columns } else { 0 };
            let at = top * columns + left;
            let weights = [
                (1.0 - fx) * (1.0 - fy),
                fx * (1.0 - fy),
                (1.0 - fx) * fy,
                fx * fy,
            ];
            let places = [at, at + next, at + below, at + below + next];
            for (channel, value) in [red, green, blue].into_iter().enumerate() {
                let plane = &source[channel * area..][..area];
                *value = weights[0] * plane[places[0]]
                    + weights[1] * plane[places[1]]
                    + weights[2] * plane[places[2]]
                    + weights[3] * plane[places[3]];
            }
        }
    }
}
