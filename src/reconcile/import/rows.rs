//! Rows of the inventory as a listing, and main, tell them. Pure.

use time::OffsetDateTime;

use crate::inventory::row::{Row, RowState};
use crate::s3::listing::Listed;
use crate::s3::report::Reported;
use crate::s3::state::ObjectState;
use crate::s3::versions::NULL_VERSION;

/// A row as a listing tells it. What the mirror has is not known unless it was seen to be the same.
pub(super) fn row(bucket: &str, object: Reported, copied: bool) -> Row {
    let Reported { listed: Listed { key, etag, size, last_modified }, version_id } = object;
    Row {
        bucket: bucket.to_owned(),
        key,
        state: RowState::Present {
            size,
            content_type: String::new(),
            last_modified: last_modified.unwrap_or(OffsetDateTime::UNIX_EPOCH),
            etag: (!etag.is_empty()).then_some(etag),
            version_id,
        },
        mirrored: copied,
        unsure: !copied,
        last_error: None,
    }
}

/// The same with what main says of the key. If it is another object by now, what the listing said
/// of the mirror does not hold for it.
pub(super) fn asked(row: Row, state: ObjectState) -> Row {
    let RowState::Present { etag, size, last_modified, .. } = &row.state else { return row };
    let same = etag.as_ref() == Some(&state.etag) && *size == state.size;
    let mirrored = row.mirrored && same;
    let told = RowState::Present {
        size: state.size,
        content_type: state.content_type().to_owned(),
        last_modified: state.last_modified.unwrap_or(*last_modified),
        etag: Some(state.etag),
        version_id: state.version_id.filter(|id| id != NULL_VERSION),
    };
    Row { state: told, mirrored, unsure: !mirrored, ..row }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(etag: &str) -> Row {
        let listed = Listed { key: "k".into(), etag: etag.into(), size: 1, last_modified: None };
        row("b", Reported { listed, version_id: None }, true)
    }

    fn state(etag: &str) -> ObjectState {
        let headers = [
            ("etag", etag),
            ("content-length", "1"),
            ("content-type", "a/b"),
            ("last-modified", "Sat, 21 Nov 2026 06:41:17 GMT"),
        ];
        let headers = headers.map(|(name, value)| {
            let name = http::HeaderName::from_static(name);
            (name, http::HeaderValue::from_str(value).unwrap())
        });
        let headers: http::HeaderMap = headers.into_iter().collect();
        ObjectState::from_response(&headers).unwrap()
    }

    #[test]
    fn what_main_says_later_is_mirrored_only_if_it_is_what_was_listed() {
        let same = asked(listed("e"), state("\"e\""));
        assert!(same.mirrored && !same.unsure);
        let RowState::Present { content_type, last_modified, .. } = &same.state else { panic!() };
        assert_eq!((content_type.as_str(), last_modified.unix_timestamp()), ("a/b", 1_795_243_277));
        let other = asked(listed("f"), state("\"e\""));
        assert!(!other.mirrored && other.unsure);
    }

    #[test]
    fn a_listing_says_nothing_of_a_mirror_that_was_not_listed_too() {
        let listed = Listed { key: "k".into(), etag: String::new(), size: 1, last_modified: None };
        let row = row("b", Reported { listed, version_id: None }, false);
        assert!(row.unsure && !row.mirrored);
        assert!(matches!(row.state, RowState::Present { etag: None, .. }));
    }
}
