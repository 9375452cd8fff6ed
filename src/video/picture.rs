//! Raw frames of any format as packed RGB pictures, for files.

use super::frame::{ReadableFrame, WritableFrame};
use gst_video::{VideoConverter, VideoFormat, VideoInfo, VideoInterlaceMode};
use image::RgbImage;
use std::error::Error;

/// The frame as a picture without padding.
///
/// GStreamer's converter trusts its input: it takes a frame at the size of its meta, and of two fields it reads rows that need not be
/// there. So it gets a copy, laid out as GStreamer itself would.
///
/// # Errors
/// A format or interlacing that GStreamer does not convert.
pub fn rgb(frame: &ReadableFrame<'_>) -> Result<RgbImage, Box<dyn Error + Send + Sync>> {
    let info = frame.info();
    let (width, height) = (info.width(), info.field_height());
    let interlacing = match frame.is_interlaced() {
        true => VideoInterlaceMode::Interleaved,
        false => VideoInterlaceMode::Progressive,
    };
    let of = |format| VideoInfo::builder(format, width, height).interlace_mode(interlacing);
    let from = of(info.format())
        .colorimetry(&info.colorimetry())
        .chroma_site(info.chroma_site())
        .build()?;
    let to = of(VideoFormat::Rgb).build()?;
    let source = gst::Buffer::from_mut_slice(copy(frame, &from));
    let source = ReadableFrame::map(&source, &from)?;
    let mut target = gst::Buffer::from_mut_slice(vec![0; to.size()]);
    let converter = VideoConverter::new(&from, &to, None)?;
    let mut writable = WritableFrame::map(target.make_mut(), &to)?;
    converter.frame_ref(source.as_video_frame(), writable.as_video_frame());
    drop(writable);
    let target = ReadableFrame::map(&target, &to)?;
    let pixels = target.rows(0).flatten().copied();
    Ok(
        RgbImage::from_raw(width, height, pixels.collect())
            .ok_or("the picture has another size")?,
    )
}

/// The frame's rows where `info` says.
fn copy(frame: &ReadableFrame<'_>, info: &VideoInfo) -> Vec<u8> {
    let mut data = vec![0; info.size()];
    let (offsets, strides) = (info.offset(), info.stride());
    for (plane, (&start, &stride)) in offsets.iter().zip(strides).enumerate() {
        let end = offsets
            .iter()
            .copied()
            .filter(|&offset| offset > start)
            .min();
        let room = &mut data[start..end.unwrap_or(info.size())];
        let mut last: &[u8] = &[];
        let mut rows = frame.rows(plane);
        // Rows that only fill the height up show what the last one does.
        for place in room.chunks_mut(stride as usize) {
            last = rows.next().unwrap_or(last);
            let bytes = last.len().min(place.len());
            place[..bytes].copy_from_slice(&last[..bytes]);
        }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of two fields the converter takes chroma rows in fours: of a height that is no multiple, one that a tight frame does not have.
    #[test]
    fn two_fields_of_an_odd_number_of_chroma_rows_keep_their_colour() {
        gst::init().unwrap();
        for height in 1..=9 {
            let info = VideoInfo::builder(VideoFormat::I420, 4, height)
                .interlace_mode(VideoInterlaceMode::Interleaved)
                .build()
                .unwrap();
            let rows = [height as usize, info.comp_height(1) as usize];
            // Red, without a byte more than needed.
            let planes = [(4 * rows[0], 82), (2 * rows[1], 90), (2 * rows[1], 240)];
            let data = planes.map(|(bytes, value)| vec![value; bytes]).concat();
            let mut buffer = gst::Buffer::from_mut_slice(data);
            gst_video::VideoMeta::add_full(
                buffer.get_mut().unwrap(),
                gst_video::VideoFrameFlags::empty(),
                VideoFormat::I420,
                4,
                height,
                &[0, planes[0].0, planes[0].0 + planes[1].0],
                &[4, 2, 2],
            )
            .unwrap();
            let picture = rgb(&ReadableFrame::map(&buffer, &info).unwrap()).unwrap();
            assert_eq!(picture.dimensions(), (4, height));
            for image::Rgb([red, green, blue]) in picture.pixels() {
                assert!(
                    *red > 245 && *green < 10 && *blue < 10,
                    "{red} {green} {blue}"
                );
            }
        }
    }
}
