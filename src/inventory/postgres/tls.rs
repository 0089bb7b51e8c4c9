//! TLS to `PostgreSQL`, in libpq's degrees.
//!
//! The authorities are read for every new connection, so that a rotated file is found. Signatures
//! in the handshake are always checked; what varies is whether the certificate is.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::settings::{PostgresSettings, SslMode};

/// What is asked of the server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Nothing,
    Authority,
    AuthorityAndName,
}

/// A connector for these settings.
///
/// # Errors
/// A sentence for people: the authorities cannot be read.
pub(super) fn connector(settings: &PostgresSettings) -> Result<MakeRustlsConnect, String> {
    let check = match (settings.sslmode, &settings.ca_file) {
        (SslMode::VerifyFull, _) => Check::AuthorityAndName,
        (SslMode::VerifyCa, _) | (_, Some(_)) => Check::Authority,
        (SslMode::Disable | SslMode::Prefer | SslMode::Require, None) => Check::Nothing,
    };
    let provider = Arc::new(ring::default_provider());
    let mut pinned = Vec::new();
    let inner = match check {
        Check::Nothing => None,
        Check::Authority | Check::AuthorityAndName => {
            pinned = authorities(settings.ca_file.as_deref())?;
            let mut roots = RootCertStore::empty();
            // A few unreadable certificates in a system's store are usual, and harmless.
            roots.add_parsable_certificates(pinned.iter().cloned());
            if roots.is_empty() {
                return Err("no certificate authority was found to check the database by".into());
            }
            let roots = Arc::new(roots);
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider))
                    .build()
                    .map_err(|error| format!("the certificate authorities are unusable: {error}"))?;
            Some(verifier)
        }
    };
    let verifier = Verifier { check, inner, pinned, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

/// The certificates of the file, or of the system.
fn authorities(ca_file: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, String> {
    let Some(path) = ca_file else {
        return Ok(rustls_native_certs::load_native_certs().certs);
    };
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| format!("the authority file {} cannot be read: {error}", path.display()))
}

/// Checks as much as asked for.
#[derive(Debug)]
struct Verifier {
    check: Check,
    inner: Option<Arc<WebPkiServerVerifier>>,
    /// The authorities themselves, byte for byte.
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        let verdict =
            inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match verdict {
            // The name is looked at last, after the chain: nothing but the name is wrong.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.check == Check::Authority => Ok(ServerCertVerified::assertion()),
            // A self-signed server certificate that is its own authority, the usual first setup, is
            // refused by webpki as "a CA used as an end entity"; OpenSSL, and so libpq, takes it.
            // Being listed byte for byte it is trusted; its dates were looked at before.
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.pinned.iter().any(|authority| authority == end_entity) =>
            {
                if self.check == Check::AuthorityAndName {
                    verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                }
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
