//! Whether images are of the kind that a model was learnt from: said once for each thing in which they are not.

use super::images::ReadImage;
use crate::detector::model_file::Metadata;
use crate::geometry::Size;
use crate::video::sample_bits::OtherBits;
use std::collections::BTreeMap;
use std::path::Path;

/// Ratios of width to height that differ by more than this factor show parts of another shape.
const ASPECT: f64 = 1.1;

/// What the model says of its images, and what has been told.
pub struct LearntFrom {
    bits: Option<u8>,
    size: Option<Size>,
    told_bits: bool,
    told_size: bool,
}

impl LearntFrom {
    pub fn new(metadata: &Metadata) -> Self {
        Self {
            bits: metadata.sample_bits,
            size: metadata.image_size,
            told_bits: false,
            told_size: false,
        }
    }

    /// What is to be told of an image.
    pub fn differs(&mut self, path: &Path, image: &ReadImage) -> Vec<String> {
        let mut told = Vec::new();
        if let Some(largest) = image.largest.filter(|_| !self.told_bits) {
            let other = OtherBits::find(largest, self.bits);
            told.extend(other.map(|other| format!("image {} {other}", path.display())));
            self.told_bits = !told.is_empty();
        }
        if let Some(size) = self.size.filter(|_| !self.told_size) {
            let ratio = aspect(image.size) / aspect(size);
            if ratio.max(ratio.recip()) > ASPECT {
                self.told_size = true;
                told.push(format!(
                    "image {} is {}x{}, and the model was learnt from {}x{}: it is stretched to the same shape",
                    path.display(),
                    image.size.width,
                    image.size.height,
                    size.width,
                    size.height
                ));
            }
        }
        told
    }
}

/// Width over height.
pub fn aspect(size: Size) -> f64 {
    size.width as f64 / size.height as f64
}

/// The sizes of images, with how many have each.
#[derive(Default)]
pub struct Sizes(BTreeMap<(usize, usize), usize>);

impl Sizes {
    pub fn add(&mut self, size: Size) {
        *self.0.entry((size.width, size.height)).or_default() += 1;
    }

    /// The most frequent one.
    pub fn usual(&self) -> Option<Size> {
        let most = self.0.iter().max_by_key(|(_, count)| **count);
        most.map(|(&(width, height), _)| Size::new(height, width))
    }

    /// Says that there are several, the most frequent ones first.
    pub fn several(&self, input: Size) -> Option<String> {
        if self.0.len() < 2 {
            return None;
        }
        let mut sizes: Vec<_> = self.0.iter().collect();
        sizes.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let named = sizes.iter().take(4);
        let named = named.map(|((width, height), count)| format!("{count} x {width}x{height}"));
        let more = if sizes.len() > 4 { ", …" } else { "" };
        Some(format!(
            "the images have {} sizes: {}{more}; all are scaled to {}x{}",
            sizes.len(),
            named.collect::<Vec<_>>().join(", "),
            input.width,
            input.height
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_sizes_are_said_with_the_most_frequent_first() {
        let mut sizes = Sizes::default();
        sizes.add(Size::new(480, 640));
        assert_eq!(sizes.several(Size::square(224)), None);
        for _ in 0..3 {
            sizes.add(Size::new(600, 800));
        }
        assert_eq!(sizes.usual(), Some(Size::new(600, 800)));
        assert_eq!(
            sizes.several(Size::square(224)).unwrap(),
            "the images have 2 sizes: 3 x 800x600, 1 x 640x480; all are scaled to 224x224"
        );
    }
}
