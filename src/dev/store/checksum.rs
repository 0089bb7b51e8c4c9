//! The additional checksums of S3: computing, comparing, and joining them over parts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use crc_fast::CrcAlgorithm;
use http::{HeaderMap, HeaderName};
use md5::Digest as _;
use serde::{Deserialize, Serialize};

use super::fault::{Answer, invalid};

/// A checksum algorithm of S3. The newer ones (SHA-512, MD5, the xxHash family) are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Algorithm {
    Crc32,
    Crc32c,
    Crc64Nvme,
    Sha1,
    Sha256,
}

/// Over what a checksum of a multipart object was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Coverage {
    /// All bytes of the object.
    FullObject,
    /// The checksums of the parts, joined; written with a `-N` suffix.
    Composite,
}

/// A checksum as it is stored with an object or part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredChecksum {
    pub(super) algorithm: Algorithm,
    /// Base64, with `-N` when composite.
    pub(super) value: String,
    pub(super) coverage: Coverage,
}

/// A digest in the making.
pub(super) enum Hasher {
    Crc(crc_fast::Digest, Algorithm),
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
}

pub(super) const ALGORITHMS: [Algorithm; 5] =
    [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme, Algorithm::Sha1, Algorithm::Sha256];

impl Algorithm {
    /// S3's name, as in `x-amz-checksum-algorithm`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// The header or trailer that carries a value of this algorithm.
    pub(super) fn header(self) -> HeaderName {
        HeaderName::from_static(match self {
            Self::Crc32 => "x-amz-checksum-crc32",
            Self::Crc32c => "x-amz-checksum-crc32c",
            Self::Crc64Nvme => "x-amz-checksum-crc64nvme",
            Self::Sha1 => "x-amz-checksum-sha1",
            Self::Sha256 => "x-amz-checksum-sha256",
        })
    }

    /// Bytes of a raw value.
    fn width(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// What S3 computes for a multipart upload that does not say.
    pub(super) fn default_coverage(self) -> Coverage {
        match self {
            Self::Crc64Nvme => Coverage::FullObject,
            _ => Coverage::Composite,
        }
    }

    /// SHA values of parts cannot be joined into one over all bytes; CRC64NVME is never composite.
    pub(super) fn allows(self, coverage: Coverage) -> bool {
        match self {
            Self::Crc32 | Self::Crc32c => true,
            Self::Crc64Nvme => coverage == Coverage::FullObject,
            Self::Sha1 | Self::Sha256 => coverage == Coverage::Composite,
        }
    }

    pub(super) fn parse(name: &str) -> Answer<Self> {
        ALGORITHMS
            .into_iter()
            .find(|algorithm| algorithm.name().eq_ignore_ascii_case(name.trim()))
            .ok_or_else(|| invalid("Checksum algorithm provided is unsupported."))
    }

    /// Decodes a base64 value of this algorithm.
    pub(super) fn decode(self, value: &[u8]) -> Answer<Vec<u8>> {
        BASE64
            .decode(value)
            .ok()
            .filter(|raw| raw.len() == self.width())
            .ok_or_else(|| invalid(format!("Value for {} header is invalid.", self.header())))
    }

    fn crc(self) -> Option<CrcAlgorithm> {
        match self {
            Self::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
            Self::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
            Self::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
            Self::Sha1 | Self::Sha256 => None,
        }
    }
}

impl Coverage {
    /// S3's name, as in `x-amz-checksum-type`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::FullObject => "FULL_OBJECT",
            Self::Composite => "COMPOSITE",
        }
    }

    pub(super) fn parse(name: &str) -> Answer<Self> {
        match name {
            "FULL_OBJECT" => Ok(Self::FullObject),
            "COMPOSITE" => Ok(Self::Composite),
            _ => Err(invalid("Value for x-amz-checksum-type header is invalid.")),
        }
    }
}

impl StoredChecksum {
    pub(super) fn full(algorithm: Algorithm, raw: &[u8]) -> Self {
        Self { algorithm, value: BASE64.encode(raw), coverage: Coverage::FullObject }
    }

    /// The checksum of an object made of `parts`, each with its size and its own checksum.
    /// `None` if a part lacks one, or if it cannot be joined.
    pub(super) fn join(
        algorithm: Algorithm,
        coverage: Coverage,
        parts: &[(u64, Option<StoredChecksum>)],
    ) -> Option<Self> {
        let mut raw = Vec::with_capacity(parts.len());
        for (size, checksum) in parts {
            let checksum = checksum.as_ref().filter(|checksum| checksum.algorithm == algorithm)?;
            raw.push((*size, algorithm.decode(checksum.value.as_bytes()).ok()?));
        }
        match coverage {
            Coverage::Composite => {
                let mut hasher = Hasher::new(algorithm);
                for (_, part) in &raw {
                    hasher.update(part);
                }
                let value = format!("{}-{}", BASE64.encode(hasher.finish()), parts.len());
                Some(Self { algorithm, value, coverage })
            }
            Coverage::FullObject => {
                let crc = algorithm.crc()?;
                let mut whole = 0;
                for (index, (size, part)) in raw.iter().enumerate() {
                    let value = part.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
                    whole = match index {
                        0 => value,
                        _ => crc_fast::checksum_combine(crc, whole, value, *size),
                    };
                }
                let bytes = whole.to_be_bytes();
                let raw = bytes.get(bytes.len() - algorithm.width()..)?;
                Some(Self::full(algorithm, raw))
            }
        }
    }
}

