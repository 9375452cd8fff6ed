//! Parts that `vadlite` has located, between the camera and the gate: each is known by its id, is decided on by itself, and is on its way from
//! when it passes the reference line, or from when it is flagged first.

use super::belt::Belt;
use super::observation::{Key, PartView};
use super::parts::{MOST, Part, Reason};
use super::settings::{FailSafe, LiveSettings, Reference};
use super::stamps::Taken;
use super::travel::{Place, Travel};
use smallvec::SmallVec;

/// A part that was decided on is known for so long after it was seen last, nanoseconds; `vadlite` does not see it again after 1 s.
const KNOWN: u64 = 3_000_000_000;
/// How long after it has passed the reference line a part's place is still made more exact by frames that show it.
const REFINED: u64 = 1_000_000_000;

/// A time on the gate's clock in nanoseconds, and where the belt was then, in metres.
#[derive(Debug, Clone, Copy)]
struct Moment {
    time: u64,
    position: f64,
}

/// What was decided about a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waits,
    /// It was at the gate, and has passed.
    Passed,
    Rejected,
}

#[derive(Debug)]
struct Track {
    key: Key,
    part: Part,
    state: State,
    /// The last frame that shows it.
    seen: Taken,
    place: Place,
    /// When it has passed the line.
    crossed: Option<Moment>,
    /// When the first frame was taken that flags it.
    flagged: Option<Moment>,
}

impl Track {
    fn new(number: u64, taken: Taken, view: &PartView) -> Self {
        Self {
            key: view.key,
            part: Part::new(number, Some(view.key.id), taken.along),
            state: State::Waits,
            seen: taken,
            place: Place::default(),
            crossed: None,
            flagged: None,
        }
    }

    /// When it passes the reference line; `None` while the belt stands before it. Where nobody knows how parts move, they are there when
    /// they are seen.
    fn crossing(&self, travel: &Travel) -> Option<u64> {
        let unknown = |_| Some(self.seen.at);
        self.place.crossing(travel).unwrap_or_else(unknown)
    }

    /// Where its way to the gate begins.
    fn start(&self, travel: &Travel, belt: &Belt, settings: &LiveSettings) -> Option<Moment> {
        if settings.reference == Reference::FirstFlagged && self.flagged.is_some() {
            return self.flagged;
        }
        self.crossed
            .or_else(|| Some(moment(self.crossing(travel)?, belt)))
    }

    /// When it is at the gate, if the belt goes on as it does; `None` while it stands.
    fn due(&self, travel: &Travel, belt: &Belt, settings: &LiveSettings) -> Option<u64> {
        let start = self.start(travel, belt, settings)?;
        match settings.goes_by_belt() {
            true => belt.time_at(start.position + settings.distance),
            false => Some(start.time.saturating_add(settings.delay)),
        }
    }

    /// Whether it has passed where parts are seen without having been judged in any frame. Where nobody knows how parts move, it has.
    fn unseen(&self, travel: &Travel) -> bool {
        self.part.inspected == 0 && (self.place.beyond || !travel.is_known())
    }
}

fn moment(time: u64, belt: &Belt) -> Moment {
    let position = belt.position(time);
    Moment { time, position }
}

/// The parts, and how they move.
#[derive(Debug, Default)]
pub struct Located {
    tracks: Vec<Track>,
    travel: Travel,
    /// As they were when something was asked for last.
    settings: Option<LiveSettings>,
}

