//! One exchange with main, by what it can change.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::S3Error;
use super::record::Record;
use super::response::{Judge, ResponseBody};
use super::upload::{Gate, Plan, Transfer, UploadBody};
use super::{Admitted, INLINE_BODY_BYTES, Proxy, pass_on, refuse};
use crate::journal::entry::{Facts, NewIntent, ObjectKey, Outcome};
use crate::journal::{Durable, Intent, layout, now_ms};
use crate::outcome::{Reached, judge};
use crate::s3::operation::{Change, Effect};
use crate::s3::state::{parse_http_date, unquoted};
use crate::s3::{headers, xml};
use crate::upstream::{self, Body, Outgoing, SendError};

/// Longest body of `DeleteObjects` (1000 keys of 1 KiB, escaped) and `CompleteMultipartUpload`
/// (10 000 parts with checksums).
const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Longest error document that is looked into.
const ERROR_BYTES_MAX: u64 = 64 * 1024;
/// Codes by which main refuses *our* signature, which the client must not take for its own.
const OUR_FAULT: &[&str] = &[
    "SignatureDoesNotMatch",
    "InvalidAccessKeyId",
    "RequestTimeTooSkewed",
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthorizationHeaderMalformed",
];

impl Proxy {
    /// Forwards a request that changes nothing.
    pub(super) async fn read(
        &self,
        admitted: Admitted,
        body: Incoming,
        record: Record,
    ) -> Response<ResponseBody> {
        let resource = admitted.address.path();
        let (outgoing, _) = outgoing(admitted, UploadSource::Stream(body), None, None);
        match self.main.send(outgoing).await {
            Ok(response) => self.answer(response, &resource, record, None).await,
            Err(error) => refuse(&failed(&error), &resource, record),
        }
    }

    /// Runs a request that can change something to its outcome.
    pub(super) async fn mutate(
        self: Arc<Self>,
        admitted: Admitted,
        body: Incoming,
        record: Record,
    ) -> Response<ResponseBody> {
        let resource = admitted.address.path();
        let result = match admitted.operation.effect {
            Effect::Key(change) => self.change(admitted, body, change, record).await,
            Effect::Keys => self.delete_objects(admitted, body, record).await,
            _ => return self.forward(admitted, body, record).await,
        };
        result.unwrap_or_else(|(error, record)| refuse(&error, &resource, *record))
    }

