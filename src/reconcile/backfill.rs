//! What a backfill makes of a batch: everything of main that the mirror or the inventory lacks is
//! handed to the journal. Keys that are only on the mirror are none of its business.

use std::collections::HashMap;

use super::examine::row_fault;
use super::judge::{Copy, Verdict, compare};
use super::merge::Pair;
use super::report::What;
use super::run::Runner;
use crate::inventory::read::StoredRow;
use crate::s3::listing::Listed;

/// A listed object as it is compared.
pub(super) fn copy_of(listed: &Listed) -> Copy<'_> {
    Copy { etag: &listed.etag, size: listed.size, opaque: false }
}

impl Runner<'_> {
    pub(super) async fn backfill_batch(
        &mut self,
        bucket: &str,
        batch: Vec<Pair>,
    ) -> Result<(), String> {
        let rows = self.rows_of(bucket, &batch).await?;
        let has_inventory = self.world.store.is_some();
        let mut wanted = Vec::new();
        for Pair { left, right } in batch {
            let Some(main) = left else { continue };
            let verdict = right.as_ref().map(|mirror| compare(copy_of(&main), copy_of(mirror)));
            let counts = &mut self.progress.counts;
            match (verdict, &right) {
                (None, _) => counts.only_main += 1,
                (Some(Verdict::Different), _) => counts.different += 1,
                (Some(Verdict::Incomparable), Some(mirror)) => {
                    counts.incomparable += 1;
                    if mirror.last_modified >= main.last_modified {
                        // As old as it must be to be a copy of this. Copying it anew at every
                        // run would never end where the ETags can never be equal.
                        continue;
                    }
                }
                _ => {
                    let row = rows.get(&main.key);
                    let of_main = Some((main.etag.as_str(), main.size));
                    if !has_inventory || row_fault(of_main, row, true).is_none() {
                        continue;
                    }
                    counts.inventory += 1;
                }
            }
            wanted.push((main.key, main.size));
        }
        self.enqueue(bucket, wanted).await;
        Ok(())
    }

    /// The inventory's rows of main's keys in a batch, by key.
    pub(super) async fn rows_of(
        &self,
        bucket: &str,
        batch: &[Pair],
    ) -> Result<HashMap<String, StoredRow>, String> {
        if self.world.store.is_none() {
            return Ok(HashMap::new());
        }
        let keys: Vec<&str> =
            batch.iter().filter_map(|pair| Some(pair.left.as_ref()?.key.as_str())).collect();
        let rows = self.world.rows(bucket, &keys).await?;
        Ok(rows.into_iter().map(|row| (row.path.clone(), row)).collect())
    }

    /// Notes a difference.
    pub(super) fn differs(&mut self, bucket: &str, key: &str, what: What) {
        let counts = &mut self.progress.counts;
        match what {
            What::OnlyMain => counts.only_main += 1,
            What::OnlyMirror => counts.only_mirror += 1,
            What::Content | What::Bytes | What::Headers | What::Tags => counts.different += 1,
            What::RowMissing | What::RowDiffers | What::RowExtra => counts.inventory += 1,
        }
        if self.progress.differences.len() < super::report::LISTED_MAX {
            let (bucket, key) = (bucket.to_owned(), key.to_owned());
            self.progress.differences.push(super::report::Difference { bucket, key, what });
        }
    }
}
