//! Messages to an MQTT broker: JSON at QoS 1 on a topic, and whether this element is there on `TOPIC/status`.

use super::{Event, Report};
use crate::broker::{self, BACKOFF, Broker, GRACE};
use crate::elements::vadlitetrigger::pulse::{Pulse, Queue};
use rumqttc::{AsyncClient, Incoming, MqttOptions, Outgoing, QoS};
use std::time::Duration;
use tokio::time::{Instant, timeout};

fn payload(pulse: &Pulse) -> String {
    let part = &pulse.part;
    let waited = pulse.fired.elapsed();
    serde_json::json!({
        "part": part.number,
        "frame": part.worst_frame,
        "score": part.score,
        "threshold": part.threshold,
        "reason": pulse.reason(),
        "due": part.due,
        "late": (pulse.late + waited).as_nanos() as u64,
        "pulse": pulse.width.as_nanos() as u64,
        "time": humantime::format_rfc3339_millis(std::time::SystemTime::now() - waited).to_string(),
    })
    .to_string()
}

/// Publishes pulses until the queue is closed. A pulse stays in the queue until the broker has acknowledged it.
pub async fn run(broker: &Broker, options: MqttOptions, queue: &Queue, report: &Report) {
    let name = broker.name();
    let (client, mut events) = broker::client(options);
    let mut session = Session::default();
    let mut wait = BACKOFF.0;
    let mut lost = false;
    let mut closing: Option<Instant> = None;
    loop {
        if queue.is_closed() && closing.is_none() {
            closing = Some(Instant::now() + GRACE);
        }
        if session.connected {
            session.send(&client, broker, queue, closing.is_some());
        }
        if session.done || closing.is_some_and(|end| Instant::now() >= end) {
            return;
        }
        // A pulse that comes wakes it, but does not break off an attempt to connect.
        let connected = session.connected;
        let event = tokio::select! {
            event = events.poll() => event,
            () = queue.changed(), if connected => continue,
            () = tokio::time::sleep(Duration::from_millis(100)), if connected && closing.is_some() => continue,
        };
        match event {
            Ok(rumqttc::Event::Incoming(Incoming::ConnAck(_))) => {
                session = Session {
                    connected: true,
                    ..Session::default()
                };
                (wait, lost) = (BACKOFF.0, false);
                report(&name, Event::Connected);
            }
            Ok(event) => session.take(&event, queue),
            Err(error) => {
                if session.done {
                    return;
                }
                session = Session::default();
                broker::forget(&mut events);
                if !std::mem::replace(&mut lost, true) {
                    report(&name, Event::Disconnected(error.to_string()));
                }
                if queue.is_closed() {
                    tokio::time::sleep(BACKOFF.0).await;
                } else {
                    let _ = timeout(wait, wait_for_end(queue)).await;
                }
                wait = (2 * wait).min(BACKOFF.1);
            }
        }
    }
}

async fn wait_for_end(queue: &Queue) {
    while !queue.is_closed() {
        queue.changed().await;
    }
}

/// One connection: at most one message is on its way, so that the queue alone says what is not yet delivered.
#[derive(Default)]
struct Session {
    connected: bool,
    /// "online" has been published.
    greeted: bool,
    /// What is on its way, by the part's number; `None` for a status.
    sending: Option<Option<u64>>,
    /// The packet it went out as.
    packet: Option<u16>,
    /// "offline" has been published.
    parted: bool,
    done: bool,
}

impl Session {
    fn send(&mut self, client: &AsyncClient, broker: &Broker, queue: &Queue, closing: bool) {
        if self.sending.is_some() {
            return;
        }
        let status = |text| (broker.status(), true, text, None);
        let (topic, retain, text, part) = match queue.first() {
            _ if !self.greeted => status("online".to_owned()),
            Some(pulse) => {
                let part = pulse.part.number;
                (broker.topic.clone(), false, payload(&pulse), Some(part))
            }
            None if closing && !self.parted => status("offline".to_owned()),
            None => {
                if closing {
                    let _ = client.try_disconnect();
                }
                return;
            }
        };
        // Fails where the client's queue is full, which the next round finds emptier.
        if client
            .try_publish(topic, QoS::AtLeastOnce, retain, text)
            .is_ok()
        {
            self.parted = self.greeted && part.is_none();
            self.greeted = true;
            self.sending = Some(part);
        }
    }

    fn take(&mut self, event: &rumqttc::Event, queue: &Queue) {
        match event {
            rumqttc::Event::Outgoing(Outgoing::Publish(packet)) => self.packet = Some(*packet),
            rumqttc::Event::Incoming(Incoming::PubAck(ack)) if Some(ack.pkid) == self.packet => {
                if let Some(Some(part)) = self.sending.take() {
                    queue.remove(part);
                }
                self.packet = None;
            }
            rumqttc::Event::Outgoing(Outgoing::Disconnect) => self.done = true,
            _ => {}
        }
    }
}
