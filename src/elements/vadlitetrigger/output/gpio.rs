//! A line of the kernel's GPIO character device.

use super::level::{Level, sleep_until_first};
use super::link::Link;
use super::queue::Queue;
use crate::elements::vadlitetrigger::pulse::Pulse;
use crate::net::address::{self, Address, Reason};
use crate::net::backoff::Backoff;
use gpiocdev::Request;
use gpiocdev::line::Value;
use smallvec::SmallVec;
use std::fmt::Display;
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
        let number = address::number(&address.path);
        Ok(Self {
            chip: address.host,
            number: number.ok_or_else(|| address::not("line number", address.path))?,
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
    pub fn request(&self) -> Result<Requested, GpioError> {
        let request = self.builder().request().map_err(|source| GpioError {
            name: self.name(),
            source,
        })?;
        let number = self.number;
        Ok(Requested { number, request })
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

/// A line that is ours, and inactive when it is ours no longer.
pub struct Requested {
    number: u32,
    request: Request,
}

impl Requested {
    fn set(&self, active: bool) -> gpiocdev::Result<()> {
        let value = match active {
            true => Value::Active,
            false => Value::Inactive,
        };
        self.request.set_value(self.number, value).map(drop)
    }
}

impl Drop for Requested {
    fn drop(&mut self) {
        // What its thread could not do has been reported.
        let _ = self.set(false);
    }
}

/// Switches the line until the queue is closed.
pub async fn run(line: &Requested, queue: &Queue, link: &mut Link, level: &mut Level) {
    drive(|active| line.set(active), queue, link, level).await;
}

async fn drive<E: Display>(
    mut set: impl FnMut(bool) -> Result<(), E>,
    queue: &Queue,
    link: &mut Link,
    level: &mut Level,
) {
    link.answered();
    let mut backoff = Backoff::default();
    // What it is. After a panic that is not known.
    let mut is = None;
    let mut again: Option<Instant> = None;
    let mut reason = String::new();
    loop {
        let now = Instant::now();
        let mut pulses: SmallVec<[Pulse; 4]> = SmallVec::new();
        while let Some(pulse) = queue.take() {
            level.open(&pulse, now);
            pulses.push(pulse);
        }
        let end = level.end(queue, now);
        let wanted = level.wanted(queue, now);
        if is != Some(wanted) && (!pulses.is_empty() || again.is_none_or(|again| now >= again)) {
            level.maybe_on |= wanted;
            match set(wanted) {
                Ok(()) => {
                    is = Some(wanted);
                    level.maybe_on = wanted;
                    backoff.reset();
                    again = None;
                    link.served();
                    link.log(pulses.first(), if wanted { "on" } else { "off" });
                }
                Err(error) => {
                    is = None;
                    reason = error.to_string();
                    link.failed(error);
                    again = Some(now + backoff.next_wait());
                    level.forget_pulses();
                    pulses.drain(..).for_each(|pulse| link.missed(pulse));
                }
            }
        }
        if let Some(end) = end {
            // A line whose state is not known is left inactive too.
            if is == Some(false) && !level.wanted(queue, now) {
                return;
            }
            if now >= end {
                if level.maybe_on {
                    link.left_on(&reason);
                }
                return;
            }
        }
        tokio::select! {
            () = queue.changed() => {}
            () = sleep_until_first(now, [level.changes_at(), again, end]) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elements::vadlitetrigger::output::Event;
    use crate::elements::vadlitetrigger::output::tests::pulse;
    use std::cell::Cell;
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    /// What happens at a line, in order.
    #[derive(Debug, PartialEq)]
    enum Seen {
        Set(bool),
        Connected,
        Disconnected,
        Missed,
        LeftOn,
    }

    async fn wait(milliseconds: u64) {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }

    /// Waits until the line has been set so often.
    async fn until(sets: &Cell<usize>, count: usize) {
        let done = async {
            while sets.get() < count {
                wait(1).await;
            }
        };
        let limit = Duration::from_secs(20);
        let done = tokio::time::timeout(limit, done).await;
        done.expect("it does not happen");
    }

    /// Drives a line that can be set as `can` says while `work` goes on beside it, told how often the line has been set; returns what was
    /// seen.
    fn drive_with(
        can: impl Fn(bool) -> bool,
        work: impl AsyncFnOnce(&Queue, &Cell<usize>),
    ) -> Vec<Seen> {
        let sets = Cell::new(0);
        let (tell, seen) = channel();
        let events = tell.clone();
        let report = Arc::new(move |_: &str, event| {
            let seen = match event {
                Event::Connected => Seen::Connected,
                Event::Disconnected { .. } => Seen::Disconnected,
                Event::Missed(_) => Seen::Missed,
                Event::LeftOn(_) => Seen::LeftOn,
                Event::Failed(panic) => panic!("{panic}"),
            };
            events.send(seen).unwrap();
        });
        let (queue, mut level) = (Queue::new(10), Level::default());
        let mut link = Link::new("gpio".into(), report);
        let set = |on| {
            tell.send(Seen::Set(on)).unwrap();
            sets.set(sets.get() + 1);
            if can(on) {
                Ok(())
            } else {
                Err("it cannot be set")
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.unwrap().block_on(async {
            let beside = async {
                work(&queue, &sets).await;
                queue.close();
            };
            tokio::join!(drive(set, &queue, &mut link, &mut level), beside);
        });
        drop((tell, link));
        seen.iter().collect()
    }

    #[test]
    fn a_line_is_active_while_it_is_held_or_a_pulse_lasts() {
        let seen = drive_with(
            |_| true,
            async |queue, sets| {
                until(sets, 1).await;
                queue.push(pulse(0, Duration::from_millis(50)));
                until(sets, 3).await;
                queue.hold(true);
                until(sets, 4).await;
                queue.push(pulse(1, Duration::from_millis(50)));
                wait(100).await;
                queue.hold(false);
                until(sets, 5).await;
                queue.hold(true);
                until(sets, 6).await;
            },
        );
        use Seen::{Connected, Set};
        let levels = [false, true, false, true, false, true, false];
        let expected: Vec<Seen> = [Connected].into_iter().chain(levels.map(Set)).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_line_that_cannot_be_set_is_said() {
        let seen = drive_with(
            |on| !on,
            async |queue, sets| {
                until(sets, 1).await;
                queue.push(pulse(0, Duration::from_millis(50)));
                until(sets, 3).await;
            },
        );
        use Seen::{Connected, Disconnected, Missed, Set};
        let expected = [
            Connected,
            Set(false),
            Set(true),
            Disconnected,
            Missed,
            Set(false),
            Connected,
        ];
        assert_eq!(seen, expected);
        let seen = drive_with(
            |on| on,
            async |queue, _| {
                queue.hold(true);
                wait(500).await;
            },
        );
        assert!(seen.contains(&Set(true)), "{seen:?}");
        assert_eq!(seen.last(), Some(&Seen::LeftOn));
    }

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
