//! Reading single values; faults gather, nothing is echoed.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use tracing::level_filters::LevelFilter;

use super::schedule::Schedule;
use super::{AdminToken, Endpoint, KeyFiles, Quirks, Role, Secret, StaticKeys};

/// Shortest admin token, in bytes: with ten tries a minute even sixteen letters are never guessed.
pub const TOKEN_BYTES_MIN: usize = 16;

/// Names of log levels.
pub(super) const LEVELS: &[(&str, LevelFilter)] = &[
    ("debug", LevelFilter::DEBUG),
    ("info", LevelFilter::INFO),
    ("warn", LevelFilter::WARN),
    ("error", LevelFilter::ERROR),
    ("off", LevelFilter::OFF),
];

/// What is said about one S3 service, as it is in the environment.
pub(super) struct EndpointVariables<'a> {
    pub(super) access: &'a Option<String>,
    pub(super) secret: &'a Option<String>,
    pub(super) access_file: &'a Option<String>,
    pub(super) secret_file: &'a Option<String>,
    pub(super) region: &'a Option<String>,
    pub(super) role: &'a Option<String>,
    pub(super) external_id: &'a Option<String>,
    pub(super) ca_file: &'a Option<String>,
    pub(super) quirks: &'a Option<String>,
}

/// Reads values and remembers what was wrong with them.
#[derive(Default)]
pub(super) struct Reader {
    faults: Vec<String>,
}

impl Reader {
    pub(super) fn fault(&mut self, fault: impl Into<String>) {
        self.faults.push(fault.into());
    }

    pub(super) fn into_faults(self) -> Vec<String> {
        self.faults
    }

