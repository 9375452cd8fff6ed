//! What the stream waits on while a model is learnt: room for a frame, a model, the end of the fit, or that the element is to stop.

use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// Wakes the streaming thread that is held.
#[derive(Debug, Default)]
pub struct Wakeup {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Something has happened that nobody has looked at yet.
    news: bool,
    /// Why the streaming thread is to come back: the end of playing, and a flush. Each ends by itself.
    stopping: bool,
    flushing: bool,
}

impl State {
    fn leaving(&self) -> bool {
        self.stopping || self.flushing
    }
}

impl Wakeup {
    /// There is something to look at.
    pub fn notify(&self) {
        self.state.lock().news = true;
        self.changed.notify_all();
    }

    /// Whether the streaming thread is to come back at once, for the end of playing.
    pub fn set_stopping(&self, stopping: bool) {
        self.state.lock().stopping = stopping;
        self.changed.notify_all();
    }

    /// The same for a flush.
    pub fn set_flushing(&self, flushing: bool) {
        self.state.lock().flushing = flushing;
        self.changed.notify_all();
    }

    /// Waits for news, at most for so long. Returns whether the thread may go on waiting.
    pub fn wait(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.state.lock();
        while !state.leaving() && !std::mem::take(&mut state.news) {
            if self.changed.wait_until(&mut state, end).timed_out() {
                break;
            }
        }
        !state.leaving()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const LONG: Duration = Duration::from_secs(60);

    /// How long it waits, and what it says then.
    fn waits(wakeup: &Wakeup, limit: Duration) -> (Duration, bool) {
        let start = Instant::now();
        let goes_on = wakeup.wait(limit);
        (start.elapsed(), goes_on)
    }

    #[test]
    fn news_from_before_is_not_missed_and_looked_at_once() {
        let wakeup = Wakeup::default();
        wakeup.notify();
        let (waited, goes_on) = waits(&wakeup, LONG);
        assert!(goes_on && waited < LONG);
        let limit = Duration::from_millis(20);
        assert!(waits(&wakeup, limit).0 >= limit);
    }

    #[test]
    fn leaving_ends_the_wait_and_every_one_after_it() {
        let wakeup = Arc::new(Wakeup::default());
        let other = wakeup.clone();
        let leave = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.set_flushing(true);
        });
        let (waited, goes_on) = waits(&wakeup, LONG);
        assert!(!goes_on && waited < LONG);
        leave.join().unwrap();
        assert!(!wakeup.wait(LONG));
        // The end of one reason is none of the other.
        wakeup.set_stopping(true);
        wakeup.set_flushing(false);
        assert!(!wakeup.wait(LONG));
        wakeup.set_stopping(false);
        assert!(wakeup.wait(Duration::ZERO));
    }
}
