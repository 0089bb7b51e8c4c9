//! Rows of deleted keys, removed once they are old enough (`INVENTORY_RETAIN_DELETED_DAYS`).
//!
//! # Promises
//! - Only rows that say `deleted`, whose deletion the mirror has confirmed, and that have not
//!   changed for so long. A row that says that the mirror still holds what main has deleted stays:
//!   nobody else would know.
//! - Writers never wait for more than one small statement, and rows that somebody holds are left
//!   for the next round. Several proxies may do this at once.
//! - A key that returns gets a new row, with a new number.
//!
//! # Bounds
//! [`BATCH`] rows per statement, with a pause behind each; a round an hour.
//!
//! # Crash
//! What was removed stays removed; the next round goes on.

use std::sync::Arc;
use std::time::Duration;

use super::store::Store;

/// Rows removed by one statement.
pub const BATCH: u32 = 1000;
/// Pause between statements: whoever waited for a row or the disk goes first.
const PAUSE: Duration = Duration::from_millis(100);
/// Pause between rounds, and before the first, which the start of the service has no use for.
const EVERY: Duration = Duration::from_hours(1);
/// The first round comes this long after the start.
const FIRST: Duration = Duration::from_secs(3);

/// Removes what is older than `time`, until it is dropped.
pub async fn keep(store: Arc<Store>, time: Duration) {
    tokio::time::sleep(FIRST).await;
    loop {
        round(&store, time).await;
        tokio::time::sleep(EVERY).await;
    }
}

/// One round over all buckets; yields how many rows went. Trouble with one bucket is logged, and
/// waits for the next round.
pub async fn round(store: &Store, time: Duration) -> u64 {
    let buckets = match store.buckets().await {
        Ok(buckets) => buckets,
        Err(error) => {
            tracing::warn!(%error, "rows of deleted keys are not looked through");
            return 0;
        }
    };
    let mut all = 0;
    for bucket in buckets {
        let mut removed = 0;
        loop {
            match store.remove_deleted(&bucket, time, BATCH).await {
                Ok(0) => break,
                Ok(rows) => removed += rows,
                Err(error) => {
                    tracing::warn!(%error, bucket, "rows of deleted keys are not removed");
                    break;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
        if removed > 0 {
            tracing::info!(bucket, rows = removed, "rows of keys deleted long ago were removed");
        }
        all += removed;
    }
    all
}
