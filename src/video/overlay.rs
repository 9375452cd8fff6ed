//! Draws an anomaly map into a frame, in place and in the frame's own format.
//!
//! A picture row of any format is a row of *lanes* (bytes, or 16-bit words), each of which carries one component at one place of the
//! picture: `R G B x`, `U V U V`, `Y U Y V`. What is to be drawn is made into such rows too, an opacity and a premultiplied colour for each
//! lane, for every eighth row or more often where the map's cells are smaller (`Painter::paint`); one blend for all formats (`blend`) interpolates
//! between them. Lanes without opacity keep their value, and runs of rows and columns without any are not touched.

use std::ops::Range;

use gst_video::{VideoColorMatrix, VideoColorRange, VideoFormat, VideoInfo};

use super::colormap::{ColourSpace, HEAT_FROM, HEAT_TO, heat};
use super::formats;
use super::frame::{PlaneMut, WritableFrame};
use crate::geometry::Roi;
use ndarray::ArrayView2;

/// How an anomaly map is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Transparent up to 0.7 times the threshold, then Turbo's colours from green over yellow at the threshold to red at twice the
    /// threshold, at most 55 % opaque. Grey formats are brightened instead.
    Heatmap,
    /// A red line (grey formats: white) with a dark edge where the map crosses the threshold, 2 pixels wide up to 720 rows and 1/360 of
    /// the height above.
    Contour,
}

/// An anomaly map and where in the frame it lies.
#[derive(Clone, Copy, Debug)]
pub struct MapView<'a> {
    /// Height x width raw scores, 0 or more; those that are not finite draw nothing.
    pub values: ArrayView2<'a, f32>,
    /// The part of the frame that the map covers.
    pub roi: Roi,
}

/// Draws maps into frames and keeps its scratch memory: after the first frame of a size nothing is allocated.
pub struct Overlay {
    painter: Painter,
    /// The painted rows above and below those being blended.
    above: Lanes,
    below: Lanes,
}

/// Longest distance between two painted rows, and the unit of the interpolation between them.
const ROWS: usize = 8;
/// Entries of a shade table.
const LEVELS: usize = 512;

/// What a lane becomes: its value times (256 - opacity) / 256 plus paint / 16, values as if of 8 bits.
#[derive(Clone, Copy, Default)]
struct Shade {
    opacity: u16,
    paint: u16,
}

/// One row of shades, as structure of arrays for the blend's sake. Outside `span` all are zero.
#[derive(Default)]
struct Lanes {
    opacity: Vec<u16>,
    paint: Vec<u16>,
    span: Range<usize>,
}

struct Painter {
    style: Style,
    cells: [usize; 2],
    /// The map: heatmap levels, or the relative score less 1 for contours.
    field: Vec<f32>,
    /// The map's row at the picture row being painted, and its change per pixel downwards (contours).
    line: Vec<f32>,
    slope: Vec<f32>,
    /// Of each component, the first sample from each map column on; see [`Axis::columns`].
    columns: [Vec<usize>; 3],
    /// Runs of samples to be drawn in the row being painted, and their entries in the tables.
    runs: Vec<Range<usize>>,
    levels: Vec<u16>,
    tables: [[Shade; LEVELS]; 3],
    /// What the tables were made for.
    made_for: Option<(VideoFormat, VideoColorRange, VideoColorMatrix, Style, u32)>,
    /// Size of a map cell in pixels, and the distance from the contour up to which something is drawn.
    cell: [f64; 2],
    reach: f32,
}

/// Where one component's samples lie in its plane's lanes and along the map.
struct Component {
    number: usize,
    first_lane: usize,
    lane_step: usize,
    across: Axis,
}

/// Sample `i` lies at `origin + i * step` of the map (in cells, 0 = middle of the first); those in `drawn` are covered by it.
#[derive(PartialEq)]
struct Axis {
    origin: f64,
    step: f64,
    drawn: Range<usize>,
}

