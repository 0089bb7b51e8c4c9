//! Taking back everything that was made.

use std::time::Duration;

use http::Method;

use super::call::{Call, Patient, Seen, success};
use super::finding::Finding;
use super::judge;
use crate::s3::listing;

/// Tries of each request.
const TRIES: u32 = 3;
/// Pause between them.
const PAUSE: Duration = Duration::from_millis(500);
/// Pages of a listing that are looked through; there is far less than one.
const ROUNDS: u32 = 3;

impl Patient<'_> {
    /// Removes what was made, whether a person has ended it or not, and tells what is left.
    pub(super) async fn clean(&mut self, tell: &mut dyn FnMut(Finding)) {
        let nothing_made = self.keys.is_empty() && !self.own_bucket;
        if nothing_made {
            return;
        }
        let outcome = self.remove().await;
        let place = if self.own_bucket {
            format!("bucket `{}`", self.bucket)
        } else {
            format!("bucket `{}` below `{}`", self.bucket, self.place.prefix)
        };
        tell(judge::cleanup(self.side, &place, self.in_doubt, &outcome));
    }

    async fn remove(&mut self) -> Result<(), Seen> {
        for (key, id) in self.uploads.clone() {
            let query = [("uploadId", id.as_str())];
            self.gone("AbortMultipartUpload", &key, &query).await?;
        }
        let prefix = self.place.prefix.clone();
        let versioned: Vec<String> = self.versions.iter().map(|(key, _)| key.clone()).collect();
        for key in self.keys.clone() {
            // Deleting a key with versions would make one more.
            if !versioned.contains(&key) {
                self.gone("DeleteObject", name(&key, &prefix), &[]).await?;
            }
        }
        self.remove_versions().await?;
        for _ in 0..ROUNDS {
            let left = self.left().await?;
            if left.is_empty() {
                break;
            }
            for key in left {
                self.gone("DeleteObject", name(&key, &prefix), &[]).await?;
            }
            self.remove_versions().await?;
        }
        if !self.left().await?.is_empty() {
            return Err(Seen::Otherwise("still lists what was deleted"));
        }
        if self.own_bucket {
            self.gone("DeleteBucket", "", &[]).await?;
        }
        Ok(())
    }

    async fn remove_versions(&mut self) -> Result<(), Seen> {
        let prefix = self.place.prefix.clone();
        let known = std::mem::take(&mut self.versions);
        for (key, version) in &known {
            let query = [("versionId", version.as_str())];
            self.gone("DeleteObject", name(key, &prefix), &query).await?;
        }
        // The answers name the versions that are gone now.
        self.versions.retain(|version| !known.contains(version));
        Ok(())
    }

    /// Keys that are still listed below the prefix.
    async fn left(&mut self) -> Result<Vec<String>, Seen> {
        let prefix = self.place.prefix.clone();
        let query = [("list-type", "2"), ("prefix", prefix.as_str())];
        let call = || Call { query: &query, ..Call::default() };
        let mut answer = self.send("ListObjectsV2", Method::GET, call()).await.and_then(success);
        for _ in 1..TRIES {
            if !passes(&answer) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
            answer = self.send("ListObjectsV2", Method::GET, call()).await.and_then(success);
        }
        let answer = match answer {
            // There is no bucket; or we may not list, and every delete has been confirmed.
            Err(Seen::Refused { status: 401 | 403 | 404 | 405 | 501, .. }) => return Ok(Vec::new()),
            answer => answer?,
        };
        let page = listing::page(&answer.document);
        let page = page.map_err(|_| Seen::Otherwise("answered what is no listing"))?;
        let keys = page.objects.into_iter().map(|object| object.key);
        Ok(keys.filter(|key| key.starts_with(&prefix)).collect())
    }

    /// Deletes; what is not there is deleted.
    async fn gone(
        &mut self,
        what: &'static str,
        key: &str,
        query: &[(&str, &str)],
    ) -> Result<(), Seen> {
        let mut tries = 0;
        loop {
            tries += 1;
            let call = Call { key, query, ..Call::default() };
            let answer = self.send(what, Method::DELETE, call).await.and_then(success);
            match answer {
                Ok(_) | Err(Seen::Refused { status: 404, .. }) => return Ok(()),
                Err(seen) if tries == TRIES || !passes(&Err::<(), _>(seen.clone())) => {
                    return Err(seen);
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

/// May the same request be answered otherwise a little later?
fn passes<T>(answer: &Result<T, Seen>) -> bool {
    matches!(
        answer,
        Err(Seen::Away(_) | Seen::Refused { status: 408 | 409 | 425 | 429 | 500..=599, .. })
    )
}

/// A key without the prefix.
fn name<'k>(key: &'k str, prefix: &str) -> &'k str {
    key.strip_prefix(prefix).unwrap_or(key)
}
