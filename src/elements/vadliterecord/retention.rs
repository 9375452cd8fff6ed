//! The limits on what a folder of incidents holds: the oldest go first.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// What a name of an incident is, without an extension: `0` stands for a digit, `f` for a hexadecimal one.
const PATTERN: &[u8] = b"incident-00000000T000000.000Z-ffff";
/// What belongs to one incident; `.part` is a file that is not whole yet.
const KINDS: [&str; 5] = ["mkv", "json", "png", "json.part", "png.part"];
/// How long an incident that is not complete is taken for one that is being written, where the file system has no locks.
const RECENT: Duration = Duration::from_secs(60);
/// Tries to find a name that nobody has.
const TRIES: usize = 100;

/// The name of an incident that begins now. Names sort by time; several elements may write to one folder.
fn new_name(now: SystemTime) -> String {
    let time: String = humantime::format_rfc3339_millis(now)
        .to_string()
        .chars()
        .filter(|letter| !"-:".contains(*letter))
        .collect();
    format!("incident-{time}-{:04x}", fastrand::u16(..))
}

fn is_name(name: &str) -> bool {
    let fits = |(letter, pattern): (u8, &u8)| match pattern {
        b'0' => letter.is_ascii_digit(),
        b'f' => matches!(letter, b'0'..=b'9' | b'a'..=b'f'),
        _ => letter == *pattern,
    };
    name.len() == PATTERN.len() && name.bytes().zip(PATTERN).all(fits)
}

/// The incident that a file belongs to, and what it is of it.
fn parse(file: &str) -> Option<(&str, &'static str)> {
    let (name, kind) = file.split_at_checked(PATTERN.len())?;
    let kind = kind.strip_prefix('.')?;
    let kind = KINDS.into_iter().find(|known| *known == kind)?;
    is_name(name).then_some((name, kind))
}

pub fn path(folder: &Path, name: &str, kind: &str) -> PathBuf {
    folder.join(format!("{name}.{kind}"))
}

