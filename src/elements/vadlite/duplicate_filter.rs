//! Whether a frame shows what another one did already: an empty or standing belt.

use crate::detector::taps::Normalization;
use crate::geometry::Size;
use crate::video::preprocess::Target;
use ndarray::{ArrayView3, s};
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

/// Lets those images through that show something new.
#[derive(Default)]
pub struct DuplicateFilter(VecDeque<Box<Thumbnail>>);

impl DuplicateFilter {
    /// Whether an image tensor (3 x height x width of `target`) shows something that none of the latest ones let through did.
    pub fn admits(&mut self, tensor: ArrayView3<'_, f32>, target: &Target) -> bool {
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
fn thumbnail(tensor: ArrayView3<'_, f32>, target: &Target) -> Box<Thumbnail> {
    let Size { height, width } = target.size;
    let Normalization { mean, std } = target.normalization;
    let mut samples = Box::new([0; SAMPLES * SAMPLES]);
    for (y, row) in samples.chunks_exact_mut(SAMPLES).enumerate() {
        for (x, sample) in row.iter_mut().enumerate() {
            // A long part's tensor is less high than there are samples.
            let y = (y * height / SAMPLES).min(height - 2);
            let x = (x * width / SAMPLES).min(width - 2);
            let mut sum = 0.0;
            for (channel, plane) in tensor.outer_iter().enumerate() {
                let pixels = plane.slice(s![y..y + 2, x..x + 2]).sum();
                sum += pixels / 4.0 * std[channel] + mean[channel];
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
    use crate::geometry::Roi;
    use ndarray::Array3;

    const SIDE: usize = 224;
    const TARGET: Target = Target {
        size: Size::square(SIDE),
        normalization: Normalization {
            mean: [0.5; 3],
            std: [0.5; 3],
        },
        roi: Roi::WHOLE,
    };

    /// An image tensor of grey values in 0..1.
    fn tensor(value: impl Fn(usize, usize) -> f32) -> Array3<f32> {
        Array3::from_shape_fn((3, SIDE, SIDE), |(_, y, x)| 2.0 * value(y, x) - 1.0)
    }

    #[test]
    fn tensors_of_any_shape_are_compared() {
        for size in [Size::new(32, 1568), Size::new(1568, 32), Size::square(2)] {
            let mut filter = DuplicateFilter::default();
            let target = Target { size, ..TARGET };
            let grey = |level: f32| Array3::from_elem((3, size.height, size.width), level);
            assert!(filter.admits(grey(0.0).view(), &target));
            assert!(!filter.admits(grey(0.0).view(), &target));
            assert!(filter.admits(grey(0.2).view(), &target));
        }
    }

    #[test]
    fn noise_is_nothing_new_and_what_moves_is() {
        let mut filter = DuplicateFilter::default();
        let stripes =
            |shift: usize| move |_, x: usize| if (x + shift) % 16 < 8 { 0.4 } else { 0.6 };
        assert!(filter.admits(tensor(stripes(0)).view(), &TARGET));
        // A camera's noise: 1 % of full scale, as it is after scaling down.
        let mut random = fastrand::Rng::with_seed(1);
        let noise: Vec<f32> = (0..SIDE * SIDE)
            .map(|_| 0.02 * random.f32() - 0.01)
            .collect();
        let noisy = tensor(|y, x| stripes(0)(y, x) + noise[y * SIDE + x]);
        assert!(!filter.admits(noisy.view(), &TARGET));
        assert!(filter.admits(tensor(stripes(4)).view(), &TARGET));
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
        assert!(!filter.admits(spot(1).view(), &TARGET));
        assert!(filter.admits(spot(10).view(), &TARGET));
    }
}
