//! The schedule on a clock that is a number.

use super::super::parts::{Decision, MOST};
use super::super::settings::Settings;
use super::*;
use proptest::prelude::*;

const MS: u64 = 1_000_000;

/// What a frame shows: its score against a threshold of 1, or why it has none.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Shown {
    Good,
    Defective,
    Skipped,
    Failed,
}
use Shown::{Defective, Failed, Good, Skipped};

/// A line whose clock is a number.
struct Line {
    schedule: Schedule,
    settings: LiveSettings,
    now: u64,
    frames: u64,
    last: Option<u64>,
    done: Vec<(u64, Action)>,
}

impl Line {
    fn new(settings: LiveSettings) -> Self {
        let mut schedule = Schedule::default();
        schedule.play(0);
        let mut line = Self {
            schedule,
            settings,
            now: 0,
            frames: 0,
            last: None,
            done: Vec::new(),
        };
        line.run_to(0);
        line
    }

    /// Does what is to be done until `time`, each thing as soon as the schedule asks for it.
    fn run_to(&mut self, time: u64) {
        loop {
            match self.schedule.next(self.now, &self.settings) {
                Action::Wait(until) => {
                    assert!(until.is_none_or(|until| until > self.now), "a busy loop");
                    if let Some(until) = until.filter(|until| *until <= time) {
                        self.now = until;
                    } else {
                        self.now = self.now.max(time);
                        return;
                    }
                }
                action => self.done.push((self.now, action)),
            }
        }
    }

    /// Passes a frame that was taken at `time`, now.
    fn late_frame(&mut self, time: u64, shown: Shown) -> Association {
        self.frame_after(0, time, shown)
    }

    /// The same for one before which so many are missing.
    fn frame_after(&mut self, lost: u64, time: u64, shown: Shown) -> Association {
        // Of several that are taken at once the clock has gone on by one.
        let time = self.last.map_or(time, |last| time.max(last + 1));
        self.last = Some(time);
        let frame = self.frames;
        self.frames += 1;
        let score = match shown {
            Good => 0.5,
            Defective => 2.0 + frame as f64,
            Skipped | Failed => 0.0,
        };
        let observation = Observation {
            frame: Some(frame),
            lost,
            score,
            threshold: 1.0,
            flagged: score > 1.0,
            inspection: match shown {
                Good | Defective => Inspection::Inspected,
                Skipped => Inspection::Skipped,
                Failed => Inspection::Failed,
            },
            located: false,
        };
        let arrival = Arrival {
            stamp: Some(time),
            running: Some(self.now),
            live: false,
        };
        let seen = self
            .schedule
            .frame(observation, &[], arrival, &self.settings, self.now);
        assert_eq!(seen.taken.implausible, None);
        seen.association
    }

    /// Passes a frame that is taken at `time`, then.
    fn frame(&mut self, time: u64, shown: Shown) -> Association {
        self.run_to(time);
        self.late_frame(time, shown)
    }

    /// When parts were fired, and these.
    fn fired(&self) -> Vec<(u64, Part)> {
        let fired = self.done.iter().filter_map(|(time, action)| match action {
            Action::Fire(part) => Some((*time, *part)),
            _ => None,
        });
        fired.collect()
    }

    fn times(&self) -> Vec<u64> {
        self.fired().into_iter().map(|(time, _)| time).collect()
    }

    /// When the watchdog barked.
    fn alarms(&self) -> Vec<u64> {
        let alarms = self.done.iter();
        let alarms = alarms.filter(|(_, action)| *action == Action::Alarm);
        alarms.map(|(time, _)| *time).collect()
    }

    /// When the gate was held, and when it was let go.
    fn holds(&self) -> Vec<(u64, bool)> {
        let holds = self.done.iter().filter_map(|(time, action)| match action {
            Action::Hold(held) => Some((*time, *held)),
            _ => None,
        });
        holds.collect()
    }

