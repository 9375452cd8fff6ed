//! Whether two frames show the same part: what is its own looks as it did before, at the angle that it had.

use super::picture::Plane;
use super::template::{Refiner, TEMPLATE_REDUCTION, Template, sample};
use super::{Located, Pose};
use crate::geometry::Size;
use ndarray::Array2;

/// How a part looked in one scene.
///
/// What looks like it in another scene is the same part. Two good parts resemble each other only as far as both resemble the mean picture:
/// by the product of these correlations, if what is their own has nothing in common. What is more like the view than halfway from there to
/// 1 is taken for the same part. It is looked at under the view's own angle: parts on a belt do not turn from frame to frame, and another
/// part that is laid at the same place lies at another angle. Of parts that differ by no more than a camera's noise this tells nothing.
pub struct View {
    picture: Template,
    angle: f32,
    /// To the mean picture.
    likeness: f32,
}

impl View {
    /// `size` is that of the model's template.
    pub(super) fn new(grey: &Plane, part: &Located, scale: f32, size: Size) -> Self {
        let mut view = Vec::with_capacity(size.area());
        sample(grey, &part.pose, scale, TEMPLATE_REDUCTION, size, &mut view);
        let picture = Array2::from_shape_vec((size.height, size.width), view);
        Self {
            // As many values as the size has.
            picture: Template::new(picture.unwrap_or_default().view()),
            angle: part.pose.angle,
            likeness: part.likeness,
        }
    }

    /// Whether a part of another scene, of which these are the grey pictures, is the same one.
    pub(super) fn is(
        &self,
        part: &Located,
        pictures: (&Plane, &Plane),
        scale: f32,
        refiner: &mut Refiner,
    ) -> bool {
        let moved = Pose {
            angle: self.angle,
            ..part.pose
        };
        let (_, likeness) = refiner.settle(&self.picture, pictures, moved, scale, 1);
        likeness > threshold(self.likeness, part.likeness)
    }
}

/// Likeness of two views above which they show the same part, by that of each to the mean picture.
fn threshold(one: f32, other: f32) -> f32 {
    f32::midpoint(1.0, one.max(0.0) * other.max(0.0))
}
