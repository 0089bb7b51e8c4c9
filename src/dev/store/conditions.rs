//! Pure decisions about a request and the object it meets: preconditions and byte ranges.

use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue};
use s3s::S3ErrorCode;

use super::fault::{Answer, no_such_key, precondition_failed, refuse, unsupported};

/// What the preconditions of a read say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Proceed,
    NotModified,
    Failed,
}

/// Which part of an object a `Range` header asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    Everything,
    Bytes(Range<u64>),
    Unsatisfiable,
}

/// The conditions of a write, decided inside the transaction that writes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WriteConditions {
    if_match: Option<String>,
    if_absent: bool,
}

/// Judges `If-Match`, `If-None-Match`, `If-Modified-Since` and `If-Unmodified-Since`, or their
/// `x-amz-copy-source-` forms when `prefix` says so, in the order of RFC 9110 section 13.2.2.
pub(super) fn judge(headers: &HeaderMap, prefix: &str, etag: &str, modified_ms: i64) -> Verdict {
    let text = |name: &str| header_text(headers, &format!("{prefix}{name}"));
    // HTTP dates have whole seconds, so the object's time is compared in whole seconds.
    let modified = at_second(modified_ms);
    let date = |name: &str| text(name).and_then(|value| httpdate::parse_http_date(&value).ok());
    let too_new = || date("if-unmodified-since").is_some_and(|since| modified > since);
    // A true If-Match takes precedence over If-Unmodified-Since.
    if text("if-match").map_or_else(too_new, |list| !lists(&list, etag)) {
        return Verdict::Failed;
    }
    let not_newer = || date("if-modified-since").is_some_and(|since| modified <= since);
    // A false If-None-Match takes precedence over If-Modified-Since.
    if text("if-none-match").map_or_else(not_newer, |list| lists(&list, etag)) {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

impl WriteConditions {
    /// Reads the conditions of a request that creates or replaces an object.
    ///
    /// # Errors
    /// 501 for an `If-None-Match` other than `*`, as S3 answers it.
    pub(super) fn of(headers: &HeaderMap) -> Answer<Self> {
        let if_absent = match header_text(headers, "if-none-match") {
            None => false,
            Some(value) if value == "*" => true,
            Some(_) => return Err(unsupported("If-None-Match with an ETag on a write")),
        };
        Ok(Self { if_match: header_text(headers, "if-match"), if_absent })
    }

    /// Decides against the `ETag` of the object that is there, if one is.
    pub(super) fn check(&self, existing: Option<&str>) -> Answer<()> {
        if self.if_absent && existing.is_some() {
            return Err(precondition_failed());
        }
        match (&self.if_match, existing) {
            (Some(_), None) => Err(no_such_key()),
            (Some(list), Some(etag)) if !lists(list, etag) => Err(precondition_failed()),
            _ => Ok(()),
        }
    }
}

/// Reads a `Range` header against an object of `size` bytes. What is not one well-formed byte
/// range is ignored, as RFC 9110 section 14.2 allows and S3 does.
pub(super) fn asked(header: Option<&HeaderValue>, size: u64) -> Asked {
    let parsed = header
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().strip_prefix("bytes="))
        .and_then(|spec| spec.split_once('-'));
    let Some((first, last)) = parsed else {
        return Asked::Everything;
    };
    match (number(first), number(last), first, last) {
        (None, Some(0), "", _) => Asked::Unsatisfiable,
        // A suffix longer than the object is the whole object; of nothing there is no suffix.
        (None, Some(_), "", _) if size == 0 => Asked::Unsatisfiable,
        (None, Some(suffix), "", _) => Asked::Bytes(size.saturating_sub(suffix)..size),
        (Some(first), Some(last), ..) if last < first => Asked::Everything,
        (Some(first), Some(_), ..) | (Some(first), None, _, "") if first >= size => {
            Asked::Unsatisfiable
        }
        (Some(first), None, _, "") => Asked::Bytes(first..size),
        (Some(first), Some(last), ..) => Asked::Bytes(first..last.saturating_add(1).min(size)),
        _ => Asked::Everything,
    }
}

/// The strict form of `x-amz-copy-source-range`: `bytes=first-last`, both inside the source.
pub(super) fn copy_range(header: Option<&HeaderValue>, size: u64) -> Answer<Range<u64>> {
    let Some(value) = header else {
        return Ok(0..size);
    };
    let wrong = || {
        refuse(
            S3ErrorCode::InvalidArgument,
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first \
             and last are the zero-based offsets of the first and last bytes to copy",
        )
    };
    let spec = value.to_str().ok().and_then(|value| value.strip_prefix("bytes="));
    let (first, last) = spec.and_then(|spec| spec.split_once('-')).ok_or_else(wrong)?;
    let (first, last) = (number(first).ok_or_else(wrong)?, number(last).ok_or_else(wrong)?);
    if first > last {
        return Err(wrong());
    }
    if last >= size {
        return Err(refuse(
            S3ErrorCode::InvalidRange,
            format!("Range specified is not valid for source object of size: {size}"),
        ));
    }
    Ok(first..last + 1)
}

/// Whether a list of `ETags`, quoted or not, weak or not, or `*`, holds this one.
pub(super) fn lists(list: &str, etag: &str) -> bool {
    list.split(',').any(|item| {
        let item = item.trim();
        let item = item.strip_prefix("W/").unwrap_or(item);
        item == "*" || item.trim_matches('"') == etag
    })
}

/// A time of the index (milliseconds) as HTTP can express it.
pub(super) fn at_second(modified_ms: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(modified_ms / 1000).unwrap_or(0))
}

