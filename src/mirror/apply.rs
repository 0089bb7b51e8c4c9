//! Making the mirror hold one state of a key: the bytes in one request or in parts, or only tags where
//! it has them already.
//!
//! Every step may be repeated at any time by anybody.

use std::borrow::Cow;

use base64::Engine as _;
use futures_util::stream::TryStreamExt as _;
use http::header::{HeaderName, HeaderValue};
use http_body::Frame;
use http_body_util::StreamBody;
use time::OffsetDateTime;

use super::large::LARGE_BYTES;
use super::lock::lasting;
use super::refusals::may_be_about_checksum;
use super::replicate::{Replicator, Subject};
use super::retry::Failure;
use super::write::{Headers, Place, Tags, Written, bucket_missing};
use crate::config::STANDARD;
use crate::journal::Work;
use crate::journal::entry::PartLayout;
use crate::s3::address::Query;
use crate::s3::operation::Change;
use crate::s3::state::ObjectState;
use crate::tee::TeedBody;
use crate::upstream::read::Reader;
use crate::upstream::{Body, copied, full, sized};

/// What one copy wrote.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) bytes: u64,
    /// Was the object made anew?
    pub(super) written: bool,
    pub(super) tags: Vec<(String, String)>,
}

impl Replicator {
    /// Makes the mirror this state; returns how many bytes that took.
    pub(super) async fn apply(
        &self,
        from: Subject<'_>,
        body: Option<&TeedBody>,
        state: Option<&ObjectState>,
        large: bool,
    ) -> Result<Applied, Failure> {
        let object = &from.work.entry.object;
        let (bucket, key) = (self.naming.of(&object.bucket), &*object.key);
        let Some(state) = state else {
            self.writer.delete(Place { bucket: &bucket, key }).await?;
            return Ok(Applied::default());
        };
        let place = Place { bucket: &bucket, key };
        match self.apply_present(from, body, state, place, large).await {
            Err(failure) if bucket_missing(&failure) => {
                self.writer.create_bucket(&bucket).await?;
                self.apply_present(from, body, state, place, large).await
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
                if from.is_first
                    && sent_tags(body).len() == usize::try_from(state.tag_count).unwrap_or(0) =>
            {
                sent_tags(body)
            }
            _ => self.main(from).tags().await?,
        };
        // A change that need not have touched the bytes, or may not have happened: perhaps the
        // mirror has them already.
        if kept.is_none()
            && from.version.is_none()
            && let Some(there) = self.copy_of(from, state, place).await?
            && there.same_bytes(state)
            && there.headers == state.headers
            && self.class(state).is_none_or(|wanted| wanted == class(&there))
        {
            self.copy_tags(work, place, &tags, &there).await?;
            self.copy_lock(place, state, &there).await?;
            return Ok(Applied { bytes: 0, written: false, tags });
        }
        if !large && state.size >= LARGE_BYTES {
            return Err(Failure::Large);
        }
        if let Some(parts) = kept.and_then(TeedBody::parts) {
            let layout = PartLayout::new(parts.iter().map(TeedBody::length), None);
            let made = self.copy_parts(from, state, &layout, Some(parts), (place, &tags)).await?;
            self.note_copy(from, state, || made);
            return Ok(Applied { bytes: state.size, written: true, tags });
        }
        let whole = kept.filter(|body| body.length() <= self.put_bytes_max);
        match whole {
            Some(_) => self.put_whole(from, whole, state, (place, &tags)).await?,
            None => match self.layout(from, state).await? {
                Some(layout) => {
                    let to = (place, &*tags);
                    let made = self.copy_parts(from, state, &layout, None, to).await?;
                    self.note_copy(from, state, || made);
                }
                None => self.put_whole(from, None, state, (place, &tags)).await?,
            },
        }
        Ok(Applied { bytes: state.size, written: true, tags })
    }

    /// Gives the mirror's object, which is `there`, these tags.
    async fn copy_tags(
        &self,
        work: &Work,
        place: Place<'_>,
        tags: &Tags,
        there: &ObjectState,
    ) -> Result<(), Failure> {
        let is_told = there.tag_count > 0 || !tags.is_empty();
        // Where neither tells of tags there is nothing to write, and perhaps no tagging at all. But a
        // service does not tell their number to who may not read them.
        if !is_told && work.entry.change != Change::Tagging {
            return Ok(());
        }
        match self.writer.tag(place, tags).await {
            Err(failure) if !is_told && failure.is_permanent() => Ok(()),
            done => done,
        }
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
            headers.extend(lasting(state, OffsetDateTime::now_utc()).cloned());
        }
        Ok(Cow::Owned(headers))
    }

