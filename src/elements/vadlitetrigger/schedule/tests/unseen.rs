//! Frames that nobody has seen among those of a part, and for longer than the watchdog waits.

use super::*;

/// What becomes of a part of these frames, 10 ms apart, each with the number of frames missing before it: whether it is rejected.
fn is_rejected(settings: &LiveSettings, frames: &[(u64, Shown)]) -> bool {
    let mut line = Line::new(*settings);
    for (number, (lost, shown)) in (0..).zip(frames) {
        let time = (20 + 10 * number) * MS;
        line.run_to(time);
        line.frame_after(*lost, time, *shown);
    }
    line.run_to(10_000 * MS);
    let decided = line.done.iter().filter_map(|(_, action)| match action {
        Action::Fire(part) => Some((part.number, true)),
        Action::Pass(part) => Some((part.number, false)),
        _ => None,
    });
    let [(0, rejected)] = decided.collect::<Vec<_>>()[..] else {
        panic!("not one part of {frames:?}: {:?}", line.done);
    };
    rejected
}

/// Any of them may have shown a defect.
#[test]
fn what_failed_or_is_lost_counts_as_flagged_in_a_majority() {
    let mut settings = settings(|settings| {
        settings.decision = Decision::Majority;
        settings.fail_safe = FailSafe::Reject;
        settings.delay = 300 * MS;
        settings.merge_window = 100 * MS;
    });
    let seen = |shown| (0, shown);
    let two_lost = |shown| (2, shown);
    // With the frames, whether the part is rejected where what nobody has seen is, and where it passes.
    let parts = [
        (vec![seen(Defective), seen(Failed), seen(Good)], true, false),
        (
            vec![seen(Defective), seen(Failed), seen(Good), seen(Good)],
            false,
            false,
        ),
        (
            vec![seen(Defective), seen(Failed), seen(Failed), seen(Defective)],
            true,
            true,
        ),
        // Left out on purpose says nothing either way.
        (
            vec![seen(Defective), seen(Skipped), seen(Skipped), seen(Good)],
            false,
            false,
        ),
        (
            vec![seen(Defective), two_lost(Good), seen(Good)],
            true,
            false,
        ),
        (
            vec![seen(Defective), two_lost(Good), seen(Good), seen(Good)],
            false,
            false,
        ),
    ];
    for (frames, reject, pass) in &parts {
        for (fail_safe, expected) in [(FailSafe::Reject, reject), (FailSafe::Pass, pass)] {
            settings.fail_safe = fail_safe;
            assert_eq!(
                is_rejected(&settings, frames),
                *expected,
                "{fail_safe:?}: {frames:?}"
            );
        }
    }
    // A part that no frame has seen well begins where that is rejected only.
    settings.fail_safe = FailSafe::Reject;
    assert!(is_rejected(
        &settings,
        &[seen(Failed), seen(Failed), seen(Good)]
    ));
    assert!(!is_rejected(
        &settings,
        &[seen(Failed), seen(Good), seen(Good)]
    ));
}

/// A model is learnt, or every inspection fails: pulses until the watchdog's time, then held, without a gap.
#[test]
fn what_fails_for_long_is_rejected_without_a_gap() {
    for (decision, delay) in [
        (Decision::Any, 20),
        (Decision::Any, 400),
        (Decision::Majority, 50),
        (Decision::Max, 50),
    ] {
        let mut line = Line::new(settings(|settings| {
            settings.decision = decision;
            settings.fail_safe = FailSafe::Reject;
            settings.watchdog = 100 * MS;
            settings.delay = delay * MS;
            settings.merge_window = 30 * MS;
        }));
        for frame in 0..80 {
            let shown = if (10..60).contains(&frame) {
                Failed
            } else {
                Good
            };
            line.frame(frame * 20 * MS, shown);
        }
        line.run_to(1590 * MS + delay * MS);
        // Once, so long after the last frame that was inspected.
        let alarms = line.alarms().into_iter();
        let alarms: Vec<_> = alarms.filter(|time| *time < 1600 * MS).collect();
        assert_eq!(alarms, [280 * MS]);
        line.rejects(200 * MS, 1200 * MS);
        assert!(line.holds().iter().any(|(_, held)| *held));
        for time in [100, 1300, 1500] {
            let place = line.place(time * MS);
            assert!(!line.rejects_at(place), "{time}: {:?}", line.done);
        }
    }
}
