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

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use base64::Engine as _;
use futures_util::stream::TryStreamExt as _;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;

use super::deletes::{Deletes, Judgement};
use super::large::LARGE_BYTES;
use super::retry::Failure;
use super::uploads::Uploads;
use super::versioning::Versioning;
use super::versions::Seen;
use super::write::{Headers, Place, Tags, Writer, bucket_missing};
use crate::config::{Fence, STANDARD, StorageClasses};
use crate::journal::Work;
use crate::journal::entry::{Facts, PartLayout};
use crate::s3::address::Query;
use crate::s3::operation::Change;
use crate::s3::state::ObjectState;
use crate::tee::TeedBody;
use crate::upstream::read::Reader;
use crate::upstream::{Body, Upstream, full, sized};

/// Copies in a row of a key that keeps changing, before others get their turn.
pub(super) const ROUNDS: u32 = 4;
/// Tries to remove a bucket that is not empty yet although no key of it is on its way any more. Other
/// proxies may still be at it, for most of a minute; the only one waits for a delete that lands late.
const EMPTY_BUCKET_TRIES: u32 = 8;
const EMPTY_BUCKET_TRIES_ALONE: u32 = 3;

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
    pub(super) versioning: Option<Versioning>,
}

/// What is read of main: what a key is now, or one of its versions.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) work: &'a Work,
    pub(super) version: Option<&'a str>,
}

