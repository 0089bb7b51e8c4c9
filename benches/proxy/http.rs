//! Small requests to admin ports and stubs.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Fault;

/// What is still to be done by an s3-mirror, as its admin port tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) operations: i64,
    pub(crate) rows: i64,
    pub(crate) unsettled: i64,
    pub(crate) parked: i64,
}

/// Asks an admin port for the backlog.
pub(crate) async fn backlog(admin: SocketAddr) -> Result<Backlog, Fault> {
    let (_, body) = exchange(admin, "GET", "/api/v1/status").await?;
    let status: serde_json::Value = serde_json::from_str(&body)?;
    let figure = |value: &serde_json::Value| value.as_i64().ok_or("a figure is missing");
    Ok(Backlog {
        operations: figure(&status["mirror"]["pending_operations"])?,
        rows: figure(&status["inventory"]["pending_rows"])?,
        unsettled: figure(&status["unsettled_intents"])?,
        parked: figure(&status["mirror"]["parked"])?,
    })
}

/// The metrics of an admin port.
pub(crate) async fn metrics(admin: SocketAddr) -> Result<String, Fault> {
    exchange(admin, "GET", "/metrics").await.map(|(_, body)| body)
}

/// Is the service ready?
pub(crate) async fn ready(admin: SocketAddr) -> bool {
    matches!(exchange(admin, "GET", "/readyz").await, Ok((200, _)))
}

/// Sends a command to a stub.
pub(crate) async fn post(address: SocketAddr, path: &str) -> Result<u16, Fault> {
    exchange(address, "POST", path).await.map(|(status, _)| status)
}

async fn exchange(address: SocketAddr, method: &str, path: &str) -> Result<(u16, String), Fault> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("half an answer")?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or("no status")?, body.to_owned()))
}
