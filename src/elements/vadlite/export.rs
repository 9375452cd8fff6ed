//! The statistics for others to collect: a thread that tells them every few seconds until the element stops.

mod mqtt;
mod textfile;

use super::VadLite;
use super::settings::Settings;
use crate::broker::Broker;
use gst::prelude::*;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// How often.
const EVERY: Duration = Duration::from_secs(5);

/// Ends the thread when it is dropped, after a last word.
pub struct Export {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Export {
    /// Starts the thread where a property asks for it.
    ///
    /// # Errors
    /// A file that cannot be written, an address or credentials that are wrong, or no thread to be had.
    pub fn start(element: &VadLite, settings: &Settings) -> Result<Option<Self>, String> {
        if settings.stats_file.is_none() && settings.stats_mqtt.is_empty() {
            return Ok(None);
        }
        let file = settings.stats_file.clone();
        if let Some(file) = &file {
            textfile::write(file, element)
                .map_err(|error| format!("the property stats-file: {}: {error}", file.display()))?;
        }
        let broker = match settings.stats_mqtt.as_str() {
            "" => None,
            text => {
                let broker = Broker::parse(text)
                    .map_err(|reason| format!("the property stats-mqtt: {reason}"))?;
                let credentials = settings.credentials.as_deref();
                Some((broker.options(credentials)?, broker))
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no event loop can be made: {error}"))?;
        let (stop, stopped) = watch::channel(());
        let weak = element.downgrade();
        let thread = std::thread::Builder::new()
            .name("vadlite-stats".into())
            .spawn(move || {
                let to_file = async {
                    if let Some(file) = file {
                        textfile::run(&weak, &file, stopped.clone()).await;
                    }
                };
                let to_broker = async {
                    if let Some((options, broker)) = broker {
                        mqtt::run(&weak, &broker, options, stopped.clone()).await;
                    }
                };
                runtime.block_on(async { tokio::join!(to_file, to_broker) });
            })
            .map_err(|error| format!("no thread can be started: {error}"))?;
        Ok(Some(Self {
            stop: Some(stop),
            thread: Some(thread),
        }))
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            // It ends within the broker's grace; its panic is not ours.
            let _ = thread.join();
        }
    }
}
