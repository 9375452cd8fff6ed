//! From a raw frame in the camera's own format to the normalised image tensor of the backbone.
//!
//! Every component is resampled as it lies in memory to the small size; colour conversion happens there. Nothing is allocated per
//! frame, and no full-size RGB picture is ever made. Files and frames go through here alike.

use super::formats;
use super::resample::{self, Axis};
use crate::detector::taps::Normalization;
use crate::geometry::{Roi, Size};
use gst_video::VideoFormat;
use ndarray::{Array3, ArrayViewMut3};

/// One colour component: where its samples lie in memory.
#[derive(Debug, Clone, Copy)]
struct Component {
    plane: usize,
    /// Offset of the first sample and distance of neighbours, in samples.
    offset: usize,
    pitch: usize,
    /// Subsampling as a power of two, and where in 0..1 of its own size the sample sits off the block's centre.
    sub: (u32, u32),
    shift: (f64, f64),
}

/// How the three components become RGB in 0..255.
#[derive(Debug, Clone, Copy)]
enum Color {
    Rgb,
    Gray {
        offset: f32,
        scale: f32,
    },
    Yuv {
        offset: f32,
        scale: f32,
        chroma_scale: f32,
        kr: f32,
        kb: f32,
    },
}

/// Where the samples of a picture lie, whatever its source.
#[derive(Debug, Clone)]
pub struct Layout {
    width: usize,
    height: usize,
    components: Vec<Component>,
    color: Color,
    sixteen_bit: bool,
}

impl Layout {
    /// The layout of a GStreamer format; `None` for one that is not in [`formats::FORMATS`], or a frame without pixels.
    pub fn from_info(info: &gst_video::VideoInfo) -> Option<Self> {
        use VideoFormat as F;
        let format = info.format();
        let sixteen_bit = format == F::Gray16Le;
        if !formats::is_supported(format) || !info.is_valid() {
            return None;
        }
        let shape = info.format_info();
        let sample_bytes = if sixteen_bit { 2 } else { 1 };
        let site = info.chroma_site();
        let sited = |flag, sub: u32| {
            if sub > 0 && site.contains(flag) {
                0.25
            } else {
                0.0
            }
        };
        let components = (0..if shape.is_gray() { 1 } else { 3 })
            .map(|component| {
                let sub = (shape.w_sub()[component], shape.h_sub()[component]);
                Component {
                    plane: shape.plane()[component] as usize,
                    offset: shape.poffset()[component] as usize / sample_bytes,
                    pitch: shape.pixel_stride()[component] as usize / sample_bytes,
                    sub,
                    shift: (
                        sited(gst_video::VideoChromaSite::H_COSITED, sub.0),
                        sited(gst_video::VideoChromaSite::V_COSITED, sub.1),
                    ),
                }
            })
            .collect();
        let limited = info.colorimetry().range() == gst_video::VideoColorRange::Range16_235;
        let to_full = if sixteen_bit { 255.0 / 65535.0 } else { 1.0 };
        let (offset, scale) = if limited {
            (16.0 / to_full, 255.0 / 219.0 * to_full)
        } else {
            (0.0, to_full)
        };
        let color = if shape.is_rgb() {
            Color::Rgb
        } else if shape.is_gray() {
            Color::Gray { offset, scale }
        } else {
            // A camera that does not say is taken for BT.601, as GStreamer does.
            let (kr, kb) = info
                .colorimetry()
                .matrix()
                .kr_kb()
                .unwrap_or((0.299, 0.114));
            Color::Yuv {
                offset,
                scale,
                chroma_scale: if limited { 255.0 / 224.0 } else { 1.0 },
                kr: kr as f32,
                kb: kb as f32,
            }
        };
        Some(Self {
            width: info.width() as usize,
            // Where each buffer holds one field, its rows.
            height: info.field_height() as usize,
            components,
            color,
            sixteen_bit,
        })
    }

    /// Interleaved samples of `channels` (1: grey, 3 or 4: RGB and an ignored fourth), full range; `sixteen_bit`: little-endian.
    pub fn interleaved(width: usize, height: usize, channels: usize, sixteen_bit: bool) -> Self {
        let component = |offset| Component {
            plane: 0,
            offset,
            pitch: channels,
            sub: (0, 0),
            shift: (0.0, 0.0),
        };
        let color = match (channels, sixteen_bit) {
            (1, true) => Color::Gray {
                offset: 0.0,
                scale: 255.0 / 65535.0,
            },
            (1, false) => Color::Gray {
                offset: 0.0,
                scale: 1.0,
            },
            _ => Color::Rgb,
        };
        Self {
            width,
            height,
            components: (0..channels.min(3)).map(component).collect(),
            color,
            sixteen_bit,
        }
    }
}

