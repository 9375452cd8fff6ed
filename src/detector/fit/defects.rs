//! Images with defects while a model is fitted: painted ones on good images, and real ones where there are some.

use crate::detector::error::InferenceError;
use crate::detector::light::{CHANGE, lit};
use crate::detector::synthetic::{KINDS, paint};
use crate::detector::taps::Normalization;
use half::f16;
use ndarray::{Array2, Array3, ArrayView3};

/// Good images that others are made of at most. When there are more, every other one goes, and half as many of those to come are painted.
const MOST: usize = 256;
const SEED: u64 = 7;
/// Times that a defect is painted until it lies where something is judged.
const TRIES: usize = 20;

/// What an image that is no good one as it came shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A defect painted on a good image.
    Painted,
    /// A good image in other light.
    Lit,
    /// A real defect.
    Real,
}

/// Such an image.
pub struct Defect {
    /// The number of the good image that it was made of; of a real one, its own among those.
    pub image: usize,
    pub kind: Kind,
    /// positions x dimensions
    pub patches: Vec<f16>,
}

/// Scores of the images with defects, each by a head that has not seen the good image that it was painted on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DefectScores {
    pub painted: Vec<f32>,
    /// Good images in other light.
    pub lit: Vec<f32>,
    pub real: Vec<f32>,
}

/// Paints defects on images as they come.
pub struct Defects {
    /// Whether defects are painted, and whether the light is changed.
    paint: bool,
    light: bool,
    all: Vec<Defect>,
    real: usize,
    /// One image of so many is painted on.
    every: usize,
    /// The image before: what is cut out comes from there.
    donor: Option<Array3<f32>>,
    random: fastrand::Rng,
}

impl Defects {
    pub fn new(paint: bool, light: bool) -> Self {
        Self {
            paint,
            light,
            all: Vec::new(),
            real: 0,
            every: 1,
            donor: None,
            random: fastrand::Rng::with_seed(SEED),
        }
    }

