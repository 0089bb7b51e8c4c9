//! Asking both sides, and the inventory, about one key.

use std::time::Duration;

use http::Method;

use super::World;
use super::judge::{Copy, Verdict, compare};
use super::report::What;
use crate::inventory::read::StoredRow;
use crate::inventory::store::StoreError;
use crate::s3::state::{ObjectState, unquoted};
use crate::upstream::Upstream;
use crate::upstream::ask::{AskError, Question};
use crate::upstream::read::Reader;

/// Pauses before a question that was not answered is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));

/// An object as one side has it now.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) state: ObjectState,
    /// Is the `ETag` no hash of the content?
    pub(super) opaque: bool,
}

impl Seen {
    /// Reads the head of a `HEAD` or whole `GET` answer.
    pub(super) fn from_headers(headers: &http::HeaderMap) -> Option<Self> {
        let encryption = headers.get("x-amz-server-side-encryption");
        let by_key_service = encryption
            .and_then(|value| value.to_str().ok())
            .is_some_and(|value| value.starts_with("aws:kms"));
        let by_client = headers.contains_key("x-amz-server-side-encryption-customer-algorithm");
        let state = ObjectState::from_response(headers)?;
        Some(Self { state, opaque: by_key_service || by_client })
    }

    fn copy(&self) -> Copy<'_> {
        Copy { etag: &self.state.etag, size: self.state.size, opaque: self.opaque }
    }
}

/// One key as it is now.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) main: Option<Seen>,
    pub(super) mirror: Option<Seen>,
    row: Option<StoredRow>,
    has_inventory: bool,
}

impl Examined {
    /// How the two sides compare; `None` where there is no object on either.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        Some(compare(self.main.as_ref()?.copy(), self.mirror.as_ref()?.copy()))
    }

    /// How the key is not in step, if it is not. What the mirror lacks weighs more than what the
    /// inventory does.
    pub(super) fn what(&self) -> Option<What> {
        match (&self.main, &self.mirror) {
            (Some(_), None) => return Some(What::OnlyMain),
            (None, Some(_)) => return Some(What::OnlyMirror),
            _ if self.verdict() == Some(Verdict::Different) => return Some(What::Content),
            _ => {}
        }
        if !self.has_inventory {
            return None;
        }
        let main = self.main.as_ref().map(|seen| (seen.state.etag.as_str(), seen.state.size));
        row_fault(main, self.row.as_ref(), self.verdict() == Some(Verdict::Same))
    }
}

/// How a row does not tell what main has (`ETag`, size). `mirrored`: the mirror has the same.
pub(super) fn row_fault(
    main: Option<(&str, u64)>,
    row: Option<&StoredRow>,
    mirrored: bool,
) -> Option<What> {
    let row = row.filter(|row| !row.deleted);
    match (main, row) {
        (None, None) => None,
        (None, Some(_)) => Some(What::RowExtra),
        (Some(_), None) => Some(What::RowMissing),
        (Some((etag, size)), Some(row)) => {
            let known = row.etag.as_deref().map(unquoted);
            let differs = row.size != size
                || known.is_some_and(|known| !etag.is_empty() && known != etag)
                || (mirrored && !row.is_backed_up);
            differs.then_some(What::RowDiffers)
        }
    }
}

impl World {
    /// Asks everybody about one key of main. Waits for whoever is away.
    pub(super) async fn examine(&self, bucket: &str, key: &str) -> Result<Examined, String> {
        let there = self.mirror_bucket(bucket);
        let (main, mirror) = tokio::join!(
            head(&self.main, "main", bucket, key),
            head(&self.mirror, "mirror", &there, key)
        );
        let mut row = None;
        if self.store.is_some() {
            row = self.rows(bucket, &[key]).await?.pop();
        }
        let has_inventory = self.store.is_some();
        Ok(Examined { main: main?, mirror: mirror?, row, has_inventory })
    }

