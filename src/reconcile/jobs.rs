//! The jobs of this process: started, watched, cancelled; at most [`RUNNING_MAX`] at a time.
//!
//! # Notes
//! `jobs` in the journal lists what runs and the last 20 that ended; `job/<id>` is the
//! progress of one that runs. Both are written before a person is told that a job was started, so
//! that a restart goes on with every job that was promised.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::World;
use super::job::{Kind, Progress, Spec, State, View};
use super::report;
use super::run::Runner;
use super::running::Running;
use crate::journal::{AppendError, now_ms};

/// Jobs at a time.
pub const RUNNING_MAX: usize = 4;
/// Ended jobs that are remembered.
const KEPT: usize = 20;
/// The note that lists jobs.
const INDEX: &str = "jobs";

/// Why a job was not started.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// What was asked for contradicts itself.
    #[error("{0}")]
    Invalid(&'static str),
    /// Another job is at it, or too many are.
    #[error("{0}")]
    Busy(String),
    /// The journal cannot be written.
    #[error("the journal cannot be written")]
    Unavailable,
}

/// What a restart must know of a job.
#[derive(Serialize, Deserialize)]
struct Started {
    id: String,
    spec: Spec,
    since_ms: i64,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Index {
    running: Vec<Started>,
    ended: VecDeque<View>,
}

/// The jobs; cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    inner: Arc<Inner>,
}

