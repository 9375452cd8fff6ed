//! The schedule with located parts: a belt whose parts and speed are known, seen by a camera and decided on at the gate.

use super::super::observation::Key;
use super::super::parts::Decision;
use super::super::settings::{MEASURED, Reference, Settings};
use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;
const SECOND: u64 = 1000 * MS;
/// Half the length of a part, in widths of the frame.
const HALF: f64 = 0.06;

/// A part on the belt.
#[derive(Debug, Clone, Copy)]
struct Laid {
    /// The belt's way, in widths of the frame, at which it passes the frame's middle.
    at: f64,
    lane: f64,
    bad: bool,
}

/// The belt's speed in widths of the frame a second, in equal times.
#[derive(Debug, Clone)]
struct Speeds {
    each: u64,
    speeds: Vec<f64>,
}

impl Speeds {
    fn steady(speed: f64) -> Self {
        Self {
            each: SECOND,
            speeds: vec![speed],
        }
    }

    /// How far the belt has gone at `time`.
    fn way(&self, time: u64) -> f64 {
        let mut way = 0.0;
        let mut from = 0;
        for (index, speed) in self.speeds.iter().enumerate() {
            let to = match index + 1 == self.speeds.len() {
                true => time,
                false => time.min(from + self.each),
            };
            way += speed * to.saturating_sub(from) as f64 / 1e9;
            from += self.each;
        }
        way
    }

    /// When it has gone so far, to a tenth of a millisecond.
    fn time(&self, way: f64) -> u64 {
        let (mut low, mut high) = (0, 3600 * SECOND);
        while high - low > MS / 10 {
            let middle = u64::midpoint(low, high);
            match self.way(middle) < way {
                true => low = middle,
                false => high = middle,
            }
        }
        high
    }
}

/// A belt, its camera and its gate.
struct Line {
    schedule: Schedule,
    settings: LiveSettings,
    speeds: Speeds,
    parts: Vec<Laid>,
    /// Whether the belt runs down in the picture, and not to the right.
    down: bool,
    /// Of the places that the camera sees, in widths of the frame.
    noise: f64,
    random: fastrand::Rng,
    now: u64,
    frame: u64,
    done: Vec<(u64, Action)>,
}

impl Line {
    fn new(speeds: Speeds, parts: Vec<Laid>, settings: LiveSettings) -> Self {
        let mut schedule = Schedule::default();
        schedule.play(0);
        Self {
            schedule,
            settings,
            speeds,
            parts,
            down: false,
            noise: 0.0,
            random: fastrand::Rng::with_seed(1),
            now: 0,
            frame: 0,
            done: Vec::new(),
        }
    }

    fn run_to(&mut self, time: u64) {
        loop {
            match self.schedule.next(self.now, &self.settings) {
                Action::Wait(until) => {
                    assert!(until.is_none_or(|until| until > self.now), "a busy loop");
                    match until.filter(|until| *until <= time) {
                        Some(until) => self.now = until,
                        None => break self.now = self.now.max(time),
                    }
                }
                action => self.done.push((self.now, action)),
            }
        }
    }

    /// What the camera sees now.
    fn views(&mut self) -> Vec<PartView> {
        let way = self.speeds.way(self.now);
        let (frame, down, noise) = (self.frame, self.down, self.noise);
        let mut views = Vec::new();
        for (number, part) in self.parts.iter().enumerate() {
            let half = if down { 0.375 } else { 0.5 };
            let (from, to) = (way - part.at - HALF, way - part.at + HALF);
            let (seen_from, seen_to) = (from.max(-half), to.min(half));
            if seen_to - seen_from < HALF / 2.0 {
                continue;
            }
            let mut off = || noise * (2.0 * self.random.f64() - 1.0);
            let along = (seen_from + seen_to) / 2.0 + off();
            let across = part.lane + off();
            let (x, y) = if down {
                (across, along)
            } else {
                (along, across)
            };
            let complete = from >= -half && to <= half;
            let score = match (complete, part.bad) {
                (false, _) => 0.0,
                (true, true) => 2.0,
                (true, false) => 0.5,
            };
            views.push(PartView {
                key: Key::of(number as u64 + 1),
                frame,
                x: x as f32,
                y: y as f32,
                reach: HALF as f32,
                flagged: score > 1.0,
                complete,
                inspected: complete,
                score,
                threshold: 1.0,
            });
        }
        views
    }

