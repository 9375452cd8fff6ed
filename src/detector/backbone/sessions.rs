//! The sessions of this process. Detectors with the same graph share them: there are as many as can run at a time, however many streams
//! there are, so that weights and working memory are not held for streams that wait for a processor anyway.

use super::device::Device;
use ort::session::Session;
use parking_lot::{Condvar, Mutex};
use std::sync::{Arc, Weak};

/// What sessions have to have in common to be shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Hash of the graph as cut, which includes the input size.
    pub graph: String,
    /// 0: one per core.
    pub threads: usize,
    pub device: Device,
}

impl Key {
    /// How many sessions are worth having: as many as fill the processors, and two at least, so that one computes while the other waits
    /// for the slowest of its threads. A session takes 6 to 13 MB.
    fn limit(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match (self.device.is_processor(), self.threads) {
            (false, _) => 1,
            (true, 0) => 2,
            (true, threads) => cores.div_ceil(threads).max(2),
        }
    }
}

/// The sessions of one key.
pub struct Sessions {
    key: Key,
    idle: Mutex<Vec<Session>>,
    returned: Condvar,
    /// How many there are, idle or running.
    made: Mutex<usize>,
}

/// All that are in use by some detector.
static ALL: Mutex<Vec<Weak<Sessions>>> = Mutex::new(Vec::new());

impl Sessions {
    /// The sessions of this key, one of them made with `make` where one more can run than there are.
    ///
    /// # Errors
    /// What `make` says.
    pub fn shared<E>(key: Key, make: impl FnOnce() -> Result<Session, E>) -> Result<Arc<Self>, E> {
        // Held while a session is made: the next one who asks for the same shall find it.
        let mut all = ALL.lock();
        all.retain(|sessions| sessions.strong_count() > 0);
        let found = all
            .iter()
            .filter_map(Weak::upgrade)
            .find(|sessions| sessions.key == key);
        let sessions = found.unwrap_or_else(|| {
            Arc::new(Self {
                key,
                idle: Mutex::new(Vec::new()),
                returned: Condvar::new(),
                made: Mutex::new(0),
            })
        });
        let mut made = sessions.made.lock();
        if *made < sessions.key.limit() {
            let session = make()?;
            sessions.idle.lock().push(session);
            sessions.returned.notify_one();
            *made += 1;
            if *made == 1 {
                all.push(Arc::downgrade(&sessions));
            }
        }
        drop(made);
        Ok(sessions)
    }

    /// Runs `work` with a session, once one is idle.
    pub fn with<T>(&self, work: impl FnOnce(&mut Session) -> T) -> T {
        let mut idle = self.idle.lock();
        let session = loop {
            match idle.pop() {
                Some(session) => break session,
                None => {
                    self.returned.wait(&mut idle);
                }
            }
        };
        drop(idle);
        // Given back even where `work` panics: others wait for it.
        let mut session = scopeguard::guard(session, |session| {
            self.idle.lock().push(session);
            self.returned.notify_one();
        });
        work(&mut session)
    }
}
