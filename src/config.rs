//! Configuration: valid by construction, or a list of every fault.
//!
//! [`Config`] cannot be made in an invalid state. A fault names its variable and what is wanted,
//! never the value, because a value in the wrong variable may be a secret. The process ends with
//! exit code 64 (`EX_USAGE`) when there is any.

pub mod env;
mod inventory;
mod mirroring;
mod outside;
pub mod parse;
mod quirks;
pub mod schedule;
mod storage_class;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use env::Environment;
pub use inventory::{Iam, InventoryConfig, Keeping, PostgresConfig};
pub use mirroring::{DeleteBrake, DeletePolicy, Mirroring};
pub use outside::{
    SECRET_PREFIX, Sampler, Traces, WebAddress, Webhook, WebhookSecret, usable_secret,
};
use parse::Reader;
pub use quirks::{Quirk, Quirks};
pub use storage_class::{STANDARD, StorageClasses};

/// A text that cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; the only way to it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// One of the two S3 services.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// `http` or `https`.
    pub scheme: http::uri::Scheme,
    /// Host and, unless it is the scheme's own, port.
    pub authority: http::uri::Authority,
    /// Region that goes into the signature.
    pub region: String,
    /// Static keys; without them, and without files, the standard AWS credential chain is used.
    pub keys: Option<StaticKeys>,
    /// What this service wants otherwise than S3 does.
    pub quirks: Quirks,
    /// Files that hold the keys.
    pub key_files: Option<KeyFiles>,
    /// Role that is assumed with them.
    pub role: Option<Role>,
    /// Certificates to trust instead of the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

impl Endpoint {
    /// The endpoint as a URL without path.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.authority)
    }

    /// Is it S3 of AWS over plain http? Then every body is signed.
    pub fn is_aws_in_clear(&self) -> bool {
        quirks::in_clear(&self.scheme, self.authority.host())
    }
}

/// An access key ID with its secret.
#[derive(Debug, Clone)]
pub struct StaticKeys {
    /// Access key ID.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: Secret,
}

/// Files whose first lines are the keys; read again when they change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// Access key ID.
    pub access_key: PathBuf,
    /// Secret access key.
    pub secret_key: PathBuf,
}

/// A role to assume by STS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// Its ARN.
    pub arn: String,
    /// What its trust policy asks for beside the keys.
    pub external_id: Option<String>,
}

/// How hard the journal pushes bytes to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalSync {
    /// Synced at every commit: survives power loss.
    Full,
    /// Survives a crash of the process, not of the machine.
    Normal,
    /// Never synced.
    Off,
}

/// When main is asked, after a copy, whether the key moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// After every copy: right with several proxies or other writers.
    Always,
    /// Only when this proxy saw another write of the key meanwhile.
    Overlap,
}

/// What lets a person change something over the admin port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminToken {
    /// Nothing: the port only tells.
    None,
    /// `ADMIN_TOKEN`
    Given(Secret),
    /// `ADMIN_TOKEN_FILE`: read at every use.
    File(PathBuf),
}

/// Everything the process is told from outside.
#[derive(Debug, Clone)]
pub struct Config {
    /// The S3 that answers clients.
    pub main: Endpoint,
    /// The S3 that receives copies.
    pub mirror: Endpoint,
    /// Mirror bucket = prefix + bucket.
    pub mirror_bucket_prefix: String,
    /// Copies under way at one time.
    pub mirror_concurrency: usize,
    /// How the mirror follows main.
    pub mirroring: Mirroring,
    /// The inventory.
    pub inventory: InventoryConfig,
    /// How its rows are kept.
    pub keeping: Keeping,
    /// Base domains for virtual-hosted-style addressing, lower-case, without port.
    pub proxy_domains: Vec<String>,
    /// Least level that is logged.
    pub log_level: tracing::level_filters::LevelFilter,
    /// Where S3 is served.
    pub listen_addr: SocketAddr,
    /// Certificate chain and key of that port, PEM; without them it speaks no TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Where probes, metrics and the API are served.
    pub admin_addr: SocketAddr,
    /// Who may change something there.
    pub admin_token: AdminToken,
    /// Names, besides local ones, by which the admin port may be read without the token.
    pub admin_hosts: Vec<String>,
    /// Journal, spool and embedded inventory.
    pub data_dir: PathBuf,
    /// Durability of the journal.
    pub journal_sync: JournalSync,
    /// Refuse writes (503) while the journal cannot record them?
    pub journal_required: bool,
    /// Memory for bodies kept for mirroring, in bytes, over all requests.
    pub tee_memory_bytes: u64,
    /// Disk for bodies kept for mirroring, in bytes, over all requests.
    pub tee_spool_bytes: u64,
    /// When a copy is checked against main.
    pub fence: Fence,
    /// How long a client may keep the proxy waiting, for a request or for more of its body.
    pub client_timeout: Duration,
    /// Clients and what they may do; without it anybody who reaches the port may do anything.
    pub client_credentials_file: Option<PathBuf>,
    /// Buckets anybody can reach: names, or prefixes ending in `*`; empty for all.
    pub allowed_buckets: Vec<String>,
    /// Serve reads from the mirror while main cannot?
    pub read_fallback: bool,
    /// When main, mirror and inventory are compared by themselves.
    pub verify_schedule: Option<schedule::Schedule>,
    /// Who is told of changes.
    pub events: Option<Webhook>,
    /// Where spans of requests and copies go.
    pub traces: Option<Traces>,
    /// How long a stopping process finishes requests and drains the backlog.
    pub drain_timeout: Duration,
    /// What was set, for people to look at.
    pub shown: env::Shown,
}

