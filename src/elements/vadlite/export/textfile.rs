//! The statistics as a file for Prometheus: what node_exporter's textfile collector reads.

use super::{EVERY, ExportError, Worker};
use crate::elements::vadlite::VadLite;
use crate::fs::{self, Durability};
use crate::thread;
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

/// Writes the file, and keeps it up to date from then on.
///
/// # Errors
/// It cannot be written, or there is no thread to be had.
pub fn start(element: &VadLite, file: &Path) -> Result<Worker, ExportError> {
    write(file, element).map_err(|source| ExportError::File {
        file: file.into(),
        source,
    })?;
    let (stop, stopped) = channel();
    let (weak, file) = (element.downgrade(), file.to_owned());
    let work = move || run(&weak, &file, &stopped);
    Ok(Worker::start(element, stop, work)?)
}

/// Keeps the file up to date until there is no more sender.
fn run(element: &glib::WeakRef<VadLite>, path: &Path, stopped: &Receiver<()>) {
    let mut failing = false;
    loop {
        let last = stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected);
        let Some(element) = element.upgrade() else {
            return;
        };
        thread::panic_point("vadlite-stats: file");
        let result = write(path, &element);
        let before = std::mem::replace(&mut failing, result.is_err());
        if let Err(error) = result
            && !before
        {
            gst::element_warning!(
                element,
                gst::ResourceError::Write,
                ("the property stats-file: {}: {error}", path.display())
            );
        }
        if last {
            return;
        }
    }
}

/// Whole or not at all: the collector may read at any time.
///
/// # Errors
/// The system's.
fn write(path: &Path, element: &VadLite) -> std::io::Result<()> {
    let text = element.imp().prometheus();
    fs::replace(path, Durability::Cached, |file| {
        file.write_all(text.as_bytes())
    })
}
