//! A Modbus TCP server with coils, which keeps what is written to them and when; and one that may behave badly.

use super::port::Port;
use std::future::{Ready, ready};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_modbus::prelude::{ExceptionCode, Request, Response, SlaveRequest};
use tokio_modbus::server::Service;
use tokio_modbus::server::tcp::{Server, accept_tcp_connection};

/// So many it has.
pub const COILS: u16 = 1000;

/// One write to a coil.
#[derive(Debug, Clone, Copy)]
pub struct Edge {
    pub coil: u16,
    pub on: bool,
    pub at: Instant,
}

#[derive(Clone)]
struct Coils(Arc<Mutex<Vec<Edge>>>);

impl Service for Coils {
    type Request = SlaveRequest<'static>;
    type Response = Response;
    type Exception = ExceptionCode;
    type Future = Ready<Result<Response, ExceptionCode>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let at = Instant::now();
        ready(match request.request {
            Request::WriteSingleCoil(coil, _) if coil >= COILS => {
                Err(ExceptionCode::IllegalDataAddress)
            }
            Request::WriteSingleCoil(coil, on) => {
                self.0.lock().unwrap().push(Edge { coil, on, at });
                Ok(Response::WriteSingleCoil(coil, on))
            }
            _ => Err(ExceptionCode::IllegalFunction),
        })
    }
}

pub struct Plc {
    edges: Arc<Mutex<Vec<Edge>>>,
    port: Port,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Plc {
    pub fn start() -> Self {
        Self::start_on(Port::reserve())
    }

    pub fn start_on(port: Port) -> Self {
        let edges = Arc::new(Mutex::new(Vec::new()));
        let coils = Coils(edges.clone());
        let (stop, stopped) = oneshot::channel();
        let (bound, ready) = std::sync::mpsc::channel();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await.unwrap();
                bound.send(()).unwrap();
                let server = Server::new(listener);
                let accept = |stream, address| {
                    let coils = coils.clone();
                    async move {
                        accept_tcp_connection(stream, address, move |_| Ok(Some(coils.clone())))
                    }
                };
                tokio::select! {
                    result = server.serve(&accept, |_| ()) => result.unwrap(),
                    _ = stopped => {}
                }
            });
            // Connections end with the runtime.
        });
        ready.recv().unwrap();
        Self {
            edges,
            port,
            stop: Some(stop),
            thread: Some(thread),
        }
    }

    pub fn address(&self, coil: u16) -> String {
        format!("modbus-tcp://127.0.0.1:{}/{coil}", self.port)
    }

    pub fn port(&self) -> &Port {
        &self.port
    }

    pub fn edges(&self) -> Vec<Edge> {
        self.edges.lock().unwrap().clone()
    }

    /// Ends it, connections and all, and returns its port.
    pub fn stop(mut self) -> Port {
        self.stop.take();
        self.thread.take().unwrap().join().unwrap();
        self.port
    }
}

/// What a [`Device`] does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// Writes the coil, and says so at once, or so long after.
    Answer,
    AnswerAfter(Duration),
    /// Answers with this exception, and writes nothing.
    Exception(u8),
    /// Closes the connection, and writes nothing.
    Close,
    /// Writes nothing and says nothing.
    Nothing,
}

/// A Modbus TCP device made by hand, with a thread for each connection, that may behave badly.
pub struct Device {
    port: Port,
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

struct Shared {
    edges: Mutex<Vec<Edge>>,
    open: Mutex<Vec<std::net::TcpStream>>,
    connections: AtomicUsize,
    /// It is to be reachable, and is.
    wanted: AtomicBool,
    listening: AtomicBool,
    end: AtomicBool,
    /// A connection without a request for so long is closed.
    idle: Option<Duration>,
    reply: Box<dyn Fn(u16, bool) -> Reply + Send + Sync>,
}

impl Device {
    /// One that does with a coil and what is to be written to it as `reply` says.
    pub fn start(
        idle: Option<Duration>,
        reply: impl Fn(u16, bool) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let port = Port::reserve();
        let shared = Arc::new(Shared {
            edges: Mutex::default(),
            open: Mutex::default(),
            connections: AtomicUsize::new(0),
            wanted: AtomicBool::new(true),
            listening: AtomicBool::new(false),
            end: AtomicBool::new(false),
            idle,
            reply: Box::new(reply),
        });
        let (its, number) = (shared.clone(), port.number());
        let thread = std::thread::spawn(move || its.listen(number));
        let device = Self {
            port,
            shared,
            thread: Some(thread),
        };
        device.set_reachable(true);
        device
    }

    pub fn address(&self, coil: u16) -> String {
        format!("modbus-tcp://127.0.0.1:{}/{coil}", self.port)
    }

    pub fn edges(&self) -> Vec<Edge> {
        self.shared.edges.lock().unwrap().clone()
    }

    /// So many have been accepted so far.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    /// Breaks all connections and refuses others, or accepts them again; returns when it is so.
    pub fn set_reachable(&self, reachable: bool) {
        self.shared.wanted.store(reachable, Ordering::Relaxed);
        while self.shared.listening.load(Ordering::Relaxed) != reachable {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.shared.end.store(true, Ordering::Relaxed);
        let _ = self.thread.take().unwrap().join();
    }
}

impl Shared {
    fn listen(self: Arc<Self>, port: u16) {
        let mut listener: Option<std::net::TcpListener> = None;
        while !self.end.load(Ordering::Relaxed) {
            if !self.wanted.load(Ordering::Relaxed) {
                listener = None;
                self.close_all();
            } else if let Some(listener) = &listener {
                if let Ok((stream, _)) = listener.accept() {
                    self.connections.fetch_add(1, Ordering::Relaxed);
                    stream.set_nonblocking(false).unwrap();
                    stream.set_nodelay(true).unwrap();
                    self.open.lock().unwrap().push(stream.try_clone().unwrap());
                    let its = self.clone();
                    std::thread::spawn(move || its.serve(stream));
                    continue;
                }
            } else {
                let new = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
                new.set_nonblocking(true).unwrap();
                listener = Some(new);
            }
            self.listening.store(listener.is_some(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.close_all();
    }

    fn close_all(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Answers requests until the connection ends: a header of 7 bytes, the function, the coil and its value.
    fn serve(&self, mut stream: std::net::TcpStream) {
        stream.set_read_timeout(self.idle).unwrap();
        let mut request = [0; 12];
        while stream.read_exact(&mut request).is_ok() {
            let at = Instant::now();
            let coil = u16::from_be_bytes([request[8], request[9]]);
            let on = request[10] == 0xFF;
            let reply = (self.reply)(coil, on);
            match reply {
                Reply::Answer | Reply::AnswerAfter(_) => {
                    self.edges.lock().unwrap().push(Edge { coil, on, at });
                    if let Reply::AnswerAfter(wait) = reply {
                        std::thread::sleep(wait);
                    }
                    let _ = stream.write_all(&request);
                }
                Reply::Exception(code) => {
                    let mut answer = [0; 9];
                    answer.copy_from_slice(&request[..9]);
                    answer[5] = 3;
                    answer[7] |= 0x80;
                    answer[8] = code;
                    let _ = stream.write_all(&answer);
                }
                Reply::Close => break,
                Reply::Nothing => {}
            }
        }
        let _ = stream.shutdown(Shutdown::Both);
    }
}
