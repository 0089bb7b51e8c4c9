//! The one table of environment variables, read as text and nothing more.
//!
//! Every field is optional text, so reading never fails; [`super::Config::from_environment`]
//! judges all of it at once. An empty variable counts as absent, as Kubernetes and compose files
//! produce them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Raw values by their variable names (upper-case of the field).
#[derive(Clone, Default, Deserialize, Serialize)]
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
    pub main_quirks: Option<String>,
    pub main_access_key_file: Option<String>,
    pub main_secret_key_file: Option<String>,
    pub main_role_arn: Option<String>,
    pub main_external_id: Option<String>,
    pub main_ca_file: Option<String>,
    pub mirror_s3_endpoint: Option<String>,
    pub mirror_access_key: Option<String>,
    pub mirror_secret_key: Option<String>,
    pub mirror_region: Option<String>,
    pub mirror_quirks: Option<String>,
    pub mirror_access_key_file: Option<String>,
    pub mirror_secret_key_file: Option<String>,
    pub mirror_role_arn: Option<String>,
    pub mirror_external_id: Option<String>,
    pub mirror_ca_file: Option<String>,
    pub mirror_bucket_prefix: Option<String>,
    pub mirror_concurrency: Option<String>,
    pub mirror_deletes: Option<String>,
    pub mirror_delete_brake_keys: Option<String>,
    pub mirror_delete_brake_percent: Option<String>,
    pub mirror_delete_brake_window: Option<String>,
    pub mirror_bandwidth_bytes_per_second: Option<String>,
    pub mirror_requests_per_second: Option<String>,
    pub mirror_storage_class: Option<String>,
    pub mirror_put_bytes_max: Option<String>,
    pub mirror_acl: Option<String>,
    pub mirror_versions: Option<String>,
    pub mirror_object_lock: Option<String>,
    pub postgres_url: Option<String>,
    pub postgres_host: Option<String>,
    pub postgres_port: Option<String>,
    pub postgres_user: Option<String>,
    pub postgres_password: Option<String>,
    pub postgres_db: Option<String>,
    pub postgres_sslmode: Option<String>,
    pub postgres_ca_file: Option<String>,
    pub postgres_password_file: Option<String>,
    pub postgres_iam: Option<String>,
    pub postgres_iam_region: Option<String>,
    pub inventory_exact_time: Option<String>,
    pub inventory_notify: Option<String>,
    pub inventory_retain_deleted_days: Option<String>,
    pub disable_database: Option<String>,
    pub proxy_domain: Option<String>,
    pub log_level: Option<String>,
    pub listen_addr: Option<String>,
    pub tls_cert_file: Option<String>,
    pub tls_key_file: Option<String>,
    pub admin_addr: Option<String>,
    pub admin_token: Option<String>,
    pub admin_token_file: Option<String>,
    pub admin_hosts: Option<String>,
    pub data_dir: Option<String>,
    pub journal_sync: Option<String>,
    pub journal_required: Option<String>,
    pub tee_memory_bytes: Option<String>,
    pub tee_spool_bytes: Option<String>,
    pub fence: Option<String>,
    pub drain_timeout_seconds: Option<String>,
    pub verify_schedule: Option<String>,
    pub read_fallback: Option<String>,
    pub client_timeout_seconds: Option<String>,
    pub client_credentials_file: Option<String>,
    pub allowed_buckets: Option<String>,
    pub events_webhook_url: Option<String>,
    pub events_webhook_secret: Option<String>,
    pub events_webhook_secret_file: Option<String>,
    pub otel_exporter_otlp_endpoint: Option<String>,
    pub otel_exporter_otlp_headers: Option<String>,
    pub otel_service_name: Option<String>,
    pub otel_traces_sampler: Option<String>,
    pub otel_traces_sampler_arg: Option<String>,
}

/// What was set, in a form that can be shown: whatever may be secret is masked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Shown(BTreeMap<String, String>);

impl Shown {
    /// The value of a variable by its name, if it was set.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shown")
    }
}

/// Stands for a value that may be secret.
const MASK: &str = "***";

/// May the value be secret? Rather once too often: a new variable is masked by its name before
/// anybody has thought of it. What names a file is none.
fn secret(name: &str) -> bool {
    const WORDS: [&str; 8] =
        ["key", "secret", "password", "token", "url", "credential", "header", "headers"];
    !name.ends_with("_file") && name.split('_').any(|word| WORDS.contains(&word))
}

impl Environment {
    /// What was set, secrets masked.
    pub fn shown(&self) -> Shown {
        let values = serde_json::to_value(self).unwrap_or_default();
        let values = values.as_object().cloned().unwrap_or_default();
        let shown = values.into_iter().filter_map(|(name, value)| {
            let value = value.as_str()?;
            let value = if secret(&name) { MASK } else { value };
            Some((name.to_ascii_uppercase(), value.to_owned()))
        });
        Shown(shown.collect())
    }

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
