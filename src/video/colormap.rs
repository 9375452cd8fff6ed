//! The colour of a score, and what it is in a frame's colour space.

use gst_video::VideoInfo;

/// Relative score (score / threshold) from which on the heatmap shows something, and that of its last colour.
pub(super) const HEAT_FROM: f64 = 0.7;
pub(super) const HEAT_TO: f64 = 2.0;
/// Relative score of full opacity.
const HEAT_FULL: f64 = 1.3;
const HEAT_OPACITY: f64 = 0.55;

/// Turbo, a rainbow without the false edges of "jet", at `x` in 0..1 (clamped): red, green, blue in 0..1.
///
/// Polynomial approximation by Ruofei Du of Anton Mikhailov's colormap ("Turbo, An Improved Rainbow Colormap for Visualization",
/// Google AI Blog 2019; `TurboColormap` in the published GLSL shader). Copyright 2019 Google LLC, Apache-2.0.
pub fn turbo(x: f64) -> [f64; 3] {
    const RED: [f64; 6] = [
        0.13572138,
        4.61539260,
        -42.66032258,
        132.13108234,
        -152.94239396,
        59.28637943,
    ];
    const GREEN: [f64; 6] = [
        0.09140261,
        2.19418839,
        4.84296658,
        -14.18503333,
        4.27729857,
        2.82956604,
    ];
    const BLUE: [f64; 6] = [
        0.10667330,
        12.64194608,
        -60.58204836,
        110.36276771,
        -89.90310912,
        27.34824973,
    ];
    let x = x.clamp(0.0, 1.0);
    [RED, GREEN, BLUE].map(|coefficients| {
        let value = coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
        value.clamp(0.0, 1.0)
    })
}

/// The heatmap's opacity and colour (red, green, blue in 0..1) for a relative score.
pub(super) fn heat(score: f64) -> (f64, [f64; 3]) {
    let rise = ((score - HEAT_FROM) / (HEAT_FULL - HEAT_FROM)).clamp(0.0, 1.0);
    let opacity = HEAT_OPACITY * rise * rise * (3.0 - 2.0 * rise);
    // Turbo is yellow-green at 0.6 and red at 0.9; beyond it darkens.
    (opacity, turbo((0.6 + 0.3 * (score - 1.0)).min(0.9)))
}

/// How the frame's components follow from red, green and blue.
pub(super) struct ColourSpace {
    /// Component = offset + red, green, blue in 0..1 times the weights, as if of 8 bits.
    offset: [f64; 3],
    weights: [[f64; 3]; 3],
    grey: bool,
}

impl ColourSpace {
    pub(super) fn of(info: &VideoInfo) -> Self {
        let format = info.format_info();
        let colorimetry = info.colorimetry();
        let (offsets, scales) = format.range_offsets(colorimetry.range());
        let full = ((1u64 << format.depth()[0]) - 1) as f64;
        let identity = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let rows = if format.is_rgb() {
            identity
        } else {
            // Grey and unmarked video: BT.601.
            let (kr, kb) = colorimetry.matrix().kr_kb().unwrap_or((0.299, 0.114));
            let luma = [kr, 1.0 - kr - kb, kb];
            let difference = |colour: usize, k: f64| {
                std::array::from_fn(|i| (identity[colour][i] - luma[i]) / (2.0 * (1.0 - k)))
            };
            [luma, difference(2, kb), difference(0, kr)]
        };
        Self {
            offset: std::array::from_fn(|i| f64::from(offsets[i]) * 255.0 / full),
            weights: std::array::from_fn(|i| {
                rows[i].map(|k| k * f64::from(scales[i]) * 255.0 / full)
            }),
            grey: format.is_gray(),
        }
    }

    /// Component `number` of a colour, as if of 8 bits. Grey formats have no hue to show: any colour is white there.
    pub(super) fn component(&self, number: usize, rgb: [f64; 3]) -> f64 {
        let rgb = if self.grey && rgb != [0.0; 3] {
            [1.0; 3]
        } else {
            rgb
        };
        let sum: f64 = self.weights[number]
            .iter()
            .zip(rgb)
            .map(|(weight, value)| weight * value)
            .sum();
        (self.offset[number] + sum).clamp(0.0, 255.0)
    }
}

#[cfg(test)]
mod tests {
    use super::turbo;

    #[test]
    fn close_to_the_published_table() {
        // Entries 7, 127 and 128 of the 256 in Google's table (the approximation is off by up to 0.08).
        for (entry, colour) in [
            (7, [0.22111, 0.15223, 0.42558]),
            (127, [0.63323, 0.99195, 0.23937]),
            (128, [0.64362, 0.98999, 0.23356]),
        ] {
            for (got, expected) in turbo(f64::from(entry) / 255.0).into_iter().zip(colour) {
                assert!((got - expected).abs() < 0.09, "{entry}: {got} {expected}");
            }
        }
        let [red, green, blue] = turbo(0.9);
        assert!(red > 0.7 && green < 0.3 && blue < 0.1);
        assert_eq!(turbo(2.0), turbo(1.0));
    }
}
