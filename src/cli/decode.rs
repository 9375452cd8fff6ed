//! From an image file to its pixels: whole, the way up that viewers show them, and no larger than allowed.

use super::jpeg;
use anyhow::{Context as _, bail, ensure};
use image::metadata::Orientation;
use image::{ColorType, DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Cursor, Read as _, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Bytes of a decoded image that are allowed unless asked otherwise.
pub const LIMIT: u64 = 2 << 30;
/// Bytes that a decoder may need besides the image.
const BESIDES: u64 = 1 << 26;

/// Decodes a file by what is in it, whatever its name says, and turns it as its EXIF orientation asks. Of an animation, the first picture.
///
/// # Errors
/// With the file's name: no image, one that is cut off or damaged, or more than `limit` bytes decoded.
pub fn decode(path: &Path, limit: u64) -> anyhow::Result<DynamicImage> {
    let decoded = Source::open(path).and_then(|source| match source {
        Source::Memory(reader) => pixels(reader, limit),
        Source::File(reader) => pixels(reader, limit),
    });
    decoded.with_context(|| unreadable(path))
}

/// Whether a file has 16-bit samples, from its header alone.
pub fn has_deep_samples(path: &Path) -> anyhow::Result<bool> {
    // JPEG has none, and its header is not to be had without all of it.
    let Source::File(reader) = Source::open(path)? else {
        return Ok(false);
    };
    let colour = reader.into_decoder()?.color_type();
    Ok(matches!(
        colour,
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16
    ))
}

fn unreadable(path: &Path) -> String {
    format!("image {} cannot be read", path.display())
}

/// A file that has been found to be whole as far as its outside tells.
enum Source {
    Memory(ImageReader<Cursor<Vec<u8>>>),
    File(ImageReader<BufReader<File>>),
}

impl Source {
    fn open(path: &Path) -> anyhow::Result<Self> {
        // A pipe that nobody writes to would not open otherwise.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(path)?;
        let about = file.metadata()?;
        ensure!(!about.is_dir(), "it is a folder; name the files in it");
        ensure!(about.is_file(), "it is no file but a pipe or device");
        ensure!(about.len() > 0, "the file is empty");
        let mut named = ImageReader::new(BufReader::new(file));
        if let Ok(format) = ImageFormat::from_path(path) {
            named.set_format(format);
        }
        let reader = named.with_guessed_format()?;
        let format = reader.format();
        let mut inner = reader.into_inner();
        match format {
            Some(ImageFormat::Jpeg) => {
                let mut bytes = Vec::new();
                inner.read_to_end(&mut bytes)?;
                ensure!(bytes.starts_with(&[0xff, 0xd8]), "it is no JPEG file");
                jpeg::check(&bytes)?;
                let reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Jpeg);
                return Ok(Self::Memory(reader));
            }
            Some(ImageFormat::Png) => png_is_whole(&mut inner)?,
            Some(ImageFormat::WebP) => webp_is_whole(&mut inner, about.len())?,
            Some(_) => {}
            None => bail!("it is no image of a type that is read"),
        }
        inner.rewind()?;
        let mut reader = ImageReader::new(inner);
        if let Some(format) = format {
            reader.set_format(format);
        }
        Ok(Self::File(reader))
    }
}

/// Goes from chunk to chunk to the one that ends the image: the pixels may be there without it, the check sum of the last ones not.
fn png_is_whole(file: &mut (impl BufRead + Seek)) -> anyhow::Result<()> {
    file.seek(SeekFrom::Start(8))?;
    loop {
        let mut header = [0; 8];
        let cut = "the file is cut off: it has no end of image";
        file.read_exact(&mut header).context(cut)?;
        let [a, b, c, d, name @ ..] = header;
        if &name == b"IEND" {
            // Its check sum.
            return file.read_exact(&mut [0; 4]).context(cut);
        }
        file.seek_relative(i64::from(u32::from_be_bytes([a, b, c, d])) + 4)?;
    }
}

fn webp_is_whole(file: &mut (impl BufRead + Seek), length: u64) -> anyhow::Result<()> {
    file.seek(SeekFrom::Start(4))?;
    let mut size = [0; 4];
    file.read_exact(&mut size)?;
    let needed = u64::from(u32::from_le_bytes(size)) + 8;
    ensure!(
        needed <= length,
        "the file is cut off: it has {length} of {needed} bytes"
    );
    Ok(())
}

