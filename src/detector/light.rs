//! A lamp that is a little brighter or darker is no defect: images are brought to the mean level of the good ones, where that helps.

use super::taps::Normalization;
use crate::geometry::Size;
use ndarray::{Array3, ArrayView3};

/// A level is multiplied by no more and no less than this. A part that differs by more is not lit otherwise: it is another part, and has to
/// be seen as one.
const LARGEST: f32 = 1.25;
/// How much brighter and darker good images are made to see whether that is taken for a defect.
pub const CHANGE: f32 = 0.15;

/// Mean of all pixels and colours, in 0..1 of white, of an image tensor (3 x height x width, normalised).
fn level(image: ArrayView3<'_, f32>, Normalization { mean, std }: Normalization) -> f32 {
    let channels = image.outer_iter().zip(mean).zip(std);
    let levels = channels
        .map(|((channel, mean), std)| channel.sum() / channel.len().max(1) as f32 * std + mean);
    levels.sum::<f32>() / 3.0
}

/// Brings images to one level.
pub struct Leveller {
    normalization: Normalization,
    wanted: Option<f32>,
    out: Array3<f32>,
}

impl Leveller {
    /// For images of this size, to this level; `None`: to that of the first.
    pub fn new(wanted: Option<f32>, size: Size, normalization: Normalization) -> Self {
        Self {
            normalization,
            wanted,
            out: Array3::zeros((3, size.height, size.width)),
        }
    }

    /// The level that images are brought to, once it is known.
    pub fn wanted(&self) -> Option<f32> {
        self.wanted
    }

    /// The image at that level. One of another size is given back as it is. Allocates nothing.
    pub fn apply<'a>(&'a mut self, image: ArrayView3<'a, f32>) -> ArrayView3<'a, f32> {
        if image.dim() != self.out.dim() {
            return image;
        }
        let level = level(image, self.normalization).clamp(f32::MIN_POSITIVE, 1.0);
        let wanted = *self.wanted.get_or_insert(level);
        let factor = (wanted / level).clamp(LARGEST.recip(), LARGEST);
        let Normalization { mean, std } = self.normalization;
        let channels = self.out.outer_iter_mut().zip(image.outer_iter());
        for (((mut out, image), mean), std) in channels.zip(mean).zip(std) {
            // (f v - m) / s of x = (v - m) / s.
            let offset = (factor - 1.0) * mean / std;
            out.zip_mut_with(&image, |out, value| *out = value * factor + offset);
        }
        self.out.view()
    }
}

/// The image as a camera shows it in light that is `factor` times as bright: white stays white.
pub fn lit(
    image: ArrayView3<'_, f32>,
    Normalization { mean, std }: Normalization,
    factor: f32,
) -> Array3<f32> {
    let mut lit = image.to_owned();
    for ((mut channel, mean), std) in lit.outer_iter_mut().zip(mean).zip(std) {
        channel
            .mapv_inplace(|value| (((value * std + mean) * factor).clamp(0.0, 1.0) - mean) / std);
    }
    lit
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NORMALIZATION: Normalization = Normalization::IMAGENET;
    const SIZE: Size = Size::square(3);

    fn image(values: &[f32]) -> Array3<f32> {
        let Normalization { mean, std } = NORMALIZATION;
        Array3::from_shape_fn((3, 3, 3), |(c, y, x)| {
            (values[(c * 3 + y) * 3 + x] - mean[c]) / std[c]
        })
    }

    proptest! {
        /// In any light that clips nothing and is within what a lamp does, the same image comes out.
        #[test]
        fn light_makes_no_difference(values in prop::collection::vec(0.1f32..0.8, 27), factor in 0.85f32..1.15) {
            let first = image(&values);
            let mut leveller = Leveller::new(None, SIZE, NORMALIZATION);
            prop_assert_eq!(leveller.apply(first.view()), first.view());
            let mean = values.iter().sum::<f32>() / 27.0;
            prop_assert!((leveller.wanted().unwrap() - mean).abs() < 1e-5);
            let changed = lit(first.view(), NORMALIZATION, factor);
            let out = leveller.apply(changed.view());
            prop_assert!(out.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-3));
        }
    }

    /// Or a part that is burnt all over would pass.
    #[test]
    fn a_part_that_is_much_darker_stays_darker() {
        let first = image(&[0.6; 27]);
        let mut leveller = Leveller::new(None, SIZE, NORMALIZATION);
        leveller.apply(first.view());
        let dark = lit(first.view(), NORMALIZATION, 0.6);
        let out = leveller.apply(dark.view());
        assert!((level(out, NORMALIZATION) - 0.6 * 0.6 * LARGEST).abs() < 1e-5);
    }

    #[test]
    fn black_and_other_sizes_stay_as_they_are() {
        let black = image(&[0.0; 27]);
        let mut leveller = Leveller::new(Some(0.5), SIZE, NORMALIZATION);
        let out = leveller.apply(black.view());
        assert!(out.iter().zip(&black).all(|(a, b)| (a - b).abs() < 1e-5));
        let other = Array3::ones((3, 2, 2));
        assert_eq!(leveller.apply(other.view()), other.view());
    }
}
