//! Why the element does not start, and why an incident is not recorded.

use super::picture::PictureError;
use super::writer::WriteError;
use crate::elements::time::UnitError;
use std::io;
use std::path::PathBuf;

/// Why the element does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A time that is meant in another unit.
    #[error(transparent)]
    Time(#[from] UnitError),
    #[error("the property location: {} cannot be written to", path.display())]
    Location { path: PathBuf, source: io::Error },
    #[error("GStreamer has none of the encoders {0}; install its good plugins")]
    NoEncoder(String),
    #[error("the property encoder: GStreamer has no element {0}; leave it out, or install it")]
    Encoder(String),
    #[error(
        "GStreamer has no element {0}, which Matroska needs; install its bad plugins, or set encoder=jpegenc"
    )]
    Parser(&'static str),
    #[error("GStreamer has no element {0}; install its base plugins")]
    Element(&'static str),
    #[error("the encoder cannot be connected")]
    Link(#[source] glib::BoolError),
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
}

/// Why an incident is not recorded, or a part of what belongs to it.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the folder {} cannot be made", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{}", path.display())]
    Video { path: PathBuf, source: WriteError },
    #[error("{}", path.display())]
    Picture {
        path: PathBuf,
        source: Box<PictureError>,
    },
    #[error("{}", path.display())]
    Description { path: PathBuf, source: io::Error },
    #[error("the limits on {} cannot be kept", folder.display())]
    Limits { folder: PathBuf, source: io::Error },
}