/// Why the planes of a picture cannot be made a tensor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlaneError {
    #[error("plane {plane} is missing")]
    Missing { plane: usize },
    #[error("plane {plane} holds {bytes} bytes, and this format and size need {needed}")]
    Short {
        plane: usize,
        bytes: usize,
        needed: usize,
    },
    #[error("the tensor is {shape:?}, and 3 x height x width of {size} are needed, row-major")]
    Tensor {
        shape: (usize, usize, usize),
        size: Size,
    },
}

/// One plane of a picture: its bytes from the first row on and the distance of rows in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Plane<'a> {
    pub data: &'a [u8],
    pub stride: usize,
}

/// What the tensor has to look like.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub size: Size,
    pub normalization: Normalization,
    /// The inspected part of the picture.
    pub roi: Roi,
}

impl Target {
    /// A tensor to fill: 3 x height x width.
    pub fn tensor(&self) -> Array3<f32> {
        Array3::zeros((3, self.size.height, self.size.width))
    }
}

struct Plan {
    component: Component,
    rows: Axis,
    columns: Axis,
    /// Samples of a row that the vertical pass has to make: first and number.
    first: usize,
    samples: usize,
}

/// Prepared for one layout and one target; keeps its buffers.
pub struct Preprocess {
    layout: Layout,
    target: Target,
    plans: Vec<Plan>,
    /// One row after the vertical pass, as interleaved as the plane is, and one component of it.
    row: Vec<f32>,
    line: Vec<f32>,
}

impl Preprocess {
    pub fn new(layout: Layout, target: Target) -> Self {
        let [x, y, width, height] = <[f32; 4]>::from(target.roi).map(f64::from);
        let plans: Vec<Plan> = layout
            .components
            .iter()
            .map(|&component| {
                let axis =
                    |full: usize, sub: u32, shift: f64, from: f64, length: f64, outputs: usize| {
                        let scale = full as f64 / f64::from(1u32 << sub);
                        Axis::new(
                            full.div_ceil(1 << sub),
                            (
                                from * scale + shift,
                                (from + length).min(1.0) * scale + shift,
                            ),
                            outputs,
                        )
                    };
                let rows = axis(
                    layout.height,
                    component.sub.1,
                    component.shift.1,
                    y,
                    height,
                    target.size.height,
                );
                let columns = axis(
                    layout.width,
                    component.sub.0,
                    component.shift.0,
                    x,
                    width,
                    target.size.width,
                );
                let (start, end) = columns.range();
                let first = component.offset + start * component.pitch;
                Plan {
                    component,
                    rows,
                    first,
                    samples: (end - start - 1) * component.pitch + 1,
                    columns,
                }
            })
            .collect();
        let longest = plans
            .iter()
            .map(|plan| plan.samples + resample::padding(&plan.columns))
            .max()
            .unwrap_or(0);
        // Components of one interleaved plane share the vertical pass, which then covers the samples of all.
        Self {
            layout,
            target,
            plans,
            row: vec![0.0; longest + 4],
            line: vec![0.0; longest + 4],
        }
    }

    /// Takes the largest number of so many bits for white, where samples have 16: what a camera of 10 or 12 bits delivers. `None`: 16.
    pub fn of_bits(mut self, bits: Option<u8>) -> Self {
        if let (Color::Gray { offset, scale }, true, Some(bits @ 1..=16)) =
            (&mut self.layout.color, self.layout.sixteen_bit, bits)
        {
            let brighter = 65535.0 / ((1u32 << bits) - 1) as f32;
            *offset /= brighter;
            *scale *= brighter;
        }
        self
    }

