//! Where ONNX Runtime is: finds the shared library, loads it once, and keeps the one environment of the process.

use crate::detector::error::{Chain, LibraryError, RuntimeError};
use once_cell::sync::OnceCell;
use ort::environment::Environment;
use std::ffi::{CStr, OsStr};
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The file name that `setup` and the wheels' own naming agree on; versions follow it as `.1.NN.P`.
const LIBRARY: &str = "libonnxruntime.so";
/// Minor versions that the system loader is asked for, newest first. The oldest is what the `api-20` feature of `ort` accepts.
const MINOR_VERSIONS: std::ops::RangeInclusive<u32> = 20..=48;

struct Loaded {
    environment: Environment,
    path: PathBuf,
}

// Loading may fail, and is tried again then: what `std`'s lazies do not have.
static LOADED: OnceCell<Loaded> = OnceCell::new();

/// The folder with the `models` folder: baked in by the installation, the source tree otherwise.
pub fn data_dir() -> &'static Path {
    Path::new(option_env!("VADLITE_DATADIR").unwrap_or(env!("CARGO_MANIFEST_DIR")))
}

/// The folder in which `setup` or the installation puts ONNX Runtime.
fn library_dir() -> &'static Path {
    Path::new(
        option_env!("VADLITE_LIBDIR").unwrap_or(concat!(env!("CARGO_MANIFEST_DIR"), "/runtime")),
    )
}

/// The folder of the object file that holds this code: the plugin, or the `vadlite` program.
pub fn own_dir() -> Option<PathBuf> {
    let address = own_dir as *const libc::c_void;
    let mut info = std::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: `dladdr` only writes to `info`, and the name that it returns lives as long as the object, that is, as this code.
    let name = unsafe {
        if libc::dladdr(address, info.as_mut_ptr()) == 0 {
            return None;
        }
        let info = info.assume_init();
        if info.dli_fname.is_null() {
            return None;
        }
        CStr::from_ptr(info.dli_fname)
    };
    let path = std::fs::canonicalize(OsStr::from_bytes(name.to_bytes())).ok()?;
    path.parent().map(Path::to_path_buf)
}

/// Loads ONNX Runtime and makes the environment, once per process; later calls share it.
///
/// Search order: `library` (an option or property), `ORT_DYLIB_PATH`, beside the plugin or program, the folder that `setup` or the
/// installation fills, the system loader's `libonnxruntime.so`, `.so.1` and `.so.1.NN` downwards. The first two are final: what was
/// asked for by name and fails is an error.
///
/// # Errors
/// [`RuntimeError`] with every place searched, or where another library than `library` already serves this process.
pub fn environment(library: Option<&Path>) -> Result<Environment, RuntimeError> {
    let loaded = LOADED.get_or_try_init(|| load(library))?;
    match library {
        Some(path) if !same_file(path, &loaded.path) => Err(RuntimeError::Another {
            asked: path.to_path_buf(),
            used: loaded.path.clone(),
        }),
        _ => Ok(loaded.environment.clone()),
    }
}

fn load(library: Option<&Path>) -> Result<Loaded, RuntimeError> {
    let from_variable = std::env::var_os("ORT_DYLIB_PATH")
        .filter(|value| !value.is_empty())
        .map(PathBuf::from);
    let (by, path) = match (library, &from_variable) {
        (Some(path), _) => ("the property or option for ONNX Runtime", path),
        (None, Some(path)) => ("ORT_DYLIB_PATH", path.as_path()),
        (None, None) => return search(),
    };
    open(path).map_err(|source| RuntimeError::Named {
        by,
        path: path.to_path_buf(),
        source,
    })
}

/// The library that serves this process, once [`environment`] has loaded one.
pub fn library_path() -> Option<PathBuf> {
    LOADED.get().map(|loaded| loaded.path.clone())
}

fn same_file(a: &Path, b: &Path) -> bool {
    match (a.canonicalize(), b.canonicalize()) {
        (Ok(a), Ok(b)) => a == b,
        _ => a == b,
    }
}

fn open(path: &Path) -> Result<Loaded, LibraryError> {
    let builder = ort::init_from(path).map_err(|error| {
        LibraryError::Load(match &error {
            // `ort` shows that it failed, and its cause why.
            ort::LoadDynamicError::Dlopen { error, .. } => Chain(error).to_string(),
            other => other.to_string(),
        })
    })?;
    // ONNX Runtime warns on stderr about hardware that it does not find; what matters comes back as an error.
    let environment = builder.with_name("vadlite").build()?;
    environment.set_log_level(ort::logging::LogLevel::Error);
    Ok(Loaded {
        environment,
        path: path.to_path_buf(),
    })
}

fn search() -> Result<Loaded, RuntimeError> {
    let beside = own_dir().map(|folder| (folder, "beside the plugin or program"));
    let filled = (
        library_dir().to_path_buf(),
        "filled by ./setup or the installation",
    );
    search_in(beside.into_iter().chain([filled]), LIBRARY)
}

