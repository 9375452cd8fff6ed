//! Addresses of what the elements speak to: `SCHEME://HOST[:PORT]/PATH[?QUERY]`.

/// The parts of an address.
#[derive(Debug, Clone, PartialEq)]
pub struct Address<'a> {
    pub scheme: &'a str,
    /// With the port, as written.
    pub host: &'a str,
    /// Without the slash before it.
    pub path: &'a str,
    /// Without the question mark.
    pub query: &'a str,
}

impl<'a> Address<'a> {
    /// `None` for what is no address.
    ///
    /// # Errors
    /// A user or password in it.
    pub fn parse(text: &'a str) -> Result<Option<Self>, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(None);
        };
        if rest.contains('@') {
            // Not repeated: it holds a password.
            return Err(format!(
                "a {scheme} address holds a user or password; properties are logged: name a file with credentials, or set VADLITE_MQTT_USER and VADLITE_MQTT_PASSWORD"
            ));
        }
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = path.split_once('/').unwrap_or((path, ""));
        Ok(Some(Self {
            scheme,
            host,
            path,
            query,
        }))
    }
}

/// Host and port of `HOST[:PORT]`, where an IPv6 address stands in brackets.
///
/// # Errors
/// What is wrong with it.
pub fn host_and_port(text: &str, default: u16) -> Result<(String, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            let port = port.parse().map_err(|_| format!("{port:?} is no port"))?;
            (host, port)
        }
        _ => (text, default),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host.is_empty() {
        true => Err("the host is missing".into()),
        false => Ok((host.into(), port)),
    }
}