    /// Whether the gate rejects at `time`.
    fn rejects_at(&self, time: u64) -> bool {
        let held = self.holds().into_iter().rfind(|(at, _)| *at <= time);
        let pulse = |part: &Part| self.settings.pulse.max(part.unseen_for);
        held.is_some_and(|(_, held)| held)
            || self
                .fired()
                .iter()
                .any(|(at, part)| (*at..=at + pulse(part)).contains(&time))
    }

    /// When what was taken at `time` was at the gate.
    fn place(&self, time: u64) -> u64 {
        let belt = &self.schedule.belt;
        at_gate(time, &self.settings, belt).time(belt).unwrap()
    }

    /// Whether the gate rejects all that was taken between these, but for the breadth of an edge.
    #[track_caller]
    fn rejects(&self, from: u64, to: u64) {
        for time in (from + MS / 100..to).step_by(3 * MS as usize) {
            let place = self.place(time);
            assert!(
                self.rejects_at(place),
                "what was taken at {time} passes at {place}: {:?}",
                self.done
            );
        }
    }
}

fn settings(change: impl FnOnce(&mut LiveSettings)) -> LiveSettings {
    let mut settings = Settings::default().live;
    change(&mut settings);
    settings
}

#[test]
fn a_part_is_fired_once_when_it_is_at_the_gate() {
    let mut line = Line::new(settings(|settings| {
        settings.delay = 300 * MS;
        settings.merge_window = 150 * MS;
    }));
    // Three frames of one part, then two good ones, then another bad part.
    line.frame(10 * MS, Defective);
    line.frame(11 * MS, Defective);
    line.frame(40 * MS, Defective);
    line.frame(161 * MS, Good);
    line.frame(240 * MS, Good);
    line.frame(250 * MS, Defective);
    assert!(line.schedule.has_more_to_come());
    line.run_to(1000 * MS);
    assert_eq!(line.times(), [310 * MS, 550 * MS]);
    let (_, part) = line.fired()[0];
    assert_eq!((part.number, part.frames, part.flagged), (0, 3, 3));
    assert_eq!((part.worst_frame, part.score), (Some(2), 4.0));
    assert_eq!((part.reason, part.late), (Reason::Flagged, false));
    assert!(!line.schedule.has_more_to_come());
}

#[test]
fn a_part_is_at_the_gate_when_the_belt_has_gone_so_far() {
    let mut line = Line::new(settings(|settings| {
        settings.delay = 1;
        (settings.distance, settings.belt_speed) = (0.5, 2.0);
        settings.merge_window = 10 * MS;
    }));
    line.frame(0, Defective);
    line.frame(100 * MS, Defective);
    line.run_to(200 * MS);
    // The first has gone 0.4 m, the other 0.2 m. The belt slows down, and stands.
    line.settings.belt_speed = 1.0;
    line.run_to(350 * MS);
    assert_eq!(line.times(), [300 * MS]);
    line.settings.belt_speed = 0.0;
    line.run_to(5000 * MS);
    assert_eq!(line.times().len(), 1);
    assert!(!line.schedule.has_more_to_come());
    assert_eq!(line.schedule.parts_on_their_way(), 1);
    // 0.15 m are left.
    line.settings.belt_speed = 3.0;
    line.run_to(10_000 * MS);
    assert_eq!(line.times(), [300 * MS, 5050 * MS]);
    let (_, part) = line.fired()[1];
    assert_eq!((part.due, part.late), (5050 * MS, false));
    line.settings.distance = 0.0;
    line.settings.delay = 7 * MS;
    line.frame(11_000 * MS, Defective);
    line.run_to(30_000 * MS);
    assert_eq!(line.times()[2], 11_007 * MS);
}

#[test]
fn parts_known_too_late_are_fired_at_once_and_told_apart() {
    let mut line = Line::new(settings(|settings| {
        settings.delay = 50 * MS;
        settings.merge_window = 5 * MS;
    }));
    line.run_to(400 * MS);
    // Taken long ago, inspected too slowly: the last three of ten are in time, of which one just so.
    for part in 0..7 {
        line.late_frame((100 + 10 * part) * MS, Defective);
    }
    for part in 0..3 {
        line.late_frame((350 + 10 * part) * MS, Defective);
    }
    line.run_to(1000 * MS);
    let late: Vec<bool> = line.fired().iter().map(|(_, part)| part.late).collect();
    assert_eq!(late, [[true; 7].as_slice(), &[false; 3]].concat());
    let times = [[400 * MS; 8].as_slice(), &[410 * MS, 420 * MS]].concat();
    assert_eq!(line.times(), times);
}

