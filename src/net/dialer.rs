//! Opens TCP connections to one host.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

type Lookup = dyn Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// Connects to a host again and again, with one look-up of its name at most on its way: a name server that does not answer holds a thread
/// for many seconds, and no one can take that thread back.
pub struct Dialer {
    lookup: Arc<Lookup>,
    pending: Option<JoinHandle<io::Result<Vec<SocketAddr>>>>,
}

impl Dialer {
    pub fn new(host: &str, port: u16) -> Self {
        let host = host.to_owned();
        Self::with_lookup(move || Ok((host.as_str(), port).to_socket_addrs()?.collect()))
    }

    fn with_lookup(
        lookup: impl Fn() -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            lookup: Arc::new(lookup),
            pending: None,
        }
    }

    /// Connects to the first address of the host that answers. May be dropped at any point: a look-up that is under way serves the next call.
    ///
    /// # Errors
    /// The name cannot be looked up, or the last address's reason.
    pub async fn connect(&mut self) -> io::Result<TcpStream> {
        let lookup = &self.lookup;
        let pending = self.pending.get_or_insert_with(|| {
            let lookup = lookup.clone();
            tokio::task::spawn_blocking(move || lookup())
        });
        let found = pending.await;
        self.pending = None;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in found.map_err(io::Error::other)?? {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Messages are small: waiting for more to send along would cost milliseconds.
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work)
    }

    #[test]
    fn a_slow_name_server_is_asked_once() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (answer, answered) = channel::<()>();
        let answered = Mutex::new(answered);
        let mut dialer = Dialer::with_lookup(move || {
            ASKED.fetch_add(1, Ordering::Relaxed);
            answered.lock().unwrap().recv().unwrap();
            Ok(vec![address])
        });
        run(async move {
            for _ in 0..3 {
                let attempt = tokio::time::timeout(Duration::from_millis(20), dialer.connect());
                assert!(attempt.await.is_err());
            }
            answer.send(()).unwrap();
            let stream = dialer.connect().await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), address);
        });
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_next_address_is_tried_where_one_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut dialer = Dialer::with_lookup(move || Ok(vec![nobody, address]));
        let stream = run(dialer.connect()).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let mut dialer = Dialer::with_lookup(|| Ok(Vec::new()));
        assert!(run(dialer.connect()).is_err());
    }
}