impl Default for Overlay {
    fn default() -> Self {
        Self::new()
    }
}

impl Overlay {
    pub fn new() -> Self {
        let painter = Painter {
            style: Style::Heatmap,
            cells: [0; 2],
            field: Vec::new(),
            line: Vec::new(),
            slope: Vec::new(),
            columns: Default::default(),
            runs: Vec::new(),
            levels: Vec::new(),
            tables: [[Shade::default(); LEVELS]; 3],
            made_for: None,
            cell: [0.0; 2],
            reach: 0.0,
        };
        Self {
            painter,
            above: Lanes::default(),
            below: Lanes::default(),
        }
    }

    /// Draws `map` into `frame`; `threshold` is in the map's units.
    ///
    /// Draws nothing if there is nothing sensible to draw: a threshold that is not above 0, an empty map, an empty region, or a format that
    /// is not in [`FORMATS`](formats::FORMATS).
    pub fn draw(
        &mut self,
        frame: &mut WritableFrame<'_>,
        map: MapView<'_>,
        threshold: f32,
        style: Style,
    ) {
        let info = frame.info();
        let format = info.format_info();
        let size = [info.width() as usize, info.field_height() as usize];
        let supported = formats::is_supported(info.format());
        if !supported || !self.painter.set_map(&map, threshold, style, size) {
            return;
        }
        self.painter.set_tables(info);

        // Rows of a field follow each other; a chroma row belongs to luma rows of its own field only.
        let fields = if frame.is_interlaced() { 2 } else { 1 };
        let sample_bytes = format.depth()[0] as usize / 8;

        for plane in 0..info.n_planes() {
            // Alpha is the fourth component. Three at most share a plane.
            let colours = info.n_components().min(3) as u8;
            let components = (0..colours).filter(|&c| info.comp_plane(c) == plane);
            let components: [Option<Component>; 3] = {
                let mut found = components.map(|c| {
                    let pitch = (1u32 << format.w_sub()[c as usize]) as f64;
                    let count = info.comp_width(c) as usize;
                    Component {
                        number: c as usize,
                        first_lane: info.comp_poffset(c) as usize / sample_bytes,
                        lane_step: info.comp_pstride(c) as usize / sample_bytes,
                        across: Axis::new(count, 0.5 * pitch, pitch, size[0], &map, 0),
                    }
                });
                std::array::from_fn(|_| found.next())
            };
            let Some(first) = &components[0] else {
                continue;
            };
            let Some(PlaneMut { data, stride }) = frame.plane_mut(plane as usize) else {
                continue;
            };
            let shift = format.h_sub()[first.number];
            let rows = format.scale_height(first.number as u8, size[1] as u32) as usize;
            for field in 0..fields {
                // Row r lies at the middle of the luma rows fields * (r * height + 0..height) + field.
                let height = (1u32 << shift) as f64;
                let middle = fields as f64 * (height - 1.0) / 2.0 + field as f64 + 0.5;
                let pitch = fields as f64 * height;
                let count = (rows + fields - 1).saturating_sub(field) / fields;
                let down = Axis::new(count, middle, pitch, size[1], &map, 1);
                let lines = data
                    .chunks_mut(stride.max(1))
                    .skip(field)
                    .step_by(fields)
                    .take(count);
                match sample_bytes {
                    1 => self.draw_plane::<1>(lines, &components, &down),
                    _ => self.draw_plane::<2>(lines, &components, &down),
                }
            }
        }
    }

