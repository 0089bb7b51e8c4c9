//! What is stored with an object beside its bytes: the headers a GET gives back.
//!
//! Values are kept byte for byte (an `Expires` that is no date, metadata in Latin-1), as a string
//! whose characters are those bytes, so that they fit into JSON.

use http::{HeaderMap, HeaderName, HeaderValue};
use s3s::S3ErrorCode;
use serde::{Deserialize, Serialize};

use super::fault::{Answer, invalid, refuse, unsupported};

/// S3's limit on user metadata, names and values together (J4).
const METADATA_BYTES_MAX: usize = 2048;

/// Headers of a request that come back with the object, beside `x-amz-meta-*`.
const KEPT: [&str; 10] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "expires",
    "x-amz-website-redirect-location",
    "x-amz-server-side-encryption",
    "x-amz-server-side-encryption-aws-kms-key-id",
    "x-amz-server-side-encryption-bucket-key-enabled",
];

/// Storage classes a general-purpose bucket accepts.
const STORAGE_CLASSES: [&str; 8] = [
    "STANDARD",
    "REDUCED_REDUNDANCY",
    "STANDARD_IA",
    "ONEZONE_IA",
    "INTELLIGENT_TIERING",
    "GLACIER",
    "DEEP_ARCHIVE",
    "GLACIER_IR",
];

/// The stored headers of an object or upload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attributes {
    headers: Vec<(String, String)>,
}

impl Attributes {
    /// Takes the headers to keep from a request that creates an object.
    ///
    /// # Errors
    /// `MetadataTooLarge`; 501 for what this store would otherwise drop without a word.
    pub(super) fn of(request: &HeaderMap) -> Answer<Self> {
        refuse_unsupported(request)?;
        let mut headers = Vec::new();
        for name in KEPT {
            if let Some(mut value) = joined(request, name) {
                if name == "content-encoding" {
                    value = without_aws_chunked(&value);
                }
                if !value.is_empty() {
                    headers.push((name.to_owned(), value));
                }
            }
        }
        let mut metadata_bytes = 0;
        for name in request.keys() {
            let Some(short) = name.as_str().strip_prefix("x-amz-meta-") else {
                continue;
            };
            let value = joined(request, name.as_str()).unwrap_or_default();
            // One character is one byte, see the module's text.
            metadata_bytes += short.len() + value.chars().count();
            headers.push((name.as_str().to_owned(), value));
        }
        if metadata_bytes > METADATA_BYTES_MAX {
            return Err(refuse(
                S3ErrorCode::MetadataTooLarge,
                "Your metadata headers exceed the maximum allowed metadata size",
            ));
        }
        Ok(Self { headers })
    }

    /// What a copy of this object keeps when it does not replace them (S3 does not copy the
    /// website redirect, and encryption is the destination's own).
    pub(super) fn for_copy(&self, request: &HeaderMap) -> Answer<Self> {
        let own = |name: &str| {
            name.starts_with("x-amz-website") || name.starts_with("x-amz-server-side-encryption")
        };
        let mut headers: Vec<_> =
            self.headers.iter().filter(|(name, _)| !own(name)).cloned().collect();
        let new = Self::of(request)?;
        headers.extend(new.headers.into_iter().filter(|(name, _)| own(name)));
        Ok(Self { headers })
    }

    /// Puts the headers into the response of a GET or HEAD.
    pub(super) fn write_to(&self, response: &mut HeaderMap) {
        // What S3 answers for an object that came without one.
        response.insert("content-type", HeaderValue::from_static("binary/octet-stream"));
        for (name, value) in &self.headers {
            insert(response, name, value);
        }
    }

    /// Puts only the encryption headers into a response, as uploads answer them.
    pub(super) fn write_encryption_to(&self, response: &mut HeaderMap) {
        for (name, value) in &self.headers {
            if name.starts_with("x-amz-server-side-encryption") {
                insert(response, name, value);
            }
        }
    }
}

