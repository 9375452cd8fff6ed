//! A real MQTT broker, and what is published there.

use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Mosquitto on a port of its own; ends with the test.
pub struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    pub fn start(port: u16) -> Self {
        Self::start_with(port, "")
    }

    /// With more lines in its configuration, such as another listener.
    pub fn start_with(port: u16, more: &str) -> Self {
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
        let child = Command::new(program)
            .arg("-c")
            .arg(&path)
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("mosquitto is needed: ./setup --tests installs it");
        let end = Instant::now() + Duration::from_secs(10);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < end, "mosquitto does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Ends it as a power cut does.
    pub fn kill(mut self) -> u16 {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.port
    }

    /// All that is published on topics that match, as topic and text.
    pub fn listen(&self, filter: &str) -> Receiver<(String, String)> {
        let mut options = MqttOptions::new(
            format!("test-{:x}", fastrand::u64(..)),
            "127.0.0.1",
            self.port,
        );
        options.set_keep_alive(Duration::from_secs(5));
        let (client, mut connection) = Client::new(options, 10);
        client.subscribe(filter, QoS::AtLeastOnce).unwrap();
        let (sender, receiver) = channel();
        let (ready, subscribed) = channel();
        std::thread::spawn(move || {
            for event in connection.iter() {
                match event {
                    Ok(Event::Incoming(Incoming::SubAck(_))) => drop(ready.send(())),
                    Ok(Event::Incoming(Incoming::Publish(message))) => {
                        assert_eq!(message.qos, QoS::AtLeastOnce);
                        let text = String::from_utf8(message.payload.to_vec()).unwrap();
                        let _ = sender.send((message.topic, text));
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

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
