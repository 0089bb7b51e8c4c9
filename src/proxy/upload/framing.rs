//! How a body is framed on its way to main.

use bytes::Bytes;

use crate::s3::checksum::{ChecksumAlgorithm, Hasher};

/// Framing of what goes upstream.
#[derive(Debug)]
pub(in crate::proxy) enum Framing {
    /// The bytes of the object.
    Plain,
    /// One aws-chunk with the client's checksum as its trailer.
    OneChunk(ChecksumAlgorithm),
    /// The bytes of the object, then the client's checksum as a trailer, for `upstream` to frame.
    Signed(ChecksumAlgorithm),
}

impl Framing {
    pub(super) fn prefix(&self, length: u64) -> Option<Bytes> {
        match self {
            Self::OneChunk(_) if length > 0 => Some(Bytes::from(format!("{length:x}\r\n"))),
            Self::OneChunk(_) | Self::Plain | Self::Signed(_) => None,
        }
    }

    pub(super) fn suffix(&self, length: u64, value: &str) -> Option<Bytes> {
        match self {
            Self::Plain | Self::Signed(_) => None,
            Self::OneChunk(algorithm) => {
                let end = if length > 0 { "\r\n" } else { "" };
                let name = algorithm.header_name();
                Some(Bytes::from(format!("{end}0\r\n{name}:{value}\r\n\r\n")))
            }
        }
    }

    /// Length on the wire of a body of `length` bytes.
    pub(super) fn wire_length(&self, length: u64) -> u64 {
        let extra = match self {
            Self::Plain | Self::Signed(_) => 0,
            Self::OneChunk(algorithm) => {
                // Every value of an algorithm is as long as that of nothing.
                let value = algorithm.hasher().map(Hasher::finish).unwrap_or_default();
                let prefix = self.prefix(length).map_or(0, |bytes| bytes.len());
                prefix + self.suffix(length, &value).map_or(0, |bytes| bytes.len())
            }
        };
        length + u64::try_from(extra).unwrap_or(0)
    }
}
