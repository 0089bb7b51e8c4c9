//! What a verification makes of a batch. Listings name suspects; a suspect is called different
//! only after both sides were asked about it, the journal held no change of it, and both sides
//! said the same once more. So a live write between two pages is never called a difference.

use std::time::Duration;

use futures_util::stream::{self, StreamExt as _};
use http::Method;
use tokio::time::Instant;

use super::backfill::copy_of;
use super::examine::row_fault;
use super::judge::{Verdict, compare};
use super::listing::Lister;
use super::merge::Pair;
use super::report::What;
use super::run::Runner;
use super::sieve::Sieve;
use crate::journal::entry::ObjectKey;
use crate::journal::now_ms;
use crate::upstream::ask::{AskError, Question};

/// Keys asked about at a time.
const AT_ONCE: usize = 16;
/// Contents compared at a time.
const CONTENTS_AT_ONCE: usize = 4;
/// Changing keys of a bucket that are looked at again; beyond that they are counted only.
const LATER_MAX: usize = 1000;
/// How long changes under way are waited for at the end of a bucket.
const LATER_TIME: Duration = Duration::from_mins(1);
/// Pause between looks.
const LATER_PAUSE: Duration = Duration::from_millis(500);
/// When a key is looked at whose false copy was removed: later than the answer to that, by any limit.
const REMOVED_MS: i64 = 10 * 60 * 1000;
/// Suspects confirmed together.
const TOGETHER: usize = 1000;

/// What one look at a key told.
enum Look {
    InStep,
    /// How it differs, and its size on main.
    Differs(What, u64),
    Incomparable,
    /// It cannot be looked at.
    Error(String),
}