#[test]
fn a_majority_decides_when_the_part_is_at_the_gate() {
    let mut line = Line::new(settings(|settings| {
        settings.decision = Decision::Majority;
        settings.delay = 100 * MS;
        settings.merge_window = 80 * MS;
    }));
    for (time, shown) in [(0, Defective), (1, Good), (2, Good)] {
        line.frame(time * MS, shown);
    }
    for (time, shown) in [(120, Defective), (121, Defective), (122, Good)] {
        line.frame(time * MS, shown);
    }
    line.run_to(1000 * MS);
    let [(first, Action::Pass(good)), (second, Action::Fire(bad))] = line.done[..] else {
        panic!("{:?}", line.done);
    };
    assert_eq!(
        (first, good.number, good.frames, good.flagged),
        (100 * MS, 0, 3, 1)
    );
    assert_eq!(
        (second, bad.number, bad.frames, bad.flagged),
        (220 * MS, 1, 3, 2)
    );
    assert_eq!(bad.worst_frame, Some(4));
}

#[test]
fn what_fails_is_rejected_where_asked_for_and_what_is_left_out_is_not() {
    let mut line = Line::new(settings(|settings| {
        settings.fail_safe = FailSafe::Reject;
        settings.delay = 20 * MS;
        settings.merge_window = 50 * MS;
    }));
    line.frame(0, Good);
    assert_eq!(line.frame(10 * MS, Skipped), Association::None);
    assert!(matches!(line.frame(20 * MS, Failed), Association::New(_)));
    line.run_to(1000 * MS);
    let [(time, part)] = line.fired()[..] else {
        panic!("{:?}", line.done);
    };
    assert_eq!((time, part.reason), (40 * MS, Reason::FailSafe));
    assert_eq!(part.worst_frame, Some(2));
    // A frame that was inspected and is bad is the better reason.
    line.frame(1000 * MS, Failed);
    line.frame(1010 * MS, Defective);
    line.run_to(2000 * MS);
    let (_, part) = line.fired()[1];
    assert_eq!(
        (part.reason, part.flagged, part.unseen),
        (Reason::Flagged, 1, 1)
    );
    line.settings.fail_safe = FailSafe::Pass;
    assert_eq!(line.frame(3000 * MS, Failed), Association::None);
}

#[test]
fn a_majority_is_one_of_the_inspected_frames() {
    let mut line = Line::new(settings(|settings| {
        settings.decision = Decision::Majority;
        settings.delay = 100 * MS;
        settings.merge_window = 80 * MS;
    }));
    // Every third frame is inspected: two of three of these are flagged.
    for (part, flagged) in [(0, 2), (200 * MS, 1)] {
        for frame in 0..9 {
            let shown = match (frame % 3, frame / 3) {
                (0, inspected) if inspected < flagged => Defective,
                (0, _) => Good,
                _ => Skipped,
            };
            line.frame(part + frame * 8 * MS, shown);
        }
    }
    line.run_to(1000 * MS);
    assert_eq!(line.times(), [100 * MS]);
    let (_, part) = line.fired()[0];
    assert_eq!((part.frames, part.inspected, part.flagged), (9, 3, 2));
}

