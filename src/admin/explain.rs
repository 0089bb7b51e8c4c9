//! Everything that is known of one key, and the inventory page by page.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};

use super::Admin;
use super::answer::Fault;
use crate::inventory::browse::{Browser, Found, PAGE_MAX, Page, Wanted};
use crate::journal::entry::ObjectKey;
use crate::journal::now_ms;
use crate::journal::operator::Told;
use crate::s3::state::ObjectState;
use crate::upstream::read::{ReadError, Reader};

/// Rows of a page when nothing is said.
const PAGE: u32 = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    bucket: String,
    key: String,
    /// Ask main and mirror too: one HEAD each.
    #[serde(default)]
    compare: bool,
}

/// `GET /api/v1/explain`
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    bucket: String,
    key: String,
    /// Milliseconds since 1970.
    now_ms: i64,
    /// One line for a person.
    summary: String,
    /// Changes on their way, the newest first.
    entries: Vec<Told>,
    /// When the key is looked at once more, milliseconds since 1970.
    rechecks_ms: Vec<i64>,
    /// The inventory's row.
    row: RowFound,
    /// When the mirror confirmed the state of the row; UTC.
    mirrored_at: String,
    /// When a verification last found both sides equal, since the key was mirrored; UTC.
    verified_at: String,
    /// Main and mirror now, if asked for.
    compared: Option<Compared>,
}

/// The inventory's word.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum RowFound {
    Row(Box<Found>),
    None,
    NoInventory,
    Unavailable(String),
}

