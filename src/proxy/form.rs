//! Uploads by HTML form: `POST /bucket` with `multipart/form-data`.
//!
//! The client's signature covers a policy inside the form and cannot be made again for main, so the
//! form becomes the `PutObject` it stands for, with its intent, its outcome, its kept body. The
//! fields in front of the file are read first (20 KiB at most); the file streams on as it comes.
//!
//! Main has to be told the length of the file before its first byte, and a form does not tell it.
//! The rest of a small form is read until its end. Of a larger one the length is that of the request
//! without what is around the file, provided the file is the last field, as S3 demands. Where that
//! turns out to be wrong the upload ends before its last byte and never takes effect.
//!
//! Where clients are verified, the policy decides; elsewhere policy and signature count for nothing,
//! like any other signature of a client.

mod fields;
mod reply;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body_util::BodyExt as _;
use time::OffsetDateTime;

use super::access::Caller;
use super::error::S3Error;
use super::record::Record;
use super::response::ResponseBody;
use super::source::{FormFile, Source};
use super::upload::Framing;
use super::{Admitted, Proxy, facts, refuse_unsupported};
use crate::auth::{Access, PostForm};
use crate::s3::address::{Address, AddressError, KEY_BYTES_MAX, Query};
use crate::s3::chunked::PayloadMode;
use crate::s3::form::{FormEvent, FormHead, FormReader};
use crate::s3::operation::{self, Change, Effect, Operation};

/// The S3 name of a form upload.
pub(super) const OPERATION: &str = "PostObject";
/// The rest of a form up to this size is read before the upload begins: whatever follows the file
/// does no harm then.
const READ_AHEAD_BYTES: u64 = 1024 * 1024;

/// Is this request an upload by form?
pub(super) fn is_form(parts: &Parts, address: &Address) -> bool {
    if parts.method != Method::POST {
        return false;
    }
    operation::is_form(&parts.headers)
        && Operation::of(&parts.method, address, &parts.headers).name == OPERATION
}

/// A POST to a bucket that is no form.
pub(super) fn not_a_form() -> S3Error {
    let message = "Bucket POST must be of the enclosure-type multipart/form-data";
    S3Error::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", message)
        .with("Condition", message)
}

/// A form whose file may be sent.
struct Upload {
    admitted: Box<Admitted>,
    source: Source,
    reply: reply::Reply,
}

impl Proxy {
    /// An upload by form, from its first byte to main's answer in the form's words.
    pub(super) async fn post_object(
        &self,
        admitted: Box<Admitted>,
        body: Source,
        mut record: Box<Record>,
    ) -> Result<Response<ResponseBody>, (S3Error, Box<Record>)> {
        let Upload { admitted, source, reply } = match self.form_upload(admitted, body).await {
            Ok(upload) => upload,
            Err(error) => return Err((error, record)),
        };
        record.key.clone_from(&admitted.address.key);
        let response = self.change(admitted, source, Change::Put, record).await?;
        Ok(if response.status().is_success() { reply.of(response) } else { response })
    }

    /// Reads the form up to its file and makes it a `PutObject`.
    async fn form_upload(&self, form: Box<Admitted>, mut body: Source) -> Result<Upload, S3Error> {
        let headers = &form.parts.headers;
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let mut reader = FormReader::new(content_type.unwrap_or_default())?;
        let mut unread = Bytes::new();
        let head = loop {
            match reader.read(&mut unread)? {
                FormEvent::NeedMore => match body.frame().await {
                    Some(frame) => unread = frame?.into_data().unwrap_or_default(),
                    None => {
                        return Err(reader.finish_input().err().map_or_else(no_file, Into::into));
                    }
                },
                FormEvent::File => break fields::named(reader.take_head())?,
                FormEvent::Data(_) | FormEvent::End => {}
            }
        };
        let key = key_of(&head)?;
        let bucket = form.address.bucket.clone().unwrap_or_default();
        let (caller, sizes) = self.form_caller(&bucket, &head)?;
        self.access.check_key(&caller, Access::Write, Some(&bucket), Some(&key))?;

        let mut object_headers = fields::object_headers(&head)?;
        fields::keep_request_headers(headers, &mut object_headers);
        let reply = reply::Reply::new(&head, &form.parts, self.tls, &form.address, &bucket, &key);
        let announced = facts::content_length(headers);
        let rest = announced.and_then(|length| length.checked_sub(reader.consumed()));
        let (source, length) = match rest {
            Some(rest) if rest > READ_AHEAD_BYTES => {
                let left = rest.saturating_sub(reader.usual_end_bytes());
                (Source::form(FormFile { body, reader, unread, left }), left)
            }
            _ => {
                let file = read_whole(body, reader, unread).await?;
                let length = u64::try_from(file.len()).unwrap_or(u64::MAX);
                (Source::whole(file), length)
            }
        };
        check_size(length, sizes)?;
        let mut parts = form.parts;
        parts.method = Method::PUT;
        parts.headers = object_headers;
        let address =
            Address { bucket: Some(bucket), key: Some(key.into()), query: Query::default() };
        refuse_unsupported(&address, &parts)?;
        let admitted = Box::new(Admitted {
            caller,
            address,
            operation: Operation { name: "PutObject", effect: Effect::Key(Change::Put) },
            parts,
            payload: PayloadMode::Unsigned,
            length: Some(length),
            framing: Framing::Plain,
            decoder: None,
            checksum_behind: None,
        });
        Ok(Upload { admitted, source, reply })
    }

