//! Other programs that are told of what happens: a webhook of events, a collector of spans.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::uri::Uri;

use super::Secret;
use super::env::Environment;
use super::parse::Reader;

/// Shortest secret of a webhook, in bytes.
const SECRET_BYTES_MIN: usize = 16;
/// Marks a secret whose rest is base64 (Standard Webhooks).
pub const SECRET_PREFIX: &str = "whsec_";

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

/// Can this be a secret? What [`SECRET_PREFIX`] stands before has to be base64.
pub fn usable_secret(secret: &str) -> bool {
    let encoded = secret.strip_prefix(SECRET_PREFIX);
    secret.len() >= SECRET_BYTES_MIN
        && secret.bytes().all(|byte| byte.is_ascii_graphic())
        && encoded.is_none_or(|encoded| STANDARD.decode(encoded).is_ok())
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
                     characters without spaces, for example from `openssl rand -hex 24`, and base64 \
                     behind {SECRET_PREFIX} if it begins so"
                ));
                None
            }
        };
        Some(Self { address: address?, secret: secret? })
    }
}

/// Which requests are traced that no caller has decided about, and whether callers decide at all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampler {
    /// Does the caller's own choice count?
    pub parent: bool,
    /// Share of the others, 0 to 1.
    pub ratio: f64,
}

/// Where spans go.
#[derive(Debug, Clone)]
pub struct Traces {
    /// The collector's address for traces.
    pub address: WebAddress,
    /// Sent with every export; may be secret.
    pub headers: HeaderMap,
    /// What the service is called.
    pub service_name: String,
    /// Which requests.
    pub sampler: Sampler,
}

impl Traces {
    pub(super) fn read(read: &mut Reader, env: &Environment) -> Option<Self> {
        let sampler = read.one_of(
            "OTEL_TRACES_SAMPLER",
            env.otel_traces_sampler.as_deref(),
            "parentbased_always_on",
            &[
                ("always_on", (false, Some(1.0))),
                ("always_off", (false, Some(0.0))),
                ("traceidratio", (false, None)),
                ("parentbased_always_on", (true, Some(1.0))),
                ("parentbased_always_off", (true, Some(0.0))),
                ("parentbased_traceidratio", (true, None)),
            ],
        );
        let argument = env.otel_traces_sampler_arg.as_deref().unwrap_or("1").trim();
        let argument: Option<f64> =
            argument.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
        if argument.is_none() {
            read.fault("OTEL_TRACES_SAMPLER_ARG must be a share from 0 to 1, such as 0.01");
        }
        let headers = headers(env.otel_exporter_otlp_headers.as_deref()).unwrap_or_else(|| {
            read.fault("OTEL_EXPORTER_OTLP_HEADERS must be name=value, separated by commas");
            HeaderMap::new()
        });
        let text = env.otel_exporter_otlp_endpoint.as_deref()?.trim().trim_end_matches('/');
        let Some(address) = WebAddress::parse(&format!("{text}/v1/traces")) else {
            read.fault(
                "OTEL_EXPORTER_OTLP_ENDPOINT must be an http:// or https:// URL, such as \
                 http://collector:4318",
            );
            return None;
        };
        let service_name = env.otel_service_name.as_deref().unwrap_or("s3-mirror").trim();
        Some(Self {
            address,
            headers,
            service_name: service_name.to_owned(),
            sampler: Sampler { parent: sampler.0, ratio: sampler.1.or(argument).unwrap_or(1.0) },
        })
    }
}

/// `name=value,name=value`, values percent-encoded.
fn headers(text: Option<&str>) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in super::parse::words(text) {
        let (name, value) = pair.split_once('=')?;
        let value = crate::s3::encode::decode(value.trim(), false)?;
        let mut value = HeaderValue::try_from(value.as_ref()).ok()?;
        value.set_sensitive(true);
        headers.append(HeaderName::try_from(name.trim()).ok()?, value);
    }
    Some(headers)
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
        assert!(config.events.is_none() && config.traces.is_none());
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
            &[url, ("EVENTS_WEBHOOK_SECRET", "whsec_hunter2-hunter2-hunter2")],
            &[url, secret, ("EVENTS_WEBHOOK_SECRET_FILE", "/hunter2")],
            &[("EVENTS_WEBHOOK_URL", "ftp://hunter2"), secret],
            &[("EVENTS_WEBHOOK_URL", "https://user:hunter2@h/"), secret],
        ] {
            let faults = config(wrong).unwrap_err();
            assert_eq!(faults.len(), 1, "{faults:?}");
            assert!(!faults[0].contains("hunter2"), "{faults:?}");
        }
    }

    #[test]
    fn a_collector_is_named_as_every_opentelemetry_program_wants_it() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        let traces = config(&[
            endpoint,
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20hunter2, x-scope=a"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
        ]);
        let traces = traces.unwrap().traces.unwrap();
        assert_eq!(traces.address.expose().path(), "/v1/traces");
        assert_eq!(traces.headers["authorization"], "Bearer hunter2");
        assert_eq!(traces.sampler, Sampler { parent: true, ratio: 0.25 });
        assert!(!format!("{traces:?}").contains("hunter2"));
        for wrong in [
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318")][..],
            &[endpoint, ("OTEL_TRACES_SAMPLER", "sometimes")],
            &[endpoint, ("OTEL_TRACES_SAMPLER_ARG", "2")],
            &[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2")],
        ] {
            let faults = config(wrong).unwrap_err();
            assert!(faults.len() == 1 && !faults[0].contains("hunter2"), "{faults:?}");
        }
    }
}
