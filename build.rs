use std::process::Command;

fn main() {
    gst_plugin_version_helper::info();
    // What `info` reads: the last commit, which the plugin's version names. Without these lines every file of the package would count,
    // and a changed word in the README would compile everything anew.
    println!("cargo:rerun-if-changed=build.rs");
    let log = Command::new("git")
        .args(["rev-parse", "--git-path", "logs/HEAD"])
        .output();
    if let Ok(log) = log
        && log.status.success()
    {
        let path = String::from_utf8_lossy(&log.stdout);
        println!("cargo:rerun-if-changed={}", path.trim());
    }
}
