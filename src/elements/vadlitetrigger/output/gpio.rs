//! A line of the kernel's GPIO character device.

use super::link::Link;
use super::queue::Queue;
use crate::elements::vadlitetrigger::pulse::Pulse;
use crate::net::address::{self, Address, Reason};
use gpiocdev::Request;
use gpiocdev::line::Value;
use tokio::time::Instant;

#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    chip: String,
    number: u32,
    active_low: bool,
}

/// No such chip or line, no right to it, or another program has it.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {source}; gpioinfo lists chips and lines, and the group gpio may use them")]
pub struct GpioError {
    name: String,
    source: gpiocdev::Error,
}

impl Line {
    /// Of `gpio://CHIP/LINE[?active-low]`, where CHIP is a name in /dev, such as gpiochip0.
    ///
    /// # Errors
    /// A line that is no number, or what such an address does not have.
    pub fn new(address: Address) -> Result<Self, Reason> {
        if address.port.is_some() {
            return Err(Reason::Port);
        }
        let active_low = match address.query.as_deref() {
            None => false,
            Some("active-low") => true,
            Some(query) => return Err(address::unknown(query)),
        };
        let number = address.path.parse();
        Ok(Self {
            chip: address.host,
            number: number.map_err(|_| address::not("line number", address.path))?,
            active_low,
        })
    }

    /// For messages.
    pub fn name(&self) -> String {
        format!("gpio://{}/{}", self.chip, self.number)
    }

    /// The line as an output, inactive.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn request(&self) -> Result<Request, GpioError> {
        self.builder().request().map_err(|source| GpioError {
            name: self.name(),
            source,
        })
    }

    fn builder(&self) -> gpiocdev::request::Builder {
        let mut builder = Request::builder();
        builder
            .on_chip(format!("/dev/{}", self.chip))
            .with_consumer("vadlitetrigger")
            .with_line(self.number)
            .as_output(Value::Inactive);
        if self.active_low {
            builder.as_active_low();
        }
        builder
    }
}

/// Switches the line until the queue is closed.
pub async fn run(line: &Line, request: &Request, queue: &Queue, link: &mut Link) {
    link.answered();
    let mut set = |value, pulse: Option<&Pulse>| match request.set_value(line.number, value) {
        Ok(_) => {
            link.answered();
            link.log(pulse, value);
        }
        Err(error) => link.failed(error),
    };
    // After a panic the line may be on.
    set(Value::Inactive, None);
    let mut off_at: Option<Instant> = None;
    loop {
        if let Some(pulse) = queue.take() {
            set(Value::Active, Some(&pulse));
            off_at = Some(Instant::now() + pulse.width);
            continue;
        }
        match off_at {
            Some(at) if Instant::now() >= at => {
                set(Value::Inactive, None);
                off_at = None;
            }
            Some(at) => {
                let _ = tokio::time::timeout_at(at, queue.changed()).await;
            }
            None if queue.is_closed() => return,
            None => queue.changed().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_asks_for_an_output_that_is_off() {
        let line = |text| Address::read(text, "", Line::new).unwrap();
        let config = line("gpio://gpiochip3/17?active-low").builder().config();
        let asked = config.line_config(17).unwrap();
        assert_eq!(asked.direction, Some(gpiocdev::line::Direction::Output));
        assert_eq!(asked.value, Some(Value::Inactive));
        assert!(asked.active_low);
        assert_eq!(config.chip(), std::path::Path::new("/dev/gpiochip3"));
        let error = line("gpio://gpiochip99/1").request().err().unwrap();
        let error = error.to_string();
        assert!(
            error.contains("gpiochip99") && error.contains("gpioinfo"),
            "{error}"
        );
    }
}
