//! Addresses of what the elements speak to: `SCHEME://HOST[:PORT]/PATH[?QUERY]`.

use percent_encoding::percent_decode_str;
use url::{ParseError, Url};

/// What an MQTT address looks like.
pub const MQTT: &str = "mqtt://HOST[:PORT]/TOPIC, mqtts://HOST[:PORT]/TOPIC";

/// What an address may begin with. Anything else before a colon may be a user's name or a password.
const SCHEMES: [&str; 8] = [
    "mqtt",
    "mqtts",
    "modbus-tcp",
    "modbus",
    "gpio",
    "tcp",
    "http",
    "https",
];

/// The parts of an address.
#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    pub scheme: String,
    /// A name, or an IP address without brackets.
    pub host: String,
    pub port: Option<u16>,
    /// Without the slash before it; what was percent-encoded is plain.
    pub path: String,
    /// Without the question mark, as written.
    pub query: Option<String>,
}

/// An address that is refused, and what would be right. Shows nothing of it that may be a password.
#[derive(Debug, thiserror::Error)]
#[error("{shown}: {reason}; addresses are {known}")]
pub struct AddressError {
    shown: String,
    #[source]
    reason: Reason,
    known: &'static str,
}

/// Why an address is refused.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    #[error("it is no address")]
    NoAddress,
    #[error("{0}")]
    Syntax(#[from] ParseError),
    #[error(
        "properties are logged, so an address may hold no user or password: name a file with credentials, or set VADLITE_MQTT_USER and VADLITE_MQTT_PASSWORD"
    )]
    Secret,
    #[error("the host is missing")]
    Host,
    #[error("its host is none: names of hosts are of letters, digits, hyphens and dots")]
    HostName,
    #[error("it holds a line break, a tab or the like")]
    Control,
    #[error("a path with the steps . or .. would become another one")]
    Steps,
    #[error("its path is not in UTF-8")]
    Encoding,
    #[error(
        "a # and what follows it mean nothing in an address, and a topic to publish on has none"
    )]
    Fragment,
    #[error("the part ?{0} is not known here; a question mark in a path is written %3F")]
    Query(String),
    #[error(
        "what follows its question mark is not understood; a question mark in a path is written %3F"
    )]
    QuerySyntax,
    #[error("its part ?{0} is given twice")]
    Twice(&'static str),
    #[error("a chip has no port")]
    Port,
    #[error("its scheme is not known")]
    Scheme,
    #[error("this vadlite was built without the feature {0}")]
    NotBuiltIn(&'static str),
    #[error("{found:?} is no {wanted}")]
    Part { wanted: &'static str, found: String },
}

impl AddressError {
    /// Shows nothing of it where `text`, which it is from, has an @ in any spelling: any part may be one of a mistyped password then.
    #[must_use]
    pub fn hidden_if_secret(self, text: &str) -> Self {
        // Encoded once or more often, and as wide and small letters have it.
        let spelt = [
            "@",
            "%40",
            "%2540",
            "&#64;",
            "＠",
            "﹫",
            "%EF%BC%A0",
            "%ef%bc%a0",
        ];
        match spelt.iter().any(|at| text.contains(at)) {
            true => Self {
                shown: "an address with an @, which is not repeated here".into(),
                reason: Reason::Secret,
                ..self
            },
            false => self,
        }
    }
}

impl Address {
    /// Makes a `T` of the address `text`. `known` says what addresses look like here.
    ///
    /// # Errors
    /// It is no address, holds a user or password, or `make` refuses it.
    pub fn read<T>(
        text: &str,
        known: &'static str,
        make: impl FnOnce(Self) -> Result<T, Reason>,
    ) -> Result<T, AddressError> {
        let parsed = Self::parse(text);
        let shown = match &parsed {
            Ok(address) => address.to_string(),
            // What an address is not may be anything, a password too.
            Err(_) => match text.split_once(':') {
                Some((scheme, _)) if SCHEMES.contains(&scheme) => format!("{scheme}:…"),
                _ => "what is no address, and is not repeated here".into(),
            },
        };
        parsed.and_then(make).map_err(|reason| {
            let error = AddressError {
                shown,
                reason,
                known,
            };
            error.hidden_if_secret(text)
        })
    }

    fn parse(text: &str) -> Result<Self, Reason> {
        let (_, rest) = text.split_once("://").ok_or(Reason::NoAddress)?;
        // `Url` leaves these out, and follows the steps.
        if text.contains(|letter: char| letter.is_ascii_control()) {
            return Err(Reason::Control);
        }
        let is_step = |part: &str| {
            let plain = percent_decode_str(part).collect::<Vec<_>>();
            plain == b"." || plain == b".."
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.split(['/', '?', '#']).any(is_step) {
            return Err(Reason::Steps);
        }
        let url = Url::parse(text)?;
        // Of the text, since `Url` forgets an empty user.
        if authority.contains('@') {
            return Err(Reason::Secret);
        }
        let host = url.host_str().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(Reason::Host);
        }
        // Others `Url` encodes and takes, and no name server knows; a user and password may be among them.
        let in_name = |letter: char| letter.is_ascii_alphanumeric() || "-._:".contains(letter);
        if !host.chars().all(in_name) {
            return Err(Reason::HostName);
        }
        if url.fragment().is_some() {
            return Err(Reason::Fragment);
        }
        let path = url.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        Ok(Self {
            scheme: url.scheme().into(),
            host: host.into(),
            port: url.port(),
            path: percent_decode_str(path)
                .decode_utf8()
                .map_err(|_| Reason::Encoding)?
                .into(),
            query: url.query().map(Into::into),
        })
    }

    /// Refuses a scheme that this build knows nothing of.
    ///
    /// # Errors
    /// The feature that was left out.
    pub fn built_in(&self) -> Result<(), Reason> {
        match self.scheme.as_str() {
            "mqtt" | "mqtts" if !cfg!(feature = "mqtt") => Err(Reason::NotBuiltIn("mqtt")),
            "modbus-tcp" if !cfg!(feature = "modbus") => Err(Reason::NotBuiltIn("modbus")),
            "gpio" if !cfg!(feature = "gpio") => Err(Reason::NotBuiltIn("gpio")),
            _ => Ok(()),
        }
    }

    /// Refuses a query.
    ///
    /// # Errors
    /// There is one; only the names in it are repeated.
    pub fn no_query(&self) -> Result<(), Reason> {
        self.query_of([]).map(|[]| ())
    }

    /// The values of the parts `NAME=VALUE` of the query, in the order of `names`, whatever order they are written in.
    ///
    /// # Errors
    /// A part of another name or form, or one that stands there twice.
    pub fn query_of<const N: usize>(
        &self,
        names: [&'static str; N],
    ) -> Result<[Option<String>; N], Reason> {
        let mut values = [const { None }; N];
        let parts = self.query.as_deref().map(|query| query.split('&'));
        for part in parts.into_iter().flatten() {
            let found = part.split_once('=');
            let known = found.and_then(|(name, value)| {
                let index = names.iter().position(|known| *known == name)?;
                Some((index, value))
            });
            let (index, value) = known.ok_or_else(|| unknown(part))?;
            if values[index].replace(value.to_owned()).is_some() {
                return Err(Reason::Twice(names[index]));
            }
        }
        Ok(values)
    }
}

/// The refusal of a part that is not what it should be.
pub fn not(wanted: &'static str, found: impl Into<String>) -> Reason {
    let found = found.into();
    Reason::Part { wanted, found }
}

/// The refusal of a query, whose value may be a secret; and so may be all of it where it does not look like a name and a value.
pub fn unknown(query: &str) -> Reason {
    let is_name =
        |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
    match query.split_once('=') {
        Some((name, _)) if is_name(name) => Reason::Query(name.into()),
        _ => Reason::QuerySyntax,
    }
}

/// A number that consists of digits alone, without the sign that Rust takes too.
pub fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    let digits = text.bytes().all(|letter| letter.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// `HOST:PORT` as addresses have it.
pub fn authority(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

/// As far as it may be shown: without its query.
impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            scheme, host, path, ..
        } = self;
        match self.port {
            Some(port) => write!(f, "{scheme}://{}/{path}", authority(host, port)),
            None if host.contains(':') => write!(f, "{scheme}://[{host}]/{path}"),
            None => write!(f, "{scheme}://{host}/{path}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Address, AddressError> {
        Address::read(text, MQTT, Ok)
    }

    fn address(scheme: &str, host: &str, port: Option<u16>, path: &str) -> Address {
        Address {
            scheme: scheme.into(),
            host: host.into(),
            port,
            path: path.into(),
            query: None,
        }
    }

    #[test]
    fn an_address_is_read_whole() {
        for (text, expected) in [
            ("mqtt://broker", address("mqtt", "broker", None, "")),
            (
                "mqtts://10.0.0.7:8884/line/1",
                address("mqtts", "10.0.0.7", Some(8884), "line/1"),
            ),
            (
                "mqtt://[fd00::1]/line",
                address("mqtt", "fd00::1", None, "line"),
            ),
            (
                "mqtt://[::1]:1884//line/",
                address("mqtt", "::1", Some(1884), "/line/"),
            ),
            (
                "mqtt://broker/line@2/größe/what%3F",
                address("mqtt", "broker", None, "line@2/größe/what?"),
            ),
        ] {
            assert_eq!(read(text).unwrap(), expected, "{text}");
        }
        let with_query = read("modbus-tcp://plc/7?unit=3").unwrap();
        assert_eq!(with_query.query.as_deref(), Some("unit=3"));
        assert_eq!(with_query.to_string(), "modbus-tcp://plc/7");
        let all = "mqtt://[::1]:1884/line";
        assert_eq!(read(all).unwrap().to_string(), all);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for (text, wrong) in [
            ("broker", "no address"),
            ("localhost:1883/line", "no address"),
            ("mqtt:///line", "host is missing"),
            ("mqtt://:1883/line", "host"),
            ("mqtt://broker:99999/line", "port"),
            ("mqtt://[::1/line", "IPv6"),
            ("mqtt://broker/a/../b", "steps"),
            ("mqtt://broker/a/%2E", "steps"),
            ("mqtt://broker/li\nne", "line break"),
            ("mqtt://broker/%FF", "UTF-8"),
            ("mqtt://broker/line#1", "a #"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(
                error.contains(wrong) && error.contains("mqtt://HOST"),
                "{text}: {error}"
            );
        }
        let address = read("mqtt://broker/line?key=hunter2").unwrap();
        let error = address.no_query().unwrap_err().to_string();
        assert!(error.contains("?key") && !error.contains("hunter2"));
    }

    #[test]
    fn a_password_is_never_repeated() {
        for text in [
            "mqtt://me:hunter2@broker/line",
            "mqtt://hunter2@broker/line",
            "mqtt:/me:hunter2@broker/line",
            "mqtt:me:hunter2@broker/line",
            "mqtt//me:hunter2@broker/line",
            "me:hunter2@broker/line",
            "mqtt://me:12/hunter2@broker?x",
            "mqtt://me:12#hunter2@broker/line",
            "mqtt://me:12?hunter2@broker/line",
            "mqtt:// me:hunter2@broker/line",
            "mqtt://@broker/hunter2",
            "http://me:hunter2@broker/line",
            "mqtts:\\\\me:hunter2@broker",
            "mqtt:\\me:hunter2@broker",
            "mqtt;//me:hunter2@broker/line",
            "mqtt://me:hunter2%40broker/line",
            "mqtt://me%3Ahunter2%40broker/line",
            "mqtt://me:hunter2%2540broker/line",
            "mqtt://me：hunter2＠broker/line",
            "mqtt://me%EF%BC%9Ahunter2%EF%BC%A0broker/line",
            "mqtt://me:1/hunter2%40broker/line#",
            "hunter2:me%40broker",
            "hunter2%40broker",
        ] {
            let strict = |address: Address| address.no_query().map(|()| address);
            let error = Address::read(text, MQTT, strict).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(
                told.contains("VADLITE_MQTT_PASSWORD") && !told.contains("hunter2"),
                "{text}: {told}"
            );
        }
        let strict = |address: Address| match address.scheme.as_str() {
            "mqtt" | "mqtts" => address.no_query().map(|()| address),
            _ => Err(Reason::Scheme),
        };
        for text in [
            "mqtt://me:hunter2",
            "mqtt:/hunter2",
            "mqtt://me:hunter2/x",
            "mqtt://me;hunter2/x",
            "mqtt://me,hunter2/x",
            "mqtt://me%3Ahunter2/x",
            "mqtt://broker/x?password=hunter2",
            "mqtt://broker/x?hunter2",
            "mqtt://broker/x?me:hunter2",
            "mqtt://broker/x?me:hunter2=",
            "mqtt://broker/x?a=b&hunter2",
            "mqtt://broker/x#hunter2",
            "hunter2",
            "password=hunter2",
            "hunter2:1883/x",
            "user:hunter2",
        ] {
            let error = Address::read(text, MQTT, strict).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains("hunter2"), "{text}: {told}");
        }
    }
}
