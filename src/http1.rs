//! HTTP/1.1, as both sides of the proxy speak it: where a message's body ends, how one is received
//! and how one is sent. What a head means is each side's own (`upstream::wire`, `proxy::http1`).
//!
//! hyper was the largest single piece of a small request on either side: its dispatcher, its channels
//! between connection and body, its buffers for every connection. What is needed here is less:
//! nothing is upgraded, and whoever waits for a message drives the connection. Parsing is that
//! of hyper too (httparse).
//!
//! # Rules
//! - A message leaves in as few writes as possible: head and first piece of the body together.
//! - A body that ends before its announced length is an error, never an end, in either direction.
//! - Nothing is read beyond the announced end of a body.
//! - A large body that nobody here looks at is moved from socket to socket ([`splice`]).
//!
//! # Limits
//! [`head::HEADERS_USUAL`] headers cost no memory; [`receive::READ_MAX`] bytes are read ahead of who takes
//! them. Time limits are the callers'.

pub mod head;
mod names;
pub mod receive;
pub mod send;
pub mod splice;

/// Why a message did not come, or did not leave.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WireError {
    /// The transport failed.
    #[error("{0}")]
    Io(String),
    /// The other side closed before the message was complete.
    #[error("connection closed before the message was complete")]
    Closed,
    /// What came is not an HTTP/1.1 message.
    #[error("not an HTTP message: {0}")]
    Malformed(&'static str),
    /// The other side was waited for too long.
    #[error("{0}")]
    Slow(String),
    /// The body that was to be sent failed or was not of its announced length.
    #[error("the body failed: {0}")]
    Body(String),
}

impl From<std::io::Error> for WireError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error.to_string())
    }
}
