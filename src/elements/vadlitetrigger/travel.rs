//! How parts move through the picture: the belt's way in widths of the frame, measured by the parts that `vadlite` locates, and when a part
//! passes the reference line, which goes through the middle of the frame across that motion.
//!
//! Each part that is in view says how far the belt has gone, by its place and by the way at which it will pass the line. The middle of what
//! they say is the belt's way, and each part's line is the mean of what its frames say: errors of single places do not add up.
//!
//! Times are nanoseconds: `at` on the gate's clock, `along` as time stamps have it, see [`Taken`].

use super::belt::Belt;
use super::observation::PartView;
use super::stamps::Taken;
use smallvec::SmallVec;

/// Parts have to move by so much of the frame's width, or for so long, before a step of the way is told.
const STEP: f64 = 0.01;
const LONGEST: u64 = 250_000_000;
/// What moves less than this in a step stands: parts are located to less.
const STANDS: f64 = 0.003;
/// A step that is longer or shorter than expected by more than this is another speed.
const SURPRISE: f64 = 0.004;
/// The speed from a step on is that of so long before it, as far as there was no surprise.
const STEADY: u64 = 500_000_000;
/// Share of the older steps in the direction.
const OLDER: f32 = 0.98;
/// What a part says of the way counts if it is that close to what the one in the middle says: others were taken for other parts.
const AGREES: f64 = 0.02;
/// Frames that a part's line is the mean of.
const VIEWS: u32 = 16;

/// A part's place on the belt.
#[derive(Debug, Default)]
pub struct Place {
    /// Where it was at the last step, in widths of the frame.
    anchor: Option<Anchor>,
    /// The belt's way at which it passes the reference line, and how many frames say so.
    line: Option<(f64, u32)>,
    /// Whether a frame has located it.
    whole: bool,
    /// It was seen beyond the reference line.
    pub beyond: bool,
}

#[derive(Debug, Clone, Copy)]
struct Anchor {
    at: u64,
    x: f32,
    y: f32,
}

impl Place {
    /// Takes in where a frame shows it, after [`Travel::step`] has said whether that frame ends a step. A part that is not
    /// located may lie anywhere thereabouts.
    pub fn see(&mut self, taken: Taken, view: &PartView, travel: &Travel, step: bool) {
        let beyond = travel.beyond(view);
        self.beyond |= beyond.is_some_and(|beyond| beyond >= 0.0);
        let located = view.is_located();
        if self.whole && !located {
            return;
        }
        if !self.whole && located {
            (self.whole, self.line) = (true, None);
        }
        if located && (step || self.anchor.is_none()) {
            self.anchor = Some(Anchor {
                at: taken.at,
                x: view.x,
                y: view.y,
            });
        }
        let Some(beyond) = beyond.filter(|_| step || self.line.is_none()) else {
            return;
        };
        let line = travel.way.position(taken.at) - beyond;
        let (mean, views) = self.line.unwrap_or((line, 0));
        let views = (views + 1).min(VIEWS);
        self.line = Some((mean + (line - mean) / f64::from(views), views));
    }

    /// When it passes the reference line. `Err`: nobody knows how parts move. `Ok(None)`: the belt stands before it.
    pub fn crossing(&self, travel: &Travel) -> Result<Option<u64>, Unknown> {
        let (line, _) = self.line.ok_or(Unknown)?;
        Ok(travel.way.time_at(line))
    }

    /// How far the belt has gone, as the part's place in a frame says, and how many frames that rests on.
    fn way(&self, view: &PartView, travel: &Travel) -> Option<(f64, u32)> {
        let (line, views) = self.line.filter(|_| self.whole)?;
        Some((line + travel.beyond(view)?, views))
    }

    fn moved(&self, view: &PartView) -> Option<(f32, f32)> {
        let anchor = self.anchor?;
        Some((view.x - anchor.x, view.y - anchor.y))
    }
}

/// Nobody knows how parts move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown;

/// The belt's way, as far as parts have shown it.
#[derive(Debug, Default)]
pub struct Travel {
    way: Belt,
    /// In widths of the frame a second.
    speed: f64,
    /// Sum of the last steps; `None` while nothing has moved.
    steps: Option<(f32, f32)>,
    /// The frame at which the last step ended.
    last: Option<Taken>,
    /// Since when steps have been as expected, on the gate's clock.
    steady: u64,
}

/// A step of the way: from a time on, in nanoseconds on the gate's clock, the belt went at this speed, in widths of the frame a second; and from
/// the frame on, as far as can be told, at that one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub since: u64,
    pub speed: f64,
    pub until: u64,
    pub then: f64,
}