impl Runner<'_> {
    pub(super) async fn verify_batch(
        &mut self,
        bucket: &str,
        batch: Vec<Pair>,
    ) -> Result<(), String> {
        let rows = self.rows_of(bucket, &batch).await?;
        let has_inventory = self.world.store.is_some();
        let (mut suspects, mut contents) = (Vec::new(), Vec::new());
        for pair in batch {
            let (Some(main), Some(mirror)) = (&pair.left, &pair.right) else {
                suspects.push(pair.key().to_owned());
                continue;
            };
            let verdict = compare(copy_of(main), copy_of(mirror));
            let same = verdict == Verdict::Same;
            let of_main = Some((main.etag.as_str(), main.size));
            let row = rows.get(&main.key);
            if verdict == Verdict::Different
                || (has_inventory && row_fault(of_main, row, same).is_some())
            {
                suspects.push(main.key.clone());
            } else if self.spec.deep {
                contents.push((main.key.clone(), main.size));
            } else if verdict == Verdict::Incomparable {
                self.progress.counts.incomparable += 1;
            }
        }
        for group in contents.chunks(CONTENTS_AT_ONCE) {
            // Both copies are read.
            self.bytes.take(group.iter().map(|(_, size)| size.saturating_mul(2)).sum()).await;
            let world = self.world;
            let keys: Vec<String> = group.iter().map(|(key, _)| key.clone()).collect();
            let found: Vec<(String, bool)> = stream::iter(keys)
                .map(|key| async move {
                    // An unreadable one is looked at, and told, like a suspect.
                    let same = matches!(world.deep(bucket, &key).await, Ok(None));
                    (key, same)
                })
                .buffer_unordered(CONTENTS_AT_ONCE)
                .collect()
                .await;
            suspects.extend(found.into_iter().filter(|(_, same)| !same).map(|(key, _)| key));
            self.publish();
        }
        for group in suspects.chunks(TOGETHER) {
            self.confirm(bucket, group, true).await?;
        }
        Ok(())
    }

    /// Settles what suspects are. Those that are changing are put aside while `may_wait`; yields
    /// them otherwise.
    async fn confirm(
        &mut self,
        bucket: &str,
        keys: &[String],
        may_wait: bool,
    ) -> Result<Vec<String>, String> {
        let mut open = Vec::new();
        for (key, look) in self.look_at(bucket, keys).await {
            match look {
                Look::InStep => {}
                Look::Incomparable => self.progress.counts.incomparable += 1,
                Look::Error(reason) => self.error(bucket, &key, &reason),
                Look::Differs(..) => open.push(key),
            }
        }
        if open.is_empty() {
            return Ok(open);
        }
        let names: Vec<&str> = open.iter().map(String::as_str).collect();
        let pending = self.world.journal.pending_among(bucket, &names).await;
        let pending = pending.map_err(|error| format!("the journal cannot be read: {error}"))?;
        let (changing, still): (Vec<String>, Vec<String>) =
            open.into_iter().partition(|key| pending.contains(key));
        let mut repair = Vec::new();
        for (key, look) in self.look_at(bucket, &still).await {
            if let Look::Differs(what, size) = look {
                self.differs(bucket, &key, what);
                if self.repairs(what) {
                    if what == What::Bytes {
                        self.remove_false_copy(bucket, &key).await;
                    }
                    repair.push((key, size));
                }
            }
        }
        self.enqueue(bucket, repair).await;
        if !may_wait {
            return Ok(changing);
        }
        for key in changing {
            if self.progress.later.len() < LATER_MAX {
                self.progress.later.push(key);
            } else {
                self.progress.counts.in_flight += 1;
            }
        }
        Ok(Vec::new())
    }

    async fn look_at(&self, bucket: &str, keys: &[String]) -> Vec<(String, Look)> {
        stream::iter(keys.to_vec())
            .map(|key| async move {
                let look = self.look(bucket, &key).await;
                (key, look)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await
    }

    async fn look(&self, bucket: &str, key: &str) -> Look {
        let examined = match self.world.examine(bucket, key).await {
            Ok(examined) => examined,
            Err(reason) => return Look::Error(reason),
        };
        let size = examined.main.as_ref().map_or(0, |seen| seen.state.size);
        if let Some(what) = examined.what() {
            return Look::Differs(what, size);
        }
        match (examined.verdict(), self.spec.deep) {
            (None, _) | (Some(Verdict::Same), false) => Look::InStep,
            (Some(_), false) => Look::Incomparable,
            (Some(_), true) => match self.world.deep(bucket, key).await {
                Ok(None) => Look::InStep,
                Ok(Some(what)) => Look::Differs(what, size),
                Err(reason) => Look::Error(reason),
            },
        }
    }

    fn repairs(&self, what: What) -> bool {
        self.spec.repair && (what != What::OnlyMirror || self.spec.delete_extra)
    }

    /// A copy that has main's `ETag` and not its bytes would be taken for good by whoever compares
    /// `ETag`s, the mirror's workers included. It is worth nothing, and goes before it is replaced. A look
    /// at the key is noted first: between the two the job may be cancelled.
    async fn remove_false_copy(&mut self, bucket: &str, key: &str) {
        let journal = &self.world.journal;
        journal.recheck(ObjectKey::new(bucket, key), now_ms() + REMOVED_MS).await;
        journal.flush().await;
        if journal.health().failing() {
            return self.error(bucket, key, "the false copy stays: the journal cannot be written");
        }
        let what = "DeleteObject";
        let there = self.world.mirror_bucket(bucket);
        let question = Question::bare(what, Method::DELETE, Some(&there), Some(key));
        let answer = self.world.mirror.ask(question).await;
        let removed = answer.and_then(|answer| answer.success(what));
        let is_gone =
            matches!(&removed, Err(AskError::Refused { code, .. }) if code == "NoSuchKey");
        if let Err(error) = removed
            && !is_gone
        {
            self.error(bucket, key, &format!("the false copy cannot be removed: {error}"));
        }
    }

    fn error(&mut self, bucket: &str, key: &str, reason: &str) {
        tracing::warn!(
            job = self.running.id,
            bucket,
            key,
            error = reason,
            "a key was not compared"
        );
        self.progress.counts.errors += 1;
        self.progress.remark(&format!("some keys could not be compared: {reason}"));
    }

    /// Looks again at the keys of a bucket that were changing, until they are in step, or differ
    /// and no longer change, or time is up.
    pub(super) async fn look_again(&mut self, bucket: &str) -> Result<(), String> {
        let mut later = std::mem::take(&mut self.progress.later);
        let deadline = Instant::now() + LATER_TIME;
        while !later.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(LATER_PAUSE).await;
            later = self.confirm(bucket, &later, false).await?;
        }
        let in_flight = u64::try_from(later.len()).unwrap_or(0);
        self.progress.counts.in_flight += in_flight;
        Ok(())
    }

    /// Rows that tell of objects which are not there. `whole`: the sieve has seen main's whole
    /// listing, and not only what came behind the cursor of a resumed job.
    pub(super) async fn extra_rows(
        &mut self,
        bucket: &str,
        mut sieve: Sieve,
        whole: bool,
    ) -> Result<(), String> {
        if !whole {
            sieve = Sieve::new();
            let mut lister = Lister::new(self.main_place(bucket), None);
            while let Some(listed) = lister.peek().await? {
                sieve.toggle(&listed.key);
                drop(lister.take());
            }
        }
        let mut after = 0;
        loop {
            let page = self.world.scan(bucket, after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            for row in page.iter().filter(|row| !row.deleted) {
                if row.path.starts_with(&self.spec.prefix) {
                    sieve.toggle(&row.path);
                }
            }
        }
        after = 0;
        loop {
            let page = self.world.scan(bucket, after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            let suspects: Vec<String> = page
                .into_iter()
                .filter(|row| !row.deleted && row.path.starts_with(&self.spec.prefix))
                .filter(|row| sieve.suspects(&row.path))
                .map(|row| row.path)
                .collect();
            // Missing and differing rows have been told when main's listing met them.
            let suspects = self.without_object(bucket, suspects).await?;
            self.confirm(bucket, &suspects, true).await?;
        }
        Ok(())
    }

    /// Those of the keys that main does not have.
    async fn without_object(&self, bucket: &str, keys: Vec<String>) -> Result<Vec<String>, String> {
        let looks: Vec<(String, Result<_, String>)> = stream::iter(keys)
            .map(|key| async move {
                let examined = self.world.examine(bucket, &key).await;
                (key, examined)
            })
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let mut gone = Vec::new();
        for (key, examined) in looks {
            // On the mirror it has been told when the mirror's listing met it.
            let examined = examined?;
            if examined.main.is_none() && examined.mirror.is_none() {
                gone.push(key);
            }
        }
        Ok(gone)
    }
}
