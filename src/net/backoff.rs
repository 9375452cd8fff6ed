//! How long to wait before trying again, and what a peer has to do for a new beginning.

use std::time::Duration;

/// The wait after the first failure.
pub const FIRST: Duration = Duration::from_millis(100);
/// The longest.
pub const LONGEST: Duration = Duration::from_secs(2);

/// The waits for a peer that accepts connections and then does not do what it is asked for: with these it gets four in ten seconds.
const REFUSED_FIRST: Duration = Duration::from_secs(1);
const REFUSED_LONGEST: Duration = Duration::from_secs(8);

/// A connection that was answered and then lived for so long was a good one.
const LIVED: Duration = Duration::from_secs(1);
/// The same where a pulse has failed: that it answers other things is no proof.
const LIVED_AFTER_PULSE: Duration = Duration::from_secs(10);

/// Waits that double from a first to a longest.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Default for Backoff {
    /// From [`FIRST`] to [`LONGEST`].
    fn default() -> Self {
        Self::new(FIRST, LONGEST)
    }
}

impl Backoff {
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// How long to wait after another failure.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (2 * wait).min(self.longest);
        wait
    }

    /// To be called on an answer, not on a mere connection: a peer that accepts and then refuses would be tried without end.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// What is to be thought of a peer after what it has done so far. A connection that breaks after all went well is made anew at once; a
/// peer that nobody reaches is tried often, one that accepts and then refuses seldom.
#[derive(Debug)]
pub struct Standing {
    unreachable: Backoff,
    refused: Backoff,
    /// It may fail once and be tried again at once.
    trusted: bool,
    /// It has failed since it last did what it was asked for.
    failed: bool,
    /// It has failed at a pulse since.
    failed_at_pulse: bool,
    /// It has closed an idle connection since.
    closed_idle: bool,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            unreachable: Backoff::default(),
            refused: Backoff::new(REFUSED_FIRST, REFUSED_LONGEST),
            trusted: false,
            failed: false,
            failed_at_pulse: false,
            closed_idle: false,
        }
    }
}

impl Standing {
    /// It has done what matters: a pulse has been delivered. All failures are forgotten.
    pub fn served(&mut self) {
        *self = Self {
            trusted: true,
            ..Self::default()
        };
    }

    /// It has answered something else, which is trusted only where nothing has failed yet.
    pub fn answered(&mut self) {
        self.trusted |= !self.failed;
    }

    /// A connection was answered and has lived for so long since. Returns whether that was a good one, so that failures are forgotten.
    pub fn lived(&mut self, life: Duration) -> bool {
        let needed = match self.failed_at_pulse {
            true => LIVED_AFTER_PULSE,
            false => LIVED,
        };
        let good = life > needed;
        if good {
            self.served();
        }
        good
    }

    /// There is nobody: how long to wait.
    pub fn unreachable(&mut self) -> Duration {
        self.failed = true;
        self.trusted = false;
        // Who comes back is another one.
        self.failed_at_pulse = false;
        self.unreachable.next_wait()
    }

    /// It accepted, and then broke off or refused: how long to wait, or `None` where it is tried again at once.
    pub fn broke(&mut self, at_pulse: bool) -> Option<Duration> {
        self.failed = true;
        self.failed_at_pulse |= at_pulse;
        match std::mem::take(&mut self.trusted) {
            true => None,
            false => Some(self.refused.next_wait()),
        }
    }

    /// It closed a connection on which it had answered and owed nothing, which is no failure: how long to wait before another one that
    /// nothing needs yet, or `None`.
    pub fn closed_idle(&mut self) -> Option<Duration> {
        if !std::mem::replace(&mut self.closed_idle, true) {
            return None;
        }
        self.trusted = false;
        Some(self.refused.next_wait())
    }

    /// Whether it has failed since it last did what it was asked for.
    pub fn has_failed(&self) -> bool {
        self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_an_answer() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..7).map(|_| backoff.next_wait().as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
        backoff.reset();
        assert_eq!(backoff.next_wait(), FIRST);
    }

    /// Connections in the first ten seconds of a peer whose connections all end like this, at once.
    fn connections(mut end: impl FnMut(&mut Standing) -> Option<Duration>) -> usize {
        let mut standing = Standing::default();
        let (mut time, mut count) = (Duration::ZERO, 0);
        while time < 10 * SECOND {
            count += 1;
            time += end(&mut standing).unwrap_or_default();
        }
        count
    }

    #[test]
    fn a_peer_that_accepts_and_then_refuses_is_tried_at_most_five_times_in_ten_seconds() {
        // It closes at once.
        assert_eq!(connections(|standing| standing.broke(false)), 4);
        // It answers, and then fails at a pulse; or closes, however often it answers before.
        for at_pulse in [true, false] {
            let count = connections(|standing| {
                standing.answered();
                standing.lived(SECOND / 2);
                standing.broke(at_pulse)
            });
            assert_eq!(count, 5);
        }
        // It answers, closes what is idle at once, and fails at a pulse that comes then.
        let mut pulse = false;
        let count = connections(|standing| {
            let needed = std::mem::take(&mut pulse);
            if needed {
                return standing.broke(true);
            }
            standing.answered();
            let wait = standing.closed_idle();
            pulse = wait.is_some() && !standing.has_failed();
            if pulse { None } else { wait }
        });
        assert_eq!(count, 5);
        // It fails at each pulse, and its connections live for seconds before.
        let mut standing = Standing::default();
        standing.answered();
        assert_eq!(standing.broke(true), None);
        for wait in [1, 2, 4, 8, 8] {
            standing.answered();
            assert!(!standing.lived(5 * SECOND));
            assert_eq!(standing.broke(true), Some(wait * SECOND));
        }
    }

    #[test]
    fn a_good_connection_that_breaks_is_made_anew_at_once() {
        let mut standing = Standing::default();
        standing.answered();
        for _ in 0..100 {
            assert!(standing.lived(2 * SECOND));
            assert_eq!(standing.broke(false), None);
        }
        assert_eq!(standing.broke(false), Some(SECOND));
        standing.served();
        assert_eq!(standing.broke(true), None);
        // What was away and has come back is judged by what it does then.
        assert_eq!(standing.unreachable(), FIRST);
        standing.answered();
        assert!(standing.lived(2 * SECOND));
        assert_eq!(standing.broke(false), None);
    }
}
