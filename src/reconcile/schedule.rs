//! Verifications that run by themselves (`VERIFY_SCHEDULE`).

use std::time::Duration;

use time::OffsetDateTime;

use super::job::{Kind, Spec};
use super::jobs::{Jobs, StartError};
use crate::config::schedule::{INTERVAL_MIN, Schedule};

impl Jobs {
    /// Starts verifications by the schedule, until it is dropped.
    pub async fn keep(self, schedule: Schedule) {
        let begun = OffsetDateTime::now_utc();
        loop {
            let now = OffsetDateTime::now_utc();
            let last = self.last_verification();
            let due = match schedule {
                Schedule::Every(_) if last.is_none() => schedule.due(None, begun),
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

    /// When the last verification of everything began.
    fn last_verification(&self) -> Option<OffsetDateTime> {
        let views = self.list();
        let last = views
            .iter()
            .find(|view| view.spec.kind == Kind::Verify && view.spec.bucket.is_none())?;
        OffsetDateTime::from_unix_timestamp(last.started_ms / 1000).ok()
    }
}
