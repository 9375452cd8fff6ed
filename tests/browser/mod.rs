//! Headless Chromium, driven through chromedriver's WebDriver protocol (Debian: `chromium`, `chromium-driver`).

// Every test binary that has a browser compiles this file and uses a part of it.
#![allow(dead_code)]

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// WebDriver's name for an element's identifier.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
pub const ARROW_LEFT: &str = "\u{e012}";

pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// A browser with a window of this size, as a phone has it, and a new profile.
    pub fn start(width: u32, height: u32) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .spawn()
            .expect("chromedriver is missing (Debian: apt-get install chromium chromium-driver)");
        let mut said = BufReader::new(driver.stdout.take().unwrap()).lines();
        let port = said
            .find_map(|line| {
                let line = line.unwrap();
                line.split_once("successfully on port ")?
                    .1
                    .trim_end_matches('.')
                    .parse()
                    .ok()
            })
            .expect("chromedriver has not started");
        // It goes on talking, and must not be blocked by a full pipe.
        std::thread::spawn(move || said.count());
        let profile = tempfile::tempdir().unwrap();
        let profile_argument = format!("--user-data-dir={}", profile.path().display());
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            _profile: profile,
        };
        let capabilities = json!({
            "goog:chromeOptions": {
                "args": [
                    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
                    "--disable-background-networking", "--disable-component-update", "--disable-sync", profile_argument,
                ],
                "mobileEmulation": {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 2.0}},
            },
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        });
        let started = browser.request(
            "POST",
            "/session",
            &json!({"capabilities": {"alwaysMatch": capabilities}}),
        );
        browser.session = format!("/session/{}", started["sessionId"].as_str().unwrap());
        browser
    }

    pub fn open(&self, page: &Path) {
        let page = format!("file://{}", page.display());
        self.command("url", &json!({"url": page}));
    }

    /// What a JavaScript function body returns.
    pub fn evaluate(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({"script": script, "args": []}))
    }

    pub fn text(&self, selector: &str) -> String {
        let script = format!("return document.querySelector({selector:?}).textContent");
        self.evaluate(&script).as_str().unwrap().to_owned()
    }

    pub fn number(&self, selector: &str) -> usize {
        self.text(selector).parse().unwrap()
    }

    pub fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.command(&format!("element/{element}/click"), &json!({}));
    }

    pub fn press(&self, selector: &str, keys: &str) {
        let element = self.find(selector);
        self.command(&format!("element/{element}/value"), &json!({"text": keys}));
    }

    /// Messages on the console since the last call.
    pub fn console(&self) -> Vec<Value> {
        let log = self.command("se/log", &json!({"type": "browser"}));
        log.as_array().unwrap().clone()
    }

    /// Addresses that were asked for since the last call.
    pub fn requests(&self) -> Vec<String> {
        let log = self.command("se/log", &json!({"type": "performance"}));
        let events = log.as_array().unwrap().iter().map(|entry| {
            let event: Value = serde_json::from_str(entry["message"].as_str().unwrap()).unwrap();
            event["message"].clone()
        });
        events
            .filter(|event| event["method"] == "Network.requestWillBeSent")
            .map(|event| {
                event["params"]["request"]["url"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    /// How many elements there are.
    pub fn count(&self, selector: &str) -> usize {
        let script = format!("return document.querySelectorAll({selector:?}).length");
        self.evaluate(&script).as_u64().unwrap() as usize
    }

    /// Pictures that cannot be drawn, or have no text.
    pub fn broken_pictures(&self) -> usize {
        self.evaluate("for (const image of document.images) image.loading = 'eager'");
        let broken = self.evaluate("return Promise.all([...document.images].map(image => image.decode().then(() => image.alt ? 0 : 1, () => 1))).then(failed => failed.reduce((a, b) => a + b, 0))");
        broken.as_u64().unwrap() as usize
    }

    /// The page, a file, has said nothing on the console and asked for nothing but itself.
    #[track_caller]
    pub fn assert_quiet(&self) {
        let console = self.console();
        assert!(console.is_empty(), "{console:#?}");
        // Before the page, the browser opens a page of its own, which may still be loading then.
        let requests = self.requests();
        let page = requests.iter().position(|url| url.starts_with("file:"));
        for url in &requests[page.expect("the page is loaded")..] {
            assert!(
                ["file:", "data:", "chrome:", "chrome-untrusted:"]
                    .iter()
                    .any(|own| url.starts_with(own)),
                "{url}"
            );
        }
    }

    fn find(&self, selector: &str) -> String {
        let query = json!({"using": "css selector", "value": selector});
        let element = self.command("element", &query);
        element[ELEMENT].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn command(&self, name: &str, body: &Value) -> Value {
        self.request("POST", &format!("{}/{name}", self.session), body)
    }

    #[track_caller]
    fn request(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = body.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(120)))
            .unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .unwrap();
        let mut answer = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            answer.read_line(&mut line).unwrap();
            let line = line.trim_end().to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        let value = answer["value"].take();
        assert!(value.get("error").is_none(), "{method} {path}: {value:#}");
        value
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // After a failed test too: chromedriver does not take its browser along.
        if !self.session.is_empty() {
            self.request("DELETE", &self.session, &json!({}));
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
