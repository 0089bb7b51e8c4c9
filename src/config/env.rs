//! The one table of environment variables, read as text and nothing more.
//!
//! Every field is optional text, so reading never fails; [`super::Config::from_environment`]
//! judges all of it at once. An empty variable counts as absent, as Kubernetes and compose files
//! produce them.

use serde::Deserialize;

/// Raw values by their variable names (upper-case of the field).
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
#[allow(
    missing_docs,
    reason = "the names are the documentation; docs/configuration.md tells the rest"
)]
pub struct Environment {
    pub main_s3_endpoint: Option<String>,
    pub main_access_key: Option<String>,
    pub main_secret_key: Option<String>,
    pub main_region: Option<String>,
    pub mirror_s3_endpoint: Option<String>,
    pub mirror_access_key: Option<String>,
    pub mirror_secret_key: Option<String>,
    pub mirror_region: Option<String>,
    pub mirror_bucket_prefix: Option<String>,
    pub mirror_concurrency: Option<String>,
    pub mirror_deletes: Option<String>,
    pub mirror_delete_brake_keys: Option<String>,
    pub mirror_delete_brake_percent: Option<String>,
    pub mirror_delete_brake_window: Option<String>,
    pub postgres_url: Option<String>,
    pub postgres_host: Option<String>,
    pub postgres_port: Option<String>,
    pub postgres_user: Option<String>,
    pub postgres_password: Option<String>,
    pub postgres_db: Option<String>,
    pub postgres_sslmode: Option<String>,
    pub postgres_ca_file: Option<String>,
    pub postgres_password_file: Option<String>,
    pub disable_database: Option<String>,
    pub proxy_domain: Option<String>,
    pub log_level: Option<String>,
    pub listen_addr: Option<String>,
    pub admin_addr: Option<String>,
    pub admin_token: Option<String>,
    pub admin_token_file: Option<String>,
    pub data_dir: Option<String>,
    pub journal_sync: Option<String>,
    pub journal_required: Option<String>,
    pub tee_memory_bytes: Option<String>,
    pub tee_spool_bytes: Option<String>,
    pub fence: Option<String>,
    pub drain_timeout_seconds: Option<String>,
    pub client_credentials_file: Option<String>,
    pub allowed_buckets: Option<String>,
}

impl Environment {
    /// Reads the process environment. Values that are not UTF-8 are named in the error.
    pub fn read() -> Result<Self, String> {
        Self::from_pairs(std::env::vars_os().filter_map(|(name, value)| {
            // Other people's variables may hold anything; only ours have to be text.
            Some((
                name.into_string().ok()?,
                value.into_string().unwrap_or_else(|_| "\u{FFFD}".into()),
            ))
        }))
    }

    /// Reads any set of variables, for tests and `dev`.
    pub fn from_pairs(pairs: impl Iterator<Item = (String, String)>) -> Result<Self, String> {
        let pairs = pairs.filter(|(_, value)| !value.trim().is_empty());
        envy::from_iter(pairs).map_err(|error| error.to_string())
    }
}
