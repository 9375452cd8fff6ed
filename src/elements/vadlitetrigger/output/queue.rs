//! The bounded way of pulses to one output, and whether the gate is to stay open without one.

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
    /// A level and no entry: it cannot be lost.
    held: AtomicBool,
    changed: Notify,
    closed: AtomicBool,
}

impl Queue {
    pub fn new(limit: usize) -> Self {
        Self {
            pulses: Mutex::new(VecDeque::with_capacity(limit)),
            limit,
            held: AtomicBool::new(false),
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

    /// Puts back what has been taken and could not be delivered, before all others.
    pub fn put_back(&self, pulse: Pulse) {
        self.pulses.lock().push_front(pulse);
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

    /// Takes out the oldest pulse if its part is behind the gate.
    pub fn take_passed(&self) -> Option<Pulse> {
        let mut pulses = self.pulses.lock();
        pulses.front().filter(|pulse| has_passed(pulse))?;
        pulses.pop_front()
    }

    /// Says whether the gate is to stay open from now on.
    pub fn hold(&self, held: bool) {
        if self.held.swap(held, Ordering::AcqRel) != held {
            self.changed.notify_one();
        }
    }

    /// Whether the gate is to stay open; never after the end.
    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Acquire) && !self.is_closed()
    }

    /// Waits for a pulse, another level or the end.
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

/// Whether a pulse has waited here until its part was behind the gate: opening it now would hit another one.
pub fn has_passed(pulse: &Pulse) -> bool {
    pulse.fired.elapsed() > pulse.width
}
