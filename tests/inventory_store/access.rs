//! Privileges, passwords and TLS, against a real `PostgreSQL` server.

use std::path::Path;

use s3_mirror::inventory::postgres::{PasswordSource, PostgresSettings, SslMode};
use s3_mirror::inventory::store::StoreError;

use crate::certificates::certificates;
use crate::inventory::{Database, present, settings, store, write_until_taken};
use crate::postgres::{self, Options, Postgres};

#[tokio::test]
async fn a_role_without_the_privilege_is_told_so() {
    let database = Database::postgres().await;
    let Database::Postgres { url, .. } = &database else { unreachable!() };
    let role = format!("weak_{}", std::process::id());
    database
        .execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'x'; REVOKE CREATE ON SCHEMA public FROM PUBLIC"
        ))
        .await;
    let store = store(settings(&url.replace("//postgres@", &format!("//{role}:x@")))).await;
    let faults = store.write(&[present("b", "k", 1)]).await.unwrap();
    assert!(faults[0].1.is_transient() && faults[0].1.reason().contains("42501"), "{faults:?}");
    database.execute(&format!("GRANT CREATE ON SCHEMA public TO {role}")).await;
    assert_eq!(store.write(&[present("b", "k", 1)]).await.unwrap(), []);
}

#[tokio::test]
async fn a_rotated_password_file_is_read_again() {
    let server =
        Postgres::start_with(Options { password: Some("first".to_owned()), settings: Vec::new() });
    let file = server.directory().join("secret");
    std::fs::write(&file, "first\n").unwrap();
    let mut settings = PostgresSettings::from_parts(
        "127.0.0.1",
        server.port(),
        "postgres",
        None,
        "inventory",
        SslMode::Disable,
    );
    settings.password = PasswordSource::File(file.clone());
    let store = store(settings).await;
    store.write(&[present("b", "k", 1)]).await.unwrap();

    let admin = postgres::connect(&server.url("postgres")).await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'inventory'";
    admin.batch_execute(&format!("ALTER ROLE postgres PASSWORD 'second'; {cut}")).await.unwrap();
    let error = store.write(&[present("b", "l", 1)]).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("28P01"), "{error}");
    assert!(!error.to_string().contains("first"));
    std::fs::write(&file, "second").unwrap();
    assert_eq!(store.write(&[present("b", "l", 1)]).await.unwrap(), []);

    // In the moment between two files the last password still serves.
    std::fs::remove_file(&file).unwrap();
    admin.batch_execute(cut).await.unwrap();
    write_until_taken(&store, &[present("b", "m", 1)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tls_mode_means_what_libpq_means() {
    let mut server = Postgres::start();
    let (authority, certificate, key) = certificates(server.directory(), "localhost");
    let (certificate, key) =
        (server.write_private("s.pem", &certificate), server.write_private("s.key", &key));
    let (_, unrelated, _) = {
        let directory = tempfile::tempdir().unwrap();
        let made = certificates(directory.path(), "other");
        (made.0, made.1, directory)
    };
    let stranger = server.directory().join("stranger.pem");
    std::fs::write(&stranger, unrelated).unwrap();
    let try_mode = async |host: &str, port: u16, mode: &str, ca: Option<&Path>| {
        let url = format!("postgres://postgres@{host}:{port}/inventory?sslmode={mode}");
        let mut settings = settings(&url);
        settings.ca_file = ca.map(Path::to_owned);
        let result = store(settings).await.write(&[present("b", "k", 1)]).await;
        result.map(|faults| assert_eq!(faults, []))
    };
    let port = server.port();
    // A server without TLS.
    try_mode("localhost", port, "prefer", None).await.unwrap();
    let refused = try_mode("localhost", port, "require", None).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable(_)));

    let files = [
        format!("ssl_cert_file={}", certificate.display()),
        format!("ssl_key_file={}", key.display()),
    ];
    tokio::task::block_in_place(|| server.restart_with(&["ssl=on", &files[0], &files[1]]));
    for mode in ["disable", "prefer", "require"] {
        try_mode("127.0.0.1", port, mode, None).await.unwrap();
    }
    let ca = Some(authority.as_path());
    for mode in ["require", "verify-ca", "verify-full"] {
        try_mode("localhost", port, mode, ca).await.unwrap();
        let error = try_mode("localhost", port, mode, Some(&stranger)).await.unwrap_err();
        assert!(error.to_string().contains("certificate"), "{mode}: {error}");
    }
    // The certificate is for `localhost`: another name passes all but `verify-full`.
    try_mode("127.0.0.1", port, "verify-ca", ca).await.unwrap();
    let error = try_mode("127.0.0.1", port, "verify-full", ca).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
    // The system's authorities do not know ours.
    try_mode("localhost", port, "verify-full", None).await.unwrap_err();
    let missing = server.directory().join("missing.pem");
    let error = try_mode("localhost", port, "verify-full", Some(&missing)).await.unwrap_err();
    assert!(error.to_string().contains("missing.pem"), "{error}");
    // A self-signed certificate that is its own authority.
    let own = std::fs::read(&authority).unwrap();
    let own_key = std::fs::read(authority.with_file_name("ca.key")).unwrap();
    server.write_private("s.pem", &own);
    server.write_private("s.key", &own_key);
    tokio::task::block_in_place(|| server.restart());
    try_mode("localhost", port, "verify-ca", ca).await.unwrap();
    try_mode("localhost", port, "verify-full", ca).await.unwrap_err();
}
