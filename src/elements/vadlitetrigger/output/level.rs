//! Whether the gate is to be open now: a coil or a line is on while it is held or a pulse lasts.

use super::queue::Queue;
use crate::elements::vadlitetrigger::pulse::Pulse;
use std::time::Duration;
use tokio::time::Instant;

/// How long an output may take at the end of the element: a pulse under way is cut after half of it, and what is on is switched off in the
/// rest, over a new connection if need be.
pub const GRACE: Duration = Duration::from_secs(2);

/// Lives as long as the output, so that what has been switched on is known after a panic of its thread too.
#[derive(Debug, Default)]
pub struct Level {
    /// When the last pulse ends.
    off_at: Option<Instant>,
    /// It has been switched on, and nothing says that it is off again.
    pub maybe_on: bool,
    /// When the element has ended, and the grace too.
    end: Option<Instant>,
}

impl Level {
    /// A pulse goes out now: its width is counted from here, whenever the answer comes.
    pub fn open(&mut self, pulse: &Pulse, now: Instant) {
        self.off_at = self.off_at.max(Some(now + pulse.width));
        self.cut();
    }

    /// The pulses have not gone out after all.
    pub fn forget_pulses(&mut self) {
        self.off_at = None;
    }

    /// Whether it is to be on.
    pub fn wanted(&self, queue: &Queue, now: Instant) -> bool {
        queue.is_held() || self.off_at.is_some_and(|at| now < at)
    }

    /// When that changes by itself.
    pub fn changes_at(&self) -> Option<Instant> {
        self.off_at
    }

    /// When the grace ends, once the element has ended.
    pub fn end(&mut self, queue: &Queue, now: Instant) -> Option<Instant> {
        if queue.is_closed() && self.end.is_none() {
            self.end = Some(now + GRACE);
            self.cut();
        }
        self.end
    }

    fn cut(&mut self) {
        if let (Some(at), Some(end)) = (&mut self.off_at, self.end) {
            *at = (*at).min(end - GRACE / 2);
        }
    }
}

/// Waits until the first of these times that lies after `now`; without one for ever.
pub async fn sleep_until_first<const N: usize>(now: Instant, times: [Option<Instant>; N]) {
    let first = times.into_iter().flatten().filter(|time| *time > now).min();
    match first {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
