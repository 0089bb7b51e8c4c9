//! Certificates for the TLS tests, made by the `openssl` program, which every `PostgreSQL` package
//! of Debian and Ubuntu brings with it.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test crate that includes this file uses a part"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A certificate authority and a server certificate for `name`, made by the `openssl` program:
/// (authority, certificate, private key), all PEM.
pub fn certificates(directory: &Path, name: &str) -> (PathBuf, Vec<u8>, Vec<u8>) {
    let work = directory.join("certificates");
    fs::create_dir_all(&work).expect("the directory can be made");
    let extension = format!("subjectAltName=DNS:{name}");
    fs::write(work.join("extension"), &extension).expect("the directory is writable");
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
    openssl(&work, &[&authority, &curve[..], &["-keyout", "ca.key", "-out", "ca.pem"]].concat());
    let request = ["req", "-subj", "/CN=test server"];
    openssl(&work, &[&request, &curve[..], &["-keyout", "s.key", "-out", "s.csr"]].concat());
    let sign = "x509 -req -days 2 -in s.csr -CA ca.pem -CAkey ca.key -CAcreateserial \
                -extfile extension -out s.pem";
    openssl(&work, &sign.split_whitespace().collect::<Vec<_>>());
    let read = |file: &str| fs::read(work.join(file)).expect("openssl wrote the file");
    (work.join("ca.pem"), read("s.pem"), read("s.key"))
}

fn openssl(directory: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(directory).output();
    let output = output.expect("the openssl program is needed for the TLS tests: install openssl");
    assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
}
