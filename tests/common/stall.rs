//! How long the machine has stood still: a thread that sleeps briefly again and again, and notes how late it wakes.
//!
//! What others do on the same cores delays this thread as it delays those under test; what is late beyond that is late by their own doing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const NAP: Duration = Duration::from_millis(1);

/// Measures until it is dropped.
pub struct Stalls {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// When it was to wake, and when it did.
    late: Mutex<Vec<(Instant, Instant)>>,
    end: AtomicBool,
}

impl Stalls {
    pub fn start() -> Self {
        let shared = Arc::<Shared>::default();
        let its = shared.clone();
        let thread = std::thread::spawn(move || {
            while !its.end.load(Ordering::Relaxed) {
                let due = Instant::now() + NAP;
                std::thread::sleep(NAP);
                its.late.lock().unwrap().push((due, Instant::now()));
            }
        });
        Self {
            shared,
            thread: Some(thread),
        }
    }

    /// For how much of this time the machine stood still.
    pub fn between(&self, from: Instant, to: Instant) -> Duration {
        let late = self.shared.late.lock().unwrap();
        late.iter()
            .map(|(due, woke)| (*woke).min(to).saturating_duration_since((*due).max(from)))
            .sum()
    }
}

impl Drop for Stalls {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}
