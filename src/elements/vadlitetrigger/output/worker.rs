//! An output at work in its thread.

use super::link::Link;
use super::queue::Queue;
use super::{Event, OutputError, Report, Target};
use crate::elements::vadlitetrigger::pulse::Pulse;
use crate::thread::{self, Owned};
use std::sync::Arc;
use std::time::Duration;

/// Wait before an output that has panicked begins anew.
const AFTER_PANIC: Duration = Duration::from_millis(100);

/// An output at work.
pub struct Output {
    queue: Arc<Queue>,
    thread: Option<Owned>,
}

impl Output {
    /// Starts the thread of an output with a queue of so many pulses.
    ///
    /// # Errors
    /// Credentials or a GPIO line that cannot be had, or no thread.
    pub fn start(
        target: &Target,
        credentials: Option<&str>,
        limit: usize,
        report: Report,
    ) -> Result<Self, OutputError> {
        let queue = Arc::new(Queue::new(limit));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let its = queue.clone();
        let name = target.name();
        let link = {
            let (name, report) = (name.clone(), report.clone());
            move || Link::new(name.clone(), report.clone())
        };
        type Work = Box<dyn FnMut(&tokio::runtime::Runtime) + Send>;
        let mut work: Work = match target.clone() {
            #[cfg(feature = "mqtt")]
            Target::Mqtt(broker) => {
                let options = broker.options(credentials)?;
                Box::new(move |runtime| {
                    runtime.block_on(super::mqtt::run(
                        &broker,
                        options.clone(),
                        &its,
                        &mut link(),
                    ));
                })
            }
            #[cfg(feature = "modbus")]
            Target::Modbus(coil) => Box::new(move |runtime| {
                runtime.block_on(super::modbus::run(&coil, &its, &mut link()));
            }),
            #[cfg(feature = "gpio")]
            Target::Gpio(line) => {
                let request = line.request()?;
                Box::new(move |runtime| {
                    runtime.block_on(super::gpio::run(&line, &request, &its, &mut link()));
                })
            }
        };
        let mut runtime = Some(runtime);
        let left = queue.clone();
        let thread = Owned::spawn_again(
            "vadlite-output",
            move || {
                thread::panic_point("vadlite-output");
                if let Some(its) = &runtime {
                    work(its);
                }
                // A look-up of a name may hold its thread for long yet.
                if let Some(runtime) = runtime.take() {
                    runtime.shutdown_background();
                }
            },
            move |panic| {
                report(&name, Event::Failed(panic));
                // What it failed at is not tried again, or it would fail for ever.
                if let Some(pulse) = left.take() {
                    report(&name, Event::Missed(pulse));
                }
                (!left.is_closed()).then_some(AFTER_PANIC)
            },
        )?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }

    /// Holds the gate, or lets it go.
    pub fn hold(&self, _held: bool) {}

    /// Hands on a pulse; returns the one that had to go for it.
    pub fn push(&self, pulse: Pulse) -> Option<Pulse> {
        self.queue.push(pulse)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // It ends within the grace that outputs have.
            thread.join();
        }
    }
}

#[cfg(all(test, feature = "modbus"))]
mod tests {
    use super::*;
    use crate::thread::panics;
    use std::sync::mpsc::channel;

    /// A panic is reported, and the output works on: here, by finding that nobody listens.
    #[test]
    fn an_output_that_panics_begins_anew() {
        // A port on which nobody listens any more.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let address = format!("modbus-tcp://127.0.0.1:{port}/1");
        let [target] = &Target::parse_all(&address).unwrap()[..] else {
            panic!("one address");
        };
        let (tell, told) = channel();
        let report: Report = Arc::new(move |_, event| tell.send(event).unwrap());
        panics::want("vadlite-output");
        let output = Output::start(target, None, 10, report).unwrap();
        let wait = Duration::from_secs(20);
        let first = told.recv_timeout(wait).unwrap();
        assert!(
            matches!(&first, Event::Failed(text) if text.contains("vadlite-output")),
            "{first:?}"
        );
        let next = told.recv_timeout(wait).unwrap();
        assert!(matches!(next, Event::Disconnected(_)), "{next:?}");
        drop(output);
    }
}