    /// Draws into the rows of one plane, or of one field of it. `BYTES`: size of a lane.
    fn draw_plane<'a, const BYTES: usize>(
        &mut self,
        lines: impl Iterator<Item = &'a mut [u8]>,
        components: &[Option<Component>; 3],
        down: &Axis,
    ) where
        [u8; BYTES]: Lane,
    {
        let step = match self.painter.style {
            Style::Heatmap => [ROWS, 4, 2]
                .into_iter()
                .find(|&rows| rows as f64 * down.step <= 1.0)
                .unwrap_or(1),
            Style::Contour => 1,
        };
        let (painter, above, below) = (&mut self.painter, &mut self.above, &mut self.below);
        for component in components.iter().flatten() {
            let across = &component.across;
            across.columns(painter.cells[0], &mut painter.columns[component.number]);
            let lanes = component.first_lane + across.drawn.end * component.lane_step;
            above.reserve(lanes);
            below.reserve(lanes);
        }
        painter.paint(below, components, down, down.drawn.start);
        let lines = lines.skip(down.drawn.start).take(down.drawn.len());
        for (i, line) in lines.enumerate() {
            if i % step == 0 {
                std::mem::swap(above, below);
                painter.paint(below, components, down, down.drawn.start + i + step);
            }
            blend::<BYTES>(line, above, below, (i % step * (ROWS / step)) as u16);
        }
    }
}

impl Painter {
    /// Takes over the map; false if there is nothing to draw.
    fn set_map(
        &mut self,
        map: &MapView<'_>,
        threshold: f32,
        style: Style,
        size: [usize; 2],
    ) -> bool {
        let Roi {
            x,
            y,
            width: w,
            height: h,
        } = map.roi;
        let sensible = threshold > 0.0
            && threshold.is_finite()
            && [x, y, w, h].iter().all(|v| v.is_finite())
            && w > 0.0
            && h > 0.0;
        if !sensible || map.values.is_empty() {
            return false;
        }
        let (height, width) = map.values.dim();
        self.style = style;
        self.cells = [width, height];
        self.cell = [
            f64::from(w) * size[0] as f64 / width as f64,
            f64::from(h) * size[1] as f64 / height as f64,
        ];
        // A score far above all colours is taken down so that its slope hides no neighbour and fixed point does not overflow.
        let (base, scale) = match style {
            Style::Heatmap => (HEAT_FROM as f32, level_scale()),
            Style::Contour => (1.0, 1.0),
        };
        let mut highest = 0.0f32;
        self.field.clear();
        self.field.extend(map.values.iter().map(|&value| {
            let relative = if value.is_finite() {
                value / threshold
            } else {
                0.0
            };
            let relative = relative.clamp(0.0, 8.0);
            highest = highest.max(relative);
            (relative - base) * scale
        }));
        self.line.resize(width, 0.0);
        self.slope.resize(width, 0.0);
        highest >= base
    }

    /// Makes the shade tables for the frame's format and colorimetry.
    fn set_tables(&mut self, info: &VideoInfo) {
        let colorimetry = info.colorimetry();
        let (range, matrix) = (colorimetry.range(), colorimetry.matrix());
        let wanted = Some((info.format(), range, matrix, self.style, info.height()));
        if self.made_for == wanted {
            return;
        }
        self.made_for = wanted;
        let format = info.format_info();
        let colours = ColourSpace::of(info);
        let half = (info.height() as f64 / 360.0).max(2.0) / 2.0;
        let edge = half.max(1.0);
        // The widest sample is two pixels wide.
        self.reach = (half + edge + 1.0) as f32;
        let shown = info.n_components().min(3) as usize;
        for (number, table) in self.tables.iter_mut().enumerate().take(shown) {
            let subsampled = format.w_sub()[number].max(format.h_sub()[number]);
            let width = (1u32 << subsampled) as f64;
            for (level, shade) in table.iter_mut().enumerate() {
                let part = level as f64 / (LEVELS - 1) as f64;
                let (mut opacity, mut paint) = (0.0, 0.0);
                match self.style {
                    Style::Heatmap => {
                        let score = HEAT_FROM + part * (HEAT_TO - HEAT_FROM);
                        let (alpha, rgb) = heat(score);
                        opacity = alpha;
                        paint = alpha * colours.component(number, rgb);
                    }
                    Style::Contour => {
                        // What a sample shows is the mean over its own width.
                        const PARTS: usize = 16;
                        for i in 0..PARTS {
                            let shift = ((i as f64 + 0.5) / PARTS as f64 - 0.5) * width;
                            let distance = (part * f64::from(self.reach) + shift).abs();
                            let (alpha, rgb) = if distance < half {
                                (1.0, [1.0, 0.0, 0.0])
                            } else if distance < half + edge {
                                (0.5, [0.0; 3])
                            } else {
                                continue;
                            };
                            opacity += alpha / PARTS as f64;
                            paint += alpha * colours.component(number, rgb) / PARTS as f64;
                        }
                    }
                }
                let rounded = (opacity * 256.0).round();
                let colour = if opacity > 0.0 { paint / opacity } else { 0.0 };
                *shade = Shade {
                    opacity: rounded as u16,
                    paint: (colour * rounded / 16.0) as u16,
                };
            }
        }
    }

