//! Multipart uploads: learning part boundaries, because the mirror needs the same ones to end up
//! with the same `ETag`, and main may not tell them once the upload is complete.

use http::StatusCode;
use http::header::HeaderMap;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::document::collect;
use super::error::S3Error;
use super::exchange::UploadSource;
use super::facts::version_id;
use super::response::Judge;
use super::source::Source;
use super::{Admitted, Proxy};
use crate::journal::entry::{Facts, Outcome};
use crate::journal::{Intent, PartSizes, layout};
use crate::outcome::{Reached, judge};
use crate::s3::xml;
use crate::upstream::{self, Outgoing};

impl Proxy {
    /// The size of a copied part is known when the request named a range.
    pub(super) fn part_copied(
        &self,
        upload_id: String,
        number: u32,
        size: Option<u64>,
    ) -> Option<Judge> {
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
        intents: Vec<Intent>,
        response: &HeaderMap,
        upload_id: Option<String>,
    ) -> Judge {
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
            spawner.spawn(async move {
                if outcome == Outcome::Changed
                    && let Some(upload_id) = upload_id
                {
                    journal.upload_ended(&upload_id).await;
                }
                for intent in intents {
                    journal.settle(intent, outcome.clone(), facts.clone(), None).await;
                }
            });
        })
    }
}
