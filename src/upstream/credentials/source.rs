//! Asking for credentials: files, the standard AWS chain, and a role assumed with either.

use std::path::Path;

use aws_config::SdkConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};

use crate::config::{Endpoint, KeyFiles};
use crate::upstream::sdk_http_client;

/// Longest file that is taken for a key, in bytes.
const KEY_BYTES_MAX: usize = 4096;
/// How often a pair of files is read that is being replaced, before it counts as unreadable.
const READS: usize = 3;

/// What the endpoint's settings ask for.
pub(super) async fn of(endpoint: &Endpoint) -> SharedCredentialsProvider {
    let config = sdk_config(&endpoint.region).await;
    let base = match (&endpoint.keys, &endpoint.key_files) {
        (Some(keys), _) => SharedCredentialsProvider::new(Credentials::new(
            keys.access_key_id.clone(),
            keys.secret_access_key.expose(),
            None,
            None,
            "s3-mirror",
        )),
        (None, Some(files)) => SharedCredentialsProvider::new(Files(files.clone())),
        (None, None) => chain(&config),
    };
    let Some(role) = &endpoint.role else { return base };
    let mut assumed =
        AssumeRoleProvider::builder(&role.arn).session_name("s3-mirror").configure(&config);
    if let Some(id) = &role.external_id {
        assumed = assumed.external_id(id);
    }
    SharedCredentialsProvider::new(assumed.build_from_provider(base).await)
}

/// The AWS SDK's own settings (`AWS_*`, profiles), with our HTTP client.
pub(super) async fn sdk_config(region: &str) -> SdkConfig {
    aws_config::defaults(aws_config::BehaviorVersion::latest())
        .http_client(sdk_http_client())
        .region(aws_config::Region::new(region.to_owned()))
        .load()
        .await
}

pub(super) fn chain(config: &SdkConfig) -> SharedCredentialsProvider {
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

/// Keys in two files, such as a mounted secret.
#[derive(Debug)]
struct Files(KeyFiles);

impl ProvideCredentials for Files {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async move {
            let (access, secret) = pair(&self.0).await.map_err(CredentialsError::not_loaded)?;
            Ok(Credentials::new(access, secret, None, None, "key files"))
        })
    }
}

/// Both files as they are at one moment: the first must be the same before and after the second.
async fn pair(files: &KeyFiles) -> Result<(String, String), String> {
    let mut access = read(&files.access_key).await?;
    for _ in 0..READS {
        let secret = read(&files.secret_key).await?;
        let again = read(&files.access_key).await?;
        if access == again {
            return Ok((access, secret));
        }
        access = again;
    }
    Err(format!("{} keeps changing", files.access_key.display()))
}

/// The first line of a file; what it holds is in no error.
async fn read(path: &Path) -> Result<String, String> {
    let text = tokio::fs::read(path)
        .await
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = std::str::from_utf8(line).unwrap_or_default().trim();
    if line.is_empty() || line.len() > KEY_BYTES_MAX {
        return Err(format!("{} holds no key", path.display()));
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[tokio::test]
    async fn keys_are_the_first_lines_of_their_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| -> PathBuf {
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = KeyFiles {
            access_key: file("access", " AKID \nmore"),
            secret_key: file("secret", "hunter2"),
        };
        assert_eq!(pair(&files).await.unwrap(), ("AKID".to_owned(), "hunter2".to_owned()));
        file("secret", "\n");
        let error = pair(&files).await.unwrap_err();
        assert!(error.contains("secret holds no key") && !error.contains("hunter2"), "{error}");
        std::fs::remove_file(&files.secret_key).unwrap();
        assert!(pair(&files).await.is_err());
    }
}