    /// Makes the shades of picture row `row` of `down`.
    fn paint(
        &mut self,
        lanes: &mut Lanes,
        components: &[Option<Component>; 3],
        down: &Axis,
        row: usize,
    ) {
        lanes.clear();
        self.interpolate_rows(down.origin + row as f64 * down.step);
        let mut levelled = None;
        for component in components.iter().flatten() {
            if levelled != Some(&component.across) {
                self.find_levels(component.number, &component.across);
                levelled = Some(&component.across);
            }
            let table = &self.tables[component.number];
            let step = component.lane_step;
            for run in &self.runs {
                let first = component.first_lane + run.start * step;
                lanes.span = join(&lanes.span, &(first..first + (run.len() - 1) * step + 1));
                let opacity = &mut lanes.opacity[first..][..run.len() * step];
                let paint = &mut lanes.paint[first..][..run.len() * step];
                let levels = &self.levels[run.clone()];
                match step {
                    1 => shade::<1>(opacity, paint, levels, table),
                    2 => shade::<2>(opacity, paint, levels, table),
                    3 => shade::<3>(opacity, paint, levels, table),
                    4 => shade::<4>(opacity, paint, levels, table),
                    _ => unreachable!("no format has samples {step} lanes apart"),
                }
            }
        }
    }

    /// Which samples of the current line are to be drawn, and the entries of the shade tables for them.
    fn find_levels(&mut self, component: usize, across: &Axis) {
        self.runs.clear();
        if self.levels.len() < across.drawn.end {
            self.levels.resize(across.drawn.end, 0);
        }
        let columns = &self.columns[component];
        for column in 0..=self.cells[0] {
            let samples = columns[column]..columns[column + 1];
            // Halves of the first and last cell have no neighbour: constant.
            let cells = (column.saturating_sub(1), column.min(self.cells[0] - 1));
            if samples.is_empty() || !self.visible(cells) {
                continue;
            }
            let at = across.origin + samples.start as f64 * across.step + 1.0 - column as f64;
            let levels = &mut self.levels[samples.clone()];
            let (a, b) = (self.line[cells.0], self.line[cells.1]);
            let (at, step) = (at as f32, across.step as f32);
            match self.style {
                Style::Heatmap => heat_levels(levels, (a, b), at, step),
                Style::Contour => {
                    let rightwards = (b - a) / self.cell[0] as f32;
                    let down = (self.slope[cells.0], self.slope[cells.1]);
                    contour_levels(levels, (a, b), rightwards, down, at, step, self.reach);
                }
            }
            match self.runs.last_mut() {
                Some(run) if run.end == samples.start => run.end = samples.end,
                _ => self.runs.push(samples),
            }
        }
    }

