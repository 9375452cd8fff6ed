//! One way to take a lock.

use std::sync::{Mutex, MutexGuard};

/// Locks a value that a panic in another thread does not make wrong: each holder leaves it whole at every step.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}
