//! How to reach the `PostgreSQL` server: parsed once, checked before anything is connected.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use aws_credential_types::provider::SharedCredentialsProvider;
use futures_util::future::BoxFuture;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode as WireMode, TargetSessionAttrs};

use super::super::store::StoreError;
use super::iam::RdsTokens;

/// Connections held at most, unless [`PostgresSettings::connections_max`] says otherwise. Each
/// writes one table at a time; more only contend on the same disk.
pub const CONNECTIONS_MAX_DEFAULT: usize = 4;
/// Longest wait for a connection to be made, handshakes included.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
/// Longest run of one statement, on the server and on our side.
pub const STATEMENT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How much TLS is asked of the server, in libpq's words (`POSTGRES_SSLMODE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS if the server has it; its certificate is not checked unless a CA file is given.
    Prefer,
    /// TLS or nothing; checked only if a CA file is given, then as `verify-ca` (as libpq does).
    Require,
    /// TLS with a certificate from a trusted authority, whatever name it carries.
    VerifyCa,
    /// TLS with a certificate from a trusted authority for the host's name.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<Self, StoreError> {
        Ok(match text {
            "disable" => Self::Disable,
            // `allow` tries plain text first; with TLS first it is `prefer`.
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => {
                return Err(StoreError::Rejected(
                    "sslmode must be disable, prefer, require, verify-ca or verify-full".into(),
                ));
            }
        })
    }
}

/// Mints short-lived passwords, such as RDS IAM tokens. Called for every new connection, so it
/// should keep a token until shortly before its expiry. The error is shown to people.
pub trait PasswordMinter: Send + Sync {
    /// A password that is good for a connection made now.
    fn mint(&self) -> BoxFuture<'_, Result<String, String>>;
}

/// Where the password comes from.
#[derive(Clone)]
pub enum PasswordSource {
    /// What the URL or [`PostgresSettings::from_parts`] gave, if anything.
    Settings,
    /// The first line of this file, read again for every new connection, so that a rotated secret
    /// is found without a restart.
    File(PathBuf),
    /// A minter, asked for every new connection.
    Minted(Arc<dyn PasswordMinter>),
}

/// Everything needed to connect. `Debug` shows no password.
#[derive(Clone)]
pub struct PostgresSettings {
    pub(super) config: Config,
    /// TLS.
    pub sslmode: SslMode,
    /// Authorities to trust, PEM; without it the system's are trusted (`POSTGRES_CA_FILE`).
    pub ca_file: Option<PathBuf>,
    /// Where the password comes from.
    pub password: PasswordSource,
    /// Channel that tells every written row (`INVENTORY_NOTIFY`); without one nothing is told.
    pub notify: Option<String>,
    /// Schema of all tables; the documented queries expect `public`.
    pub schema: String,
    /// Most connections held.
    pub connections_max: usize,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest run of one statement.
    pub statement_timeout: Duration,
}

