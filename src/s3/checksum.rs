//! The checksums S3 clients send with a body, computed while the body streams.
//!
//! Promises: a [`Hasher`] holds a few hundred bytes whatever the size of the body; its result does
//! not depend on how the body was cut into pieces; an algorithm that S3 names but this crate cannot
//! compute is still recognised ([`ChecksumAlgorithm::hasher`] returns `None`), so that a caller can
//! refuse it instead of ignoring it. Pure: no I/O, no clock, no state besides the values.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crc_fast::CrcAlgorithm;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest as _, Sha256, Sha512};

/// What every checksum header and trailer name begins with.
const HEADER_PREFIX: &str = "x-amz-checksum-";

/// A checksum algorithm of the S3 API (`ChecksumAlgorithm` in the service model of 2026).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC), 4 bytes.
    Crc32,
    /// CRC-32C (Castagnoli, iSCSI), 4 bytes.
    Crc32c,
    /// CRC-64/NVME, 8 bytes.
    Crc64Nvme,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-512, 64 bytes.
    Sha512,
    /// MD5, 16 bytes.
    Md5,
    /// xxHash 64; known by name, not computed here.
    XxHash64,
    /// xxHash3 64; known by name, not computed here.
    XxHash3,
    /// xxHash3 128; known by name, not computed here.
    XxHash128,
}

impl ChecksumAlgorithm {
    /// Every algorithm, in the order of the declaration.
    pub const ALL: [Self; 10] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
        Self::Md5,
        Self::XxHash64,
        Self::XxHash3,
        Self::XxHash128,
    ];

    /// The algorithm whose value the header or trailer `name` carries; letter case does not matter.
    ///
    /// `x-amz-checksum-type`, `-mode` and `-algorithm` carry no checksum and give `None`.
    pub fn from_header_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.header_name().eq_ignore_ascii_case(name))
    }

    /// The algorithm as `x-amz-sdk-checksum-algorithm` and `x-amz-checksum-algorithm` name it
    /// (`CRC32`, `CRC64NVME`, ...); letter case does not matter.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    /// The header (or trailer) that carries this checksum, in lower case.
    pub const fn header_name(self) -> &'static str {
        match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
            Self::Sha512 => "x-amz-checksum-sha512",
            Self::Md5 => "x-amz-checksum-md5",
            Self::XxHash64 => "x-amz-checksum-xxhash64",
            Self::XxHash3 => "x-amz-checksum-xxhash3",
            Self::XxHash128 => "x-amz-checksum-xxhash128",
        }
    }

    /// The name in the S3 API, in upper case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
            Self::Sha512 => "SHA512",
            Self::Md5 => "MD5",
            Self::XxHash64 => "XXHASH64",
            Self::XxHash3 => "XXHASH3",
            Self::XxHash128 => "XXHASH128",
        }
    }

    /// A fresh [`Hasher`], or `None` if this crate cannot compute the algorithm.
    pub fn hasher(self) -> Option<Hasher> {
        let state = match self {
            Self::Crc32 => State::Crc32(crc_fast::Digest::new(CrcAlgorithm::Crc32IsoHdlc)),
            Self::Crc32c => State::Crc32(crc_fast::Digest::new(CrcAlgorithm::Crc32Iscsi)),
            Self::Crc64Nvme => State::Crc64(crc_fast::Digest::new(CrcAlgorithm::Crc64Nvme)),
            Self::Sha1 => State::Sha1(Sha1::new()),
            Self::Sha256 => State::Sha256(Sha256::new()),
            Self::Sha512 => State::Sha512(Sha512::new()),
            Self::Md5 => State::Md5(Md5::new()),
            Self::XxHash64 | Self::XxHash3 | Self::XxHash128 => return None,
        };
        Some(Hasher { algorithm: self, state })
    }
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whether `name` is a header of the checksum family, known to this crate or not yet.
///
/// The three settings of the family (`-type`, `-mode`, `-algorithm`) are not checksums.
pub fn is_checksum_header(name: &str) -> bool {
    let Some((prefix, rest)) = name.split_at_checked(HEADER_PREFIX.len()) else {
        return false;
    };
    let setting = ["algorithm", "mode", "type"].iter().any(|word| rest.eq_ignore_ascii_case(word));
    prefix.eq_ignore_ascii_case(HEADER_PREFIX) && !rest.is_empty() && !setting
}

/// A checksum in progress.
#[derive(Clone)]
pub struct Hasher {
    algorithm: ChecksumAlgorithm,
    state: State,
}

#[derive(Clone)]
enum State {
    Crc32(crc_fast::Digest),
    Crc64(crc_fast::Digest),
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
    Md5(Md5),
}

