//! Reads from the mirror while main cannot answer (`READ_FALLBACK=mirror`).
//!
//! # Promises
//! - Only `GetObject` and `HeadObject` of the current version, and only before main's first byte:
//!   when main cannot be reached, does not answer in time, or answers 500, 502, 503 or 504.
//! - Never a state that is known to be old: a key with a change that the mirror has not confirmed
//!   gets main's error. So does a key the mirror does not have.
//! - What is served so says so: `x-s3-mirror-served-by: mirror`, a log line, a metric.
//! - Nobody reads there with rights that main has not confirmed: a client with keys of its own on main gets
//!   main's error.
//! - **P5** Nothing of this is touched while main answers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use http::{Response, StatusCode};

use super::{Admitted, Proxy};
use crate::journal::entry::ObjectKey;
use crate::s3::address::path_style;
use crate::upstream::sign::UNSIGNED_PAYLOAD;
use crate::upstream::{Outgoing, Received, SendError, Upstream, empty};

/// How long main may take to begin its answer when there is somebody else to ask.
const PATIENCE: Duration = Duration::from_secs(15);
/// Marks what the mirror answered.
const SERVED_BY: HeaderName = HeaderName::from_static("x-s3-mirror-served-by");

/// The mirror, to read from.
#[derive(Clone)]
pub struct Fallback {
    /// The service.
    pub mirror: Arc<Upstream>,
    /// Mirror bucket = prefix + bucket.
    pub prefix: String,
}

/// A read that the mirror can serve instead of main.
pub(super) struct Spare {
    object: ObjectKey,
    outgoing: Outgoing,
}

impl Proxy {
    /// What the mirror would be asked; `None` where it must not be.
    pub(super) fn spare(&self, admitted: &Admitted) -> Option<Box<Spare>> {
        let fallback = self.fallback.as_ref()?;
        let (bucket, key) = (admitted.address.bucket.as_deref()?, admitted.address.key.as_deref()?);
        let headers = &admitted.parts.headers;
        let served = matches!(admitted.operation.name, "GetObject" | "HeadObject")
            && !admitted.address.query.has("versionId")
            && admitted.caller.main_keys().is_none()
            && !headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
        let spare = || Spare {
            object: ObjectKey::new(bucket, key),
            outgoing: Outgoing {
                method: admitted.parts.method.clone(),
                path: path_style(Some(&format!("{}{bucket}", fallback.prefix)), Some(key)),
                query: admitted.address.query.canonical(),
                headers: headers.clone(),
                payload: UNSIGNED_PAYLOAD,
                body: empty(),
                keys: None,
            },
        };
        served.then(|| Box::new(spare()))
    }

    /// Waits for main's answer to a read, with an end to its patience where there is a spare.
    pub(super) async fn send_read(
        &self,
        sending: impl Future<Output = Result<Response<Received>, SendError>>,
        spare: Option<Box<Spare>>,
        request_id: &str,
    ) -> Sent {
        let Some(spare) = spare else {
            return Sent::Main(sending.await);
        };
        let mut sending = pin!(sending);
        let sent = tokio::time::timeout(PATIENCE, &mut sending).await.ok();
        let away = match &sent {
            Some(Ok(response)) => matches!(response.status().as_u16(), 500 | 502 | 503 | 504),
            Some(Err(_)) | None => true,
        };
        if away && let Some(response) = Box::pin(self.read_mirror(*spare, request_id)).await {
            return Sent::Mirror(response);
        }
        match sent {
            Some(sent) => Sent::Main(sent),
            // Slow is not away for whom nobody else can serve.
            None => Sent::Main(sending.await),
        }
    }

    async fn read_mirror(&self, spare: Spare, request_id: &str) -> Option<Response<Received>> {
        let Spare { object, outgoing } = spare;
        if !self.journal.is_mirrored(&object).await {
            return None;
        }
        let mirror = &self.fallback.as_ref()?.mirror;
        let sent = tokio::time::timeout(PATIENCE, mirror.send(outgoing)).await;
        let mut response = sent.ok()?.ok()?;
        let answers = response.status().is_success()
            || matches!(
                response.status(),
                StatusCode::NOT_MODIFIED
                    | StatusCode::PRECONDITION_FAILED
                    | StatusCode::RANGE_NOT_SATISFIABLE
            );
        if !answers {
            return None;
        }
        // The mirror's versions are its own.
        response.headers_mut().remove("x-amz-version-id");
        response.headers_mut().insert(SERVED_BY, HeaderValue::from_static("mirror"));
        self.metrics.fallback_reads.inc();
        tracing::warn!(
            bucket = &*object.bucket,
            key = &*object.key,
            request_id,
            message = "served from the mirror, because main does not answer"
        );
        Some(response)
    }
}

/// Who answered.
pub(super) enum Sent {
    Main(Result<Response<Received>, SendError>),
    Mirror(Response<Received>),
}
