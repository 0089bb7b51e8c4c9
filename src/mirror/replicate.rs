//! Bringing one key of the mirror to main's current state.
//!
//! # Why this converges
//! A copy reads main, writes the mirror, and then (the *fence*) reads main again. If main moved
//! on meanwhile, it copies anew. Whoever copies last therefore copied a state that main still had
//! after the copy; any later change of main has an entry of its own. With `FENCE=overlap` the
//! second reading is left out where no other write of the key overlapped, which is right only
//! for a proxy that is the only writer.
//!
//! # Idempotent
//! Every step may be repeated at any time by anybody: it only ever writes what main is now.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use http::header::{CONTENT_TYPE, HeaderValue};

use super::apply::sent_tags;
use super::deletes::{Deletes, Judgement};
use super::retry::{Failure, Heard};
use super::uploads::Uploads;
use super::versioning::Versioning;
use super::versions::Seen;
use super::write::{Tags, Writer};
use crate::config::{Fence, STANDARD, StorageClasses};
use crate::journal::Work;
use crate::journal::entry::Facts;
use crate::s3::operation::Change;
use crate::s3::state::ObjectState;
use crate::tee::TeedBody;
use crate::upstream::Upstream;
use crate::upstream::read::{ReadError, Reader};

/// Copies in a row of a key that keeps changing, before others get their turn.
pub(super) const ROUNDS: u32 = 4;
/// The object, or `None` where there is none.
type Presence = Option<ObjectState>;

/// Copies keys.
pub(super) struct Replicator {
    pub(super) main: Arc<Upstream>,
    pub(super) mirror: Arc<Upstream>,
    pub(super) writer: Writer,
    pub(super) naming: Naming,
    pub(super) fence: Fence,
    /// The media type main stores when a client names none, once that has been seen.
    pub(super) default_type: ArcSwapOption<HeaderValue>,
    /// What becomes of deletes; without it nothing is deleted.
    pub(super) deletes: Option<Arc<Deletes>>,
    pub(super) storage_classes: StorageClasses,
    /// Are access control lists copied?
    pub(super) acl: bool,
    /// Are retention and legal holds copied?
    pub(super) object_lock: bool,
    /// Largest object that is sent in one request.
    pub(super) put_bytes_max: u64,
    /// Which uploads have been begun.
    pub(super) uploads: Arc<Uploads>,
    /// Which buckets have versions; without it only the current state of a key is copied.
    pub(super) versioning: Option<Arc<Versioning>>,
}

/// What is read of main: what a key is now, or one of its versions.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) work: &'a Work,
    pub(super) version: Option<&'a str>,
    /// Has nothing been tried yet? Then the tags are those that came with the kept body, if their
    /// number is that; later others may have changed them, and their values are asked for.
    pub(super) is_first: bool,
}

impl<'a> From<&'a Work> for Subject<'a> {
    fn from(work: &'a Work) -> Self {
        Self { work, version: None, is_first: work.entry.attempts == 0 }
    }
}

/// How the bucket that is written is named after the one that is read.
pub(super) enum Naming {
    /// With this before it.
    With(String),
    /// Without what it begins with.
    Without(String),
}

impl Naming {
    pub(super) fn of(&self, bucket: &str) -> String {
        match self {
            Self::With(prefix) => format!("{prefix}{bucket}"),
            Self::Without(prefix) => bucket.strip_prefix(prefix).unwrap_or(bucket).to_owned(),
        }
    }
}

/// What became of a key.
#[derive(Debug)]
pub(super) enum Done {
    /// The mirror is as it should be.
    Replicated(Replicated),
    /// Main no longer has it, and the mirror follows later.
    Held {
        /// When, milliseconds since 1970.
        due_ms: i64,
        /// Why not now.
        reason: String,
    },
    /// The mirror is as it should be but for versions that main has no more.
    Spared {
        /// What the mirror holds now.
        done: Replicated,
        /// Its versions that are to be deleted.
        condemned: Vec<String>,
        /// When, milliseconds since 1970.
        due_ms: i64,
        /// Why not now.
        reason: String,
    },
}