    fn see(&mut self, views: &[PartView]) {
        let observation = Observation {
            frame: Some(self.frame),
            inspection: Inspection::Inspected,
            located: true,
            ..Observation::uninspected(None)
        };
        let arrival = Arrival {
            stamp: Some(self.now),
            running: Some(self.now),
            live: true,
        };
        self.schedule
            .frame(observation, views, arrival, &self.settings, self.now);
        self.frame += 1;
    }

    /// Frames `apart` until `time`, but those that `lost` has, and then what is on its way.
    fn film(&mut self, apart: u64, time: u64, lost: impl Fn(u64) -> bool) {
        let mut next = self.now;
        while next < time {
            self.run_to(next);
            if !lost(self.frame) {
                let views = self.views();
                self.see(&views);
            } else {
                self.frame += 1;
            }
            next += apart;
        }
    }

    /// When each part was fired, by its id.
    fn fired(&self) -> Vec<(u64, u64)> {
        let fired = self.done.iter().filter_map(|(time, action)| match action {
            Action::Fire(part) => Some((part.id.unwrap(), *time)),
            _ => None,
        });
        fired.collect()
    }

    fn parts_fired(&self) -> Vec<Part> {
        let fired = self.done.iter().filter_map(|(_, action)| match action {
            Action::Fire(part) => Some(*part),
            _ => None,
        });
        fired.collect()
    }
}

fn settings(change: impl FnOnce(&mut LiveSettings)) -> LiveSettings {
    let mut settings = Settings::default().live;
    change(&mut settings);
    settings
}

fn laid(at: f64, lane: f64, bad: bool) -> Laid {
    Laid { at, lane, bad }
}

fn near(time: u64, truth: u64, within: u64) -> bool {
    time.abs_diff(truth) <= within
}

#[test]
fn a_part_is_at_the_gate_delay_after_it_has_passed_the_middle() {
    let parts = vec![
        laid(0.8, 0.0, true),
        laid(0.94, 0.0, false),
        laid(0.83, 0.2, true),
    ];
    let at_gate = |part: Laid| Speeds::steady(0.7).time(part.at) + 500 * MS;
    for down in [false, true] {
        let live = settings(|live| live.delay = 500 * MS);
        let mut line = Line::new(Speeds::steady(0.7), parts.clone(), live);
        line.down = down;
        line.film(40 * MS, 4 * SECOND, |_| false);
        line.run_to(9 * SECOND);
        // Two side by side, less than the merge window apart, are two decisions; and the good one between them passes.
        let fired = line.fired();
        assert_eq!(fired.len(), 2, "{fired:?}");
        for (id, time) in fired {
            let truth = at_gate(parts[id as usize - 1]);
            assert!(near(time, truth, MS), "{id}: {time} {truth}");
        }
        assert!(line.parts_fired().iter().all(|part| !part.late));
        assert_eq!(
            line.parts_fired()[0].flagged,
            line.parts_fired()[0].inspected
        );
    }
}

#[test]
fn from_its_first_flagged_frame_where_that_is_asked_for() {
    let live = settings(|live| {
        live.delay = 500 * MS;
        live.reference = Reference::FirstFlagged;
    });
    let mut line = Line::new(Speeds::steady(0.7), vec![laid(0.8, 0.0, true)], live);
    line.film(40 * MS, 4 * SECOND, |_| false);
    // All of it is seen from when its middle is HALF inside the frame.
    let whole = Speeds::steady(0.7).time(0.8 - 0.5 + HALF);
    let first = whole.next_multiple_of(40 * MS);
    assert_eq!(line.fired(), [(1, first + 500 * MS)]);
}

#[test]
fn the_belts_speed_is_measured_by_its_parts() {
    let speeds = Speeds {
        each: 2 * SECOND,
        speeds: vec![0.5, 0.65, 0.4, 0.0, 0.5],
    };
    let parts: Vec<Laid> = (0..12)
        .map(|number| laid(0.6 + 0.2 * f64::from(number), 0.0, number % 3 == 0))
        .collect();
    // The frame shows 0.4 m, and the gate is 0.3 m behind its middle.
    let live = settings(|live| {
        (live.distance, live.belt_speed, live.field_of_view) = (0.3, MEASURED, 0.4);
    });
    let mut line = Line::new(speeds.clone(), parts.clone(), live);
    line.film(33 * MS, 14 * SECOND, |_| false);
    let fired = line.fired();
    let bad: Vec<u64> = (1..=12).filter(|id| (id - 1) % 3 == 0).collect();
    assert_eq!(fired.iter().map(|(id, _)| *id).collect::<Vec<_>>(), bad);
    for (id, time) in fired {
        let truth = speeds.time(parts[id as usize - 1].at + 0.3 / 0.4);
        assert!(near(time, truth, 10 * MS), "{id}: {time} {truth}");
    }
}