impl Located {
    /// Takes in a frame's parts. `number` gives each new one its number. Where the belt's speed is measured, `belt` has it from here on. Returns
    /// how many parts pass as there are too many.
    pub fn frame(
        &mut self,
        views: &[PartView],
        taken: Taken,
        settings: &LiveSettings,
        belt: &mut Belt,
        now: u64,
        mut number: impl FnMut() -> u64,
    ) -> u64 {
        self.settings = Some(*settings);
        let tracks = &self.tracks;
        // Those that are in the picture came last.
        let known = |view: &PartView| tracks.iter().rposition(|track| track.key == view.key);
        let known: SmallVec<[Option<usize>; 8]> = views.iter().map(known).collect();
        let whole = views.iter().zip(&known);
        let whole = whole.filter(|(view, _)| view.is_located());
        let seen = whole.filter_map(|(view, known)| Some((&tracks[(*known)?].place, view)));
        let step = self.travel.step(taken, seen);
        if let Some(step) = step.filter(|_| settings.measures_speed()) {
            belt.set_speed(step.since, step.speed * settings.field_of_view);
            belt.set_speed(step.until, step.then * settings.field_of_view);
        }
        let mut too_many = 0;
        for (view, known) in views.iter().zip(known) {
            let index = match known {
                Some(index) => index,
                None if self.tracks.len() >= MOST => {
                    too_many += 1;
                    continue;
                }
                None => {
                    self.tracks.push(Track::new(number(), taken, view));
                    self.tracks.len() - 1
                }
            };
            let track = &mut self.tracks[index];
            if track.crossed.is_none() {
                track.place.see(taken, view, &self.travel, step.is_some());
            }
            self.see(index, taken, view, settings, belt, now);
        }
        self.settle(taken, belt, now);
        too_many
    }

    /// Takes in what a frame says of a part.
    fn see(
        &mut self,
        index: usize,
        taken: Taken,
        view: &PartView,
        settings: &LiveSettings,
        belt: &Belt,
        now: u64,
    ) {
        let track = &mut self.tracks[index];
        track.seen = taken;
        let rejected = track.part.rejected(settings.decision);
        track.part.count(view);
        if view.flagged {
            track.flagged.get_or_insert_with(|| moment(taken.at, belt));
        }
        if !rejected && track.part.rejected(settings.decision) && track.state != State::Rejected {
            // It has passed, or was at the gate when it was seen first.
            let due = track.due(&self.travel, belt, settings);
            track.part.late = track.state == State::Passed || due.is_some_and(|due| due < now);
            track.state = State::Waits;
        }
    }

    /// Keeps where parts have passed the line, before the belt's past is forgotten, and forgets those that will not be seen again.
    fn settle(&mut self, taken: Taken, belt: &Belt, now: u64) {
        for track in &mut self.tracks {
            if track.crossed.is_none()
                && let Some(time) = track.crossing(&self.travel)
            {
                let is_gone = track.seen.along < taken.along && time <= taken.at;
                if is_gone || time.saturating_add(REFINED) < taken.at {
                    track.crossed = Some(moment(time, belt));
                }
            }
        }
        self.tracks.retain(|track| {
            track.state == State::Waits || now.saturating_sub(track.seen.at) < KNOWN
        });
    }

    /// Takes out the first part that is at the gate at `now`, to be decided on.
    pub fn at_gate(&mut self, now: u64, belt: &Belt, settings: &LiveSettings) -> Option<Part> {
        self.settings = Some(*settings);
        let (due, index) = self.due(belt).min()?;
        if due > now {
            return None;
        }
        let track = &mut self.tracks[index];
        track.part.due = due;
        if settings.fail_safe == FailSafe::Reject && track.unseen(&self.travel) {
            (track.part.unseen, track.part.reason) = (1, Reason::FailSafe);
        }
        track.state = match track.part.rejected(settings.decision) {
            true => State::Rejected,
            false => State::Passed,
        };
        Some(track.part)
    }

    /// When the next part is at the gate, if the belt goes on as it does.
    pub fn next_due(&self, belt: &Belt) -> Option<u64> {
        self.due(belt).map(|(due, _)| due).min()
    }

    fn due<'a>(&'a self, belt: &'a Belt) -> impl Iterator<Item = (u64, usize)> + 'a {
        let waiting = self.tracks.iter().enumerate();
        let waiting = waiting.filter(|(_, track)| track.state == State::Waits);
        waiting.filter_map(move |(index, track)| {
            let due = track.due(&self.travel, belt, self.settings.as_ref()?)?;
            Some((due, index))
        })
    }

    /// Bad parts that are on their way.
    pub fn bad(&self) -> usize {
        let waits = self
            .tracks
            .iter()
            .filter(|track| track.state == State::Waits);
        waits
            .filter(|track| track.part.flagged > 0 || track.unseen(&self.travel))
            .count()
    }
}
