//! The inventory: where it is, how `PostgreSQL` is reached, and how rows are kept.

use std::path::PathBuf;
use std::time::Duration;

use super::parse::Reader;
use super::{Environment, Secret};

/// Channel of the change feed where `INVENTORY_NOTIFY=true` names none.
const CHANNEL_DEFAULT: &str = "s3_mirror_changes";
/// Longest name of a channel, in bytes: `PostgreSQL`'s limit of identifiers.
const CHANNEL_BYTES_MAX: usize = 63;
/// Longest time that rows of deleted keys can be kept by number, in days; 0 keeps them for ever.
const RETAIN_DAYS_MAX: u32 = 36_500;
/// Modes that encrypt, whatever they check: a token must not travel in the clear.
const ENCRYPTED: [&str; 3] = ["require", "verify-ca", "verify-full"];

/// Where the inventory is kept.
#[derive(Debug, Clone)]
pub enum InventoryConfig {
    /// `DISABLE_DATABASE=true`: mirror only.
    Disabled,
    /// A file in the data directory.
    Sqlite,
    /// A `PostgreSQL` server.
    Postgres(Box<PostgresConfig>),
}

/// How `PostgreSQL` is reached: a URL, or its parts.
#[derive(Debug, Clone)]
pub struct PostgresConfig {
    /// `POSTGRES_URL`; wins over the parts.
    pub url: Option<Secret>,
    /// Host name, address or socket directory.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Role.
    pub user: String,
    /// Password, if it is given directly.
    pub password: Option<Secret>,
    /// File that holds the password; read again at every connect.
    pub password_file: Option<PathBuf>,
    /// Database name.
    pub database: String,
    /// `disable`, `prefer`, `require`, `verify-ca` or `verify-full`; unset, a URL decides for
    /// itself and the parts mean `disable`.
    pub sslmode: Option<String>,
    /// Certificates to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// RDS IAM tokens instead of a password.
    pub iam: Option<Iam>,
    /// Channel that tells every written row.
    pub notify: Option<String>,
}

/// What RDS IAM tokens are signed for.
#[derive(Debug, Clone)]
pub struct Iam {
    /// Region of the database; unset, its host name tells it.
    pub region: Option<String>,
    /// Region where neither does: main's.
    pub fallback: String,
}

/// How rows are kept, whatever the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keeping {
    /// Is main asked for the time of a plain upload before its row is written?
    pub exact_time: bool,
    /// How long rows of deleted keys stay; `None` for ever.
    pub retain_deleted: Option<Duration>,
}

impl Keeping {
    pub(super) fn read(read: &mut Reader, env: &Environment) -> Self {
        let name = "INVENTORY_RETAIN_DELETED_DAYS";
        let days = env.inventory_retain_deleted_days.as_deref();
        let days = read.number(name, days, 0, 0..=RETAIN_DAYS_MAX);
        Self {
            exact_time: read.flag("INVENTORY_EXACT_TIME", env.inventory_exact_time.as_deref()),
            retain_deleted: (days > 0).then(|| Duration::from_hours(24) * days),
        }
    }
}

impl InventoryConfig {
    pub(super) fn read(read: &mut Reader, env: &Environment) -> Self {
        let postgres = postgres(read, env);
        let named = postgres.url.is_some()
            || postgres.password.is_some()
            || postgres.password_file.is_some()
            || postgres.iam.is_some();
        if read.flag("DISABLE_DATABASE", env.disable_database.as_deref()) {
            return Self::Disabled;
        }
        if named {
            return Self::Postgres(Box::new(postgres));
        }
        if postgres.notify.is_some() {
            read.fault("INVENTORY_NOTIFY needs PostgreSQL: SQLite has no channels");
        }
        Self::Sqlite
    }
}

fn postgres(read: &mut Reader, env: &Environment) -> PostgresConfig {
    let config = PostgresConfig {
        url: env.postgres_url.as_ref().map(Secret::new),
        host: env.postgres_host.clone().unwrap_or_else(|| "localhost".into()),
        port: read.number("POSTGRES_PORT", env.postgres_port.as_deref(), 5432, 1..=u16::MAX),
        user: env.postgres_user.clone().unwrap_or_else(|| "s3mirror".into()),
        password: env.postgres_password.as_ref().map(Secret::new),
        password_file: env.postgres_password_file.as_ref().map(PathBuf::from),
        database: env.postgres_db.clone().unwrap_or_else(|| "s3_mirror".into()),
        sslmode: env.postgres_sslmode.as_deref().map(|mode| {
            let modes = ["disable", "prefer", "require", "verify-ca", "verify-full"];
            let choices = modes.map(|mode| (mode, mode));
            read.one_of("POSTGRES_SSLMODE", Some(mode), "disable", &choices).to_owned()
        }),
        ca_file: env.postgres_ca_file.as_ref().map(PathBuf::from),
        iam: read.flag("POSTGRES_IAM", env.postgres_iam.as_deref()).then(|| Iam {
            region: env.postgres_iam_region.clone(),
            fallback: env.main_region.clone().unwrap_or_else(|| "us-east-1".into()),
        }),
        notify: channel(read, env.inventory_notify.as_deref()),
    };
    if let Some(url) = &config.url
        && !["postgres://", "postgresql://"].iter().any(|p| url.expose().starts_with(p))
    {
        read.fault("POSTGRES_URL must start with postgres:// or postgresql://");
    }
    if config.iam.is_some() {
        if config.password.is_some() || config.password_file.is_some() {
            read.fault(
                "POSTGRES_IAM stands for a password: leave out POSTGRES_PASSWORD and \
                 POSTGRES_PASSWORD_FILE",
            );
        }
        if !encrypted(&config) {
            read.fault(
                "POSTGRES_IAM needs POSTGRES_SSLMODE require, verify-ca or verify-full: a token \
                 must not travel in the clear",
            );
        }
    }
    config
}

