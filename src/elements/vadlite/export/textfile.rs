//! The statistics as a file for Prometheus: what node_exporter's textfile collector reads.

use super::EVERY;
use crate::elements::vadlite::VadLite;
use gst::subclass::prelude::*;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use tokio::sync::watch;

/// Keeps the file up to date until there is no more sender.
pub async fn run(element: &glib::WeakRef<VadLite>, path: &Path, mut stopped: watch::Receiver<()>) {
    let mut failing = false;
    loop {
        let last = tokio::time::timeout(EVERY, stopped.changed()).await.is_ok();
        let Some(element) = element.upgrade() else {
            return;
        };
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
pub fn write(path: &Path, element: &VadLite) -> std::io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".vadlite-")
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    file.write_all(element.imp().prometheus().as_bytes())?;
    file.persist(path)?;
    Ok(())
}