#[derive(Debug, Serialize)]
struct Compared {
    main: Side,
    mirror: Side,
    /// Same bytes, content headers and number of tags? None: one of them did not answer.
    equal: Option<bool>,
    /// What differs.
    differences: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
enum Side {
    Present {
        bucket: String,
        etag: String,
        size: u64,
        last_modified: Option<String>,
        version_id: Option<String>,
        content_type: String,
        tags: u32,
    },
    Absent {
        bucket: String,
    },
    Unknown {
        bucket: String,
        error: String,
    },
}

impl Side {
    fn of(bucket: &str, state: &Result<Option<ObjectState>, ReadError>) -> Self {
        let bucket = bucket.to_owned();
        match state {
            Err(error) => Self::Unknown { bucket, error: error.to_string() },
            Ok(None) => Self::Absent { bucket },
            Ok(Some(state)) => Self::Present {
                bucket,
                etag: state.etag.clone(),
                size: state.size,
                last_modified: state.last_modified.and_then(|time| {
                    time.format(&time::format_description::well_known::Rfc3339).ok()
                }),
                version_id: state.version_id.clone(),
                content_type: state.content_type().to_owned(),
                tags: state.tag_count,
            },
        }
    }
}

const NOT_RECORDED: &str = "not recorded";

/// `GET /api/v1/explain`
pub(super) async fn explain(
    State(admin): State<Admin>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Explanation>, Fault> {
    let Query(Asked { bucket, key, compare }) = query?;
    if bucket.is_empty() {
        return Err(Fault::request("which bucket?"));
    }
    let parts = &admin.inner.parts;
    let explained = parts.journal.explain(&ObjectKey::new(&bucket, &key)).await?;
    let row = match &parts.browser {
        None => RowFound::NoInventory,
        Some(browser) => match browser.row(&bucket, &key).await {
            Ok(Some(row)) => RowFound::Row(Box::new(row)),
            Ok(None) => RowFound::None,
            Err(error) => RowFound::Unavailable(error.to_string()),
        },
    };
    let compared = if compare { Some(admin.compare(&bucket, &key).await) } else { None };
    let mirrored_at = match &row {
        RowFound::Row(row) => row.mirrored_at.clone(),
        _ => None,
    };
    // What is on its way has not been compared.
    let verified_at = if explained.entries.is_empty() {
        admin.verified_at(&bucket, &key, mirrored_at.as_deref()).await
    } else {
        None
    };
    Ok(Json(Explanation {
        now_ms: now_ms(),
        summary: summary(&explained.entries, &row, compared.as_ref()),
        entries: explained.entries,
        rechecks_ms: explained.rechecks_ms,
        mirrored_at: mirrored_at.unwrap_or_else(|| NOT_RECORDED.to_owned()),
        verified_at: verified_at.unwrap_or_else(|| NOT_RECORDED.to_owned()),
        row,
        compared,
        bucket,
        key,
    }))
}

impl Admin {
    async fn compare(&self, bucket: &str, key: &str) -> Compared {
        let parts = &self.inner.parts;
        let mirror_bucket = format!("{}{bucket}", parts.mirror_bucket_prefix);
        let key = Some(key).filter(|key| !key.is_empty());
        let main = Reader { upstream: &parts.main, who: "main", bucket, key, version: None };
        let mirror = Reader {
            upstream: &parts.mirror_service,
            who: "mirror",
            bucket: &mirror_bucket,
            key,
            version: None,
        };
        let (at_main, at_mirror) = tokio::join!(main.head(), mirror.head());
        let (equal, differences) = match (&at_main, &at_mirror) {
            (Ok(None), Ok(None)) => (Some(true), Vec::new()),
            (Ok(Some(main)), Ok(Some(mirror))) => {
                (Some(main.same_content(mirror)), differences(main, mirror))
            }
            (Ok(main), Ok(_)) => {
                let side = if main.is_some() { "main" } else { "the mirror" };
                (Some(false), vec![format!("only on {side}")])
            }
            _ => (None, Vec::new()),
        };
        Compared {
            main: Side::of(bucket, &at_main),
            mirror: Side::of(&mirror_bucket, &at_mirror),
            equal,
            differences,
        }
    }
}

fn differences(main: &ObjectState, mirror: &ObjectState) -> Vec<String> {
    let mut found = Vec::new();
    if main.etag != mirror.etag {
        found.push("ETag".to_owned());
    }
    if main.size != mirror.size {
        found.push("size".to_owned());
    }
    if main.tag_count != mirror.tag_count {
        found.push("number of tags".to_owned());
    }
    let names = main.headers.iter().chain(&mirror.headers).map(|(name, _)| name.as_str());
    let mut names: Vec<&str> = names
        .filter(|name| {
            let of = |state: &ObjectState| {
                state.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone())
            };
            of(main) != of(mirror)
        })
        .collect();
    names.dedup();
    found.extend(names.into_iter().map(|name| format!("header {name}")));
    found
}

/// The most important thing first.
fn summary(entries: &[Told], row: &RowFound, compared: Option<&Compared>) -> String {
    let of = |mirror: &str| entries.iter().find(|entry| entry.mirror == mirror);
    let error = |entry: &Told| entry.error.clone().unwrap_or_else(|| NOT_RECORDED.to_owned());
    if let Some(entry) = of("parked") {
        return format!("parked: the mirror will not get it by itself ({})", error(entry));
    }
    if let Some(entry) = entries.iter().find(|entry| entry.inventory == "parked") {
        return format!("its row is parked: the inventory cannot hold it ({})", error(entry));
    }
    if let Some(entry) = of("retrying") {
        return format!(
            "{} tries have failed; it is tried again ({})",
            entry.attempts,
            error(entry)
        );
    }
    if of("claimed").is_some() {
        return "it is being copied to the mirror now".to_owned();
    }
    if entries.iter().any(|entry| entry.outcome == "intent") {
        return "a request that may change it is under way".to_owned();
    }
    if of("waiting").is_some() {
        return "it waits for its first copy to the mirror".to_owned();
    }
    if let Some(entry) = of("held") {
        return format!("deleted on main, and kept on the mirror for now ({})", error(entry));
    }
    if of("done").is_some() {
        return "the mirror has confirmed it; its row of the inventory waits".to_owned();
    }
    if let Some(compared) = compared {
        return match compared.equal {
            Some(true) => "nothing waits; main and mirror are equal now".to_owned(),
            Some(false) => format!(
                "nothing waits, yet main and mirror differ ({}): it was changed behind the \
                 proxy's back, or before it came",
                compared.differences.join(", ")
            ),
            None => "nothing waits; main or mirror did not answer".to_owned(),
        };
    }
    match row {
        RowFound::Row(row) if row.is_backed_up => {
            "nothing waits; the mirror has confirmed it".to_owned()
        }
        RowFound::Row(_) => "nothing waits, yet its row says it is not mirrored".to_owned(),
        _ => "nothing waits for it; nothing more is recorded".to_owned(),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Browse {
    bucket: String,
    #[serde(default)]
    prefix: String,
    /// What keys have anywhere.
    #[serde(default)]
    contains: String,
    after: Option<String>,
    #[serde(default)]
    deleted: bool,
    #[serde(default)]
    pending: bool,
    limit: Option<u32>,
}

/// `GET /api/v1/inventory`
pub(super) async fn inventory(
    State(admin): State<Admin>,
    query: Result<Query<Browse>, QueryRejection>,
) -> Result<Json<Page>, Fault> {
    let Query(asked) = query?;
    let wanted = Wanted {
        bucket: asked.bucket,
        prefix: asked.prefix,
        contains: asked.contains,
        after: asked.after,
        deleted: asked.deleted,
        pending: asked.pending,
        limit: asked.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX),
    };
    Ok(Json(admin.browser()?.page(&wanted).await?))
}

impl Admin {
    fn browser(&self) -> Result<&Browser, Fault> {
        let browser = self.inner.parts.browser.as_deref();
        browser.ok_or_else(|| Fault::missing("there is no inventory: DISABLE_DATABASE is true"))
    }
}
