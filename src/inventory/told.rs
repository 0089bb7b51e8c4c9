//! What a row tells: what the journal knows of the key, or what main says of it.

use time::OffsetDateTime;

use super::Inventory;
use super::row::RowState;
use crate::journal::{RowWork, Trust};
use crate::s3::operation::Change;
use crate::s3::state::ObjectState;
use crate::s3::versions::NULL_VERSION;
use crate::upstream::read::{ReadError, Reader};

/// What the journal knows of what a row should tell.
pub(super) enum Known {
    All(RowState),
    ButTheTime(RowState),
    Nothing,
}

impl Inventory {
    /// What the row should tell, as far as the facts do.
    pub(super) fn known(&self, work: &RowWork) -> Known {
        let facts = &work.facts;
        let told = work.trust != Trust::Unknown
            && (work.mirrored
                || matches!(work.change, Change::Put | Change::Delete | Change::Complete));
        if told && facts.absent {
            return Known::All(RowState::Absent);
        }
        let time = facts.last_modified.and_then(|s| OffsetDateTime::from_unix_timestamp(s).ok());
        if told
            && let (Some(size), Some(content_type), Some(last_modified)) =
                (facts.size, &facts.content_type, time)
        {
            let state = RowState::Present {
                size,
                content_type: content_type.clone(),
                last_modified,
                etag: facts.etag.clone(),
                version_id: facts.version_id.clone().filter(|id| id != NULL_VERSION),
            };
            let exact = if work.mirrored { self.exact.mirrored } else { self.exact.accepted };
            let is_open = exact && work.change == Change::Put;
            return if is_open { Known::ButTheTime(state) } else { Known::All(state) };
        }
        Known::Nothing
    }

    /// What the row should tell, with what main says of what is not known.
    pub(super) async fn complete(
        &self,
        work: &RowWork,
        known: &Known,
    ) -> Result<RowState, ReadError> {
        match known {
            Known::All(state) => Ok(state.clone()),
            Known::Nothing => self.ask(work, None).await,
            Known::ButTheTime(state) => match self.ask(work, Some(state)).await {
                Ok(now) => Ok(timed(state.clone(), now)),
                // An object under a key that only its client has, for one: its own answer told all
                // else.
                Err(error) if error.is_permanent() => Ok(state.clone()),
                Err(error) => Err(error),
            },
        }
    }

    /// What main says now. A time that main does not tell is that of `known`.
    pub(super) async fn ask(
        &self,
        work: &RowWork,
        known: Option<&RowState>,
    ) -> Result<RowState, ReadError> {
        let (bucket, key) = (&*work.object.bucket, &*work.object.key);
        let main =
            Reader { upstream: &self.main, who: "main", bucket, key: Some(key), version: None };
        Ok(main.head_surely().await?.map_or(RowState::Absent, |state| observed(state, known)))
    }
}

/// What an upload's row tells, with the time that main has for it. If main has something else by
/// now, that has a row of its own to come, and this one keeps what its own answer told.
fn timed(told: RowState, now: RowState) -> RowState {
    let RowState::Present { size, content_type, etag, .. } = &told else { return told };
    match &now {
        RowState::Present { size: s, content_type: c, etag: e, .. }
            if (s, c, e) == (size, content_type, etag) =>
        {
            now
        }
        _ => told,
    }
}

fn observed(state: ObjectState, known: Option<&RowState>) -> RowState {
    let time = state.last_modified.or(match known {
        Some(RowState::Present { last_modified, .. }) => Some(*last_modified),
        _ => None,
    });
    RowState::Present {
        size: state.size,
        content_type: state.content_type().to_owned(),
        last_modified: time.unwrap_or_else(OffsetDateTime::now_utc),
        etag: Some(state.etag),
        version_id: state.version_id.filter(|id| id != NULL_VERSION),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_s_time_counts_for_the_upload_that_the_row_tells_and_no_other() {
        let state = |etag: &str, kind: &str, second| RowState::Present {
            size: 1,
            content_type: kind.into(),
            last_modified: OffsetDateTime::from_unix_timestamp(second).unwrap(),
            etag: Some(etag.into()),
            version_id: None,
        };
        let told = state("e", "text/plain", 100);
        let exact = state("e", "text/plain", 99);
        assert_eq!(timed(told.clone(), exact.clone()), exact);
        assert_eq!(timed(told.clone(), state("f", "text/plain", 101)), told);
        assert_eq!(timed(told.clone(), state("e", "text/html", 101)), told);
        assert_eq!(timed(told.clone(), RowState::Absent), told);
    }
}
