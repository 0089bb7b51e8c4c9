//! The credential scope of a signature: whose key, for which day, region and service.

use std::borrow::Cow;

use super::error::AuthError;
use super::sigv4::Kind;

/// The only service a request to an object store is signed for.
pub(super) const SERVICE: &str = "s3";
const TERMINATOR: &str = "aws4_request";

/// A parsed `Credential`: `key-id/yyyymmdd/region/s3/aws4_request`.
#[derive(Debug)]
pub(super) struct Scope<'r> {
    credential: Cow<'r, str>,
    key_id_bytes: usize,
}

impl<'r> Scope<'r> {
    /// Parses and checks everything that needs no knowledge of the request.
    pub(super) fn parse(kind: Kind, credential: Cow<'r, str>) -> Result<Self, AuthError> {
        let malformed = |why: &'static str| AuthError::malformed(kind, why);
        let mut parts = credential.rsplitn(5, '/');
        let (terminator, service, region, date, key_id) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next());
        let (Some(date), Some(region), Some(key_id)) = (date, region, key_id) else {
            return Err(malformed(
                "the Credential is mal-formed; expecting \
                 \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".",
            ));
        };
        if terminator != Some(TERMINATOR) {
            return Err(malformed("incorrect terminal. This endpoint uses \"aws4_request\"."));
        }
        if service != Some(SERVICE) {
            return Err(malformed("incorrect service. This endpoint belongs to \"s3\"."));
        }
        if date.len() != 8 || !date.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(malformed("incorrect date format. This date must be \"yyyyMMdd\"."));
        }
        // Some clients sign with an empty region for stores that have none; it is signed like any
        // other.
        if region.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(malformed("the region is not text"));
        }
        let key_id_bytes = key_id.len();
        Ok(Self { credential, key_id_bytes })
    }

    /// The access key ID.
    pub(super) fn access_key_id(&self) -> &str {
        self.credential.get(..self.key_id_bytes).unwrap_or_default()
    }

    /// The scope as the string to sign has it: everything behind the access key ID.
    pub(super) fn text(&self) -> &str {
        self.credential.get(self.key_id_bytes + 1..).unwrap_or_default()
    }

    /// `yyyymmdd`.
    pub(super) fn date(&self) -> &str {
        self.text().split('/').next().unwrap_or_default()
    }

    /// The region, as the client wrote it.
    pub(super) fn region(&self) -> &str {
        self.text().split('/').nth(1).unwrap_or_default()
    }

    /// Whether the scope's day is the day of the signature.
    pub(super) fn check_date(&self, kind: Kind, amz_date: &str) -> Result<(), AuthError> {
        if amz_date.starts_with(self.date()) {
            return Ok(());
        }
        Err(AuthError::malformed(
            kind,
            "Invalid credential date. This date is not the same as X-Amz-Date.",
        ))
    }

    /// Whether the region is the expected one; any is accepted where none is expected.
    pub(super) fn check_region(&self, kind: Kind, expected: Option<&str>) -> Result<(), AuthError> {
        match expected {
            Some(expected) if expected != self.region() => {
                Err(AuthError::wrong_region(kind, self.region(), expected))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(credential: &str) -> Result<Scope<'_>, AuthError> {
        Scope::parse(Kind::Header, Cow::Borrowed(credential))
    }

    #[test]
    fn the_parts_are_counted_from_the_end() {
        let scope = parse("tenant/key/20130524/us-east-1/s3/aws4_request").unwrap();
        assert_eq!(scope.access_key_id(), "tenant/key");
        assert_eq!(scope.text(), "20130524/us-east-1/s3/aws4_request");
        assert_eq!((scope.date(), scope.region()), ("20130524", "us-east-1"));
        assert_eq!(parse("k/20130524//s3/aws4_request").unwrap().region(), "");
    }

    #[test]
    fn every_wrong_part_is_named() {
        for (credential, why) in [
            ("", "mal-formed"),
            ("20130524/us-east-1/s3/aws4_request", "mal-formed"),
            ("k/20130524/us-east-1/s3/aws4", "terminal"),
            ("k/20130524/us-east-1/sts/aws4_request", "service"),
            ("k/2013052/us-east-1/s3/aws4_request", "date"),
            ("k/2013x524/us-east-1/s3/aws4_request", "date"),
            ("k/20130524/us east/s3/aws4_request", "region"),
        ] {
            let error = parse(credential).unwrap_err();
            assert_eq!((error.s3_code(), error.status()), ("AuthorizationHeaderMalformed", 400));
            assert!(error.message().contains(why), "{credential}: {error}");
        }
    }

    #[test]
    fn a_configured_region_is_demanded_and_told() {
        let scope = parse("k/20130524/eu-west-1/s3/aws4_request").unwrap();
        assert_eq!(scope.check_region(Kind::Header, None), Ok(()));
        assert_eq!(scope.check_region(Kind::Header, Some("eu-west-1")), Ok(()));
        let error = scope.check_region(Kind::Header, Some("us-east-1")).unwrap_err();
        assert_eq!(error.elements(), [("Region", "us-east-1".to_owned())]);
    }
}
