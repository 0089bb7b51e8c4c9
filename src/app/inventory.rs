//! The inventory as it is configured: its store, who writes it, who reads it.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::StartError;
use crate::config::{Config, Fence, InventoryConfig, PostgresConfig};
use crate::inventory::browse::Browser;
use crate::inventory::postgres::{PasswordSource, PostgresSettings, SslMode};
use crate::inventory::retention;
use crate::inventory::store::{Store, StoreError};
use crate::inventory::trouble::Trouble;
use crate::inventory::{ExactTime, Inventory};
use crate::journal::Journal;
use crate::metrics::Metrics;
use crate::mirror::KnownKeys;
use crate::upstream::{Upstream, credentials};

/// The inventory's knowledge of buckets, for the mass-delete brake; the mirror does not know the
/// inventory itself.
pub(super) fn known_keys(store: Arc<Store>) -> KnownKeys {
    Arc::new(move |bucket, limit, window| {
        let store = store.clone();
        Box::pin(async move {
            store.known_keys(&bucket, limit, window).await.map_err(|error| {
                tracing::warn!(%error, bucket = &*bucket, "the bucket's keys are not counted");
                error.to_string()
            })
        })
    })
}

/// Writes rows, and removes old ones where that is asked for. Yields what keeps it from that.
pub(super) async fn keep(
    config: &Config,
    workers: &mut JoinSet<()>,
    (journal, metrics, main): (&Journal, &Metrics, &Arc<Upstream>),
    store: Option<Arc<Store>>,
) -> Option<Trouble> {
    let store = store?;
    if let Some(time) = config.keeping.retain_deleted {
        workers.spawn(retention::keep(store.clone(), time));
    }
    let (journal, metrics, main) = (journal.clone(), metrics.clone(), main.clone());
    let inventory = Inventory::new(journal, metrics, main, store, exact_time(config)).await;
    let trouble = inventory.trouble();
    workers.spawn(inventory.work());
    Some(trouble)
}

/// Which rows need a question about their time.
fn exact_time(config: &Config) -> ExactTime {
    let accepted = config.keeping.exact_time;
    ExactTime { accepted, mirrored: accepted && config.fence == Fence::Overlap }
}

/// Where its rows are; none: nobody wants an inventory.
pub(crate) async fn store(config: &Config) -> Result<Option<Store>, StartError> {
    let store = match &config.inventory {
        InventoryConfig::Disabled => return Ok(None),
        InventoryConfig::Sqlite => Store::sqlite(&config.data_dir.join("inventory.sqlite")).await?,
        InventoryConfig::Postgres(postgres) => {
            Store::postgres(postgres_settings(postgres).await?).await?
        }
    };
    Ok(Some(store))
}

/// The inventory for people to read, over a connection of its own.
pub(super) async fn browser(config: &Config) -> Result<Option<Browser>, StartError> {
    Ok(match &config.inventory {
        InventoryConfig::Disabled => None,
        InventoryConfig::Sqlite => Some(Browser::sqlite(&config.data_dir.join("inventory.sqlite"))),
        InventoryConfig::Postgres(postgres) => {
            Some(Browser::postgres(postgres_settings(postgres).await?)?)
        }
    })
}

/// The settings of a `PostgreSQL` inventory.
pub(crate) async fn postgres_settings(
    config: &PostgresConfig,
) -> Result<PostgresSettings, StoreError> {
    let sslmode: Option<SslMode> = config.sslmode.as_deref().map(str::parse).transpose()?;
    let mut settings = match &config.url {
        Some(url) => PostgresSettings::from_url(url.expose())?,
        None => PostgresSettings::from_parts(
            &config.host,
            config.port,
            &config.user,
            config.password.as_ref().map(crate::config::Secret::expose),
            &config.database,
            SslMode::Disable,
        ),
    };
    if let Some(sslmode) = sslmode {
        settings.sslmode = sslmode;
    }
    if let Some(file) = &config.ca_file {
        settings.ca_file = Some(file.clone());
    }
    if let Some(file) = &config.password_file {
        settings.password = PasswordSource::File(file.clone());
    }
    settings.notify.clone_from(&config.notify);
    if let Some(iam) = &config.iam {
        let region = iam.region.clone().or_else(|| settings.rds_region());
        let region = region.unwrap_or_else(|| iam.fallback.clone());
        // The database is no S3 service: the chain's keys, whatever main is reached with.
        settings = settings.with_rds_iam(credentials::chain(&region).await, &region)?;
    }
    Ok(settings)
}
