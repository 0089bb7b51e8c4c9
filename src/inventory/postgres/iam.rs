//! RDS and Aurora IAM authentication: the password is a `SigV4`-presigned `connect` URL.
//!
//! A token is good for fifteen minutes and only for opening a connection; an open one outlives it.
//! Making one is a local computation, so every new connection gets a fresh token and none can be
//! found expired. The credentials behind it are the provider's to keep fresh.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4::SigningParams;
use futures_util::future::BoxFuture;

use super::settings::PasswordMinter;

/// What RDS grants a token at most.
const TOKEN_LIFETIME: Duration = Duration::from_mins(15);

/// Mints tokens for one user of one server.
pub(super) struct RdsTokens {
    pub(super) credentials: SharedCredentialsProvider,
    pub(super) region: String,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
}

impl PasswordMinter for RdsTokens {
    fn mint(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            let credentials = self
                .credentials
                .provide_credentials()
                .await
                .map_err(|error| format!("no AWS credentials for the database: {error}"))?;
            self.token(credentials, SystemTime::now())
        })
    }
}

impl RdsTokens {
    fn token(&self, credentials: Credentials, now: SystemTime) -> Result<String, String> {
        let unsigned = |_| "the database token cannot be signed".to_owned();
        let address =
            format!("{}:{}/?Action=connect&DBUser={}", self.host, self.port, encoded(&self.user));
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(TOKEN_LIFETIME);
        let identity = credentials.into();
        let parameters = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("rds-db")
            .time(now)
            .settings(settings)
            .build()
            .map_err(|_| "the database token's parameters are incomplete".to_owned())?;
        let url = format!("https://{address}");
        let request =
            SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(&[]))
                .map_err(unsigned)?;
        let (instructions, _) = sign(request, &parameters.into()).map_err(unsigned)?.into_parts();
        let mut token = address;
        for (name, value) in instructions.params() {
            token.push('&');
            token.push_str(name);
            token.push('=');
            token.push_str(&encoded(value));
        }
        Ok(token)
    }
}

/// Percent-encoding as AWS signs it: all but the unreserved characters.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    /// Signatures as botocore 1.43 makes them for the same instant and (made-up) credentials.
    #[test]
    fn tokens_carry_the_signatures_that_botocore_makes() {
        let credentials = |token: Option<&str>| {
            Credentials::new("AKIDEXAMPLE", "secret/key", token.map(str::to_owned), None, "test")
        };
        let minter = RdsTokens {
            credentials: SharedCredentialsProvider::new(credentials(None)),
            region: "eu-west-1".into(),
            host: "db.example.eu-west-1.rds.amazonaws.com".into(),
            port: 5432,
            user: "s3 mirror".into(),
        };
        let now = SystemTime::from(datetime!(2026-02-03 04:05:06 UTC));
        let token = minter.token(credentials(None), now).unwrap();
        assert!(token.starts_with(
            "db.example.eu-west-1.rds.amazonaws.com:5432/?Action=connect&DBUser=s3%20mirror&"
        ));
        assert!(token.contains("&X-Amz-Expires=900&"));
        let signature = "42ea1e823c0d0ec6aaf4b88d07e49632f2b47e64ec163504db1fa29988ef204e";
        assert!(token.contains(signature), "{token}");
        let token = minter.token(credentials(Some("tok/en+=")), now).unwrap();
        assert!(token.contains("&X-Amz-Security-Token=tok%2Fen%2B%3D"), "{token}");
        let signature = "10e8e8e4e6aa3d5751536f006cf31d579e2dd92ec64b1ca817579a2cdde5e4c4";
        assert!(token.contains(signature), "{token}");
    }
}
