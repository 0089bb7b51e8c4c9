//! Tools for the tests of client authentication: a client that signs with the AWS SDK's signer,
//! which knows nothing of this module, and a request as the proxy would receive it.

mod garbage;
mod post;
mod presigned;
mod requests;
mod vectors;

use std::time::Duration;

use aws_credential_types::Credentials as SdkCredentials;
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation,
    SigningSettings, UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::clock::parse_amz_date;
use super::*;

const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const NOW: &str = "20130524T000000Z";
const HOST: &str = "proxy.example:8080";

fn at(amz_date: &str) -> OffsetDateTime {
    parse_amz_date(amz_date).unwrap()
}

fn authenticator_with(secret: &str, region: Option<&str>) -> Authenticator {
    let text = format!(
        r#"[{{"access_key_id": "{KEY_ID}", "secret_access_key": "{secret}",
             "buckets": [{{"bucket": "*", "access": "read-write"}}]}}]"#
    );
    let credentials = Credentials::parse(text.as_bytes()).unwrap();
    Authenticator::new(credentials, region.map(str::to_owned))
}

fn authenticator() -> Authenticator {
    authenticator_with(SECRET, None)
}

/// A request as received.
#[derive(Clone)]
struct Request {
    method: &'static str,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    host: String,
}

impl Request {
    fn new(method: &'static str, target: &str) -> Self {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query.to_owned())),
            None => (target, None),
        };
        let host = HOST.to_owned();
        Self { method, path: path.to_owned(), query, headers: HeaderMap::new(), host }
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
        self
    }

    fn target(&self) -> String {
        let query = self.query.as_ref().map_or(String::new(), |query| format!("?{query}"));
        format!("{}{query}", self.path)
    }

    fn verified(&self, authenticator: &Authenticator, now: &str) -> Result<Identity, AuthError> {
        authenticator.verify(&RequestHead {
            method: self.method,
            raw_path: &self.path,
            raw_query: self.query.as_deref(),
            headers: &self.headers,
            host: &self.host,
            now: at(now),
        })
    }

    fn code(&self) -> (&'static str, u16) {
        let result = self.verified(&authenticator(), NOW);
        result.map_or_else(|error| (error.s3_code(), error.status()), |_| ("ok", 200))
    }

    /// Signs the request in its headers, as a client does that sends exactly this.
    fn signed(self) -> Self {
        self.signed_with(SECRET, NOW, "us-east-1", "UNSIGNED-PAYLOAD")
    }

    fn signed_with(self, secret: &str, now: &str, region: &str, payload: &str) -> Self {
        self.sign(secret, now, region, payload, None)
    }

    /// Signs the request in its query.
    fn presigned(self, expires_seconds: u64) -> Self {
        self.sign(SECRET, NOW, "us-east-1", "UNSIGNED-PAYLOAD", Some(expires_seconds))
    }

    fn sign(
        mut self,
        secret: &str,
        now: &str,
        region: &str,
        payload: &str,
        expires_seconds: Option<u64>,
    ) -> Self {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        if let Some(seconds) = expires_seconds {
            settings.payload_checksum_kind = PayloadChecksumKind::NoHeader;
            settings.signature_location = SignatureLocation::QueryParams;
            settings.expires_in = Some(Duration::from_secs(seconds));
        }
        let identity = SdkCredentials::new(KEY_ID, secret, None, None, "test").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name("s3")
            .time(at(now).into())
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let uri = format!("http://{HOST}{}", self.target());
        let mut headers: Vec<(&str, &str)> = vec![("host", HOST)];
        headers.extend(
            self.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())),
        );
        let body = SignableBody::Precomputed(payload.to_owned());
        let signable = SignableRequest::new(self.method, uri, headers.into_iter(), body).unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        for (name, value) in instructions.headers() {
            self = self.header(name, value);
        }
        for (name, value) in instructions.params() {
            let value = percent(value);
            let query = self.query.take().map_or(String::new(), |query| format!("{query}&"));
            self.query = Some(format!("{query}{name}={value}"));
        }
        self
    }
}

fn percent(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        byte => format!("%{byte:02X}"),
    });
    bytes.collect()
}
