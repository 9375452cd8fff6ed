//! Where pulses go: each output has its own thread and queue, so that none holds up the pipeline or another one.

#[cfg(feature = "gpio")]
mod gpio;
#[cfg(any(feature = "mqtt", feature = "modbus", feature = "gpio"))]
mod level;
#[cfg(any(feature = "mqtt", feature = "modbus", feature = "gpio"))]
mod link;
#[cfg(feature = "modbus")]
mod modbus;
#[cfg(feature = "mqtt")]
mod mqtt;
#[cfg(any(feature = "mqtt", feature = "modbus", feature = "gpio"))]
mod queue;
#[cfg(all(test, any(feature = "mqtt", feature = "modbus", feature = "gpio")))]
mod tests;
#[cfg(any(feature = "mqtt", feature = "modbus", feature = "gpio"))]
mod worker;

use super::pulse::Pulse;
use crate::net::address::{Address, AddressError, Reason};
#[cfg(feature = "mqtt")]
use crate::net::broker::{Broker, BrokerError};
use std::sync::Arc;

#[cfg(any(feature = "mqtt", feature = "modbus", feature = "gpio"))]
pub use worker::Output;

/// What happens at an output.
#[derive(Debug)]
pub enum Event {
    /// The peer has answered.
    Connected,
    /// Once until it is connected again.
    Disconnected {
        reason: String,
        /// That was so before, and nothing says that it has gone well since: no reason for another warning.
        again: bool,
    },
    /// The pulse came too late to be of use, since the part had passed the gate, or was refused.
    Missed(Pulse),
    /// The output's thread has panicked, with what it said, and begins anew.
    Failed(String),
    /// The element has ended, and for this reason what has been switched on could not be switched off.
    LeftOn(String),
}

/// Is told what happens, from the output's thread.
pub type Report = Arc<dyn Fn(&str, Event) + Send + Sync>;

/// Why an output cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[cfg(feature = "mqtt")]
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[cfg(feature = "gpio")]
    #[error(transparent)]
    Gpio(#[from] gpio::GpioError),
    #[error("no thread can be started: {0}")]
    Thread(#[from] std::io::Error),
}

impl OutputError {
    /// The property that it comes from.
    pub fn property(&self) -> &'static str {
        match self {
            #[cfg(feature = "mqtt")]
            Self::Broker(_) => "credentials",
            _ => "output",
        }
    }
}

/// What `output` names.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    #[cfg(feature = "mqtt")]
    Mqtt(Broker),
    #[cfg(feature = "modbus")]
    Modbus(modbus::Coil),
    #[cfg(feature = "gpio")]
    Gpio(gpio::Line),
}

const KNOWN: &str = "mqtt://HOST[:PORT]/TOPIC, mqtts://HOST[:PORT]/TOPIC, modbus-tcp://HOST[:PORT]/COIL[?unit=N][&base=0|1], gpio://CHIP/LINE[?active-low]";

impl Target {
    /// Reads the addresses in `text`, separated by spaces.
    ///
    /// # Errors
    /// Which is wrong, and what would be right.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, AddressError> {
        text.split_whitespace()
            .map(|address| Address::read(address, KNOWN, Self::new))
            .collect::<Result<_, AddressError>>()
            // A password with a space in it makes several.
            .map_err(|error| error.hidden_if_secret(text))
    }

    /// For messages, without secrets.
    #[cfg(any(feature = "mqtt", feature = "modbus", feature = "gpio"))]
    fn name(&self) -> String {
        match self {
            #[cfg(feature = "mqtt")]
            Self::Mqtt(broker) => broker.name(),
            #[cfg(feature = "modbus")]
            Self::Modbus(coil) => coil.name(),
            #[cfg(feature = "gpio")]
            Self::Gpio(line) => line.name(),
        }
    }

    fn new(address: Address) -> Result<Self, Reason> {
        address.built_in()?;
        match address.scheme.as_str() {
            #[cfg(feature = "mqtt")]
            "mqtt" | "mqtts" => Broker::new(address).map(Self::Mqtt),
            #[cfg(feature = "modbus")]
            "modbus-tcp" => modbus::Coil::new(address).map(Self::Modbus),
            #[cfg(feature = "gpio")]
            "gpio" => gpio::Line::new(address).map(Self::Gpio),
            _ => Err(Reason::Scheme),
        }
    }
}

