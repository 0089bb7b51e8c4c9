//! Before the first day: what will this main, this mirror and this database do with our requests?
//!
//! # Promises
//! - Written is only below a prefix of its own, in a named bucket, or in a bucket it makes.
//! - All of it is removed: at the end, after a failure, and when a person ends it. What could not
//!   be removed is named.
//! - No setting is changed, and nothing that was there is read, but the names of buckets.
//!
//! # Layout
//! `call` sends one request and remembers what it may have made; `probes` are the questions;
//! `cleanup` takes everything back; `judge` and `outlook` (pure) put it in words.

mod call;
mod cleanup;
mod database;
pub mod finding;
mod judge;
pub mod outlook;
mod probes;
mod stop;

use crate::upstream::Upstream;
use crate::upstream::read::Reader;
use call::Patient;
pub use database::{database, sqlite};
use finding::{Finding, Level, Probe, Side};
pub use stop::Stop;

/// What every bucket and every prefix of ours begins with.
const NAME: &str = "s3-mirror-doctor";

/// Where one service is looked at.
#[derive(Debug, Clone)]
pub struct Place {
    /// A bucket of that service to write in; without it, or where it is not there, one is made.
    pub bucket: Option<String>,
    /// Must the named bucket be there? The mirror's are made when they are needed.
    pub bucket_required: bool,
    /// The bucket that is made.
    pub own_bucket: String,
    /// Below what everything is written.
    pub prefix: String,
}

impl Place {
    /// A place with names that nobody else has. `bucket_prefix` begins the name of the own bucket.
    pub fn new(bucket: Option<String>, bucket_required: bool, bucket_prefix: &str) -> Self {
        let random = fastrand::u64(..);
        Self {
            bucket,
            bucket_required,
            own_bucket: format!("{bucket_prefix}{NAME}-{random:016x}"),
            prefix: format!(".{NAME}/{random:016x}/"),
        }
    }

    /// Where something may be left when it cannot be cleaned up.
    pub fn traces(&self) -> String {
        let named = self
            .bucket
            .as_ref()
            .map(|bucket| format!("in bucket `{bucket}` below `{}`, or ", self.prefix));
        format!("{}bucket `{}`", named.unwrap_or_default(), self.own_bucket)
    }
}

/// Looks at one S3 service, and leaves it as it was.
pub async fn service(
    side: Side,
    upstream: &Upstream,
    place: Place,
    stop: &Stop,
    tell: &mut dyn FnMut(Finding),
) {
    if let Err(error) = upstream.provider().current().await {
        let what = error.to_string();
        return tell(Finding::new(side, Probe::Credentials, Level::Fails, what));
    }
    let mut patient = Patient::new(side, upstream, place, stop);
    if !patient.reach(tell).await {
        return;
    }
    if patient.bucket(tell).await {
        patient.look(tell).await;
    }
    patient.clean(tell).await;
}

/// Are the versions of a bucket of main kept in its copy on the mirror? `None`: it has none, or
/// nobody tells.
pub async fn versions(
    (main, bucket): (&Upstream, &str),
    (mirror, copy): (&Upstream, &str),
    enabled: bool,
) -> Option<Finding> {
    let main = Reader { upstream: main, who: "main", bucket, key: None, version: None };
    let mirror = Reader { upstream: mirror, who: "mirror", bucket: copy, key: None, version: None };
    main.versioning().await.ok()??;
    let kept = mirror.versioning().await.ok()?;
    Some(judge::versions_kept(enabled, kept.as_deref()))
}
