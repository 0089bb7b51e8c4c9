//! The request path.
//!
//! `handle` reads top to bottom: address, operation, what goes upstream, then by effect: reads are
//! forwarded as they are; whatever can change something reaches its outcome even if the client goes
//! away (`onward`).
//!
//! # Promises
//! - **P1** What is not understood is forwarded; what is refused here is listed in
//!   `docs/compatibility.md`.
//! - **P2** A request that can change a key waits for its intent: bodies up to
//!   64 KiB and requests without body before anything is sent, larger bodies with
//!   their last piece.
//! - **P6** Per request: one piece of the body, one bounded document, one log record.

pub mod access;
mod answer;
mod deletes;
mod digest;
mod document;
mod error;
mod exchange;
mod facts;
pub mod fallback;
mod form;
mod http1;
mod http2;
mod incoming;
pub mod listener;
mod multipart;
mod onward;
mod patience;
mod record;
mod response;
mod small;
mod socket;
mod source;
pub mod tls;
mod translate;
mod upload;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::sync::OwnedSemaphorePermit;

use crate::config::Quirk;
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::s3::address::Address;
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::chunked::{
    ChunkedDecoder, PayloadMode, announced_trailers, decoded_content_length, strip_framing_headers,
};
use crate::s3::headers::{find, find_all};
use crate::s3::operation::{self, Effect, Operation};
use crate::s3::trace::TRACEPARENT;
use crate::spans::Spans;
use crate::tee::Tee;
use crate::upstream::payload::SIGNED_TRAILER;
use crate::upstream::sign::UNSIGNED_PAYLOAD;
use crate::upstream::{Received, Upstream};
pub use access::AccessRules;
use access::Caller;
use error::S3Error;
use incoming::Incoming;
use onward::Onward;
use record::Record;
pub use response::ResponseBody;
use source::{Expectation, Source};
use upload::Framing;

/// Bodies up to this size wait for their intent before anything of them is sent: they leave in
/// one write, and the sync is the whole wait either way.
const INLINE_BODY_BYTES: u64 = 64 * 1024;
/// Main's name for a request, or ours where it gives none.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// The proxy; shared by all connections.
pub struct Proxy {
    /// Where requests go.
    pub main: Arc<Upstream>,
    /// Where intents go.
    pub journal: Journal,
    /// Where bodies are kept for mirroring.
    pub tee: Tee,
    /// Base domains for virtual-hosted-style addressing.
    pub domains: Vec<String>,
    /// Refuse writes while the journal cannot record them?
    pub journal_required: bool,
    /// Does the S3 port speak TLS?
    pub tls: bool,
    /// How long a client may keep the proxy waiting for its body.
    pub client_timeout: Duration,
    /// Is anybody told of changes?
    pub events: bool,
    /// Who is read from while main cannot answer.
    pub fallback: Option<fallback::Fallback>,
    /// Who may do what.
    pub access: Arc<AccessRules>,
    /// Counters.
    pub metrics: Metrics,
    /// Where requests are traced, if they are.
    pub spans: Option<Spans>,
}

/// A request that has been understood and may go upstream.
struct Admitted {
    caller: Caller,
    address: Address,
    operation: Operation,
    parts: Parts,
    payload: PayloadMode,
    /// Bytes of the object or document, if announced.
    length: Option<u64>,
    framing: Framing,
    decoder: Option<Box<ChunkedDecoder>>,
    /// The client's checksum comes behind the body, and main knows checksums.
    checksum_behind: Option<ChecksumAlgorithm>,
}