    /// Paints on the good image with this number (3 x height x width, normalised), and changes its light, if it is its turn; `embed`
    /// gives the patches of what comes out. Only defects that touch what is `judged` are painted.
    ///
    /// # Errors
    /// Those of `embed`.
    pub fn paint_on(
        &mut self,
        number: usize,
        image: ArrayView3<'_, f32>,
        normalization: Normalization,
        judged: Option<&Array2<bool>>,
        mut embed: impl FnMut(ArrayView3<'_, f32>) -> Result<Vec<f16>, InferenceError>,
    ) -> Result<(), InferenceError> {
        if !number.is_multiple_of(self.every) {
            return Ok(());
        }
        let painted = self
            .paint
            .then(|| self.painted(image, normalization, judged));
        let lit = self.light.then(|| {
            let factor = match self.random.bool() {
                true => 1.0 + CHANGE,
                false => 1.0 - CHANGE,
            };
            lit(image, normalization, factor)
        });
        for (kind, image) in [(Kind::Painted, painted), (Kind::Lit, lit)] {
            let Some(image) = image else { continue };
            let patches = embed(image.view())?;
            self.all.push(Defect {
                image: number,
                kind,
                patches,
            });
        }
        let each = usize::from(self.paint) + usize::from(self.light);
        if self.all.len() - self.real > each * MOST {
            self.every *= 2;
            let every = self.every;
            self.all
                .retain(|defect| defect.kind == Kind::Real || defect.image.is_multiple_of(every));
        }
        Ok(())
    }

    /// The image with a defect that touches what is judged.
    fn painted(
        &mut self,
        image: ArrayView3<'_, f32>,
        normalization: Normalization,
        judged: Option<&Array2<bool>>,
    ) -> Array3<f32> {
        let pixels = denormalized(image, normalization);
        let (what, _) = KINDS[self.random.usize(..KINDS.len())];
        let donor = self.donor.as_ref().unwrap_or(&pixels);
        let mut paint = || paint(pixels.view(), donor.view(), what, &mut self.random);
        let (mut painted, mut place) = paint();
        // Where nothing is judged nothing is to be found.
        for _ in 0..TRIES {
            let seen = |judged: &Array2<bool>| {
                judged
                    .iter()
                    .zip(&place)
                    .any(|(judged, marked)| *judged && *marked)
            };
            if judged.is_none_or(seen) {
                break;
            }
            (painted, place) = paint();
        }
        normalize(&mut painted, normalization);
        self.donor = Some(pixels);
        painted
    }

    /// Takes in the patches of a real one.
    pub fn add_real(&mut self, patches: Vec<f16>) {
        self.all.push(Defect {
            image: self.real,
            kind: Kind::Real,
            patches,
        });
        self.real += 1;
    }

    pub fn all(&self) -> &[Defect] {
        &self.all
    }

    /// `scores` are those of all, in their order.
    pub fn scores(&self, scores: &[f32]) -> DefectScores {
        let of = |kind: Kind| {
            let all = self.all.iter().zip(scores);
            all.filter(|(defect, _)| defect.kind == kind)
                .map(|(_, score)| *score)
                .collect()
        };
        DefectScores {
            painted: of(Kind::Painted),
            lit: of(Kind::Lit),
            real: of(Kind::Real),
        }
    }

    /// Forgets what was painted on images that are left out; `new` gives the others' new numbers.
    pub fn renumber(&mut self, new: impl Fn(usize) -> Option<usize>) {
        self.all.retain_mut(|defect| {
            if defect.kind == Kind::Real {
                return true;
            }
            let number = new(defect.image);
            defect.image = number.unwrap_or(defect.image);
            number.is_some()
        });
    }
}

/// RGB in 0..255.
fn denormalized(
    image: ArrayView3<'_, f32>,
    Normalization { mean, std }: Normalization,
) -> Array3<f32> {
    let mut pixels = image.to_owned();
    for ((mut channel, mean), std) in pixels.outer_iter_mut().zip(mean).zip(std) {
        channel.mapv_inplace(|value| ((value * std + mean) * 255.0).clamp(0.0, 255.0));
    }
    pixels
}

fn normalize(pixels: &mut Array3<f32>, Normalization { mean, std }: Normalization) {
    for ((mut channel, mean), std) in pixels.outer_iter_mut().zip(mean).zip(std) {
        channel.mapv_inplace(|value| (value / 255.0 - mean) / std);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn painted_images_are_spread_evenly_and_not_too_many() {
        let image =
            Array3::from_shape_fn((3, 16, 16), |(c, y, x)| (c * 5 + y * x % 7) as f32 / 100.0);
        let mut defects = Defects::new(true, true);
        let normalization = Normalization::IMAGENET;
        for number in 0..2000 {
            let embed = |painted: ArrayView3<'_, f32>| {
                assert_eq!(painted.dim(), (3, 16, 16));
                Ok(vec![f16::ONE])
            };
            defects
                .paint_on(number, image.view(), normalization, None, embed)
                .unwrap();
        }
        defects.add_real(vec![f16::ZERO]);
        let numbers: Vec<usize> = defects
            .all()
            .iter()
            .filter(|d| d.kind == Kind::Painted)
            .map(|d| d.image)
            .collect();
        assert!((128..=256).contains(&numbers.len()), "{}", numbers.len());
        let step = numbers[1];
        assert!(
            numbers
                .iter()
                .enumerate()
                .all(|(index, number)| *number == index * step)
        );
        // The first and every third are left out.
        defects.renumber(|number| (number > 0 && number % 3 != 0).then(|| number - 1));
        assert!(defects.all().iter().any(|defect| defect.kind == Kind::Real));
        let left = defects
            .all()
            .iter()
            .filter(|defect| defect.kind == Kind::Painted);
        assert!(left.clone().all(|defect| (defect.image + 1) % 3 != 0));
        assert!(left.count() > numbers.len() / 2);
    }

    #[test]
    fn normalisation_goes_both_ways() {
        let image = Array3::from_shape_fn((3, 4, 4), |(c, y, x)| (c + y + x) as f32 / 20.0 - 0.2);
        let mut pixels = denormalized(image.view(), Normalization::IMAGENET);
        normalize(&mut pixels, Normalization::IMAGENET);
        assert!(pixels.iter().zip(&image).all(|(a, b)| (a - b).abs() < 1e-5));
    }
}
