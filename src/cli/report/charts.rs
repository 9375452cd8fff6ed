//! The report's charts: where the templates `curve.svg` and `histogram.svg` draw what.

use crate::detector::metrics::CurvePoint;
use std::fmt::Write as _;

/// Left, top, width and height of a curve's plot in its picture.
pub const PLOT: [f64; 4] = [46.0, 10.0, 304.0, 254.0];
const PICTURE: [f64; 2] = [360.0, 308.0];
const BINS: usize = 48;
/// Of the histogram, in units of its own.
const HEIGHT: f64 = 200.0;
/// Points of a curve closer than this in both directions are drawn as one.
const FINEST: f64 = 0.004;

/// The axis of the scores: logarithmic where they span more than a decade.
#[derive(serde::Serialize)]
pub struct ScoreAxis {
    log: bool,
    from: f64,
    to: f64,
}

impl ScoreAxis {
    pub fn over(scores: &[f32], threshold: f32) -> Self {
        let positive = scores
            .iter()
            .chain([&threshold])
            .filter(|&&score| score > 0.0)
            .map(|&score| f64::from(score));
        let (least, most) = positive.fold((f64::MAX, f64::MIN_POSITIVE), |(least, most), score| {
            (least.min(score), most.max(score))
        });
        let least = least.min(most);
        Self {
            log: most > 10.0 * least,
            from: least * 0.95,
            to: most * 1.05,
        }
    }

    /// Where a score lies, from 0 to 1 along the axis.
    pub fn part(&self, score: f64) -> f64 {
        let part = if self.log {
            (score / self.from).ln() / (self.to / self.from).ln()
        } else {
            (score - self.from) / (self.to - self.from)
        };
        part.clamp(0.0, 1.0)
    }

    fn score(&self, part: f64) -> f64 {
        if self.log {
            self.from * (self.to / self.from).powf(part)
        } else {
            self.from + part * (self.to - self.from)
        }
    }

    /// The numbers below the histogram, and where each stands from 0 to 1 along the axis.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let marks = self.marks().into_iter();
        marks.map(|mark| (self.part(mark), short(mark))).collect()
    }

    /// Round scores, some four to nine of them.
    fn marks(&self) -> Vec<f64> {
        let inside = |&mark: &f64| (self.from..=self.to).contains(&mark);
        if self.log {
            let decades = self.from.log10().floor() as i32..=self.to.log10().floor() as i32;
            let steps: &[f64] = match decades.clone().count() {
                ..=3 => &[1.0, 2.0, 5.0],
                _ => &[1.0],
            };
            return decades
                .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
                .filter(inside)
                .collect();
        }
        let rough = (self.to - self.from) / 6.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * decade);
        let step = step
            .into_iter()
            .find(|&step| step >= rough)
            .unwrap_or(rough);
        let first = (self.from / step).ceil() as i64;
        (first..first + 12)
            .map(|number| number as f64 * step)
            .filter(inside)
            .collect()
    }
}

/// The curve up to a false positive rate of `limit`, without points that nobody could tell apart.
pub fn thin(curve: &[CurvePoint], limit: f64) -> Vec<CurvePoint> {
    let mut thinned: Vec<CurvePoint> = Vec::new();
    for (i, point) in curve.iter().enumerate() {
        let Some(last) = thinned.last() else {
            thinned.push(*point);
            continue;
        };
        if point.false_positive_rate > limit {
            let before = curve[i - 1];
            let step = point.false_positive_rate - before.false_positive_rate;
            let part = (limit - before.false_positive_rate) / step;
            thinned.push(CurvePoint {
                threshold: point.threshold,
                false_positive_rate: limit,
                recall: before.recall + part * (point.recall - before.recall),
            });
            break;
        }
        let far = (point.false_positive_rate - last.false_positive_rate) > FINEST * limit
            || point.recall - last.recall > FINEST;
        if far || i + 1 == curve.len() {
            thinned.push(*point);
        }
    }
    thinned
}

