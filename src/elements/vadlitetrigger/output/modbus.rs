//! A coil of a PLC over Modbus TCP: its address, and how it is written.

mod driver;

use crate::net::address::{self, Address, Reason};
use crate::net::dialer::Dialer;
use socket2::SockRef;
use std::fmt::{self, Display, Formatter};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_modbus::client::{Client as _, Context, tcp};
use tokio_modbus::prelude::{ExceptionCode, Request, Response, Slave};

pub use driver::run;

/// Longest wait for the PLC to connect, and to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// The unit of a device that has but one.
const UNIT: u8 = 1;

/// `modbus-tcp://HOST[:PORT]/COIL[?unit=N][&base=0|1]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Coil {
    host: String,
    port: u16,
    /// As the protocol has it: the first coil is 0.
    number: u16,
    /// What the address calls the first coil.
    base: Base,
    unit: u8,
}

/// How coils are counted.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
enum Base {
    /// As the protocol counts.
    #[default]
    Zero,
    /// As most manuals do.
    One,
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
    #[error("the device has answered something else: {0:?}")]
    Other(Response),
    #[error("the device refuses: {0}")]
    Refused(ExceptionCode),
    #[error("the device has closed the connection")]
    Closed,
}

impl Coil {
    /// Of such an address.
    ///
    /// # Errors
    /// A coil or unit that is no number of its range, or what such an address does not have.
    pub fn new(address: Address) -> Result<Self, Reason> {
        let [unit, base] = address.query_of(["unit", "base"])?;
        let unit = match unit {
            None => UNIT,
            Some(unit) => {
                address::number(&unit).ok_or_else(|| address::not("unit from 0 to 255", unit))?
            }
        };
        let base = match base.as_deref() {
            None | Some("0") => Base::Zero,
            Some("1") => Base::One,
            Some(other) => return Err(address::not("base, which is 0 or 1", other)),
        };
        let path = address.path;
        if path.len() > 1 && path.starts_with('0') && path.bytes().all(|b| b.is_ascii_digit()) {
            return Err(address::not(
                "coil that is clear, since manuals write 00017 for what the protocol calls 16: write 16, or 17?base=1",
                path,
            ));
        }
        let found: Option<u32> = address::number(&path);
        let number = match base {
            Base::Zero => found,
            Base::One => found.and_then(|number| number.checked_sub(1)),
        };
        let number = number.and_then(|number| u16::try_from(number).ok());
        let number = number.ok_or_else(|| {
            let wanted = match base {
                Base::Zero => {
                    "coil from 0 to 65535, the first of which is 0; with ?base=1 it is 1, as most manuals count"
                }
                Base::One => "coil from 1 to 65536, as ?base=1 counts them",
            };
            address::not(wanted, path)
        })?;
        Ok(Self {
            host: address.host,
            port: address.port.unwrap_or(502),
            number,
            base,
            unit,
        })
    }

    /// For messages.
    pub fn name(&self) -> String {
        let authority = address::authority(&self.host, self.port);
        let unit = (self.unit != UNIT).then(|| format!("unit={}", self.unit));
        let (number, base) = match self.base {
            Base::Zero => (u32::from(self.number), None),
            Base::One => (u32::from(self.number) + 1, Some("base=1".to_owned())),
        };
        let query: Vec<String> = unit.into_iter().chain(base).collect();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("modbus-tcp://{authority}/{number}{mark}{}", query.join("&"))
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
            answered: None,
        })
    }
}

/// What a coil is written to: on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct On(bool);

impl Display for On {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0 { "on" } else { "off" })
    }
}

struct Connection {
    context: Context,
    /// The same socket: many devices close what has been idle for seconds, which a write would notice too late for its pulse.
    watched: TcpStream,
    /// Since when it has been answered.
    answered: Option<Instant>,
}

