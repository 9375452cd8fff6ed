//! Writes the parts that a located model finds in image files, upright, as `vadlite` looks at them: one PNG with all of them.
//!
//!     cargo run --release --example crops -- MODEL OUT.png FILES…

use gstvadlite::cli::images::{Framing, ImageFile, Reading};
use gstvadlite::detector::model_file::ModelFile;
use gstvadlite::geometry::Size;
use gstvadlite::locate::{Levels, Locator, State};
use ndarray::Array3;
use std::path::Path;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (model, out) = (
        arguments.next().unwrap_or_default(),
        arguments.next().unwrap_or_default(),
    );
    let model = ModelFile::read(Path::new(&model))?;
    let metadata = &model.metadata;
    let (Some(part), Some(template)) = (metadata.part, &model.template) else {
        anyhow::bail!("the model locates no parts");
    };
    let normalization = metadata.normalization;
    let levels = Levels {
        gain: normalization.std.map(|std| 255.0 * std),
        bias: normalization.mean.map(|mean| 255.0 * mean),
    };
    let Size { height, width } = metadata.input_size;
    let mut locator = Locator::new(part, levels, template.view());
    let mut crops = Vec::new();
    for file in arguments {
        let scene =
            ImageFile::open(Path::new(&file), Reading::default())?.tensor(Framing::of(metadata))?;
        for found in locator.locate(scene.view()).to_vec() {
            println!("{file}: {found:?}");
            if found.state == State::Located {
                let mut crop = Array3::zeros((3, height, width));
                locator.upright(scene.view(), &found, crop.view_mut());
                crops.push(crop);
            }
        }
    }
    let columns = (1600 / width).max(1);
    let rows = crops.len().div_ceil(columns).max(1);
    let mut sheet = image::RgbImage::new((columns * width) as u32, (rows * height) as u32);
    for (number, crop) in crops.iter().enumerate() {
        let (left, top) = (number % columns * width, number / columns * height);
        for y in 0..height {
            for x in 0..width {
                let pixel = [0, 1, 2].map(|c| {
                    (crop[[c, y, x]] * levels.gain[c] + levels.bias[c]).clamp(0.0, 255.0) as u8
                });
                sheet.put_pixel((left + x) as u32, (top + y) as u32, image::Rgb(pixel));
            }
        }
    }
    sheet.save(out)?;
    Ok(())
}