impl PostgresSettings {
    /// Reads a `postgres://` or `postgresql://` URL, libpq's parameters included; `sslmode` and
    /// `sslrootcert` understand all that [`SslMode`] does. Without `sslmode` it is `prefer`, as in
    /// libpq.
    ///
    /// # Errors
    /// [`StoreError::Rejected`], never quoting the URL.
    pub fn from_url(url: &str) -> Result<Self, StoreError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(StoreError::Rejected(
                "the PostgreSQL URL must begin with postgres:// or postgresql://".into(),
            ));
        }
        let mut sslmode = SslMode::Prefer;
        let mut ca_file = None;
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let mut kept = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", mode)) => sslmode = mode.parse()?,
                Some(("sslrootcert", path)) => ca_file = Some(PathBuf::from(unescape(path)?)),
                _ => kept.push(parameter),
            }
        }
        let plain = if kept.is_empty() {
            address.to_owned()
        } else {
            format!("{address}?{}", kept.join("&"))
        };
        let config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
            StoreError::Rejected(format!("the PostgreSQL URL is not valid: {}", chain(&error)))
        })?;
        if config.get_hosts().is_empty() {
            return Err(StoreError::Rejected("the PostgreSQL URL names no host".into()));
        }
        if config.get_user().is_none() {
            return Err(StoreError::Rejected("the PostgreSQL URL names no user".into()));
        }
        Ok(Self::with(config, sslmode, ca_file))
    }

    /// From single values, as `POSTGRES_HOST` and its siblings give them. A host that begins with
    /// `/` is the directory of a Unix socket.
    pub fn from_parts(
        host: &str,
        port: u16,
        user: &str,
        password: Option<&str>,
        database: &str,
        sslmode: SslMode,
    ) -> Self {
        let mut config = Config::new();
        config.host(host).port(port).user(user).dbname(database);
        if let Some(password) = password {
            config.password(password);
        }
        Self::with(config, sslmode, None)
    }

    /// Uses RDS IAM tokens as passwords, for the first host of the settings (`POSTGRES_IAM=true`).
    ///
    /// # Errors
    /// [`StoreError::Rejected`] if TLS is not required, as a token must not travel in the clear, or
    /// if the host is not a network name.
    pub fn with_rds_iam(
        mut self,
        credentials: SharedCredentialsProvider,
        region: &str,
    ) -> Result<Self, StoreError> {
        if matches!(self.sslmode, SslMode::Disable | SslMode::Prefer) {
            return Err(StoreError::Rejected(
                "IAM authentication needs sslmode require, verify-ca or verify-full".into(),
            ));
        }
        let (Some(Host::Tcp(host)), Some(user)) =
            (self.config.get_hosts().first(), self.config.get_user())
        else {
            return Err(StoreError::Rejected(
                "IAM authentication needs a network host and a user".into(),
            ));
        };
        let tokens = RdsTokens {
            credentials,
            region: region.to_owned(),
            host: host.clone(),
            port: self.config.get_ports().first().copied().unwrap_or(5432),
            user: user.to_owned(),
        };
        self.password = PasswordSource::Minted(Arc::new(tokens));
        Ok(self)
    }

    /// The region that the first host's name tells, if RDS gave it that name.
    pub fn rds_region(&self) -> Option<String> {
        let Some(Host::Tcp(host)) = self.config.get_hosts().first() else { return None };
        let name = host.strip_suffix(".cn").unwrap_or(host);
        let name = name.strip_suffix(".rds.amazonaws.com")?;
        name.rsplit('.').next().filter(|region| region.contains('-')).map(str::to_owned)
    }

    fn with(mut config: Config, sslmode: SslMode, ca_file: Option<PathBuf>) -> Self {
        if config.get_application_name().is_none() {
            config.application_name("s3-mirror");
        }
        // With several hosts, the one that takes writes: this is how a failover is followed.
        if config.get_hosts().len() > 1 {
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        // A silent peer (a failed-over node, a forgotten NAT entry) must not hold a connection for
        // the two hours that the system's keepalive default allows.
        config.keepalives(true).keepalives_idle(Duration::from_secs(30));
        let connect_timeout =
            config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT_DEFAULT);
        Self {
            config,
            sslmode,
            ca_file,
            password: PasswordSource::Settings,
            notify: None,
            schema: "public".to_owned(),
            connections_max: CONNECTIONS_MAX_DEFAULT,
            connect_timeout,
            statement_timeout: STATEMENT_TIMEOUT_DEFAULT,
        }
    }

    /// The wire configuration: timeouts and the part of the TLS mode the protocol knows.
    pub(super) fn wire(&self) -> Config {
        let mut config = self.config.clone();
        config.connect_timeout(self.connect_timeout);
        config.ssl_mode(match self.sslmode {
            SslMode::Disable => WireMode::Disable,
            SslMode::Prefer => WireMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => WireMode::Require,
        });
        config
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("hosts", &self.config.get_hosts())
            .field("ports", &self.config.get_ports())
            .field("user", &self.config.get_user())
            .field("database", &self.config.get_dbname())
            .field("password", &self.password)
            .field("sslmode", &self.sslmode)
            .field("ca_file", &self.ca_file)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings => f.write_str("Settings(***)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Minted(_) => f.write_str("Minted(***)"),
        }
    }
}