fn header_text(headers: &HeaderMap, name: &str) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

/// Digits only: `str::parse` would also take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(spec: &str, size: u64) -> Asked {
        asked(Some(&HeaderValue::from_str(spec).unwrap()), size)
    }

    #[test]
    fn ranges_follow_s3() {
        assert_eq!(range("bytes=0-3", 10), Asked::Bytes(0..4));
        assert_eq!(range("bytes=4-", 10), Asked::Bytes(4..10));
        assert_eq!(range("bytes=8-99", 10), Asked::Bytes(8..10));
        assert_eq!(range("bytes=-4", 10), Asked::Bytes(6..10));
        assert_eq!(range("bytes=-99", 10), Asked::Bytes(0..10));
        assert_eq!(range("bytes=10-", 10), Asked::Unsatisfiable);
        assert_eq!(range("bytes=-0", 10), Asked::Unsatisfiable);
        assert_eq!(range("bytes=0-0", 0), Asked::Unsatisfiable);
        for ignored in ["bytes=5-2", "bytes=a-b", "bytes=-", "bytes=1-2,4-5", "lines=1-2", "x"] {
            assert_eq!(range(ignored, 10), Asked::Everything, "{ignored}");
        }
    }

    #[test]
    fn read_conditions_follow_rfc_9110() {
        let ms = 1_700_000_000_500;
        let (same, before) = ("Tue, 14 Nov 2023 22:13:20 GMT", "Tue, 14 Nov 2023 22:13:19 GMT");
        let verdict = |pairs: &[(&'static str, &str)]| {
            let headers = pairs.iter().map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
            judge(&headers.collect(), "", "abc", ms)
        };
        assert_eq!(verdict(&[("if-match", "\"abc\"")]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-match", "\"x\"")]), Verdict::Failed);
        assert_eq!(verdict(&[("if-none-match", "\"x\", \"abc\"")]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-none-match", "*")]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-modified-since", same)]), Verdict::NotModified);
        assert_eq!(verdict(&[("if-modified-since", before)]), Verdict::Proceed);
        assert_eq!(verdict(&[("if-unmodified-since", before)]), Verdict::Failed);
        assert_eq!(
            verdict(&[("if-match", "abc"), ("if-unmodified-since", before)]),
            Verdict::Proceed
        );
        assert_eq!(
            verdict(&[("if-none-match", "\"x\""), ("if-modified-since", same)]),
            Verdict::Proceed
        );
    }

    #[test]
    fn write_conditions_are_decided_by_what_is_there() {
        let absent = WriteConditions { if_match: None, if_absent: true };
        assert!(absent.check(None).is_ok());
        assert!(absent.check(Some("abc")).is_err());
        let same = WriteConditions { if_match: Some("\"abc\"".to_owned()), if_absent: false };
        assert!(same.check(Some("abc")).is_ok());
        assert!(same.check(Some("abd")).is_err());
        assert_eq!(same.check(None).unwrap_err().code(), &S3ErrorCode::NoSuchKey);
    }
}
