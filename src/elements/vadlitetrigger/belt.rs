//! How far the belt has gone: its speed, integrated over time. Times are nanoseconds on the gate's clock, positions metres since the start.

use std::collections::VecDeque;
use std::time::Duration;

/// Changes of speed that are remembered; a frame is placed by those before it.
const REMEMBERED: usize = 1024;

/// A belt whose speed changes.
#[derive(Debug)]
pub struct Belt {
    /// In the order of their times; never empty.
    changes: VecDeque<Change>,
}

#[derive(Debug, Clone, Copy)]
struct Change {
    time: u64,
    position: f64,
    /// m/s, from this time on.
    speed: f64,
}

impl Change {
    fn position(&self, time: u64) -> f64 {
        let since = Duration::from_nanos(time.saturating_sub(self.time));
        self.position + self.speed * since.as_secs_f64()
    }
}

impl Default for Belt {
    fn default() -> Self {
        let standing = Change {
            time: 0,
            position: 0.0,
            speed: 0.0,
        };
        let mut changes = VecDeque::with_capacity(REMEMBERED);
        changes.push_back(standing);
        Self { changes }
    }
}

impl Belt {
    /// From `now` on the belt goes at `speed`, in m/s.
    pub fn set_speed(&mut self, now: u64, speed: f64) {
        let last = self.last();
        if last.speed == speed {
            return;
        }
        let now = now.max(last.time);
        let position = last.position(now);
        if now == last.time && self.changes.len() > 1 {
            self.changes.pop_back();
        } else if self.changes.len() == REMEMBERED {
            self.changes.pop_front();
        }
        self.changes.push_back(Change {
            time: now,
            position,
            speed,
        });
    }

    /// Where the belt was at `time`, or will be if its speed stays.
    pub fn position(&self, time: u64) -> f64 {
        let change = self.changes.iter().rev().find(|change| change.time <= time);
        // Before all that is remembered: as if it had stood.
        change.unwrap_or(&self.changes[0]).position(time)
    }

    /// When the belt was at `position`, or will be there if its speed stays; `None` while it stands before it.
    pub fn time_at(&self, position: f64) -> Option<u64> {
        let last = self.last();
        if position > last.position {
            let seconds = (position - last.position) / last.speed;
            let wait = Duration::try_from_secs_f64(seconds).ok()?.as_nanos();
            return last.time.checked_add(u64::try_from(wait).ok()?);
        }
        let change = self
            .changes
            .iter()
            .rev()
            .find(|change| change.position < position);
        let change = change.unwrap_or(&self.changes[0]);
        let seconds = (position - change.position) / change.speed;
        let since = Duration::try_from_secs_f64(seconds).map_or(0, |since| since.as_nanos() as u64);
        Some(change.time.saturating_add(since))
    }

    fn last(&self) -> Change {
        self.changes[self.changes.len() - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_belt_goes_as_far_as_its_speeds_make_it() {
        let mut belt = Belt::default();
        belt.set_speed(SECOND, 0.5);
        belt.set_speed(3 * SECOND, 0.0);
        belt.set_speed(10 * SECOND, 2.0);
        let positions = [0, 1, 2, 3, 7, 10, 11].map(|second| belt.position(second * SECOND));
        assert_eq!(positions, [0.0, 0.0, 0.5, 1.0, 1.0, 1.0, 3.0]);
        assert_eq!(belt.time_at(0.25), Some(3 * SECOND / 2));
        assert_eq!(belt.time_at(5.0), Some(12 * SECOND));
        belt.set_speed(11 * SECOND, 0.0);
        assert_eq!(belt.time_at(5.0), None);
        assert_eq!(belt.time_at(3.0), Some(11 * SECOND));
    }

    proptest! {
        /// Positions are the sum of speed times time, taken in small steps; and time and position are each other's inverse while it moves.
        #[test]
        fn position_is_the_integral_of_speed(changes in prop::collection::vec((1u64..2_000, 0u32..4), 1..40), at in 0u64..80_000) {
            let ms = SECOND / 1000;
            let mut belt = Belt::default();
            let mut speeds = Vec::new();
            let mut now = 0;
            for (gap, speed) in changes {
                now += gap;
                belt.set_speed(now * ms, f64::from(speed) / 4.0);
                speeds.push((now, f64::from(speed) / 4.0));
            }
            let mut sum = 0.0;
            for step in 0..at {
                let speed = speeds.iter().rev().find(|(time, _)| *time <= step).map_or(0.0, |(_, speed)| *speed);
                sum += speed / 1000.0;
            }
            let position = belt.position(at * ms);
            prop_assert!((position - sum).abs() < 1e-6, "{position} {sum}");
            if let Some(time) = belt.time_at(position) {
                prop_assert!((belt.position(time) - position).abs() < 1e-6);
                prop_assert!(time <= at * ms + ms);
            }
        }
    }
}
