//! Verifications that run by themselves (`VERIFY_SCHEDULE`).

use std::time::Duration;

use time::OffsetDateTime;

use super::job::{Kind, Spec};
use super::jobs::{Jobs, StartError};
use crate::config::schedule::{INTERVAL_MIN, Schedule};

/// The note that tells since when there is a schedule, milliseconds since 1970: the first interval
/// counts from there, so that a process which is restarted more often than that verifies too.
const SINCE: &str = "verify.schedule-since";

impl Jobs {
    /// Starts verifications by the schedule, until it is dropped.
    pub async fn keep(self, schedule: Schedule) {
        let since = self.scheduled_since().await;
        loop {
            let now = OffsetDateTime::now_utc();
            let last = self.last_verification();
            let due = match schedule {
                Schedule::Every(_) if last.is_none() => schedule.due(None, since),
                _ => schedule.due(last, now),
            };
            let wait = Duration::try_from(due - now).unwrap_or(Duration::ZERO);
            tokio::time::sleep(wait).await;
            let spec = Spec::verify();
            match self.start(spec).await {
                Ok(_) => {}
                Err(StartError::Busy(reason)) => {
                    tracing::warn!(reason, "a scheduled verification is left out");
                    tokio::time::sleep(INTERVAL_MIN).await;
                }
                Err(error) => {
                    tracing::error!(%error, "a scheduled verification cannot be started");
                    tokio::time::sleep(INTERVAL_MIN).await;
                }
            }
        }
    }

    async fn scheduled_since(&self) -> OffsetDateTime {
        let now = OffsetDateTime::now_utc();
        match self.note(SINCE).await {
            Ok(Some(since)) => {
                let since = since.parse().ok().and_then(at_ms);
                return since.map_or(now, |since| since.min(now));
            }
            Ok(None) => {
                let since = (now.unix_timestamp() * 1000).to_string();
                if let Err(error) = self.set_note(SINCE, &since).await {
                    tracing::warn!(%error, "the beginning of the schedule was not kept");
                }
            }
            Err(error) => tracing::warn!(%error, "the beginning of the schedule is not known"),
        }
        now
    }

    /// When the last verification of everything began.
    fn last_verification(&self) -> Option<OffsetDateTime> {
        let views = self.list();
        let last = views
            .iter()
            .find(|view| view.spec.kind == Kind::Verify && view.spec.bucket.is_none())?;
        at_ms(last.started_ms)
    }
}

fn at_ms(milliseconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(milliseconds / 1000).ok()
}