impl Done {
    /// What this says about whether the mirror can be reached.
    pub(super) fn heard(&self) -> Heard {
        match self {
            Self::Held { .. } => Heard::Nothing,
            Self::Replicated(done) if done.facts.kept_on_mirror => Heard::Nothing,
            Self::Replicated(_) | Self::Spared { .. } => Heard::Answer,
        }
    }
}

/// What the mirror holds now.
#[derive(Debug)]
pub(super) struct Replicated {
    /// Main's state, as far as known.
    pub(super) facts: Arc<Facts>,
    /// Bytes that were sent.
    pub(super) bytes: u64,
    /// Does it keep the versions of the key?
    pub(super) in_versions: bool,
}

impl Replicator {
    /// Brings the key of `work` to main's current state. `large`: whatever its size.
    pub(super) async fn replicate(&self, work: &Work, large: bool) -> Result<Done, Failure> {
        if work.entry.object.is_bucket() {
            return self.replicate_bucket(work).await;
        }
        let body = match &work.body {
            Some(body) if body.whole().await => Some(body),
            _ => None,
        };
        if self.keeps_versions(work, Seen::Nothing).await? {
            // Boxed, as what is rare: the others' futures are moved with every key.
            return Box::pin(self.replicate_versions(work, body, large)).await;
        }
        let mut assumed = self.assume(work, body);
        let trusted = assumed.is_some();
        let mut bytes = 0;
        for round in 0..ROUNDS {
            let state = if let Some(state) = assumed.take() {
                state
            } else {
                let state = self.main(work).head().await?;
                if self.keeps_versions(work, Seen::Now(state.as_ref())).await? {
                    return Box::pin(self.replicate_versions(work, body, large)).await;
                }
                state
            };
            if state.is_none() {
                if !(trusted && round == 0) {
                    match Box::pin(self.main(work).is_surely_absent()).await {
                        Err(ReadError::Moved) => continue,
                        surely => surely?,
                    }
                }
                if let Some(done) = self.spare(work).await {
                    return Ok(done);
                }
            }
            let from = Subject { is_first: round == 0 && work.entry.attempts == 0, ..work.into() };
            let applied = match self.apply(from, body, state.as_ref(), large).await {
                Ok(applied) => applied,
                Err(Failure::Moved) => continue,
                Err(failure) => return Err(failure),
            };
            bytes += applied.bytes;
            let acl = match &state {
                Some(_) => match self.copy_acl(work, applied.written).await {
                    Ok(acl) => acl,
                    Err(Failure::Moved) => continue,
                    Err(failure) => return Err(failure),
                },
                None => None,
            };
            let alone = self.fence == Fence::Overlap && !work.entry.overlapped;
            if alone && trusted && round == 0 {
                let facts = told(&work.entry.facts, state.as_ref());
                return Ok(Done::Replicated(Replicated { facts, bytes, in_versions: false }));
            }
            let now = self.main(work).head().await?;
            self.learn_default_type(work, body, now.as_ref());
            let still = match (&state, &now) {
                (Some(state), Some(now)) => {
                    state.same_content(now)
                        && self.class(state) == self.class(now)
                        && self.same_lock(state, now)
                        && self.tags_still(work, now, &applied.tags).await?
                        && self.acl_still(work, acl).await?
                }
                (None, None) => true,
                _ => false,
            };
            if still {
                let facts = Arc::new(Facts::observed(now.as_ref()));
                return Ok(Done::Replicated(Replicated { facts, bytes, in_versions: false }));
            }
            assumed = Some(now);
        }
        Err(Failure::Transient("the key keeps changing on main".into()))
    }

