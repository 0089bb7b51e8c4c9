//! What one S3 service wants otherwise than S3 does: named restrictions, and profiles of vendors.
//!
//! The names are those of `MAIN_QUIRKS` and `MIRROR_QUIRKS`; what each does is in
//! [`crate::config::Quirk`] and `docs/configuration.md`, where the evidence is too.

use http::uri::Scheme;

/// One restriction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quirk {
    /// `no-checksums`: refuses `x-amz-checksum-*` and its kin. They are checked here and not sent.
    NoChecksums,
    /// `no-trailers`: knows no checksum behind the body. It is checked here, the body goes plain.
    NoTrailers,
    /// `content-md5`: demands it for documents (tags, retention, settings of buckets).
    ContentMd5,
    /// `virtual-hosted`: wants the bucket in the host name.
    VirtualHosted,
    /// `signed-payload`: refuses `UNSIGNED-PAYLOAD`. Bodies go with their hash or in signed chunks.
    SignedPayload,
}

/// Where AWS has its endpoints.
const AWS_DOMAINS: [&str; 2] = [".amazonaws.com", ".amazonaws.com.cn"];

/// The restrictions by their names.
pub(super) const FLAGS: &[(&str, Quirk)] = &[
    ("no-checksums", Quirk::NoChecksums),
    ("no-trailers", Quirk::NoTrailers),
    ("content-md5", Quirk::ContentMd5),
    ("virtual-hosted", Quirk::VirtualHosted),
    ("signed-payload", Quirk::SignedPayload),
];

/// The restrictions of vendors. Several have none and are listed all the same, so that naming one is
/// never wrong.
pub(super) const PROFILES: &[(&str, &[Quirk])] = &[
    ("generic", &[]),
    ("aws", &[]),
    ("minio", &[]),
    ("garage", &[]),
    // Trailers came with ceph PR 54856; until then they are refused.
    ("ceph", &[Quirk::NoTrailers, Quirk::ContentMd5]),
    // Chunked payloads answered 501 for long; R2 documents checksums as headers.
    ("r2", &[Quirk::NoTrailers]),
    // "Unsupported header" for each of them.
    ("b2", &[Quirk::NoChecksums, Quirk::NoTrailers]),
];

/// Is this S3 of AWS, over plain http?
pub(super) fn in_clear(scheme: &Scheme, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    *scheme == Scheme::HTTP && AWS_DOMAINS.iter().any(|domain| host.ends_with(domain))
}

/// A set of restrictions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Quirks(u8);

impl Quirks {
    /// Reads profiles and flags separated by commas; `None` if a word is neither.
    pub fn parse(text: &str) -> Option<Self> {
        let words = text.split(',').map(|word| word.trim().to_ascii_lowercase());
        words.filter(|word| !word.is_empty()).try_fold(Self::default(), |quirks, word| {
            if let Some((_, quirk)) = FLAGS.iter().find(|(name, _)| *name == word) {
                return Some(quirks.with(*quirk));
            }
            let (_, profile) = PROFILES.iter().find(|(name, _)| *name == word)?;
            Some(profile.iter().fold(quirks, |quirks, quirk| quirks.with(*quirk)))
        })
    }

    /// These, and what follows from where the service is: AWS takes unsigned bodies where TLS protects
    /// them, and its own SDKs sign all of a body that goes over plain http.
    #[must_use]
    pub(super) fn at(self, scheme: &Scheme, host: &str) -> Self {
        if in_clear(scheme, host) { self.with(Quirk::SignedPayload) } else { self }
    }

    /// Is this one of them?
    pub const fn has(self, quirk: Quirk) -> bool {
        self.0 & (1 << quirk as u8) != 0
    }

    /// None at all?
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// These and one more.
    #[must_use]
    pub const fn with(self, quirk: Quirk) -> Self {
        Self(self.0 | (1 << quirk as u8))
    }

    /// All words that may stand in the variables.
    pub(super) fn words() -> String {
        let profiles = PROFILES.iter().map(|(name, _)| *name);
        let flags = FLAGS.iter().map(|(name, _)| *name);
        profiles.chain(flags).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_and_flags_add_up() {
        let none = Quirks::default();
        for text in ["", " , ", "aws", "generic,minio", "Garage"] {
            assert_eq!(Quirks::parse(text), Some(none), "{text}");
        }
        let b2 = Quirks::parse("b2, virtual-hosted").unwrap();
        for (_, quirk) in FLAGS {
            let other = matches!(quirk, Quirk::ContentMd5 | Quirk::SignedPayload);
            assert_eq!(b2.has(*quirk), !other, "{quirk:?}");
        }
        assert!(Quirks::parse("ceph").unwrap().has(Quirk::NoTrailers));
        assert_eq!(Quirks::parse("aws,unheard-of"), None);
        assert_eq!(Quirks::parse("b2 virtual-hosted"), None);
    }

    #[test]
    fn nothing_goes_unsigned_to_aws_over_plain_http() {
        for host in
            ["s3.amazonaws.com", "S3.eu-west-1.AmazonAWS.com", "s3.cn-north-1.amazonaws.com.cn"]
        {
            let signs = |scheme| Quirks::default().at(&scheme, host).has(Quirk::SignedPayload);
            assert!(signs(Scheme::HTTP) && !signs(Scheme::HTTPS), "{host}");
        }
        for host in ["localhost", "amazonaws.com.example", "notamazonaws.com", "10.0.0.1"] {
            assert!(Quirks::default().at(&Scheme::HTTP, host).is_empty(), "{host}");
        }
    }
}