/// The camera dies: from the place behind the last inspected frame on everything is rejected, until frames are inspected again.
#[test]
fn what_nobody_has_seen_is_held_without_a_gap() {
    for delay in [30, 100, 700] {
        let mut line = Line::new(settings(|settings| {
            settings.watchdog = 100 * MS;
            settings.delay = delay * MS;
            settings.fail_safe = FailSafe::Reject;
        }));
        line.frame(50 * MS, Good);
        // Neither is an inspected frame.
        line.frame(120 * MS, Skipped);
        line.run_to(2000 * MS);
        assert_eq!(line.alarms(), [150 * MS]);
        // As soon as it is known, where that is later.
        let from = (50 + delay).max(150) * MS;
        assert_eq!(line.holds(), [(from, true)]);
        line.frame(2000 * MS, Good);
        line.frame(2090 * MS, Good);
        line.frame(2180 * MS, Good);
        line.frame(2270 * MS, Good);
        line.run_to(2200 * MS + delay * MS);
        let to = (2000 + delay) * MS;
        assert_eq!(line.holds(), [(from, true), (to, false)], "{delay}");
        assert_eq!(line.fired(), []);
        let again = 2370 * MS;
        assert_eq!(
            line.alarms(),
            [150 * MS, again][..if again <= line.now { 2 } else { 1 }]
        );
    }
}

/// Short silences on a long way stay apart: what was inspected between them is not rejected.
#[test]
fn silences_on_their_way_stay_apart() {
    let mut line = Line::new(settings(|settings| {
        settings.watchdog = 100 * MS;
        settings.delay = 5000 * MS;
        settings.fail_safe = FailSafe::Reject;
    }));
    for time in [50, 500, 550, 600, 900, 950] {
        line.frame(time * MS, Good);
    }
    line.schedule.end();
    assert!(line.schedule.has_more_to_come());
    line.run_to(20_000 * MS);
    let holds = [(5050, true), (5500, false), (5600, true), (5900, false)];
    assert_eq!(line.holds(), holds.map(|(time, held)| (time * MS, held)));
    assert_eq!(line.alarms().len(), 2);
    assert!(!line.schedule.has_more_to_come());
}

#[test]
fn a_camera_that_never_comes_is_a_silence_from_the_start() {
    let mut line = Line::new(settings(|settings| {
        settings.watchdog = 100 * MS;
        settings.delay = 300 * MS;
        settings.fail_safe = FailSafe::Reject;
    }));
    line.run_to(5000 * MS);
    assert_eq!(
        (line.alarms(), line.holds()),
        (vec![100 * MS], vec![(300 * MS, true)])
    );
}

#[test]
fn the_gate_is_let_go_where_nothing_asks_for_holding_it_any_more() {
    for off in [
        |settings: &mut LiveSettings| settings.watchdog = 0,
        |settings: &mut LiveSettings| settings.fail_safe = FailSafe::Pass,
    ] {
        let mut line = Line::new(settings(|settings| {
            settings.watchdog = 100 * MS;
            settings.fail_safe = FailSafe::Reject;
        }));
        let asked = line.settings;
        line.run_to(500 * MS);
        off(&mut line.settings);
        line.run_to(600 * MS);
        assert_eq!(line.holds(), [(100 * MS, true), (500 * MS, false)]);
        // And again where it is asked for again: still nobody has seen anything.
        line.settings = asked;
        line.run_to(700 * MS);
        assert_eq!(line.holds()[2..], [(600 * MS, true)]);
    }
}

/// A silence covers what fails in it only as long as it is one.
#[test]
fn without_the_watchdog_what_fails_or_is_lost_is_rejected_by_itself() {
    for delay in [0, 700] {
        let mut line = Line::new(settings(|settings| {
            settings.watchdog = 100 * MS;
            settings.fail_safe = FailSafe::Reject;
            (settings.delay, settings.merge_window) = (delay * MS, 10 * MS);
        }));
        line.frame(0, Good);
        line.run_to(500 * MS);
        line.settings.watchdog = 0;
        line.run_to(600 * MS);
        // What had passed by then was on its way.
        line.frame(600 * MS, Failed);
        line.frame(700 * MS, Good);
        line.frame(700 * MS + 1, Good);
        line.run_to(900 * MS);
        line.frame_after(1, 900 * MS, Good);
        line.run_to(3000 * MS);
        line.rejects(100 * MS * u64::from(delay == 0), 500 * MS);
        line.rejects(600 * MS, 700 * MS);
        let lost = line
            .fired()
            .into_iter()
            .find(|(_, part)| part.worst_frame.is_none());
        assert_eq!(lost.unwrap().0, (800 + delay).max(900) * MS);
        assert!(!line.rejects_at((590 + delay) * MS));
        assert!(!line.rejects_at((790 + delay) * MS));
    }
}

