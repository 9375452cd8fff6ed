//! A coil of a PLC over Modbus TCP: on when the part is at the gate, off a pulse width later.

use super::link::Link;
use super::queue::Queue;
use crate::elements::vadlitetrigger::pulse::Pulse;
use crate::net::address::{self, Address, Reason};
use crate::net::backoff::Backoff;
use crate::net::dialer::Dialer;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_modbus::client::{Context, Writer as _, tcp};
use tokio_modbus::prelude::{ExceptionCode, Slave};

/// Longest wait for the PLC to connect, and to answer.
const ANSWER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq)]
pub struct Coil {
    host: String,
    port: u16,
    number: u16,
    unit: u8,
}

/// Why a coil is not written.
#[derive(Debug, thiserror::Error)]
pub enum ModbusError {
    #[error("no connection in a second")]
    NoConnection,
    #[error(transparent)]
    Connection(#[from] std::io::Error),
    #[error("no answer in a second")]
    NoAnswer,
    #[error(transparent)]
    Answer(#[from] tokio_modbus::Error),
    #[error("the device refuses: {0}")]
    Refused(ExceptionCode),
    #[error("the device has closed the connection")]
    Closed,
}

impl Coil {
    /// Of `modbus-tcp://HOST[:PORT]/COIL[?unit=N]`.
    ///
    /// # Errors
    /// A coil or unit that is no number of its range, or what such an address does not have.
    pub fn new(address: Address) -> Result<Self, Reason> {
        let unit = match address.query.as_deref() {
            None => 1,
            Some(query) => {
                let unit = query.strip_prefix("unit=");
                let unit = unit.ok_or_else(|| address::unknown(query))?;
                unit.parse()
                    .map_err(|_| address::not("unit from 0 to 255", unit))?
            }
        };
        let number = address.path.parse();
        Ok(Self {
            host: address.host,
            port: address.port.unwrap_or(502),
            number: number.map_err(|_| {
                address::not(
                    "coil from 0 to 65535, the first of which is 0",
                    address.path,
                )
            })?,
            unit,
        })
    }

    /// For messages.
    pub fn name(&self) -> String {
        let authority = address::authority(&self.host, self.port);
        format!("modbus-tcp://{authority}/{}", self.number)
    }

    async fn connect(&self, dialer: &mut Dialer) -> Result<Connection, ModbusError> {
        let stream = timeout(ANSWER, dialer.connect()).await;
        let stream = stream.map_err(|_| ModbusError::NoConnection)??;
        let stream = stream.into_std()?;
        let watched = TcpStream::from_std(stream.try_clone()?)?;
        let stream = TcpStream::from_std(stream)?;
        Ok(Connection {
            context: tcp::attach_slave(stream, Slave(self.unit)),
            watched,
            since: Instant::now(),
        })
    }

    async fn write(&self, connection: &mut Connection, on: bool) -> Result<(), ModbusError> {
        let write = connection.context.write_single_coil(self.number, on);
        let answer = timeout(ANSWER, write).await;
        let answer = answer.map_err(|_| ModbusError::NoAnswer)??;
        answer.map_err(ModbusError::Refused)
    }
}

struct Connection {
    context: Context,
    /// The same socket: many devices close what has been idle for seconds, which a write would notice too late for its pulse.
    watched: TcpStream,
    since: Instant,
}

impl Connection {
    /// Waits until the device closes it, or says what nobody has asked for. Not while it owes an answer.
    async fn closed(&self) {
        let _ = self.watched.peek(&mut [0]).await;
    }
}

/// Writes pulses until the queue is closed.
pub async fn run(coil: &Coil, queue: &Queue, link: &mut Link) {
    let mut dialer = Dialer::new(&coil.host, coil.port);
    let mut backoff = Backoff::default();
    loop {
        let reason = match coil.connect(&mut dialer).await {
            Ok(mut connection) => {
                match serve(coil, &mut connection, queue, link, &mut backoff).await {
                    Ok(()) => return,
                    // It was idle: as good as connected, unless the device does nothing else.
                    Err(ModbusError::Closed) if connection.since.elapsed() > ANSWER => {
                        link.log(None, ModbusError::Closed);
                        continue;
                    }
                    Err(reason) => reason,
                }
            }
            Err(reason) => reason,
        };
        link.failed(reason);
        let wait = backoff.next_wait();
        link.waits(wait);
        let again = Instant::now() + wait;
        // Parts go on passing the gate meanwhile.
        while Instant::now() < again {
            while let Some(pulse) = queue.first().filter(has_passed) {
                queue.remove(pulse.part.number);
                link.missed(pulse);
            }
            if queue.is_closed() {
                return;
            }
            let left = again - Instant::now();
            let _ = timeout(left.min(Duration::from_millis(20)), queue.changed()).await;
        }
    }
}

/// Whether the part is behind the gate: opening it now would hit another one.
fn has_passed(pulse: &Pulse) -> bool {
    pulse.late + pulse.fired.elapsed() > pulse.width
}

/// Writes pulses over one connection until it breaks or the queue is closed.
async fn serve(
    coil: &Coil,
    connection: &mut Connection,
    queue: &Queue,
    link: &mut Link,
    backoff: &mut Backoff,
) -> Result<(), ModbusError> {
    // A coil left on by a connection that broke would reject everything.
    coil.write(connection, false).await?;
    link.answered();
    backoff.reset();
    let mut off_at: Option<Instant> = None;
    loop {
        if let Some(pulse) = queue.first() {
            // A decision that was late from the start is fired all the same, once.
            if pulse.late.is_zero() && has_passed(&pulse) {
                queue.remove(pulse.part.number);
                link.missed(pulse);
                continue;
            }
            coil.write(connection, true).await?;
            link.log(Some(&pulse), "on");
            queue.remove(pulse.part.number);
            off_at = Some(Instant::now() + pulse.width);
            continue;
        }
        match off_at {
            Some(at) if Instant::now() >= at => {
                coil.write(connection, false).await?;
                link.log(None, "off");
                off_at = None;
            }
            // The pulse ends first, then the element.
            Some(at) => {
                let _ = tokio::time::timeout_at(at, queue.changed()).await;
            }
            None if queue.is_closed() => return Ok(()),
            None => tokio::select! {
                () = queue.changed() => {}
                () = connection.closed() => return Err(ModbusError::Closed),
            },
        }
    }
}