/// An error with its causes in one line; the driver hides the useful half in `source`.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let more = inner.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = inner.source();
    }
    text
}

/// Percent-decodes a URL parameter.
fn unescape(text: &str) -> Result<String, StoreError> {
    let fault = || StoreError::Rejected("sslrootcert is not valid percent-encoding".into());
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let pair = [rest.next().ok_or_else(fault)?, rest.next().ok_or_else(fault)?];
            bytes.extend(hex::decode(pair).map_err(|_| fault())?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).map_err(|_| fault())
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;

    use super::*;

    #[test]
    fn url_parameters_for_tls_are_understood() {
        let url = "postgres://u:p%40ss@db.example:5433/inv?sslmode=verify-full\
                   &sslrootcert=%2Fetc%2Fca.pem&application_name=x";
        let settings = PostgresSettings::from_url(url).unwrap();
        assert_eq!(settings.sslmode, SslMode::VerifyFull);
        assert_eq!(settings.ca_file.as_deref(), Some(std::path::Path::new("/etc/ca.pem")));
        assert_eq!(settings.config.get_dbname(), Some("inv"));
        assert_eq!(settings.config.get_password(), Some(b"p@ss".as_slice()));
        let plain = PostgresSettings::from_url("postgresql://u@h/d").unwrap();
        assert_eq!(plain.sslmode, SslMode::Prefer);
    }

    #[test]
    fn faulty_urls_are_refused_without_quoting_them() {
        for url in [
            "mysql://u:s3cret@h/d",
            "host=h password=s3cret",
            "postgres://u:s3cret@h/d?sslmode=sometimes",
            "postgres://u:s3cret@h/d?no_such_parameter=1",
            "postgres://u:s3cret@h:notaport/d",
        ] {
            let error = PostgresSettings::from_url(url).unwrap_err();
            assert!(!error.is_transient());
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn iam_tokens_are_minted_over_tls_only() {
        let credentials = Credentials::new("AKID", "s3cret", None, None, "test");
        let provider = SharedCredentialsProvider::new(credentials);
        let open = PostgresSettings::from_url("postgres://u@h/d").unwrap();
        assert!(open.with_rds_iam(provider.clone(), "eu-west-1").is_err());
        let tls = PostgresSettings::from_url("postgres://u@h/d?sslmode=require").unwrap();
        let settings = tls.with_rds_iam(provider, "eu-west-1").unwrap();
        assert!(matches!(settings.password, PasswordSource::Minted(_)));
        assert!(!format!("{settings:?}").contains("s3cret"));
    }

    #[test]
    fn the_name_of_an_rds_host_tells_its_region() {
        let region = |host: &str| {
            let url = format!("postgres://u@{host}/d");
            PostgresSettings::from_url(&url).unwrap().rds_region()
        };
        let named = |name: &str| Some(name.to_owned());
        assert_eq!(region("db.abc.eu-west-1.rds.amazonaws.com"), named("eu-west-1"));
        assert_eq!(region("p.proxy-x.us-gov-east-1.rds.amazonaws.com"), named("us-gov-east-1"));
        assert_eq!(region("db.abc.cn-north-1.rds.amazonaws.com.cn"), named("cn-north-1"));
        assert_eq!(region("db.internal.example"), None);
        assert_eq!(region("rds.amazonaws.com"), None);
    }

    #[test]
    fn debug_shows_no_password() {
        let settings =
            PostgresSettings::from_parts("h", 5432, "u", Some("s3cret"), "d", SslMode::Disable);
        assert!(!format!("{settings:?}").contains("s3cret"));
        assert!(!format!("{:?}", settings.wire()).contains("s3cret"));
    }
}
