//! The limits on what a folder of incidents holds: the oldest go first.

use std::io;
use std::path::Path;
use std::time::SystemTime;

/// What the names of incidents begin with.
const PREFIX: &str = "incident-";
/// What belongs to one incident.
const KINDS: [&str; 3] = ["mkv", "json", "png"];

/// The name of an incident that begins now, without an extension. Names sort by time; several elements may write to one folder.
pub fn new_name(now: SystemTime) -> String {
    let time: String = humantime::format_rfc3339_millis(now)
        .to_string()
        .chars()
        .filter(|letter| !"-:".contains(*letter))
        .collect();
    format!("{PREFIX}{time}-{:04x}", fastrand::u16(..))
}

/// Removes the oldest incidents in `folder` (but never `current`) until at most `files` with `bytes` are left; 0 is no limit. Returns the
/// names of those that went.
///
/// # Errors
/// The folder cannot be read. A file that cannot be removed is left.
pub fn enforce(folder: &Path, current: &str, bytes: u64, files: u64) -> io::Result<Vec<String>> {
    if bytes == 0 && files == 0 {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        // Only what this element has made.
        if let Some(stem) = name.strip_suffix(".mkv")
            && stem.starts_with(PREFIX)
            && stem != current
        {
            names.push(stem.to_owned());
        }
    }
    names.sort();
    let size = |stem: &str| -> u64 {
        let paths = KINDS.map(|kind| folder.join(format!("{stem}.{kind}")));
        let sizes = paths.iter().filter_map(|path| path.metadata().ok());
        sizes.map(|metadata| metadata.len()).sum()
    };
    let sizes: Vec<u64> = names.iter().map(|name| size(name)).collect();
    let own = if current.is_empty() { 0 } else { 1 };
    let (mut held, mut count) = (
        sizes.iter().sum::<u64>() + size(current),
        names.len() as u64 + own,
    );
    let mut removed = Vec::new();
    for (name, size) in names.into_iter().zip(sizes) {
        if (bytes == 0 || held <= bytes) && (files == 0 || count <= files) {
            break;
        }
        for kind in KINDS {
            let _ = std::fs::remove_file(folder.join(format!("{name}.{kind}")));
        }
        held -= size;
        count -= 1;
        removed.push(name);
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["incident-1", "incident-2", "incident-3", "incident-4"];
        let make = || {
            for name in names {
                for kind in KINDS {
                    std::fs::write(folder.path().join(format!("{name}.{kind}")), [0; 100]).unwrap();
                }
            }
        };
        let left = || -> Vec<_> {
            let there = |name: &&&str| folder.path().join(format!("{name}.mkv")).exists();
            names.iter().filter(there).copied().collect()
        };
        make();
        std::fs::write(folder.path().join("holiday.mkv"), [0; 10_000]).unwrap();
        let enforce =
            |current, bytes, files| enforce(folder.path(), current, bytes, files).unwrap();
        assert!(enforce("incident-4", 0, 0).is_empty());
        assert_eq!(enforce("incident-4", 0, 3), names[..1]);
        assert_eq!(left(), names[1..]);
        assert!(!folder.path().join("incident-1.json").exists());
        assert_eq!(enforce("incident-4", 600, 0), names[1..2]);
        assert_eq!(left(), names[2..]);
        // The one that is being written stays, however large.
        make();
        assert_eq!(enforce("incident-1", 1, 0), names[1..]);
        assert_eq!(left(), names[..1]);
        assert!(folder.path().join("holiday.mkv").exists());
    }
}
