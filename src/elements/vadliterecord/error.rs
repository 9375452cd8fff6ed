//! Why the element does not start, and why an incident is not recorded.

use super::chain::Unusable;
use super::picture::PictureError;
use super::writer::WriteError;
use crate::elements::time::UnitError;
use std::fmt;
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
    #[error("no encoder works here: {0}; install GStreamer's good plugins, which have jpegenc")]
    NoEncoder(Reasons),
    #[error(
        "the property encoder: {name} cannot be used; leave it out, or choose one that works here: {usable}"
    )]
    Encoder {
        name: String,
        source: Box<Unusable>,
        usable: String,
    },
    #[error("the property encoder: GStreamer has no element {0}; leave it out, or install it")]
    NoSuchEncoder(String),
    #[error("{0}; install its base plugins")]
    Element(Unusable),
    #[error("the encoder cannot be connected")]
    Link(#[source] glib::BoolError),
    #[error("no thread can be started")]
    Thread(#[source] io::Error),
}

/// Why each of several encoders is not used.
#[derive(Debug, Default)]
pub struct Reasons(pub Vec<Unusable>);

impl Reasons {
    /// Several names or reasons in one line.
    pub fn list(all: impl Iterator<Item = impl ToString>) -> String {
        let all: Vec<_> = all.map(|one| one.to_string()).collect();
        all.join(", ")
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&Self::list(self.0.iter()))
    }
}

/// Why an incident is not recorded, or a part of what belongs to it, or the limits are not kept.
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
    #[error("the encoder has given no frame of it")]
    NoFrames,
    #[error("the limits on {} cannot be kept", folder.display())]
    Limits { folder: PathBuf, source: io::Error },
    #[error(
        "the limits are not kept: {} cannot be removed; let this user write to its folder",
        path.display()
    )]
    Remove { path: PathBuf, source: io::Error },
}
