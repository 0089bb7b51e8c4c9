//! Other programs that are told of what happens: a webhook of events.

use std::path::PathBuf;

use http::uri::Uri;

use super::Secret;
use super::env::Environment;
use super::parse::Reader;

/// Shortest secret of a webhook, in bytes.
const SECRET_BYTES_MIN: usize = 16;

/// A web address that cannot be printed: its path or query may be a capability.
#[derive(Clone, PartialEq, Eq)]
pub struct WebAddress(Uri);

impl WebAddress {
    fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.parse().ok()?;
        let authority = uri.authority()?;
        let known = matches!(uri.scheme_str(), Some("http" | "https"));
        let plain = !authority.host().is_empty() && !authority.as_str().contains('@');
        (known && plain).then_some(Self(uri))
    }

    /// The address itself.
    pub fn expose(&self) -> &Uri {
        &self.0
    }

    /// Host and port, which may be shown.
    pub fn host(&self) -> &str {
        self.0.authority().map_or("", http::uri::Authority::as_str)
    }
}

impl std::fmt::Debug for WebAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// Who is told of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Where they are posted.
    pub address: WebAddress,
    /// What they are signed with.
    pub secret: WebhookSecret,
}

/// Where the secret of a webhook is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookSecret {
    /// `EVENTS_WEBHOOK_SECRET`
    Given(Secret),
    /// `EVENTS_WEBHOOK_SECRET_FILE`: read at every use.
    File(PathBuf),
}

/// Can this be a secret?
pub fn usable_secret(secret: &str) -> bool {
    secret.len() >= SECRET_BYTES_MIN && secret.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Webhook {
    pub(super) fn read(read: &mut Reader, env: &Environment) -> Option<Self> {
        let given = env.events_webhook_secret.as_deref().map(str::trim);
        let file = env.events_webhook_secret_file.as_deref();
        let Some(text) = &env.events_webhook_url else {
            if given.is_some() || file.is_some() {
                read.fault("EVENTS_WEBHOOK_URL is missing beside its secret");
            }
            return None;
        };
        let address = WebAddress::parse(text.trim());
        if address.is_none() {
            read.fault("EVENTS_WEBHOOK_URL must be an http:// or https:// URL");
        }
        let secret = match (given, file) {
            (Some(secret), None) if usable_secret(secret) => {
                Some(WebhookSecret::Given(Secret::new(secret)))
            }
            (None, Some(path)) => Some(WebhookSecret::File(path.into())),
            (Some(_), Some(_)) => {
                read.fault(
                    "EVENTS_WEBHOOK_SECRET and EVENTS_WEBHOOK_SECRET_FILE: set only one of them",
                );
                None
            }
            (None, None) => {
                read.fault(
                    "EVENTS_WEBHOOK_SECRET or EVENTS_WEBHOOK_SECRET_FILE is missing beside \
                     EVENTS_WEBHOOK_URL",
                );
                None
            }
            (Some(_), None) => {
                read.fault(format!(
                    "EVENTS_WEBHOOK_SECRET must have at least {SECRET_BYTES_MIN} printable \
                     characters without spaces, for example from `openssl rand -hex 24`"
                ));
                None
            }
        };
        Some(Self { address: address?, secret: secret? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn config(pairs: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let least = [("MIRROR_S3_ENDPOINT", "http://mirror:9000")];
        let pairs = pairs.iter().chain(&least).map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Config::from_environment(&Environment::from_pairs(pairs).unwrap())
    }

    #[test]
    fn nobody_is_told_of_anything_unless_an_address_is_set() {
        let config = config(&[]).unwrap();
        assert!(config.events.is_none());
    }

    #[test]
    fn a_webhook_needs_an_address_and_a_secret_and_shows_neither() {
        let url = ("EVENTS_WEBHOOK_URL", "https://hooks.example/T0/hunter2");
        let secret = ("EVENTS_WEBHOOK_SECRET", "hunter2hunter2hunter2");
        let told = config(&[url, secret]).unwrap();
        assert_eq!(told.events.as_ref().unwrap().address.host(), "hooks.example");
        assert!(!format!("{told:?}").contains("hunter2"));
        for wrong in [
            &[url][..],
            &[secret],
            &[url, ("EVENTS_WEBHOOK_SECRET", "hunter2")],
            &[url, secret, ("EVENTS_WEBHOOK_SECRET_FILE", "/hunter2")],
            &[("EVENTS_WEBHOOK_URL", "ftp://hunter2"), secret],
            &[("EVENTS_WEBHOOK_URL", "https://user:hunter2@h/"), secret],
        ] {
            let faults = config(wrong).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(!faults[0].contains("hunter2"), "{faults:?}");
        }
    }
}