impl Connection {
    async fn write(&mut self, coil: u16, on: On) -> Result<(), ModbusError> {
        let request = Request::WriteSingleCoil(coil, on.0);
        let answer = timeout(ANSWER, self.context.call(request)).await;
        match answer.map_err(|_| ModbusError::NoAnswer)? {
            Ok(Ok(Response::WriteSingleCoil(its, is))) if (its, is) == (coil, on.0) => Ok(()),
            Ok(Ok(other)) => Err(ModbusError::Other(other)),
            Ok(Err(exception)) => Err(ModbusError::Refused(exception)),
            Err(error) => {
                // The client has no error of its own for this.
                let rest = timeout(Duration::ZERO, self.watched.peek(&mut [0])).await;
                Err(match rest {
                    Ok(Ok(0)) => ModbusError::Closed,
                    _ => error.into(),
                })
            }
        }
    }

    /// How long it has lived since it was answered first.
    fn life(&self) -> Option<Duration> {
        self.answered.map(|since| since.elapsed())
    }

    /// Ends it so that nothing of it comes later: the system would go on sending a request that has been given up.
    fn abort(self) {
        let _ = SockRef::from(&self.watched).set_linger(Some(Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coil(text: &str) -> Result<Coil, String> {
        Address::read(text, "", Coil::new).map_err(|error| error.to_string())
    }

    #[test]
    fn coils_are_counted_from_0_or_from_1() {
        for (text, number, unit, name) in [
            ("modbus-tcp://plc/0", 0, 1, "modbus-tcp://plc:502/0"),
            (
                "modbus-tcp://plc/16?base=0",
                16,
                1,
                "modbus-tcp://plc:502/16",
            ),
            (
                "modbus-tcp://plc/17?base=1",
                16,
                1,
                "modbus-tcp://plc:502/17?base=1",
            ),
            (
                "modbus-tcp://plc/65536?base=1",
                65535,
                1,
                "modbus-tcp://plc:502/65536?base=1",
            ),
            (
                "modbus-tcp://[::1]:1502/7?unit=3&base=1",
                6,
                3,
                "modbus-tcp://[::1]:1502/7?unit=3&base=1",
            ),
            (
                "modbus-tcp://plc/7?base=1&unit=0",
                6,
                0,
                "modbus-tcp://plc:502/7?unit=0&base=1",
            ),
        ] {
            let coil = coil(text).unwrap();
            assert_eq!((coil.number, coil.unit), (number, unit), "{text}");
            assert_eq!(coil.name(), name);
        }
        for (text, wrong) in [
            ("modbus-tcp://plc/0?base=1", "coil from 1 to 65536"),
            ("modbus-tcp://plc/65537?base=1", "coil from 1 to 65536"),
            ("modbus-tcp://plc/65536", "coil from 0 to 65535"),
            ("modbus-tcp://plc/-1", "no coil"),
            ("modbus-tcp://plc/+1", "no coil"),
            ("modbus-tcp://plc/7/", "no coil"),
            ("modbus-tcp://plc/", "no coil"),
            ("modbus-tcp://plc", "no coil"),
            ("modbus-tcp://plc/00017", "write 16, or 17?base=1"),
            ("modbus-tcp://plc/00017?base=1", "write 16, or 17?base=1"),
            ("modbus-tcp://plc/00", "no coil that is clear"),
            ("modbus-tcp://plc/1?base=2", "no base"),
            ("modbus-tcp://plc/1?unit=1&unit=1", "?unit is given twice"),
            (
                "modbus-tcp://plc/1?unit=1&base=0&base=1",
                "?base is given twice",
            ),
            ("modbus-tcp://plc/1?unit=256", "no unit"),
            ("modbus-tcp://plc/1?unit=+1", "no unit"),
            ("modbus-tcp://plc/1?unit=", "no unit"),
            ("modbus-tcp://plc/1?unit", "question mark"),
            ("modbus-tcp://plc/1?", "question mark"),
            ("modbus-tcp://plc/1?unit=1&", "question mark"),
            ("modbus-tcp://plc/1?unit=1&wait=2", "?wait"),
        ] {
            let error = coil(text).unwrap_err();
            assert!(error.contains(wrong), "{text}: {error}");
        }
    }
}