/// Frames that come and are not inspected say nothing of what is behind them, whatever becomes of the watchdog.
#[test]
fn without_the_watchdog_the_gate_is_held_until_the_next_frame_where_the_last_one_failed() {
    let mut line = Line::new(settings(|settings| {
        settings.watchdog = 100 * MS;
        settings.fail_safe = FailSafe::Reject;
    }));
    for time in [0, 500, 1000] {
        line.frame(time * MS, Failed);
    }
    line.settings.watchdog = 0;
    line.frame(1500 * MS, Good);
    line.run_to(3000 * MS);
    line.rejects(0, 1500 * MS);
    assert!(!line.rejects_at(1510 * MS));
}

/// The thread that asks may come after the frame that ends a silence: what has passed in it is rejected all the same.
#[test]
fn a_silence_that_is_noticed_late_is_rejected() {
    let mut line = Line::new(settings(|settings| {
        settings.watchdog = 100 * MS;
        settings.fail_safe = FailSafe::Reject;
        settings.delay = 1000 * MS;
    }));
    line.frame(50 * MS, Good);
    line.now = 400 * MS;
    line.late_frame(400 * MS, Good);
    line.run_to(480 * MS);
    line.frame(480 * MS, Good);
    line.run_to(500 * MS);
    assert_eq!(line.alarms(), [400 * MS]);
    line.run_to(5000 * MS);
    assert_eq!(line.holds()[..2], [(1050 * MS, true), (1400 * MS, false)]);
}

/// 100 parts, one a frame, of which 50 are lost: every one that nobody saw is rejected, and no other.
#[test]
fn lost_frames_are_rejected_each_at_its_place() {
    for lost_in_a_row in [1, 5] {
        let mut line = Line::new(settings(|settings| {
            settings.fail_safe = FailSafe::Reject;
            settings.watchdog = 2000 * MS;
            settings.delay = 800 * MS;
            settings.merge_window = 30 * MS;
            settings.pulse = 20 * MS;
        }));
        let at = |part: u64| (10 + 100 * part) * MS;
        let seen = |part: u64| (part / lost_in_a_row).is_multiple_of(2);
        let mut lost = 0;
        for part in 0..101 {
            if part == 100 || seen(part) {
                line.run_to(at(part));
                line.frame_after(std::mem::take(&mut lost), at(part), Good);
            } else {
                lost += 1;
            }
        }
        line.run_to(at(120));
        for part in 0..100 {
            let time = at(part) + 800 * MS;
            assert_eq!(
                line.rejects_at(time),
                !seen(part),
                "part {part} of {lost_in_a_row}"
            );
        }
        assert_eq!(line.fired().len(), 50);
        assert!(
            line.fired()
                .iter()
                .all(|(_, part)| part.reason == Reason::FailSafe)
        );
    }
}

#[test]
fn a_failure_of_inspection_is_rejected_without_a_gap() {
    // Frames of a camera, and of one that is slower than parts are long.
    for (delay, apart, window) in [
        (0, 40, 200),
        (300, 40, 200),
        (0, 500, 200),
        (300, 500, 200),
        (300, 40, 0),
        (0, 40, 10),
        (2000, 500, 0),
    ] {
        let mut line = Line::new(settings(|settings| {
            settings.fail_safe = FailSafe::Reject;
            settings.delay = delay * MS;
            (settings.pulse, settings.merge_window) = (20 * MS, window * MS);
        }));
        line.frame(0, Good);
        for frame in 1..20 {
            line.frame(frame * apart * MS, Failed);
        }
        line.frame(20 * apart * MS, Good);
        line.run_to(20_000 * MS);
        line.rejects(apart * MS, 20 * apart * MS);
        assert!(!line.rejects_at((apart / 2 + delay) * MS));
        assert!(!line.rejects_at((20 * apart + 200 + delay) * MS));
        assert!(!line.schedule.holding);
    }
}