/// There is none in this build.
#[cfg(not(any(feature = "mqtt", feature = "modbus", feature = "gpio")))]
pub enum Output {}

#[cfg(not(any(feature = "mqtt", feature = "modbus", feature = "gpio")))]
impl Output {
    pub fn start(
        target: &Target,
        _credentials: Option<&str>,
        _limit: usize,
        _report: Report,
    ) -> Result<Self, OutputError> {
        match *target {}
    }

    pub fn push(&self, _pulse: Pulse) -> Option<Pulse> {
        match *self {}
    }

    pub fn hold(&self, _held: bool) {
        match *self {}
    }
}

#[cfg(test)]
mod addresses {
    use super::*;

    fn refused(text: &str) -> String {
        Target::parse_all(text).unwrap_err().to_string()
    }

    #[test]
    #[cfg(all(feature = "mqtt", feature = "modbus", feature = "gpio"))]
    fn addresses_are_read_or_refused_with_the_remedy() {
        let all = "mqtt://broker/line@1/a modbus-tcp://[::1]:1502/7?base=1&unit=3 gpio://gpiochip0/17?active-low";
        assert_eq!(Target::parse_all(all).unwrap().len(), 3);
        assert_eq!(Target::parse_all(" ").unwrap(), []);
        assert!(refused("broker").contains("mqtt://HOST"));
        assert!(refused("http://broker/x").contains("scheme"));
        assert!(refused("mqtt://broker").contains("topic"));
        assert!(refused("mqtt://broker/a/#").contains("topic"));
        assert!(refused("mqtt://broker/a/%23").contains("no topic"));
        assert!(refused("mqtt://broker:99999/a").contains("port"));
        assert!(refused("mqtt://broker/a?qos=2").contains("?qos"));
        assert!(refused("modbus-tcp://plc/lamp").contains("no coil"));
        assert!(refused("modbus-tcp://plc/1?unit=256").contains("no unit"));
        assert!(refused("modbus-tcp://plc/1?unit=1&base=1&unit=2").contains("?unit"));
        assert!(refused("gpio://gpiochip0/+3").contains("line number"));
        assert!(refused("gpio://gpiochip0/1?activelow").contains("active-low"));
        assert!(refused("modbus-tcp://plc/1#2").contains("#"));
        assert!(refused("gpio://gpiochip0/left").contains("line number"));
        assert!(refused("gpio://gpiochip0:1/2").contains("no port"));
        assert!(refused("gpio://gpiochip0/1?pull=up").contains("?pull"));
        for secret in [
            "mqtt://me:hunter2@broker/a",
            "mqtt://me:hunter2 or3@broker/a",
            "modbus-tcp://me:50/hunter2@plc/1",
        ] {
            let error = refused(secret);
            assert!(
                error.contains("VADLITE_MQTT_PASSWORD") && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_not_built_in_is_refused() {
        for (feature, built_in, address) in [
            ("mqtt", cfg!(feature = "mqtt"), "mqtts://broker/a"),
            ("modbus", cfg!(feature = "modbus"), "modbus-tcp://plc/1"),
            ("gpio", cfg!(feature = "gpio"), "gpio://gpiochip0/1"),
        ] {
            match Target::parse_all(address) {
                Ok(_) => assert!(built_in),
                Err(error) => {
                    let wrong = format!("built without the feature {feature}");
                    assert!(!built_in && error.to_string().contains(&wrong), "{error}");
                }
            }
        }
    }
}
