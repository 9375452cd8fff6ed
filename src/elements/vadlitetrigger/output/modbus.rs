//! A coil of a PLC over Modbus TCP: on when the part is at the gate, off a pulse width later.

use super::{Event, Report};
use crate::address::host_and_port;
use crate::broker::BACKOFF;
use crate::elements::vadlitetrigger::pulse::{Pulse, Queue};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_modbus::client::{Context, Writer as _, tcp};
use tokio_modbus::prelude::Slave;

/// Longest wait for the PLC to answer.
const ANSWER: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    host: String,
    port: u16,
    coil: u16,
    unit: u8,
}

impl Address {
    /// Of `HOST[:PORT]/COIL[?unit=N]`.
    pub fn new(host: &str, coil: &str, query: &str) -> Result<Self, String> {
        let (host, port) = host_and_port(host, 502)?;
        let coil = coil
            .parse()
            .map_err(|_| format!("{coil:?} is no coil from 0 to 65535"))?;
        let unit = match query.split_once('=') {
            None if query.is_empty() => 1,
            Some(("unit", unit)) => unit
                .parse()
                .map_err(|_| format!("{unit:?} is no unit from 0 to 255"))?,
            _ => return Err(format!("{query:?} is not unit=N")),
        };
        Ok(Self {
            host,
            port,
            coil,
            unit,
        })
    }

    fn name(&self) -> String {
        format!("modbus-tcp://{}:{}/{}", self.host, self.port, self.coil)
    }

    async fn connect(&self) -> std::io::Result<Context> {
        let stream = tokio::net::TcpStream::connect((self.host.as_str(), self.port)).await?;
        // A coil is a dozen bytes: waiting for more to send along would cost milliseconds.
        stream.set_nodelay(true)?;
        Ok(tcp::attach_slave(stream, Slave(self.unit)))
    }

    async fn write(&self, context: &mut Context, on: bool) -> Result<(), String> {
        match timeout(ANSWER, context.write_single_coil(self.coil, on)).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(exception))) => Err(format!("the device refuses: {exception}")),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in a second".into()),
        }
    }
}

/// Writes pulses until the queue is closed.
pub async fn run(address: &Address, queue: &Queue, report: &Report) {
    let name = address.name();
    let mut wait = BACKOFF.0;
    let mut lost = false;
    loop {
        let connected = timeout(ANSWER, address.connect()).await;
        let reason = match connected {
            Ok(Ok(mut context)) => {
                report(&name, Event::Connected);
                (wait, lost) = (BACKOFF.0, false);
                match serve(address, &mut context, queue, report).await {
                    Ok(()) => return,
                    Err(reason) => reason,
                }
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no connection in a second".into(),
        };
        if !std::mem::replace(&mut lost, true) {
            report(&name, Event::Disconnected(reason));
        }
        let again = Instant::now() + wait;
        wait = (2 * wait).min(BACKOFF.1);
        // Parts go on passing the gate meanwhile.
        while Instant::now() < again {
            while let Some(pulse) = queue.first().filter(has_passed) {
                queue.remove(pulse.part.number);
                report(&name, Event::Missed(pulse));
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
    address: &Address,
    context: &mut Context,
    queue: &Queue,
    report: &Report,
) -> Result<(), String> {
    let name = address.name();
    // A coil left on by a connection that broke would reject everything.
    address.write(context, false).await?;
    let mut off_at: Option<Instant> = None;
    loop {
        if let Some(pulse) = queue.first() {
            // A decision that was late from the start is fired all the same, once.
            if pulse.late.is_zero() && has_passed(&pulse) {
                queue.remove(pulse.part.number);
                report(&name, Event::Missed(pulse));
                continue;
            }
            address.write(context, true).await?;
            queue.remove(pulse.part.number);
            off_at = Some(Instant::now() + pulse.width);
            continue;
        }
        match off_at {
            Some(at) if Instant::now() >= at => {
                address.write(context, false).await?;
                off_at = None;
            }
            // The pulse ends first, then the element.
            Some(at) => {
                let _ = tokio::time::timeout_at(at, queue.changed()).await;
            }
            None if queue.is_closed() => return Ok(()),
            None => queue.changed().await,
        }
    }
}
