//! The mirror's workers: each claims one key, brings the mirror to main's state, settles.
//!
//! # Promises
//! - **P4** Convergence; the argument stands in `replicate`.
//! - **P5** Workers share nothing with requests but the journal.
//! - **P6** At most `MIRROR_CONCURRENCY` keys are under way.
//! - **P8** There is no way to drop a key: it completes, is retried with a capped pause, or is
//!   parked with its reason.
//!
//! # Cancellation
//! A worker may be stopped at any point. The entry it had claimed is still in the journal.

mod acl;
mod apply;
mod brake;
mod breaker;
mod buckets;
mod condemned;
mod copies;
mod deletes;
mod large;
mod layout;
mod lineage;
mod lock;
mod multipart;
mod needed;
mod pace;
mod parts;
mod pause;
mod refusals;
mod replicate;
mod restore;
mod retry;
mod settle;
mod shares;
mod uploads;
mod version_lists;
mod versioning;
mod versions;
mod write;

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use crate::config::{DeletePolicy, Fence, Mirroring};
use crate::journal::{AppendError, Journal, Work};
use crate::metrics::Metrics;
use crate::spans::Spans;
use crate::upstream::Upstream;
use breaker::{Breaker, Pass};
pub use deletes::Brake;
use deletes::Deletes;
use large::{Entered, LARGE_BYTES, Large};
use pace::Pace;
pub use pause::Paused;
use replicate::{Naming, Replicator};
pub use restore::{RestoreError, Restorer};
pub use shares::KnownKeys;
use uploads::Uploads;
use write::Writer;

/// How it is to be done.
pub struct Settings {
    /// Mirror bucket = prefix + bucket.
    pub prefix: String,
    /// When a copy is checked against main.
    pub fence: Fence,
    /// What becomes of deletes, and budgets.
    pub mirroring: Mirroring,
    /// Workers that there will be.
    pub workers: usize,
    /// How many keys a bucket has, if anybody knows.
    pub known_keys: Option<KnownKeys>,
    /// Where copies are traced, if they are.
    pub spans: Option<Spans>,
}

/// What the workers need.
pub struct Mirror {
    journal: Journal,
    metrics: Metrics,
    replicator: Replicator,
    deletes: Arc<Deletes>,
    uploads: Arc<Uploads>,
    breaker: Breaker,
    gate: pause::Gate,
    large: Large,
    spans: Option<Spans>,
}

impl Mirror {
    /// Puts the workers' tools together.
    pub fn new(
        journal: Journal,
        metrics: Metrics,
        main: Arc<Upstream>,
        mirror: Arc<Upstream>,
        settings: Settings,
    ) -> Arc<Self> {
        let Settings { prefix, fence, mirroring, workers, known_keys, spans } = settings;
        let pace = Pace::new(mirroring.bytes_per_second, mirroring.requests_per_second);
        let writer = Writer::new(mirror.clone(), pace, workers);
        let default_type = ArcSwapOption::empty();
        let versioning =
            mirroring.versions.then(|| Arc::new(versioning::Versioning::new(journal.clone())));
        let deletes = Deletes::new(journal.clone(), &mirroring, known_keys, versioning.clone());
        let uploads = Arc::new(Uploads::new(Some(journal.clone())));
        let replicator = Replicator {
            main,
            mirror,
            writer,
            naming: Naming::With(prefix),
            fence,
            default_type,
            deletes: Some(deletes.clone()),
            storage_classes: mirroring.storage_classes,
            acl: mirroring.acl,
            object_lock: mirroring.object_lock,
            put_bytes_max: mirroring.put_bytes_max,
            uploads: uploads.clone(),
            versioning,
        };
        let (breaker, gate) = (Breaker::default(), pause::Gate::new());
        let large = Large::new(workers);
        Arc::new(Self {
            journal,
            metrics,
            replicator,
            deletes,
            uploads,
            breaker,
            gate,
            large,
            spans,
        })
    }

    /// One worker; runs until it is dropped.
    pub async fn work(self: Arc<Self>) {
        loop {
            self.gate.pass().await;
            // A pause that comes while there is nothing to claim.
            let work = loop {
                tokio::select! {
                    biased;
                    () = self.gate.shut() => self.gate.pass().await,
                    work = self.journal.claim() => break work,
                }
            };
            let is_large = expected_bytes(&work) >= LARGE_BYTES;
            let Some((work, pass)) = self.admit(work, is_large).await else { continue };
            let large =
                if is_large { Some((work, pass)) } else { self.settle(work, pass, false).await };
            let Some((work, pass)) = large else { continue };
            let admitted = if pass.knocks() {
                // It turned out to be large.
                self.knock(&work, pass).await;
                self.admit(work, true).await
            } else {
                Some((work, pass))
            };
            if let Some((work, pass)) = admitted {
                self.work_large(work, pass).await;
            }
        }
    }