impl Proxy {
    /// Answers one request. `place` is held until a change has reached its outcome, which may be
    /// long after the client has left.
    async fn handle(
        self: Arc<Self>,
        request: Request<Incoming>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Response<ResponseBody> {
        let (parts, body) = request.into_parts();
        let is_open_ended = body.is_open_ended(&parts.headers);
        let mut record = Record::new(
            self.metrics.clone(),
            self.spans.as_ref(),
            parts.method.clone(),
            &parts.headers,
        );
        let target = parts.uri.clone();
        let expectation = if http_body::Body::is_end_stream(&body) {
            Expectation::None
        } else {
            Expectation::of(&parts.headers)
        };
        let body = Source::client(body, self.client_timeout, expectation);
        let mut admitted = match self.admit(parts, is_open_ended, &mut record) {
            Ok(admitted) => admitted,
            Err(error) => {
                return refuse_at(target.path(), &error, record);
            }
        };
        // Only now: the client may have signed its own.
        if let Some(own) = record.traceparent().filter(|own| own.sampled)
            && let Ok(value) = HeaderValue::try_from(own.to_string())
        {
            admitted.parts.headers.insert(TRACEPARENT, value);
        }
        if admitted.operation.effect == Effect::Read {
            return pin!(self.read(admitted, body, record)).await;
        }
        let change = Onward::new(self.mutate(admitted, body, record, place));
        change.await.unwrap_or_else(|panic| {
            onward::failed(&*panic);
            let mut response = Response::new(ResponseBody::lost());
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            response
        })
    }

    /// Understands a request or refuses it. Pure but for the record.
    fn admit(
        &self,
        mut parts: Parts,
        is_open_ended: bool,
        record: &mut Record,
    ) -> Result<Box<Admitted>, S3Error> {
        // One name decides where a request goes and what its signature must be of: the target's
        // where it has one, as HTTP has it, whatever `Host` says beside it.
        let header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
        let host = parts.uri.authority().map(http::uri::Authority::as_str).or(header);
        let host = host.unwrap_or_default();
        let mut address = Address::parse(host, parts.uri.path(), parts.uri.query(), &self.domains)?;
        record.bucket.clone_from(&address.bucket);
        record.key.clone_from(&address.key);
        // A form carries its signature in its fields, which are read and verified in their turn.
        let is_form = form::is_form(&parts, &address);
        let caller = if is_form { Caller::Anybody } else { self.access.identify(&parts, host)? };
        let payload = PayloadMode::from_headers(&parts.headers)?;
        let hash = translate::presigned(&mut address, &mut parts.headers)?;
        let payload = translate::payload(payload, hash)?;
        let operation = Operation::of(&parts.method, &address, &parts.headers);
        record.operation = Some(operation);
        if (operation.name == form::OPERATION) != is_form {
            return Err(form::not_a_form());
        }
        self.access.check(&caller, &address, operation, &parts.headers)?;
        refuse_unsupported(&address, &parts)?;

        let (mut framing, mut decoder, mut checksum_behind) = (Framing::Plain, None, None);
        let quirks = self.main.endpoint().quirks;
        let signs = quirks.has(Quirk::SignedPayload);
        let length = if let PayloadMode::Streaming(form) = payload {
            if !matches!(operation.name, "PutObject" | "UploadPart") {
                return Err(S3Error::invalid_request(
                    "x-amz-content-sha256 must not be a STREAMING value for this operation.",
                ));
            }
            let trailers = announced_trailers(&parts.headers)?;
            let length = decoded_content_length(&parts.headers)?;
            if length.is_none() {
                return Err(missing_length("x-amz-decoded-content-length"));
            }
            let algorithm =
                trailers.iter().find_map(|name| ChecksumAlgorithm::from_header_name(name));
            let verifier = caller.chunk_verifier();
            decoder = Some(Box::new(ChunkedDecoder::new(form, length, &trailers, verifier)?));
            strip_framing_headers(&mut parts.headers);
            // The decoder has checked it, which is all that is left of it where main knows none.
            let sent_on = !quirks.has(Quirk::NoTrailers);
            checksum_behind = algorithm.filter(|_| !quirks.has(Quirk::NoChecksums));
            if let Some(algorithm) = algorithm.filter(|_| sent_on) {
                framing =
                    if signs { Framing::Signed(algorithm) } else { Framing::OneChunk(algorithm) };
            }
            length
        } else if is_open_ended {
            if signs && matches!(operation.name, "PutObject" | "UploadPart") {
                return Err(missing_length("Content-Length"));
            }
            None
        } else {
            let length = translate::content_length(&parts.headers)?;
            if length.is_none() && matches!(operation.name, "PutObject" | "UploadPart") {
                return Err(missing_length("Content-Length"));
            }
            Some(length.unwrap_or(0))
        };
        if !is_form {
            translate::headers(&mut parts.headers)?;
        }
        tracing::debug!(
            operation = operation.name,
            bucket = address.bucket.as_deref().unwrap_or_default(),
            key = address.key.as_deref().unwrap_or_default(),
            length,
            request_id = &*record.id,
            "forwarding"
        );
        let admitted = Admitted {
            caller,
            address,
            operation,
            parts,
            payload,
            length,
            framing,
            decoder,
            checksum_behind,
        };
        // It is handed on many times.
        Ok(Box::new(admitted))
    }
}

impl Admitted {
    /// `x-amz-content-sha256` for main: the client's own hash of a plain body, so that main
    /// checks it end to end.
    fn upstream_payload(&self) -> HeaderValue {
        match (self.payload, &self.framing) {
            (PayloadMode::Hex(hash), _) => {
                HeaderValue::from_str(&hex::encode(hash)).unwrap_or(UNSIGNED_PAYLOAD)
            }
            (_, Framing::OneChunk(_)) => {
                HeaderValue::from_static("STREAMING-UNSIGNED-PAYLOAD-TRAILER")
            }
            (_, Framing::Signed(_)) => SIGNED_TRAILER,
            _ => UNSIGNED_PAYLOAD,
        }
    }
}

fn missing_length(header: &str) -> S3Error {
    S3Error::new(
        StatusCode::LENGTH_REQUIRED,
        "MissingContentLength",
        format!("You must provide the {header} HTTP header."),
    )
}

/// What no proxy of this kind can do right is refused before it can do harm.
fn refuse_unsupported(address: &Address, parts: &Parts) -> Result<(), S3Error> {
    if parts.method == Method::CONNECT {
        return Err(S3Error::not_implemented("CONNECT is not an S3 request."));
    }
    if address.query.has("session")
        || address.bucket.as_deref().is_some_and(|b| b.ends_with("--x-s3"))
    {
        return Err(S3Error::not_implemented("Directory buckets are not supported."));
    }
    if address.key.as_deref().is_some_and(|key| key.contains('\0')) {
        return Err(S3Error::new(
            StatusCode::BAD_REQUEST,
            "InvalidURI",
            "A key that holds NUL cannot be recorded.",
        ));
    }
    // Extensions whose one request changes keys that only main knows. What counts as yes is up to main.
    for name in ["x-minio-force-delete", "x-amz-meta-snowball-auto-extract"] {
        if find_all(&parts.headers, name).any(|value| value != "false") {
            return Err(S3Error::not_implemented(format!("{name} is not supported.")));
        }
    }
    refuse_ambiguous(address, parts)
}

/// What services read differently could do something else than was allowed and noted here.
fn refuse_ambiguous(address: &Address, parts: &Parts) -> Result<(), S3Error> {
    let invalid = |message| S3Error::new(StatusCode::BAD_REQUEST, "InvalidArgument", message);
    if matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    if operation::is_ambiguous(address) {
        return Err(invalid("Conflicting query string parameters."));
    }
    // Where the path counts for nothing it deletes other keys.
    if parts.method == Method::POST && address.key.is_some() && address.query.has("delete") {
        let message = "The specified method is not allowed against this resource.";
        return Err(S3Error::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message));
    }
    for name in ["x-amz-copy-source", "x-amz-rename-source"] {
        if find_all(&parts.headers, name).nth(1).is_some() {
            return Err(invalid("There can be one source only."));
        }
    }
    Ok(())
}