fn pixels<R: BufRead + Seek>(
    mut reader: ImageReader<R>,
    limit: u64,
) -> anyhow::Result<DynamicImage> {
    // What is wrong about the size is said in terms of the option.
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(limit.saturating_mul(2).saturating_add(BESIDES));
    reader.limits(limits);
    let mut decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    let bytes = decoder.total_bytes();
    ensure!(
        bytes <= limit,
        "its {width} x {height} pixels take {bytes} bytes decoded, and the limit is {limit}; raise it with --max-image-bytes"
    );
    ensure!(width > 0 && height > 0, "it has no pixels");
    // An orientation that cannot be read is none.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder)?;
    image.apply_orientation(orientation);
    Ok(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A textured picture of a size that fills no group of blocks.
    fn picture() -> DynamicImage {
        let mut random = fastrand::Rng::with_seed(1);
        let pixel = |x: u32, y: u32| image::Rgb([x as u8 * 2, y as u8 * 3, random.u8(..)]);
        image::RgbImage::from_fn(93, 61, pixel).into()
    }

    fn write(format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture().write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn read(bytes: &[u8]) -> Result<DynamicImage, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, bytes).unwrap();
        decode(file.path(), LIMIT).map_err(|error| format!("{error:#}"))
    }

    const FORMATS: [ImageFormat; 6] = [
        ImageFormat::Jpeg,
        ImageFormat::Png,
        ImageFormat::Tiff,
        ImageFormat::Bmp,
        ImageFormat::WebP,
        ImageFormat::Pnm,
    ];

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        for format in FORMATS {
            let whole = write(format);
            let image = read(&whole).unwrap();
            assert_eq!((image.width(), image.height()), (93, 61), "{format:?}");
            // What follows the image does not belong to it.
            let mut more = whole.clone();
            more.extend(b"written by a camera\0\xff\xd8");
            assert_eq!(read(&more).unwrap(), image, "{format:?}");
            let steps = (0..40).map(|step| whole.len() * step / 40);
            for length in steps.chain([whole.len() - 2, whole.len() - 1]) {
                // Formats without an end: the last byte or two may be padding.
                let said = read(&whole[..length]);
                let padding = format == ImageFormat::Bmp && length > whole.len() - 3;
                assert!(padding || said.is_err(), "{format:?} of {length} bytes");
            }
        }
    }

    #[test]
    fn bytes_changed_anywhere_never_panic() {
        let mut random = fastrand::Rng::with_seed(2);
        for format in FORMATS {
            let whole = write(format);
            for _ in 0..300 {
                let mut bytes = whole.clone();
                for _ in 0..random.usize(1..4) {
                    let at = random.usize(..bytes.len());
                    bytes[at] = random.u8(..);
                }
                let _ = read(&bytes);
            }
        }
    }

    #[test]
    fn a_jpeg_that_lacks_a_piece_is_refused_though_it_ends_well() {
        let whole = write(ImageFormat::Jpeg);
        let scan = whole
            .windows(2)
            .position(|pair| pair == [0xff, 0xda])
            .unwrap()
            + 14;
        for share in [5, 20, 50, 80, 95] {
            let at = scan + (whole.len() - scan) * share / 100;
            let cut = [&whole[..at], &[0xff, 0xd9]].concat();
            let said = read(&cut).unwrap_err();
            assert!(said.contains("image data end after"), "{share}: {said}");
            let hole = [&whole[..at], &whole[at + 40..]].concat();
            assert!(share == 95 || read(&hole).is_err(), "{share}");
        }
        let twice = [&whole[..whole.len() - 2], &whole[scan..]].concat();
        let said = read(&twice).unwrap_err();
        assert!(said.contains("more data"), "{said}");
    }

    #[test]
    fn an_image_over_the_limit_names_size_limit_and_option() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, write(ImageFormat::Png)).unwrap();
        let bytes = 93 * 61 * 3;
        decode(file.path(), bytes).unwrap();
        let said = format!("{:#}", decode(file.path(), bytes - 1).unwrap_err());
        for words in [
            "93 x 61",
            "17019 bytes",
            "17018",
            "--max-image-bytes",
            file.path().to_str().unwrap(),
        ] {
            assert!(said.contains(words), "{said}");
        }
    }
}