/// Frames of the same part outvote one that failed, and then nothing is held either.
#[test]
fn a_failure_that_is_outvoted_holds_nothing() {
    let mut line = Line::new(settings(|settings| {
        settings.fail_safe = FailSafe::Reject;
        settings.decision = Decision::Majority;
        settings.delay = 300 * MS;
    }));
    for (time, shown) in [
        (0, Good),
        (50, Failed),
        (100, Good),
        (150, Good),
        (200, Good),
    ] {
        line.frame(time * MS, shown);
    }
    line.run_to(3000 * MS);
    assert_eq!((line.fired(), line.holds()), (vec![], vec![]));
}

/// The settings that the README shows for a belt: the camera dies, frames fail and are lost, and meanwhile the belt is slower and stands.
#[test]
fn on_a_belt_by_distance_what_nobody_has_seen_is_rejected_where_it_is() {
    let mut line = Line::new(settings(|settings| {
        settings.fail_safe = FailSafe::Reject;
        settings.watchdog = 2000 * MS;
        (settings.distance, settings.belt_speed) = (0.8, 0.5);
        settings.merge_window = 100 * MS;
    }));
    let steady = |line: &mut Line, from: u64, to: u64| {
        for time in (from..to).step_by(100) {
            line.frame(time * MS, Good);
        }
    };
    steady(&mut line, 0, 1000);
    // 15 are missing, which the slower belt takes longer to the gate.
    line.run_to(2500 * MS);
    line.frame_after(15, 2500 * MS, Good);
    steady(&mut line, 2600, 3000);
    line.run_to(3000 * MS);
    line.settings.belt_speed = 0.05;
    steady(&mut line, 3000, 3500);
    line.run_to(3500 * MS);
    line.settings.belt_speed = 0.5;
    steady(&mut line, 3500, 5000);
    line.frame(5000 * MS, Failed);
    line.run_to(6200 * MS);
    line.settings.belt_speed = 0.05;
    line.frame(6300 * MS, Good);
    line.run_to(6800 * MS);
    line.settings.belt_speed = 0.5;
    steady(&mut line, 6800, 9000);
    // Dead; the belt stands for a while, and goes on faster.
    line.run_to(11_500 * MS);
    line.settings.belt_speed = 0.0;
    line.run_to(30_000 * MS);
    line.settings.belt_speed = 1.0;
    line.run_to(60_000 * MS);
    steady(&mut line, 60_000, 65_000);
    assert_eq!(line.alarms(), [10_900 * MS]);
    // From the first lost frame's place to that of the last.
    line.rejects(1000 * MS, 2400 * MS);
    line.rejects(5000 * MS, 6300 * MS);
    // The watchdog's time is longer than the way.
    line.rejects(9310 * MS, 60_000 * MS);
    for (good, until) in [(100, 900), (2550, 4900), (6500, 8800), (60_100, 62_000)] {
        for time in (good..until).step_by(50) {
            let place = line.place(time * MS);
            assert!(!line.rejects_at(place), "{time}");
        }
    }
}

#[test]
fn the_belt_goes_on_in_a_pause_and_the_watchdog_too() {
    let mut line = Line::new(settings(|settings| {
        settings.delay = 100 * MS;
        settings.watchdog = 200 * MS;
        settings.fail_safe = FailSafe::Reject;
    }));
    line.frame(0, Defective);
    line.run_to(50 * MS);
    line.schedule.pause(Some(50 * MS), 50 * MS);
    assert!(line.schedule.has_more_to_come());
    line.run_to(5000 * MS);
    assert_eq!(line.times(), [100 * MS]);
    assert_eq!(
        (line.alarms(), line.holds()),
        (vec![200 * MS], vec![(200 * MS, true)])
    );
}

