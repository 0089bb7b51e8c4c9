//! Buckets that are served elsewhere: another region of the same service, another of its hosts.
//!
//! S3 answers a request to the wrong place with a redirect (301, 307) or, when only the region of
//! the signature is wrong, with 400. A client must not follow it, since that would take it past the
//! proxy; so the place is learnt here, per bucket, and the next request to that bucket goes there.
//! A request without body is sent there at once, because nothing of it had any effect.
//!
//! A place is taken over only if it belongs to the same service: the same host, a sibling in its
//! domain, or any S3 endpoint of AWS if the service is AWS. What is learnt is kept in memory and
//! replaced when the service redirects again, or dropped when nobody answers there.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::StatusCode;
use http::header::{HeaderMap, HeaderValue, LOCATION};
use http::uri::{Authority, Uri};

use super::sign::Signer;
use crate::config::Endpoint;
use crate::s3::xml;

/// Buckets remembered. When there are more, all are forgotten: each costs one redirect again.
const BUCKETS_MAX: usize = 10_000;
const BUCKET_REGION: &str = "x-amz-bucket-region";

/// Set on a response that redirected when the place was learnt: the same request will be right now.
#[derive(Debug, Clone, Copy)]
pub struct Learnt;

/// A place where buckets are served.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) authority: Authority,
    /// The authority as the `Host` header has it.
    pub(super) host: HeaderValue,
    pub(super) region: String,
    pub(super) signer: Signer,
}

impl Site {
    pub(super) fn new(authority: Authority, region: &str) -> Result<Self, std::io::Error> {
        let host = HeaderValue::from_str(authority.as_str())
            .map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidInput, error))?;
        Ok(Self { authority, host, region: region.to_owned(), signer: Signer::new(region) })
    }
}

/// What an answer says about where a bucket is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Elsewhere {
    region: Option<String>,
    /// Host and perhaps port.
    host: Option<String>,
}

impl Elsewhere {
    /// From the head of a response.
    pub(super) fn told_by(status: StatusCode, headers: &HeaderMap) -> Option<Self> {
        // 302 and 303 are what login pages and gateways in between answer, never S3.
        let moved = matches!(status.as_u16(), 301 | 307 | 308);
        if !moved && status != StatusCode::BAD_REQUEST {
            return None;
        }
        let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
        let region = headers.get(BUCKET_REGION).and_then(text);
        let location = headers.get(LOCATION).filter(|_| moved).and_then(text);
        let location = location.and_then(|location| location.parse::<Uri>().ok());
        let host = location.and_then(|uri| uri.authority().map(ToString::to_string));
        (region.is_some() || host.is_some()).then_some(Self { region, host })
    }

    /// From an error document.
    pub(super) fn told_in(document: &[u8]) -> Option<Self> {
        let document = xml::result_document(document).ok()?;
        let named = ["AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect"];
        if !named.contains(&document.code.as_deref()?) {
            return None;
        }
        let (region, host) = (document.region, document.endpoint);
        (region.is_some() || host.is_some()).then_some(Self { region, host })
    }

    /// Host and region to send requests for `bucket` to; `None` if the place is not one of this
    /// service, or no other than the one that was used.
    fn place(
        &self,
        endpoint: &Endpoint,
        used: (&Authority, &str),
        bucket: &str,
    ) -> Option<(Authority, String)> {
        let (used_authority, used_region) = used;
        let named = self.host.as_deref();
        // Path-style addressing is kept.
        let named = named.map(|host| {
            host.strip_prefix(bucket).and_then(|rest| rest.strip_prefix('.')).unwrap_or(host)
        });
        let aws = aws_suffix(endpoint.authority.host());
        let region = self.region.clone().or_else(|| named.and_then(aws_region));
        let authority: Authority = match (named, aws, &region) {
            (Some(host), ..) => host.parse().ok()?,
            (None, Some(suffix), Some(region)) => format!("s3.{region}.{suffix}").parse().ok()?,
            (None, ..) => used_authority.clone(),
        };
        if !same_service(endpoint.authority.host(), authority.host()) {
            return None;
        }
        let region = region.unwrap_or_else(|| used_region.to_owned());
        let sane = region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        let other = authority != *used_authority || region != used_region;
        (sane && !region.is_empty() && other).then_some((authority, region))
    }
}

/// What has been learnt; shared by all connections to one service.
#[derive(Debug, Default)]
pub(super) struct Sites {
    known: ArcSwap<HashMap<String, Arc<Site>>>,
}

