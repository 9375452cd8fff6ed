//! Generated pictures of a part: rings on a plain ground with noise, and a dark spot where it is defective.

use anyhow::Context as _;

pub const WIDTH: usize = 1920;
pub const HEIGHT: usize = 1080;
/// Number of the picture that is measured on.
pub const DEFECTIVE: u64 = 1000;

/// The brightness of picture number `seed`, row by row.
pub fn luma(seed: u64, width: usize, height: usize, defective: bool) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let (shift, shade) = (0.01 * (random.f32() - 0.5), 8.0 * (random.f32() - 0.5));
    let mut picture = Vec::with_capacity(width * height);
    for y in 0..height {
        for x in 0..width {
            let u = (x as f32 + 0.5) / width as f32 - 0.5 + shift;
            let v = (y as f32 + 0.5) / height as f32 - 0.5;
            let radius = (u * 1.6).hypot(v);
            let mut value = if radius < 0.4 {
                165.0 + 14.0 * (60.0 * radius).sin()
            } else {
                90.0 + 25.0 * u
            } + shade;
            if defective {
                let spot = (u - 0.1).powi(2) + (v + 0.05).powi(2);
                value -= 110.0 * (-spot / (0.03f32 * 0.03)).exp();
            }
            picture.push((value + 8.0 * (random.f32() - 0.5)) as u8);
        }
    }
    picture
}

/// The same as an NV12 frame of [`WIDTH`] x [`HEIGHT`], without padding.
pub fn nv12(seed: u64, defective: bool) -> Vec<u8> {
    let mut frame = luma(seed, WIDTH, HEIGHT, defective);
    frame.resize(WIDTH * HEIGHT * 3 / 2, 128);
    frame
}

/// What [`nv12`] makes.
pub fn info() -> anyhow::Result<gst_video::VideoInfo> {
    gst::init().context("GStreamer cannot be started")?;
    gst_video::VideoInfo::builder(gst_video::VideoFormat::Nv12, WIDTH as u32, HEIGHT as u32)
        .fps(gst::Fraction::new(30, 1))
        .build()
        .context("1080p NV12 is a valid format")
}