/// The last parts are waited for and no frames are; a camera that has ended its stream on a belt that goes on is one that is gone.
#[test]
fn the_end_of_the_stream_waits_for_parts_and_is_then_a_silence() {
    let mut line = Line::new(settings(|settings| {
        settings.delay = 500 * MS;
        settings.watchdog = 100 * MS;
        settings.fail_safe = FailSafe::Reject;
    }));
    line.frame(0, Defective);
    line.run_to(50 * MS);
    line.schedule.end();
    line.run_to(500 * MS);
    assert_eq!((line.times(), line.alarms()), (vec![500 * MS], vec![]));
    assert!(!line.schedule.has_more_to_come());
    line.schedule.drained(500 * MS);
    line.run_to(5000 * MS);
    assert_eq!(line.alarms(), [600 * MS]);
    assert_eq!(line.holds(), [(600 * MS, true)]);
    // What is held so has no end that is waited for.
    assert!(!line.schedule.has_more_to_come());
    // A stream that goes on is as any other.
    for time in (5000..5700).step_by(50) {
        line.frame(time * MS, Good);
    }
    assert_eq!(line.holds()[1], (5500 * MS, false));
}

#[test]
fn a_flush_leaves_the_parts_on_the_belt() {
    let mut line = Line::new(settings(|settings| settings.delay = 100 * MS));
    line.frame(0, Defective);
    line.schedule.flush();
    assert!(line.schedule.has_more_to_come());
    // The next part is not taken for that one.
    assert!(matches!(line.frame(MS, Defective), Association::New(_)));
    line.run_to(1000 * MS);
    assert_eq!(line.times(), [100 * MS, 101 * MS]);
}

#[test]
fn parts_beyond_what_is_remembered_are_told_and_pass() {
    let mut line = Line::new(settings(|settings| {
        settings.delay = u64::MAX;
        settings.merge_window = MS;
    }));
    for part in 0..MOST as u64 {
        let association = line.frame(part * MS, Defective);
        assert!(matches!(association, Association::New(_)));
    }
    let association = line.frame(MOST as u64 * MS, Defective);
    assert_eq!(association, Association::TooMany);
    line.run_to(u64::MAX - 1);
    assert_eq!(line.done, []);
}

fn shown() -> impl Strategy<Value = Shown> {
    prop::sample::select(vec![Good, Good, Defective, Skipped, Failed])
}

