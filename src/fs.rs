//! Files that are there whole or not at all, whoever reads them and whenever the power fails.

use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// The folder that a file is in: `.` for a bare name.
pub fn folder_of(path: &Path) -> &Path {
    path.parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Whether what is replaced has to outlast a power cut, or only has to be whole for those who read it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On the disk when [`replace`] returns.
    Synced,
    /// Whenever the system writes it.
    Cached,
}

/// Replaces the file `path` by what `write` writes, so that at every moment either the old or the new one is there, whole.
///
/// It is readable by others than its owner (the service that inspects, a collector of statistics): a temporary file is private otherwise.
///
/// # Errors
/// The system's, or those of `write`; the old file is there then as it was.
pub fn replace(
    path: &Path,
    durability: Durability,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let folder = folder_of(path);
    let mut file = tempfile::Builder::new()
        .prefix(".vadlite-")
        .permissions(std::fs::Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    write(&mut file)?;
    if durability == Durability::Synced {
        file.as_file().sync_all()?;
    }
    file.persist(path)?;
    if durability == Durability::Synced {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Finds out whether files can be made in a folder: now rather than when there is something to write.
///
/// # Errors
/// The system's.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    tempfile::tempfile_in(folder).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_fails_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["old", "older than that"] {
            replace(&path, Durability::Synced, |file| {
                file.write_all(text.as_bytes())
            })
            .unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
        let failed = replace(&path, Durability::Cached, |file| {
            file.write_all(b"half")?;
            Err(io::Error::other("full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "full");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "older than that");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_bare_name_is_in_the_working_folder() {
        assert_eq!(folder_of(Path::new("part.vadlite")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/part.vadlite")), Path::new("a"));
    }
}
