//! One exchange with main, by what it can change.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use smallvec::{SmallVec, smallvec};
use tokio::sync::OwnedSemaphorePermit;

use super::answer::{error_before_sending, failed};
use super::error::S3Error;
use super::facts::facts_of;
use super::fallback::Sent;
use super::record::Record;
use super::response::ResponseBody;
use super::source::Source;
use super::upload::{Framing, Gate, Plan, Transfer, UploadBody};
use super::{Admitted, INLINE_BODY_BYTES, Proxy, form, pass_on, refuse};
use crate::journal::entry::{Facts, NewIntent, ObjectKey, Outcome, VersionFacts};
use crate::journal::{AppendError, Durable, Intents, now_ms};
use crate::outcome::{Reached, judge};
use crate::s3::address::Address;
use crate::s3::event::EventName;
use crate::s3::headers::find;
use crate::s3::operation::{Change, Effect};
use crate::tee::TeeWriter;
use crate::upstream::credentials::Credentials;
use crate::upstream::{self, Body, Outgoing};

/// Keys and how a request may change them; nearly always it is one.
pub(super) type Changes = SmallVec<[(ObjectKey, Change); 1]>;

impl Proxy {
    /// Forwards a request that changes nothing.
    pub(super) async fn read(
        &self,
        admitted: Box<Admitted>,
        body: Source,
        record: Box<Record>,
    ) -> Response<ResponseBody> {
        let mut admitted = admitted;
        let spare = self.spare(&admitted);
        let outgoing = if admitted.length == Some(0) {
            drop(body);
            bodyless(admitted)
        } else {
            // Rare: only S3 Select asks in a document.
            match Box::pin(self.with_checks(&mut admitted, body)).await {
                Ok(body) => outgoing(admitted, UploadSource::Stream(body), None, None).0,
                Err(error) => return refuse(&error, record),
            }
        };
        let sending = pin!(self.main.send(outgoing));
        let sent = pin!(self.send_read(sending, spare, &record.id)).await;
        match sent {
            Sent::Main(Ok(response)) => pin!(self.answer(response, record, None)).await,
            Sent::Main(Err(error)) => refuse(&failed(&error), record),
            Sent::Mirror(response) => pass_on(response, record, None),
        }
    }

    /// Runs a request that can change something to its outcome.
    pub(super) async fn mutate(
        self: Arc<Self>,
        mut admitted: Box<Admitted>,
        body: Source,
        record: Box<Record>,
        _place: Option<OwnedSemaphorePermit>,
    ) -> Response<ResponseBody> {
        let body = match pin!(self.with_checks(&mut admitted, body)).await {
            Ok(body) => body,
            Err(error) => return refuse(&error, record),
        };
        // What is rare is boxed: the others' futures are moved with every request.
        let result = match admitted.operation.effect {
            Effect::Key(_) if admitted.operation.name == form::OPERATION => {
                Box::pin(self.post_object(admitted, body, record)).await
            }
            Effect::Key(change) => pin!(self.change(admitted, body, change, record)).await,
            Effect::Bucket => pin!(self.change(admitted, body, Change::Bucket, record)).await,
            Effect::Keys => Box::pin(self.delete_objects(admitted, body, record)).await,
            _ => return Box::pin(self.forward(admitted, body, record)).await,
        };
        result.unwrap_or_else(|(error, record)| refuse(&error, record))
    }

