//! Credentials that end: kept while they are good, renewed ahead of their end.
//!
//! # Promises
//! - While the present credentials are good, no request waits: they are renewed by a task of its
//!   own, one at a time, and a renewal that fails is tried again every second.
//! - Credentials about to end are not used any more: a request that is signed now may be judged
//!   by a server whose clock is ahead.
//! - Keys in files have no end. They are looked at again every two seconds while requests
//!   come, and before the first request after a pause; the last ones serve while the files cannot
//!   be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Credentials, NoCredentials};
use crate::config::Secret;

/// Credentials are renewed this long before their end, or at half of their life if that is later.
const RENEW_BEFORE: Duration = Duration::from_mins(5);
/// They are not used any more this long before their end, or in the last tenth of their life.
const UNUSABLE_BEFORE: Duration = Duration::from_secs(10);
/// Pause after a failed renewal.
const RETRY: Duration = Duration::from_secs(1);
/// How long a source may take. Who is asked in vain for ever would be waited for by every request, once the
/// present credentials have ended.
const ASKED: Duration = Duration::from_secs(30);
/// How old what was read from files may be before they are read again, beside requests.
const FILES_LOOKED_AT: Duration = Duration::from_secs(2);
/// How old it may be before a request waits for them to be read again.
const FILES_STALE: Duration = Duration::from_secs(10);

/// Credentials and until when they serve.
#[derive(Debug)]
pub(super) struct Lease {
    credentials: Arc<Credentials>,
    /// From here on they are renewed.
    renew_at: Option<SystemTime>,
    /// From here on a request waits for others.
    wait_at: Option<SystemTime>,
    /// When they end, if they do.
    end: Option<SystemTime>,
}

impl Lease {
    fn new(fresh: &aws_credential_types::Credentials, now: SystemTime, files: bool) -> Self {
        let credentials = Arc::new(Credentials {
            access_key_id: fresh.access_key_id().to_owned(),
            secret_access_key: Secret::new(fresh.secret_access_key()),
            session_token: fresh.session_token().map(Secret::new),
        });
        let (renew_at, wait_at) = match fresh.expiry() {
            Some(end) => {
                let life = end.duration_since(now).unwrap_or_default();
                let before = |margin: Duration| end.checked_sub(margin);
                (before(RENEW_BEFORE.min(life / 2)), before(UNUSABLE_BEFORE.min(life / 10)))
            }
            None if files => (Some(now + FILES_LOOKED_AT), Some(now + FILES_STALE)),
            None => (None, None),
        };
        Self { credentials, renew_at, wait_at, end: fresh.expiry() }
    }

    pub(super) fn credentials(&self) -> Arc<Credentials> {
        self.credentials.clone()
    }

    /// When whoever keeps a copy should ask for another.
    pub(super) fn ask_again(&self) -> Option<SystemTime> {
        self.wait_at
    }

    fn is_fresh(&self, now: SystemTime) -> bool {
        self.renew_at.is_none_or(|at| now < at)
    }

    fn is_good(&self, now: SystemTime) -> bool {
        self.wait_at.is_none_or(|at| now < at)
    }
}

/// A source of credentials with what it last gave.
#[derive(Debug, Clone)]
pub struct Leases(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    source: SharedCredentialsProvider,
    files: bool,
    current: ArcSwapOption<Lease>,
    /// Did the source have none when it was asked last?
    failing: AtomicBool,
    /// Held while the source is asked; when and why that last failed.
    asking: Arc<Mutex<Option<(SystemTime, NoCredentials)>>>,
}

type Asking = OwnedMutexGuard<Option<(SystemTime, NoCredentials)>>;

impl Leases {
    pub(super) fn new(source: SharedCredentialsProvider) -> Self {
        Self::with(source, false)
    }

    pub(super) fn of_files(source: SharedCredentialsProvider) -> Self {
        Self::with(source, true)
    }

    fn with(source: SharedCredentialsProvider, files: bool) -> Self {
        let (current, asking) = (ArcSwapOption::empty(), Arc::default());
        let failing = AtomicBool::new(false);
        Self(Arc::new(Shared { source, files, current, failing, asking }))
    }

    /// When the present credentials end, if they do, and whether others could not be had when that
    /// was tried last. Asks nobody.
    pub(super) fn prospects(&self) -> (Option<SystemTime>, bool) {
        let end = self.0.current.load().as_ref().and_then(|lease| lease.end);
        (end, self.0.failing.load(Ordering::Relaxed))
    }

    /// Credentials that are good now.
    pub(super) async fn current(&self, now: SystemTime) -> Result<Arc<Lease>, NoCredentials> {
        let lease = self.0.current.load_full();
        if let Some(lease) = lease.filter(|lease| lease.is_good(now)) {
            if !lease.is_fresh(now)
                && let Ok(asking) = self.0.asking.clone().try_lock_owned()
                && !paused(&asking, now)
            {
                let shared = self.0.clone();
                tokio::spawn(async move {
                    // What went wrong is in the log; the present credentials are still good.
                    drop(shared.renew(asking, SystemTime::now()).await);
                });
            }
            return Ok(lease);
        }
        let asking = self.0.asking.clone().lock_owned().await;
        let now = now.max(SystemTime::now());
        if let Some(lease) = self.0.current.load_full().filter(|lease| lease.is_good(now)) {
            return Ok(lease);
        }
        match asking.as_ref().filter(|_| paused(&asking, now)) {
            Some((_, error)) => self.0.last_resort(error.clone()),
            None => self.0.renew(asking, now).await,
        }
    }
}

fn paused(asking: &Asking, now: SystemTime) -> bool {
    asking.as_ref().is_some_and(|(at, _)| now < *at + RETRY)
}