impl Hasher {
    /// What is being computed.
    pub fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// Adds the next piece of the body.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.state {
            State::Crc32(digest) | State::Crc64(digest) => digest.update(data),
            State::Sha1(digest) => digest.update(data),
            State::Sha256(digest) => digest.update(data),
            State::Sha512(digest) => digest.update(data),
            State::Md5(digest) => digest.update(data),
        }
    }

    /// The checksum of everything added, as S3 sends it: base64 of the big-endian bytes.
    pub fn finish(self) -> String {
        STANDARD.encode(self.finish_bytes())
    }

    /// The checksum of everything added, as bytes (big-endian for the CRCs).
    pub fn finish_bytes(self) -> Vec<u8> {
        match self.state {
            // A 32-bit CRC is returned in the low half of the 64 bits.
            State::Crc32(digest) => digest.finalize().to_be_bytes()[4..].to_vec(),
            State::Crc64(digest) => digest.finalize().to_be_bytes().to_vec(),
            State::Sha1(digest) => digest.finalize().to_vec(),
            State::Sha256(digest) => digest.finalize().to_vec(),
            State::Sha512(digest) => digest.finalize().to_vec(),
            State::Md5(digest) => digest.finalize().to_vec(),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(algorithm: ChecksumAlgorithm, pieces: &[&[u8]]) -> String {
        let mut hasher = algorithm.hasher().unwrap();
        for piece in pieces {
            hasher.update(piece);
        }
        hasher.finish()
    }

    /// The check values of the CRC catalogue and of the RFCs for "123456789".
    #[test]
    fn published_check_values_are_reproduced() {
        let check = |algorithm| {
            let hex = STANDARD.decode(checksum(algorithm, &[b"123456789"])).unwrap();
            hex::encode(hex)
        };
        assert_eq!(check(ChecksumAlgorithm::Crc32), "cbf43926");
        assert_eq!(check(ChecksumAlgorithm::Crc32c), "e3069283");
        assert_eq!(check(ChecksumAlgorithm::Crc64Nvme), "ae8b14860a799888");
        assert_eq!(check(ChecksumAlgorithm::Sha1), "f7c3bc1d808e04732adf679965ccc34ca7ae3441");
        assert_eq!(
            check(ChecksumAlgorithm::Sha256),
            "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"
        );
        assert_eq!(check(ChecksumAlgorithm::Md5), "25f9e794323b453885f5181f1b624d0b");
        assert!(
            check(ChecksumAlgorithm::Sha512)
                .starts_with("d9e6762dd1c8eaf6d61b3c6192fc408d4d6d5f11")
        );
    }

    #[test]
    fn empty_bodies_have_the_checksums_clients_send() {
        assert_eq!(checksum(ChecksumAlgorithm::Crc32, &[]), "AAAAAA==");
        assert_eq!(checksum(ChecksumAlgorithm::Crc64Nvme, &[]), "AAAAAAAAAAA=");
        assert_eq!(
            checksum(ChecksumAlgorithm::Sha256, &[]),
            "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
        );
    }

    #[test]
    fn pieces_do_not_change_the_result() {
        let body: Vec<u8> = (0..100_000u32).map(|i| (i % 251).to_le_bytes()[0]).collect();
        for algorithm in ChecksumAlgorithm::ALL {
            if algorithm.hasher().is_none() {
                continue;
            }
            let whole = checksum(algorithm, &[&body]);
            for size in [1, 7, 64, 4093] {
                let pieces: Vec<&[u8]> = body.chunks(size).collect();
                assert_eq!(checksum(algorithm, &pieces), whole, "{algorithm} in pieces of {size}");
            }
        }
    }

    #[test]
    fn header_names_map_both_ways_and_settings_are_no_checksums() {
        for algorithm in ChecksumAlgorithm::ALL {
            let upper = algorithm.header_name().to_ascii_uppercase();
            assert_eq!(ChecksumAlgorithm::from_header_name(&upper), Some(algorithm));
            assert_eq!(ChecksumAlgorithm::from_name(algorithm.name()), Some(algorithm));
            assert!(is_checksum_header(&upper));
        }
        for name in ["x-amz-checksum-type", "x-amz-checksum-mode", "x-amz-checksum-algorithm"] {
            assert_eq!(ChecksumAlgorithm::from_header_name(name), None);
            assert!(!is_checksum_header(name));
        }
        assert!(is_checksum_header("x-amz-checksum-not-yet-invented"));
        assert!(!is_checksum_header("x-amz-checksum-"));
        assert!(!is_checksum_header("x-amz-checksüm-crc32"));
    }

    #[test]
    fn an_algorithm_known_by_name_only_has_no_hasher() {
        assert!(ChecksumAlgorithm::XxHash64.hasher().is_none());
        assert!(ChecksumAlgorithm::XxHash3.hasher().is_none());
        assert!(ChecksumAlgorithm::XxHash128.hasher().is_none());
    }
}