    /// Parts of uploads, settings: neither a key nor a bucket changes.
    async fn forward(
        &self,
        admitted: Box<Admitted>,
        body: Source,
        mut record: Box<Record>,
    ) -> Response<ResponseBody> {
        let (step, tee) = self.step(&admitted);
        let (outgoing, transfer) = outgoing(admitted, UploadSource::Stream(body), None, tee);
        let sent = pin!(self.main.send(outgoing)).await;
        record.bytes = transfer.bytes();
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                let error = transfer.fault().unwrap_or_else(|| failed(&error));
                return refuse(&error, record);
            }
        };
        let judge = if response.status().is_success() {
            self.stepped(step, response.headers(), &transfer).await
        } else {
            None
        };
        pin!(self.answer(response, record, judge)).await
    }

    /// A change of the addressed key.
    pub(super) async fn change(
        &self,
        admitted: Box<Admitted>,
        body: Source,
        change: Change,
        mut record: Box<Record>,
    ) -> Result<Response<ResponseBody>, (S3Error, Box<Record>)> {
        let operation = admitted.operation;
        let mut facts = Facts::default();
        if operation.name == "DeleteObject" && admitted.address.query.has("versionId") {
            facts.versions = Some(Box::new(version_deleted()));
        }
        let mut finished = None;
        let source = if change == Change::Complete {
            match self.complete_document(&admitted, body, &mut facts, &mut finished).await {
                Ok(source) => source,
                Err(error) => return Err((error, record)),
            }
        } else {
            UploadSource::Stream(body)
        };
        let changes = changes(&admitted, change);
        let (intents, gate) = match self.append(changes, facts, &admitted, &record).await {
            Ok(appended) => appended,
            Err(error) => return Err((error, record)),
        };
        let sent_type = admitted.parts.headers.get(CONTENT_TYPE).cloned();
        let tee = self.tee_for(&admitted, change);
        // Of other requests that have a body some services need no more than the head.
        let needs_body = operation.name == "PutObject";
        let (outgoing, transfer) = outgoing(admitted, source, gate, tee);
        let sent = pin!(self.main.send(outgoing)).await;
        record.bytes = transfer.bytes();
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                let withheld = needs_body && transfer.withhold();
                let reached = if error_before_sending(&error) || withheld {
                    Reached::Withheld
                } else {
                    Reached::NoResponse
                };
                let outcome = judge(operation, reached);
                self.settle_all(intents, outcome).await;
                let error = transfer.fault().unwrap_or_else(|| failed(&error));
                return Err((error, record));
            }
        };
        let status = response.status();
        if status.is_success() && operation.judged_by_body() {
            let judge = self.judge_document(operation, intents, response.headers(), finished);
            return Ok(pin!(self.answer(response, record, Some(judge))).await);
        }
        let reached = if !status.is_success() && needs_body && transfer.withhold() {
            Reached::Withheld
        } else {
            Reached::Response { status, document: None }
        };
        let outcome = judge(operation, reached);
        let facts = facts_of(change, response.headers(), &transfer, sent_type.as_ref());
        let facts = Arc::new(facts);
        let mut body = transfer.take_teed().filter(|_| outcome == Outcome::Changed);
        if let Some(body) = &mut body {
            body.learn(response.headers());
        }
        for intent in intents {
            self.journal.settle(intent, outcome, facts.clone(), body.take()).await;
        }
        Ok(pin!(self.answer(response, record, None)).await)
    }

    /// Writes intents. Small requests wait here; the body of large ones waits with its tail.
    pub(super) async fn append(
        &self,
        changes: Changes,
        facts: Facts,
        admitted: &Admitted,
        record: &Record,
    ) -> Result<(Intents, Option<Gate>), S3Error> {
        let accepted_ms = now_ms();
        let operation = record.operation.map_or("", |operation| operation.name);
        let trace: Option<Box<str>> = record.traceparent().map(|own| own.to_string().into());
        let nothing = Facts::default();
        let new = changes.into_iter().map(|(object, change)| {
            let mut facts = Facts {
                event: self.event(operation, change),
                trace: trace.clone(),
                ..facts.clone()
            };
            // `DeleteObjects` names a version of this key.
            if admitted.operation.effect == Effect::Keys && change == Change::Other {
                facts.versions = Some(Box::new(version_deleted()));
            }
            let facts = (facts != nothing).then(|| Box::new(facts));
            let request_id = record.id.clone();
            NewIntent { object, change, request_id, accepted_ms, facts }
        });
        let new: SmallVec<[_; 1]> = new.collect();
        let (intents, durable) = self.journal.append(new).await;
        let streams = admitted.operation.name == "PutObject"
            && admitted.length.is_none_or(|length| length > INLINE_BODY_BYTES);
        if streams {
            return Ok((intents, Some(Gate { durable, required: self.journal_required })));
        }
        match self.wait(durable).await {
            Ok(()) => Ok((intents, None)),
            Err(error) => {
                self.settle_all(intents, Outcome::NoEffect).await;
                Err(error)
            }
        }
    }

    /// The event that a change makes, if anybody is told of events.
    fn event(&self, operation: &str, change: Change) -> Option<EventName> {
        if self.events { EventName::of(operation, change) } else { None }
    }

    async fn wait(&self, durable: Durable) -> Result<(), S3Error> {
        match durable.wait().await {
            Err(error) if self.journal_required || error == AppendError::Full => {
                Err(S3Error::slow_down(error.to_string()))
            }
            // Without JOURNAL_REQUIRED the write is served; its intent is in memory and an alarm
            // is raised.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Settles all alike, with nothing told of any.
    pub(super) async fn settle_all(&self, intents: Intents, outcome: Outcome) {
        for intent in intents {
            self.journal.settle(intent, outcome, Arc::default(), None).await;
        }
    }

    fn tee_for(&self, admitted: &Admitted, change: Change) -> Option<TeeWriter> {
        let request = &admitted.parts.headers;
        if change != Change::Put || secret(request) {
            return None;
        }
        self.tee.begin(admitted.length?, request)
    }
}

/// Is the object under a key that only the client knows? It must not reach the mirror in clear.
pub(super) fn secret(request: &http::HeaderMap) -> bool {
    find(request, "x-amz-server-side-encryption-customer-algorithm").is_some()
}

/// What is to be remembered of the delete of a version by its ID.
pub(super) fn version_deleted() -> VersionFacts {
    VersionFacts { deleted: true, ..VersionFacts::default() }
}

/// What is sent as the body.
pub(super) enum UploadSource {
    Stream(Source),
    Document(Bytes),
}

/// Builds what goes upstream, and the handle on its transfer.
pub(super) fn outgoing(
    mut admitted: Box<Admitted>,
    source: UploadSource,
    gate: Option<Gate>,
    tee: Option<TeeWriter>,
) -> (Outgoing, Arc<Transfer>) {
    let payload = admitted.upstream_payload();
    let keys = admitted.caller.main_keys();
    let (body, transfer): (Body, Arc<Transfer>) = match source {
        UploadSource::Document(document) => (upstream::full(document), released()),
        UploadSource::Stream(_) if admitted.length == Some(0) && admitted.decoder.is_none() => {
            let transfer = released();
            if let Some(tee) = tee {
                transfer.keep(tee.finish());
            }
            (upstream::empty(), transfer)
        }
        UploadSource::Stream(body) => {
            if let Framing::OneChunk(algorithm) | Framing::Signed(algorithm) = &admitted.framing {
                let headers = &mut admitted.parts.headers;
                let length = admitted.length.unwrap_or(0);
                headers.insert("x-amz-decoded-content-length", HeaderValue::from(length));
                headers.insert("x-amz-trailer", HeaderValue::from_static(algorithm.header_name()));
                headers.append(
                    http::header::CONTENT_ENCODING,
                    HeaderValue::from_static("aws-chunked"),
                );
            } else if admitted.decoder.is_some() {
                // It announced a trailer that there is none of now.
                admitted.parts.headers.remove("x-amz-sdk-checksum-algorithm");
            }
            let plan = Plan {
                decoder: admitted.decoder,
                framing: admitted.framing,
                length: admitted.length,
                gate,
                tee,
            };
            let (body, transfer) = UploadBody::new(body, plan);
            (upstream::moving(body), transfer)
        }
    };
    (addressed(admitted.parts, &admitted.address, payload, body, keys), transfer)
}

/// Builds what goes upstream of a request without body.
fn bodyless(admitted: Box<Admitted>) -> Outgoing {
    let (payload, keys) = (admitted.upstream_payload(), admitted.caller.main_keys());
    addressed(admitted.parts, &admitted.address, payload, upstream::empty(), keys)
}

fn addressed(
    parts: Parts,
    address: &Address,
    payload: HeaderValue,
    body: Body,
    keys: Option<Arc<Credentials>>,
) -> Outgoing {
    Outgoing {
        method: parts.method,
        path: address.path(),
        query: address.query.canonical(),
        headers: parts.headers,
        payload,
        body,
        keys,
    }
}

fn released() -> Arc<Transfer> {
    let transfer = Arc::new(Transfer::default());
    transfer.release();
    transfer
}

/// The keys a request on one key changes.
fn changes(admitted: &Admitted, change: Change) -> Changes {
    let address = &admitted.address;
    let bucket = address.bucket.as_deref().unwrap_or_default();
    let object = ObjectKey::new(bucket, address.key.as_deref().unwrap_or_default());
    let mut changes = smallvec![(object, change)];
    let source = find(&admitted.parts.headers, "x-amz-rename-source");
    if let Some(source) = source.and_then(|value| value.to_str().ok())
        && let Some(source) = crate::s3::encode::decode(source, false)
    {
        changes.push((ObjectKey::new(bucket, source.trim_start_matches('/')), change));
    }
    changes
}