const MIB: u64 = 1024 * 1024;

impl Config {
    /// Judges the environment. `Err` holds every fault, each naming its variable.
    pub fn from_environment(env: &Environment) -> Result<Self, Vec<String>> {
        let mut read = Reader::default();
        let (main, mirror) = endpoints(&mut read, env);
        let prefix = env.mirror_bucket_prefix.clone().unwrap_or_default();
        if !prefix.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) {
            read.fault("MIRROR_BUCKET_PREFIX must hold only letters, digits, '-', '.' and '_'");
        }
        if let (Some(main), Some(mirror)) = (&main, &mirror)
            && prefix.is_empty()
            && main.url() == mirror.url()
        {
            read.fault(
                "MIRROR_S3_ENDPOINT is the same as MAIN_S3_ENDPOINT: every copy would overwrite \
                 its own source; set MIRROR_BUCKET_PREFIX",
            );
        }
        let inventory = InventoryConfig::read(&mut read, env);
        let config = Self {
            mirror_bucket_prefix: prefix,
            mirror_concurrency: read.number(
                "MIRROR_CONCURRENCY",
                env.mirror_concurrency.as_deref(),
                16,
                1..=1024,
            ),
            mirroring: Mirroring::read(&mut read, env),
            inventory,
            keeping: Keeping::read(&mut read, env),
            proxy_domains: read.domains("PROXY_DOMAIN", env.proxy_domain.as_deref()),
            log_level: read.one_of("LOG_LEVEL", env.log_level.as_deref(), "info", parse::LEVELS),
            listen_addr: read.address("LISTEN_ADDR", env.listen_addr.as_deref(), "0.0.0.0:8080"),
            tls: read
                .both(
                    "TLS",
                    ["CERT_FILE", "KEY_FILE"],
                    env.tls_cert_file.clone(),
                    env.tls_key_file.clone(),
                )
                .map(|(certificate, key)| (certificate.into(), key.into())),
            admin_addr: read.address("ADMIN_ADDR", env.admin_addr.as_deref(), "0.0.0.0:9090"),
            admin_token: read
                .admin_token(env.admin_token.as_deref(), env.admin_token_file.as_deref()),
            admin_hosts: read.domains("ADMIN_HOSTS", env.admin_hosts.as_deref()),
            data_dir: PathBuf::from(env.data_dir.as_deref().unwrap_or("./data")),
            journal_sync: read.one_of(
                "JOURNAL_SYNC",
                env.journal_sync.as_deref(),
                "full",
                &[
                    ("full", JournalSync::Full),
                    ("normal", JournalSync::Normal),
                    ("off", JournalSync::Off),
                ],
            ),
            journal_required: read.flag("JOURNAL_REQUIRED", env.journal_required.as_deref()),
            tee_memory_bytes: read.bytes(
                "TEE_MEMORY_BYTES",
                env.tee_memory_bytes.as_deref(),
                64 * MIB,
            ),
            tee_spool_bytes: read.bytes(
                "TEE_SPOOL_BYTES",
                env.tee_spool_bytes.as_deref(),
                1024 * MIB,
            ),
            fence: read.one_of(
                "FENCE",
                env.fence.as_deref(),
                "always",
                &[("always", Fence::Always), ("overlap", Fence::Overlap)],
            ),
            verify_schedule: read.schedule("VERIFY_SCHEDULE", env.verify_schedule.as_deref()),
            events: Webhook::read(&mut read, env),
            traces: Traces::read(&mut read, env),
            read_fallback: read.fallback("READ_FALLBACK", env.read_fallback.as_deref()),
            drain_timeout: Duration::from_secs(read.number(
                "DRAIN_TIMEOUT_SECONDS",
                env.drain_timeout_seconds.as_deref(),
                25,
                0..=3600,
            )),
            client_timeout: Duration::from_secs(read.number(
                "CLIENT_TIMEOUT_SECONDS",
                env.client_timeout_seconds.as_deref(),
                75,
                1..=3600,
            )),
            client_credentials_file: env.client_credentials_file.as_ref().map(PathBuf::from),
            allowed_buckets: parse::words(env.allowed_buckets.as_deref()),
            shown: env.shown(),
            main: main.unwrap_or_else(parse::nowhere),
            mirror: mirror.unwrap_or_else(parse::nowhere),
        };
        let faults = read.into_faults();
        if faults.is_empty() { Ok(config) } else { Err(faults) }
    }
}

