//! Backbone files: where they are, and which they are.

use super::runtime;
use crate::detector::error::{BackboneError, Error, Result};
use crate::fs::folder_of;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

/// File name of the committed backbone.
pub const DEFAULT_BACKBONE: &str = "mobilenetv2.onnx";

/// A backbone file, read and hashed, not yet a session.
pub struct BackboneFile {
    pub path: PathBuf,
    /// SHA-256 of the file, lower-case hex.
    pub sha256: String,
    pub(super) bytes: Vec<u8>,
}

impl BackboneFile {
    /// # Errors
    /// [`Error::Backbone`] where the file cannot be read.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path)
            .map_err(|error| Error::backbone(path, BackboneError::Read(error)))?;
        Ok(Self {
            path: path.to_path_buf(),
            sha256: sha256(&bytes),
            bytes,
        })
    }

    /// The file's name without folders, as a model file keeps it.
    pub fn name(&self) -> String {
        self.path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }
}

/// SHA-256 in lower-case hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks a backbone up by name: beside the model file, beside the plugin or program, in the data folder's `models`.
///
/// # Errors
/// [`Error::Backbone`] with every place searched.
pub fn find(name: &str, beside: Option<&Path>) -> Result<PathBuf> {
    let folders: Vec<PathBuf> = [
        beside.map(|file| folder_of(file).to_path_buf()),
        runtime::own_dir(),
        Some(runtime::data_dir().join("models")),
    ]
    .into_iter()
    .flatten()
    .collect();
    folders
        .iter()
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| Error::backbone(name, BackboneError::NotFound { searched: folders }))
}

/// The backbone that was `asked` for, by path or by the name of an installed one; where none was, the one named `default`.
///
/// # Errors
/// [`Error::Backbone`] as [`find`].
pub fn resolve(asked: Option<&Path>, default: &str, beside: Option<&Path>) -> Result<PathBuf> {
    match asked {
        Some(path) if path.exists() || path.components().count() != 1 => Ok(path.to_path_buf()),
        Some(name) => find(&name.to_string_lossy(), beside),
        None => find(default, beside),
    }
}
