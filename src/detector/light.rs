//! A lamp that is a little brighter or darker is no defect: images are brought to the mean level of the good ones, where that helps.

use super::taps::Normalization;
use ndarray::{Array3, ArrayView3};

/// A level is multiplied by no more and no less than this: what is darker by half is no matter of the lamp.
const LARGEST: f32 = 2.0;
/// How much brighter and darker good images are made to see whether that is taken for a defect.
pub const CHANGE: f32 = 0.15;

/// Mean of all pixels and colours, in 0..1 of white, of an image tensor (3 x height x width, normalised).
pub fn level(image: ArrayView3<'_, f32>, Normalization { mean, std }: Normalization) -> f32 {
    let channels = image.outer_iter().zip(mean).zip(std);
    let levels = channels
        .map(|((channel, mean), std)| channel.sum() / channel.len().max(1) as f32 * std + mean);
    levels.sum::<f32>() / 3.0
}

/// The image with its level brought to `wanted`, into `out`.
pub fn bring_to(
    wanted: f32,
    image: ArrayView3<'_, f32>,
    normalization: Normalization,
    out: &mut Array3<f32>,
) {
    let level = level(image, normalization).max(f32::MIN_POSITIVE);
    let factor = (wanted / level).clamp(LARGEST.recip(), LARGEST);
    let Normalization { mean, std } = normalization;
    let channels = out.outer_iter_mut().zip(image.outer_iter());
    for (((mut out, image), mean), std) in channels.zip(mean).zip(std) {
        // (f v - m) / s of x = (v - m) / s.
        let offset = (factor - 1.0) * mean / std;
        out.zip_mut_with(&image, |out, value| *out = value * factor + offset);
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

    proptest! {
        /// In any light that clips nothing, the same image comes out.
        #[test]
        fn light_makes_no_difference(values in prop::collection::vec(0.05f32..0.8, 27), factor in 0.7f32..1.2) {
            let normalization = Normalization::IMAGENET;
            let image = Array3::from_shape_fn((3, 3, 3), |(c, y, x)| {
                (values[(c * 3 + y) * 3 + x] - normalization.mean[c]) / normalization.std[c]
            });
            let expected = values.iter().sum::<f32>() / 27.0;
            prop_assert!((level(image.view(), normalization) - expected).abs() < 1e-5);
            let (mut plain, mut changed) = (Array3::zeros((3, 3, 3)), Array3::zeros((3, 3, 3)));
            bring_to(0.4, image.view(), normalization, &mut plain);
            bring_to(0.4, lit(image.view(), normalization, factor).view(), normalization, &mut changed);
            prop_assert!(plain.iter().zip(&changed).all(|(a, b)| (a - b).abs() < 1e-3));
            prop_assert!((level(plain.view(), normalization) - 0.4).abs() < 1e-4 || expected < 0.2 || expected * factor < 0.2);
        }
    }

    #[test]
    fn black_stays_black() {
        let normalization = Normalization::IMAGENET;
        let image = Array3::from_shape_fn((3, 2, 2), |(c, _, _)| {
            -normalization.mean[c] / normalization.std[c]
        });
        let mut out = Array3::zeros((3, 2, 2));
        bring_to(0.5, image.view(), normalization, &mut out);
        assert!(out.iter().zip(&image).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