proptest! {
    /// Whatever comes and whatever is set: every part ends once, never before its time and not after it
    /// unless it was known too late; and the schedule never asks to be asked again at once.
    #[test]
    fn every_part_ends_once_and_at_its_time(
        frames in prop::collection::vec((0u64..60, 0u64..80, shown()), 1..60),
        (delay, window, watchdog) in (0u64..200, 0u64..100, prop::sample::select(vec![0u64, 1, 70])),
        decision in prop::sample::select(vec![Decision::Any, Decision::Majority, Decision::Max]),
        fail_safe in prop::sample::select(vec![FailSafe::Pass, FailSafe::Reject]),
    ) {
        let mut line = Line::new(settings(|settings| {
            (settings.delay, settings.merge_window, settings.watchdog) = (delay, window, watchdog);
            (settings.decision, settings.fail_safe) = (decision, fail_safe);
        }));
        let mut opened = Vec::new();
        for (gap, age, shown) in frames {
            line.run_to(line.now + gap);
            let association = line.late_frame(line.now.saturating_sub(age), shown);
            if let Association::New(part) = association {
                prop_assert_eq!(part.late, part.due < line.now);
                opened.push((part.number, part.due.max(line.now)));
            }
        }
        line.schedule.end();
        // The last frame may be ahead of the clock, where several were taken at once.
        line.run_to(line.now.max(line.last.unwrap_or(0)) + delay);
        let mut ended = Vec::new();
        for (time, action) in &line.done {
            match action {
                Action::Fire(part) | Action::Pass(part) => {
                    prop_assert_eq!(part.rejected(decision), matches!(action, Action::Fire(_)));
                    ended.push((part.number, *time));
                }
                Action::Alarm => prop_assert!(watchdog > 0),
                Action::Hold(_) => prop_assert_eq!(fail_safe, FailSafe::Reject),
                Action::Wait(_) => unreachable!(),
            }
        }
        opened.sort_unstable();
        ended.sort_unstable();
        prop_assert_eq!(ended, opened);
    }

    /// Whatever is set, and however frames come: what failed is rejected from its place on, until that of the next frame that was to be
    /// inspected or is missing; and what was lost is at its place, where that is known in time.
    #[test]
    fn what_fails_or_is_lost_is_rejected(
        frames in prop::collection::vec((1u64..300, 0u64..3, shown(), prop::sample::select(vec![0u64, 20, 500])), 1..20),
        (way, speed, window, pulse) in (0u64..800, 0u64..4, 0u64..300, 1u64..60),
        speeds in prop::collection::vec(1u64..8, 20),
        decision in prop::sample::select(vec![Decision::Any, Decision::Max]),
    ) {
        let mut line = Line::new(settings(|settings| {
            settings.fail_safe = FailSafe::Reject;
            settings.decision = decision;
            (settings.merge_window, settings.pulse) = (window * MS, pulse * MS);
            match speed {
                0 => settings.delay = way * MS,
                _ => (settings.distance, settings.belt_speed) = ((way + 1) as f64 / 1000.0, 1.0),
            }
        }));
        let (mut failed, mut lost_at) = (Vec::new(), Vec::new());
        let mut last = None;
        for (&(gap, lost, shown, watchdog), speed) in frames.iter().zip(speeds) {
            let time = line.now + gap * MS;
            line.run_to(time);
            line.frame_after(lost, time, shown);
            let mut next = time;
            if let Some(last) = last.replace(time) {
                let apart = (time - last) / (lost + 1);
                lost_at.extend((1..=lost).map(|step| (time, last + step * apart)));
                if lost > 0 {
                    next = last + apart;
                }
            }
            if shown != Skipped || lost > 0 {
                if let Some((_, to @ None)) = failed.last_mut() {
                    *to = Some(next);
                }
                if shown == Failed {
                    failed.push((time, None));
                }
            }
            line.settings.watchdog = watchdog * MS;
            if line.settings.goes_by_belt() {
                line.settings.belt_speed = speed as f64 / 4.0;
            }
        }
        let end = line.now;
        line.run_to(end + 20_000 * MS);
        for (from, to) in failed {
            line.rejects(from, to.unwrap_or(end));
        }
        for (known, time) in lost_at {
            // Of the edge of a position the last digits are not certain.
            let place = line.place(time);
            if place > known {
                prop_assert!(line.rejects_at(place + 10), "{} of {:?}", time, line.done);
            }
        }
    }

    /// The watchdog barks once in each silence; and with `fail-safe=reject` the gate rejects exactly what passed the camera in one, as far as
    /// it has not passed the gate by then.
    #[test]
    fn what_passes_in_a_silence_is_rejected(gaps in prop::collection::vec(1u64..500, 1..40), watchdog in 1u64..100, delay in 0u64..1000) {
        let mut line = Line::new(settings(|settings| {
            (settings.watchdog, settings.delay) = (watchdog, delay);
            settings.fail_safe = FailSafe::Reject;
        }));
        let mut silences = Vec::new();
        for gap in gaps {
            let last = line.now;
            // At the time of the frame itself, the schedule has been asked first.
            if gap >= watchdog {
                silences.push((last, last + gap));
            }
            line.frame(last + gap, Good);
        }
        let end = line.now;
        line.schedule.end();
        line.run_to(end + delay);
        let alarms: Vec<u64> = silences.iter().map(|(from, _)| from + watchdog).collect();
        prop_assert_eq!(line.alarms(), alarms);
        for time in 0..end {
            let silence = silences.iter().find(|(from, to)| (*from..*to).contains(&time));
            let known = silence.is_some_and(|(from, _)| time + delay >= from + watchdog);
            let held = line.holds().into_iter().rfind(|(at, _)| *at <= time + delay);
            prop_assert_eq!(held.is_some_and(|(_, held)| held), known, "{}", time);
        }
    }
}

mod unseen;
