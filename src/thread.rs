//! Threads with an owner: who starts one keeps it, ends it, and hears of its panic.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a thread that is waited for is looked at; there is no join with a time-out.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A thread of this process that ends with its owner, or is let go where it does not end in time.
#[derive(Debug)]
#[must_use = "dropped, the thread is waited for"]
pub struct Owned {
    handle: Option<JoinHandle<()>>,
}

impl Owned {
    /// Starts `work` in a thread of this name (15 bytes of which the system shows). A panic ends the thread and is handed to
    /// `panicked` as text, in the thread itself: nobody else would hear of it before the thread is joined.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn spawn(
        name: &str,
        work: impl FnOnce() + Send + 'static,
        panicked: impl FnOnce(String) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (mut work, mut panicked) = (Some(work), Some(panicked));
        Self::spawn_again(
            name,
            move || {
                if let Some(work) = work.take() {
                    work();
                }
            },
            move |panic| {
                if let Some(panicked) = panicked.take() {
                    panicked(panic);
                }
                None
            },
        )
    }

    /// As [`Owned::spawn`], for work that is worth beginning anew: after each panic `panicked` says how long to wait before that, or
    /// `None` where there is nothing left to do.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn spawn_again(
        name: &str,
        mut work: impl FnMut() + Send + 'static,
        mut panicked: impl FnMut(String) -> Option<Duration> + Send + 'static,
    ) -> std::io::Result<Self> {
        let handle = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // What `work` owned is gone with it; what it shared is behind locks whose holders leave it whole at every step.
                while let Err(panic) = catch_unwind(AssertUnwindSafe(&mut work)) {
                    match panicked(panic_text(&*panic)) {
                        Some(wait) => std::thread::sleep(wait),
                        None => return,
                    }
                }
            })?;
        Ok(Self {
            handle: Some(handle),
        })
    }

    /// Whether the thread has ended, by itself or by a panic.
    pub fn is_finished(&self) -> bool {
        self.handle.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the thread's end.
    pub fn join(mut self) {
        self.join_now();
    }

    /// Waits for the thread's end for so long at most, and lets it go where it has not come by then. Returns whether it has ended.
    pub fn join_within(mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while !self.is_finished() {
            if Instant::now() >= end {
                self.handle = None;
                return false;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.join_now();
        true
    }

    fn join_now(&mut self) {
        if let Some(handle) = self.handle.take()
            // The last owner of an element may be its own thread, which cannot wait for itself.
            && handle.thread().id() != std::thread::current().id()
        {
            // Its panic has been reported.
            let _ = handle.join();
        }
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.join_now();
    }
}

/// What a panic says.
pub fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a text").to_owned()
}

/// A place at which a unit test makes a thread of ours panic; nothing otherwise.
#[inline]
pub fn panic_point(name: &str) {
    #[cfg(test)]
    panics::at(name);
    let _ = name;
}

/// Which [`panic_point`]s panic.
#[cfg(test)]
pub mod panics {
    use parking_lot::Mutex;

    static WANTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    /// For tests that start what others want to panic: who wants a panic gets it in whatever thread comes by first.
    pub static ALONE: Mutex<()> = Mutex::new(());

    /// The next thread that comes to the point of this name panics there, once.
    pub fn want(name: &str) {
        WANTED.lock().push(name.to_owned());
    }

    pub fn at(name: &str) {
        let mut wanted = WANTED.lock();
        if let Some(index) = wanted.iter().position(|wanted| wanted == name) {
            wanted.swap_remove(index);
            drop(wanted);
            panic!("the test wants a panic at {name}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_panic_is_told_once_and_ends_the_thread() {
        let (tell, told) = channel();
        let thread = Owned::spawn(
            "panics",
            || panic!("number {}", 7),
            move |text| tell.send(text).unwrap(),
        );
        assert_eq!(told.recv().unwrap(), "number 7");
        assert!(thread.unwrap().join_within(Duration::from_secs(10)));
        assert!(told.recv().is_err());
    }

    #[test]
    fn work_that_is_worth_it_is_begun_anew() {
        let (tell, told) = channel();
        let mut round = 0;
        let thread = Owned::spawn_again(
            "again",
            move || {
                round += 1;
                assert!(round == 3, "round {round}");
            },
            move |text| {
                tell.send(text).unwrap();
                Some(Duration::ZERO)
            },
        );
        thread.unwrap().join();
        assert_eq!(told.iter().collect::<Vec<_>>(), ["round 1", "round 2"]);
    }

    #[test]
    fn what_does_not_end_is_let_go() {
        let (end, ends) = channel::<()>();
        let thread = Owned::spawn("waits", move || _ = ends.recv(), |_| ()).unwrap();
        assert!(!thread.join_within(Duration::from_millis(20)));
        drop(end);
    }

    #[test]
    fn a_thread_may_drop_itself() {
        let (give, given) = channel::<Owned>();
        let (tell, told) = channel();
        let thread = Owned::spawn(
            "itself",
            move || {
                drop(given.recv());
                tell.send(()).unwrap();
            },
            |_| (),
        );
        give.send(thread.unwrap()).unwrap();
        told.recv_timeout(Duration::from_secs(10)).unwrap();
    }
}
