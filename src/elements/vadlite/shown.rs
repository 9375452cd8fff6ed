//! Whether a frame shows what another one did already: an empty or standing belt.

use crate::video::preprocess::Target;
use std::collections::VecDeque;

/// Samples by which frames are compared, in each direction: means over 2 x 2 pixels of the image tensor, evenly spread. Fine enough
/// that a texture which moves is seen to, coarse enough that a camera's noise is not.
const SAMPLES: usize = 112;
/// Two frames show the same where at most [`DIFFERENT`] samples differ by more than this many 255ths, 2 % of full scale.
const SAME: u8 = 5;
/// One sample in a thousand.
const DIFFERENT: usize = SAMPLES * SAMPLES / 1000;
/// Frames that the next one is compared with.
const REMEMBERED: usize = 1000;
type Thumbnail = [u8; SAMPLES * SAMPLES];

/// What the latest frames showed.
#[derive(Default)]
pub struct Shown(VecDeque<Box<Thumbnail>>);

impl Shown {
    /// Takes an image tensor (3 x height x width of `target`) in if it shows something new, and says whether it does.
    pub fn take(&mut self, tensor: &[f32], target: &Target) -> bool {
        let thumbnail = thumbnail(tensor, target);
        if self.0.iter().any(|known| same(known, &thumbnail)) {
            return false;
        }
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(thumbnail);
        true
    }
}

/// The samples of an image tensor, means over its channels as well, in 255ths of full scale.
fn thumbnail(tensor: &[f32], target: &Target) -> Box<Thumbnail> {
    let (height, width) = target.size;
    let mut samples = Box::new([0; SAMPLES * SAMPLES]);
    for (y, row) in samples.chunks_exact_mut(SAMPLES).enumerate() {
        for (x, sample) in row.iter_mut().enumerate() {
            let first = y * height / SAMPLES * width + x * width / SAMPLES;
            let mut sum = 0.0;
            for (channel, plane) in tensor.chunks_exact(height * width).enumerate() {
                let pixels = [0, 1, width, width + 1];
                let pixels: f32 = pixels.iter().map(|at| plane[first + at]).sum();
                sum += pixels / 4.0 * target.std[channel] + target.mean[channel];
            }
            *sample = (sum / 3.0 * 255.0) as u8;
        }
    }
    samples
}

fn same(a: &Thumbnail, b: &Thumbnail) -> bool {
    let different = a.iter().zip(b).filter(|(a, b)| a.abs_diff(**b) > SAME);
    different.take(DIFFERENT + 1).count() <= DIFFERENT
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 224;
    const TARGET: Target = Target {
        size: (SIDE, SIDE),
        mean: [0.5; 3],
        std: [0.5; 3],
        roi: [0.0, 0.0, 1.0, 1.0],
    };

    /// An image tensor of grey values in 0..1.
    fn tensor(value: impl Fn(usize, usize) -> f32) -> Vec<f32> {
        let plane = (0..SIDE * SIDE).map(|at| 2.0 * value(at / SIDE, at % SIDE) - 1.0);
        let plane: Vec<f32> = plane.collect();
        plane.repeat(3)
    }

    #[test]
    fn noise_is_nothing_new_and_what_moves_is() {
        let mut shown = Shown::default();
        let stripes =
            |shift: usize| move |_, x: usize| if (x + shift) % 16 < 8 { 0.4 } else { 0.6 };
        assert!(shown.take(&tensor(stripes(0)), &TARGET));
        // A camera's noise: 1 % of full scale, as it is after scaling down.
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<f32> = (0..SIDE * SIDE)
            .map(|_| 0.02 * random.f32() - 0.01)
            .collect();
        let noisy = tensor(|y, x| stripes(0)(y, x) + noise[y * SIDE + x]);
        assert!(!shown.take(&noisy, &TARGET));
        assert!(shown.take(&tensor(stripes(4)), &TARGET));
        // A spot of 10 x 10 pixels counts, a single pixel does not.
        let spot = |size: usize| {
            tensor(move |y, x| {
                if y < size && x < size {
                    0.9
                } else {
                    stripes(0)(y, x)
                }
            })
        };
        assert!(!shown.take(&spot(1), &TARGET));
        assert!(shown.take(&spot(10), &TARGET));
    }
}
