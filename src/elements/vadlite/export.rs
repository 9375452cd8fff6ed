//! The statistics for others to collect: threads that tell them every few seconds until the element stops.

#[cfg(feature = "mqtt")]
mod mqtt;
mod textfile;

use super::VadLite;
use super::error::ValueError;
use crate::net::address::AddressError;
#[cfg(feature = "mqtt")]
use crate::net::broker::{Broker, BrokerError};
use crate::thread::Owned;
use gst::prelude::*;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often.
const EVERY: Duration = Duration::from_secs(5);

/// Why the statistics cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error("the property stats-file: {}: {source}", .file.display())]
    File {
        file: PathBuf,
        source: std::io::Error,
    },
    #[error("the property stats-mqtt: {0}")]
    Address(#[from] AddressError),
    #[cfg(feature = "mqtt")]
    #[error("the property credentials: {0}")]
    Broker(#[from] BrokerError),
    #[error("no thread can be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// Whether statistics can be published at an address, or at none where it is empty.
///
/// # Errors
/// What is wrong with it.
pub fn check_address(address: &str) -> Result<(), ValueError> {
    if address.is_empty() {
        return Ok(());
    }
    #[cfg(feature = "mqtt")]
    Broker::parse(address)?;
    #[cfg(not(feature = "mqtt"))]
    mqtt::check::<()>(address)?;
    Ok(())
}

/// Ends its threads when it is dropped, after a last word of each.
pub struct Export {
    _workers: Vec<Worker>,
}

impl Export {
    /// Starts the threads that the properties `stats-file` and `stats-mqtt` ask for, the latter empty where it does not.
    ///
    /// # Errors
    /// A file that cannot be written, an address or credentials that are wrong, or no thread to be had.
    pub fn start(
        element: &VadLite,
        file: Option<&Path>,
        address: &str,
        credentials: Option<&str>,
    ) -> Result<Self, ExportError> {
        let mut workers = Vec::new();
        if let Some(file) = file {
            workers.push(textfile::start(element, file)?);
        }
        if !address.is_empty() {
            workers.push(mqtt::start(element, address, credentials)?);
        }
        Ok(Self { _workers: workers })
    }
}

/// Wait before a thread that has panicked begins anew.
const AFTER_PANIC: Duration = Duration::from_secs(1);

/// A thread that ends when `stop` is dropped.
struct Worker {
    stop: Option<Box<dyn Send>>,
    thread: Option<Owned>,
}

impl Worker {
    /// `work` is begun anew after a panic, which `element` warns of.
    fn start(
        element: &VadLite,
        stop: impl Send + 'static,
        work: impl FnMut() + Send + 'static,
    ) -> std::io::Result<Self> {
        let element = element.downgrade();
        let thread = Owned::spawn_again("vadlite-stats", work, move |panic| {
            let element = element.upgrade()?;
            gst::element_warning!(
                element,
                gst::CoreError::Thread,
                ("the thread that tells the statistics has failed and begins anew: {panic}")
            );
            Some(AFTER_PANIC)
        })?;
        Ok(Self {
            stop: Some(Box::new(stop)),
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It ends within the broker's grace.
            thread.join();
        }
    }
}

#[cfg(not(feature = "mqtt"))]
mod mqtt {
    //! Takes the place of the statistics by MQTT where that is not built in.

    use super::{AddressError, ExportError, VadLite, Worker};
    use crate::net::address::{self, Address, Reason};

    pub fn check<T>(address: &str) -> Result<T, AddressError> {
        let refuse = |address: Address| address.built_in().and(Err(Reason::Scheme));
        Address::read(address, address::MQTT, refuse)
    }

    pub fn start(
        _element: &VadLite,
        address: &str,
        _credentials: Option<&str>,
    ) -> Result<Worker, ExportError> {
        Ok(check(address)?)
    }
}
