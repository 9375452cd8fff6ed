//! MQTT brokers: their addresses, how to connect, and what becomes of a connection that breaks.

use super::address::{self, Address, AddressError, Reason};
use super::dialer::{Dialer, Unreachable};
use rumqttc::{AsyncClient, ConnectionError, EventLoop, LastWill, MqttOptions, QoS};
use rustls_native_certs::CertificateResult;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// How long what is left may take to be sent when the element stops.
pub const GRACE: Duration = Duration::from_secs(1);
/// An answer that takes longer is a lost connection, in seconds.
const KEEP_ALIVE: u16 = 5;
/// The same for a connection with its TLS and greeting, in seconds: small machines take long to check certificates.
const CONNECT: u64 = 10;

#[derive(Debug, Clone, PartialEq)]
pub struct Broker {
    tls: bool,
    host: String,
    port: u16,
    pub topic: String,
}

/// Why a broker cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("{}: {source}", shown(.file))]
    Credentials {
        file: String,
        source: std::io::Error,
    },
    /// The line is not repeated: it may hold a password.
    #[error("the file {file} holds a line that is not user=, password= or ca=")]
    Line { file: String },
    #[error("the CA file {file}: {source}")]
    CaFile { file: String, source: pem::Error },
    #[error("the CA file {file} holds a certificate that is not understood: {source}")]
    CaCertificate { file: String, source: rustls::Error },
    #[error("the CA file {file} holds no certificate in PEM")]
    CaEmpty { file: String },
    #[error(
        "this system has no certificates of authorities to check the broker's by{}; install ca-certificates, or name the file of the broker's authority with ca= or VADLITE_MQTT_CA", .source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default()
    )]
    NoAuthority {
        source: Option<rustls_native_certs::Error>,
    },
    #[error("{host:?} is no name that a certificate can be made out for: {source}")]
    Name {
        host: String,
        source: InvalidDnsNameError,
    },
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// A file that cannot be read, as far as it may be shown: what is no path may be a password that belongs into a file.
fn shown(file: &str) -> String {
    let is_path = ["/", "./", "../"]
        .iter()
        .any(|start| file.starts_with(start));
    match is_path {
        true => format!("the file {file}"),
        false => "the file that it names (which is not repeated here: it may be a secret, where it does not begin with / or ./)".into(),
    }
}

impl Broker {
    /// Of `mqtt://HOST[:PORT]/TOPIC` or `mqtts://…`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        Address::read(text, address::MQTT, |address| {
            match address.scheme.as_str() {
                "mqtt" | "mqtts" => Self::new(address),
                _ => Err(Reason::Scheme),
            }
        })
    }

    /// Of an address whose scheme is `mqtt` or `mqtts`.
    ///
    /// # Errors
    /// A query, or a topic that nothing can be published on.
    pub fn new(address: Address) -> Result<Self, Reason> {
        address.no_query()?;
        let tls = address.scheme == "mqtts";
        let topic = address.path;
        if topic.is_empty()
            || topic.contains(|letter: char| "#+".contains(letter) || letter.is_control())
        {
            return Err(address::not(
                "topic to publish on, which is not empty and has no + or #",
                topic,
            ));
        }
        Ok(Self {
            tls,
            host: address.host,
            port: address.port.unwrap_or(if tls { 8883 } else { 1883 }),
            topic,
        })
    }

    /// For messages.
    pub fn name(&self) -> String {
        let scheme = if self.tls { "mqtts" } else { "mqtt" };
        let authority = address::authority(&self.host, self.port);
        format!("{scheme}://{authority}/{}", self.topic)
    }

    /// Where it says whether this element is there.
    pub fn status(&self) -> String {
        format!("{}/status", self.topic)
    }

    /// Where it says whether the gate is held.
    pub fn gate(&self) -> String {
        format!("{}/gate", self.topic)
    }

    /// How to connect, with what `credentials`, a file of `user=`, `password=` and `ca=` lines, or else the environment says.
    ///
    /// # Errors
    /// A file that cannot be read or holds something else, or nothing to check a certificate by.
    pub fn options(&self, credentials: Option<&str>) -> Result<MqttOptions, BrokerError> {
        let secrets = Secrets::read(credentials)?;
        // Two elements may send to one topic; two clients of one name would throw each other out.
        let id = format!("vadlite-{}-{:x}", std::process::id(), fastrand::u64(..));
        let mut options = MqttOptions::new(id, (self.host.as_str(), self.port));
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
        let dialer = Arc::new(Mutex::new(Dialer::new(&self.host, self.port)));
        if self.tls {
            let tls = TlsConnector::from(Arc::new(tls_config(secrets.ca)?));
            let name =
                ServerName::try_from(self.host.clone()).map_err(|source| BrokerError::Name {
                    host: self.host.clone(),
                    source,
                })?;
            options.set_socket_connector(move |_, _| {
                let (dialer, tls, name) = (dialer.clone(), tls.clone(), name.clone());
                async move {
                    let stream = dialer.lock().await.connect().await?;
                    tls.connect(name, stream).await
                }
            });
        } else {
            options.set_socket_connector(move |_, _| {
                let dialer = dialer.clone();
                async move { dialer.lock().await.connect().await }
            });
        }
        Ok(options)
    }
}

