//! Runs the program and reads what it prints.

use super::{model, scratch, vadlite};
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::OnceLock;

/// Runs the program with these arguments; it has to end with `code`.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, code: i32) -> Output {
    let output = vadlite().args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{output:#?}");
    output
}

/// A folder with the plugin alone, for `GST_PLUGIN_PATH`.
pub fn plugins() -> &'static Path {
    static PLUGINS: OnceLock<PathBuf> = OnceLock::new();
    PLUGINS.get_or_init(|| {
        let folder = folder("plugins");
        // Cargo builds the plugin for the tests too, beside them.
        let exe = std::env::current_exe().unwrap();
        let built = exe.with_file_name("libgstvadlite.so");
        std::os::unix::fs::symlink(built, folder.join("libgstvadlite.so")).unwrap();
        folder
    })
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The JSON values on the lines of standard output.
pub fn json(output: &Output) -> Vec<Value> {
    text(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub fn keys(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// A folder in this test binary's own.
pub fn folder(name: &str) -> PathBuf {
    let folder = scratch().join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// What `score --json` prints for these files.
pub fn score(files: &[&Path]) -> Vec<Value> {
    let mut arguments: Vec<&OsStr> = vec![
        "score".as_ref(),
        "--json".as_ref(),
        "--model".as_ref(),
        model().path.as_ref(),
    ];
    arguments.extend(files.iter().map(|file| file.as_os_str()));
    json(&run(arguments, 0))
}