/// An error of our own.
fn refuse(error: &S3Error, record: Box<Record>) -> Response<ResponseBody> {
    refuse_at(&record.resource(), error, record)
}

fn refuse_at(resource: &str, error: &S3Error, mut record: Box<Record>) -> Response<ResponseBody> {
    record.status = Some(error.status);
    record.error = Some(format!("{}: {}", error.code, error.message));
    let head = record.method == Method::HEAD;
    let id = record.id.clone();
    error.response(resource, &id, head).map(|bytes| ResponseBody::fixed(bytes, record))
}

/// Adds our name of the request where main has none.
fn name_request(headers: &mut HeaderMap, record: &Record) {
    if find(headers, REQUEST_ID.as_str()).is_none()
        && let Ok(id) = HeaderValue::from_str(&record.id)
    {
        headers.insert(REQUEST_ID, id);
    }
}

/// Main's response. What belongs to its connection is left out by who writes it.
fn pass_on(
    response: Response<Received>,
    mut record: Box<Record>,
    judge: Option<response::Judge>,
) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    record.status = Some(parts.status);
    name_request(&mut parts.headers, &record);
    let counts = record.operation.is_some_and(|operation| operation.effect == Effect::Read);
    Response::from_parts(parts, ResponseBody::main(body, record, counts, judge))
}
