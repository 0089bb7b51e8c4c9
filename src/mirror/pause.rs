//! Mirroring stopped by a person: what is under way ends, nothing new is begun, writes go on and
//! wait in the journal. The pause is a note of the journal, so that a restart does not end it.

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::journal::{AppendError, Journal, now_ms};

/// Name of the note.
const NOTE: &str = "mirror.pause";

/// Since when, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Milliseconds since 1970.
    pub since_ms: i64,
    /// What the operator said about it.
    pub reason: Option<String>,
}

/// The gate in front of claiming.
#[derive(Debug)]
pub(super) struct Gate {
    state: watch::Sender<Option<Paused>>,
}

impl Gate {
    pub(super) fn new() -> Self {
        Self { state: watch::Sender::new(None) }
    }

    /// Takes up the pause of the previous run, if it had one.
    pub(super) async fn recover(&self, journal: &Journal) -> Result<(), sqlx::Error> {
        let Some(note) = journal.note(NOTE).await? else { return Ok(()) };
        // A note that cannot be read was a pause all the same; going on by itself would be worse.
        let paused = serde_json::from_str(&note)
            .unwrap_or_else(|_| Paused { since_ms: now_ms(), reason: None });
        tracing::warn!(since_ms = paused.since_ms, "mirroring is still paused");
        self.state.send_replace(Some(paused));
        Ok(())
    }

    pub(super) fn paused(&self) -> Option<Paused> {
        self.state.borrow().clone()
    }

    pub(super) fn is_shut(&self) -> bool {
        self.state.borrow().is_some()
    }

    /// Waits while paused. Cancel-safe.
    pub(super) async fn pass(&self) {
        let mut state = self.state.subscribe();
        // The sender lives in self: an error cannot come.
        drop(state.wait_for(Option::is_none).await);
    }

    /// Waits until paused. Cancel-safe.
    pub(super) async fn shut(&self) {
        let mut state = self.state.subscribe();
        drop(state.wait_for(Option::is_some).await);
    }

    /// Pauses; a pause that is there keeps its time. On disk when it answers.
    pub(super) async fn pause(
        &self,
        journal: &Journal,
        reason: Option<String>,
    ) -> Result<Paused, AppendError> {
        let since_ms = self.paused().map_or_else(now_ms, |paused| paused.since_ms);
        let paused = Paused { since_ms, reason };
        // In force at once, even if the disk fails and the answer says so.
        self.state.send_replace(Some(paused.clone()));
        tracing::warn!(reason = paused.reason, "mirroring is paused");
        let note = serde_json::to_string(&paused).unwrap_or_default();
        journal.set_note(NOTE, Some(&note)).await?;
        Ok(paused)
    }

    /// Goes on. False: it was not paused.
    pub(super) async fn resume(&self, journal: &Journal) -> Result<bool, AppendError> {
        let was = self.state.send_replace(None).is_some();
        if was {
            tracing::warn!("mirroring goes on");
        }
        journal.set_note(NOTE, None).await?;
        Ok(was)
    }
}