impl Shared {
    async fn renew(
        &self,
        mut asking: Asking,
        now: SystemTime,
    ) -> Result<Arc<Lease>, NoCredentials> {
        let asked = tokio::time::timeout(ASKED, self.source.provide_credentials()).await;
        let asked = asked.unwrap_or_else(|_| Err(CredentialsError::provider_timed_out(ASKED)));
        match asked {
            Ok(fresh) => {
                let lease = Arc::new(Lease::new(&fresh, now, self.files));
                self.current.store(Some(lease.clone()));
                self.failing.store(false, Ordering::Relaxed);
                *asking = None;
                Ok(lease)
            }
            Err(error) => {
                let error = NoCredentials(crate::upstream::describe(&error));
                tracing::error!(%error, "cannot get credentials");
                self.failing.store(true, Ordering::Relaxed);
                *asking = Some((SystemTime::now(), error.clone()));
                self.last_resort(error)
            }
        }
    }

    /// Old keys that do not end are better than none.
    fn last_resort(&self, error: NoCredentials) -> Result<Arc<Lease>, NoCredentials> {
        self.current.load_full().filter(|lease| lease.end.is_none()).ok_or(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use aws_credential_types::Credentials as Fresh;
    use aws_credential_types::provider::error::CredentialsError;
    use aws_credential_types::provider::{ProvideCredentials, future};

    use super::*;

    const LIFE: Duration = Duration::from_mins(15);

    /// Numbers what it hands out; counts how often it is asked, and refuses on demand.
    #[derive(Debug, Default, Clone)]
    struct Source(Arc<(AtomicU32, AtomicBool)>, Option<Duration>);

    impl ProvideCredentials for Source {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let number = self.0.0.fetch_add(1, Ordering::Relaxed);
            future::ProvideCredentials::ready(if self.0.1.load(Ordering::Relaxed) {
                Err(CredentialsError::not_loaded("no"))
            } else {
                let end = self.1.map(|life| SystemTime::now() + life);
                Ok(Fresh::new(format!("K{number}"), "s", None, end, "test"))
            })
        }
    }

    async fn key(leases: &Leases, now: SystemTime) -> Result<String, NoCredentials> {
        Ok(leases.current(now).await?.credentials().access_key_id.clone())
    }

    #[tokio::test]
    async fn prospects_tell_the_end_and_whether_there_will_be_others() {
        let source = Source(Arc::default(), Some(LIFE));
        let leases = Leases::new(SharedCredentialsProvider::new(source.clone()));
        assert_eq!(leases.prospects(), (None, false), "nobody has asked yet");
        let start = SystemTime::now();
        key(&leases, start).await.unwrap();
        let (end, failing) = leases.prospects();
        assert!(end.unwrap() >= start + LIFE && !failing);
        source.0.1.store(true, Ordering::Relaxed);
        key(&leases, start + LIFE).await.unwrap_err();
        assert!(leases.prospects().1);
    }

    #[tokio::test]
    async fn credentials_are_renewed_beside_the_requests_that_use_them() {
        let source = Source(Arc::default(), Some(LIFE));
        let leases = Leases::new(SharedCredentialsProvider::new(source.clone()));
        let start = SystemTime::now();
        assert_eq!(key(&leases, start).await.unwrap(), "K0");
        assert_eq!(key(&leases, start + LIFE / 2).await.unwrap(), "K0");
        assert_eq!(source.0.0.load(Ordering::Relaxed), 1);
        let late = start + LIFE - Duration::from_mins(4);
        assert_eq!(key(&leases, late).await.unwrap(), "K0", "this request does not wait");
        while key(&leases, start).await.unwrap() == "K0" {
            tokio::task::yield_now().await;
        }
        assert_eq!(source.0.0.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn a_failed_renewal_costs_nothing_until_the_end_and_then_says_why() {
        let source = Source(Arc::default(), Some(LIFE));
        let leases = Leases::new(SharedCredentialsProvider::new(source.clone()));
        let start = SystemTime::now();
        assert_eq!(key(&leases, start).await.unwrap(), "K0");
        source.0.1.store(true, Ordering::Relaxed);
        let late = start + LIFE - Duration::from_mins(1);
        assert_eq!(key(&leases, late).await.unwrap(), "K0");
        let ended = start + LIFE - Duration::from_secs(5);
        let error = key(&leases, ended).await.unwrap_err();
        assert!(error.to_string().contains("no credentials"), "{error}");
        source.0.1.store(false, Ordering::Relaxed);
        assert_ne!(key(&leases, ended + RETRY * 2).await.unwrap(), "K0");
    }

    #[tokio::test]
    async fn keys_of_files_are_read_again_and_outlive_the_files() {
        let source = Source(Arc::default(), None);
        let leases = Leases::of_files(SharedCredentialsProvider::new(source.clone()));
        let start = SystemTime::now();
        assert_eq!(key(&leases, start).await.unwrap(), "K0");
        let after_a_pause = start + Duration::from_mins(1);
        assert_eq!(key(&leases, after_a_pause).await.unwrap(), "K1", "the first request waits");
        source.0.1.store(true, Ordering::Relaxed);
        assert_eq!(key(&leases, after_a_pause + FILES_STALE * 2).await.unwrap(), "K1");
    }

    #[tokio::test]
    async fn keys_without_an_end_are_asked_for_once() {
        let source = Source(Arc::default(), None);
        let leases = Leases::new(SharedCredentialsProvider::new(source.clone()));
        let start = SystemTime::now();
        assert_eq!(key(&leases, start).await.unwrap(), "K0");
        assert_eq!(key(&leases, start + LIFE * 1000).await.unwrap(), "K0");
    }
}
