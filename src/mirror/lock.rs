//! Object lock: retention and legal holds follow main's where `MIRROR_OBJECT_LOCK` says so.
//!
//! A copy is made with main's lock. Where the bytes are there already, only what differs is set: a
//! retention that main has, and a legal hold as main has it. A retention is never taken away: the
//! mirror may protect longer than main.

use super::replicate::Replicator;
use super::retry::Failure;
use super::write::Place;
use crate::s3::state::{ObjectState, lock};
use http::header::{HeaderName, HeaderValue};
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// How far the mirror's clock may be ahead.
const CLOCKS: Duration = Duration::from_mins(1);

impl Replicator {
    /// Is main's lock still the one that was copied?
    pub(super) fn same_lock(&self, copied: &ObjectState, now: &ObjectState) -> bool {
        !self.object_lock || copied.lock == now.lock
    }

    /// Gives the mirror's object, which is `there`, the lock of main's.
    pub(super) async fn copy_lock(
        &self,
        place: Place<'_>,
        state: &ObjectState,
        there: &ObjectState,
    ) -> Result<(), Failure> {
        if !self.object_lock {
            return Ok(());
        }
        let [retention, other] =
            [state, there].map(|of| value(of, &lock::MODE).zip(value(of, &lock::UNTIL)));
        let same = |(mode, until): &(&str, &str)| {
            other.is_some_and(|(m, u)| m == *mode && (u == *until || time(u) == time(until)))
        };
        if let Some((mode, until)) = retention.filter(|retention| !same(retention))
            && is_to_come(until, OffsetDateTime::now_utc())
        {
            // What the mirror protects more strictly stays so, and a person has to know.
            self.writer.retain(place, mode, until).await.map_err(|failure| {
                let refused = failure.code() == "AccessDenied";
                if refused { failure.judged(true) } else { failure }
            })?;
        }
        let hold = value(state, &lock::HOLD).is_some();
        if hold != value(there, &lock::HOLD).is_some() {
            self.writer.hold(place, hold).await?;
        }
        Ok(())
    }
}

/// The lock of a copy that is made now. Services go on telling a retention that is over, and refuse to
/// set one.
pub(super) fn lasting(
    state: &ObjectState,
    now: OffsetDateTime,
) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
    let lasts = value(state, &lock::UNTIL).is_some_and(|until| is_to_come(until, now));
    state.lock.iter().filter(move |(name, _)| lasts || *name == lock::HOLD)
}

/// Is it later than now by any clock? What cannot be read is left to the mirror.
fn is_to_come(until: &str, now: OffsetDateTime) -> bool {
    time(until).is_none_or(|until| until > now + CLOCKS)
}

fn time(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

fn value<'s>(state: &'s ObjectState, name: &HeaderName) -> Option<&'s str> {
    let found = state.lock.iter().find(|(known, _)| known == name);
    found.and_then(|(_, value)| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use time::macros::datetime;

    use super::*;

    fn locked(until: &'static str, hold: &'static str) -> ObjectState {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("etag", "\"e\""),
            ("content-length", "1"),
            ("x-amz-object-lock-mode", "GOVERNANCE"),
            ("x-amz-object-lock-retain-until-date", until),
            ("x-amz-object-lock-legal-hold", hold),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        ObjectState::from_response(&headers).unwrap()
    }

    #[test]
    fn a_retention_that_is_over_is_not_set_anew_and_a_hold_is() {
        let now = datetime!(2026-12-01 00:00 UTC);
        let names = |until, hold| -> Vec<String> {
            let state = locked(until, hold);
            lasting(&state, now).map(|(name, _)| name.to_string()).collect()
        };
        assert_eq!(names("2026-12-02T00:00:00Z", "OFF").len(), 2);
        assert_eq!(names("2026-12-02T00:00:00.000Z", "ON").len(), 3);
        assert_eq!(names("2026-11-30T00:00:00Z", "ON"), ["x-amz-object-lock-legal-hold"]);
        // The mirror's clock may be ahead.
        assert!(names("2026-12-01T00:00:30Z", "OFF").is_empty());
        assert_eq!(names("some day", "OFF").len(), 2, "the mirror may know what it means");
    }
}