    /// Sends an object in one request, with what the mirror can check the bytes by. One that may not
    /// know the checksum is sent the same without it at once, and only if it takes that was it the
    /// checksum.
    async fn put_whole(
        &self,
        from: Subject<'_>,
        kept: Option<&TeedBody>,
        state: &ObjectState,
        to: (Place<'_>, &Tags),
    ) -> Result<(), Failure> {
        let refusals = &self.writer.refusals;
        let checksum = state.checksum.as_ref().filter(|(name, _)| refusals.takes(name));
        let sent = self.put_once(from, kept, state, checksum, to).await;
        match (sent, checksum) {
            (Err(failure), Some((name, _))) if may_be_about_checksum(&failure) => {
                self.put_once(from, kept, state, None, to).await?;
                refusals.note(name, &failure);
                Ok(())
            }
            (sent, _) => sent,
        }
    }

    async fn put_once(
        &self,
        from: Subject<'_>,
        kept: Option<&TeedBody>,
        state: &ObjectState,
        checksum: Option<&(HeaderName, HeaderValue)>,
        (place, tags): (Place<'_>, &Tags),
    ) -> Result<(), Failure> {
        let mut headers = self.headers(state)?;
        if let Some(checksum) = checksum {
            headers.to_mut().push(checksum.clone());
        } else if self.object_lock && !state.lock.is_empty() {
            // Locked objects are taken with a checksum only.
            headers.to_mut().extend(md5_header(state));
        }
        let body = if let Some(kept) = kept {
            kept_body(kept)
        } else {
            let response = self.main(from).get(&state.etag, None).await?;
            copied(response.into_body(), state.size)
        };
        let answer = self.writer.put(place, &headers, tags, state.size, body).await?;
        self.note_copy(from, state, || Written::told(&answer));
        Ok(())
    }

    /// Asks the mirror whether it is there.
    pub(super) async fn ask_mirror(&self, work: &Work) -> Result<(), Failure> {
        let bucket = &*self.naming.of(&work.entry.object.bucket);
        let upstream = &self.mirror;
        let mirror = Reader { upstream, who: "mirror", bucket, key: None, version: None };
        mirror.bucket_exists().await?;
        Ok(())
    }

    /// Has the mirror this state already, as far as it tells?
    pub(super) async fn is_there(&self, place: Place<'_>, state: &ObjectState) -> bool {
        let there = self.mirror_state(place).await.ok().flatten();
        there.is_some_and(|there| there.same_bytes(state) && there.headers == state.headers)
    }

    /// What the mirror has; what is known to be the copy of `state` has its `ETag`.
    async fn copy_of(
        &self,
        from: Subject<'_>,
        state: &ObjectState,
        place: Place<'_>,
    ) -> Result<Option<ObjectState>, Failure> {
        let mut there = self.mirror_state(place).await?;
        if let (Some(versioning), Some(there)) = (&self.versioning, &mut there) {
            versioning.copies.recognise_current(&from.work.entry.object, state, there);
        }
        Ok(there)
    }

    fn note_copy(&self, from: Subject<'_>, state: &ObjectState, made: impl FnOnce() -> Written) {
        if let Some(versioning) = &self.versioning
            && let Some(id) = from.version.or(state.version_id.as_deref())
        {
            versioning.copies.note(&from.work.entry.object, id, state, made());
        }
    }

    async fn mirror_state(
        &self,
        Place { bucket, key }: Place<'_>,
    ) -> Result<Option<ObjectState>, Failure> {
        self.writer.pace.request().await;
        let mirror =
            Reader { upstream: &self.mirror, who: "mirror", bucket, key: Some(key), version: None };
        Ok(mirror.head().await?)
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
pub(super) fn sent_tags(body: &TeedBody) -> Vec<(String, String)> {
    let header = body.headers().tagging.as_deref();
    let query = header.and_then(|text| Query::parse(text).ok()).unwrap_or_default();
    let mut tags = query.into_pairs();
    tags.sort();
    tags
}
