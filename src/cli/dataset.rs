//! A dataset in MVTec AD layout: `train/good`, `test/good`, `test/<defect>`, `ground_truth/<defect>/<name>_mask.png`.

use super::decode::decode;
use super::{console, images};
use crate::geometry::{Roi, Size};
use anyhow::{Context as _, bail};
use ndarray::Array2;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// One image of the test part.
pub struct TestImage {
    pub path: PathBuf,
    /// Mask of a defective image, where the dataset has one.
    pub mask: Option<PathBuf>,
    pub defective: bool,
}

impl TestImage {
    /// The folder that it lies in: `good`, or what is wrong with it.
    pub fn kind(&self) -> Cow<'_, str> {
        let folder = self.path.parent().and_then(Path::file_name);
        folder.unwrap_or_default().to_string_lossy()
    }
}

/// The good images to fit on.
pub fn train(dataset: &Path) -> anyhow::Result<Vec<PathBuf>> {
    images::list(&dataset.join("train/good")).with_context(|| layout(dataset))
}

/// The images to test on, folder by folder.
pub fn test(dataset: &Path) -> anyhow::Result<Vec<TestImage>> {
    let root = dataset.join("test");
    let entries = std::fs::read_dir(&root)
        .with_context(|| format!("folder {} cannot be read", root.display()))
        .with_context(|| layout(dataset))?;
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() && !images::is_hidden(path))
        .collect();
    folders.sort();
    let mut test = Vec::new();
    for folder in folders {
        let kind = folder.file_name().unwrap_or_default().to_os_string();
        let defective = kind != "good";
        let listed = match images::list(&folder) {
            Ok(listed) => listed,
            Err(error) => {
                console::warn(format_args!("{error:#}; it is left out"));
                continue;
            }
        };
        for path in listed {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            let mask = dataset
                .join("ground_truth")
                .join(&kind)
                .join(format!("{stem}_mask.png"));
            test.push(TestImage {
                mask: (defective && mask.is_file()).then_some(mask),
                path,
                defective,
            });
        }
    }
    if test.is_empty() {
        bail!("{} holds no folders with test images", root.display());
    }
    Ok(test)
}

fn layout(dataset: &Path) -> String {
    format!(
        "{} is not in MVTec AD layout (train/good, test/good, test/<defect>, ground_truth/<defect>/<name>_mask.png)",
        dataset.display()
    )
}

/// Reads a mask at `size` by the nearest pixel, over the part `roi` of the image; `true` where the mask is not black. Also returns the
/// mask's own size. A mask is taken to be drawn on the image the way up that viewers show it.
pub fn read_mask(
    path: &Path,
    size: Size,
    roi: Roi,
    limit: u64,
) -> anyhow::Result<(Array2<bool>, Size)> {
    let mask = decode(path, limit)?.into_luma8();
    let at = |index: usize, count: usize, from: f32, length: f32, full: u32| {
        let (from, length) = (f64::from(from), f64::from(length));
        let place = (from + (index as f64 + 0.5) / count as f64 * length) * f64::from(full);
        (place as u32).min(full - 1)
    };
    let Size { height, width } = size;
    let marked = Array2::from_shape_fn((height, width), |(row, column)| {
        let x = at(column, width, roi.x, roi.width, mask.width());
        let y = at(row, height, roi.y, roi.height, mask.height());
        mask.get_pixel(x, y).0[0] > 0
    });
    let own = Size::new(mask.height() as usize, mask.width() as usize);
    Ok((marked, own))
}
