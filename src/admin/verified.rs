//! When a key was last compared and found equal, as far as the verifications that are remembered
//! tell.
//!
//! A verification keeps no note per key, which would be one for each of hundreds of millions. But
//! it names every key that differs (the first thousand of them), so that of all others it says that
//! they agree. What it leaves open is no proof: it may have left keys out (errors, changes on their
//! way, differences beyond the thousand), or have begun before the key last changed.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::Admin;
use crate::reconcile::job::{Kind, State, View};
use crate::reconcile::report::Difference;

/// What is read of a report.
#[derive(Debug, Default, Deserialize)]
struct Report {
    differences: Vec<Difference>,
    differences_not_listed: u64,
}

impl Admin {
    /// When a verification that covers the key, and began after the key was mirrored, found both
    /// sides equal; UTC.
    pub(super) async fn verified_at(
        &self,
        bucket: &str,
        key: &str,
        mirrored_at: Option<&str>,
    ) -> Option<String> {
        let since_ms = mirrored_at.and_then(moment_ms);
        for view in self.jobs().list() {
            if !covers(&view, bucket, key, since_ms) {
                continue;
            }
            let report = if view.differences == 0 {
                Some(Report::default())
            } else {
                self.read_report(&view).await
            };
            if report.is_some_and(|report| agrees(&report, bucket, key)) {
                return time_of(view.started_ms);
            }
        }
        None
    }

    async fn read_report(&self, view: &View) -> Option<Report> {
        let path = self.jobs().reports().join(view.report.as_deref()?);
        let text = tokio::fs::read(path).await.ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// When the newest verification of everything ended, milliseconds since 1970, and how much it left
/// out of step or could not compare.
pub(super) fn last_of_everything(views: &[View]) -> Option<(i64, i64)> {
    let whole = |view: &&View| {
        let spec = &view.spec;
        spec.kind == Kind::Verify
            && view.state == State::Done
            && spec.bucket.is_none()
            && spec.prefix.is_empty()
    };
    let last = views.iter().filter(whole).max_by_key(|view| view.started_ms)?;
    let repaired = if last.spec.repair { last.counts.confirmed } else { 0 };
    let left = last.differences.saturating_sub(repaired).saturating_add(last.errors);
    Some((last.finished_ms?, i64::try_from(left).unwrap_or(i64::MAX)))
}

/// Has this job looked at the key as it is since then, whatever it found?
fn covers(view: &View, bucket: &str, key: &str, since_ms: Option<i64>) -> bool {
    view.spec.kind == Kind::Verify
        && view.state == State::Done
        && view.compared_all()
        && view.spec.bucket.as_deref().is_none_or(|only| only == bucket)
        && key.starts_with(&view.spec.prefix)
        && since_ms.is_none_or(|since| since < view.started_ms)
}

/// Does the report leave no doubt about this key?
fn agrees(report: &Report, bucket: &str, key: &str) -> bool {
    report.differences_not_listed == 0
        && !report.differences.iter().any(|found| found.bucket == bucket && found.key == key)
}

fn moment_ms(text: &str) -> Option<i64> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()
}

fn time_of(ms: i64) -> Option<String> {
    OffsetDateTime::from_unix_timestamp(ms / 1000).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::report::What;

    fn view(change: impl FnOnce(&mut View)) -> View {
        let mut view: View = serde_json::from_value(serde_json::json!({
            "id": "verify-1", "kind": "verify", "bucket": null, "prefix": "", "deep": false,
            "repair": false, "delete_extra": false, "rate": null, "bandwidth": null,
            "state": "done", "started_ms": 1_000, "finished_ms": 2_000, "scanned": 9,
            "total": 9, "queued": 0, "bytes": 0, "differences": 0, "errors": 0,
            "eta_seconds": null, "message": "", "counts": {}, "report": "verify-1.json"
        }))
        .unwrap();
        change(&mut view);
        view
    }

    #[test]
    fn only_a_whole_verification_of_the_key_since_it_was_mirrored_counts() {
        let counts = |change: fn(&mut View)| covers(&view(change), "b", "a/k", Some(500));
        assert!(counts(|_| {}));
        assert!(counts(|view| view.spec.bucket = Some("b".into())));
        assert!(counts(|view| view.spec.prefix = "a/".into()));
        assert!(!counts(|view| view.spec.bucket = Some("other".into())));
        assert!(!counts(|view| view.spec.prefix = "b/".into()));
        assert!(!counts(|view| view.spec.kind = Kind::Backfill));
        assert!(!counts(|view| view.state = State::Cancelled));
        assert!(!counts(|view| view.errors = 1));
        assert!(!counts(|view| view.counts.in_flight = 1));
        assert!(!counts(|view| view.counts.incomparable = 1));
        assert!(counts(|view| {
            view.counts.incomparable = 1;
            view.spec.deep = true;
        }));
        assert!(!counts(|view| view.started_ms = 500));
        assert!(covers(&view(|_| {}), "b", "k", None));
    }

    #[test]
    fn a_key_that_differs_or_may_differ_is_not_verified() {
        let difference = Difference { bucket: "b".into(), key: "k".into(), what: What::Content };
        let differences = vec![difference];
        let report = Report { differences, differences_not_listed: 0 };
        assert!(!agrees(&report, "b", "k"));
        assert!(agrees(&report, "b", "other") && agrees(&report, "other", "k"));
        let report = Report { differences_not_listed: 1, ..report };
        assert!(!agrees(&report, "b", "other"));
    }

    #[test]
    fn the_last_verification_of_everything_counts_with_what_it_left() {
        let told = |views: &[View]| last_of_everything(views);
        assert_eq!(told(&[]), None);
        let found = view(|view| (view.differences, view.errors) = (5, 1));
        assert_eq!(told(std::slice::from_ref(&found)), Some((2_000, 6)));
        let mended = view(|view| {
            (view.differences, view.counts.confirmed) = (5, 4);
            (view.spec.repair, view.started_ms, view.finished_ms) = (true, 3_000, Some(4_000));
        });
        let one_bucket = view(|view| {
            (view.spec.bucket, view.started_ms) = (Some("b".into()), 9_000);
        });
        let cancelled = view(|view| (view.state, view.started_ms) = (State::Cancelled, 9_000));
        assert_eq!(told(&[one_bucket, cancelled, found, mended]), Some((4_000, 1)));
    }

    #[test]
    fn times_of_rows_are_read() {
        assert_eq!(moment_ms("1970-01-01T00:00:01.500Z"), Some(1500));
        assert_eq!(moment_ms("yesterday"), None);
        assert_eq!(time_of(61_999).as_deref(), Some("1970-01-01T00:01:01Z"));
    }
}
