//! The rooms under test: their own files, by links beside this one.
#![allow(dead_code, reason = "each target uses a part")]

pub mod auth;
pub mod connection;
pub mod http1;
pub mod proxy;
pub mod s3;
pub mod upstream;

use bytes::Bytes;

/// The first byte says how the rest is cut: pieces of that many bytes, one piece if it is 0.
pub fn pieces(data: &[u8]) -> Option<(Vec<Bytes>, &[u8])> {
    let (&size, body) = data.split_first()?;
    let whole = Bytes::copy_from_slice(body);
    let pieces = match usize::from(size) {
        0 => vec![whole],
        size => body.chunks(size).map(Bytes::copy_from_slice).collect(),
    };
    Some((pieces, body))
}