struct Inner {
    world: World,
    running: Mutex<BTreeMap<String, Arc<Running>>>,
    ended: Mutex<VecDeque<View>>,
    begun: mpsc::Sender<Arc<Running>>,
    // Taken by `work`.
    to_run: Mutex<Option<mpsc::Receiver<Arc<Running>>>>,
    // Notes are written one after the other, so that the last one is the newest.
    noting: tokio::sync::Mutex<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Jobs {
    /// Reads what the previous process left. Nothing runs before [`Jobs::work`].
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn open(world: World) -> Result<Self, sqlx::Error> {
        let index = world.journal.note(INDEX).await?;
        let index: Index =
            index.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let (begun, to_run) = mpsc::channel(RUNNING_MAX);
        let mut running = BTreeMap::new();
        for Started { id, spec, since_ms } in index.running {
            tracing::info!(job = id, kind = spec.kind.name(), "a job goes on");
            let job = Running::new(id.clone(), spec, since_ms);
            // There is room: no more were started than may run.
            begun.try_send(job.clone()).unwrap_or_default();
            running.insert(id, job);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                world,
                running: Mutex::new(running),
                ended: Mutex::new(index.ended),
                begun,
                to_run: Mutex::new(Some(to_run)),
                noting: tokio::sync::Mutex::default(),
            }),
        })
    }

    /// Runs jobs until it is dropped; what runs then goes on at the next start.
    pub async fn work(self) {
        let Some(mut to_run) = lock(&self.inner.to_run).take() else { return };
        let mut tasks = JoinSet::new();
        loop {
            tokio::select! {
                job = to_run.recv() => {
                    let Some(job) = job else { return };
                    let jobs = self.clone();
                    tasks.spawn(async move { jobs.run(job).await });
                }
                Some(ended) = tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "a job ended unexpectedly");
                    }
                }
            }
        }
    }

    /// Starts a job; yields its name when it is sure to run, over a restart too.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(&self, spec: Spec) -> Result<String, StartError> {
        let jobs = self.clone();
        // To its end, whatever becomes of the request: a job that is neither begun nor given up would
        // keep its place.
        let begun = tokio::spawn(async move { jobs.begin(spec).await });
        begun.await.unwrap_or(Err(StartError::Unavailable))
    }

    async fn begin(&self, spec: Spec) -> Result<String, StartError> {
        if let Some(fault) = spec.fault() {
            return Err(StartError::Invalid(fault));
        }
        let started_ms = now_ms();
        let id = name(spec.kind, OffsetDateTime::now_utc(), fastrand::u16(..));
        let job = Running::new(id.clone(), spec, started_ms);
        {
            let mut running = lock(&self.inner.running);
            if running.len() >= RUNNING_MAX {
                return Err(StartError::Busy(format!("{RUNNING_MAX} jobs are running already")));
            }
            if let Some(other) = running.values().find(|other| overlap(&other.spec, &job.spec)) {
                return Err(StartError::Busy(format!("job {} is at it already", other.id)));
            }
            running.insert(id.clone(), job.clone());
        }
        if self.note_index().await.is_err() {
            lock(&self.inner.running).remove(&id);
            return Err(StartError::Unavailable);
        }
        tracing::info!(job = id, kind = job.spec.kind.name(), "a job was started");
        // There is room: no more run than the queue holds.
        self.inner.begun.try_send(job).unwrap_or_default();
        Ok(id)
    }

    /// Every job that is known, the newest first.
    pub fn list(&self) -> Vec<View> {
        let mut views: Vec<View> =
            lock(&self.inner.running).values().map(|job| job.view()).collect();
        views.extend(lock(&self.inner.ended).iter().cloned());
        views.sort_by_key(|view| std::cmp::Reverse(view.started_ms));
        views
    }

    /// One job.
    pub fn get(&self, id: &str) -> Option<View> {
        self.list().into_iter().find(|view| view.id == id)
    }

    /// Ends a job; false: it does not run. What it has handed to the journal stays there.
    pub fn cancel(&self, id: &str) -> bool {
        let job = lock(&self.inner.running).get(id).cloned();
        job.inspect(|job| job.cancel()).is_some()
    }

    pub(super) async fn note(&self, name: &str) -> Result<Option<String>, sqlx::Error> {
        self.inner.world.journal.note(name).await
    }

    pub(super) async fn set_note(&self, name: &str, value: &str) -> Result<(), AppendError> {
        self.inner.world.journal.set_note(name, Some(value)).await
    }

    /// Where reports are kept.
    pub fn reports(&self) -> &std::path::Path {
        &self.inner.world.reports
    }

    async fn run(&self, job: Arc<Running>) {
        let world = &self.inner.world;
        let note = format!("job/{}", job.id);
        let progress = match world.journal.note(&note).await {
            Ok(text) => text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default(),
            Err(error) => {
                tracing::warn!(job = job.id, %error, "a job begins anew: its progress is lost");
                Progress::default()
            }
        };
        let result = tokio::select! {
            result = Runner::new(world, &job, progress).run() => Some(result),
            () = job.cancelled() => None,
        };
        let mut view = job.view();
        view.finished_ms = Some(now_ms());
        view.eta_seconds = None;
        match result {
            Some(Ok(progress)) => {
                view.state = State::Done;
                view.message = summary(&view);
                if view.spec.kind == Kind::Verify {
                    match report::write(&world.reports, &view, &progress).await {
                        Ok(name) => view.report = Some(name),
                        Err(error) => {
                            tracing::error!(job = job.id, %error, "the report was not written");
                        }
                    }
                } else if !progress.remarks.is_empty() {
                    view.message = format!("{}; {}", view.message, progress.remarks.join("; "));
                }
            }
            Some(Err(reason)) => (view.state, view.message) = (State::Failed, reason),
            None => {
                view.state = State::Cancelled;
                view.message = "cancelled; what was handed to the journal is still done".into();
            }
        }
        tracing::info!(
            job = job.id,
            kind = view.spec.kind.name(),
            state = ?view.state,
            scanned = view.scanned,
            queued = view.queued,
            differences = view.differences,
            errors = view.errors,
            message = "a job ended",
            outcome = view.message,
        );
        {
            let mut ended = lock(&self.inner.ended);
            ended.push_front(view);
            ended.truncate(KEPT);
        }
        lock(&self.inner.running).remove(&job.id);
        let noted = self.note_index().await;
        let removed = world.journal.set_note(&note, None).await;
        if noted.is_err() || removed.is_err() {
            tracing::warn!(job = job.id, "the end of a job was not kept; it may run once more");
        }
    }

    async fn note_index(&self) -> Result<(), StartError> {
        let _one_by_one = self.inner.noting.lock().await;
        let running = lock(&self.inner.running)
            .values()
            .map(|job| Started {
                id: job.id.clone(),
                spec: job.spec.clone(),
                since_ms: job.view().started_ms,
            })
            .collect();
        let index = Index { running, ended: lock(&self.inner.ended).clone() };
        let text = serde_json::to_string(&index).unwrap_or_default();
        let noted = self.inner.world.journal.set_note(INDEX, Some(&text)).await;
        noted.map_err(|_| StartError::Unavailable)
    }
}