/// TLS that trusts the authorities in the file `ca`, or else those of this system.
fn tls_config(ca: Option<String>) -> Result<ClientConfig, BrokerError> {
    let authorities = match ca {
        Some(file) => authorities_in(file)?,
        None => usable(rustls_native_certs::load_native_certs())?,
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Ok(config)
}

fn authorities_in(file: String) -> Result<RootCertStore, BrokerError> {
    let mut authorities = RootCertStore::empty();
    let certificates =
        CertificateDer::pem_file_iter(&file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match certificates {
        Ok(certificates) if certificates.is_empty() => return Err(BrokerError::CaEmpty { file }),
        Ok(certificates) => {
            for certificate in certificates {
                if let Err(source) = authorities.add(certificate) {
                    return Err(BrokerError::CaCertificate { file, source });
                }
            }
        }
        Err(source) => return Err(BrokerError::CaFile { file, source }),
    }
    Ok(authorities)
}

/// Of this system's authorities, those that are understood: the broker's may be among them although others are damaged.
fn usable(found: CertificateResult) -> Result<RootCertStore, BrokerError> {
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(found.certs);
    match authorities.is_empty() {
        true => Err(BrokerError::NoAuthority {
            source: found.errors.into_iter().next(),
        }),
        false => Ok(authorities),
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
    fn read(file: Option<&str>) -> Result<Self, BrokerError> {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut secrets = Self {
            user: variable("VADLITE_MQTT_USER"),
            password: variable("VADLITE_MQTT_PASSWORD"),
            ca: variable("VADLITE_MQTT_CA"),
        };
        let Some(file) = file else {
            return Ok(secrets);
        };
        let text = std::fs::read_to_string(file).map_err(|source| BrokerError::Credentials {
            file: file.into(),
            source,
        })?;
        let lines = text.lines().map(str::trim);
        for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let field = match line
                .split_once('=')
                .map(|(name, value)| (name.trim(), value))
            {
                Some(("user", user)) => (&mut secrets.user, user),
                Some(("password", password)) => (&mut secrets.password, password),
                Some(("ca", ca)) => (&mut secrets.ca, ca),
                _ => return Err(BrokerError::Line { file: file.into() }),
            };
            *field.0 = Some(field.1.trim().into());
        }
        Ok(secrets)
    }
}

/// Whether nobody has accepted a connection; otherwise somebody has, and then broken it off.
pub fn is_unreachable(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::Io(error) if Unreachable::is_reason_of(error))
}

/// A client that sends small messages at once, and what drives it.
pub fn client(options: MqttOptions) -> (AsyncClient, EventLoop) {
    let (client, mut events) = AsyncClient::builder(options).capacity(4).build();
    events.network_options.set_connection_timeout(CONNECT);
    (client, events)
}

/// After a connection that broke: what the client still holds is sent anew by whoever knows whether it still matters.
pub fn forget(events: &mut EventLoop) {
    events.clean();
    events.reset_session_state();
}
