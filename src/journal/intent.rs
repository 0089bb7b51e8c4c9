//! What a request holds of the journal: its intents, and the promise that they are on disk.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use smallvec::SmallVec;
use tokio::sync::oneshot;

use super::entry::{NewIntent, ObjectKey, Sequence};
use super::intake::Landing;
use super::{AppendError, Journal};
use crate::s3::operation::Change;

/// An intent in the journal; settle it.
#[derive(Debug)]
pub struct Intent {
    pub(super) sequence: Sequence,
    pub(super) what: Arc<NewIntent>,
    pub(super) overlapped: Arc<AtomicBool>,
    pub(super) settled: bool,
    pub(super) journal: JournalRef,
}

/// The intents of one request, which nearly always changes one key.
pub type Intents = SmallVec<[Intent; 1]>;

impl Intent {
    /// The key it is about.
    pub fn object(&self) -> &ObjectKey {
        &self.what.object
    }

    /// How the key may change.
    pub fn change(&self) -> Change {
        self.what.change
    }

    /// Position in the journal.
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }
}

/// A [`Journal`] inside an [`Intent`], so that an intent dropped unsettled settles itself.
#[derive(Clone)]
pub(super) struct JournalRef(pub(super) Journal);

impl std::fmt::Debug for JournalRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Journal")
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        self.settled = true;
        let journal = self.journal.0.clone();
        let landing = Landing::new(self, true, Arc::default());
        let settling = journal.clone();
        journal.spawn(async move { settling.settle_changed(landing, None).await });
        // If the journal's runtime has ended, the intent stays one: main is asked at the next
        // start.
    }
}

/// Resolves when an append is durable.
#[derive(Debug)]
pub struct Durable(pub(super) oneshot::Receiver<Result<(), AppendError>>);

impl Durable {
    /// Waits until the intents are on disk.
    pub async fn wait(self) -> Result<(), AppendError> {
        self.0.await.unwrap_or(Err(AppendError::Unavailable))
    }
}
