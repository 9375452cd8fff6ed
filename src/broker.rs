//! MQTT brokers: their addresses, how to connect, and what becomes of a connection that breaks.

use crate::address::{self, host_and_port};
use rumqttc::{AsyncClient, EventLoop, LastWill, MqttOptions, QoS, TlsConfiguration, Transport};
use std::time::Duration;

/// Waits between attempts to connect: the first, and the longest.
pub const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));
/// How long what is left may take to be sent when the element stops.
pub const GRACE: Duration = Duration::from_secs(1);
/// An answer that takes longer is a lost connection.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    tls: bool,
    host: String,
    port: u16,
    pub topic: String,
}

impl Broker {
    /// Of `mqtt://HOST[:PORT]/TOPIC` or `mqtts://…`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let address = address::Address::parse(text)?;
        let broker = match &address {
            Some(address) if ["mqtt", "mqtts"].contains(&address.scheme) => {
                Self::new(address.scheme == "mqtts", address.host, address.path)
            }
            _ => Err("it is not mqtt://HOST[:PORT]/TOPIC or mqtts://HOST[:PORT]/TOPIC".into()),
        };
        broker.map_err(|reason| format!("{text}: {reason}"))
    }

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

    /// For messages.
    pub fn name(&self) -> String {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        format!("{scheme}://{}:{}/{}", self.host, self.port, self.topic)
    }

    /// Where it says whether this element is there.
    pub fn status(&self) -> String {
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

/// A client that sends small messages at once, and what drives it.
pub fn client(options: MqttOptions) -> (AsyncClient, EventLoop) {
    let (client, mut events) = AsyncClient::new(options, 4);
    events.network_options.set_tcp_nodelay(true);
    events.network_options.set_connection_timeout(1);
    (client, events)
}

/// After a connection that broke: what the client still holds is sent anew by whoever knows whether it still matters.
pub fn forget(events: &mut EventLoop) {
    events.clean();
    events.pending.clear();
}
