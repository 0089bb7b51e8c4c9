//! Multipart uploads: learning part boundaries, because the mirror needs the same ones to end up
//! with the same `ETag`, and main may not tell them once the upload is complete; and keeping the
//! parts, so that mirroring the object need not read them back.

use std::sync::Arc;

use http::StatusCode;
use http::header::HeaderMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::document::collect;
use super::error::S3Error;
use super::exchange::{UploadSource, secret};
use super::facts::{copied_range, date, etag, version_id};
use super::response::Judge;
use super::source::Source;
use super::upload::Transfer;
use super::{Admitted, Proxy};
use crate::journal::entry::{Facts, Outcome};
use crate::journal::{Intents, PartSizes, layout};
use crate::outcome::{Reached, judge};
use crate::s3::xml;
use crate::tee::{NewUpload, TeeWriter};
use crate::upstream::{self, Outgoing};

/// A request on the way to a multipart object.
pub(super) struct Step {
    name: &'static str,
    upload_id: String,
    number: Option<u32>,
    /// Bytes of a copied range.
    copied: Option<u64>,
    new: Option<NewUpload>,
}

/// An upload that is being completed.
pub(super) struct Finished {
    upload_id: String,
    parts: Vec<xml::ListedPart>,
}

impl Proxy {
    /// What has to be remembered of a request before it is sent, and what keeps its body.
    pub(super) fn step(&self, admitted: &Admitted) -> (Step, Option<TeeWriter>) {
        let (name, query) = (admitted.operation.name, &admitted.address.query);
        let request = &admitted.parts.headers;
        let upload_id = query.get("uploadId").unwrap_or_default().to_owned();
        let number = query.get("partNumber").and_then(|number| number.parse().ok());
        let new = (name == "CreateMultipartUpload" && !secret(request))
            .then(|| self.tee.new_upload(request))
            .flatten();
        let tee = (name == "UploadPart" && !secret(request))
            .then(|| self.tee.begin_part(&upload_id, admitted.length?))
            .flatten();
        (Step { name, upload_id, number, copied: copied_range(request), new }, tee)
    }

    /// Main has taken the step.
    pub(super) async fn stepped(
        &self,
        step: Step,
        response: &HeaderMap,
        transfer: &Transfer,
    ) -> Option<Judge> {
        let Step { name, upload_id, number, copied, new } = step;
        match (name, number, etag(response)) {
            ("CreateMultipartUpload", ..) => {
                let (tee, new) = (self.tee.clone(), new?);
                return Some(Box::new(move |document| {
                    let result = document.map(|document| xml::result_document(&document));
                    if let Some(Ok(xml::ResultDocument { upload_id: Some(upload_id), .. })) = result
                    {
                        tee.upload_begun(upload_id, new);
                    }
                }));
            }
            ("UploadPart", Some(number), Some(etag)) => {
                self.tee.keep_part(&upload_id, number, &etag, transfer.take_teed());
                self.journal.record_part(&upload_id, number, &etag, transfer.bytes()).await;
            }
            ("UploadPartCopy", Some(number), _) => {
                // Its bytes did not come this way.
                self.tee.give_up(&upload_id);
                return self.part_copied(upload_id, number, copied);
            }
            ("AbortMultipartUpload", ..) => {
                self.tee.give_up(&upload_id);
                self.journal.upload_ended(&upload_id).await;
            }
            _ => {}
        }
        None
    }

    /// The size of a copied part is known when the request named a range.
    fn part_copied(&self, upload_id: String, number: u32, size: Option<u64>) -> Option<Judge> {
        let journal = self.journal.clone();
        let spawner = journal.clone();
        let size = size?;
        Some(Box::new(move |document| {
            let result = document.map(|document| xml::result_document(&document));
            let Some(Ok(xml::ResultDocument { etag: Some(etag), .. })) = result else {
                return;
            };
            spawner
                .spawn(async move { journal.record_part(&upload_id, number, &etag, size).await });
        }))
    }

    /// Reads the body of a Complete and finds the sizes of its parts.
    pub(super) async fn complete_document(
        &self,
        admitted: &Admitted,
        body: Source,
        facts: &mut Facts,
        finished: &mut Option<Finished>,
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
            *finished = Some(Finished { upload_id: upload_id.to_owned(), parts });
        }
        Ok(UploadSource::Document(document))
    }

    pub(super) async fn list_parts(&self, admitted: &Admitted, upload_id: &str) -> PartSizes {
        /// Pages of 1000 parts; an upload has at most 10 000.
        const PAGES_MAX: usize = 11;
        let mut parts = PartSizes::new();
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
                keys: admitted.caller.main_keys(),
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
            parts.extend(page.into_iter().map(|part| ((part.number, part.etag), part.size)));
            marker = next;
            if marker.is_none() {
                break;
            }
        }
        parts
    }

    pub(super) fn judge_document(
        &self,
        operation: crate::s3::operation::Operation,
        intents: Intents,
        response: &HeaderMap,
        finished: Option<Finished>,
    ) -> Judge {
        let tee = self.tee.clone();
        let date = date(response);
        let journal = self.journal.clone();
        let spawner = journal.clone();
        let version_id = version_id(response);
        Box::new(move |document| {
            let document = document.map(|document| xml::result_document(&document));
            let reached = Reached::Response { status: StatusCode::OK, document: document.as_ref() };
            let outcome = judge(operation, reached);
            let mut facts = Facts { version_id, ..Facts::default() };
            if let Some(Ok(document)) = document {
                facts.etag = document.etag;
                facts.last_modified = document
                    .last_modified
                    .and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok())
                    .map(OffsetDateTime::unix_timestamp);
            }
            let ended = finished.filter(|_| outcome == Outcome::Changed);
            let mut body = ended.as_ref().and_then(|Finished { upload_id, parts }| {
                let listed = parts.iter().map(|part| (part.number, part.etag.as_str()));
                tee.completed(upload_id, listed)
            });
            if let Some(body) = &body {
                // What a plain upload's answer would have told.
                facts.size = Some(body.length());
                let content_type = body.headers().content_type();
                facts.content_type =
                    content_type.and_then(|value| value.to_str().ok()).map(str::to_owned);
                facts.last_modified = facts.last_modified.or(date);
            }
            let facts = Arc::new(facts);
            spawner.spawn(async move {
                if let Some(Finished { upload_id, .. }) = ended {
                    journal.upload_ended(&upload_id).await;
                }
                for intent in intents {
                    journal.settle(intent, outcome, facts.clone(), body.take()).await;
                }
            });
        })
    }
}