/// `verify-20261121T120000Z-1a2b`: names sort by time within a kind.
fn name(kind: Kind, now: OffsetDateTime, random: u16) -> String {
    format!(
        "{}-{:04}{:02}{:02}T{:02}{:02}{:02}Z-{random:04x}",
        kind.name(),
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second()
    )
}

/// Would the two do the same work twice?
fn overlap(one: &Spec, other: &Spec) -> bool {
    one.kind == other.kind
        && match (&one.bucket, &other.bucket) {
            (Some(one_bucket), Some(other_bucket)) => {
                one_bucket == other_bucket
                    && (one.prefix.starts_with(&other.prefix)
                        || other.prefix.starts_with(&one.prefix))
            }
            _ => true,
        }
}

/// One line for a person.
fn summary(view: &View) -> String {
    let counts = &view.counts;
    let parts: Vec<String> = [
        (counts.only_main, "only on main"),
        (counts.only_mirror, "only on the mirror"),
        (counts.different, "different"),
        (counts.inventory, "wrong in the inventory"),
        (counts.incomparable, "not comparable by ETag"),
        (counts.in_flight, "still changing"),
        (view.errors, "with errors"),
    ]
    .iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect();
    let found = if parts.is_empty() { "all in step".to_owned() } else { parts.join(", ") };
    let queued = match (view.queued, view.spec.kind) {
        (0, _) => String::new(),
        (queued, Kind::Backfill) => format!("; {queued} brought over"),
        (queued, Kind::Verify) => format!("; {queued} repaired"),
    };
    format!("{} keys: {found}{queued}", view.scanned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::job::Counts;

    fn spec(kind: Kind, bucket: Option<&str>, prefix: &str) -> Spec {
        Spec {
            kind,
            bucket: bucket.map(str::to_owned),
            prefix: prefix.to_owned(),
            deep: false,
            repair: false,
            delete_extra: false,
            rate: None,
            bandwidth: None,
        }
    }

    #[test]
    fn jobs_of_one_kind_on_the_same_keys_overlap_and_others_do_not() {
        let all = spec(Kind::Verify, None, "");
        let one = spec(Kind::Verify, Some("a"), "x/");
        assert!(overlap(&all, &one) && overlap(&one, &all));
        assert!(overlap(&one, &spec(Kind::Verify, Some("a"), "x/y")));
        assert!(!overlap(&one, &spec(Kind::Verify, Some("a"), "y")));
        assert!(!overlap(&one, &spec(Kind::Verify, Some("b"), "x/")));
        assert!(!overlap(&one, &spec(Kind::Backfill, Some("a"), "x/")));
    }

    #[test]
    fn names_sort_by_time() {
        let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).unwrap();
        assert_eq!(name(Kind::Verify, at(1_795_243_277), 0x1a), "verify-20261121T064117Z-001a");
        assert!(name(Kind::Verify, at(1), u16::MAX) < name(Kind::Verify, at(2), 0));
    }

    #[test]
    fn the_summary_tells_what_was_found() {
        let running = Running::new("j".into(), spec(Kind::Verify, None, ""), 0);
        let counts = Counts { scanned: 5, only_main: 2, ..Counts::default() };
        let progress = Progress { counts, ..Progress::default() };
        running.publish(&progress, None, None, String::new(), 0);
        assert_eq!(summary(&running.view()), "5 keys: 2 only on main");
    }
}
