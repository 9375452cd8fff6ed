//! An output at work in its thread.

use super::link::Link;
use super::queue::Queue;
use super::{OutputError, Report, Target};
use crate::elements::vadlitetrigger::pulse::Pulse;
use std::sync::Arc;
use std::thread::JoinHandle;

/// An output at work.
pub struct Output {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
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
        type Work = Box<dyn FnOnce(&tokio::runtime::Runtime) + Send>;
        let work: Work = match target.clone() {
            #[cfg(feature = "mqtt")]
            Target::Mqtt(broker) => {
                let options = broker.options(credentials)?;
                let mut link = Link::new(broker.name(), report);
                Box::new(move |runtime| {
                    runtime.block_on(super::mqtt::run(&broker, options, &its, &mut link));
                })
            }
            #[cfg(feature = "modbus")]
            Target::Modbus(coil) => {
                let mut link = Link::new(coil.name(), report);
                Box::new(move |runtime| {
                    runtime.block_on(super::modbus::run(&coil, &its, &mut link));
                })
            }
            #[cfg(feature = "gpio")]
            Target::Gpio(line) => {
                let request = line.request()?;
                let mut link = Link::new(line.name(), report);
                Box::new(move |runtime| {
                    runtime.block_on(super::gpio::run(&line, &request, &its, &mut link));
                })
            }
        };
        let thread = std::thread::Builder::new()
            .name("vadlite-output".into())
            .spawn(move || {
                work(&runtime);
                // A look-up of a name may hold its thread for long yet.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }

    /// Hands on a pulse; returns the one that had to go for it.
    pub fn push(&self, pulse: Pulse) -> Option<Pulse> {
        self.queue.push(pulse)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // It ends within the grace that outputs have; its panic is not ours.
            let _ = thread.join();
        }
    }
}
