//! An output at work in its thread.

use super::link::Link;
use super::queue::Queue;
use super::{Event, OutputError, Report, Target};
use crate::elements::vadlitetrigger::pulse::Pulse;
use crate::net::backoff::Backoff;
use crate::thread::{self, Owned};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// An output that has gone on for so long before it panics begins anew as soon as after its first panic.
const WENT_WELL: Duration = Duration::from_secs(10);

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
        let (undelivered, tell) = (queue.clone(), link());
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
            Target::Modbus(coil) => {
                let mut level = super::level::Level::default();
                Box::new(move |runtime| {
                    runtime.block_on(super::modbus::run(&coil, &its, &mut link(), &mut level));
                })
            }
            #[cfg(feature = "gpio")]
            Target::Gpio(line) => {
                let (request, mut level) = (line.request()?, super::level::Level::default());
                Box::new(move |runtime| {
                    runtime.block_on(super::gpio::run(&request, &its, &mut link(), &mut level));
                })
            }
        };
        let mut runtime = Some(runtime);
        let left = queue.clone();
        let mut backoff = Backoff::default();
        let mut begun = Instant::now();
        let mut last_time = false;
        let thread = Owned::spawn_again(
            "vadlite-output",
            move || {
                thread::panic_point("vadlite-output");
                if let Some(its) = &runtime {
                    work(its);
                }
                while let Some(pulse) = undelivered.take() {
                    tell.missed(pulse);
                }
                // What is under way there nobody waits for.
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
                if left.is_closed() {
                    // What is on has to be switched off; but once is enough to find out that this cannot be done.
                    let again = !std::mem::replace(&mut last_time, true);
                    return again.then_some(Duration::ZERO);
                }
                if std::mem::replace(&mut begun, Instant::now()).elapsed() > WENT_WELL {
                    backoff.reset();
                }
                Some(backoff.next_wait())
            },
        )?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }

    /// Hands on a pulse; returns the one that had to go for it.
    pub fn push(&self, pulse: Pulse) -> Option<Pulse> {
        self.queue.push(pulse)
    }

    /// Keeps the gate open from now on, or no longer. A level and no pulse: it is kept through a lost connection and a panic, and ends with
    /// the output.
    pub fn hold(&self, held: bool) {
        self.queue.hold(held);
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