impl<'a> From<&'a Work> for Subject<'a> {
    fn from(work: &'a Work) -> Self {
        Self { work, version: None }
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

/// What one copy wrote.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) bytes: u64,
    /// Was the object made anew?
    pub(super) written: bool,
    pub(super) tags: Vec<(String, String)>,
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

/// What the mirror holds now.
#[derive(Debug)]
pub(super) struct Replicated {
    /// Main's state, as far as known.
    pub(super) facts: Facts,
    /// Bytes that were sent.
    pub(super) bytes: u64,
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
            if state.is_none()
                && let Some(done) = self.spare(work).await
            {
                return Ok(done);
            }
            let applied = match self.apply(work, body, state.as_ref(), large).await {
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
                let mut facts = work.entry.facts.clone();
                facts.versions = None;
                if let Some(state) = &state {
                    // The client may have named no type; what main stores then is known here.
                    facts.content_type.get_or_insert_with(|| state.content_type().to_owned());
                }
                return Ok(Done::Replicated(Replicated { facts, bytes }));
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
                let facts = Facts::observed(now.as_ref());
                return Ok(Done::Replicated(Replicated { facts, bytes }));
            }
            assumed = Some(now);
        }
        Err(Failure::Transient("the key keeps changing on main".into()))
    }

    /// The bucket itself came or went. Objects make their bucket on the mirror when they need
    /// it; this is for buckets that have none yet, or no more.
    async fn replicate_bucket(&self, work: &Work) -> Result<Done, Failure> {
        let bucket = self.naming.of(&work.entry.object.bucket);
        for _ in 0..ROUNDS {
            let exists = self.main(work).bucket_exists().await?;
            if exists {
                self.writer.create_bucket(&bucket).await?;
            } else {
                if let Some(done) = self.spare(work).await {
                    return Ok(done);
                }
                match self.writer.delete_bucket(&bucket).await {
                    Err(failure) if failure.code() == "BucketNotEmpty" => {
                        let is_soon = self.is_soon_empty(work).await;
                        return Err(failure.judged(!is_soon));
                    }
                    done => done?,
                }
            }
            if self.main(work).bucket_exists().await? == exists {
                let facts = Facts::default();
                return Ok(Done::Replicated(Replicated { facts, bytes: 0 }));
            }
        }
        Err(Failure::Transient("the bucket keeps changing on main".into()))
    }

    /// Deletes of a bucket's objects may still be under way; once they are not, what keeps the
    /// bucket is not ours to remove.
    async fn is_soon_empty(&self, work: &Work) -> bool {
        let tries = match self.fence {
            Fence::Always => EMPTY_BUCKET_TRIES,
            Fence::Overlap => EMPTY_BUCKET_TRIES_ALONE,
        };
        if work.entry.attempts < tries {
            return true;
        }
        match &self.deletes {
            Some(deletes) => deletes.are_under_way(&work.entry.object.bucket).await,
            None => false,
        }
    }

    /// What becomes of a key that main no longer has, unless it is deleted now.
    pub(super) async fn spare(&self, work: &Work) -> Option<Done> {
        let judgement = match &self.deletes {
            Some(deletes) => deletes.judge(&work.entry.object, work.entry.ripe).await,
            None => Judgement::Keep,
        };
        match judgement {
            Judgement::Delete => None,
            Judgement::Hold { due_ms, reason } => Some(Done::Held { due_ms, reason }),
            Judgement::Keep => {
                let facts = Facts { absent: true, kept_on_mirror: true, ..Facts::default() };
                Some(Done::Replicated(Replicated { facts, bytes: 0 }))
            }
        }
    }

    pub(super) fn main<'a>(&'a self, from: impl Into<Subject<'a>>) -> Reader<'a> {
        let Subject { work, version } = from.into();
        let object = &work.entry.object;
        let (bucket, key) = (&*object.bucket, Some(&*object.key));
        Reader { upstream: &self.main, who: "main", bucket, key, version }
    }

    /// What main must be now if nothing else happened: known without asking for a delete, and
    /// for a write whose body was kept.
    pub(super) fn assume(&self, work: &Work, body: Option<&TeedBody>) -> Option<Presence> {
        let entry = &work.entry;
        // What was set aside is too old to act on without a question.
        if entry.unknown || entry.ripe {
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

    /// Makes the mirror this state; returns how many bytes that took.
    pub(super) async fn apply(
        &self,
        work: &Work,
        body: Option<&TeedBody>,
        state: Option<&ObjectState>,
        large: bool,
    ) -> Result<Applied, Failure> {
        let bucket = self.naming.of(&work.entry.object.bucket);
        let key = &*work.entry.object.key;
        let Some(state) = state else {
            self.writer.delete(Place { bucket: &bucket, key }).await?;
            return Ok(Applied::default());
        };
        let place = Place { bucket: &bucket, key };
        match self.apply_present(work.into(), body, state, place, large).await {
            Err(failure) if bucket_missing(&failure) => {
                self.writer.create_bucket(&bucket).await?;
                self.apply_present(work.into(), body, state, place, large).await
            }
            result => result,
        }
    }

    /// Makes the mirror hold this state. One version of a key is written whatever the mirror has.
    pub(super) async fn apply_present(
        &self,
        from: Subject<'_>,
        body: Option<&TeedBody>,
        state: &ObjectState,
        place: Place<'_>,
        large: bool,
    ) -> Result<Applied, Failure> {
        let work = from.work;
        let kept = body.filter(|_| work.entry.facts.etag.as_ref() == Some(&state.etag));
        let tags = match kept {
            _ if state.tag_count == 0 && work.entry.change != Change::Tagging => Vec::new(),
            Some(body)
                if sent_tags(body).len() == usize::try_from(state.tag_count).unwrap_or(0) =>
            {
                sent_tags(body)
            }
            _ => self.main(from).tags().await?,
        };
        // A change that need not have touched the bytes, or may not have happened: perhaps the
        // mirror has them already.
        if kept.is_none()
            && from.version.is_none()
            && let Some(there) = self.mirror_state(place).await?
            && there.same_bytes(state)
            && there.headers == state.headers
            && self.class(state).is_none_or(|wanted| wanted == class(&there))
        {
            // Where neither has tags there is nothing to write, and perhaps no tagging at all.
            if there.tag_count > 0 || !tags.is_empty() {
                self.writer.tag(place, &tags).await?;
            }
            self.copy_lock(place, state, &there).await?;
            return Ok(Applied { bytes: 0, written: false, tags });
        }
        if !large && state.size >= LARGE_BYTES {
            return Err(Failure::Large);
        }
        if let Some(parts) = kept.and_then(TeedBody::parts) {
            let layout = PartLayout::new(parts.iter().map(TeedBody::length), None);
            self.copy_parts(from, state, &layout, Some(parts), (place, &tags)).await?;
            return Ok(Applied { bytes: state.size, written: true, tags });
        }
        if let Some(body) = kept.filter(|body| body.length() <= self.put_bytes_max) {
            let bytes = kept_body(body);
            self.writer.put(place, &self.whole_headers(state)?, &tags, state.size, bytes).await?;
            return Ok(Applied { bytes: state.size, written: true, tags });
        }
        if let Some(layout) = self.layout(from, state).await? {
            self.copy_parts(from, state, &layout, None, (place, &tags)).await?;
        } else {
            let response = self.main(from).get(&state.etag, None).await?;
            let body = sized(response.into_body(), state.size);
            self.writer.put(place, &self.whole_headers(state)?, &tags, state.size, body).await?;
        }
        Ok(Applied { bytes: state.size, written: true, tags })
    }

    /// The storage class of the copy; `None` for the mirror's own choice.
    pub(super) fn class(&self, main: &ObjectState) -> Option<&str> {
        self.storage_classes.of(class(main))
    }

    /// What is sent beside the bytes.
    pub(super) fn headers<'s>(&self, state: &'s ObjectState) -> Result<Cow<'s, Headers>, Failure> {
        let class = self.class(state);
        if class.is_none() && (!self.object_lock || state.lock.is_empty()) {
            return Ok(Cow::Borrowed(&state.headers));
        }
        let mut headers = state.headers.clone();
        if let Some(class) = class {
            let value = HeaderValue::try_from(class)
                .map_err(|_| Failure::Permanent("the storage class cannot be sent".into()))?;
            headers.push((HeaderName::from_static("x-amz-storage-class"), value));
        }
        if self.object_lock {
            headers.extend(state.lock.iter().cloned());
        }
        Ok(Cow::Owned(headers))
    }

    /// What is sent beside the bytes where they are sent at once: what the mirror can check them by,
    /// too.
    fn whole_headers<'s>(&self, state: &'s ObjectState) -> Result<Cow<'s, Headers>, Failure> {
        let mut headers = self.headers(state)?;
        if let Some(checksum) = state.checksum.clone().filter(|_| self.writer.takes_checksums()) {
            headers.to_mut().push(checksum);
        } else if self.object_lock && !state.lock.is_empty() {
            // Locked objects are taken with a checksum only.
            headers.to_mut().extend(md5_header(state));
        }
        Ok(headers)
    }

    async fn mirror_state(&self, Place { bucket, key }: Place<'_>) -> Result<Presence, Failure> {
        self.writer.pace.request().await;
        let mirror =
            Reader { upstream: &self.mirror, who: "mirror", bucket, key: Some(key), version: None };
        Ok(mirror.head().await?)
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

/// `Content-MD5` by the `ETag` of an object that was uploaded in one piece.
fn md5_header(state: &ObjectState) -> Option<(HeaderName, HeaderValue)> {
    let md5 = hex::decode(&state.etag).ok().filter(|md5| md5.len() == 16)?;
    let md5 = base64::engine::general_purpose::STANDARD.encode(md5);
    Some((HeaderName::from_static("content-md5"), HeaderValue::try_from(md5).ok()?))
}

/// The storage class of an object by its name.
fn class(state: &ObjectState) -> &str {
    state.storage_class.as_deref().unwrap_or(STANDARD)
}

/// A kept body on its way to the mirror.
pub(super) fn kept_body(body: &TeedBody) -> Body {
    match body.bytes() {
        Some(bytes) => full(bytes.clone()),
        None => sized(StreamBody::new(Box::pin(body.stream().map_ok(Frame::data))), body.length()),
    }
}

/// The tags that were sent with a body, sorted.
fn sent_tags(body: &TeedBody) -> Vec<(String, String)> {
    let header = body.headers().tagging.as_deref();
    let query = header.and_then(|text| Query::parse(text).ok()).unwrap_or_default();
    let mut tags = query.into_pairs();
    tags.sort();
    tags
}
