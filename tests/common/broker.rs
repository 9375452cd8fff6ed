//! A real MQTT broker, and what is published there.

use super::port::Port;
use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Mosquitto on a port of its own; ends with the test.
pub struct Broker {
    port: Port,
    _child: Killed,
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Broker {
    pub fn start() -> Self {
        Self::start_on(Port::reserve())
    }

    pub fn start_on(port: Port) -> Self {
        Self::start_with(port, "")
    }

    /// With more lines in its configuration, such as another listener.
    pub fn start_with(port: Port, more: &str) -> Self {
        let path = super::scratch().join(format!("mosquitto-{port}.conf"));
        let text = format!(
            "per_listener_settings true\npersistence false\nuser root\nlistener {port} 127.0.0.1\nallow_anonymous true\n{more}"
        );
        std::fs::write(&path, text).unwrap();
        let program = if std::path::Path::new("/usr/sbin/mosquitto").exists() {
            "/usr/sbin/mosquitto"
        } else {
            "mosquitto"
        };
        let mut child = Command::new(program)
            .arg("-c")
            .arg(&path)
            .stderr(Stdio::piped())
            .spawn()
            .expect("mosquitto is needed: ./setup --tests installs it");
        // It says so itself when all its listeners are open: what answers on the port then is this broker.
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        loop {
            match log.next() {
                Some(Ok(line)) if line.ends_with(" running") => break,
                Some(Ok(line)) => said.extend([&line, "\n"]),
                _ => panic!("mosquitto does not start: {said}"),
            }
        }
        // A full pipe would hold it up.
        std::thread::spawn(move || log.for_each(drop));
        let _child = Killed(child);
        Self { port, _child }
    }

    pub fn port(&self) -> &Port {
        &self.port
    }

    /// Ends it as a power cut does.
    pub fn kill(self) -> Port {
        self.port
    }

    /// All that is published on topics that match, as topic and text.
    pub fn listen(&self, filter: &str) -> Receiver<(String, String)> {
        let mut options = MqttOptions::new(
            format!("test-{:x}", fastrand::u64(..)),
            ("127.0.0.1", self.port.number()),
        );
        options.set_keep_alive(5);
        let (client, mut connection) = Client::builder(options).capacity(10).build();
        client.subscribe(filter, QoS::AtLeastOnce).unwrap();
        let (sender, receiver) = channel();
        let (ready, subscribed) = channel();
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Incoming::SubAck(_))) => drop(ready.send(())),
                    Ok(Event::Incoming(Incoming::Publish(message))) => {
                        assert_eq!(message.qos, QoS::AtLeastOnce);
                        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                        let _ = sender.send((text(&message.topic), text(&message.payload)));
                    }
                    Ok(_) => {}
                    Err(_) => return drop(client),
                }
            }
        });
        subscribed.recv_timeout(Duration::from_secs(5)).unwrap();
        receiver
    }
}
