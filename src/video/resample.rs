//! Antialiased bilinear resampling of one plane, without allocation and without rounding in between.
//!
//! The filter is a triangle that widens with the reduction (Pillow's `BILINEAR`, torchvision's `antialias=True`). The vertical pass
//! treats a row as a run of samples, whatever their interleaving, so packed and semi-planar formats need no unpacking at full size.

/// Weights are padded to whole groups of this many, so that the horizontal pass has no remainder.
pub const LANES: usize = 8;

/// The weights of one axis: each output is a weighted sum of `count` inputs from `start`.
#[derive(Debug, Clone)]
pub struct Axis {
    starts: Vec<u32>,
    counts: Vec<u32>,
    weights: Vec<f32>,
    /// Weights per output, a multiple of [`LANES`].
    pitch: usize,
}

impl Axis {
    /// `outputs` samples spread over the part `from..to` (in input samples, edges at whole numbers) of `inputs` samples.
    pub fn new(inputs: usize, (from, to): (f64, f64), outputs: usize) -> Self {
        let scale = (to - from) / outputs as f64;
        let support = scale.max(1.0);
        let ranges: Vec<(usize, usize)> = (0..outputs)
            .map(|output| {
                let centre = from + (output as f64 + 0.5) * scale;
                let start = ((centre - support + 0.5).max(0.0) as usize).min(inputs - 1);
                let end = ((centre + support + 0.5).max(0.0) as usize).min(inputs);
                (start, end.max(start + 1))
            })
            .collect();
        let pitch = ranges
            .iter()
            .map(|(start, end)| end - start)
            .max()
            .unwrap_or(1)
            .next_multiple_of(LANES);
        let mut weights = vec![0.0; outputs * pitch];
        for ((output, &(start, end)), row) in ranges
            .iter()
            .enumerate()
            .zip(weights.chunks_exact_mut(pitch))
        {
            let centre = from + (output as f64 + 0.5) * scale;
            let triangle =
                |input: usize| (1.0 - ((input as f64 + 0.5 - centre) / support).abs()).max(0.0);
            let total: f64 = (start..end).map(triangle).sum();
            for (weight, input) in row.iter_mut().zip(start..end) {
                // A window outside of the samples (a shifted chroma plane of one sample) takes the nearest.
                *weight = if total > 0.0 {
                    (triangle(input) / total) as f32
                } else {
                    1.0 / (end - start) as f32
                };
            }
        }
        let (starts, counts) = ranges
            .iter()
            .map(|&(start, end)| (start as u32, (end - start) as u32))
            .unzip();
        Self {
            starts,
            counts,
            weights,
            pitch,
        }
    }

    /// First input of the whole axis, and one past the last.
    pub fn range(&self) -> (usize, usize) {
        let start = self.starts.iter().min().copied().unwrap_or(0);
        let end = self
            .starts
            .iter()
            .zip(&self.counts)
            .map(|(start, count)| start + count)
            .max()
            .unwrap_or(0);
        (start as usize, end as usize)
    }

    fn window(&self, output: usize) -> (usize, &[f32]) {
        let weights = &self.weights[output * self.pitch..][..self.counts[output] as usize];
        (self.starts[output] as usize, weights)
    }
}

/// Row `output` of the vertical pass over 8-bit samples: `out[i]` = weighted sum of `plane[row * stride + first + i]`.
pub fn vertical_u8(
    plane: &[u8],
    stride: usize,
    first: usize,
    axis: &Axis,
    output: usize,
    out: &mut [f32],
) {
    let (start, weights) = axis.window(output);
    sum_rows_u8(&plane[start * stride + first..], stride, weights, out);
}

/// The same over little-endian 16-bit samples; `stride` and `first` in bytes.
pub fn vertical_u16(
    plane: &[u8],
    stride: usize,
    first: usize,
    axis: &Axis,
    output: usize,
    out: &mut [f32],
) {
    let (start, weights) = axis.window(output);
    sum_rows_u16(&plane[start * stride + first..], stride, weights, out);
}

/// Sums are kept for this many samples at a time: a few registers, while all rows pass by.
const BLOCK: usize = 32;

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw", "x86_64+avx2+fma"))]
fn sum_rows_u8(plane: &[u8], stride: usize, weights: &[f32], out: &mut [f32]) {
    let samples = out.len();
    let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
    for (index, block) in blocks.iter_mut().enumerate() {
        let mut sums = [0.0f32; BLOCK];
        for (row, &weight) in weights.iter().enumerate() {
            let source = &plane[row * stride + index * BLOCK..][..BLOCK];
            for (sum, &sample) in sums.iter_mut().zip(source) {
                *sum += weight * f32::from(sample);
            }
        }
        *block = sums;
    }
    let done = samples - rest.len();
    rest.fill(0.0);
    for (row, &weight) in weights.iter().enumerate() {
        for (sum, &sample) in rest.iter_mut().zip(&plane[row * stride + done..]) {
            *sum += weight * f32::from(sample);
        }
    }
}

#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw", "x86_64+avx2+fma"))]
fn sum_rows_u16(plane: &[u8], stride: usize, weights: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    for (row, &weight) in weights.iter().enumerate() {
        let (samples, _) = plane[row * stride..].as_chunks::<2>();
        for (sum, &sample) in out.iter_mut().zip(samples) {
            *sum += weight * f32::from(u16::from_le_bytes(sample));
        }
    }
}

/// Every `pitch`-th sample (2 to 4) of a row, which has to hold `pitch` samples for each of `out`.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw", "x86_64+avx2+fma"))]
pub fn deinterleave(row: &[f32], pitch: usize, out: &mut [f32]) {
    // One loop for each pitch, so that the compiler can use shuffles.
    fn take<const PITCH: usize>(row: &[f32], out: &mut [f32]) {
        let (groups, _) = row.as_chunks::<PITCH>();
        for (out, group) in out.iter_mut().zip(groups) {
            *out = group[0];
        }
    }
    match pitch {
        2 => take::<2>(row, out),
        3 => take::<3>(row, out),
        _ => take::<4>(row, out),
    }
}

/// The horizontal pass over one row whose first sample is input `origin` of the axis. `line` needs [`LANES`] readable samples
/// beyond its last; what they hold does not matter as long as it is finite.
#[multiversion::multiversion(targets("x86_64+avx512f+avx512bw", "x86_64+avx2+fma"))]
pub fn horizontal(line: &[f32], origin: usize, axis: &Axis, out: &mut [f32]) {
    for ((out, &start), weights) in out
        .iter_mut()
        .zip(&axis.starts)
        .zip(axis.weights.chunks_exact(axis.pitch))
    {
        let mut sums = [0.0f32; LANES];
        let (weights, _) = weights.as_chunks::<LANES>();
        let (samples, _) = line[start as usize - origin..].as_chunks::<LANES>();
        for (samples, weights) in samples.iter().zip(weights) {
            for lane in 0..LANES {
                sums[lane] += samples[lane] * weights[lane];
            }
        }
        *out = sums.iter().sum();
    }
}

/// How many samples a line needs beyond the axis' range so that whole groups can be read from every start.
pub fn padding(axis: &Axis) -> usize {
    axis.pitch + LANES
}