/// Makes the video file of an incident that begins now, under a name that nobody has. As long as the file is held it is locked: who
/// keeps limits in the same folder leaves the incident alone.
///
/// # Errors
/// The file cannot be made.
pub fn claim(folder: &Path, now: SystemTime) -> io::Result<(String, File)> {
    let mut taken = None;
    for _ in 0..TRIES {
        let name = new_name(now);
        match File::create_new(path(folder, &name, "mkv")) {
            Ok(file) => {
                // Where there are no locks the file is left alone for being recent.
                let _ = file.try_lock();
                return Ok((name, file));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => taken = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(taken.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into()))
}

/// What has been done to keep the limits.
#[derive(Debug, Default)]
pub struct Kept {
    /// Names of the incidents that went.
    pub removed: Vec<String>,
    /// Files that cannot be removed, each told once.
    pub stuck: Vec<(PathBuf, io::Error)>,
}

/// Keeps the limits on a folder.
#[derive(Debug)]
pub struct Retention {
    folder: PathBuf,
    bytes: u64,
    files: u64,
    known: HashMap<String, Known>,
    /// How many incidents have been seen.
    seen: u64,
}

/// What is known of an incident from one look at the folder to the next.
#[derive(Debug, Default)]
struct Known {
    /// Its place in the order in which they came. Names tell that of former runs only: the clock may have been set back since.
    order: u64,
    complete: bool,
    stuck: bool,
}

/// An incident as it lies in the folder.
#[derive(Debug, Default)]
struct Found {
    bytes: u64,
    kinds: Vec<&'static str>,
    changed: Option<SystemTime>,
    /// Something of its name is no file, and so not the recorder's.
    foreign: bool,
}

impl Found {
    /// Whether it was changed just now. A clock that was set may have left it with a time to come.
    fn is_recent(&self, now: SystemTime) -> bool {
        self.changed.is_some_and(|changed| {
            let age = now.duration_since(changed);
            age.unwrap_or_else(|error| error.duration()) < RECENT
        })
    }
}

impl Retention {
    /// At most `files` incidents with `bytes`; 0 is no limit.
    pub fn new(folder: &Path, bytes: u64, files: u64) -> Self {
        let mut retention = Self {
            folder: folder.to_owned(),
            bytes,
            files,
            known: HashMap::new(),
            seen: 0,
        };
        // Those that are there are older than all to come; what cannot be read now is told of when limits are to be kept.
        if retention.is_limited() {
            let _ = retention.look();
        }
        retention
    }

    fn is_limited(&self) -> bool {
        self.bytes != 0 || self.files != 0
    }

    /// Removes incidents until the limits are kept: first what was never completed and is not being written, then the oldest.
    /// `current` stays: the incident that has just been written, of which is known whether it is complete.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn enforce(&mut self, current: Option<(&str, bool)>) -> io::Result<Kept> {
        let mut kept = Kept::default();
        if !self.is_limited() {
            return Ok(kept);
        }
        let mut found = self.look()?;
        if let Some((name, complete)) = current
            && let Some(known) = self.known.get_mut(name)
        {
            known.complete = complete;
        }
        let mut count = found.len() as u64;
        let mut held: u64 = found.values().map(|found| found.bytes).sum();
        if let Some((name, _)) = current {
            found.remove(name);
        }
        let now = SystemTime::now();
        let mut order: Vec<_> = Vec::with_capacity(found.len());
        for (name, found) in found {
            let Some(known) = self.known.get_mut(&name) else {
                continue;
            };
            if !known.complete {
                known.complete =
                    found.kinds.contains(&"mkv") && is_complete(&path(&self.folder, &name, "json"));
            }
            if known.complete || !found.is_recent(now) {
                order.push((known.complete, known.order, name, found));
            }
        }
        order.sort_unstable_by_key(|it| (it.0, it.1));
        for (complete, _, name, found) in order {
            if (self.bytes == 0 || held <= self.bytes) && (self.files == 0 || count <= self.files) {
                break;
            }
            if !complete && is_locked(&path(&self.folder, &name, "mkv")) {
                continue;
            }
            match self.remove(&name, &found) {
                Ok(()) => {
                    held -= found.bytes;
                    count -= 1;
                    kept.removed.push(name);
                }
                Err((path, error)) => {
                    let known = self.known.entry(name).or_default();
                    if !std::mem::replace(&mut known.stuck, true) {
                        kept.stuck.push((path, error));
                    }
                }
            }
        }
        Ok(kept)
    }

    /// Removes an incident's files: the video first, since one that stays should have what belongs to it.
    fn remove(&self, name: &str, found: &Found) -> Result<(), (PathBuf, io::Error)> {
        for kind in KINDS.iter().filter(|kind| found.kinds.contains(kind)) {
            let path = path(&self.folder, name, kind);
            match std::fs::remove_file(&path) {
                // Another recorder was here first.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err((path, error)),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// The incidents in the folder, each with its place in their order.
    fn look(&mut self) -> io::Result<HashMap<String, Found>> {
        let mut all: HashMap<String, Found> = HashMap::new();
        // What is gone by the time that it is looked at does not count.
        for entry in std::fs::read_dir(&self.folder)?.flatten() {
            let file = entry.file_name();
            let Some((name, kind)) = file.to_str().and_then(parse) else {
                continue;
            };
            // Of a link, not of what it leads to.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let found = all.entry(name.to_owned()).or_default();
            found.foreign |= !metadata.is_file();
            found.bytes += metadata.len();
            found.kinds.push(kind);
            found.changed = found.changed.max(metadata.modified().ok());
        }
        all.retain(|_, found| !found.foreign);
        self.known.retain(|name, _| all.contains_key(name));
        let is_new = |name: &&String| !self.known.contains_key(*name);
        let mut new: Vec<String> = all.keys().filter(is_new).cloned().collect();
        new.sort_unstable();
        for name in new {
            let order = self.seen;
            self.seen += 1;
            let known = Known {
                order,
                ..Known::default()
            };
            self.known.insert(name, known);
        }
        Ok(all)
    }
}

/// Whether a description says that its video is complete, which it does in its first lines.
fn is_complete(description: &Path) -> bool {
    let mut text = String::new();
    let read = File::open(description).and_then(|file| file.take(200).read_to_string(&mut text));
    // Cut within a letter it is none of ours.
    read.is_ok() && text.contains("\"complete\": true")
}

/// Whether a recorder holds this video. Where the file system has no locks, or there is no video, nobody does.
fn is_locked(video: &Path) -> bool {
    File::open(video).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of incidents with files of 100 bytes.
    struct Folder(tempfile::TempDir);

    /// The name of the incident at this second.
    fn name(second: u32) -> String {
        format!("incident-20260314T0000{second:02}.250Z-00ff")
    }

    impl Folder {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> &Path {
            self.0.path()
        }

        fn file(&self, file: &str) -> File {
            let path = self.path().join(file);
            std::fs::write(&path, [b' '; 100]).unwrap();
            File::options().write(true).open(path).unwrap()
        }

        fn add(&self, name: &str) {
            self.file(&format!("{name}.mkv"));
            self.file(&format!("{name}.png"));
            let mut text = "{ \"complete\": true }".to_owned();
            text.extend([' '; 80]);
            std::fs::write(self.path().join(format!("{name}.json")), text).unwrap();
        }

        /// Makes a file as old as one that nobody writes any more.
        fn old(&self, file: &str) {
            let hour = Duration::from_secs(3600);
            let time = SystemTime::now() - hour;
            self.file(file).set_modified(time).unwrap();
        }

        fn files(&self) -> Vec<String> {
            let entries = std::fs::read_dir(self.path()).unwrap();
            let mut files: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            files.sort();
            files
        }

        fn videos(&self) -> Vec<String> {
            let files = self.files();
            let stems = files.iter().filter_map(|file| file.strip_suffix(".mkv"));
            stems.map(ToOwned::to_owned).collect()
        }
    }

    #[test]
    fn the_oldest_go_first_whole_and_the_newest_stays() {
        let folder = Folder::new();
        let names = [1, 2, 3, 4].map(name);
        for name in &names {
            folder.add(name);
        }
        let enforce = |bytes, files| {
            let mut retention = Retention::new(folder.path(), bytes, files);
            let kept = retention.enforce(Some((&names[3], true))).unwrap();
            assert!(kept.stuck.is_empty());
            kept.removed
        };
        assert!(enforce(0, 0).is_empty());
        assert_eq!(enforce(0, 3), names[..1]);
        assert_eq!(folder.files().len(), 9);
        // All files of an incident count.
        assert_eq!(enforce(600, 0), names[1..2]);
        // The one that was just written stays, however large.
        assert_eq!(enforce(1, 0), names[2..3]);
        assert_eq!(folder.videos(), names[3..]);
    }

    #[test]
    fn nothing_goes_that_the_recorder_has_not_made() {
        let folder = Folder::new();
        let others = [
            "incident-2025-recall-evidence",
            "incident-1",
            "incident-20260314T000001.250Z-00ff-copy",
            "incident-20260314T000001.250Z-00FF",
            "incident-20260314T00000a.250Z-00ff",
            "old-incident-20260314T000001.250Z-00ff",
            "holiday",
        ];
        for other in others {
            folder.add(other);
        }
        folder.file("incident-20260314T000001.250Z-00ff.mp4");
        folder.file("incident-20260314T000001.250Z-00ff.mkv.bak");
        // A link to what lies elsewhere, and a folder.
        let archive = Folder::new();
        archive.file("kept.mkv");
        let link = folder.path().join(format!("{}.mkv", name(2)));
        std::os::unix::fs::symlink(archive.path().join("kept.mkv"), link).unwrap();
        folder.file(&format!("{}.json", name(2)));
        std::fs::create_dir(folder.path().join(format!("{}.mkv", name(3)))).unwrap();
        folder.add(&name(4));
        let before = folder.files();
        let kept = Retention::new(folder.path(), 1, 1)
            .enforce(Some((&name(4), true)))
            .unwrap();
        assert!(kept.removed.is_empty() && kept.stuck.is_empty(), "{kept:?}");
        assert_eq!(folder.files(), before);
        assert_eq!(archive.files(), ["kept.mkv"]);
    }

    #[test]
    fn what_is_being_written_stays_and_what_never_was_completed_goes_first() {
        let folder = Folder::new();
        folder.add(&name(1));
        // Of a recorder that was killed, and files without their video.
        folder.old(&format!("{}.mkv", name(20)));
        folder.old(&format!("{}.json", name(20)));
        folder.old(&format!("{}.png", name(21)));
        folder.old(&format!("{}.json.part", name(22)));
        // Of another that writes: to a file just made, and to one for which nothing has come for an hour.
        folder.file(&format!("{}.mkv", name(23)));
        let (held, lock) = claim(folder.path(), SystemTime::now()).unwrap();
        folder.old(&format!("{held}.mkv"));
        folder.add(&name(30));
        let mut retention = Retention::new(folder.path(), 0, 4);
        let mut enforce = |files| {
            retention.files = files;
            retention.enforce(Some((&name(30), true))).unwrap().removed
        };
        assert_eq!(enforce(4), [20, 21, 22].map(name));
        assert_eq!(enforce(1), [1].map(name));
        assert_eq!(folder.videos().len(), 3);
        drop(lock);
        assert_eq!(enforce(1), [held]);
    }

    #[test]
    fn a_clock_that_is_set_back_makes_nothing_older() {
        let folder = Folder::new();
        folder.add(&name(30));
        folder.add(&name(31));
        let mut retention = Retention::new(folder.path(), 0, 3);
        let mut come = |second| {
            folder.add(&name(second));
            retention.enforce(Some((&name(second), true))).unwrap()
        };
        assert!(come(10).removed.is_empty());
        assert_eq!(come(11).removed, [name(30)]);
        assert_eq!(come(5).removed, [name(31)]);
        assert_eq!(come(6).removed, [name(10)]);
        assert_eq!(folder.videos(), [5, 6, 11].map(name));
    }

    /// Root may remove anything but what something is mounted on.
    #[test]
    fn one_that_cannot_be_removed_is_told_once_and_the_next_is_tried() {
        let folder = Folder::new();
        for second in 1..=4 {
            folder.add(&name(second));
        }
        let stuck = folder.path().join(format!("{}.mkv", name(1)));
        let mount = |command: &str, arguments: &[&Path]| {
            let status = std::process::Command::new(command).args(arguments).status();
            assert!(
                status.is_ok_and(|status| status.success()),
                "{command} does not work: run the tests as root, as tests/run.sh is"
            );
        };
        mount("mount", &[Path::new("--bind"), &stuck, &stuck]);
        let _unmount = scopeguard::guard((), |()| mount("umount", &[&stuck]));
        let mut retention = Retention::new(folder.path(), 0, 2);
        let current = name(4);
        let kept = retention.enforce(Some((&current, true))).unwrap();
        assert_eq!(kept.removed, [2, 3].map(name));
        let [(path, _)] = &kept.stuck[..] else {
            panic!("{kept:?}");
        };
        assert_eq!(path, &stuck);
        assert!(folder.path().join(format!("{}.json", name(1))).exists());
        folder.add(&name(5));
        let kept = retention.enforce(Some((&name(5), true))).unwrap();
        assert_eq!(kept.removed, [name(4)]);
        assert!(kept.stuck.is_empty(), "{kept:?}");
    }

    #[test]
    fn thousands_of_incidents_are_brought_down_to_the_limit() {
        let folder = Folder::new();
        let all: Vec<_> = (0..5000)
            .map(|number| {
                format!(
                    "incident-20260314T{:06}.{:03}Z-0000",
                    number / 1000,
                    number % 1000
                )
            })
            .collect();
        for name in &all {
            folder.file(&format!("{name}.mkv"));
            let json = path(folder.path(), name, "json");
            std::fs::write(json, "{ \"complete\": true }").unwrap();
        }
        let mut retention = Retention::new(folder.path(), 0, 10);
        let current = all.last().unwrap();
        let kept = retention.enforce(Some((current, true))).unwrap();
        assert_eq!(kept.removed, all[..4990]);
        assert_eq!(folder.videos(), all[4990..]);
    }

    #[test]
    fn a_name_is_never_given_twice() {
        let folder = Folder::new();
        let now = SystemTime::now();
        let names: std::collections::HashSet<_> = (0..2000)
            .map(|_| claim(folder.path(), now).unwrap().0)
            .collect();
        assert_eq!(names.len(), 2000);
        assert!(names.iter().all(|name| is_name(name)), "{names:?}");
    }
}
