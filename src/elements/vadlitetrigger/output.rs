//! Where pulses go: each output has its own thread and queue, so that none holds up the pipeline or another one.

mod gpio;
mod modbus;
mod mqtt;

use super::pulse::{Pulse, Queue};
use crate::address;
use crate::broker::Broker;
use std::sync::Arc;
use std::thread::JoinHandle;

/// What happens at an output.
#[derive(Debug)]
pub enum Event {
    Connected,
    /// With the reason; once until it is connected again.
    Disconnected(String),
    /// The pulse came too late to be of use: the part had passed the gate.
    Missed(Pulse),
}

/// Is told what happens, from the output's thread.
pub type Report = Arc<dyn Fn(&str, Event) + Send + Sync>;

/// An output as `output` names it.
#[derive(Debug, Clone, PartialEq)]
pub enum Address {
    Mqtt(Broker),
    Modbus(modbus::Address),
    Gpio(gpio::Address),
}

impl Address {
    /// Reads the addresses in `text`, separated by spaces.
    ///
    /// # Errors
    /// Which is wrong, and what would be right.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        text.split_whitespace().map(Self::parse).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let Some(address) = address::Address::parse(text)? else {
            return Err(format!(
                "{text:?} is no address; known are mqtt://HOST[:PORT]/TOPIC, mqtts://HOST[:PORT]/TOPIC, modbus-tcp://HOST[:PORT]/COIL[?unit=N] and gpio://CHIP/LINE[?active-low]"
            ));
        };
        let (host, path, query) = (address.host, address.path, address.query);
        let address = match address.scheme {
            "mqtt" => Broker::new(false, host, path).map(Self::Mqtt),
            "mqtts" => Broker::new(true, host, path).map(Self::Mqtt),
            "modbus-tcp" => modbus::Address::new(host, path, query).map(Self::Modbus),
            "gpio" => gpio::Address::new(host, path, query).map(Self::Gpio),
            scheme => Err(format!("{scheme:?} is not mqtt, mqtts, modbus-tcp or gpio")),
        };
        address.map_err(|reason| format!("{text}: {reason}"))
    }
}

/// An output at work.
pub struct Output {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Output {
    /// Starts the thread of an output with a queue of so many pulses.
    ///
    /// # Errors
    /// Credentials or a GPIO line that cannot be had, or no thread.
    pub fn start(
        address: &Address,
        credentials: Option<&str>,
        limit: usize,
        report: Report,
    ) -> Result<Self, String> {
        let queue = Arc::new(Queue::new(limit));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| format!("no event loop can be made: {error}"))?;
        type Work = Box<dyn FnOnce(Arc<Queue>) + Send>;
        let work: Work = match address.clone() {
            Address::Mqtt(broker) => {
                let options = broker.options(credentials)?;
                Box::new(move |queue| {
                    runtime.block_on(mqtt::run(&broker, options, &queue, &report));
                })
            }
            Address::Modbus(address) => Box::new(move |queue| {
                runtime.block_on(modbus::run(&address, &queue, &report));
            }),
            Address::Gpio(address) => {
                let line = address.request()?;
                Box::new(move |queue| {
                    runtime.block_on(gpio::run(&address, &line, &queue, &report));
                })
            }
        };
        let its = queue.clone();
        let thread = std::thread::Builder::new()
            .name("vadlite-output".into())
            .spawn(move || work(its))
            .map_err(|error| format!("no thread can be started: {error}"))?;
        Ok(Self {
            queue,
            thread: Some(thread),
        })
    }

    /// Hands on a pulse; returns the one that had to go for it.
    pub fn push(&self, pulse: Pulse) -> Option<Pulse> {
        self.queue.push(pulse)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // It ends within the grace that outputs have; its panic is not ours.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        Address::parse_all(text).unwrap_err()
    }

    #[test]
    fn addresses_are_read_or_refused_with_the_remedy() {
        let all =
            "mqtt://broker/line/1 modbus-tcp://[::1]:1502/7?unit=3 gpio://gpiochip0/17?active-low";
        assert_eq!(Address::parse_all(all).unwrap().len(), 3);
        assert_eq!(Address::parse_all(" ").unwrap(), []);
        assert!(refused("broker").contains("mqtt://HOST"));
        assert!(refused("http://broker/x").contains("modbus-tcp"));
        assert!(refused("mqtt://broker").contains("topic"));
        assert!(refused("mqtt://broker/a/#").contains("topic"));
        assert!(refused("mqtt://broker:99999/a").contains("port"));
        assert!(refused("modbus-tcp://plc/lamp").contains("coil"));
        assert!(refused("modbus-tcp://plc/1?unit=256").contains("unit"));
        assert!(refused("gpio://gpiochip0/left").contains("line"));
        assert!(refused("gpio://gpiochip0/1?pull=up").contains("active-low"));
        let secret = refused("mqtt://me:hunter2@broker/a");
        assert!(secret.contains("VADLITE_MQTT_PASSWORD") && !secret.contains("hunter2"));
    }
}
