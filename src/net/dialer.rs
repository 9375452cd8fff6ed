//! Opens TCP connections to one host.

use crate::thread::Owned;
use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;
/// What a look-up has found; `None` while it is under way.
type Found = Option<Result<Vec<IpAddr>, Arc<io::Error>>>;

/// After so long without a sign a silent peer is asked for one, and again after so long each. A device that loses power says nothing.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// After so long without an acknowledgement it is gone: seen when it is asked for the third time.
const GONE_AFTER: Duration = Duration::from_millis(2500);

/// The look-ups that are under way, by name. A name server that does not answer holds a thread for many seconds, and no one can take that
/// thread back: so there is one for each name in this process, however often connections are tried and elements started.
static UNDER_WAY: Mutex<BTreeMap<String, watch::Receiver<Found>>> = Mutex::new(BTreeMap::new());

/// Connects to a host again and again.
pub struct Dialer {
    host: String,
    port: u16,
    lookup: Arc<Lookup>,
    /// Which of the host's addresses is tried first: after one that kept an attempt waiting until it was given up, the next one.
    first: usize,
}

/// There is nobody: what a connection fails with that did not come about, within an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Unreachable(io::Error);

impl Unreachable {
    /// Whether that is why something failed.
    pub fn is_reason_of(error: &io::Error) -> bool {
        error
            .get_ref()
            .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Self>)
    }
}

impl Dialer {
    pub fn new(host: &str, port: u16) -> Self {
        Self::with_lookup(host, port, |host| {
            let found = (host, 0).to_socket_addrs()?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }

    fn with_lookup(
        host: &str,
        port: u16,
        lookup: impl Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            host: host.to_owned(),
            port,
            lookup: Arc::new(lookup),
            first: 0,
        }
    }

    /// Connects to the first address of the host that answers. May be dropped at any point: a look-up that is under way serves the next call.
    ///
    /// # Errors
    /// The name cannot be looked up, or the last address's reason; [`Unreachable`] in either case.
    pub async fn connect(&mut self) -> io::Result<TcpStream> {
        self.try_connect()
            .await
            .map_err(|error| io::Error::new(error.kind(), Unreachable(error)))
    }

    async fn try_connect(&mut self) -> io::Result<TcpStream> {
        let found = self.addresses().await?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for _ in 0..found.len() {
            let index = self.first % found.len();
            self.first = index + 1;
            match TcpStream::connect((found[index], self.port)).await {
                Ok(stream) => {
                    self.first = index;
                    prepare(&stream)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = self.host.parse() {
            return Ok(vec![address]);
        }
        let mut answer = self.look_up()?;
        let found = answer.wait_for(Option::is_some).await;
        let found = found.map_err(io::Error::other)?.clone();
        found
            .unwrap_or_else(|| Ok(Vec::new()))
            .map_err(|error| io::Error::new(error.kind(), error))
    }

    /// Begins to look up the name, unless that is under way.
    fn look_up(&self) -> io::Result<watch::Receiver<Found>> {
        let mut under_way = UNDER_WAY.lock();
        if let Some(answer) = under_way.get(&self.host) {
            return Ok(answer.clone());
        }
        let (tell, answer) = watch::channel(None);
        let (host, lookup) = (self.host.clone(), self.lookup.clone());
        let thread = Owned::spawn(
            "vadlite-lookup",
            move || {
                // Whatever becomes of it, it is not under way any more.
                scopeguard::defer! { UNDER_WAY.lock().remove(&host); }
                tell.send_replace(Some(lookup(&host).map_err(Arc::new)));
            },
            |_| (),
        )?;
        under_way.insert(self.host.clone(), answer.clone());
        drop(under_way);
        // Let go: it ends when the name server says something.
        thread.join_within(Duration::ZERO);
        Ok(answer)
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    // Messages are small: waiting for more to send along would cost milliseconds.
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(ASK_EVERY)
        .with_interval(ASK_EVERY)
        .with_retries(2);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(GONE_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Instant;
    use tokio::io::AsyncReadExt as _;

    fn run<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work)
    }

    /// Somebody listens there.
    fn listener() -> (TcpListener, u16) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    #[test]
    fn a_slow_name_server_is_asked_once_however_many_ask() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        let (_listener, port) = listener();
        let (answer, answered) = channel::<()>();
        let answered = Arc::new(Mutex::new(answered));
        let dialer = || {
            let answered = answered.clone();
            Dialer::with_lookup("slow.invalid", port, move |_| {
                ASKED.fetch_add(1, Ordering::Relaxed);
                answered.lock().recv().unwrap();
                Ok(vec![Ipv4Addr::LOCALHOST.into()])
            })
        };
        // As an element that is started three times has them, each in a runtime of its own, which ends without waiting.
        for _ in 0..3 {
            let start = Instant::now();
            run(async {
                let mut dialer = dialer();
                for _ in 0..3 {
                    let attempt = tokio::time::timeout(Duration::from_millis(20), dialer.connect());
                    assert!(attempt.await.is_err());
                }
            });
            assert!(start.elapsed() < Duration::from_secs(5));
        }
        run(async {
            let mut dialer = dialer();
            let mut attempt = std::pin::pin!(dialer.connect());
            let early = tokio::time::timeout(Duration::from_millis(20), &mut attempt);
            assert!(early.await.is_err());
            answer.send(()).unwrap();
            let stream = attempt.await.unwrap();
            assert_eq!(stream.peer_addr().unwrap().port(), port);
        });
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_next_address_is_tried_where_one_refuses_or_keeps_one_waiting() {
        let (_listener, port) = listener();
        let nobody = IpAddr::from(Ipv6Addr::LOCALHOST);
        let found = vec![nobody, Ipv4Addr::LOCALHOST.into()];
        let its = found.clone();
        let mut dialer = Dialer::with_lookup("two.invalid", port, move |_| Ok(its.clone()));
        let stream = run(dialer.connect()).unwrap();
        assert_eq!(stream.peer_addr().unwrap().ip(), found[1]);
        assert_eq!(dialer.first, 1);
        let mut dialer = Dialer::with_lookup("none.invalid", port, |_| Ok(Vec::new()));
        let error = run(dialer.connect()).unwrap_err();
        assert!(Unreachable::is_reason_of(&error), "{error}");
        assert!(error.to_string().contains("no address"), "{error}");
        let fails = |_: &str| Err(io::Error::other("the name is not known"));
        let error = run(Dialer::with_lookup("unknown.invalid", port, fails).connect()).unwrap_err();
        assert_eq!(error.to_string(), "the name is not known");
    }

    /// What a device that loses power looks like: whatever comes to it is dropped, and it says nothing.
    #[test]
    fn a_peer_that_falls_silent_is_noticed() {
        let (listener, port) = listener();
        run(async {
            let mut stream = Dialer::new("127.0.0.1", port).connect().await.unwrap();
            let (dead, _) = listener.accept().unwrap();
            let nothing = socket2::SockFilter::new(libc::BPF_RET as u16, 0, 0, 0);
            SockRef::from(&dead).attach_filter(&[nothing]).unwrap();
            let start = Instant::now();
            let end = tokio::time::timeout(Duration::from_secs(30), stream.read_u8()).await;
            let error = end.expect("it is never noticed").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let after = start.elapsed();
            assert!(after < Duration::from_secs(8), "{after:?}");
        });
    }
}
