//! A name server that takes every question and answers none: whoever looks up a name waits for half a minute.
//!
//! The questions of this whole process have to go there, so that each test runs in one of its own, in a mount namespace with another
//! `/etc/resolv.conf`. Where that is not allowed (it takes the rights of root, in a container or not), the tests say so and show nothing.

mod common;

use common::element::element;
use common::line::Line;
use gst::prelude::*;
use std::net::{ToSocketAddrs as _, UdpSocket};
use std::process::Command;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// In the environment of the process in which a test runs.
const INSIDE: &str = "VADLITE_TEST_SILENT_NAME_SERVER";
/// On port 53, which `/etc/resolv.conf` cannot change; an address of this machine that nobody else uses.
const SERVER: &str = "127.53.0.97";
const NOT_HERE: &str = "no name server can be made silent here, and nothing is shown";

/// Runs a test of this file in a process whose names are looked up at [`SERVER`]; `false` in that process itself.
fn in_a_process_of_its_own(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return false;
    }
    let file = common::scratch().join(format!("{test}.conf"));
    let text = format!("nameserver {SERVER}\noptions timeout:15 attempts:2\n");
    std::fs::write(&file, text).unwrap();
    let script =
        "mount --bind \"$1\" /etc/resolv.conf || exit 77; exec \"$2\" --exact \"$3\" --nocapture";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([
            file.as_os_str(),
            std::env::current_exe().unwrap().as_os_str(),
        ])
        .arg(test)
        .env(INSIDE, "1")
        .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            println!("{test}: {NOT_HERE}: unshare: {error}");
            return true;
        }
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    let refused = output.status.code() == Some(77) || errors.contains("unshare failed");
    if refused || said.contains(NOT_HERE) {
        println!("{test}: {NOT_HERE}: {errors}");
        return true;
    }
    assert!(output.status.success(), "{said}\n{errors}");
    assert!(said.contains("1 passed"), "{said}\n{errors}");
    true
}

/// Takes the questions and answers none, as long as it is held. `None` where names are found out otherwise all the same.
fn silent_server() -> Option<UdpSocket> {
    let socket = UdpSocket::bind((SERVER, 53)).map_err(|error| println!("{NOT_HERE}: {error}"));
    let socket = socket.ok()?;
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let _ = tell.send(("nobody.example", 0).to_socket_addrs().is_ok());
    });
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    // It asks there, and there alone.
    let asked = socket.recv(&mut [0; 512]).is_ok();
    if !asked || told.try_recv().is_ok() {
        println!("{NOT_HERE}: names are looked up elsewhere");
        return None;
    }
    Some(socket)
}

/// The names of this process's threads.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    };
    tasks.filter_map(name).collect()
}

fn lookups() -> usize {
    let names = threads();
    names
        .iter()
        .filter(|name| name.starts_with("vadlite-lookup"))
        .count()
}

/// Until so many names are looked up.
#[track_caller]
fn wait_for_lookups(count: usize) {
    let end = Instant::now() + Duration::from_secs(20);
    while lookups() < count {
        assert!(Instant::now() < end, "{:?}", threads());
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[track_caller]
fn assert_stops_at_once(what: &str, element: &impl IsA<gst::Element>) {
    let start = Instant::now();
    element.set_state(gst::State::Null).unwrap();
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{what}: {took:?}");
}

#[test]
fn no_end_waits_for_a_name_server_and_no_threads_pile_up() {
    if in_a_process_of_its_own("no_end_waits_for_a_name_server_and_no_threads_pile_up") {
        return;
    }
    let Some(_server) = silent_server() else {
        return;
    };
    let outputs = ["modbus-tcp://plc.example/1", "mqtt://broker.example/a"];
    for (number, output) in outputs.into_iter().enumerate() {
        let line = Line::start(&format!("vadlitetrigger output={output}"));
        wait_for_lookups(number + 1);
        assert_stops_at_once(output, &line.pipeline);
    }
    let statistics = || {
        let element = element(&[("stats-mqtt", "mqtt://statistics.example/a")]);
        element.set_state(gst::State::Paused).unwrap();
        element
    };
    let first = statistics();
    wait_for_lookups(3);
    assert_stops_at_once("stats-mqtt", &first);
    let before = threads();
    for _ in 0..10 {
        let line = Line::start(&format!("vadlitetrigger output=\"{}\"", outputs.join(" ")));
        let element = statistics();
        assert_stops_at_once("both", &line.pipeline);
        assert_stops_at_once("stats-mqtt", &element);
    }
    // One for each name, however often it is asked for; thirty would be more. GStreamer keeps a few of its own.
    assert_eq!(lookups(), 3, "{:?}", threads());
    let after = threads();
    assert!(after.len() < before.len() + 8, "{before:?} {after:?}");
}
