//! How far a fit is, and how it is ended early.

use super::error::FitError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The wish that a fit end. Its clones are one: whoever fits looks at it, on every thread and several times a second, and whoever no
/// longer wants the model sets it.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for the end.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// # Errors
    /// [`FitError::Cancelled`] once the end has been asked for.
    pub fn check(&self) -> Result<(), FitError> {
        match self.is_cancelled() {
            true => Err(FitError::Cancelled),
            false => Ok(()),
        }
    }
}

/// Where a fit reports to, and where it looks whether it is still wanted.
pub struct Progress<'a> {
    report: Box<dyn FnMut(&'static str, usize, usize) + 'a>,
    cancel: Cancel,
}

impl<'a> Progress<'a> {
    /// `report` is told what is being done, how much of it is done, and of how much.
    pub fn new(report: impl FnMut(&'static str, usize, usize) + 'a, cancel: Cancel) -> Self {
        Self {
            report: Box::new(report),
            cancel,
        }
    }

    /// Nobody is told, and nobody ends it.
    pub fn none() -> Self {
        Self::new(|_, _, _| (), Cancel::default())
    }

    /// Reports that `done` of `total` are done of what `stage` names.
    ///
    /// # Errors
    /// [`FitError::Cancelled`] once the end has been asked for.
    pub fn at(&mut self, stage: &'static str, done: usize, total: usize) -> Result<(), FitError> {
        (self.report)(stage, done, total);
        self.cancel.check()
    }

    /// To be looked at by threads that do a part of the work.
    pub fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// The same wish for an end, with nobody to report to.
    pub fn silent(&self) -> Progress<'static> {
        Progress::new(|_, _, _| (), self.cancel.clone())
    }
}