    pub(super) fn number<T>(
        &mut self,
        name: &str,
        value: Option<&str>,
        default: T,
        range: RangeInclusive<T>,
    ) -> T
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let Some(text) = value else { return default };
        match text.trim().parse() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                let (low, high) = range.into_inner();
                self.fault(format!("{name} must be a whole number from {low} to {high}"));
                default
            }
        }
    }

    pub(super) fn fallback(&mut self, name: &str, value: Option<&str>) -> bool {
        self.one_of(name, value, "off", &[("off", false), ("mirror", true)])
    }

    pub(super) fn schedule(&mut self, name: &str, value: Option<&str>) -> Option<Schedule> {
        let schedule = Schedule::parse(value?);
        if schedule.is_none() {
            self.fault(format!("{name} must be an interval such as 24h, or a time such as 03:30"));
        }
        schedule
    }

    pub(super) fn bytes(&mut self, name: &str, value: Option<&str>, default: u64) -> u64 {
        let Some(text) = value else { return default };
        bytes(text.trim()).unwrap_or_else(|| {
            self.fault(format!("{name} must be a number of bytes, such as 67108864 or 64MiB"));
            default
        })
    }

    pub(super) fn duration(
        &mut self,
        name: &str,
        value: Option<&str>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(text) = value else { return default };
        duration(text.trim()).filter(|found| range.contains(found)).unwrap_or_else(|| {
            let (low, high) = (range.start().as_secs(), range.end().as_secs());
            self.fault(format!(
                "{name} must be a duration such as 90s, 10m or 24h, {low}s to {high}s"
            ));
            default
        })
    }

    pub(super) fn flag(&mut self, name: &str, value: Option<&str>) -> bool {
        let choices = [
            ("true", true),
            ("false", false),
            ("1", true),
            ("0", false),
            ("yes", true),
            ("no", false),
        ];
        self.one_of(name, value, "false", &choices)
    }

    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &str,
        value: Option<&str>,
        default: &str,
        choices: &[(&str, T)],
    ) -> T {
        let find = |text: &str| {
            choices
                .iter()
                .find(|(word, _)| word.eq_ignore_ascii_case(text))
                .map(|(_, choice)| *choice)
        };
        let chosen = find(value.unwrap_or(default).trim());
        if chosen.is_none() {
            let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
            self.fault(format!("{name} must be one of {}", words.join(", ")));
        }
        // The default is one of the choices, and there is at least one.
        chosen.or_else(|| find(default)).unwrap_or(choices[0].1)
    }

    pub(super) fn address(
        &mut self,
        name: &str,
        value: Option<&str>,
        default: &'static str,
    ) -> SocketAddr {
        let text = value.unwrap_or(default).trim();
        // ":8080" is what people write who come from Go.
        let text = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
        text.parse().unwrap_or_else(|_| {
            self.fault(format!("{name} must be an IP address and port, such as {default}"));
            SocketAddr::from(([0, 0, 0, 0], 0))
        })
    }

    /// The admin token, or the file that holds it.
    pub(super) fn admin_token(&mut self, token: Option<&str>, file: Option<&str>) -> AdminToken {
        match (token.map(str::trim), file) {
            (None, None) => AdminToken::None,
            (None, Some(path)) => AdminToken::File(path.into()),
            (Some(_), Some(_)) => {
                self.fault("ADMIN_TOKEN and ADMIN_TOKEN_FILE: only one of them can be set");
                AdminToken::None
            }
            (Some(token), None) => {
                let graphic = token.bytes().all(|byte| byte.is_ascii_graphic());
                if token.len() < TOKEN_BYTES_MIN || !graphic {
                    self.fault(format!(
                        "ADMIN_TOKEN must have at least {TOKEN_BYTES_MIN} printable characters \
                         without spaces, for example from `openssl rand -hex 24`"
                    ));
                }
                AdminToken::Given(Secret::new(token))
            }
        }
    }

    /// Comma-separated base domains.
    pub(super) fn domains(&mut self, name: &str, value: Option<&str>) -> Vec<String> {
        let words = value.unwrap_or_default().split(',').map(str::trim);
        let domains: Vec<Option<String>> =
            words.filter(|word| !word.is_empty()).map(domain).collect();
        if domains.iter().any(Option::is_none) {
            self.fault(format!("{name} must be host names without scheme, separated by commas"));
        }
        domains.into_iter().flatten().collect()
    }

    /// Two values of which neither is any good alone.
    pub(super) fn both(
        &mut self,
        who: &str,
        names: [&str; 2],
        first: Option<String>,
        second: Option<String>,
    ) -> Option<(String, String)> {
        let [first_name, second_name] = names;
        match (first, second) {
            (Some(first), Some(second)) => Some((first, second)),
            (None, None) => None,
            (Some(_), None) => {
                self.fault(format!("{who}_{second_name} is missing beside {who}_{first_name}"));
                None
            }
            (None, Some(_)) => {
                self.fault(format!("{who}_{first_name} is missing beside {who}_{second_name}"));
                None
            }
        }
    }

    /// An S3 service from its variables.
    pub(super) fn endpoint(
        &mut self,
        who: &str,
        url: Option<&str>,
        variables: &EndpointVariables<'_>,
    ) -> Option<Endpoint> {
        let text = |value: &Option<String>| value.as_deref().map(|text| text.trim().to_owned());
        let (access, secret) = (text(variables.access), text(variables.secret));
        let given = self.both(who, ["ACCESS_KEY", "SECRET_KEY"], access, secret);
        let (access, secret) = (text(variables.access_file), text(variables.secret_file));
        let files = self.both(who, ["ACCESS_KEY_FILE", "SECRET_KEY_FILE"], access, secret);
        if given.is_some() && files.is_some() {
            self.fault(format!("{who}_ACCESS_KEY and {who}_ACCESS_KEY_FILE: set only one of them"));
        }
        let keys = given.map(|(access_key_id, secret)| StaticKeys {
            access_key_id,
            secret_access_key: Secret::new(secret),
        });
        let key_files = files.map(|(access, secret)| KeyFiles {
            access_key: access.into(),
            secret_key: secret.into(),
        });
        let external_id = text(variables.external_id);
        let role = text(variables.role);
        if role.as_ref().is_some_and(|arn| !arn.starts_with("arn:")) {
            self.fault(format!("{who}_ROLE_ARN must be an ARN, such as arn:aws:iam::...:role/..."));
        }
        if role.is_none() && external_id.is_some() {
            self.fault(format!("{who}_EXTERNAL_ID needs {who}_ROLE_ARN"));
        }
        let role = role.map(|arn| Role { arn, external_id });
        let ca_file = text(variables.ca_file).map(PathBuf::from);
        let region = text(variables.region).unwrap_or_else(|| "us-east-1".to_owned());
        let quirks = text(variables.quirks).unwrap_or_default();
        let quirks = Quirks::parse(&quirks).unwrap_or_else(|| {
            let words = Quirks::words();
            self.fault(format!("{who}_QUIRKS must be words from {words}, separated by commas"));
            Quirks::default()
        });
        let Some(url) = url else {
            self.fault(format!("{who}_S3_ENDPOINT is required, such as https://s3.example.com"));
            return None;
        };
        if let Some((scheme, authority)) = split_url(url.trim()) {
            let quirks = quirks.at(&scheme, authority.host());
            let endpoint =
                Endpoint { scheme, authority, region, keys, quirks, key_files, role, ca_file };
            Some(endpoint)
        } else {
            self.fault(format!(
                "{who}_S3_ENDPOINT must be http:// or https:// with a host and no path"
            ));
            None
        }
    }
}