    /// The map's values, and for contours their change per pixel, along its row `at`.
    fn interpolate_rows(&mut self, at: f64) {
        let [width, height] = self.cells;
        let inside = at.clamp(0.0, (height - 1) as f64);
        // Above the first cells' middles and below the last ones' the map is constant.
        let per_pixel = if inside == at {
            (1.0 / self.cell[1]) as f32
        } else {
            0.0
        };
        let at = inside;
        let upper = at as usize;
        let lower = (upper + 1).min(height - 1);
        let fraction = (at - upper as f64) as f32;
        let upper = &self.field[upper * width..][..width];
        let lower = &self.field[lower * width..][..width];
        for (((value, slope), a), b) in self
            .line
            .iter_mut()
            .zip(&mut self.slope)
            .zip(upper)
            .zip(lower)
        {
            *value = a + (b - a) * fraction;
            *slope = (b - a) * per_pixel;
        }
    }

    /// Whether something may have to be drawn between the two cells of the current line.
    fn visible(&self, (left, right): (usize, usize)) -> bool {
        let (a, b) = (self.line[left], self.line[right]);
        match self.style {
            Style::Heatmap => a > 0.0 || b > 0.0,
            Style::Contour => {
                let across = (b - a) / self.cell[0] as f32;
                let down = self.slope[left].abs().max(self.slope[right].abs());
                a.signum() != b.signum()
                    || a.abs().min(b.abs()) < self.reach * (across.abs() + down)
            }
        }
    }
}

/// Looks up the shades of one component, whose lanes are `STEP` apart.
#[inline(never)]
fn shade<const STEP: usize>(
    opacity: &mut [u16],
    paint: &mut [u16],
    levels: &[u16],
    table: &[Shade; LEVELS],
) {
    let opacity = opacity.as_chunks_mut::<STEP>().0;
    let paint = paint.as_chunks_mut::<STEP>().0;
    for ((opacity, paint), level) in opacity.iter_mut().zip(paint).zip(levels) {
        let shade = table[usize::from(*level) % LEVELS];
        (opacity[0], paint[0]) = (shade.opacity, shade.paint);
    }
}

/// Levels of samples `at`, `at + step`, … of the way from one cell to the next, whose levels are `a` and `b`.
fn heat_levels(levels: &mut [u16], (a, b): (f32, f32), at: f32, step: f32) {
    const ONE: f32 = 65536.0;
    let first = ((a + (b - a) * at) * ONE) as i32;
    let step = ((b - a) * step * ONE) as i32;
    for (i, level) in levels.iter_mut().enumerate() {
        let value = first.wrapping_add(step.wrapping_mul(i as i32));
        *level = ((value >> 16) as i16).clamp(0, LEVELS as i16 - 1) as u16;
    }
}

/// Levels by distance from the line to first order: the value above the threshold over the length of its gradient.
fn contour_levels(
    levels: &mut [u16],
    (a, b): (f32, f32),
    rightwards: f32,
    down: (f32, f32),
    at: f32,
    step: f32,
    reach: f32,
) {
    let last = (LEVELS - 1) as f32;
    for (i, level) in levels.iter_mut().enumerate() {
        let at = at + i as f32 * step;
        let value = a + (b - a) * at;
        let down = down.0 + (down.1 - down.0) * at;
        let distance = value.abs() / (rightwards * rightwards + down * down).sqrt();
        // On a plateau at the threshold 0 / 0, for which `min` gives the last level: nothing.
        *level = (distance * (last / reach)).min(last) as i32 as u16;
    }
}

impl Axis {
    /// `count` samples, the first at `middle` and one each `pitch` pixels, along dimension 0 (x) or 1 (y) of the map.
    fn new(
        count: usize,
        middle: f64,
        pitch: f64,
        pixels: usize,
        map: &MapView<'_>,
        dimension: usize,
    ) -> Self {
        let pixels = pixels as f64;
        let (start, length) = match dimension {
            0 => (map.roi.x, map.roi.width),
            _ => (map.roi.y, map.roi.height),
        };
        let (start, length) = (f64::from(start), f64::from(length));
        let (height, width) = map.values.dim();
        let cells = [width, height][dimension] as f64;
        let sample_at =
            |part: f64| (((part * pixels - middle) / pitch).ceil().max(0.0) as usize).min(count);
        // The last chroma sample of an odd size lies outside the picture and yet belongs to it.
        let end = if start + length > 1.0 - 1e-6 {
            count
        } else {
            sample_at(start + length)
        };
        Self {
            origin: (middle / pixels - start) / length * cells - 0.5,
            step: pitch / pixels / length * cells,
            drawn: sample_at(start).min(end)..end,
        }
    }

