//! A broker that wants TLS and a password, with a certificate authority of the plant's own.

mod common;

use common::broker::{Broker, free_port};
use common::line::{Line, Shown};
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
    let secure = free_port();
    let broker = Broker::start_with(
        free_port(),
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