    /// The inventory's rows of some keys. Waits for a database that is away.
    pub(super) async fn rows(&self, bucket: &str, keys: &[&str]) -> Result<Vec<StoredRow>, String> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        patiently(|| store.lookup(bucket, keys), StoreError::is_transient)
            .await
            .map_err(|error| error.to_string())
    }

    /// The next page of the inventory's rows of a bucket. Waits for a database that is away.
    pub(super) async fn scan(&self, bucket: &str, after: i64) -> Result<Vec<StoredRow>, String> {
        let Some(store) = &self.store else { return Ok(Vec::new()) };
        patiently(|| store.scan(bucket, after), StoreError::is_transient)
            .await
            .map_err(|error| error.to_string())
    }
}

/// The object now, or `None` when there is none.
async fn head(
    upstream: &Upstream,
    who: &'static str,
    bucket: &str,
    key: &str,
) -> Result<Option<Seen>, String> {
    let what = "HeadObject";
    let ask = || async {
        let question = Question::bare(what, Method::HEAD, Some(bucket), Some(key));
        let answer = upstream.ask(question).await?;
        if answer.status == http::StatusCode::NOT_FOUND {
            return absent(upstream, who, bucket, key).await.map(|()| None);
        }
        let answer = answer.success(what)?;
        Seen::from_headers(&answer.headers)
            .map(Some)
            .ok_or_else(|| AskError::Unusable(format!("{what}: the answer has no ETag")))
    };
    patiently(ask, AskError::is_transient).await.map_err(|error| format!("{who}: {error}"))
}

/// Makes sure that a 404 was the word of an S3.
pub(super) async fn absent(
    upstream: &Upstream,
    who: &'static str,
    bucket: &str,
    key: &str,
) -> Result<(), AskError> {
    let reader = Reader { upstream, who, bucket, key: Some(key), version: None };
    reader.is_surely_absent().await.map_err(|error| AskError::Unreachable(error.to_string()))
}

/// Asks until there is an answer, or a refusal that waiting does not change.
pub(super) async fn patiently<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(
    ask: impl Fn() -> F,
    is_transient: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut pause = PAUSES.0;
    loop {
        match ask().await {
            Err(error) if is_transient(&error) => {
                tracing::warn!(%error, "a job waits");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(etag: &str, size: u64, is_backed_up: bool, deleted: bool) -> StoredRow {
        StoredRow {
            id: 1,
            path: "k".into(),
            size,
            content_type: "text/plain".into(),
            last_modified: "2026-11-21T00:00:00Z".into(),
            etag: Some(etag.into()),
            version_id: None,
            is_backed_up,
            deleted,
        }
    }

    #[test]
    fn a_row_tells_what_main_has_or_is_at_fault() {
        let main = Some(("e", 1));
        assert_eq!(row_fault(main, Some(&row("e", 1, true, false)), true), None);
        assert_eq!(row_fault(main, Some(&row("\"e\"", 1, true, false)), true), None);
        let known_without_etag = StoredRow { etag: None, ..row("", 1, true, false) };
        assert_eq!(row_fault(main, Some(&known_without_etag), true), None);
        assert_eq!(row_fault(main, None, true), Some(What::RowMissing));
        assert_eq!(row_fault(main, Some(&row("e", 1, true, true)), true), Some(What::RowMissing));
        assert_eq!(row_fault(main, Some(&row("f", 1, true, false)), true), Some(What::RowDiffers));
        assert_eq!(row_fault(main, Some(&row("e", 2, true, false)), true), Some(What::RowDiffers));
        assert_eq!(row_fault(None, Some(&row("e", 1, true, false)), false), Some(What::RowExtra));
        assert_eq!(row_fault(None, Some(&row("e", 1, true, true)), false), None);
    }

    #[test]
    fn a_row_that_denies_a_copy_that_is_there_is_at_fault() {
        let denies = row("e", 1, false, false);
        assert_eq!(row_fault(Some(("e", 1)), Some(&denies), true), Some(What::RowDiffers));
        assert_eq!(row_fault(Some(("e", 1)), Some(&denies), false), None);
    }
}
