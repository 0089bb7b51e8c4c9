//! The three spellings of time in signatures. Pure: the present is always an argument.

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const AMZ_DATE: &[BorrowedFormatItem<'_>] =
    format_description!("[year][month][day]T[hour][minute][second]Z");

/// Reads `yyyymmddThhmmssZ`.
pub(super) fn parse_amz_date(text: &str) -> Option<OffsetDateTime> {
    // The format's year would also take a sign and more digits.
    if text.len() != 16 || !text.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    PrimitiveDateTime::parse(text, AMZ_DATE).ok().map(PrimitiveDateTime::assume_utc)
}

/// Writes `yyyymmddThhmmssZ`.
pub(super) fn amz_date(time: OffsetDateTime) -> String {
    let time = time.to_offset(time::UtcOffset::UTC);
    let (date, clock) = (time.date(), time.time());
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    let (hour, minute, second) = clock.as_hms();
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

/// Reads the date of HTTP (`Fri, 24 May 2013 00:00:00 GMT`).
pub(super) fn parse_http_date(text: &str) -> Option<OffsetDateTime> {
    httpdate::parse_http_date(text).ok().map(OffsetDateTime::from)
}

/// Reads the date of policies and XML (`2013-05-24T00:00:00.000Z`).
pub(super) fn parse_rfc3339(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// Writes the date of policies and XML; empty for a year beyond 9999.
pub(super) fn rfc3339(time: OffsetDateTime) -> String {
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_instant_in_every_spelling() {
        let instant = parse_amz_date("20130524T010203Z").unwrap();
        assert_eq!(amz_date(instant), "20130524T010203Z");
        assert_eq!(parse_http_date("Fri, 24 May 2013 01:02:03 GMT"), Some(instant));
        assert_eq!(parse_rfc3339("2013-05-24T01:02:03.000Z"), Some(instant));
        assert_eq!(rfc3339(instant), "2013-05-24T01:02:03Z");
    }

    #[test]
    fn anything_else_is_no_amz_date() {
        for text in ["", "20130524", "20130524T010203", "2013-05-24T01:02:03Z", "+0130524T010203Z"]
        {
            assert_eq!(parse_amz_date(text), None, "{text}");
        }
        for text in
            ["20131324T010203Z", "20130524T250203Z", "20130524t010203Z", "2013052\u{e9}T01020Z"]
        {
            assert_eq!(parse_amz_date(text), None, "{text}");
        }
    }
}