/// Is TLS asked for, by the variable or else by the URL?
fn encrypted(config: &PostgresConfig) -> bool {
    match (&config.sslmode, &config.url) {
        (Some(mode), _) => ENCRYPTED.contains(&mode.as_str()),
        (None, Some(url)) => {
            let (_, query) = url.expose().split_once('?').unwrap_or_default();
            let mode = query.split('&').find_map(|pair| pair.strip_prefix("sslmode="));
            mode.is_some_and(|mode| ENCRYPTED.contains(&mode))
        }
        (None, None) => false,
    }
}

/// The channel of the change feed. Lower case only: `LISTEN Changes` without quotes listens to
/// `changes`, and a feed that nobody can hear is worse than a fault.
fn channel(read: &mut Reader, value: Option<&str>) -> Option<String> {
    let text = value?.trim();
    match text.to_ascii_lowercase().as_str() {
        "true" => return Some(CHANNEL_DEFAULT.to_owned()),
        "false" => return None,
        _ => {}
    }
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b == b'_');
    let rest = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !first || !rest || text.len() > CHANNEL_BYTES_MAX {
        read.fault(
            "INVENTORY_NOTIFY must be true, or the name of a channel: lower-case letters, digits \
             and underscores",
        );
        return None;
    }
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let pairs = [("MIRROR_S3_ENDPOINT", "http://m")].iter().chain(pairs);
        let pairs = pairs.map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Config::from_environment(&Environment::from_pairs(pairs).unwrap())
    }

    fn faults(pairs: &[(&str, &str)]) -> String {
        config(pairs).unwrap_err().join("\n")
    }

    #[test]
    fn a_password_or_url_or_iam_chooses_postgres_and_disable_wins() {
        let with = config(&[("POSTGRES_PASSWORD", "p")]).unwrap();
        assert!(matches!(with.inventory, InventoryConfig::Postgres(_)));
        assert!(!format!("{with:?}").contains("\"p\""));
        let off = config(&[("POSTGRES_PASSWORD", "p"), ("DISABLE_DATABASE", "true")]).unwrap();
        assert!(matches!(off.inventory, InventoryConfig::Disabled));
        let iam = config(&[("POSTGRES_IAM", "true"), ("POSTGRES_SSLMODE", "verify-full")]).unwrap();
        let InventoryConfig::Postgres(postgres) = iam.inventory else { panic!("no PostgreSQL") };
        assert_eq!(postgres.iam.unwrap().fallback, "us-east-1");
    }

    #[test]
    fn iam_tokens_want_tls_and_no_password_beside_them() {
        let url = |mode| format!("postgres://u@db.test/d?connect_timeout=3&sslmode={mode}");
        let iam = ("POSTGRES_IAM", "true");
        for mode in ENCRYPTED {
            assert!(config(&[iam, ("POSTGRES_URL", &url(mode))]).is_ok(), "{mode}");
        }
        for settings in [
            vec![iam],
            vec![iam, ("POSTGRES_SSLMODE", "prefer")],
            vec![iam, ("POSTGRES_URL", "postgres://u@db.test/d")],
        ] {
            assert!(faults(&settings).contains("POSTGRES_SSLMODE"), "{settings:?}");
        }
        let disabled = [iam, ("POSTGRES_URL", &*url("require")), ("POSTGRES_SSLMODE", "disable")];
        assert!(faults(&disabled).contains("POSTGRES_SSLMODE"), "the variable wins over the URL");
        let both = [iam, ("POSTGRES_SSLMODE", "require"), ("POSTGRES_PASSWORD", "hunter2")];
        assert!(faults(&both).contains("POSTGRES_PASSWORD"));
        assert!(!faults(&both).contains("hunter2"));
    }

    #[test]
    fn a_channel_is_one_that_listen_finds_without_quotes() {
        let channel = |text: &str| {
            let config = config(&[("POSTGRES_PASSWORD", "p"), ("INVENTORY_NOTIFY", text)])?;
            let InventoryConfig::Postgres(postgres) = config.inventory else { panic!("no") };
            Ok::<_, Vec<String>>(postgres.notify)
        };
        assert_eq!(channel("true").unwrap().as_deref(), Some(CHANNEL_DEFAULT));
        assert_eq!(channel("false").unwrap(), None);
        assert_eq!(channel("objects_2").unwrap().as_deref(), Some("objects_2"));
        for text in ["Objects", "a-b", "2a", "x'; DROP TABLE t; --", &"x".repeat(64)] {
            assert!(channel(text).unwrap_err().concat().contains("INVENTORY_NOTIFY"), "{text}");
        }
        assert!(faults(&[("INVENTORY_NOTIFY", "true")]).contains("PostgreSQL"));
    }

    #[test]
    fn deleted_rows_stay_for_ever_unless_days_are_given() {
        let kept = |days: &str| {
            config(&[("INVENTORY_RETAIN_DELETED_DAYS", days)]).map(|c| c.keeping.retain_deleted)
        };
        assert_eq!(kept("0").unwrap(), None);
        assert_eq!(kept("30").unwrap(), Some(Duration::from_hours(720)));
        assert!(kept("-1").is_err() && kept("forever").is_err());
    }
}