impl Hasher {
    pub(super) fn new(algorithm: Algorithm) -> Self {
        match (algorithm, algorithm.crc()) {
            (_, Some(crc)) => Self::Crc(crc_fast::Digest::new(crc), algorithm),
            (Algorithm::Sha1, None) => Self::Sha1(sha1::Sha1::new()),
            (_, None) => Self::Sha256(sha2::Sha256::new()),
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(digest, _) => digest.update(bytes),
            Self::Sha1(digest) => digest.update(bytes),
            Self::Sha256(digest) => digest.update(bytes),
        }
    }

    /// The raw value, most significant byte first.
    pub(super) fn finish(self) -> Vec<u8> {
        match self {
            Self::Crc(digest, algorithm) => {
                let bytes = digest.finalize().to_be_bytes();
                bytes[bytes.len() - algorithm.width()..].to_vec()
            }
            Self::Sha1(digest) => digest.finalize().to_vec(),
            Self::Sha256(digest) => digest.finalize().to_vec(),
        }
    }
}

/// The checksum a request announces: in a header, or by name of a trailer to come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Announced {
    Header(Algorithm, Vec<u8>),
    Trailer(Algorithm),
}

/// Reads what a request says about its checksum.
///
/// # Errors
/// 400 for more than one value, a malformed one, an unknown algorithm (never silently ignored), or
/// an algorithm named without a value.
pub(super) fn announced(headers: &HeaderMap) -> Answer<Option<Announced>> {
    let mut found = None;
    for (name, value) in headers {
        let Some(rest) = name.as_str().strip_prefix("x-amz-checksum-") else {
            continue;
        };
        if matches!(rest, "algorithm" | "mode" | "type") {
            continue;
        }
        let algorithm = Algorithm::parse(rest)?;
        let raw = algorithm.decode(value.as_bytes())?;
        if found.replace(Announced::Header(algorithm, raw)).is_some() {
            return Err(invalid("Expecting a single x-amz-checksum- header."));
        }
    }
    for value in headers.get_all("x-amz-trailer") {
        let names = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        for name in names.split(',').map(str::trim) {
            let unknown =
                || invalid("The value specified in the x-amz-trailer header is not supported");
            let rest = name.strip_prefix("x-amz-checksum-").ok_or_else(unknown)?;
            let algorithm = Algorithm::parse(rest).map_err(|_| unknown())?;
            if found.replace(Announced::Trailer(algorithm)).is_some() {
                return Err(invalid("Expecting a single x-amz-checksum- header or trailer."));
            }
        }
    }
    if found.is_none() && headers.contains_key("x-amz-sdk-checksum-algorithm") {
        return Err(invalid(
            "x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or \
             x-amz-trailer headers were found.",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(algorithm: Algorithm, bytes: &[u8]) -> StoredChecksum {
        let mut hasher = Hasher::new(algorithm);
        hasher.update(bytes);
        StoredChecksum::full(algorithm, &hasher.finish())
    }

    #[test]
    fn every_algorithm_gives_the_published_value_of_its_check_string() {
        let value = |algorithm| of(algorithm, b"123456789").value;
        assert_eq!(value(Algorithm::Crc32), BASE64.encode(0xCBF4_3926_u32.to_be_bytes()));
        assert_eq!(value(Algorithm::Crc32c), BASE64.encode(0xE306_9283_u32.to_be_bytes()));
        let nvme = 0xAE8B_1486_0A79_9888_u64.to_be_bytes();
        assert_eq!(value(Algorithm::Crc64Nvme), BASE64.encode(nvme));
        let sha1 = hex::decode("f7c3bc1d808e04732adf679965ccc34ca7ae3441").unwrap();
        assert_eq!(value(Algorithm::Sha1), BASE64.encode(sha1));
    }

    #[test]
    fn the_crc_of_parts_joined_is_the_crc_of_the_whole() {
        let (a, b, c) = (b"hello ".as_slice(), b"wide ".as_slice(), b"world".as_slice());
        for algorithm in [Algorithm::Crc32, Algorithm::Crc32c, Algorithm::Crc64Nvme] {
            let parts = [a, b, c].map(|part| (part.len() as u64, Some(of(algorithm, part))));
            let joined = StoredChecksum::join(algorithm, Coverage::FullObject, &parts);
            assert_eq!(joined, Some(of(algorithm, b"hello wide world")));
        }
    }

    #[test]
    fn a_part_without_checksum_leaves_the_object_without() {
        let parts = [(1, Some(of(Algorithm::Crc32, b"a"))), (1, None)];
        assert_eq!(StoredChecksum::join(Algorithm::Crc32, Coverage::Composite, &parts), None);
    }

    #[test]
    fn an_unknown_checksum_is_refused_not_ignored() {
        let mut headers = HeaderMap::new();
        headers.insert("x-amz-checksum-xxhash64", "AAAAAAAAAAA=".parse().unwrap());
        assert!(announced(&headers).is_err());
        headers.clear();
        headers.insert("x-amz-trailer", "x-amz-checksum-sha512".parse().unwrap());
        assert!(announced(&headers).is_err());
    }
}
