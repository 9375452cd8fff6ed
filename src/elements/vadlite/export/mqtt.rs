//! The statistics as MQTT messages: JSON on `TOPIC/stats`, and whether the element is there on `TOPIC/status`, both retained.

use super::EVERY;
use crate::broker::{self, BACKOFF, Broker, GRACE};
use crate::elements::vadlite::VadLite;
use gst::subclass::prelude::*;
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, QoS};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// Publishes until there is no more sender for `stopped`. While the broker is away nothing is kept: the next message says all.
pub async fn run(
    element: &glib::WeakRef<VadLite>,
    broker: &Broker,
    options: MqttOptions,
    mut stopped: watch::Receiver<()>,
) {
    let (client, mut events) = broker::client(options);
    let mut connected = false;
    let mut due = Instant::now();
    let mut wait = BACKOFF.0;
    let mut lost = false;
    loop {
        let event = tokio::select! {
            event = events.poll() => event,
            () = sleep_until(due), if connected => {
                due += EVERY;
                publish_stats(&client, broker, element);
                continue;
            }
            _ = stopped.changed() => break,
        };
        match event {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => {
                (connected, lost, wait) = (true, false, BACKOFF.0);
                due = Instant::now();
                publish(&client, broker.status(), "online".into());
            }
            Ok(_) => {}
            Err(error) => {
                connected = false;
                broker::forget(&mut events);
                if !std::mem::replace(&mut lost, true)
                    && let Some(element) = element.upgrade()
                {
                    gst::element_warning!(
                        element,
                        gst::ResourceError::Write,
                        (
                            "the property stats-mqtt: {}: {error}; it is tried again, and the pipeline goes on",
                            broker.name()
                        )
                    );
                }
                if timeout(wait, stopped.changed()).await.is_ok() {
                    break;
                }
                wait = (2 * wait).min(BACKOFF.1);
            }
        }
    }
    if connected {
        publish_stats(&client, broker, element);
        publish(&client, broker.status(), "offline".into());
        let _ = client.try_disconnect();
        // Until the broker closes the connection: closed from here with answers unread it would be reset, with what is on its way.
        let _ = timeout(GRACE, async { while events.poll().await.is_ok() {} }).await;
    }
}

fn publish_stats(client: &AsyncClient, broker: &Broker, element: &glib::WeakRef<VadLite>) {
    if let Some(element) = element.upgrade() {
        let topic = format!("{}/stats", broker.topic);
        publish(client, topic, element.imp().stats_json());
    }
}

/// Fails where the client's queue is full; the next message says what this one would have.
fn publish(client: &AsyncClient, topic: String, text: String) {
    let _ = client.try_publish(topic, QoS::AtLeastOnce, true, text);
}