    /// Fills `out` (3 x height x width of the target, RGB, normalised) from the picture's planes.
    ///
    /// # Errors
    /// A plane that is missing or too short for the layout, or a tensor of another shape.
    pub fn run(
        &mut self,
        planes: &[Plane<'_>],
        mut out: ArrayViewMut3<'_, f32>,
    ) -> Result<(), PlaneError> {
        self.check(planes)?;
        let Size { height, width } = self.target.size;
        let shape = out.dim();
        let out = out
            .as_slice_mut()
            .filter(|_| shape == (3, height, width))
            .ok_or(PlaneError::Tensor {
                shape,
                size: self.target.size,
            })?;
        let pixels = self.target.size.area();
        let mut component = 0;
        while component < self.plans.len() {
            let shared = self.sharing(component);
            self.resample(
                planes,
                component..component + shared,
                &mut out[component * pixels..],
            );
            component += shared;
        }
        self.colorize(out);
        Ok(())
    }

    fn check(&self, planes: &[Plane<'_>]) -> Result<(), PlaneError> {
        let bytes = if self.layout.sixteen_bit { 2 } else { 1 };
        for plan in &self.plans {
            let plane = plan.component.plane;
            let held = planes.get(plane).ok_or(PlaneError::Missing { plane })?;
            let before = held.stride.saturating_mul(plan.rows.range().1 - 1);
            let needed = before.saturating_add((plan.first + plan.samples) * bytes);
            if held.data.len() < needed {
                return Err(PlaneError::Short {
                    plane,
                    bytes: held.data.len(),
                    needed,
                });
            }
        }
        Ok(())
    }

    /// How many components from this one on lie in the same plane with the same axes, so that one vertical pass serves them all.
    fn sharing(&self, first: usize) -> usize {
        let key = |plan: &Plan| {
            (
                plan.component.plane,
                plan.component.sub,
                plan.component.pitch,
            )
        };
        self.plans[first..]
            .iter()
            .take_while(|plan| key(plan) == key(&self.plans[first]))
            .count()
    }

    fn resample(
        &mut self,
        planes: &[Plane<'_>],
        components: std::ops::Range<usize>,
        out: &mut [f32],
    ) {
        let plans = &self.plans[components];
        let Size { height, width } = self.target.size;
        let plane = planes[plans[0].component.plane];
        let first = plans.iter().map(|plan| plan.first).min().unwrap_or(0);
        let end = plans
            .iter()
            .map(|plan| plan.first + plan.samples)
            .max()
            .unwrap_or(0);
        let origin = plans[0].columns.range().0;
        for y in 0..height {
            let row = &mut self.row[..end - first];
            if self.layout.sixteen_bit {
                resample::vertical_u16(plane.data, plane.stride, first * 2, &plans[0].rows, y, row);
            } else {
                resample::vertical_u8(plane.data, plane.stride, first, &plans[0].rows, y, row);
            }
            for (index, plan) in plans.iter().enumerate() {
                let samples = &self.row[plan.first - first..];
                let length = plan.samples.div_ceil(plan.component.pitch);
                let line = match plan.component.pitch {
                    1 => samples,
                    pitch => {
                        resample::deinterleave(samples, pitch, &mut self.line[..length]);
                        &self.line
                    }
                };
                let out = &mut out[(index * height + y) * width..][..width];
                resample::horizontal(
                    &line[..length + resample::padding(&plan.columns)],
                    origin,
                    &plan.columns,
                    out,
                );
            }
        }
    }

    /// Turns resampled components, in place, into normalised RGB.
    fn colorize(&self, out: &mut [f32]) {
        let pixels = self.target.size.area();
        let (first, rest) = out.split_at_mut(pixels);
        let (second, third) = rest.split_at_mut(pixels);
        let Normalization { mean, std } = self.target.normalization;
        let gain = std.map(|std| 1.0 / (255.0 * std));
        let bias: [f32; 3] = std::array::from_fn(|channel| -mean[channel] / std[channel]);
        match self.layout.color {
            Color::Rgb => {
                // Sixteen bits of colour exist in files only, and are made eight there.
                for (channel, plane) in [first, second, third].into_iter().enumerate() {
                    plane
                        .iter_mut()
                        .for_each(|value| *value = *value * gain[channel] + bias[channel]);
                }
            }
            Color::Gray { offset, scale } => {
                for ((a, b), c) in first.iter_mut().zip(second).zip(third) {
                    let grey = ((*a - offset) * scale).clamp(0.0, 255.0);
                    (*a, *b, *c) = (
                        grey * gain[0] + bias[0],
                        grey * gain[1] + bias[1],
                        grey * gain[2] + bias[2],
                    );
                }
            }
            Color::Yuv {
                offset,
                scale,
                chroma_scale,
                kr,
                kb,
            } => {
                let (red, blue) = (
                    2.0 * (1.0 - kr) * chroma_scale,
                    2.0 * (1.0 - kb) * chroma_scale,
                );
                let (green_u, green_v) =
                    (-blue * kb / (1.0 - kr - kb), -red * kr / (1.0 - kr - kb));
                for ((a, b), c) in first.iter_mut().zip(second).zip(third) {
                    let (luma, u, v) = ((*a - offset) * scale, *b - 128.0, *c - 128.0);
                    let rgb = [
                        luma + red * v,
                        luma + green_u * u + green_v * v,
                        luma + blue * u,
                    ]
                    .map(|value| value.clamp(0.0, 255.0));
                    (*a, *b, *c) = (
                        rgb[0] * gain[0] + bias[0],
                        rgb[1] * gain[1] + bias[1],
                        rgb[2] * gain[2] + bias[2],
                    );
                }
            }
        }
    }
}
