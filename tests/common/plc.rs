//! A Modbus TCP server with coils, which keeps what is written to them and when.

use super::port::Port;
use std::future::{Ready, ready};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;
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
