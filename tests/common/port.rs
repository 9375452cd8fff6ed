//! Ports that nobody else takes: neither another test, nor the kernel for a connection's near end.

use std::fmt;
use std::fs::File;
use std::net::TcpListener;
use std::ops::Range;

/// Below what the kernel hands out by itself (`net.ipv4.ip_local_port_range` begins at 32768), above what services use.
const PORTS: Range<u16> = 20_000..30_000;

/// A port of 127.0.0.1 that is this value's until it is dropped, whether something listens there or not.
#[derive(Debug)]
pub struct Port {
    number: u16,
    /// Locked: all tests of this machine, whatever process they run in, look here.
    _reservation: File,
}

impl Port {
    pub fn reserve() -> Self {
        Self::listen().0
    }

    /// The same, with the listener that the port was found free with: nobody can take it in between.
    pub fn listen() -> (Self, TcpListener) {
        let folder = std::env::temp_dir().join("vadlite-test-ports");
        std::fs::create_dir_all(&folder).unwrap();
        let start = fastrand::u16(PORTS);
        let candidates = (start..PORTS.end).chain(PORTS.start..start);
        let free = candidates.into_iter().find_map(|number| {
            // Another user's file cannot be opened, and is as good as locked.
            let reservation = File::create(folder.join(number.to_string())).ok()?;
            reservation.try_lock().ok()?;
            // Some program may listen here all the same.
            let listener = TcpListener::bind(("127.0.0.1", number)).ok()?;
            let port = Self {
                number,
                _reservation: reservation,
            };
            Some((port, listener))
        });
        free.expect("a free port")
    }

    pub fn number(&self) -> u16 {
        self.number
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(f)
    }
}