    /// What becomes of a key that main no longer has, unless it is deleted now.
    pub(super) async fn spare(&self, work: &Work) -> Option<Done> {
        let judgement = match &self.deletes {
            Some(deletes) => deletes.judge(&work.entry, work.entry.ripe).await,
            None => Judgement::Keep,
        };
        match judgement {
            Judgement::Delete => None,
            Judgement::Hold { due_ms, reason } => Some(Done::Held { due_ms, reason }),
            Judgement::Keep => {
                let facts = Facts { absent: true, kept_on_mirror: true, ..Facts::default() };
                Some(Done::Replicated(Replicated {
                    facts: Arc::new(facts),
                    bytes: 0,
                    in_versions: false,
                }))
            }
        }
    }

    pub(super) fn main<'a>(&'a self, from: impl Into<Subject<'a>>) -> Reader<'a> {
        let Subject { work, version, .. } = from.into();
        let object = &work.entry.object;
        let (bucket, key) = (&*object.bucket, Some(&*object.key));
        Reader { upstream: &self.main, who: "main", bucket, key, version }
    }

    /// What main must be now if nothing else happened: known without asking for a delete, and
    /// for a write whose body was kept.
    pub(super) fn assume(&self, work: &Work, body: Option<&TeedBody>) -> Option<Presence> {
        let entry = &work.entry;
        // What was set aside is too old to act on without a question, and so is a delete that was read
        // from disk or raced another write: a newer write of the key may be on the mirror already.
        if entry.unknown || entry.ripe || (entry.overlapped && entry.change == Change::Delete) {
            return None;
        }
        // Others may have changed the tags while it was tried.
        if entry.attempts > 0 && body.is_some_and(|body| body.headers().tagging.is_some()) {
            return None;
        }
        // A bucket may lock what its client did not.
        if self.object_lock && entry.change != Change::Delete {
            return None;
        }
        match (entry.change, body) {
            (Change::Delete, _) if entry.facts.absent => Some(None),
            (Change::Put | Change::Complete, Some(body)) => {
                let mut headers = body.headers().replicated.clone();
                if body.headers().content_type().is_none() {
                    // Known of plain uploads only.
                    if entry.change == Change::Complete {
                        return None;
                    }
                    let default = self.default_type.load_full()?;
                    headers.push((CONTENT_TYPE, HeaderValue::clone(&default)));
                    headers.sort_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
                }
                Some(Some(ObjectState {
                    etag: entry.facts.etag.clone()?,
                    size: body.length(),
                    last_modified: None,
                    version_id: None,
                    headers,
                    tag_count: u32::try_from(sent_tags(body).len()).ok()?,
                    storage_class: body.headers().storage_class.clone().filter(|c| c != STANDARD),
                    checksum: body.headers().checksum.clone(),
                    lock: Vec::new(),
                }))
            }
            _ => None,
        }
    }

    pub(super) fn learn_default_type(
        &self,
        work: &Work,
        body: Option<&TeedBody>,
        now: Option<&ObjectState>,
    ) {
        let untyped = body.is_some_and(|body| body.headers().content_type().is_none());
        if let Some(now) = now
            && untyped
            && work.entry.change == Change::Put
            && work.entry.facts.etag.as_ref() == Some(&now.etag)
            && let Some((_, stored)) = now.headers.iter().find(|(name, _)| name == CONTENT_TYPE)
        {
            self.default_type.store(Some(Arc::new(stored.clone())));
        }
    }

    /// Are main's tags still those that were copied? Their number is in the state; their values
    /// have to be asked for.
    pub(super) async fn tags_still(
        &self,
        work: &Work,
        now: &ObjectState,
        copied: &Tags,
    ) -> Result<bool, Failure> {
        Ok(now.tag_count == 0 || self.main(work).tags().await? == copied)
    }
}

/// What a write was told to be, and nobody else has written since.
fn told(told: &Arc<Facts>, state: Option<&ObjectState>) -> Arc<Facts> {
    let mut facts = told.clone();
    if facts.versions.is_some() {
        Arc::make_mut(&mut facts).versions = None;
    }
    if let Some(state) = state
        && facts.content_type.is_none()
    {
        // The client named no type; what main stores then is known here.
        Arc::make_mut(&mut facts).content_type = Some(state.content_type().to_owned());
    }
    facts
}