impl Travel {
    /// Takes in where a frame locates parts. Returns the step that it ends, if it does.
    pub fn step<'a>(
        &mut self,
        taken: Taken,
        seen: impl Iterator<Item = (&'a Place, &'a PartView)> + Clone,
    ) -> Option<Step> {
        let step = match self.steps {
            None => self.first(taken, seen.clone())?,
            Some(_) => self.next(taken, seen.clone())?,
        };
        if step.speed > 0.0 {
            let moves = seen.filter_map(|(place, view)| place.moved(view));
            let newest = middle_of(moves).unwrap_or_default();
            let before = self.steps.unwrap_or_default();
            let sum = |before: f32, newest: f32| OLDER * before + newest;
            self.steps = Some((sum(before.0, newest.0), sum(before.1, newest.1)));
        }
        self.speed = step.then;
        self.way.set_speed(step.since, step.speed);
        self.way.set_speed(step.until, step.then);
        self.last = Some(taken);
        Some(step)
    }

    /// The first motion that is seen at all.
    fn first<'a>(
        &self,
        taken: Taken,
        seen: impl Iterator<Item = (&'a Place, &'a PartView)> + Clone,
    ) -> Option<Step> {
        let anchors = seen.clone().filter_map(|(place, _)| place.anchor);
        let since = anchors.map(|anchor| anchor.at).max()?;
        let (x, y) = middle_of(seen.filter_map(|(place, view)| place.moved(view)))?;
        let far = f64::from(x.hypot(y));
        let seconds = taken.at.saturating_sub(since) as f64 / 1e9;
        (far >= STEP && seconds > 0.0).then(|| Step {
            since,
            speed: far / seconds,
            until: taken.at,
            then: far / seconds,
        })
    }

    fn next<'a>(
        &mut self,
        taken: Taken,
        seen: impl Iterator<Item = (&'a Place, &'a PartView)>,
    ) -> Option<Step> {
        let ways = seen.filter_map(|(place, view)| place.way(view, self));
        let (Some(way), Some(last)) = (agreed(&ways.collect()), self.last) else {
            // Until parts are seen again, the belt goes on as it did.
            self.last = Some(taken);
            return None;
        };
        let elapsed = taken.at.saturating_sub(last.at);
        let seconds = elapsed as f64 / 1e9;
        let far = way - self.way.position(last.at);
        let expected = self.speed * seconds;
        if elapsed == 0 || (far.abs().max(expected) < STEP && elapsed < LONGEST) {
            return None;
        }
        let far = if far < STANDS { 0.0 } else { far };
        let speed = far / seconds;
        if (far - expected).abs() > SURPRISE || far == 0.0 {
            self.steady = last.at;
        }
        let from = self.steady.max(taken.at.saturating_sub(STEADY));
        let before = self.way.position(last.at) - self.way.position(from);
        let since = taken.at.saturating_sub(from) as f64 / 1e9;
        Some(Step {
            since: last.at,
            speed,
            until: taken.at,
            then: (before + far) / since.max(seconds),
        })
    }

    /// Whether parts have shown how they move.
    pub fn is_known(&self) -> bool {
        self.steps.is_some()
    }

    /// How far beyond the reference line the middle of a part is, in widths of the frame; `None` while nothing has moved.
    fn beyond(&self, view: &PartView) -> Option<f64> {
        let (x, y) = self.steps?;
        Some(f64::from((x * view.x + y * view.y) / x.hypot(y)))
    }
}

/// The mean way of parts that agree, by the frames that each rests on.
fn agreed(ways: &SmallVec<[(f64, u32); 8]>) -> Option<f64> {
    let middle = middle(ways.iter().map(|(way, _)| *way).collect())?;
    let agree = ways.iter().filter(|(way, _)| (way - middle).abs() < AGREES);
    let (sum, count) = agree.fold((0.0, 0.0), |(sum, count), (way, views)| {
        let views = f64::from(*views);
        (sum + views * (way - middle), count + views)
    });
    Some(middle + sum / count)
}

/// The value in the middle: some parts may have been taken for others.
fn middle(mut values: SmallVec<[f64; 8]>) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

fn middle_of(moves: impl Iterator<Item = (f32, f32)> + Clone) -> Option<(f32, f32)> {
    let x = middle(moves.clone().map(|(x, _)| f64::from(x)).collect())?;
    let y = middle(moves.map(|(_, y)| f64::from(y)).collect())?;
    Some((x as f32, y as f32))
}