/// A curve as the template draws it: with its area filled, axes, grid, and a marker for the script to move.
pub struct Curve {
    pub id: &'static str,
    /// What the axes show.
    pub across: &'static str,
    pub up: &'static str,
    /// Size of the picture.
    pub width: f64,
    pub height: f64,
    /// Edges of the plot in it.
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
    /// Grid lines: where, and the number there.
    pub columns: Vec<(f64, String)>,
    pub rows: Vec<(f64, String)>,
    /// The path of the curve.
    pub line: String,
}

impl Curve {
    /// Both axes count in `whole`: 1 for shares, 100 for per cent.
    pub fn new(
        id: &'static str,
        points: &[CurvePoint],
        limit: f64,
        [across, up]: [&'static str; 2],
        whole: f64,
    ) -> Self {
        let [left, top, width, height] = PLOT;
        let (right, bottom) = (left + width, top + height);
        let steps = |count: i32| (0..=count).map(move |step| f64::from(step) / f64::from(count));
        // Tenths, where the limit is three of them.
        let columns = steps(if short(10.0 * limit) == "3" { 3 } else { 5 });
        let mut line = String::new();
        for point in points {
            let x = left + point.false_positive_rate / limit * width;
            let y = bottom - point.recall * height;
            let command = if line.is_empty() { 'M' } else { 'L' };
            let _ = write!(line, "{command}{x:.1} {y:.1}");
        }
        Self {
            id,
            across,
            up,
            width: PICTURE[0],
            height: PICTURE[1],
            left,
            top,
            right,
            bottom,
            columns: columns
                .map(|part| (left + part * width, short(part * limit * whole)))
                .collect(),
            rows: steps(5)
                .map(|part| (bottom - part * height, short(part * whole)))
                .collect(),
            line,
        }
    }
}

/// Good images' shares upwards and defective ones' downwards; as wide as the page, so without text.
pub struct Histogram {
    pub bins: usize,
    pub height: f64,
    /// Where the line between good and defective images lies.
    pub line: f64,
    pub bars: Vec<Bar>,
}

pub struct Bar {
    pub class: &'static str,
    pub x: f64,
    pub y: f64,
    pub height: f64,
    /// The scores that it stands for.
    pub from: String,
    pub to: String,
    /// So many images have them, of so many of their kind.
    pub count: usize,
    pub of: usize,
}

impl Histogram {
    pub fn new(axis: &ScoreAxis, good: &[f32], defective: &[f32]) -> Self {
        let count = |scores: &[f32]| {
            let mut counts = [0usize; BINS];
            for &score in scores {
                let bin = (axis.part(f64::from(score)) * BINS as f64) as usize;
                counts[bin.min(BINS - 1)] += 1;
            }
            counts
        };
        let share = |count: usize, of: usize| count as f64 / of.max(1) as f64;
        let highest = |scores: &[f32], counts: &[usize]| {
            share(counts.iter().copied().max().unwrap_or(0), scores.len())
        };
        let sets = [
            ("good", good, count(good)),
            ("defective", defective, count(defective)),
        ];
        let [up, down] = sets
            .each_ref()
            .map(|(_, scores, counts)| highest(scores, counts));
        // One scale for both; the line between them lies where both fit.
        let scale = HEIGHT / (up + down).max(f64::MIN_POSITIVE);
        let line = up * scale;
        let mut bars = Vec::new();
        for (class, scores, counts) in sets {
            for (bin, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
                let height = scale * share(count, scores.len());
                let [from, to] = [bin, bin + 1].map(|edge| axis.score(edge as f64 / BINS as f64));
                bars.push(Bar {
                    class,
                    x: bin as f64 + 0.05,
                    y: if class == "good" { line - height } else { line },
                    height,
                    from: short(from),
                    to: short(to),
                    count,
                    of: scores.len(),
                });
            }
        }
        Self {
            bins: BINS,
            height: HEIGHT,
            line,
            bars,
        }
    }
}

/// A number with three significant digits at most.
pub fn short(number: f64) -> String {
    if number == 0.0 || !(1e-4..1e6).contains(&number.abs()) {
        return if number == 0.0 {
            "0".into()
        } else {
            format!("{number:.1e}")
        };
    }
    let decimals = (2 - number.abs().log10().floor() as i32).max(0) as usize;
    let text = format!("{number:.decimals$}");
    if text.contains('.') {
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    text
}