impl Sites {
    /// Where requests with this canonical path go, if not to the endpoint itself.
    pub(super) fn of(&self, path: &str) -> Option<Arc<Site>> {
        let known = self.known.load();
        if known.is_empty() { None } else { known.get(bucket_of(path)).cloned() }
    }

    /// Takes over what an answer told. True: the next request to the bucket goes another way.
    pub(super) fn learn(&self, endpoint: &Endpoint, path: &str, told: &Elsewhere) -> bool {
        let bucket = bucket_of(path);
        if bucket.is_empty() {
            return false;
        }
        let site = self.of(path);
        let used = match &site {
            Some(site) => (&site.authority, site.region.as_str()),
            None => (&endpoint.authority, endpoint.region.as_str()),
        };
        let Some((authority, region)) = told.place(endpoint, used, bucket) else { return false };
        tracing::info!(bucket, %authority, region, "the bucket is served elsewhere");
        let Ok(site) = Site::new(authority, &region) else { return false };
        let site = Arc::new(site);
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            if known.len() >= BUCKETS_MAX {
                known.clear();
            }
            known.insert(bucket.to_owned(), site.clone());
            known
        });
        true
    }

    /// Takes back what was learnt for the bucket of `path`: nobody answers there.
    pub(super) fn forget(&self, path: &str) {
        let bucket = bucket_of(path);
        tracing::warn!(bucket, "nobody answers where the bucket was said to be");
        self.known.rcu(|known| {
            let mut known = HashMap::clone(known);
            known.remove(bucket);
            known
        });
    }
}

/// The bucket in a canonical path-style path, still encoded.
fn bucket_of(path: &str) -> &str {
    path.strip_prefix('/').unwrap_or(path).split('/').next().unwrap_or_default()
}

/// `amazonaws.com` or `amazonaws.com.cn` if this is an S3 host of AWS.
fn aws_suffix(host: &str) -> Option<&'static str> {
    let suffix = ["amazonaws.com", "amazonaws.com.cn"]
        .into_iter()
        .find(|suffix| host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')))?;
    let first = host.split('.').next().unwrap_or_default();
    (first == "s3" || first.starts_with("s3-")).then_some(suffix)
}

/// The region in `s3.eu-west-1.amazonaws.com` or `s3-eu-west-1.amazonaws.com`.
fn aws_region(host: &str) -> Option<String> {
    let rest = host.strip_suffix(aws_suffix(host)?)?.strip_suffix('.')?;
    let region = rest.strip_prefix("s3.").or_else(|| rest.strip_prefix("s3-"))?;
    (!region.contains('.')).then(|| region.to_owned())
}