    /// Parts of uploads, buckets, settings: no key changes.
    async fn forward(
        &self,
        admitted: Admitted,
        body: Incoming,
        mut record: Record,
    ) -> Response<ResponseBody> {
        let resource = admitted.address.path();
        let name = admitted.operation.name;
        let query = &admitted.address.query;
        let upload_id = query.get("uploadId").unwrap_or_default().to_owned();
        let number = query
            .get("partNumber")
            .and_then(|number| number.parse().ok());
        let copied = copied_range(&admitted.parts.headers);
        let (outgoing, transfer) = outgoing(admitted, UploadSource::Stream(body), None, None);
        let sent = self.main.send(outgoing).await;
        record.bytes = transfer.bytes();
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                let error = transfer.fault().unwrap_or_else(|| failed(&error));
                return refuse(&error, &resource, record);
            }
        };
        if response.status().is_success() {
            let etag = etag(response.headers());
            match (name, number, etag) {
                ("UploadPart", Some(number), Some(etag)) => {
                    self.journal
                        .record_part(&upload_id, number, &etag, transfer.bytes())
                        .await;
                }
                ("UploadPartCopy", Some(number), _) => {
                    let judge = self.part_copied(upload_id, number, copied);
                    return self.answer(response, &resource, record, judge).await;
                }
                ("AbortMultipartUpload", ..) => self.journal.upload_ended(&upload_id).await,
                _ => {}
            }
        }
        self.answer(response, &resource, record, None).await
    }

    /// The size of a copied part is known when the request named a range.
    fn part_copied(&self, upload_id: String, number: u32, size: Option<u64>) -> Option<Judge> {
        let journal = self.journal.clone();
        let size = size?;
        Some(Box::new(move |document| {
            let result = document.map(|document| xml::result_document(&document));
            let Some(Ok(xml::ResultDocument {
                etag: Some(etag), ..
            })) = result
            else {
                return;
            };
            tokio::spawn(async move { journal.record_part(&upload_id, number, &etag, size).await });
        }))
    }

    /// A change of the addressed key.
    async fn change(
        &self,
        admitted: Admitted,
        body: Incoming,
        change: Change,
        mut record: Record,
    ) -> Result<Response<ResponseBody>, (S3Error, Box<Record>)> {
        let resource = admitted.address.path();
        let operation = admitted.operation;
        let mut facts = Facts::default();
        let source = if change == Change::Complete {
            match self.complete_document(&admitted, body, &mut facts).await {
                Ok(source) => source,
                Err(error) => return Err((error, Box::new(record))),
            }
        } else {
            UploadSource::Stream(body)
        };
        let objects = changed_objects(&admitted);
        let (intents, gate) = match self
            .append(objects, change, facts, &admitted, &record)
            .await
        {
            Ok(appended) => appended,
            Err(error) => return Err((error, Box::new(record))),
        };
        let sent_type = admitted.parts.headers.get(CONTENT_TYPE).cloned();
        let upload_id = admitted.address.query.get("uploadId").map(str::to_owned);
        let tee = self.tee_for(&admitted, change);
        let (outgoing, transfer) = outgoing(admitted, source, gate, tee);
        let sent = self.main.send(outgoing).await;
        record.bytes = transfer.bytes();
        let response = match sent {
            Ok(response) => response,
            Err(error) => {
                let reached = if error_before_sending(&error) || transfer.withhold() {
                    Reached::Withheld
                } else {
                    Reached::NoResponse
                };
                let outcome = judge(operation, reached);
                self.settle_all(intents, &outcome, &Facts::default()).await;
                let error = transfer.fault().unwrap_or_else(|| failed(&error));
                return Err((error, Box::new(record)));
            }
        };
        let status = response.status();
        if status.is_success() && operation.judged_by_body() {
            let judge = self.judge_document(operation, intents, response.headers(), upload_id);
            return Ok(self.answer(response, &resource, record, Some(judge)).await);
        }
        let reached = if !status.is_success() && transfer.withhold() {
            Reached::Withheld
        } else {
            Reached::Response {
                status,
                document: None,
            }
        };
        let outcome = judge(operation, reached);
        let facts = facts_of(change, response.headers(), &transfer, sent_type.as_ref());
        let mut body = transfer.take_teed().filter(|_| outcome == Outcome::Changed);
        for intent in intents {
            self.journal
                .settle(intent, outcome.clone(), facts.clone(), body.take())
                .await;
        }
        Ok(self.answer(response, &resource, record, None).await)
    }

    /// Reads the body of a Complete and finds the sizes of its parts.
    async fn complete_document(
        &self,
        admitted: &Admitted,
        body: Incoming,
        facts: &mut Facts,
    ) -> Result<UploadSource, S3Error> {
        let document = collect(body).await?;
        if let Ok(parts) = xml::complete_parts(&document)
            && let Some(upload_id) = admitted.address.query.get("uploadId")
        {
            let recorded = self.journal.recorded_parts(upload_id).await;
            facts.layout = layout(&parts, &recorded);
            if facts.layout.is_none() {
                // Parts that came another way: main still knows them, and will not afterwards.
                let listed = self.list_parts(admitted, upload_id).await;
                facts.layout = layout(&parts, &listed);
            }
        }
        Ok(UploadSource::Document(document))
    }

    async fn list_parts(
        &self,
        admitted: &Admitted,
        upload_id: &str,
    ) -> HashMap<(u32, String), u64> {
        /// Pages of 1000 parts; an upload has at most 10 000.
        const PAGES_MAX: usize = 11;
        let mut parts = HashMap::new();
        let mut marker: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let mut query = crate::s3::address::Query::default();
            query.push("uploadId", upload_id);
            if let Some(marker) = &marker {
                query.push("part-number-marker", marker);
            }
            let outgoing = Outgoing {
                method: http::Method::GET,
                path: admitted.address.path(),
                query: query.canonical(),
                headers: HeaderMap::new(),
                payload: upstream::sign::UNSIGNED_PAYLOAD,
                body: upstream::empty(),
            };
            let Ok(response) = self.main.send(outgoing).await else {
                break;
            };
            if !response.status().is_success() {
                break;
            }
            let Ok(document) = collect(response.into_body()).await else {
                break;
            };
            let Ok((page, next)) = xml::list_parts(&document) else {
                break;
            };
            parts.extend(
                page.into_iter()
                    .map(|part| ((part.number, part.etag), part.size)),
            );
            marker = next;
            if marker.is_none() {
                break;
            }
        }
        parts
    }

    /// `DeleteObjects`: an intent for every key named, an outcome for every key answered.
    async fn delete_objects(
        &self,
        mut admitted: Admitted,
        body: Incoming,
        record: Record,
    ) -> Result<Response<ResponseBody>, (S3Error, Box<Record>)> {
        let resource = admitted.address.path();
        let prepared = match collect(body).await {
            Ok(document) => xml::delete_keys(&document)
                .map(|keys| (document, keys))
                .map_err(S3Error::from),
            Err(error) => Err(error),
        };
        let (document, keys) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err((error, Box::new(record))),
        };
        // Some servers still demand it while most SDKs have stopped sending it.
        if !admitted.parts.headers.contains_key("content-md5") {
            use base64::Engine as _;
            use md5::Digest as _;
            let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(&document));
            if let Ok(value) = HeaderValue::try_from(md5) {
                admitted.parts.headers.insert("content-md5", value);
            }
        }
        let bucket = admitted.address.bucket.clone().unwrap_or_default();
        let objects = keys
            .iter()
            .map(|key| ObjectKey::new(&bucket, key))
            .collect();
        let change = Change::Delete;
        let appended = self
            .append(objects, change, Facts::default(), &admitted, &record)
            .await;
        let (intents, gate) = match appended {
            Ok(appended) => appended,
            Err(error) => return Err((error, Box::new(record))),
        };
        let operation = admitted.operation;
        let (outgoing, transfer) = outgoing(admitted, UploadSource::Document(document), gate, None);
        let response = match self.main.send(outgoing).await {
            Ok(response) => response,
            Err(error) => {
                let withheld = error_before_sending(&error) || transfer.withhold();
                let reached = if withheld {
                    Reached::Withheld
                } else {
                    Reached::NoResponse
                };
                self.settle_all(intents, &judge(operation, reached), &Facts::default())
                    .await;
                return Err((failed(&error), Box::new(record)));
            }
        };
        if response.status().is_success() {
            let judge = self.judge_deletes(intents);
            return Ok(self.answer(response, &resource, record, Some(judge)).await);
        }
        let reached = Reached::Response {
            status: response.status(),
            document: None,
        };
        self.settle_all(intents, &judge(operation, reached), &Facts::default())
            .await;
        Ok(self.answer(response, &resource, record, None).await)
    }

    fn judge_document(
        &self,
        operation: crate::s3::operation::Operation,
        intents: Vec<Intent>,
        response: &HeaderMap,
        upload_id: Option<String>,
    ) -> Judge {
        let journal = self.journal.clone();
        let version_id = version_id(response);
        Box::new(move |document| {
            let document = document.map(|document| xml::result_document(&document));
            let reached = Reached::Response {
                status: StatusCode::OK,
                document: document.as_ref(),
            };
            let outcome = judge(operation, reached);
            let mut facts = Facts {
                version_id,
                ..Facts::default()
            };
            if let Some(Ok(document)) = document {
                facts.etag = document.etag;
                facts.last_modified = document
                    .last_modified
                    .and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok())
                    .map(OffsetDateTime::unix_timestamp);
            }
            tokio::spawn(async move {
                if outcome == Outcome::Changed
                    && let Some(upload_id) = upload_id
                {
                    journal.upload_ended(&upload_id).await;
                }
                for intent in intents {
                    journal
                        .settle(intent, outcome.clone(), facts.clone(), None)
                        .await;
                }
            });
        })
    }

    fn judge_deletes(&self, intents: Vec<Intent>) -> Judge {
        let journal = self.journal.clone();
        Box::new(move |document| {
            let errors = document.map(|document| xml::delete_errors(&document));
            tokio::spawn(async move {
                for intent in intents {
                    let deleted = matches!(&errors, Some(Ok(errors))
                        if !errors.contains(&*intent.object().key));
                    let outcome = if deleted {
                        Outcome::Changed
                    } else {
                        Outcome::Unknown
                    };
                    let facts = Facts {
                        absent: deleted,
                        ..Facts::default()
                    };
                    journal.settle(intent, outcome, facts, None).await;
                }
            });
        })
    }

    /// Writes intents. Small requests wait here; the body of large ones waits with its tail.
    async fn append(
        &self,
        objects: Vec<ObjectKey>,
        change: Change,
        facts: Facts,
        admitted: &Admitted,
        record: &Record,
    ) -> Result<(Vec<Intent>, Option<Gate>), S3Error> {
        let accepted_ms = now_ms();
        let new = objects
            .into_iter()
            .map(|object| NewIntent {
                object,
                change,
                request_id: record.id.clone(),
                accepted_ms,
                facts: facts.clone(),
            })
            .collect();
        let (intents, durable) = self.journal.append(new).await;
        let streams = admitted.operation.name == "PutObject"
            && admitted
                .length
                .is_none_or(|length| length > INLINE_BODY_BYTES);
        if streams {
            return Ok((
                intents,
                Some(Gate {
                    durable,
                    required: self.journal_required,
                }),
            ));
        }
        match self.wait(durable).await {
            Ok(()) => Ok((intents, None)),
            Err(error) => {
                self.settle_all(intents, &Outcome::NoEffect, &Facts::default())
                    .await;
                Err(error)
            }
        }
    }

    async fn wait(&self, durable: Durable) -> Result<(), S3Error> {
        match durable.wait().await {
            Err(error) if self.journal_required || error == crate::journal::AppendError::Full => {
                Err(S3Error::slow_down(error.to_string()))
            }
            // Without JOURNAL_REQUIRED the write is served; its intent is in memory and an alarm
            // is raised.
            Ok(()) | Err(_) => Ok(()),
        }
    }

    async fn settle_all(&self, intents: Vec<Intent>, outcome: &Outcome, facts: &Facts) {
        for intent in intents {
            self.journal
                .settle(intent, outcome.clone(), facts.clone(), None)
                .await;
        }
    }

    fn tee_for(
        &self,
        admitted: &Admitted,
        change: Change,
    ) -> Option<(crate::tee::TeeWriter, HeaderMap)> {
        let request = &admitted.parts.headers;
        // An object under a key that only the client knows must not reach the mirror in clear.
        let secret = request.contains_key("x-amz-server-side-encryption-customer-algorithm");
        if change != Change::Put || secret {
            return None;
        }
        let writer = self.tee.begin(admitted.length?)?;
        let kept = request.iter().filter(|(name, _)| {
            headers::replicated(name) || *name == HeaderName::from_static("x-amz-tagging")
        });
        let mut headers = HeaderMap::new();
        for (name, value) in kept {
            headers.append(name, value.clone());
        }
        Some((writer, headers))
    }

    /// Passes main's response on, unless it speaks of our credentials or of another region.
    async fn answer(
        &self,
        response: Response<Incoming>,
        resource: &str,
        record: Record,
        judge: Option<Judge>,
    ) -> Response<ResponseBody> {
        let status = response.status();
        if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
            let region = response.headers().get("x-amz-bucket-region");
            let region = region
                .and_then(|region| region.to_str().ok())
                .unwrap_or("another");
            tracing::error!(region, "main redirects to another region; set MAIN_REGION");
            let message =
                format!("The bucket is in region {region}, which this proxy is not set to.");
            return refuse(&S3Error::internal(message), resource, record);
        }
        if !matches!(status, StatusCode::FORBIDDEN | StatusCode::BAD_REQUEST)
            || record.method == http::Method::HEAD
            || content_length(response.headers()).is_none_or(|length| length > ERROR_BYTES_MAX)
        {
            return pass_on(response, record, judge);
        }
        let (parts, body) = response.into_parts();
        let Ok(document) = collect(body).await else {
            return refuse(
                &S3Error::internal("main's answer broke off"),
                resource,
                record,
            );
        };
        let code = xml::result_document(&document)
            .ok()
            .and_then(|document| document.code);
        if let Some(code) = code.filter(|code| OUR_FAULT.contains(&code.as_str())) {
            tracing::error!(code, "main refuses the credentials of this proxy");
            let message = "This proxy cannot authenticate with its storage; see its log.";
            return refuse(&S3Error::unavailable(message), resource, record);
        }
        let mut record = record;
        record.status = parts.status;
        let mut response = Response::from_parts(parts, ResponseBody::fixed(document, record));
        let stripped = response
            .headers()
            .keys()
            .filter(|name| headers::hop_by_hop(name));
        for name in stripped.cloned().collect::<Vec<_>>() {
            response.headers_mut().remove(name);
        }
        response
    }
}

