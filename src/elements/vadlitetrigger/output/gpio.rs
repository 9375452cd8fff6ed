//! A line of the kernel's GPIO character device.

use super::{Event, Report};
use crate::elements::vadlitetrigger::pulse::Queue;
use gpiocdev::Request;
use gpiocdev::line::Value;
use tokio::time::Instant;

#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    chip: String,
    line: u32,
    active_low: bool,
}

impl Address {
    /// Of `CHIP/LINE[?active-low]`, where CHIP is a name in /dev, such as gpiochip0.
    pub fn new(chip: &str, line: &str, query: &str) -> Result<Self, String> {
        if chip.is_empty() {
            return Err("the chip is missing, such as gpiochip0".into());
        }
        let active_low = match query {
            "" => false,
            "active-low" => true,
            _ => return Err(format!("{query:?} is not active-low")),
        };
        Ok(Self {
            chip: chip.into(),
            line: line
                .parse()
                .map_err(|_| format!("{line:?} is no line number"))?,
            active_low,
        })
    }

    /// The line as an output, inactive.
    ///
    /// # Errors
    /// No such chip or line, no right to it, or another program has it.
    pub fn request(&self) -> Result<Request, String> {
        self.builder().request().map_err(|error| {
            format!(
                "gpio://{}/{}: {error}; gpioinfo lists chips and lines, and the group gpio may use them",
                self.chip, self.line
            )
        })
    }

    fn builder(&self) -> gpiocdev::request::Builder {
        let mut builder = Request::builder();
        builder
            .on_chip(format!("/dev/{}", self.chip))
            .with_consumer("vadlitetrigger")
            .with_line(self.line)
            .as_output(Value::Inactive);
        if self.active_low {
            builder.as_active_low();
        }
        builder
    }
}

/// Switches the line until the queue is closed.
pub async fn run(address: &Address, line: &Request, queue: &Queue, report: &Report) {
    let name = format!("gpio://{}/{}", address.chip, address.line);
    report(&name, Event::Connected);
    let mut lost = false;
    let mut set = |value| {
        let result = line.set_value(address.line, value);
        let before = std::mem::replace(&mut lost, result.is_err());
        match result {
            Err(error) if !before => report(&name, Event::Disconnected(error.to_string())),
            Ok(_) if before => report(&name, Event::Connected),
            _ => {}
        }
    };
    let mut off_at: Option<Instant> = None;
    loop {
        if let Some(pulse) = queue.take() {
            set(Value::Active);
            off_at = Some(Instant::now() + pulse.width);
            continue;
        }
        match off_at {
            Some(at) if Instant::now() >= at => {
                set(Value::Inactive);
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
        let address = Address::new("gpiochip3", "17", "active-low").unwrap();
        let config = address.builder().config();
        let line = config.line_config(17).unwrap();
        assert_eq!(line.direction, Some(gpiocdev::line::Direction::Output));
        assert_eq!(line.value, Some(Value::Inactive));
        assert!(line.active_low);
        assert_eq!(config.chip(), std::path::Path::new("/dev/gpiochip3"));
        let error = Address::new("gpiochip99", "1", "").unwrap().request();
        let error = error.err().unwrap();
        assert!(
            error.contains("gpiochip99") && error.contains("gpioinfo"),
            "{error}"
        );
    }
}