    /// Into `columns`, for each of the `cells` + 1 stretches between the middles of neighbouring cells (before the first and after the last
    /// included), its first sample; the end of the last stretch follows.
    fn columns(&self, cells: usize, columns: &mut Vec<usize>) {
        columns.clear();
        columns.push(self.drawn.start);
        columns.extend((0..cells).map(|cell| {
            let sample = ((cell as f64 - self.origin) / self.step).ceil();
            (sample.max(0.0) as usize).clamp(self.drawn.start, self.drawn.end)
        }));
        columns.push(self.drawn.end);
    }
}

impl Lanes {
    fn clear(&mut self) {
        self.opacity[self.span.clone()].fill(0);
        self.paint[self.span.clone()].fill(0);
        self.span = 0..0;
    }

    fn reserve(&mut self, lanes: usize) {
        if self.opacity.len() < lanes {
            self.opacity.resize(lanes, 0);
            self.paint.resize(lanes, 0);
        }
    }
}

/// The shortest range that holds both.
fn join(a: &Range<usize>, b: &Range<usize>) -> Range<usize> {
    if a.is_empty() || b.is_empty() {
        return if a.is_empty() { b.clone() } else { a.clone() };
    }
    a.start.min(b.start)..a.end.max(b.end)
}

/// The bytes of a lane.
trait Lane {
    /// `keep` 256ths of the value plus `paint` 256ths of an 8-bit value.
    fn mix(&mut self, keep: u16, paint: u16);
}

impl Lane for [u8; 1] {
    #[inline(always)]
    fn mix(&mut self, keep: u16, paint: u16) {
        // At most 65280 for what is kept and painted, 96 for the opacity's rounding and 128 for this one's: no overflow.
        self[0] = ((u16::from(self[0]) * keep + paint + 128) >> 8) as u8;
    }
}

impl Lane for [u8; 2] {
    #[inline(always)]
    fn mix(&mut self, keep: u16, paint: u16) {
        let value = u32::from(u16::from_le_bytes(*self)) * u32::from(keep) + u32::from(paint) * 257;
        *self = (((value + 128) >> 8).min(0xffff) as u16).to_le_bytes();
    }
}

/// Blends into one row what lies `fraction` / 8 of the way from `above` to `below`.
fn blend<const BYTES: usize>(row: &mut [u8], above: &Lanes, below: &Lanes, fraction: u16)
where
    [u8; BYTES]: Lane,
{
    let span = join(&above.span, &below.span);
    let Some(row) = row.get_mut(span.start * BYTES..span.end * BYTES) else {
        return;
    };
    let (lanes, _) = row.as_chunks_mut::<BYTES>();
    let (near, far) = (ROWS as u16 - fraction, fraction);
    let above = (&above.opacity[span.clone()], &above.paint[span.clone()]);
    let below = (&below.opacity[span.clone()], &below.paint[span]);
    let shades = above.0.iter().zip(above.1).zip(below.0.iter().zip(below.1));
    for (lane, ((opacity_a, paint_a), (opacity_b, paint_b))) in lanes.iter_mut().zip(shades) {
        let opacity = (opacity_a * near + opacity_b * far + 4) >> 3;
        let paint = (paint_a * near + paint_b * far) * 2;
        lane.mix(256 - opacity, paint);
    }
}

/// Levels per relative score.
fn level_scale() -> f32 {
    (LEVELS - 1) as f32 / (HEAT_TO - HEAT_FROM) as f32
}
