//! The bounded way of pulses to one output.

use crate::elements::vadlitetrigger::pulse::Pulse;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Notify;

/// Pulses on their way to one output. Full, it gives up the oldest.
#[derive(Debug)]
pub struct Queue {
    pulses: Mutex<VecDeque<Pulse>>,
    limit: usize,
    changed: Notify,
    closed: AtomicBool,
}

impl Queue {
    pub fn new(limit: usize) -> Self {
        Self {
            pulses: Mutex::new(VecDeque::with_capacity(limit)),
            limit,
            changed: Notify::new(),
            closed: AtomicBool::new(false),
        }
    }

    /// Adds a pulse; returns the one that had to go for it.
    pub fn push(&self, pulse: Pulse) -> Option<Pulse> {
        let mut pulses = self.pulses.lock();
        let dropped = (pulses.len() >= self.limit)
            .then(|| pulses.pop_front())
            .flatten();
        pulses.push_back(pulse);
        drop(pulses);
        self.changed.notify_one();
        dropped
    }

    /// The oldest pulse, which stays in.
    pub fn first(&self) -> Option<Pulse> {
        self.pulses.lock().front().copied()
    }

    /// Takes out the oldest pulse if it is still that of this part.
    pub fn remove(&self, part: u64) {
        let mut pulses = self.pulses.lock();
        if pulses
            .front()
            .is_some_and(|pulse| pulse.part.number == part)
        {
            pulses.pop_front();
        }
    }

    pub fn take(&self) -> Option<Pulse> {
        self.pulses.lock().pop_front()
    }

    /// Waits for a pulse or the end.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits for the end.
    pub async fn closed(&self) {
        while !self.is_closed() {
            self.changed().await;
        }
    }

    /// No more pulses will come; what is in may still go out.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.changed.notify_one();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
