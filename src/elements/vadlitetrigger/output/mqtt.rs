//! Messages to an MQTT broker: JSON at QoS 1 on a topic, and whether this element is there on `TOPIC/status`.

use super::{BACKOFF, Event, GRACE, Report, host_and_port};
use crate::elements::vadlitetrigger::pulse::{Pulse, Queue};
use rumqttc::{
    AsyncClient, EventLoop, Incoming, LastWill, MqttOptions, Outgoing, QoS, TlsConfiguration,
    Transport,
};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// An answer that takes longer is a lost connection.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    tls: bool,
    host: String,
    port: u16,
    topic: String,
}

impl Address {
    /// Of `HOST[:PORT]/TOPIC`.
    pub fn new(tls: bool, host: &str, topic: &str) -> Result<Self, String> {
        let (host, port) = host_and_port(host, if tls { 8883 } else { 1883 })?;
        if topic.is_empty() || topic.contains(['#', '+']) {
            return Err(format!("{topic:?} is no topic to publish on"));
        }
        Ok(Self {
            tls,
            host,
            port,
            topic: topic.into(),
        })
    }

    fn name(&self) -> String {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}:{}/{}", self.host, self.port, self.topic)
    }

    fn status(&self) -> String {
        format!("{}/status", self.topic)
    }

    /// How to connect, with what `credentials`, a file of `user=`, `password=` and `ca=` lines, or else the environment says.
    ///
    /// # Errors
    /// A file that cannot be read, or holds something else.
    pub fn options(&self, credentials: Option<&str>) -> Result<MqttOptions, String> {
        let secrets = Secrets::read(credentials)?;
        // Two elements may send to one topic; two clients of one name would throw each other out.
        let id = format!("vadlite-{}-{:x}", std::process::id(), fastrand::u64(..));
        let mut options = MqttOptions::new(id, &self.host, self.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_last_will(LastWill::new(
            self.status(),
            "offline",
            QoS::AtLeastOnce,
            true,
        ));
        if let Some(user) = secrets.user {
            options.set_credentials(user, secrets.password.unwrap_or_default());
        }
        if self.tls {
            // Refused where another part of the program has chosen one already.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let configuration = match secrets.ca {
                Some(file) => TlsConfiguration::Simple {
                    ca: std::fs::read(&file)
                        .map_err(|error| format!("the CA file {file}: {error}"))?,
                    alpn: None,
                    client_auth: None,
                },
                None => TlsConfiguration::default(),
            };
            options.set_transport(Transport::tls_with_config(configuration));
        }
        Ok(options)
    }
}

/// User, password, and the file of the CA that signs the broker's certificate.
#[derive(Default)]
struct Secrets {
    user: Option<String>,
    password: Option<String>,
    ca: Option<String>,
}

impl Secrets {
    fn read(file: Option<&str>) -> Result<Self, String> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut secrets = Self {
            user: variable("VADLITE_MQTT_USER"),
            password: variable("VADLITE_MQTT_PASSWORD"),
            ca: variable("VADLITE_MQTT_CA"),
        };
        let Some(file) = file else {
            return Ok(secrets);
        };
        let text = std::fs::read_to_string(file)
            .map_err(|error| format!("the property credentials: {file}: {error}"))?;
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let field = match line
                .split_once('=')
                .map(|(name, value)| (name.trim(), value))
            {
                Some(("user", user)) => (&mut secrets.user, user),
                Some(("password", password)) => (&mut secrets.password, password),
                Some(("ca", ca)) => (&mut secrets.ca, ca),
                // Not repeated: it may hold a password.
                _ => {
                    return Err(format!(
                        "the property credentials: {file} holds a line that is not user=, password= or ca="
                    ));
                }
            };
            *field.0 = Some(field.1.trim().into());
        }
        Ok(secrets)
    }
}

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
pub async fn run(address: &Address, options: MqttOptions, queue: &Queue, report: &Report) {
    let name = address.name();
    let (client, mut events) = AsyncClient::new(options, 4);
    events.network_options.set_tcp_nodelay(true);
    events.network_options.set_connection_timeout(1);
    let mut session = Session::default();
    let mut wait = BACKOFF.0;
    let mut lost = false;
    let mut closing: Option<Instant> = None;
    loop {
        if queue.is_closed() && closing.is_none() {
            closing = Some(Instant::now() + GRACE);
        }
        if session.connected {
            session.send(&client, address, queue, closing.is_some());
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
                forget(&mut events);
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

/// What the client holds is in the queue as well, and is sent from there again.
fn forget(events: &mut EventLoop) {
    events.clean();
    events.pending.clear();
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
    fn send(&mut self, client: &AsyncClient, address: &Address, queue: &Queue, closing: bool) {
        if self.sending.is_some() {
            return;
        }
        let status = |text| (address.status(), true, text, None);
        let (topic, retain, text, part) = match queue.first() {
            _ if !self.greeted => status("online".to_owned()),
            Some(pulse) => {
                let part = pulse.part.number;
                (address.topic.clone(), false, payload(&pulse), Some(part))
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
