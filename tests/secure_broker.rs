//! A broker that wants TLS and a password, with a certificate authority of the plant's own.

mod common;

use common::broker::Broker;
use common::element::{init, start_error};
use common::line::{Line, Shown};
use common::port::Port;
use common::scratch;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Writes a file into this test's folder.
fn file(name: &str, text: &str) -> PathBuf {
    let path = scratch().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// An authority, and the files of a certificate and key that it has made out for this machine.
fn certificates(name: &str) -> (PathBuf, PathBuf, PathBuf) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()])
        .unwrap()
        .signed_by(&key, &authority)
        .unwrap();
    (
        file(&format!("{name}-ca.pem"), &authority.pem()),
        file(&format!("{name}-cert.pem"), &certificate.pem()),
        file(&format!("{name}-key.pem"), &key.serialize_pem()),
    )
}

#[test]
fn tls_and_a_password_from_a_file() {
    let (authority, certificate, key) = certificates("broker");
    let (stranger, _, _) = certificates("stranger");
    let passwords = file("passwords", "line1:open-sesame\n");
    let status = Command::new("mosquitto_passwd")
        .arg("-U")
        .arg(&passwords)
        .status();
    assert!(status.unwrap().success());
    let secure = Port::reserve();
    let broker = Broker::start_with(
        Port::reserve(),
        &format!(
            "listener {secure} 127.0.0.1\nallow_anonymous false\npassword_file {}\ncertfile {}\nkeyfile {}\n",
            passwords.display(),
            certificate.display(),
            key.display()
        ),
    );
    let messages = broker.listen("line/#");
    let line = |name: &str, password: &str, authority: &PathBuf| {
        let text = format!(
            "user=line1\npassword={password}\nca={}\n",
            authority.display()
        );
        let credentials = file(name, &text);
        Line::start(&format!(
            "vadlitetrigger output=mqtts://localhost:{secure}/line/1 credentials={}",
            credentials.display()
        ))
    };

    let mut trusted = line("trusted", "open-sesame", &authority);
    let status = messages.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(status, ("line/1/status".into(), "online".into()));
    let gate = messages.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(gate, ("line/1/gate".into(), "released".into()));
    trusted.show(Shown::DEFECTIVE);
    let (topic, text) = messages.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(topic, "line/1");
    assert!(text.contains("\"part\":0"), "{text}");
    drop(trusted);
    let status = messages.recv_timeout(Duration::from_secs(10)).unwrap();
    assert_eq!(status, ("line/1/status".into(), "offline".into()));

    // Neither with a wrong password nor to a broker whose authority is another one; what is wrong is said, and nothing secret.
    for (name, password, authority, reason) in [
        ("guessed", "abracadabra", &authority, "NotAuthorized"),
        ("misled", "open-sesame", &stranger, "certificate"),
    ] {
        let line = line(name, password, authority);
        let mut warnings = Vec::new();
        line.wait(|line| {
            warnings.extend(line.messages("").1);
            !warnings.is_empty()
        });
        assert!(
            warnings[0].contains(reason) && !warnings[0].contains(password),
            "{warnings:?}"
        );
        assert_eq!(line.stat("connected"), 0);
    }
    assert!(messages.try_recv().is_err());
}

/// In the environment of a process whose system has no certificates.
const BARE: &str = "VADLITE_TEST_BARE";

/// What [`without_certificates_the_start_is_refused`] runs in a process of its own; nothing otherwise.
#[test]
fn a_start_on_a_bare_system() {
    if std::env::var_os(BARE).is_some() {
        init();
        let element = gst::ElementFactory::make("vadlitetrigger")
            .property("output", "mqtts://localhost/line/1")
            .build()
            .unwrap();
        println!("{}", start_error(&element));
    }
}

#[test]
fn without_certificates_the_start_is_refused() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_start_on_a_bare_system", "--nocapture"])
        .env(BARE, "1")
        .env("SSL_CERT_FILE", "/nonexistent/certificates.pem")
        .env_remove("SSL_CERT_DIR")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(
        said.contains("property credentials")
            && said.contains("/nonexistent/certificates.pem")
            && said.contains("ca-certificates"),
        "{said}"
    );
}

#[test]
fn a_file_of_authorities_that_is_none_is_refused() {
    init();
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (name, text, wrong) in [
        ("empty", "", "no certificate"),
        ("broken", broken, "not understood"),
    ] {
        let ca = file(&format!("{name}-ca.pem"), text);
        let credentials = file(name, &format!("ca={}\n", ca.display()));
        let element = gst::ElementFactory::make("vadlitetrigger")
            .property("output", "mqtts://localhost/line/1")
            .property("credentials", credentials.to_str().unwrap())
            .build()
            .unwrap();
        let error = start_error(&element);
        assert!(
            error.contains(ca.to_str().unwrap()) && error.contains(wrong),
            "{error}"
        );
    }
}
