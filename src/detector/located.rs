//! What a fit is on, whole pictures or parts, and parts taken out of scenes.

use super::fit::FittedPart;
use super::parts::levels;
use super::taps::Normalization;
use crate::geometry::Size;
use crate::locate::{Learnt, Located, Locator, Verdict};
use ndarray::{Array2, Array3, ArrayView3};

/// What was decided.
#[derive(Debug, Clone, Default)]
pub struct Decision {
    pub part: Option<FittedPart>,
    /// Of a part's tensor, and what is judged of it.
    pub tensor: Option<Size>,
    pub mask: Option<Array2<bool>>,
    /// Why, where it was asked.
    pub said: Option<String>,
}

impl From<Verdict> for Decision {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Part(learnt) => {
                let Learnt {
                    model,
                    tensor,
                    template,
                    mask,
                    said,
                } = *learnt;
                Self {
                    part: Some(FittedPart { model, template }),
                    tensor: Some(tensor),
                    mask: Some(mask),
                    said: Some(said),
                }
            }
            Verdict::None(reason) => Self {
                said: Some(format!("whole pictures: {reason}")),
                ..Self::default()
            },
        }
    }
}

/// Takes the parts out of scenes.
pub struct Cutter {
    locator: Locator,
    tensor: Array3<f32>,
}

impl Cutter {
    /// `tensor` is the size of a part's, and `normalization` that of the scenes.
    pub fn new(part: &FittedPart, tensor: Size, normalization: Normalization) -> Self {
        Self {
            locator: Locator::new(part.model, levels(normalization), part.template.view()),
            tensor: Array3::zeros((3, tensor.height, tensor.width)),
        }
    }

    /// What lies in a scene (3 x height x width); nothing where there may be more than that.
    #[cfg(feature = "cli")]
    fn locate(&mut self, scene: ArrayView3<'_, f32>) -> &[Located] {
        self.locator.locate(scene);
        match self.locator.doubt() {
            Some(_) => &[],
            None => self.locator.found(),
        }
    }

    /// What finds them.
    pub fn locator(&mut self) -> &mut Locator {
        &mut self.locator
    }

    /// A part of the last scene, upright: 3 x height x width of its tensor.
    pub fn upright(&mut self, scene: ArrayView3<'_, f32>, part: &Located) -> ArrayView3<'_, f32> {
        let tensor = self.tensor.view_mut();
        self.locator.upright(scene, part, tensor);
        self.tensor.view()
    }

    /// Hands every part that can be judged to `each`, upright. Returns how many there were.
    ///
    /// # Errors
    /// Those of `each`.
    #[cfg(feature = "cli")]
    pub fn cut<E>(
        &mut self,
        scene: ArrayView3<'_, f32>,
        mut each: impl FnMut(ArrayView3<'_, f32>) -> Result<(), E>,
    ) -> Result<usize, E> {
        let mut count = 0;
        for index in 0..self.locate(scene).len() {
            let part = self.locator.found()[index];
            if part.state == crate::locate::State::Located {
                each(self.upright(scene, &part))?;
                count += 1;
            }
        }
        Ok(count)
    }
}
