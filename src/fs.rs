//! Files that are there whole or not at all, whoever reads them and whenever the power fails.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

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
/// Where `path` is a symbolic link, the file that it leads to is replaced, and the link stays. A file that is there hands on its mode
/// bits and, as far as the system allows it, its owner and group. A new one is readable by others than its owner (the service that
/// inspects, a collector of statistics): a temporary file is private otherwise. What is no file, such as `/dev/stdout`, is written to.
///
/// # Errors
/// The system's, or those of `write`; the old file is there then as it was.
pub fn replace(
    path: &Path,
    durability: Durability,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let old = match std::fs::metadata(path) {
        Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(there) if !there.is_file() => return write(&mut open_device(path)?),
        Ok(there) => Some(there),
        // Whatever else is wrong shows when the new file is made.
        Err(_) => None,
    };
    let path = followed(path)?;
    let folder = folder_of(&path);
    let mut file = tempfile::Builder::new()
        .prefix(".vadlite-")
        .permissions(Permissions::from_mode(0o644))
        .tempfile_in(folder)?;
    if let Some(old) = old {
        let new = file.as_file().metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // Only the system's administrator may give files away, and others their groups' at most.
            let owned = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
            let _ = owned.or_else(|_| fchown(file.as_file(), None, Some(old.gid())));
        }
        file.as_file().set_permissions(old.permissions())?;
    }
    write(&mut file)?;
    if durability == Durability::Synced {
        file.as_file().sync_all()?;
    }
    file.persist(&path)?;
    if durability == Durability::Synced {
        std::fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// A device or a pipe, to be written to. A pipe that nobody reads is an error, and not waited for.
fn open_device(path: &Path) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.write(true);
    let reader_is_there = options.clone().custom_flags(libc::O_NONBLOCK).open(path)?;
    let device = options.open(path);
    drop(reader_is_there);
    device
}

/// The file that symbolic links lead to from `path`, there or not.
///
/// # Errors
/// Links that lead in a circle.
pub fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    // As many as Linux follows.
    for _ in 0..40 {
        let Ok(next) = std::fs::read_link(&path) else {
            return Ok(path);
        };
        path = folder_of(&path).join(next);
    }
    Err(io::Error::from_raw_os_error(libc::ELOOP))
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
    fn links_stay_and_mode_bits_are_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("store")).unwrap();
        std::fs::write(at("store/v1"), b"old").unwrap();
        std::fs::set_permissions(at("store/v1"), Permissions::from_mode(0o640)).unwrap();
        let link = std::os::unix::fs::symlink::<&str, PathBuf>;
        link("store/v1", at("current")).unwrap();
        link("current", at("part")).unwrap();
        link("store/new", at("dangling")).unwrap();
        link("circle", at("circle")).unwrap();
        let new =
            |name: &str| replace(&at(name), Durability::Synced, |file| file.write_all(b"new"));
        new("part").unwrap();
        assert_eq!(std::fs::read(at("store/v1")).unwrap(), b"new");
        let mode = std::fs::metadata(at("store/v1")).unwrap().mode();
        assert_eq!(mode & 0o7777, 0o640);
        assert_eq!(
            std::fs::read_link(at("part")).unwrap(),
            Path::new("current")
        );
        assert_eq!(
            std::fs::read_link(at("current")).unwrap(),
            Path::new("store/v1")
        );
        // A link to what is not there yet.
        new("dangling").unwrap();
        assert_eq!(std::fs::read(at("store/new")).unwrap(), b"new");
        assert!(
            std::fs::symlink_metadata(at("dangling"))
                .unwrap()
                .is_symlink()
        );
        assert!(new("circle").is_err());
        assert!(new("store").is_err());
        // Nothing is left beside what was written.
        assert_eq!(std::fs::read_dir(at("store")).unwrap().count(), 2);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5);
    }

    /// Of the administrator's powers only: who runs the tests may not have them.
    #[test]
    fn the_owner_is_kept_where_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"old").unwrap();
        let given = std::os::unix::fs::chown(&path, Some(4321), Some(4321)).is_ok();
        replace(&path, Durability::Cached, |file| file.write_all(b"new")).unwrap();
        let owner = std::fs::metadata(&path).unwrap().uid();
        assert_eq!(owner == 4321, given);
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        use std::os::unix::fs::FileTypeExt as _;
        replace(Path::new("/dev/null"), Durability::Synced, |file| {
            file.write_all(b"away")
        })
        .unwrap();
        let null = std::fs::metadata("/dev/null").unwrap().file_type();
        assert!(null.is_char_device());
    }

    #[test]
    fn a_bare_name_is_in_the_working_folder() {
        assert_eq!(folder_of(Path::new("part.vadlite")), Path::new("."));
        assert_eq!(folder_of(Path::new("a/part.vadlite")), Path::new("a"));
    }
}
