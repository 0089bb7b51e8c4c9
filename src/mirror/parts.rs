//! Copying in parts: with main's own boundaries, so that the `ETag` comes out the same.

use futures_util::stream::{StreamExt as _, TryStreamExt as _};

use super::apply::kept_body;
use super::layout::{default_layout, equal_parts};
use super::multipart::PARTS_AT_ONCE;
use super::replicate::{Replicator, Subject};
use super::retry::Failure;
use super::write::{Place, Tags, Written};
use crate::journal::entry::PartLayout;
use crate::s3::state::ObjectState;
use crate::tee::TeedBody;
use crate::upstream::{copied, empty};

impl Replicator {
    /// The part boundaries to copy by; `None` for one request.
    pub(super) async fn layout(
        &self,
        from: Subject<'_>,
        state: &ObjectState,
    ) -> Result<Option<PartLayout>, Failure> {
        let Some(parts) = state.parts() else {
            let by_size = (state.size > self.put_bytes_max)
                .then(|| default_layout(state.size, self.put_bytes_max));
            return Ok(by_size);
        };
        if let Some(layout) = &from.work.entry.facts.layout
            && layout.total() == state.size
            && layout.count() == parts
            && layout.etag.as_ref().is_none_or(|etag| *etag == state.etag)
        {
            return Ok(Some(layout.clone()));
        }
        let main = self.main(from);
        let Some((first, count)) = main.head_part(1).await? else {
            // Main does not tell: equal parts are the best guess, and the ETag may differ.
            return Ok(Some(equal_parts(state.size, parts)));
        };
        let uniform = first.saturating_mul(u64::from(count.saturating_sub(1)));
        let fits = count == parts && uniform < state.size && state.size - uniform <= first;
        // One more is asked about: sizes that add up alike by accident are rare.
        let second = if fits && count > 2 { main.head_part(2).await? } else { None };
        if fits && second.is_none_or(|(second, _)| second == first) {
            let last = std::iter::once(state.size - uniform);
            let sizes =
                std::iter::repeat_n(first, usize::try_from(count - 1).unwrap_or(0)).chain(last);
            return Ok(Some(PartLayout::new(sizes, None)));
        }
        let mut sizes = vec![first];
        for number in 2..=count {
            let Some((size, _)) = main.head_part(number).await? else {
                return Err(Failure::Moved);
            };
            sizes.push(size);
        }
        let layout = PartLayout::new(sizes, None);
        if layout.total() == state.size { Ok(Some(layout)) } else { Err(Failure::Moved) }
    }

    /// Copies an object part by part; a part that was kept is not read from main.
    pub(super) async fn copy_parts(
        &self,
        from: Subject<'_>,
        state: &ObjectState,
        layout: &PartLayout,
        kept: Option<&[TeedBody]>,
        (place, tags): (Place<'_>, &Tags),
    ) -> Result<Written, Failure> {
        let headers = self.headers(state)?;
        let mut begun = self.uploads.begin(place).await;
        let upload_id = match self.writer.begin(place, &headers, tags).await {
            Ok(upload_id) => upload_id,
            Err(failure) => {
                // A plain refusal has begun nothing. Otherwise it is looked for.
                if !failure.is_late() {
                    begun.over().await;
                }
                return Err(failure);
            }
        };
        begun.named(&upload_id).await;
        let mut first = 0;
        let pieces: Vec<(u32, u64, u64)> = (1..)
            .zip(layout.sizes())
            .map(|(number, size)| {
                let piece = (number, first, size);
                first += size;
                piece
            })
            .collect();
        let upload_id = upload_id.as_str();
        let copies = pieces.into_iter().enumerate().map(|(at, (number, first, size))| async move {
            let body = if let Some(part) = kept.and_then(|kept| kept.get(at)) {
                kept_body(part)
            } else if size == 0 {
                empty()
            } else {
                let response = self.main(from).get(&state.etag, Some((first, size))).await?;
                copied(response.into_body(), size)
            };
            self.writer.part(place, upload_id, number, size, body).await
        });
        let parts: Result<Vec<_>, Failure> =
            futures_util::stream::iter(copies).buffered(PARTS_AT_ONCE).try_collect().await;
        let completed = match parts {
            Ok(parts) => self.writer.complete(place, upload_id, &parts).await,
            Err(failure) => Err(failure),
        };
        let failure = match completed {
            Ok(written) => {
                begun.over().await;
                return Ok(written);
            }
            Err(failure) => failure,
        };
        match self.writer.abort(place, upload_id).await {
            // It has ended already: by what was asked for, whose answer was lost, if the object is there.
            Ok(false) if failure.is_late() && self.is_there(place, state).await => {
                begun.over().await;
                return Ok(Written::default());
            }
            // Parts under way may still arrive, so that it is aborted once more later.
            Ok(_) => begun.aborted(),
            Err(error) => {
                let Place { bucket, key } = place;
                tracing::warn!(bucket, key, %error, "an upload is left on the mirror for now");
            }
        }
        Err(failure)
    }
}