    /// Who sends the form, and the sizes its policy allows.
    fn form_caller(
        &self,
        bucket: &str,
        head: &FormHead,
    ) -> Result<(Caller, Option<(u64, u64)>), S3Error> {
        let Some(authenticator) = &self.access.authenticator else {
            return Ok((Caller::Anybody, None));
        };
        let form = PostForm { bucket, fields: &head.fields };
        let grant = authenticator.verify_post(&form, OffsetDateTime::now_utc())?;
        Ok((Caller::Verified(Box::new(grant.identity)), grant.content_length))
    }
}

fn no_file() -> S3Error {
    crate::s3::form::FormError::NoFile.into()
}

fn key_of(head: &FormHead) -> Result<String, S3Error> {
    let invalid = |message: &str| {
        S3Error::new(StatusCode::BAD_REQUEST, "InvalidArgument", message)
            .with("ArgumentName", "key")
    };
    match head.field("key") {
        None => Err(invalid(
            "Bucket POST must contain a field named 'key'. If it is specified, please check the \
             order of the fields.",
        )),
        Some("") => Err(invalid("User key must have a length greater than 0.")),
        Some(key) if key.len() > KEY_BYTES_MAX => Err(AddressError::KeyTooLong.into()),
        Some(key) => Ok(key.to_owned()),
    }
}

/// The file of a form that is small, or does not tell its length.
async fn read_whole(
    mut body: Source,
    mut reader: FormReader,
    mut unread: Bytes,
) -> Result<Bytes, S3Error> {
    let mut file = BytesMut::new();
    loop {
        match reader.read(&mut unread)? {
            FormEvent::Data(data) => {
                file.extend_from_slice(&data);
                if u64::try_from(file.len()).is_ok_and(|length| length > READ_AHEAD_BYTES) {
                    return Err(S3Error::new(
                        StatusCode::LENGTH_REQUIRED,
                        "MissingContentLength",
                        "You must provide the Content-Length HTTP header.",
                    ));
                }
            }
            FormEvent::NeedMore => {
                let Some(frame) = body.frame().await else {
                    reader.finish_input()?;
                    return Ok(file.freeze());
                };
                unread = frame?.into_data().unwrap_or_default();
            }
            FormEvent::File | FormEvent::End => {}
        }
    }
}

fn check_size(length: u64, sizes: Option<(u64, u64)>) -> Result<(), S3Error> {
    let Some((least, most)) = sizes else { return Ok(()) };
    let error = |code, message: &str| S3Error::new(StatusCode::BAD_REQUEST, code, message);
    if length < least {
        let message = "Your proposed upload is smaller than the minimum allowed size";
        return Err(error("EntityTooSmall", message)
            .with("ProposedSize", length.to_string())
            .with("MinSizeAllowed", least.to_string()));
    }
    if length > most {
        let message = "Your proposed upload exceeds the maximum allowed size";
        return Err(error("EntityTooLarge", message)
            .with("ProposedSize", length.to_string())
            .with("MaxSizeAllowed", most.to_string()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_outside_the_policy_are_told_apart() {
        assert!(check_size(5, None).is_ok() && check_size(5, Some((5, 5))).is_ok());
        assert_eq!(check_size(4, Some((5, 9))).unwrap_err().code, "EntityTooSmall");
        assert_eq!(check_size(10, Some((5, 9))).unwrap_err().code, "EntityTooLarge");
    }

    #[test]
    fn only_a_post_of_a_form_to_a_bucket_is_one() {
        let of = |method: &str, target: &str, kind: &str| {
            let request = http::Request::builder().method(method).uri(target);
            let (parts, ()) = request.header(CONTENT_TYPE, kind).body(()).unwrap().into_parts();
            let address = Address::parse("h", parts.uri.path(), parts.uri.query(), &[]).unwrap();
            is_form(&parts, &address)
        };
        let form = "multipart/form-data; boundary=b";
        assert!(of("POST", "/b", form) && of("POST", "/b/", "Multipart/Form-Data"));
        for (method, target, kind) in [
            ("PUT", "/b", form),
            ("POST", "/b/k", form),
            ("POST", "/b?delete", form),
            ("POST", "/", form),
            ("POST", "/b", "application/xml"),
            ("POST", "/b", "multipart/form-data-not"),
        ] {
            assert!(!of(method, target, kind), "{method} {target} {kind}");
        }
    }
}
