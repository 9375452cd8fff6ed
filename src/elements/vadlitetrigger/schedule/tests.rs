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
    done: Vec<(u64, Action)>,
}

impl Line {
    fn new(settings: LiveSettings) -> Self {
        let mut schedule = Schedule::default();
        schedule.set_playing(true);
        let mut line = Self {
            schedule,
            settings,
            now: 0,
            frames: 0,
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
        let frame = self.frames;
        self.frames += 1;
        let score = match shown {
            Good => 0.5,
            Defective => 2.0 + frame as f64,
            Skipped | Failed => 0.0,
        };
        let observation = Observation {
            time,
            frame: Some(frame),
            score,
            threshold: 1.0,
            flagged: score > 1.0,
            inspection: match shown {
                Good | Defective => Inspection::Inspected,
                Skipped => Inspection::Skipped,
                Failed => Inspection::Failed,
            },
        };
        self.schedule
            .frame(observation, &self.settings, Some(self.now))
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

    /// When the watchdog barked, and whether it did so for the first time.
    fn alarms(&self) -> Vec<(u64, bool)> {
        let alarms = self.done.iter().filter_map(|(time, action)| match action {
            Action::Alarm { first, .. } => Some((*time, *first)),
            _ => None,
        });
        alarms.collect()
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
    assert!(line.schedule.has_parts_to_come());
    line.run_to(1000 * MS);
    assert_eq!(line.times(), [310 * MS, 550 * MS]);
    let (_, part) = line.fired()[0];
    assert_eq!((part.number, part.frames, part.flagged), (0, 3, 3));
    assert_eq!((part.worst_frame, part.score), (Some(2), 4.0));
    assert_eq!((part.reason, part.late), (Reason::Flagged, false));
    assert!(!line.schedule.has_parts_to_come());
}

#[test]
fn distance_and_speed_make_the_delay_of_the_parts_to_come() {
    let mut line = Line::new(settings(|settings| {
        settings.delay = 9000 * MS;
        (settings.distance, settings.belt_speed) = (0.5, 2.0);
        settings.merge_window = 10 * MS;
    }));
    line.frame(0, Defective);
    line.run_to(250 * MS);
    line.settings.belt_speed = 5.0;
    line.frame(300 * MS, Defective);
    line.run_to(10_000 * MS);
    assert_eq!(line.times(), [250 * MS, 400 * MS]);
    line.settings.distance = 0.0;
    line.frame(11_000 * MS, Defective);
    line.run_to(30_000 * MS);
    assert_eq!(line.times()[2], 20_000 * MS);
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
    assert_eq!((part.reason, part.flagged), (Reason::Flagged, 2));
    line.settings.fail_safe = FailSafe::Pass;
    assert_eq!(line.frame(3000 * MS, Failed), Association::None);
}

#[test]
fn silence_alarms_again_and_again_until_frames_are_inspected_again() {
    let mut line = Line::new(settings(|settings| {
        settings.watchdog = 100 * MS;
        settings.delay = 30 * MS;
        settings.merge_window = 10 * MS;
        settings.fail_safe = FailSafe::Reject;
    }));
    line.frame(50 * MS, Good);
    // Neither is an inspected frame.
    line.frame(120 * MS, Skipped);
    line.run_to(360 * MS);
    let alarms = [(150 * MS, true), (250 * MS, false), (350 * MS, false)];
    assert_eq!(line.alarms(), alarms);
    assert_eq!(line.times(), [180 * MS, 280 * MS]);
    for (_, part) in line.fired() {
        // No frame stands for it.
        assert_eq!((part.reason, part.worst_frame), (Reason::FailSafe, None));
    }
    line.frame(400 * MS, Good);
    line.run_to(500 * MS);
    assert_eq!(line.alarms()[3..], [(500 * MS, true)]);
    // The watchdog can be switched off while playing, and what passes is then not rejected.
    line.settings.watchdog = 0;
    line.settings.fail_safe = FailSafe::Pass;
    line.run_to(10_000 * MS);
    assert_eq!(line.alarms().len(), 4);
    assert_eq!(line.times(), [180 * MS, 280 * MS, 380 * MS, 530 * MS]);
    line.settings.watchdog = 1000 * MS;
    line.run_to(12_000 * MS);
    assert_eq!(
        line.alarms()[4..],
        [
            (10_000 * MS, false),
            (11_000 * MS, false),
            (12_000 * MS, false)
        ]
    );
    assert_eq!(line.times().len(), 4);
}

#[test]
fn nothing_is_done_in_a_pause_and_the_watchdog_begins_anew_after_it() {
    let mut line = Line::new(settings(|settings| {
        settings.delay = 100 * MS;
        settings.watchdog = 200 * MS;
    }));
    line.frame(0, Defective);
    line.run_to(50 * MS);
    line.schedule.set_playing(false);
    assert!(!line.schedule.has_parts_to_come());
    let paused = line.schedule.next(5000 * MS, &line.settings);
    assert_eq!(paused, Action::Wait(None));
    // Running time stood still.
    line.schedule.set_playing(true);
    line.run_to(250 * MS);
    assert_eq!(line.times(), [100 * MS]);
    assert_eq!(line.alarms(), [(250 * MS, true)]);
}

#[test]
fn a_flush_forgets_what_is_on_its_way() {
    let mut line = Line::new(settings(|settings| settings.delay = 100 * MS));
    line.frame(0, Defective);
    line.schedule.clear();
    assert!(!line.schedule.has_parts_to_come());
    // The next part is not taken for that one.
    assert!(matches!(line.frame(MS, Defective), Association::New(_)));
    line.run_to(1000 * MS);
    assert_eq!(line.times(), [101 * MS]);
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
        // What the watchdog adds from here on has no end.
        line.settings.watchdog = 0;
        line.run_to(line.now + delay);
        let mut ended = Vec::new();
        for (time, action) in &line.done {
            match action {
                Action::Fire(part) | Action::Pass(part) => {
                    prop_assert_eq!(part.rejected(decision), matches!(action, Action::Fire(_)));
                    ended.push((part.number, *time));
                }
                Action::Alarm { part: Association::New(part), .. } => opened.push((part.number, part.due)),
                Action::Alarm { part, .. } => prop_assert!(fail_safe == FailSafe::Reject || *part == Association::None),
                Action::Wait(_) => unreachable!(),
            }
        }
        opened.sort_unstable();
        ended.sort_unstable();
        prop_assert_eq!(ended, opened);
    }

    /// The watchdog barks once in each of its times without an inspected frame, and only the first time says that it is new.
    #[test]
    fn each_time_without_an_inspected_frame_is_one_alarm(gaps in prop::collection::vec(1u64..500, 1..40), watchdog in 1u64..100) {
        let mut line = Line::new(settings(|settings| settings.watchdog = watchdog));
        let mut expected = Vec::new();
        for gap in gaps {
            let last = line.now;
            // At the time of the frame itself, the schedule has been asked first.
            let alarms = (1..=gap / watchdog).map(|n| (last + n * watchdog, n == 1));
            expected.extend(alarms);
            line.frame(last + gap, Good);
        }
        prop_assert_eq!(line.alarms(), expected);
    }
}
