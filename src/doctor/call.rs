//! One request to the service that is looked at, and what it may have made there.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::Method;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use md5::Digest as _;

use super::finding::Side;
use super::{Place, Stop};
use crate::s3::address::Query;
use crate::upstream::ask::{Answer, AskError, Question};
use crate::upstream::{Upstream, full};

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// What a service did with a request, when it is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    /// It answered with an error.
    Refused {
        /// HTTP status.
        status: u16,
        /// S3 error code, perhaps empty.
        code: String,
    },
    /// It said yes and did something else.
    Otherwise(&'static str),
    /// No usable answer.
    Away(String),
    /// A person ended it.
    Stopped,
}

impl From<AskError> for Seen {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Refused { status, code, .. } => Self::Refused { status, code },
            AskError::Unreachable(reason) | AskError::Unusable(reason) => Self::Away(reason),
        }
    }
}

/// A request.
#[derive(Default)]
pub(super) struct Call<'a> {
    /// Below the prefix; empty for the bucket itself.
    pub(super) key: &'a str,
    pub(super) query: &'a [(&'a str, &'a str)],
    pub(super) headers: &'a [(&'static str, &'a str)],
    pub(super) body: Bytes,
}

/// One service with what was made there.
pub(super) struct Patient<'a> {
    pub(super) side: Side,
    pub(super) upstream: &'a Upstream,
    pub(super) place: Place,
    pub(super) stop: &'a Stop,
    /// Where requests go.
    pub(super) bucket: String,
    /// The bucket may have been made here.
    pub(super) own_bucket: bool,
    /// Keys that may have been written.
    pub(super) keys: BTreeSet<String>,
    /// Versions that were made, delete markers among them.
    pub(super) versions: BTreeSet<(String, String)>,
    /// Multipart uploads that were begun.
    pub(super) uploads: Vec<(String, String)>,
    /// A request that writes was not answered: it may take effect later.
    pub(super) in_doubt: bool,
}

impl<'a> Patient<'a> {
    pub(super) fn new(side: Side, upstream: &'a Upstream, place: Place, stop: &'a Stop) -> Self {
        Self {
            side,
            upstream,
            place,
            stop,
            bucket: String::new(),
            own_bucket: false,
            keys: BTreeSet::new(),
            versions: BTreeSet::new(),
            uploads: Vec::new(),
            in_doubt: false,
        }
    }

    /// The whole key of a name.
    pub(super) fn key(&self, name: &str) -> String {
        format!("{}{name}", self.place.prefix)
    }

    /// Sends it, unless it is time to stop; the answer may have any status.
    pub(super) async fn ask(
        &mut self,
        what: &'static str,
        method: Method,
        call: Call<'_>,
    ) -> Result<Answer, Seen> {
        if self.stop.is_set() {
            return Err(Seen::Stopped);
        }
        let stop = self.stop;
        let writes = method != Method::GET && method != Method::HEAD;
        let outcome = tokio::select! {
            answer = self.send(what, method, call) => answer,
            () = stop.grace() => Err(Seen::Stopped),
        };
        self.in_doubt |= writes && matches!(outcome, Err(Seen::Stopped | Seen::Away(_)));
        outcome
    }

    /// As [`Self::ask`], whether it is time to stop or not: cleaning up goes on.
    pub(super) async fn send(
        &mut self,
        what: &'static str,
        method: Method,
        call: Call<'_>,
    ) -> Result<Answer, Seen> {
        let Call { key, query, headers, body } = call;
        let key = (!key.is_empty()).then(|| self.key(key));
        let writes = method != Method::GET && method != Method::HEAD;
        if let (true, Some(key)) = (writes, &key) {
            self.keys.insert(key.clone());
        }
        let bucket = (!self.bucket.is_empty()).then_some(self.bucket.as_str());
        let mut question = Question::bare(what, method, bucket, key.as_deref());
        question.query = canonical(query);
        question.headers = header_map(headers)?;
        if !body.is_empty() {
            let md5 = base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(&body));
            if let (true, Ok(md5)) = (!query.is_empty(), HeaderValue::try_from(md5)) {
                question.headers.insert("content-md5", md5);
            }
            question.body = full(body);
        }
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.upstream.ask(question)).await;
        let answer = answer
            .unwrap_or_else(|_| Err(AskError::Unreachable(format!("{what}: no answer in time"))))?;
        if let (true, true, Some(key), Some(version)) =
            (writes, answer.status.is_success(), key, text(&answer.headers, "x-amz-version-id"))
        {
            self.versions.insert((key, version.to_owned()));
        }
        Ok(answer)
    }

    /// As [`Self::ask`]; only success counts.
    pub(super) async fn done(
        &mut self,
        what: &'static str,
        method: Method,
        call: Call<'_>,
    ) -> Result<Answer, Seen> {
        success(self.ask(what, method, call).await?)
    }
}

/// The answer if it says success.
pub(super) fn success(answer: Answer) -> Result<Answer, Seen> {
    if answer.status.is_success() {
        return Ok(answer);
    }
    Err(Seen::Refused { status: answer.status.as_u16(), code: answer.code() })
}

/// A header as text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

pub(super) fn canonical(pairs: &[(&str, &str)]) -> String {
    let mut query = Query::default();
    for (name, value) in pairs {
        query.push(name, value);
    }
    query.canonical()
}

fn header_map(pairs: &[(&'static str, &str)]) -> Result<HeaderMap, Seen> {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = HeaderValue::try_from(*value)
            .map_err(|_| Seen::Otherwise("answered what cannot be sent back"))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}
