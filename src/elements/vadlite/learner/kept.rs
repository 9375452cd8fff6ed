//! Frames that have been learnt from, kept in case the fit has to see them again: a camera does not show them twice.

use crate::geometry::Size;
use half::f16;
use half::slice::HalfFloatSliceExt as _;
use ndarray::{Array3, ArrayView3};

/// Bytes of frames that are kept: some 900 of 224x224.
const BYTES: usize = 1 << 28;

/// All frames, or none where they would be too many.
pub struct KeptFrames {
    size: Size,
    keep: bool,
    /// 3 x height x width each, normalised. 16 bits lose less than a hundredth of a camera's grey level.
    frames: Vec<Vec<f16>>,
}

impl KeptFrames {
    /// None yet, of so many image tensors of this size.
    pub fn new(frames: usize, size: Size) -> Self {
        Self {
            size,
            keep: frames.saturating_mul(3 * size.area() * size_of::<f16>()) <= BYTES,
            frames: Vec::new(),
        }
    }

    /// Takes in the next one (3 x height x width).
    pub fn add(&mut self, frame: ArrayView3<'_, f32>) {
        if self.keep {
            self.frames
                .push(frame.iter().map(|&value| f16::from_f32(value)).collect());
        }
    }

    /// Whether they can be seen again.
    pub fn are_all_there(&self) -> bool {
        self.keep
    }

    /// Shows all of them again, in their order, with their numbers from 0 on.
    ///
    /// # Errors
    /// Those of `see`, which ends it.
    pub fn each<E>(
        &self,
        mut see: impl FnMut(usize, ArrayView3<'_, f32>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut tensor = Array3::zeros((3, self.size.height, self.size.width));
        for (number, frame) in self.frames.iter().enumerate() {
            if let Some(values) = tensor.as_slice_mut() {
                frame.convert_to_f32_slice(values);
            }
            see(number, tensor.view())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_in_their_order() {
        let size = Size::new(4, 6);
        let mut kept = KeptFrames::new(3, size);
        let frame = |number: usize| {
            Array3::from_shape_fn((3, 4, 6), |(c, y, x)| {
                (number * 7 + c * 24 + y * 6 + x) as f32 / 60.0 - 1.0
            })
        };
        for number in 0..3 {
            kept.add(frame(number).view());
        }
        let mut seen = 0;
        let see = |number: usize, tensor: ArrayView3<'_, f32>| -> Result<(), ()> {
            assert_eq!(number, seen);
            seen += 1;
            // A camera's grey level is 0.017 in the units of normalised images.
            assert!(
                tensor
                    .iter()
                    .zip(&frame(number))
                    .all(|(a, b)| (a - b).abs() < 1e-3)
            );
            Ok(())
        };
        kept.each(see).unwrap();
        assert_eq!(seen, 3);
        assert_eq!(
            kept.each(|number, _| if number == 1 { Err(number) } else { Ok(()) }),
            Err(1)
        );
    }

    #[test]
    fn memory_is_bounded() {
        let (enough, tile) = (BYTES / (6 * 224 * 224), Size::square(224));
        assert!(KeptFrames::new(enough, tile).are_all_there());
        let mut many = KeptFrames::new(enough + 1, tile);
        many.add(Array3::zeros((3, 224, 224)).view());
        assert!(!many.are_all_there() && many.frames.is_empty());
        assert!(!KeptFrames::new(usize::MAX, tile).are_all_there());
    }
}