/// Main and mirror.
fn endpoints(read: &mut Reader, env: &Environment) -> (Option<Endpoint>, Option<Endpoint>) {
    let main = read.endpoint(
        "MAIN",
        env.main_s3_endpoint.as_deref().or(Some("https://s3.amazonaws.com")),
        &parse::EndpointVariables {
            access: &env.main_access_key,
            secret: &env.main_secret_key,
            access_file: &env.main_access_key_file,
            secret_file: &env.main_secret_key_file,
            region: &env.main_region,
            role: &env.main_role_arn,
            external_id: &env.main_external_id,
            ca_file: &env.main_ca_file,
            quirks: &env.main_quirks,
        },
    );
    let mirror = read.endpoint(
        "MIRROR",
        env.mirror_s3_endpoint.as_deref(),
        &parse::EndpointVariables {
            access: &env.mirror_access_key,
            secret: &env.mirror_secret_key,
            access_file: &env.mirror_access_key_file,
            secret_file: &env.mirror_secret_key_file,
            region: &env.mirror_region,
            role: &env.mirror_role_arn,
            external_id: &env.mirror_external_id,
            ca_file: &env.mirror_ca_file,
            quirks: &env.mirror_quirks,
        },
    );
    (main, mirror)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let pairs = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Config::from_environment(&Environment::from_pairs(pairs).unwrap())
    }

    #[test]
    fn the_mirror_endpoint_is_the_only_thing_that_must_be_said() {
        let config = config(&[("MIRROR_S3_ENDPOINT", "http://mirror:9000/")]).unwrap();
        assert_eq!(config.main.url(), "https://s3.amazonaws.com");
        assert_eq!(config.mirror.authority.as_str(), "mirror:9000");
        assert!(config.main.keys.is_none());
        assert!(matches!(config.inventory, InventoryConfig::Sqlite));
        assert_eq!(config.tee_memory_bytes, 64 * MIB);
    }

    #[test]
    fn every_fault_is_reported_at_once_and_no_value_is_echoed() {
        let faults = config(&[
            ("MAIN_S3_ENDPOINT", "ftp://hunter2"),
            ("MAIN_ACCESS_KEY", "only-half"),
            ("MIRROR_QUIRKS", "hunter2"),
            ("FENCE", "hunter2"),
            ("LISTEN_ADDR", "hunter2"),
            ("TEE_MEMORY_BYTES", "-5"),
            ("POSTGRES_URL", "hunter2"),
            ("DISABLE_DATABASE", "perhaps"),
        ])
        .unwrap_err();
        for name in [
            "MAIN_S3_ENDPOINT",
            "MAIN_SECRET_KEY",
            "MIRROR_S3_ENDPOINT",
            "MIRROR_QUIRKS",
            "FENCE",
            "LISTEN_ADDR",
            "TEE_MEMORY_BYTES",
            "POSTGRES_URL",
            "DISABLE_DATABASE",
        ] {
            assert!(faults.iter().any(|f| f.contains(name)), "{name} missing in {faults:?}");
        }
        assert!(!faults.concat().contains("hunter2"));
    }

    #[test]
    fn a_mirror_that_is_main_itself_is_refused() {
        let same = [("MAIN_S3_ENDPOINT", "http://s:1"), ("MIRROR_S3_ENDPOINT", "http://s:1")];
        assert!(config(&same).is_err());
        let mut prefixed = same.to_vec();
        prefixed.push(("MIRROR_BUCKET_PREFIX", "copy-"));
        assert!(config(&prefixed).is_ok());
    }
}