#[test]
fn a_part_that_lies_before_the_line_is_not_at_the_gate_while_the_belt_stands() {
    let speeds = Speeds {
        each: SECOND,
        speeds: vec![0.5, 0.0, 0.0, 0.0, 0.0, 0.5],
    };
    let live = settings(|live| live.delay = 100 * MS);
    let mut line = Line::new(speeds.clone(), vec![laid(0.6, 0.0, true)], live);
    line.film(40 * MS, 4900 * MS, |_| false);
    assert!(line.fired().is_empty());
    line.film(40 * MS, 8 * SECOND, |_| false);
    let truth = speeds.time(0.6) + 100 * MS;
    let fired = line.fired();
    assert!(
        fired.len() == 1 && near(fired[0].1, truth, 10 * MS),
        "{fired:?} {truth}"
    );
}

#[test]
fn a_camera_that_shows_each_part_once_counts_from_then() {
    let live = settings(|live| live.delay = 300 * MS);
    let mut line = Line::new(Speeds::steady(0.0), Vec::new(), live);
    for (number, bad) in [true, false, true].into_iter().enumerate() {
        line.run_to(number as u64 * SECOND);
        line.parts = vec![laid(0.05, 0.0, bad)];
        let mut views = line.views();
        views[0].key = Key::of(number as u64 + 1);
        line.see(&views);
    }
    line.run_to(9 * SECOND);
    assert_eq!(line.fired(), [(1, 300 * MS), (3, 2300 * MS)]);
}

#[test]
fn a_part_is_decided_on_by_all_frames_in_which_it_was_judged() {
    let flagged_in = |wanted: &[u64], decision| {
        let live = settings(|live| (live.delay, live.decision) = (SECOND, decision));
        let mut line = Line::new(Speeds::steady(0.5), vec![laid(0.6, 0.0, false)], live);
        let mut judged = 0;
        for frame in 0..60u64 {
            line.run_to(frame * 40 * MS);
            let mut views = line.views();
            for view in views.iter_mut().filter(|view| view.inspected) {
                view.flagged = wanted.contains(&judged);
                view.score = if view.flagged { 1.2 } else { 0.5 };
                judged += 1;
            }
            line.see(&views);
        }
        line.run_to(9 * SECOND);
        (line.fired().len(), judged)
    };
    let (fired, judged) = flagged_in(&[7], Decision::Any);
    assert_eq!(fired, 1);
    assert!(judged > 20, "{judged}");
    assert_eq!(flagged_in(&[7], Decision::Max).0, 1);
    assert_eq!(flagged_in(&[7], Decision::Majority).0, 0);
    // Late ones alone are no majority, though nothing else follows on them.
    let last: Vec<u64> = (judged - 5..judged).collect();
    assert_eq!(flagged_in(&last, Decision::Majority).0, 0);
    let most: Vec<u64> = (0..=judged / 2).collect();
    assert_eq!(flagged_in(&most, Decision::Majority).0, 1);
    assert_eq!(flagged_in(&[], Decision::Any).0, 0);
}

#[test]
fn a_part_that_is_found_bad_behind_the_gate_is_fired_at_once_and_once() {
    // The gate is in the middle of the picture, and what is bad of the part is seen beyond it.
    let mut line = Line::new(
        Speeds::steady(0.5),
        vec![laid(0.6, 0.0, false)],
        settings(|_| {}),
    );
    for frame in 0..80u64 {
        line.run_to(frame * 40 * MS);
        let mut views = line.views();
        for view in views.iter_mut().filter(|view| view.complete) {
            view.flagged = view.x > 0.1;
            view.score = if view.flagged { 2.0 } else { 0.5 };
        }
        line.see(&views);
    }
    line.run_to(9 * SECOND);
    let fired = line.parts_fired();
    assert!(fired.len() == 1 && fired[0].late, "{fired:?}");
}

#[test]
fn what_no_frame_has_judged_is_rejected_where_that_is_asked_for() {
    let fired = |fail_safe, judged_in: Option<u64>| {
        let live = settings(|live| (live.delay, live.fail_safe) = (SECOND, fail_safe));
        let mut line = Line::new(Speeds::steady(0.5), vec![laid(0.6, 0.0, false)], live);
        for frame in 0..80u64 {
            line.run_to(frame * 40 * MS);
            let mut views = line.views();
            for view in &mut views {
                // It lies against another one, and cannot be told from it.
                view.inspected &= judged_in == Some(frame);
                view.score = 0.0;
            }
            line.see(&views);
        }
        line.run_to(9 * SECOND);
        line.parts_fired()
    };
    let rejected = fired(FailSafe::Reject, None);
    assert_eq!(rejected.len(), 1);
    assert_eq!(
        (rejected[0].reason, rejected[0].id),
        (Reason::FailSafe, Some(1))
    );
    assert!(fired(FailSafe::Pass, None).is_empty());
    assert!(fired(FailSafe::Reject, Some(30)).is_empty());
}