/// Searches folders, each with what it is, then asks the system loader for `library` and its versioned names.
fn search_in(
    folders: impl IntoIterator<Item = (PathBuf, &'static str)>,
    library: &str,
) -> Result<Loaded, RuntimeError> {
    let mut searched = String::new();
    for (folder, what) in folders {
        let candidates = libraries_in(&folder);
        if candidates.is_empty() {
            let _ = write!(
                searched,
                "\n  {}/{LIBRARY}* ({what}): not there",
                folder.display()
            );
        }
        for path in candidates {
            match open(&path) {
                Ok(loaded) => return Ok(loaded),
                Err(reason) => _ = write!(searched, "\n  {}: {reason}", path.display()),
            }
        }
    }
    let names = [library.to_owned(), format!("{library}.1")];
    let versioned = MINOR_VERSIONS
        .rev()
        .map(|minor| format!("{library}.1.{minor}"));
    for name in names.into_iter().chain(versioned) {
        match open(Path::new(&name)) {
            Ok(loaded) => return Ok(loaded),
            // A library that is there but cannot be used deserves its line, as does what it lacks; thirty "not found" do not.
            Err(reason) => {
                let reason = reason.to_string();
                // The loader says the same of a library that this one needs, by that one's name.
                let itself = format!("{name}: cannot open shared object file: No such file");
                if !reason.contains(&itself) {
                    let _ = write!(searched, "\n  {name}: {reason}");
                }
            }
        }
    }
    let _ = write!(
        searched,
        "\n  the system loader's {library}, {library}.1, {library}.1.{} down to .{}: not there",
        MINOR_VERSIONS.end(),
        MINOR_VERSIONS.start()
    );
    Err(RuntimeError::NotFound {
        oldest: *MINOR_VERSIONS.start(),
        searched: format!("\n  a library named for it: none\n  ORT_DYLIB_PATH: not set{searched}"),
    })
}

/// `libonnxruntime.so*` in a folder, the unversioned name first, then the newest.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<(Vec<u32>, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path
                .file_name()?
                .to_str()?
                .strip_prefix(LIBRARY)?
                .to_owned();
            let numbers = version
                .split('.')
                .filter(|part| !part.is_empty())
                .map(|part| part.parse().ok());
            Some((numbers.collect::<Option<Vec<u32>>>()?, path))
        })
        .collect();
    paths.sort_by(|(a, _), (b, _)| (!a.is_empty()).cmp(&!b.is_empty()).then_with(|| b.cmp(a)));
    paths.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unversioned_library_first_then_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "libonnxruntime.so.1.9.0",
            "libonnxruntime.so.1.32.0",
            "libonnxruntime.so",
            "libonnxruntime.so.old",
            "other.so",
        ] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let names: Vec<_> = libraries_in(folder.path())
            .iter()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "libonnxruntime.so",
                "libonnxruntime.so.1.32.0",
                "libonnxruntime.so.1.9.0"
            ]
        );
    }

    #[test]
    fn every_place_searched_is_named_with_the_remedy() {
        let (empty, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let library = broken.path().join("libonnxruntime.so.1.32.0");
        std::fs::write(&library, b"not a library").unwrap();
        let folders = [
            (empty.path().to_path_buf(), "beside the plugin or program"),
            (broken.path().to_path_buf(), "filled by ./setup"),
        ];
        // A name that no system has.
        let error = search_in(folders, "libonnxruntime-of-no-system.so").err();
        let error = error.unwrap().to_string();
        for words in [
            "a library named for it: none",
            "ORT_DYLIB_PATH: not set",
            &format!(
                "{}/libonnxruntime.so* (beside the plugin or program): not there",
                empty.path().display()
            ),
            &format!("{}: ", library.display()),
            "the system loader's libonnxruntime-of-no-system.so",
        ] {
            assert!(error.contains(words), "{error:?} lacks {words:?}");
        }
    }

    /// One that is found by name and needs a library that is missing is not "not there".
    #[test]
    fn what_a_library_lacks_is_told() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("empty.c"), "").unwrap();
        let cc = |arguments: &str| {
            let mut compiler = std::process::Command::new("cc");
            compiler
                .args(arguments.split(' '))
                .current_dir(folder.path());
            assert!(compiler.status().unwrap().success(), "cc {arguments}");
        };
        cc("-shared -o libneeded.so empty.c");
        cc("-shared -o libfound.so empty.c -L. -Wl,--no-as-needed -lneeded");
        std::fs::remove_file(folder.path().join("libneeded.so")).unwrap();
        let found = folder.path().join("libfound.so");
        let error = search_in([], found.to_str().unwrap()).err();
        let error = error.unwrap().to_string();
        assert!(
            error.contains("libneeded.so: cannot open shared object file"),
            "{error}"
        );
    }

    #[test]
    fn own_folder_is_where_the_test_binary_is() {
        let exe = std::env::current_exe().unwrap().canonicalize().unwrap();
        assert_eq!(own_dir().as_deref(), exe.parent());
    }
}