/// Scheme and authority of an endpoint URL. The scheme's own port is dropped, because clients
/// and servers leave it out of the signed `Host`.
fn split_url(url: &str) -> Option<(Scheme, Authority)> {
    let (scheme, rest, own_port) = match url.split_once("://")? {
        (scheme, rest) if scheme.eq_ignore_ascii_case("http") => (Scheme::HTTP, rest, ":80"),
        (scheme, rest) if scheme.eq_ignore_ascii_case("https") => (Scheme::HTTPS, rest, ":443"),
        _ => return None,
    };
    let host = rest.strip_suffix('/').unwrap_or(rest);
    let host = host.strip_suffix(own_port).unwrap_or(host);
    let authority: Authority = host.parse().ok()?;
    (!authority.host().is_empty() && !host.contains('@')).then_some((scheme, authority))
}

/// `12`, `64KiB`, `64MiB`, `1GiB`.
pub fn bytes(text: &str) -> Option<u64> {
    const UNITS: &[(&str, u64)] =
        &[("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];
    for (unit, factor) in UNITS {
        if let Some(number) = text.strip_suffix(unit) {
            return number.trim().parse::<u64>().ok()?.checked_mul(*factor);
        }
    }
    text.parse().ok()
}

/// `90s`, `10m`, `24h`, `7d`.
pub(super) fn duration(text: &str) -> Option<Duration> {
    const UNITS: &[(&str, u64)] = &[("s", 1), ("m", 60), ("h", 3600), ("d", 86_400)];
    UNITS.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.trim().parse().ok()?;
        number.checked_mul(*seconds).map(Duration::from_secs)
    })
}

/// Comma-separated words.
pub(super) fn words(value: Option<&str>) -> Vec<String> {
    let words = value.unwrap_or_default().split(',').map(str::trim);
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// One base domain, lower-case and without port; `None` if it is no host name.
fn domain(text: &str) -> Option<String> {
    let name = text.trim_start_matches("*.").trim_start_matches('.');
    let name = match name.rsplit_once(':') {
        Some((name, port)) => port.parse::<u16>().ok().map(|_| name)?,
        None => name,
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let name = name.trim_end_matches('.');
    name.split('.').all(label).then(|| name.to_ascii_lowercase())
}

/// Stands in while faults are gathered; never leaves [`super::Config::from_environment`].
pub(super) fn nowhere() -> Endpoint {
    Endpoint {
        scheme: Scheme::HTTP,
        authority: Authority::from_static("localhost"),
        region: String::new(),
        keys: None,
        quirks: Quirks::default(),
        key_files: None,
        role: None,
        ca_file: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schemes_own_port_is_not_part_of_the_signed_host() {
        assert_eq!(split_url("https://h:443/").unwrap().1.as_str(), "h");
        assert_eq!(split_url("http://h:8080").unwrap().1.as_str(), "h:8080");
        assert!(split_url("http://h/path").is_none());
        assert!(split_url("http://user:pass@h").is_none());
    }

    #[test]
    fn sizes_take_binary_units() {
        assert_eq!(bytes("64MiB"), Some(64 << 20));
        assert_eq!(bytes("0"), Some(0));
        assert_eq!(bytes("1e9"), None);
        assert_eq!(bytes("99999999999TiB"), None);
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90s"), Some(Duration::from_secs(90)));
        assert_eq!(duration("24 h"), Some(Duration::from_hours(24)));
        assert_eq!(duration("90"), None);
        assert_eq!(duration("999999999999999999d"), None);
    }

    #[test]
    fn domains_are_plain_names() {
        let mut reader = Reader::default();
        let names = reader.domains("D", Some("S3.local:8080, *.x.y,"));
        assert_eq!(names, ["s3.local", "x.y"]);
        assert!(reader.faults.is_empty());
        reader.domains("D", Some("http://x.y/"));
        assert_eq!(reader.faults.len(), 1);
    }
}
