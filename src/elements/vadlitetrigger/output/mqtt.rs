//! Messages to an MQTT broker at QoS 1: JSON for each pulse on a topic; retained, whether this element is there on `TOPIC/status` and
//! whether the gate is held on `TOPIC/gate`.

use super::link::Link;
use super::queue::Queue;
use crate::elements::vadlitetrigger::pulse::Pulse;
use crate::net::backoff;
use crate::net::broker::{self, Broker, GRACE};
use rumqttc::{
    AsyncClient, ConnectionError, Event, Incoming, MqttOptions, Outgoing, PublishOptions,
};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until, timeout};

fn payload(pulse: &Pulse) -> String {
    let part = &pulse.part;
    let waited = pulse.fired.elapsed();
    serde_json::json!({
        "part": part.number,
        "id": part.id,
        "frame": part.worst_frame,
        "score": part.score,
        "threshold": part.threshold,
        "reason": pulse.reason(),
        "due": pulse.due,
        "late": (pulse.late + waited).as_nanos() as u64,
        "pulse": pulse.width.as_nanos() as u64,
        "time": humantime::format_rfc3339_millis(std::time::SystemTime::now() - waited).to_string(),
    })
    .to_string()
}

/// How long the broker may take to acknowledge a message.
const ACKNOWLEDGE: Duration = Duration::from_secs(5);

/// Why a broker is not spoken to any more.
#[derive(Debug, thiserror::Error)]
enum MqttError {
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    #[error("the broker has not acknowledged a message for {} seconds", ACKNOWLEDGE.as_secs())]
    Unacknowledged,
}

impl MqttError {
    /// Nobody has accepted a connection.
    fn is_unreachable(&self) -> bool {
        match self {
            Self::Connection(error) => broker::is_unreachable(error),
            Self::Unacknowledged => false,
        }
    }
}

/// Publishes pulses, and whether the gate is held, until the queue is closed. A pulse stays in the queue until the broker has acknowledged it.
pub async fn run(broker: &Broker, options: MqttOptions, queue: &Queue, link: &mut Link) {
    let (client, mut events) = broker::client(options);
    let mut session: Option<Session> = None;
    let mut end: Option<Instant> = None;
    // Told so, receivers have the gate open until they are told otherwise.
    let mut told_to_hold = false;
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
                let overdue = session.as_ref().and_then(Session::overdue);
                tokio::select! {
                    event = &mut event => break event.map_err(Into::into),
                    () = queue.changed() => {}
                    () = at(overdue) => break Err(MqttError::Unacknowledged),
                    () = at(end) => return,
                }
            }
        };
        match event {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => session = Some(Session::default()),
            Ok(Event::Incoming(Incoming::PubAck(ack))) => {
                if let Some(session) = &mut session {
                    session.acknowledge(ack.pkid, queue, link);
                }
            }
            Ok(Event::Outgoing(Outgoing::Publish(packet))) => {
                if let Some((sending, _)) = session.as_mut().and_then(|s| s.sending.as_mut()) {
                    sending.packet = Some(packet);
                }
            }
            Ok(Event::Outgoing(Outgoing::Disconnect)) => return,
            Ok(_) => {}
            Err(error) => {
                let broken = session.take().unwrap_or_default();
                told_to_hold = broken.held.unwrap_or(told_to_hold);
                broker::forget(&mut events);
                let nobody = error.is_unreachable();
                let wait = match nobody {
                    true => Some(link.unreachable(error)),
                    false => link.broke(error, broken.life(), broken.is_at_pulse()),
                };
                if !queue.is_closed() {
                    let _ = timeout(wait.unwrap_or_default(), queue.closed()).await;
                }
                if queue.is_closed() {
                    // The broker publishes the last will. One that refuses will not do otherwise in the time that is left.
                    let done = queue.first().is_none() && !told_to_hold;
                    if done || !nobody && wait.is_some() {
                        return;
                    }
                    sleep(backoff::FIRST).await;
                }
            }
        }
    }
}

/// Waits until a time that there is.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// One connection: at most one message is on its way, so that the queue alone says what is not yet delivered.
#[derive(Default)]
struct Session {
    /// "online" has been published.
    greeted: bool,
    /// "offline" has been published.
    parted: bool,
    /// Whether the gate is held, as published last.
    held: Option<bool>,
    sending: Option<(Sending, Message)>,
    /// Since when the broker acknowledges.
    answered: Option<Instant>,
}

struct Sending {
    since: Instant,
    /// The packet it went out as.
    packet: Option<u16>,
}

enum Message {
    Status,
    Gate(bool),
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
        let held = queue.is_held();
        let (message, topic, text) = match queue.first() {
            _ if !self.greeted => (Message::Status, broker.status(), "online".to_owned()),
            _ if self.held != Some(held) => {
                let text = if held { "hold" } else { "released" };
                (Message::Gate(held), broker.gate(), text.to_owned())
            }
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
        let is_state = !matches!(message, Message::Pulse(_));
        let options = PublishOptions::at_least_once().retain(is_state);
        // Fails where the client's queue is full, which the next round finds emptier.
        if client.try_publish(topic, text, options).is_err() {
            return;
        }
        link.log(message.pulse(), "sent");
        match message {
            Message::Status => {
                self.parted = self.greeted;
                self.greeted = true;
            }
            Message::Gate(held) => self.held = Some(held),
            Message::Pulse(_) => {}
        }
        let sending = Sending {
            since: Instant::now(),
            packet: None,
        };
        self.sending = Some((sending, message));
    }

    /// Takes in that the broker has the packet, which may be that of the message on its way.
    fn acknowledge(&mut self, packet: u16, queue: &Queue, link: &mut Link) {
        let ours = self
            .sending
            .take_if(|(sending, _)| sending.packet == Some(packet));
        let Some((_, message)) = ours else {
            return;
        };
        self.answered.get_or_insert_with(Instant::now);
        link.log(message.pulse(), "acknowledged");
        match message {
            Message::Pulse(pulse) => {
                queue.remove(pulse.part.number);
                link.served();
            }
            Message::Gate(true) => link.served(),
            Message::Gate(false) | Message::Status => link.answered(),
        }
    }

    /// When the message on its way is given up.
    fn overdue(&self) -> Option<Instant> {
        self.sending
            .as_ref()
            .map(|(sending, _)| sending.since + ACKNOWLEDGE)
    }

    /// How long it has lived since the broker acknowledged something first.
    fn life(&self) -> Option<Duration> {
        self.answered.map(|since| since.elapsed())
    }

    /// A pulse is on its way, or what is as good as one.
    fn is_at_pulse(&self) -> bool {
        matches!(
            self.sending,
            Some((_, Message::Pulse(_) | Message::Gate(true)))
        )
    }
}

impl Message {
    fn pulse(&self) -> Option<&Pulse> {
        match self {
            Self::Status | Self::Gate(_) => None,
            Self::Pulse(pulse) => Some(pulse),
        }
    }
}