/// Does a host belong to the service that named it?
fn same_service(endpoint: &str, host: &str) -> bool {
    if endpoint.eq_ignore_ascii_case(host) {
        return true;
    }
    if let (Some(one), Some(other)) = (aws_suffix(endpoint), aws_suffix(host)) {
        return one == other;
    }
    let is_address = |host: &str| host.parse::<std::net::IpAddr>().is_ok() || host.starts_with('[');
    if is_address(endpoint) || is_address(host) {
        return false;
    }
    // A sibling: below the same domain, which has at least two labels.
    let Some((_, domain)) = endpoint.split_once('.') else { return false };
    domain.contains('.')
        && host.len() > domain.len()
        && host.to_ascii_lowercase().ends_with(&format!(".{}", domain.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str, region: &str) -> Endpoint {
        Endpoint {
            scheme: http::uri::Scheme::HTTPS,
            authority: host.parse().unwrap(),
            region: region.into(),
            keys: None,
            quirks: crate::config::Quirks::default(),
            key_files: None,
            role: None,
            ca_file: None,
        }
    }

    #[test]
    fn what_gateways_answer_moves_no_bucket() {
        assert_eq!(told(302, &[("location", "https://s3.example.com/login")]), None);
        assert_eq!(told(303, &[("location", "https://s3.example.com/login")]), None);
    }

    #[test]
    fn a_place_where_nobody_answers_is_forgotten() {
        let sites = Sites::default();
        let home = endpoint("s3.amazonaws.com", "us-east-1");
        let moved = told(301, &[("x-amz-bucket-region", "eu-west-1")]).unwrap();
        assert!(sites.learn(&home, "/bucket/key", &moved));
        assert!(sites.of("/bucket/other").is_some());
        sites.forget("/bucket/key");
        assert!(sites.of("/bucket/key").is_none());
    }

    fn told(status: u16, headers: &[(&'static str, &str)]) -> Option<Elsewhere> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Elsewhere::told_by(StatusCode::from_u16(status).unwrap(), &map)
    }

    fn place(host: &str, told: &Elsewhere) -> Option<(String, String)> {
        let endpoint = endpoint(host, "us-east-1");
        let used = (&endpoint.authority.clone(), "us-east-1");
        let (authority, region) = told.place(&endpoint, used, "my.bucket")?;
        Some((authority.to_string(), region))
    }

    fn at(host: &str, region: &str) -> (String, String) {
        (host.to_owned(), region.to_owned())
    }

    #[test]
    fn a_region_of_aws_has_a_host_of_its_own() {
        let eu = told(301, &[(BUCKET_REGION, "eu-west-1")]).unwrap();
        let host = "s3.eu-west-1.amazonaws.com";
        assert_eq!(place("s3.amazonaws.com", &eu), Some(at(host, "eu-west-1")));
        assert_eq!(place("s3.us-west-2.amazonaws.com", &eu), Some(at(host, "eu-west-1")));
        let cn = told(400, &[(BUCKET_REGION, "cn-north-1")]).unwrap();
        let host = "s3.cn-north-1.amazonaws.com.cn";
        assert_eq!(place("s3.cn-northwest-1.amazonaws.com.cn", &cn), Some(at(host, "cn-north-1")));
        assert_eq!(
            place("minio.example.com:9000", &eu),
            Some(at("minio.example.com:9000", "eu-west-1"))
        );
    }

    #[test]
    fn a_location_names_host_and_region_and_loses_the_bucket() {
        let location = "https://my.bucket.s3-eu-west-1.amazonaws.com/key?x=1";
        let moved = told(307, &[("location", location)]).unwrap();
        let expected = Some(at("s3-eu-west-1.amazonaws.com", "eu-west-1"));
        assert_eq!(place("s3.amazonaws.com", &moved), expected);
        let sibling = told(307, &[("location", "http://s3-2.example.com/my.bucket/k")]).unwrap();
        assert_eq!(place("s3-1.example.com", &sibling), Some(at("s3-2.example.com", "us-east-1")));
    }

    #[test]
    fn hosts_of_others_and_the_place_that_was_used_are_not_followed() {
        for host in ["evil.example", "s3.amazonaws.com.evil.example", "127.0.0.1", "example.com"] {
            let told = Elsewhere { region: None, host: Some(host.into()) };
            assert_eq!(place("s3.amazonaws.com", &told), None, "{host}");
            assert_eq!(place("s3.example.com", &told), None, "{host}");
        }
        let same = Elsewhere { region: Some("us-east-1".into()), host: None };
        assert_eq!(place("minio.example.com", &same), None);
        let odd = Elsewhere { region: Some("eu\nwest/1".into()), host: None };
        assert_eq!(place("minio.example.com", &odd), None);
    }

    #[test]
    fn only_redirects_and_refused_signatures_tell() {
        assert_eq!(told(200, &[(BUCKET_REGION, "eu-west-1")]), None);
        assert_eq!(told(304, &[(BUCKET_REGION, "eu-west-1")]), None);
        assert_eq!(told(403, &[(BUCKET_REGION, "eu-west-1")]), None);
        assert_eq!(told(307, &[]), None);
        assert_eq!(told(400, &[("location", "http://s3-2.example.com/")]), None);
        let document =
            b"<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        let region = Elsewhere::told_in(document).unwrap().region;
        assert_eq!(region.as_deref(), Some("eu-west-1"));
        assert_eq!(
            Elsewhere::told_in(b"<Error><Code>NoSuchKey</Code><Region>x</Region></Error>"),
            None
        );
    }

    #[test]
    fn what_was_learnt_counts_for_that_bucket_alone_until_it_moves_again() {
        let endpoint = endpoint("s3.amazonaws.com", "us-east-1");
        let sites = Sites::default();
        let eu = Elsewhere { region: Some("eu-west-1".into()), host: None };
        assert!(sites.learn(&endpoint, "/b/k", &eu));
        assert!(!sites.learn(&endpoint, "/b/other", &eu), "nothing new");
        assert_eq!(sites.of("/b").unwrap().region, "eu-west-1");
        assert!(sites.of("/b2/k").is_none() && sites.of("/").is_none());
        let back = Elsewhere { region: Some("us-east-1".into()), host: None };
        assert!(sites.learn(&endpoint, "/b/k", &back));
        assert_eq!(sites.of("/b/k").unwrap().region, "us-east-1");
        assert!(!sites.learn(&endpoint, "/", &eu), "the account is nowhere else");
    }
}
