//! Checks that the proxy makes because main would not: checksums main refuses to hear of,
//! `Content-MD5` where main insists on it, and hashes of documents where main wants them signed.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HeaderMap, HeaderValue};
use http_body::{Body as _, Frame};
use md5::Digest as _;

use super::document::{DOCUMENT_BYTES_MAX, collect};
use super::error::S3Error;
use super::source::Source;
use super::{Admitted, Proxy, form, small};
use crate::config::Quirk;
use crate::s3::checksum::{ChecksumAlgorithm, Hasher, is_checksum_header};
use crate::s3::chunked::PayloadMode;
use crate::s3::operation::{Change, Effect};

/// A body whose checksum is compared at its end.
pub(super) struct Checked {
    body: Source,
    /// Gone once it has been compared.
    hasher: Option<Hasher>,
    expected: String,
}

impl Checked {
    pub(super) fn poll(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, S3Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match (&frame, self.hasher.as_mut()) {
            (Some(Ok(frame)), Some(hasher)) => {
                if let Some(data) = frame.data_ref() {
                    hasher.update(data);
                }
            }
            (None, Some(_)) => {
                let found = self.hasher.take().map(Hasher::finish);
                if found.as_deref() != Some(self.expected.as_str()) {
                    return Poll::Ready(Some(Err(bad_digest())));
                }
            }
            _ => {}
        }
        Poll::Ready(frame)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.hasher.is_none() && self.body.is_end_stream()
    }
}

impl Proxy {
    /// Makes up for what main does not check, or wants to be told.
    pub(super) async fn with_checks(
        &self,
        admitted: &mut Admitted,
        mut body: Source,
    ) -> Result<Source, S3Error> {
        let quirks = self.main.endpoint().quirks;
        let name = admitted.operation.name;
        if admitted.checksum_behind.is_some() {
            return small::checksum_in_front(admitted, body).await;
        }
        let headers = &mut admitted.parts.headers;
        if quirks.has(Quirk::NoChecksums)
            && let Some(name) = headers.keys().find(|name| is_unknown_checksum(name.as_str()))
        {
            // Neither main nor this proxy would look at it.
            return Err(S3Error::not_implemented(format!("{name} cannot be checked.")));
        }
        if quirks.has(Quirk::NoChecksums)
            && admitted.decoder.is_none()
            && matches!(name, "PutObject" | "UploadPart")
            && let Some((algorithm, expected)) = checksum_of(headers)
        {
            let Some(hasher) = algorithm.hasher() else {
                // Neither main nor this proxy would look at it.
                let name = algorithm.header_name();
                return Err(S3Error::not_implemented(format!("{name} cannot be checked.")));
            };
            if admitted.length != Some(0) {
                return Ok(Source::checked(Checked { body, hasher: Some(hasher), expected }));
            }
            return if hasher.finish() == expected { Ok(body) } else { Err(bad_digest()) };
        }
        if quirks.has(Quirk::SignedPayload)
            && admitted.length != Some(0)
            && !matches!(admitted.payload, PayloadMode::Hex(_))
            && !matches!(name, "PutObject" | "UploadPart" | form::OPERATION)
        {
            // S3 takes signed chunks for objects only, so a document is signed as a whole.
            let document = collect(body).await?;
            admitted.payload = PayloadMode::Hex(sha2::Sha256::digest(&document).into());
            admitted.length = u64::try_from(document.len()).ok();
            body = Source::whole(document);
        }
        let document = matches!(
            admitted.operation.effect,
            Effect::Settings | Effect::Key(Change::Tagging | Change::Other)
        ) && name != "PutObject";
        let length = admitted.length.unwrap_or(0);
        let bounded = usize::try_from(length).is_ok_and(|length| length <= DOCUMENT_BYTES_MAX);
        if !quirks.has(Quirk::ContentMd5) || !document || length == 0 || !bounded {
            return Ok(body);
        }
        let document = collect(body).await?;
        if !headers.contains_key("content-md5") {
            let md5 = STANDARD.encode(md5::Md5::digest(&document));
            if let Ok(value) = HeaderValue::try_from(md5) {
                headers.insert("content-md5", value);
            }
        }
        Ok(Source::whole(document))
    }
}

fn bad_digest() -> S3Error {
    S3Error::new(
        http::StatusCode::BAD_REQUEST,
        "BadDigest",
        "The checksum you specified did not match what we received.",
    )
}

/// Is this the checksum of an algorithm that nobody here has heard of?
fn is_unknown_checksum(name: &str) -> bool {
    is_checksum_header(name) && ChecksumAlgorithm::from_header_name(name).is_none()
}

/// The checksum in a header, if there is one of an algorithm that is known.
fn checksum_of(headers: &HeaderMap) -> Option<(ChecksumAlgorithm, String)> {
    headers.iter().find_map(|(name, value)| {
        let algorithm = ChecksumAlgorithm::from_header_name(name.as_str())?;
        Some((algorithm, value.to_str().ok()?.trim().to_owned()))
    })
}
