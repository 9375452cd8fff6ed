//! A broker made by hand, as far as one client that publishes needs it, that may behave badly.

use super::port::Port;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Good,
    /// Refuses whoever comes, as not authorised.
    RefusesClients,
    /// Closes the connection on any message, or on one that is not retained: a pulse.
    ClosesOnMessages,
    ClosesOnPulses,
    /// Acknowledges nothing.
    AcknowledgesNothing,
}

/// A message that was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub text: String,
    pub retained: bool,
}

pub struct RawBroker {
    port: Port,
    connections: Arc<AtomicUsize>,
    /// The connection that is open.
    open: Arc<Mutex<Option<TcpStream>>>,
    pub messages: Receiver<Message>,
}

impl RawBroker {
    pub fn start(manner: Manner) -> Self {
        let (port, listener) = Port::listen();
        let connections = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(Mutex::new(None));
        let (tell, messages) = channel();
        let (count, current) = (connections.clone(), open.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::Relaxed);
                *current.lock().unwrap() = stream.try_clone().ok();
                serve(stream, manner, &tell);
                current.lock().unwrap().take();
            }
        });
        Self {
            port,
            connections,
            open,
            messages,
        }
    }

    pub fn address(&self) -> String {
        format!("mqtt://127.0.0.1:{}/line/1", self.port)
    }

    /// So many have been accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Ends the connection that is open.
    pub fn cut(&self) {
        if let Some(stream) = self.open.lock().unwrap().as_ref() {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Answers packets until the connection ends, or is to.
fn serve(mut stream: TcpStream, manner: Manner, tell: &Sender<Message>) -> Option<()> {
    loop {
        let (head, body) = packet(&mut stream)?;
        let answer: &[u8] = match head >> 4 {
            // CONNECT
            1 if manner == Manner::RefusesClients => {
                let _ = stream.write_all(&[0x20, 2, 0, 5]);
                return None;
            }
            1 => &[0x20, 2, 0, 0],
            // PUBLISH: topic, packet identifier, payload
            3 => {
                let retained = head & 1 == 1;
                match manner {
                    Manner::ClosesOnMessages => return None,
                    Manner::ClosesOnPulses if !retained => return None,
                    Manner::AcknowledgesNothing => continue,
                    _ => {}
                }
                let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let (topic, rest) = body[2..].split_at(length);
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                let _ = tell.send(Message {
                    topic: text(topic),
                    text: text(&rest[2..]),
                    retained,
                });
                &[0x40, 2, rest[0], rest[1]]
            }
            // PINGREQ
            12 => &[0xD0, 0],
            _ => return None,
        };
        stream.write_all(answer).ok()?;
    }
}

/// The first byte of a packet, and what follows its length.
fn packet(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    let head = byte[0];
    let (mut length, mut shift) = (0, 0);
    loop {
        stream.read_exact(&mut byte).ok()?;
        length |= usize::from(byte[0] & 0x7F) << shift;
        shift += 7;
        if byte[0] & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some((head, body))
}
