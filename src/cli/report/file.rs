//! A page's file: whether it can be written, and writing it.

use crate::fs::{self, Durability, folder_of};
use anyhow::{Context as _, bail};
use std::path::Path;

/// # Errors
/// Where the page could not be written or its heatmaps not be drawn: better known before the images are read than after.
pub fn check(out: &Path) -> anyhow::Result<()> {
    gst::init().context("GStreamer, which the heatmaps are drawn with")?;
    if !folder_of(out).is_dir() || out.is_dir() {
        bail!("report {} cannot be written there", out.display());
    }
    Ok(())
}

/// # Errors
/// The system's.
pub fn write(out: &Path, page: &str) -> anyhow::Result<()> {
    fs::replace(out, Durability::Cached, |file| {
        file.write_all(page.as_bytes())
    })
    .with_context(|| format!("report {} cannot be written", out.display()))
}
