//! The composition root: what is made from what, in which order it starts and stops.
//!
//! Start: journal (recovery), services, workers, admin port, S3 port, ready.
//! Stop: not ready, no new connections, requests under way end, the backlog drains as long as
//! time allows, workers stop, the journal is flushed. What is left stays in the journal.

mod again;
pub(crate) mod inventory;
mod roles;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admin::guard::{Guard, TokenFileError};
use crate::admin::{self, Admin};
use crate::auth::{Authenticator, CredentialsError, CredentialsFile, POLL_INTERVAL};
use crate::config::{Config, InventoryConfig};
use crate::events::{Courier, Receiver};
use crate::inventory::store::{Store, StoreError};
use crate::journal::{self, Figures, Journal, OpenError};
use crate::metrics::Metrics;
use crate::mirror::{self, Mirror};
use crate::proxy::fallback::Fallback;
use crate::proxy::tls::Tls;
use crate::proxy::{self, AccessRules, Proxy};
use crate::reconcile::World;
use crate::reconcile::jobs::Jobs;
use crate::spans::Spans;
use crate::tee::Tee;
use crate::upstream::Upstream;
use again::again;

/// Keys the mirror could not be brought up to date for while stopping are looked for this often.
const DRAIN_POLL: Duration = Duration::from_millis(50);
/// How long a stop waits for a disk beyond that.
const DISK_TIMEOUT: Duration = Duration::from_secs(5);

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] OpenError),
    /// The journal cannot be read.
    #[error("cannot read the journal: {0}")]
    Reading(#[from] sqlx::Error),
    /// The journal holds changes of the other direction.
    #[error(
        "DATA_DIR {} holds {waits} changes that {main}, which was main, has and its mirror has not got \
         yet. With the roles exchanged they would be undone there: use another DATA_DIR and keep this \
         one (docs/runbooks/failover-to-mirror.md)", data_dir.display()
    )]
    Exchanged {
        /// Whose journal.
        data_dir: PathBuf,
        /// So many.
        waits: i64,
        /// The service that was main.
        main: String,
    },
    /// A port.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The inventory's settings or file.
    #[error(transparent)]
    Inventory(#[from] StoreError),
    /// The file of client credentials.
    #[error(transparent)]
    Clients(#[from] CredentialsError),
    /// The file of the admin token.
    #[error(transparent)]
    AdminToken(#[from] TokenFileError),
    /// A client.
    #[error("cannot set up a client: {0}")]
    Client(#[from] std::io::Error),
}

/// Runs the service until `stop` resolves, and stops it in order. Yields what was left behind.
pub async fn serve(config: Config, stop: impl Future<Output = ()>) -> Result<Figures, StartError> {
    let (journal, writer) = open_journal(&config).await?;
    roles::check(&config, &journal).await?;
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let spans = spans(&config, &metrics)?;
    let main = Arc::new(Upstream::new(&config.main).await?);
    let mirror_service = Arc::new(Upstream::new(&config.mirror).await?);
    let store = inventory::store(&config).await?.map(Arc::new);
    let mirror = Mirror::new(
        journal.clone(),
        metrics.clone(),
        main.clone(),
        mirror_service.clone(),
        mirror_settings(&config, store.clone(), spans.clone()),
    );
    mirror.recover().await?;
    let (jobs, mut background) =
        jobs(&config, &journal, [&main, &mirror_service], store.clone()).await?;
    let mut workers = JoinSet::new();
    let rows = inventory::keep(&config, &mut workers, (&journal, &metrics, &main), store).await;
    let receiver = events(&config, &journal, &metrics, &main, &mut workers)?;
    copy(&config, &journal, &mirror, &mut workers);

    let admin = Admin::new(admin::Parts {
        journal: journal.clone(),
        mirror: mirror.clone(),
        main: main.clone(),
        mirror_service: mirror_service.clone(),
        mirror_bucket_prefix: config.mirror_bucket_prefix.clone(),
        browser: inventory::browser(&config).await?.map(Arc::new),
        metrics: metrics.clone(),
        registry,
        journal_required: config.journal_required,
        data_dir: config.data_dir.clone(),
        guard: Guard::new(&config.admin_token, &config.admin_hosts).await?,
        settings: config.shown.clone(),
        events: receiver,
        rows,
        jobs,
    });
    let access = access_rules(&config, &mut workers).await?;
    let admin_listener = listen(config.admin_addr).await?;
    let listener = listen(config.listen_addr).await?;
    let tls = tls(&config, &mut workers).await?;
    workers.spawn(admin.clone().serve(admin_listener));
    workers.spawn(admin.clone().watch());
    let taker = Arc::downgrade(&mirror);
    let wanted = move || taker.upgrade().is_some_and(|mirror| mirror.takes_bodies());
    let budgets = (config.tee_memory_bytes, config.tee_spool_bytes);
    let tee = Tee::open(budgets, &config.data_dir, wanted)?;
    let access = Arc::new(access);
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let proxies = (0..cores)
        .map(|_| Proxy {
            main: Arc::new(main.sibling()),
            journal: journal.clone(),
            tee: tee.clone(),
            domains: config.proxy_domains.clone(),
            journal_required: config.journal_required,
            tls: tls.is_some(),
            client_timeout: config.client_timeout,
            events: config.events.is_some(),
            fallback: fallback(&config, &mirror_service),
            access: access.clone(),
            metrics: metrics.clone(),
            spans: spans.clone(),
        })
        .collect();
    drop((main, tee, metrics));
    admin.set_ready(true);
    ready(&config);

    let mut deadline = None;
    let stop = announced(&admin, stop);
    let stop = async { deadline = Some(stop.await + config.drain_timeout) };
    let finished =
        proxy::listener::serve(listener, tls, proxies, stop, config.drain_timeout).await?;
    if !finished {
        tracing::warn!("requests were still under way when the time to drain was over");
    }
    // They go on at the next start; until then they must not add to what drains.
    background.shutdown().await;
    let told = config.events.is_some();
    let left = drain(&journal, &mirror, told, deadline.unwrap_or_else(Instant::now)).await;
    workers.shutdown().await;
    keep(&journal, &mirror).await;
    drop((journal, admin, mirror));
    if let Some(spans) = spans {
        spans.finish().await;
    }
    // The writer ends when the last handle is gone; tasks of unfinished requests may hold one.
    if tokio::time::timeout(Duration::from_secs(1), writer).await.is_err() {
        tracing::debug!("requests still hold the journal");
    }
    Ok(left)
}

/// Starts who copies.
fn copy(config: &Config, journal: &Journal, mirror: &Arc<Mirror>, workers: &mut JoinSet<()>) {
    for _ in 0..config.mirror_concurrency {
        let mirror = mirror.clone();
        workers.spawn(again("mirror worker", move || mirror.clone().work()));
    }
    let watched = mirror.clone();
    workers.spawn(again("mirror watch", move || watched.clone().watch()));
    let feeder = journal.clone();
    workers.spawn(async move { again("feed", || feeder.feed()).await });
}

fn spans(config: &Config, metrics: &Metrics) -> Result<Option<Spans>, std::io::Error> {
    config.traces.as_ref().map(|traces| Spans::open(traces, metrics.clone())).transpose()
}

/// Says that traffic is wanted, and from whom to whom.
fn ready(config: &Config) {
    for (name, endpoint) in
        [("MAIN_S3_ENDPOINT", &config.main), ("MIRROR_S3_ENDPOINT", &config.mirror)]
    {
        if endpoint.is_aws_in_clear() {
            tracing::warn!(
                "{name} is plain http to AWS: objects travel in the clear, and every body is signed, \
                 which costs CPU; use https"
            );
        }
    }
    tracing::info!(
        listen = %config.listen_addr,
        admin = %config.admin_addr,
        main = config.main.url(),
        mirror = config.mirror.url(),
        data_dir = %config.data_dir.display(),
        "ready"
    );
}

fn mirror_settings(
    config: &Config,
    store: Option<Arc<Store>>,
    spans: Option<Spans>,
) -> mirror::Settings {
    mirror::Settings {
        prefix: config.mirror_bucket_prefix.clone(),
        fence: config.fence,
        mirroring: config.mirroring.clone(),
        workers: config.mirror_concurrency,
        known_keys: store.map(inventory::known_keys),
        spans,
    }
}

/// Starts the courier of events, if anybody is told of them.
fn events(
    config: &Config,
    journal: &Journal,
    metrics: &Metrics,
    main: &Arc<Upstream>,
    workers: &mut JoinSet<()>,
) -> Result<Option<Receiver>, std::io::Error> {
    let Some(webhook) = config.events.clone() else { return Ok(None) };
    let courier = Courier::new(journal.clone(), metrics.clone(), main.clone(), webhook)?;
    let receiver = courier.receiver();
    workers.spawn(courier.work());
    Ok(Some(receiver))
}

/// Who a proxy reads from while main cannot answer; with connections of its own, like main's.
fn fallback(config: &Config, mirror: &Upstream) -> Option<Fallback> {
    config.read_fallback.then(|| Fallback {
        mirror: Arc::new(mirror.sibling()),
        prefix: config.mirror_bucket_prefix.clone(),
    })
}

/// Finds the jobs of the previous run and lets them go on.
async fn jobs(
    config: &Config,
    journal: &Journal,
    [main, mirror]: [&Arc<Upstream>; 2],
    store: Option<Arc<Store>>,
) -> Result<(Jobs, JoinSet<()>), sqlx::Error> {
    let world = World {
        journal: journal.clone(),
        main: main.clone(),
        mirror: mirror.clone(),
        prefix: config.mirror_bucket_prefix.clone(),
        store,
        reports: config.data_dir.join("reports"),
    };
    // Some workers are always free for live changes.
    journal.limit_background(config.mirror_concurrency.saturating_mul(3) / 4);
    let jobs = Jobs::open(world).await?;
    let mut background = JoinSet::new();
    background.spawn(jobs.clone().work());
    if let Some(schedule) = config.verify_schedule {
        background.spawn(jobs.clone().keep(schedule));
    }
    Ok((jobs, background))
}

/// Opens the journal and starts its writer.
async fn open_journal(config: &Config) -> Result<(Journal, oneshot::Receiver<()>), StartError> {
    let (journal, recovered, writer) = Journal::open(&journal::Settings {
        data_dir: config.data_dir.clone(),
        sync: config.journal_sync,
        inventory: !matches!(config.inventory, InventoryConfig::Disabled),
    })
    .await?;
    if recovered.unsettled > 0 {
        tracing::warn!(
            intents = recovered.unsettled,
            "the previous run ended with requests under way; main is asked what became of them"
        );
    }
    journal.index_keys(config.read_fallback).await;
    Ok((journal, journal::on_its_own_thread(writer)?))
}

/// Announces the stop to the admin port first. Yields when it came.
fn announced(admin: &Admin, stop: impl Future<Output = ()>) -> impl Future<Output = Instant> {
    let admin = admin.clone();
    async move {
        stop.await;
        admin.set_ready(false);
        Instant::now()
    }
}

/// Waits until the journal is empty or time is up; yields what is left. While mirroring is paused
/// only rows are waited for, and events.
async fn drain(journal: &Journal, mirror: &Mirror, told: bool, deadline: Instant) -> Figures {
    let last = deadline.max(Instant::now()) + DISK_TIMEOUT;
    loop {
        let counted = async {
            journal.flush().await;
            journal.figures().await
        };
        let Ok(counted) = tokio::time::timeout_at(last, counted).await else {
            tracing::error!("stopped without the journal's disk, which does not answer");
            return Figures::default();
        };
        let figures = counted.unwrap_or_else(|error| {
            tracing::error!(%error, "cannot count the journal");
            Figures::default()
        });
        let copies = figures.pending_operations + figures.unsettled_intents;
        let copies = if mirror.paused().is_some() { 0 } else { copies };
        // Those behind a refused one do not count.
        let told = told && !journal.events_waiting(1).await.unwrap_or_default().is_empty();
        if (copies + figures.pending_rows == 0 && !told) || Instant::now() >= deadline {
            tracing::info!(
                pending_operations = figures.pending_operations,
                pending_rows = figures.pending_rows,
                parked = figures.parked,
                unsettled_intents = figures.unsettled_intents,
                "stopped; what is left stays in the journal"
            );
            return figures;
        }
        tokio::time::sleep(DRAIN_POLL).await;
    }
}

/// Writes what is only in memory, unless the disk hangs.
async fn keep(journal: &Journal, mirror: &Mirror) {
    let kept = async {
        mirror.keep().await;
        journal.flush().await;
    };
    if tokio::time::timeout(DISK_TIMEOUT, kept).await.is_err() {
        tracing::error!("the last notes could not be written");
    }
}

/// The certificate of the S3 port, and a watch over its files.
async fn tls(config: &Config, workers: &mut JoinSet<()>) -> Result<Option<Tls>, std::io::Error> {
    let Some((certificate, key)) = &config.tls else { return Ok(None) };
    let tls = Tls::open(certificate, key).await?;
    workers.spawn(tls.clone().watch());
    Ok(Some(tls))
}

async fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    let failed = |source| StartError::Listen { address, source };
    TcpListener::bind(address).await.map_err(failed)
}

/// Reads the clients' credentials and keeps them up to date.
async fn access_rules(
    config: &Config,
    workers: &mut JoinSet<()>,
) -> Result<AccessRules, CredentialsError> {
    let allowed_buckets = config.allowed_buckets.clone();
    let Some(path) = &config.client_credentials_file else {
        return Ok(AccessRules { authenticator: None, allowed_buckets });
    };
    let (file, credentials) = CredentialsFile::open(path).await?;
    let authenticator = Arc::new(Authenticator::new(credentials, None));
    let watched = authenticator.clone();
    workers.spawn(async move {
        file.watch(&watched, POLL_INTERVAL, |result| match result {
            Ok(clients) => tracing::info!(clients, "client credentials were read again"),
            Err(error) => tracing::error!(%error, "the old client credentials stay in force"),
        })
        .await;
    });
    Ok(AccessRules { authenticator: Some(authenticator), allowed_buckets })
}