/// The storage class a request asks for; `None` if it does not.
pub(super) fn storage_class(request: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = joined(request, "x-amz-storage-class") else {
        return Ok(None);
    };
    if !STORAGE_CLASSES.contains(&value.as_str()) {
        return Err(refuse(
            S3ErrorCode::InvalidStorageClass,
            "The storage class you specified is not valid",
        ));
    }
    Ok(Some(value))
}

/// All values of a header joined with commas, one character per byte.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let mut values = headers.get_all(name).iter();
    let text =
        |value: &HeaderValue| value.as_bytes().iter().map(|byte| char::from(*byte)).collect();
    let mut all: String = text(values.next()?);
    for value in values {
        all.push(',');
        all.push_str(&text(value));
    }
    Some(all)
}

fn insert(response: &mut HeaderMap, name: &str, value: &str) {
    // Both came out of a parsed request, so neither conversion fails.
    let bytes: Vec<u8> = value.chars().filter_map(|c| u8::try_from(c).ok()).collect();
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_bytes(&bytes)) {
        response.insert(name, value);
    }
}

/// `aws-chunked` describes how the request travelled, not what is stored (D6).
fn without_aws_chunked(encoding: &str) -> String {
    let tokens = encoding.split(',').map(str::trim);
    let kept: Vec<_> =
        tokens.filter(|t| !t.is_empty() && !t.eq_ignore_ascii_case("aws-chunked")).collect();
    kept.join(",")
}

fn refuse_unsupported(request: &HeaderMap) -> Answer<()> {
    let has = |name: &str| request.contains_key(name);
    if has("x-amz-server-side-encryption-customer-algorithm")
        || has("x-amz-server-side-encryption-customer-key")
    {
        return Err(unsupported("SSE-C"));
    }
    if has("x-amz-write-offset-bytes") || has("x-amz-rename-source") {
        return Err(unsupported("appending to or renaming objects"));
    }
    if request.keys().any(|name| name.as_str().starts_with("x-amz-object-lock-")) {
        return Err(invalid("Bucket is missing Object Lock Configuration"));
    }
    let acl = request.get("x-amz-acl").map(HeaderValue::as_bytes);
    let owner_only = matches!(acl, None | Some(b"private" | b"bucket-owner-full-control"));
    if !owner_only || request.keys().any(|name| name.as_str().starts_with("x-amz-grant-")) {
        return Err(refuse(
            S3ErrorCode::AccessControlListNotSupported,
            "The bucket does not allow ACLs",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_bytes_come_back_unchanged() {
        let mut request = HeaderMap::new();
        let latin1 = HeaderValue::from_bytes(b"caf\xe9 \xff").unwrap();
        request.insert("x-amz-meta-name", latin1.clone());
        request.insert("expires", HeaderValue::from_static("not a date"));
        request.append("x-amz-meta-list", HeaderValue::from_static("a"));
        request.append("x-amz-meta-list", HeaderValue::from_static("b"));
        let stored = serde_json::to_string(&Attributes::of(&request).unwrap()).unwrap();
        let mut response = HeaderMap::new();
        serde_json::from_str::<Attributes>(&stored).unwrap().write_to(&mut response);
        assert_eq!(response["x-amz-meta-name"], latin1);
        assert_eq!(response["x-amz-meta-list"], "a,b");
        assert_eq!(response["expires"], "not a date");
        assert_eq!(response["content-type"], "binary/octet-stream");
    }

    #[test]
    fn aws_chunked_is_taken_out_of_the_encoding_wherever_it_stands() {
        assert_eq!(without_aws_chunked("aws-chunked"), "");
        assert_eq!(without_aws_chunked("gzip, AWS-chunked"), "gzip");
        assert_eq!(without_aws_chunked("aws-chunked,gzip,aws-chunked,br"), "gzip,br");
    }

    #[test]
    fn more_metadata_than_s3_allows_is_refused() {
        let mut request = HeaderMap::new();
        request.insert("x-amz-meta-a", HeaderValue::from_str(&"x".repeat(2047)).unwrap());
        assert!(Attributes::of(&request).is_ok());
        request.insert("x-amz-meta-b", HeaderValue::from_static(""));
        assert!(Attributes::of(&request).is_err());
    }
}
