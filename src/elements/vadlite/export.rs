//! The statistics as a file for Prometheus: what node_exporter's textfile collector reads.

use super::VadLite;
use gst::prelude::*;
use gst::subclass::prelude::*;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// How often the file is written.
const EVERY: Duration = Duration::from_secs(5);

/// Starts the thread that keeps the file up to date until what it returns is dropped.
///
/// # Errors
/// The file cannot be written, or the system has no thread to give.
pub fn start(element: &VadLite, path: PathBuf) -> Result<Sender<()>, String> {
    let refused = |error: std::io::Error| format!("{}: {error}", path.display());
    let text = element.imp().prometheus();
    write(&path, &text).map_err(refused)?;
    let (sender, stopped) = channel();
    let weak = element.downgrade();
    std::thread::Builder::new()
        .name("vadlite-stats".into())
        .spawn(move || run(&weak, &path, &stopped))
        .map_err(|error| format!("no thread can be started: {error}"))?;
    Ok(sender)
}

fn run(element: &glib::WeakRef<VadLite>, path: &Path, stopped: &Receiver<()>) {
    let mut failing = false;
    loop {
        let last = stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Disconnected);
        let Some(element) = element.upgrade() else {
            return;
        };
        let result = write(path, &element.imp().prometheus());
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
fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".vadlite-")
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
