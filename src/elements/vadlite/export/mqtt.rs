//! The statistics as MQTT messages: JSON on `TOPIC/stats`, and whether the element is there on `TOPIC/status`, both retained.

use super::{EVERY, ExportError, Worker};
use crate::elements::vadlite::CAT;
use crate::elements::vadlite::VadLite;
use crate::net::backoff::Standing;
use crate::net::broker::{self, Broker, GRACE};
use crate::thread::panic_point;
use gst::prelude::*;
use gst::subclass::prelude::*;
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, Incoming, Outgoing, PublishOptions};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Publishes from now on.
///
/// # Errors
/// An address or credentials that are wrong, or no thread to be had.
pub fn start(
    element: &VadLite,
    address: &str,
    credentials: Option<&str>,
) -> Result<Worker, ExportError> {
    let broker = Broker::parse(address)?;
    let options = broker.options(credentials)?;
    let mut runtime = Some(
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?,
    );
    let (stop, stopped) = watch::channel(());
    let weak = element.downgrade();
    let work = move || {
        panic_point("vadlite-stats: broker");
        let (client, events) = broker::client(options.clone());
        let publisher = Publisher {
            element: weak.clone(),
            broker: broker.clone(),
            client,
            unacknowledged: 0,
            warned: false,
            standing: Standing::default(),
        };
        if let Some(runtime) = &runtime {
            runtime.block_on(publisher.run(events, stopped.clone()));
        }
        // A look-up of a name may hold its thread for long yet.
        if let Some(runtime) = runtime.take() {
            runtime.shutdown_background();
        }
    };
    Ok(Worker::start(element, stop, work)?)
}

struct Publisher {
    element: glib::WeakRef<VadLite>,
    broker: Broker,
    client: AsyncClient,
    /// Messages that the broker has not acknowledged yet.
    unacknowledged: usize,
    /// A failure has been warned of since the broker last took the statistics.
    warned: bool,
    standing: Standing,
}

impl Publisher {
    /// Publishes until there is no more sender for `stopped`. While the broker is away nothing is kept: the next message says all.
    async fn run(mut self, mut events: EventLoop, mut stopped: watch::Receiver<()>) {
        // On this connection: since when the broker acknowledges, and how many messages.
        let (mut answered, mut acknowledged) = (None::<Instant>, 0_u64);
        // When the next message is due, while there is a connection.
        let mut due: Option<Instant> = None;
        let mut end: Option<Instant> = None;
        loop {
            let event = {
                // Not broken off by a message that is due: it may be half through another one.
                let mut event = pin!(events.poll());
                loop {
                    if end.is_some() && self.unacknowledged == 0 {
                        let _ = self.client.try_disconnect();
                    }
                    tokio::select! {
                        event = &mut event => break event,
                        () = at(due), if due.is_some() && end.is_none() => {
                            self.publish_stats();
                            due = Some(Instant::now() + EVERY);
                        }
                        _ = stopped.changed(), if end.is_none() => {
                            if due.is_none() {
                                return;
                            }
                            self.publish_stats();
                            self.publish(self.broker.status(), "offline".into());
                            end = Some(Instant::now() + GRACE);
                        }
                        () = at(end), if end.is_some() => return,
                    }
                }
            };
            match event {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                    self.unacknowledged = 0;
                    (answered, acknowledged) = (None, 0);
                    self.publish(self.broker.status(), "online".into());
                    due = Some(Instant::now());
                }
                Ok(Event::Incoming(Incoming::PubAck(_))) => {
                    self.log(format_args!("acknowledged"));
                    self.unacknowledged = self.unacknowledged.saturating_sub(1);
                    answered.get_or_insert_with(Instant::now);
                    acknowledged += 1;
                    // The first is that the element is there.
                    match acknowledged {
                        1 => self.standing.answered(),
                        _ => {
                            self.standing.served();
                            self.warned = false;
                        }
                    }
                }
                Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
                Ok(_) => {}
                Err(_) if end.is_some() => return,
                Err(error) => {
                    due = None;
                    broker::forget(&mut events);
                    if let Some(since) = answered.take() {
                        self.warned &= !self.standing.lived(since.elapsed());
                    }
                    let wait = match broker::is_unreachable(&error) {
                        true => self.standing.unreachable(),
                        false => self.standing.broke(false).unwrap_or_default(),
                    };
                    self.failed(&error, wait);
                    if timeout(wait, stopped.changed()).await.is_ok() {
                        return;
                    }
                }
            }
        }
    }

    fn publish_stats(&mut self) {
        if let Some(element) = self.element.upgrade() {
            let topic = format!("{}/stats", self.broker.topic);
            self.publish(topic, element.imp().stats_json());
        }
    }

    fn publish(&mut self, topic: String, text: String) {
        let options = PublishOptions::at_least_once().retained();
        // Fails where the client's queue is full; the next message says what this one would have.
        if self.client.try_publish(topic, text, options).is_ok() {
            self.log(format_args!("sent"));
            self.unacknowledged += 1;
        }
    }

    fn log(&self, what: std::fmt::Arguments<'_>) {
        if let Some(element) = self.element.upgrade() {
            gst::log!(CAT, obj = element, "{}: {what}", self.broker.name());
        }
    }

    fn failed(&mut self, error: &ConnectionError, wait: Duration) {
        let Some(element) = self.element.upgrade() else {
            return;
        };
        let name = self.broker.name();
        gst::debug!(
            CAT,
            obj = element,
            "{name}: {error}; tried again in {wait:?}"
        );
        if !std::mem::replace(&mut self.warned, true) {
            gst::element_warning!(
                element,
                gst::ResourceError::Write,
                ("the property stats-mqtt: {name}: {error}; it is tried again, and the pipeline goes on")
            );
        }
    }
}

/// Waits until a time that there is.
async fn at(time: Option<Instant>) {
    if let Some(time) = time {
        sleep_until(time).await;
    }
}