/// What is sent as the body.
enum UploadSource {
    Stream(Incoming),
    Document(Bytes),
}

/// Builds what goes upstream, and the handle on its transfer.
fn outgoing(
    mut admitted: Admitted,
    source: UploadSource,
    gate: Option<Gate>,
    tee: Option<(crate::tee::TeeWriter, HeaderMap)>,
) -> (Outgoing, Arc<Transfer>) {
    let payload = admitted.upstream_payload();
    let (body, transfer): (Body, Arc<Transfer>) = match source {
        UploadSource::Document(document) => (upstream::full(document), released()),
        UploadSource::Stream(_) if admitted.length == Some(0) && admitted.decoder.is_none() => {
            let transfer = released();
            if let Some((tee, headers)) = tee {
                transfer.keep(tee.finish(headers));
            }
            if admitted.parts.method == http::Method::PUT
                || admitted.parts.method == http::Method::POST
            {
                admitted
                    .parts
                    .headers
                    .insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
            (upstream::empty(), transfer)
        }
        UploadSource::Stream(body) => {
            if let super::upload::Framing::OneChunk(algorithm) = &admitted.framing {
                let headers = &mut admitted.parts.headers;
                let length = admitted.length.unwrap_or(0);
                headers.insert("x-amz-decoded-content-length", HeaderValue::from(length));
                headers.insert(
                    "x-amz-trailer",
                    HeaderValue::from_static(algorithm.header_name()),
                );
                headers.append(
                    http::header::CONTENT_ENCODING,
                    HeaderValue::from_static("aws-chunked"),
                );
            } else if admitted.decoder.is_some() {
                // It announced a trailer that there is none of now.
                admitted
                    .parts
                    .headers
                    .remove("x-amz-sdk-checksum-algorithm");
            }
            let plan = Plan {
                decoder: admitted.decoder,
                framing: admitted.framing,
                length: admitted.length,
                gate,
                tee,
            };
            let (body, transfer) = UploadBody::new(body, plan);
            (body.boxed_unsync(), transfer)
        }
    };
    let outgoing = Outgoing {
        method: admitted.parts.method,
        path: admitted.address.path(),
        query: admitted.address.query.canonical(),
        headers: admitted.parts.headers,
        payload,
        body,
    };
    (outgoing, transfer)
}

fn released() -> Arc<Transfer> {
    let transfer = Arc::new(Transfer::default());
    transfer.release();
    transfer
}

/// The keys a request on one key changes.
fn changed_objects(admitted: &Admitted) -> Vec<ObjectKey> {
    let address = &admitted.address;
    let bucket = address.bucket.as_deref().unwrap_or_default();
    let mut objects = vec![ObjectKey::new(
        bucket,
        address.key.as_deref().unwrap_or_default(),
    )];
    let source = admitted.parts.headers.get("x-amz-rename-source");
    if let Some(source) = source.and_then(|value| value.to_str().ok())
        && let Some(source) = crate::s3::encode::decode(source, false)
    {
        objects.push(ObjectKey::new(bucket, source.trim_start_matches('/')));
    }
    objects
}

fn error_before_sending(error: &SendError) -> bool {
    !matches!(error, SendError::Connection(_))
}

fn failed(error: &SendError) -> S3Error {
    tracing::warn!(%error, "no answer from main");
    match error {
        SendError::Connection(_) => S3Error::internal("The connection to the storage failed."),
        SendError::Target => S3Error::invalid_request("The request target is too long."),
        SendError::Connect(_) | SendError::Credentials(_) | SendError::Signing(_) => {
            S3Error::unavailable("The storage cannot be reached. Please try again.")
        }
    }
}

/// Gathers a document of bounded size.
async fn collect(mut body: Incoming) -> Result<Bytes, S3Error> {
    let mut document = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            S3Error::new(StatusCode::BAD_REQUEST, "IncompleteBody", error.to_string())
        })?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if document.len() + data.len() > DOCUMENT_BYTES_MAX {
            return Err(S3Error::new(
                StatusCode::BAD_REQUEST,
                "MaxMessageLengthExceeded",
                "Your request was too big.",
            ));
        }
        document.extend_from_slice(data);
    }
    Ok(document.freeze())
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn etag(headers: &HeaderMap) -> Option<String> {
    headers
        .get("etag")?
        .to_str()
        .ok()
        .map(|etag| unquoted(etag).to_owned())
}

fn version_id(headers: &HeaderMap) -> Option<String> {
    headers
        .get("x-amz-version-id")?
        .to_str()
        .ok()
        .map(str::to_owned)
}

/// Bytes of `x-amz-copy-source-range: bytes=first-last`.
fn copied_range(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get("x-amz-copy-source-range")?.to_str().ok()?;
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    last.checked_sub(first)?.checked_add(1)
}

/// What a response without document tells of the change.
fn facts_of(
    change: Change,
    response: &HeaderMap,
    transfer: &Transfer,
    sent_type: Option<&HeaderValue>,
) -> Facts {
    match change {
        Change::Put => Facts {
            etag: etag(response),
            size: Some(transfer.bytes()),
            content_type: sent_type
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
            last_modified: response
                .get(http::header::DATE)
                .and_then(|date| date.to_str().ok())
                .and_then(parse_http_date)
                .map(OffsetDateTime::unix_timestamp),
            version_id: version_id(response),
            ..Facts::default()
        },
        Change::Delete => Facts {
            absent: true,
            ..Facts::default()
        },
        _ => Facts::default(),
    }
}
