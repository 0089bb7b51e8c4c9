//! Where the keys for main and mirror come from.
//!
//! Static keys, or the standard AWS chain (environment, profile, web identity, EKS Pod Identity
//! and ECS, IMDS). Chain credentials are fetched before they expire: a request never waits for a
//! refresh while the present ones are still good, and a failed refresh is retried while they are.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_credential_types::provider::{ProvideCredentials as _, SharedCredentialsProvider};

use crate::config::{Endpoint, Secret};

/// Credentials closer to their expiry than this are renewed.
const RENEW_BEFORE: Duration = Duration::from_mins(5);
/// Credentials closer to their expiry than this are not used any more: a request signed now
/// may be judged by a server whose clock is ahead.
const UNUSABLE_BEFORE: Duration = Duration::from_secs(10);
/// Pause after a failed refresh.
const RETRY: Duration = Duration::from_secs(5);

/// Keys as they sign a request.
#[derive(Debug)]
pub struct Credentials {
    /// Access key ID.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Secret,
    /// Session token of temporary credentials.
    pub session_token: Option<Secret>,
}

/// No credentials can be had.
#[derive(Debug, Clone, thiserror::Error)]
#[error("no credentials: {0}")]
pub struct NoCredentials(String);

/// Hands out credentials that are good now.
#[derive(Debug)]
pub enum Provider {
    /// From the environment variables of this service.
    Static(Arc<Credentials>),
    /// From the standard chain.
    Chain(Chain),
}

/// The standard chain with what it last gave.
#[derive(Debug)]
pub struct Chain {
    provider: SharedCredentialsProvider,
    current: ArcSwapOption<Lease>,
    refresh: tokio::sync::Mutex<Option<SystemTime>>,
}

#[derive(Debug)]
struct Lease {
    credentials: Arc<Credentials>,
    expires: Option<SystemTime>,
}

impl Lease {
    fn good_for(&self, now: SystemTime, margin: Duration) -> bool {
        self.expires.is_none_or(|expires| now + margin < expires)
    }
}

impl Provider {
    /// The provider an endpoint asks for. The chain is built lazily and asks nothing yet.
    pub async fn new(endpoint: &Endpoint) -> Self {
        match &endpoint.keys {
            Some(keys) => Self::Static(Arc::new(Credentials {
                access_key_id: keys.access_key_id.clone(),
                secret_access_key: keys.secret_access_key.clone(),
                session_token: None,
            })),
            None => Self::Chain(Chain::new(chain(&endpoint.region).await)),
        }
    }

    /// Credentials that are good now.
    pub async fn current(&self) -> Result<Arc<Credentials>, NoCredentials> {
        match self {
            Self::Static(credentials) => Ok(credentials.clone()),
            Self::Chain(chain) => chain.current(SystemTime::now()).await,
        }
    }

    /// The same credentials as the AWS SDK takes them.
    pub fn for_sdk(&self) -> SharedCredentialsProvider {
        match self {
            Self::Static(keys) => {
                SharedCredentialsProvider::new(aws_credential_types::Credentials::new(
                    keys.access_key_id.clone(),
                    keys.secret_access_key.expose(),
                    None,
                    None,
                    "s3-mirror",
                ))
            }
            Self::Chain(chain) => chain.provider.clone(),
        }
    }
}

impl Chain {
    fn new(provider: SharedCredentialsProvider) -> Self {
        Self { provider, current: ArcSwapOption::empty(), refresh: tokio::sync::Mutex::new(None) }
    }

    async fn current(&self, now: SystemTime) -> Result<Arc<Credentials>, NoCredentials> {
        let lease = self.current.load_full();
        if let Some(lease) = lease.filter(|lease| lease.good_for(now, RENEW_BEFORE)) {
            return Ok(lease.credentials.clone());
        }
        // One refresh at a time. Whoever finds it under way goes on with credentials that still
        // have some minutes, and waits for it only without any.
        let still_good = || {
            let lease = self.current.load_full();
            lease.filter(|lease| lease.good_for(now, UNUSABLE_BEFORE))
        };
        let mut failed_at = match (self.refresh.try_lock(), still_good()) {
            (Ok(guard), _) => guard,
            (Err(_), Some(lease)) => return Ok(lease.credentials.clone()),
            (Err(_), None) => self.refresh.lock().await,
        };
        if let Some(lease) = self.current.load_full().filter(|l| l.good_for(now, RENEW_BEFORE)) {
            return Ok(lease.credentials.clone());
        }
        let paused = failed_at.is_some_and(|at| now < at + RETRY);
        if paused && let Some(lease) = still_good() {
            return Ok(lease.credentials.clone());
        }
        match self.provider.provide_credentials().await {
            Ok(fresh) => {
                let lease = Arc::new(Lease {
                    credentials: Arc::new(Credentials {
                        access_key_id: fresh.access_key_id().to_owned(),
                        secret_access_key: Secret::new(fresh.secret_access_key()),
                        session_token: fresh.session_token().map(Secret::new),
                    }),
                    expires: fresh.expiry(),
                });
                self.current.store(Some(lease.clone()));
                *failed_at = None;
                Ok(lease.credentials.clone())
            }
            Err(error) => {
                *failed_at = Some(now);
                tracing::error!(%error, "cannot get credentials");
                still_good()
                    .map(|lease| lease.credentials.clone())
                    .ok_or_else(|| NoCredentials(error.to_string()))
            }
        }
    }
}

async fn chain(region: &str) -> SharedCredentialsProvider {
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(super::sdk_http_client())
        .region(aws_config::Region::new(region.to_owned()))
        .load()
        .await;
    config.credentials_provider().unwrap_or_else(|| {
        // The chain always yields a provider; an empty one says so at its first use.
        SharedCredentialsProvider::new(
            aws_config::meta::credentials::CredentialsProviderChain::first_try(
                "none",
                aws_config::environment::EnvironmentVariableCredentialsProvider::new(),
            ),
        )
    })
}