    /// Leave to try this key now. `None`: the mirror is away, and the key rests, so that those behind
    /// it which can do without the mirror get their turn. A large object knocks with a question, not with
    /// itself: nobody else would be let through until all of it is copied.
    async fn admit(&self, mut work: Work, is_large: bool) -> Option<(Work, Pass<'_>)> {
        loop {
            let until = match self.breaker.pass(Instant::now()) {
                Ok(pass) if pass.knocks() && is_large => {
                    self.knock(&work, pass).await;
                    continue;
                }
                Ok(pass) => return Some((work, pass)),
                Err(_) if self.deletes.spares(&work.entry) => {
                    return Some((work, self.breaker.bypass()));
                }
                Err(until) => until,
            };
            let rests = self.journal.rest(work, until).await;
            if !self.breaker.is_open() {
                // Somebody was answered meanwhile and has called all that rested before this key.
                self.journal.hasten().await;
            }
            work = rests?;
            // Memory is full of such keys.
            self.breaker.rest(until).await;
            self.gate.pass().await;
        }
    }

    /// Copies a large object, and those that have queued up behind it, if it is this worker's turn.
    async fn work_large(&self, work: Work, pass: Pass<'_>) {
        let mut large = match self.large.enter(work) {
            Entered::Now(work) => (work, pass),
            Entered::Queued => return,
            Entered::Full(work, pause) => {
                drop(pass);
                let pause = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
                return self.journal.defer(work, pause, "waits behind other large objects").await;
            }
        };
        loop {
            self.settle(large.0, large.1, true).await;
            large = loop {
                let Some(next) = self.large.leave() else { return };
                self.gate.pass().await;
                if let Some(next) = self.admit(next, true).await {
                    break next;
                }
            };
        }
    }

    /// Is the mirror (or main) out of reach, as far as the workers can tell?
    pub fn unreachable(&self) -> bool {
        self.breaker.is_open()
    }

    /// Will it take a body that is kept for it now, before long?
    pub fn takes_bodies(&self) -> bool {
        let disk = self.journal.health();
        !self.gate.is_shut()
            && !self.breaker.is_open()
            && self.journal.has_room_for_bodies()
            // What is kept goes to the same disk.
            && !disk.ails()
    }

    /// What becomes of deletes.
    pub fn delete_policy(&self) -> DeletePolicy {
        self.deletes.policy()
    }

    /// Buckets whose deletes are held back until they are released.
    pub fn brakes(&self) -> Vec<Brake> {
        self.deletes.brakes()
    }

    /// Lets the held deletes of a bucket go; false when it has no brake on.
    pub async fn release(&self, bucket: &str) -> bool {
        self.deletes.release(bucket).await
    }

    /// Finds the brakes, the pause and the uploads of the previous run; to be called before the
    /// first worker starts.
    pub async fn recover(&self) -> Result<(), sqlx::Error> {
        self.gate.recover(&self.journal).await?;
        self.uploads.recover().await?;
        self.deletes.recover().await
    }

    /// Looks after what was released, and after uploads that nobody is at; runs until it is dropped.
    pub async fn watch(self: Arc<Self>) {
        tokio::join!(self.deletes.sweep(), self.clear_uploads());
    }

    /// To be called at a stop, when [`Mirror::watch`] and the workers have ended.
    pub async fn keep(&self) {
        self.deletes.keep().await;
    }

    async fn clear_uploads(&self) {
        loop {
            let number = self.uploads.next_due().await;
            self.gate.pass().await;
            // A mirror that is away is left to those who knock.
            while self.breaker.is_open() {
                tokio::time::sleep(uploads::REST).await;
            }
            self.uploads.clear(number, &self.replicator).await;
        }
    }

    /// Has a person stopped mirroring?
    pub fn paused(&self) -> Option<Paused> {
        self.gate.paused()
    }

    /// Stops mirroring: what is under way ends, nothing new is begun. Survives a restart.
    pub async fn pause(&self, reason: Option<String>) -> Result<Paused, AppendError> {
        self.gate.pause(&self.journal, reason).await
    }

    /// Lets mirroring go on. False: it was not stopped.
    pub async fn resume(&self) -> Result<bool, AppendError> {
        self.gate.resume(&self.journal).await
    }
}

/// Size of the object, as far as it can be known before main is asked.
fn expected_bytes(work: &Work) -> u64 {
    let facts = &work.entry.facts;
    let kept = work.body.as_ref().map(crate::tee::TeedBody::length);
    let listed = || facts.layout.as_ref().map(crate::journal::entry::PartLayout::total);
    kept.or(facts.size).or_else(listed).unwrap_or(0)
}
