//! The questions, in their order. Each is one thing that clients or the mirror's workers do.

use bytes::Bytes;
use http::Method;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::call::{Call, Patient, Seen, success, text};
use super::finding::{Finding, Level, Probe};
use super::judge;
use crate::config::Quirk;
use crate::s3::address::path_style;
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::listing;
use crate::s3::state::{ObjectState, parse_http_date};
use crate::s3::xml;
use crate::upstream::ask::Answer;

/// The object most questions are about.
const PLAIN: &str = "plain";
/// Its headers: those of clients that must come back as they were sent.
const HEADERS: &[(&str, &str)] = &[
    ("content-type", "text/plain; charset=utf-8"),
    ("cache-control", "max-age=60"),
    ("x-amz-meta-doctor", "one two"),
];
/// Bytes of an object.
const SIZE: usize = 1024;
/// Samples of the latency.
const SAMPLES: usize = 5;

type Told<'t> = &'t mut dyn FnMut(Finding);

fn content() -> Bytes {
    Bytes::from_static(&[b'x'; SIZE])
}

impl Patient<'_> {
    /// Does it answer, does it know our keys, is its clock ours? False: nothing more can be asked.
    pub(super) async fn reach(&mut self, tell: Told<'_>) -> bool {
        let before = OffsetDateTime::now_utc();
        let answer = self.ask("ListBuckets", Method::GET, Call::default()).await;
        if let Ok(answer) = &answer
            && let Some(theirs) = text(&answer.headers, "date").and_then(parse_http_date)
        {
            // The answer was made somewhere between; a Date header has whole seconds.
            let now = OffsetDateTime::now_utc();
            let ours: OffsetDateTime = before + (now - before) / 2;
            let skew: time::Duration = theirs - ours;
            tell(judge::clock(self.side, skew.whole_seconds()));
        }
        match judge::credentials(self.side, &answer.and_then(success).map(|_| ())) {
            Some(found) => {
                let goes_on = found.level != Level::Fails;
                tell(found);
                goes_on
            }
            None => false,
        }
    }

    /// Finds the bucket to write in, or makes one. False: there is none.
    pub(super) async fn bucket(&mut self, tell: Told<'_>) -> bool {
        if let Some(named) = self.place.bucket.clone() {
            self.bucket.clone_from(&named);
            let there = self.done("HeadBucket", Method::HEAD, Call::default()).await;
            let missing = matches!(there, Err(Seen::Refused { status: 404, .. }));
            if !missing || self.place.bucket_required {
                let well = there.is_ok();
                tell_if(tell, judge::named_bucket(self.side, &named, &there.map(|_| ())));
                return well;
            }
        }
        self.bucket.clone_from(&self.place.own_bucket);
        self.own_bucket = true;
        let region = &self.upstream.endpoint().region;
        let named = !matches!(region.as_str(), "us-east-1" | "auto" | "");
        let body = if named { xml::location_document(region).into() } else { Bytes::new() };
        let made = self.done("CreateBucket", Method::PUT, Call { body, ..Call::default() }).await;
        // Refused: there is none to remove. A lost answer: there may be.
        self.own_bucket = !matches!(made, Err(Seen::Refused { .. }));
        let well = made.is_ok();
        tell_if(tell, judge::own_bucket(self.side, &self.bucket, &made.map(|_| ())));
        well
    }

    /// Asks everything else.
    pub(super) async fn look(&mut self, tell: Told<'_>) {
        let put = self.put(PLAIN, HEADERS, content()).await;
        let well = put.is_ok();
        self.tell(tell, Probe::Put, put.map(|_| ()));
        if !well {
            return;
        }
        let seen = self.head().await;
        self.tell(tell, Probe::Head, seen);
        let seen = self.get().await;
        self.tell(tell, Probe::Get, seen);
        let seen = self.list().await;
        self.tell(tell, Probe::List, seen);
        let seen = self.multipart().await;
        self.tell(tell, Probe::Multipart, seen);
        let seen = self.copy().await;
        self.tell(tell, Probe::Copy, seen);
        let seen = self.tagging().await;
        self.tell(tell, Probe::Tagging, seen);
        let seen = self.versioning().await;
        tell_if(tell, judge::versioning(self.side, self.own_bucket, &seen));
        if self.upstream.endpoint().quirks.has(Quirk::NoChecksums) {
            tell(judge::checksums_off(self.side));
        } else {
            let seen = self.checksums().await;
            self.tell(tell, Probe::Checksums, seen);
        }
        let seen = self.conditions().await;
        self.tell(tell, Probe::Conditions, seen);
        let seen = self.delete().await;
        self.tell(tell, Probe::Delete, seen);
        match self.latency().await {
            Ok((put, get)) => tell(judge::latency(self.side, put, get)),
            Err(seen) => self.tell(tell, Probe::Latency, Err(seen)),
        }
    }

    fn tell(&self, tell: Told<'_>, probe: Probe, seen: Result<(), Seen>) {
        tell_if(tell, judge::outcome(self.side, probe, seen));
    }

    async fn put(
        &mut self,
        key: &str,
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Answer, Seen> {
        let call = Call { key, headers, body, ..Call::default() };
        let answer = self.done("PutObject", Method::PUT, call).await?;
        if answer.headers.contains_key("etag") {
            return Ok(answer);
        }
        Err(Seen::Otherwise("answered without an ETag, which is no confirmation"))
    }

    async fn head(&mut self) -> Result<(), Seen> {
        let call = Call { key: PLAIN, ..Call::default() };
        let answer = self.done("HeadObject", Method::HEAD, call).await?;
        let state = ObjectState::from_response(&answer.headers);
        let state = state.ok_or(Seen::Otherwise("answered HEAD without size or ETag"))?;
        if usize::try_from(state.size) != Ok(SIZE) {
            return Err(Seen::Otherwise("told another size than was written"));
        }
        let kept = HEADERS.iter().all(|(name, value)| text(&answer.headers, name) == Some(*value));
        if kept { Ok(()) } else { Err(Seen::Otherwise("lost or changed headers or metadata")) }
    }

    async fn get(&mut self) -> Result<(), Seen> {
        let call = Call { key: PLAIN, ..Call::default() };
        let answer = self.done("GetObject", Method::GET, call).await?;
        if answer.document == content() {
            return Ok(());
        }
        Err(Seen::Otherwise("answered other bytes than were written"))
    }

    async fn list(&mut self) -> Result<(), Seen> {
        let prefix = self.place.prefix.clone();
        let query = [("list-type", "2"), ("prefix", prefix.as_str())];
        let call = Call { query: &query, ..Call::default() };
        let answer = self.done("ListObjectsV2", Method::GET, call).await?;
        let page = listing::page(&answer.document);
        let page = page.map_err(|_| Seen::Otherwise("answered what is no listing"))?;
        let key = self.key(PLAIN);
        if page.objects.iter().any(|object| object.key == key) {
            return Ok(());
        }
        Err(Seen::Otherwise("does not list what was just written"))
    }

    async fn multipart(&mut self) -> Result<(), Seen> {
        let key = "parts";
        let query = [("uploads", "")];
        let call = Call { key, query: &query, ..Call::default() };
        let answer = self.done("CreateMultipartUpload", Method::POST, call).await?;
        let id = xml::result_document(&answer.document).ok().and_then(|result| result.upload_id);
        let id = id.ok_or(Seen::Otherwise("began a multipart upload without an ID"))?;
        self.uploads.push((key.to_owned(), id.clone()));
        let query = [("partNumber", "1"), ("uploadId", id.as_str())];
        let call = Call { key, query: &query, body: content(), ..Call::default() };
        let answer = self.done("UploadPart", Method::PUT, call).await?;
        let etag = text(&answer.headers, "etag").map(crate::s3::state::unquoted);
        let etag = etag.ok_or(Seen::Otherwise("took a part without an ETag"))?;
        let body = xml::complete_document(std::iter::once((1, etag))).into();
        let query = [("uploadId", id.as_str())];
        let call = Call { key, query: &query, body, ..Call::default() };
        let answer = self.done("CompleteMultipartUpload", Method::POST, call).await?;
        let result = xml::result_document(&answer.document).unwrap_or_default();
        if result.root != "CompleteMultipartUploadResult" {
            return Err(Seen::Refused { status: 200, code: result.code.unwrap_or_default() });
        }
        self.uploads.clear();
        Ok(())
    }

    async fn copy(&mut self) -> Result<(), Seen> {
        let source = path_style(Some(&self.bucket), Some(&self.key(PLAIN)));
        let headers = [("x-amz-copy-source", source.as_str())];
        let call = Call { key: "copy", headers: &headers, ..Call::default() };
        let answer = self.done("CopyObject", Method::PUT, call).await?;
        let result = xml::result_document(&answer.document).unwrap_or_default();
        if result.root == "CopyObjectResult" {
            return Ok(());
        }
        Err(Seen::Otherwise("answered a copy with something else"))
    }

    async fn tagging(&mut self) -> Result<(), Seen> {
        let key = "tagged";
        let first = [("doctor".to_owned(), "first".to_owned())];
        self.put(key, &[("x-amz-tagging", "doctor=first")], content()).await?;
        self.tags_are(key, &first).await?;
        let second = [("doctor".to_owned(), "a b".to_owned())];
        let query = [("tagging", "")];
        let body = xml::tagging_document(&second).into();
        let call = Call { key, query: &query, body, ..Call::default() };
        self.done("PutObjectTagging", Method::PUT, call).await?;
        self.tags_are(key, &second).await
    }

    async fn tags_are(&mut self, key: &str, tags: &[(String, String)]) -> Result<(), Seen> {
        let query = [("tagging", "")];
        let call = Call { key, query: &query, ..Call::default() };
        let answer = self.done("GetObjectTagging", Method::GET, call).await?;
        if xml::tags(&answer.document).is_ok_and(|there| there == tags) {
            return Ok(());
        }
        Err(Seen::Otherwise("took the tags and does not have them"))
    }

    async fn versioning(&mut self) -> Result<Option<String>, Seen> {
        let query = [("versioning", "")];
        let call = Call { query: &query, ..Call::default() };
        let answer = self.done("GetBucketVersioning", Method::GET, call).await?;
        xml::versioning(&answer.document)
            .map_err(|_| Seen::Otherwise("answered what is no versioning state"))
    }

    async fn checksums(&mut self) -> Result<(), Seen> {
        let name = ChecksumAlgorithm::Crc32.header_name();
        let right = checksum(&content());
        self.put("checksum", &[(name, &right)], content()).await?;
        let wrong = checksum(b"other bytes");
        match self.put("checksum", &[(name, &wrong)], content()).await {
            Ok(_) => Err(Seen::Otherwise("accepts a body that does not match its checksum")),
            Err(Seen::Refused { status: 400..=499, .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    async fn conditions(&mut self) -> Result<(), Seen> {
        match self.put(PLAIN, &[("if-none-match", "*")], content()).await {
            Ok(_) => Err(Seen::Otherwise("overwrites in spite of `If-None-Match: *`")),
            Err(Seen::Refused { status: 409 | 412, .. }) => Ok(()),
            Err(other) => Err(other),
        }
    }

    async fn delete(&mut self) -> Result<(), Seen> {
        self.done("DeleteObject", Method::DELETE, Call { key: PLAIN, ..Call::default() }).await?;
        let call = Call { key: PLAIN, ..Call::default() };
        match self.ask("HeadObject", Method::HEAD, call).await?.status.as_u16() {
            404 => Ok(()),
            _ => Err(Seen::Otherwise("still has what it has deleted")),
        }
    }

    /// Medians of small writes and reads, in microseconds.
    async fn latency(&mut self) -> Result<(u128, u128), Seen> {
        let (mut puts, mut gets) = ([0; SAMPLES], [0; SAMPLES]);
        for (put, get) in puts.iter_mut().zip(&mut gets) {
            let begin = Instant::now();
            self.put("latency", &[], content()).await?;
            *put = begin.elapsed().as_micros();
            let begin = Instant::now();
            let call = Call { key: "latency", ..Call::default() };
            self.done("GetObject", Method::GET, call).await?;
            *get = begin.elapsed().as_micros();
        }
        puts.sort_unstable();
        gets.sort_unstable();
        Ok((puts[SAMPLES / 2], gets[SAMPLES / 2]))
    }
}

fn checksum(bytes: &[u8]) -> String {
    let mut hasher = ChecksumAlgorithm::Crc32.hasher();
    if let Some(hasher) = &mut hasher {
        hasher.update(bytes);
    }
    hasher.map(crate::s3::checksum::Hasher::finish).unwrap_or_default()
}

fn tell_if(tell: Told<'_>, finding: Option<Finding>) {
    if let Some(finding) = finding {
        tell(finding);
    }
}
