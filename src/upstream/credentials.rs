//! Where the keys for main and mirror come from.
//!
//! Static keys, keys in files that are read again, or the standard AWS chain (environment,
//! profile, web identity, EKS Pod Identity and ECS, IMDS); and with any of them perhaps a role to
//! assume. `lease` keeps what they gave and renews it ahead of its end, so that no request fails
//! or waits at the turn.

mod lease;
mod source;

use std::sync::Arc;
use std::time::SystemTime;

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

use crate::config::{Endpoint, Secret};
use lease::Leases;

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
    /// From somewhere that has to be asked, now and again.
    Leased(Leases),
}

impl Provider {
    /// The provider an endpoint asks for. Nothing is asked yet.
    pub async fn new(endpoint: &Endpoint) -> Self {
        match (&endpoint.keys, &endpoint.role, &endpoint.key_files) {
            (Some(keys), None, None) => Self::Static(Arc::new(Credentials {
                access_key_id: keys.access_key_id.clone(),
                secret_access_key: keys.secret_access_key.clone(),
                session_token: None,
            })),
            (_, None, Some(_)) => {
                Self::Leased(Leases::of_files(Box::pin(source::of(endpoint)).await))
            }
            _ => Self::Leased(Leases::new(Box::pin(source::of(endpoint)).await)),
        }
    }

    /// Credentials that are good now.
    pub async fn current(&self) -> Result<Arc<Credentials>, NoCredentials> {
        match self {
            Self::Static(credentials) => Ok(credentials.clone()),
            Self::Leased(leases) => Ok(leases.current(SystemTime::now()).await?.credentials()),
        }
    }

    /// When the present credentials end, if they do, and whether renewing them failed. Asks nobody.
    pub fn prospects(&self) -> (Option<SystemTime>, bool) {
        match self {
            Self::Static(_) => (None, false),
            Self::Leased(leases) => leases.prospects(),
        }
    }

    /// The same credentials as the AWS SDK takes them.
    pub fn for_sdk(self: &Arc<Self>) -> SharedCredentialsProvider {
        SharedCredentialsProvider::new(ForSdk(self.clone()))
    }
}

/// The standard chain alone, for what is not an S3 service.
pub async fn chain(region: &str) -> SharedCredentialsProvider {
    let chain = source::chain(&Box::pin(source::sdk_config(region)).await);
    Arc::new(Provider::Leased(Leases::new(chain))).for_sdk()
}

#[derive(Debug)]
struct ForSdk(Arc<Provider>);

impl ProvideCredentials for ForSdk {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let (keys, until) = match &*self.0 {
                Provider::Static(keys) => (keys.clone(), None),
                Provider::Leased(leases) => {
                    let lease = leases.current(SystemTime::now()).await.map_err(|error| {
                        aws_credential_types::provider::error::CredentialsError::not_loaded(error)
                    })?;
                    (lease.credentials(), lease.ask_again())
                }
            };
            Ok(aws_credential_types::Credentials::new(
                keys.access_key_id.clone(),
                keys.secret_access_key.expose(),
                keys.session_token.as_ref().map(|token| token.expose().to_owned()),
                until,
                "s3-mirror",
            ))
        })
    }
}