#[test]
fn the_end_of_the_stream_waits_for_parts_and_not_for_a_belt_that_stands() {
    let live = settings(|live| live.delay = SECOND);
    let mut line = Line::new(Speeds::steady(0.5), vec![laid(0.6, 0.0, true)], live);
    line.film(40 * MS, 1300 * MS, |_| false);
    line.schedule.end();
    assert!(line.schedule.has_more_to_come());
    assert_eq!(line.schedule.parts_on_their_way(), 1);
    line.run_to(4 * SECOND);
    assert!(!line.schedule.has_more_to_come());
    let stopped = Speeds {
        each: 600 * MS,
        speeds: vec![0.5, 0.0],
    };
    let mut line = Line::new(stopped, vec![laid(0.6, 0.0, true)], live);
    line.film(40 * MS, 3 * SECOND, |_| false);
    line.schedule.end();
    assert!(!line.schedule.has_more_to_come());
    // It is said to have been left on the belt.
    assert_eq!(line.schedule.parts_on_their_way(), 1);
}

proptest! {
    /// Three lanes, gaps down to a tenth of a part's length, a speed that changes by 30 %, places that are not exact and frames that are
    /// lost: every bad part is fired once, when it is at the gate, and no good one is.
    #[test]
    fn one_part_one_decision_in_its_time(
        gaps in prop::collection::vec((2.2 * HALF..5.0 * HALF, 0usize..3, any::<bool>()), 1..40),
        speed in 0.4f64..1.0,
        changes in prop::collection::vec(0.85f64..1.15, 1..30),
        // Before two frames have shown a part nobody knows how it moves, and a gate that is nearer cannot wait.
        way in 250u64..3000,
        by_belt: bool,
        measured: bool,
        down: bool,
        seed: u64,
    ) {
        let mut lanes = [0.5 + 2.0 * HALF; 3];
        let parts: Vec<Laid> = gaps.iter().map(|&(gap, lane, bad)| {
            lanes[lane] += gap;
            laid(lanes[lane], 0.2 * (lane as f64 - 1.0), bad)
        }).collect();
        let changes = if measured { changes } else { vec![1.0] };
        let speeds = Speeds { each: 700 * MS, speeds: changes.iter().map(|change| speed * change).collect() };
        let end = parts.iter().map(|part| part.at).fold(0.0, f64::max) + 0.6;
        let to_gate = way as f64 / 1000.0;
        let live = settings(|live| match by_belt {
            // The frame shows half a metre.
            true => {
                (live.distance, live.field_of_view) = (0.5 * to_gate, 0.5);
                live.belt_speed = if measured { MEASURED } else { 0.5 * speed };
            }
            false => live.delay = way * MS,
        });
        let truth = |part: Laid| match live.goes_by_belt() {
            true => speeds.time(part.at + to_gate),
            false => speeds.time(part.at) + way * MS,
        };
        let last = speeds.time(end + to_gate) + 4 * SECOND;
        let mut line = Line::new(speeds.clone(), parts.clone(), live);
        (line.down, line.noise) = (down, 0.0005);
        line.random.seed(seed);
        let mut lost = fastrand::Rng::with_seed(seed);
        let lost: Vec<bool> = (0..8000).map(|_| lost.u8(..) < 12).collect();
        // What is behind the last part shows how the belt goes on.
        let more = (0..40).map(|number| laid(end + 0.3 * f64::from(number), 0.0, false));
        line.parts.extend(more);
        line.film(33 * MS, last, |frame| lost[frame as usize % 8000]);
        line.run_to(last + 10 * SECOND);
        let fired = line.fired();
        let mut ids: Vec<u64> = fired.iter().map(|(id, _)| *id).collect();
        ids.sort_unstable();
        let bad: Vec<u64> = (1..).zip(&parts).filter(|(_, part)| part.bad).map(|(id, _)| id).collect();
        prop_assert_eq!(ids, bad);
        for (id, time) in fired {
            let truth = truth(parts[id as usize - 1]);
            // What the belt does between the last frame and the gate is not known.
            let within = if by_belt && measured { 15 } else { 10 };
            prop_assert!(near(time, truth, within * MS), "part {}: fired at {} and due at {}", id, time, truth);
        }
    }
}
