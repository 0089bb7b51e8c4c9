//! TLS on the S3 port: version 1.2 or newer, with a certificate that is read again when renewed.
//!
//! # Promises
//! - A renewed pair of files serves new connections within two seconds; connections that stand are not
//!   touched.
//! - A pair that cannot be read, or does not fit, changes nothing but for a line in the log: the
//!   last good one stays in force. While the two files are replaced one after the other they do not
//!   fit for a moment; the next look finds them whole.

use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// HTTP/2, as it is called in the handshake.
pub(super) const HTTP2: &[u8] = b"h2";
/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long a client may take for the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest file that is taken for a certificate chain or a key, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The certificate of the S3 port, shared by all cores.
#[derive(Clone)]
pub struct Tls {
    files: Arc<Files>,
    config: Arc<ArcSwap<ServerConfig>>,
}

#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// Both files as they were read.
#[derive(PartialEq, Eq)]
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Reads the files: a certificate chain, the server's own first, and its key, both PEM.
    ///
    /// # Errors
    /// They cannot be read, hold nothing of the kind, or do not fit.
    pub async fn open(certificate: &Path, key: &Path) -> Result<Self, Error> {
        let files = Arc::new(Files { certificate: certificate.to_owned(), key: key.to_owned() });
        let config = files.read().await?.config(&files)?;
        Ok(Self { files, config: Arc::new(ArcSwap::from_pointee(config)) })
    }

    /// Looks at the files until it is dropped.
    pub async fn watch(self) {
        let mut seen = self.files.read().await.ok();
        let mut fault = String::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let read = self.files.read().await;
            if let Ok(pair) = &read
                && seen.as_ref() == Some(pair)
            {
                continue;
            }
            match read.and_then(|pair| pair.config(&self.files).map(|config| (pair, config))) {
                Ok((pair, config)) => {
                    self.config.store(Arc::new(config));
                    seen = Some(pair);
                    fault.clear();
                    tracing::info!("the TLS certificate was read again");
                }
                Err(error) if error.to_string() == fault => {}
                Err(error) => {
                    fault = error.to_string();
                    tracing::error!(%error, "the old TLS certificate stays in force");
                }
            }
        }
    }

    /// Does the handshake of one connection.
    ///
    /// # Errors
    /// The client does not speak TLS 1.2 or newer, does not trust the certificate, or takes too
    /// long.
    pub(super) async fn accept<S>(&self, stream: S) -> Result<TlsStream<S>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let acceptor = TlsAcceptor::from(self.config.load_full());
        tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await.unwrap_or_else(
            |_| Err(Error::new(ErrorKind::TimedOut, "the handshake takes too long")),
        )
    }
}

impl Files {
    async fn read(&self) -> Result<Pair, Error> {
        Ok(Pair { certificate: read(&self.certificate).await?, key: read(&self.key).await? })
    }
}

async fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let named = |error: Error| Error::new(error.kind(), format!("{}: {error}", path.display()));
    let bytes = tokio::fs::metadata(path).await.map_err(named)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(named(Error::new(ErrorKind::InvalidInput, "larger than 1 MiB")));
    }
    tokio::fs::read(path).await.map_err(named)
}

impl Pair {
    fn config(&self, files: &Files) -> Result<ServerConfig, Error> {
        let unusable = |path: &Path, reason: &dyn std::fmt::Display| {
            Error::new(ErrorKind::InvalidInput, format!("{}: {reason}", path.display()))
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| unusable(&files.certificate, &error))?;
        if chain.is_empty() {
            return Err(unusable(&files.certificate, &"holds no certificate"));
        }
        // What is wrong with a key is not told in detail.
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|_| unusable(&files.key, &"holds no private key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(|error| unusable(&files.certificate, &error))?;
        config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}
