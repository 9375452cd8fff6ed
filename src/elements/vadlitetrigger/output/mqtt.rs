//! Messages to an MQTT broker: JSON at QoS 1 on a topic, and whether this element is there on `TOPIC/status`.

use super::link::Link;
use super::queue::Queue;
use crate::elements::vadlitetrigger::pulse::Pulse;
use crate::net::backoff::{self, Backoff};
use crate::net::broker::{self, Broker, GRACE};
use rumqttc::{AsyncClient, Event, Incoming, MqttOptions, Outgoing, PublishOptions};
use std::pin::pin;
use tokio::time::{Instant, sleep, sleep_until, timeout};

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
pub async fn run(broker: &Broker, options: MqttOptions, queue: &Queue, link: &mut Link) {
    let (client, mut events) = broker::client(options);
    let mut session: Option<Session> = None;
    let mut backoff = Backoff::default();
    let mut end: Option<Instant> = None;
    loop {
        let event = {
            // Not broken off by a pulse that comes: it may be connecting, or half through a message.
            let mut event = pin!(events.poll());
            loop {
                if queue.is_closed() {
                    end.get_or_insert_with(|| Instant::now() + GRACE);
                }
                if let Some(session) = &mut session {
                    session.send(&client, broker, queue, link, end.is_some());
                }
                tokio::select! {
                    event = &mut event => break event,
                    () = queue.changed() => {}
                    () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => return,
                }
            }
        };
        match event {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => session = Some(Session::default()),
            Ok(Event::Incoming(Incoming::PubAck(ack))) => {
                let acknowledged = session
                    .as_mut()
                    .is_some_and(|session| session.acknowledge(ack.pkid, queue, link));
                if acknowledged {
                    link.answered();
                    backoff.reset();
                }
            }
            Ok(Event::Outgoing(Outgoing::Publish(packet))) => {
                if let Some(session) = &mut session {
                    session.packet = Some(packet);
                }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => {
                session = None;
                broker::forget(&mut events);
                link.failed(error);
                if end.is_some() || queue.is_closed() {
                    sleep(backoff::FIRST).await;
                } else {
                    let wait = backoff.next_wait();
                    link.waits(wait);
                    let _ = timeout(wait, queue.closed()).await;
                }
            }
        }
    }
}

/// One connection: at most one message is on its way, so that the queue alone says what is not yet delivered.
#[derive(Default)]
struct Session {
    /// "online" has been published.
    greeted: bool,
    /// "offline" has been published.
    parted: bool,
    sending: Option<Message>,
    /// The packet it went out as.
    packet: Option<u16>,
}

enum Message {
    Status,
    Pulse(Pulse),
}

impl Session {
    fn send(
        &mut self,
        client: &AsyncClient,
        broker: &Broker,
        queue: &Queue,
        link: &Link,
        closing: bool,
    ) {
        if self.sending.is_some() {
            return;
        }
        let (message, topic, text) = match queue.first() {
            _ if !self.greeted => (Message::Status, broker.status(), "online".to_owned()),
            Some(pulse) => (Message::Pulse(pulse), broker.topic.clone(), payload(&pulse)),
            None if closing && !self.parted => {
                (Message::Status, broker.status(), "offline".to_owned())
            }
            None => {
                if closing {
                    let _ = client.try_disconnect();
                }
                return;
            }
        };
        let options = PublishOptions::at_least_once().retain(matches!(message, Message::Status));
        // Fails where the client's queue is full, which the next round finds emptier.
        if client.try_publish(topic, text, options).is_ok() {
            link.log(message.pulse(), "sent");
            self.parted = self.greeted && matches!(message, Message::Status);
            self.greeted = true;
            self.sending = Some(message);
        }
    }

    /// Whether the packet is that of the message on its way, which the broker has now.
    fn acknowledge(&mut self, packet: u16, queue: &Queue, link: &Link) -> bool {
        if self.packet != Some(packet) {
            return false;
        }
        self.packet = None;
        if let Some(message) = self.sending.take() {
            link.log(message.pulse(), "acknowledged");
            if let Message::Pulse(pulse) = message {
                queue.remove(pulse.part.number);
            }
        }
        true
    }
}

impl Message {
    fn pulse(&self) -> Option<&Pulse> {
        match self {
            Self::Status => None,
            Self::Pulse(pulse) => Some(pulse),
        }
    }
}
