//! Who may change something over the admin port: whoever holds the admin token.
//!
//! # Promises
//! - Reading is free: `GET` and `HEAD` need no token, and nothing they answer is secret.
//! - Everything else needs `Authorization: Bearer <ADMIN_TOKEN>`. Without a token in the settings
//!   nothing can be changed at all.
//! - Tokens are compared by their SHA-256 in constant time. An address that sends ten
//!   wrong ones, over however many connections, is not listened to for the rest of the minute.
//! - What a browser sends for a page of another origin is refused, reading included: the token is
//!   never in a cookie, so this is a second line of defence. Who comes by a name that is not this
//!   service's (`names`) needs the token for reading, too.
//! - No token is in any answer, log or error.

mod token;
mod wrong;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tokio::time::Instant;

use super::names;
use crate::config::AdminToken;
pub use token::TokenFileError;
use token::{Source, is_same};
use wrong::{Wrong, network};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The guard of the admin port; cheap to clone.
#[derive(Clone)]
pub struct Guard {
    inner: Arc<Inner>,
}

struct Inner {
    source: Source,
    /// Further names of this service.
    hosts: Vec<String>,
    wrong: Mutex<Wrong>,
}

impl Guard {
    /// Makes the guard; a token in a file is read once, to be told about mistakes at the start.
    ///
    /// # Errors
    /// The file cannot be used.
    pub async fn new(token: &AdminToken, hosts: &[String]) -> Result<Self, TokenFileError> {
        let source = Source::new(token).await?;
        let (hosts, wrong) = (hosts.to_vec(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { source, hosts, wrong }) })
    }

    /// Is there a token, so that changes are possible?
    pub fn allows_changes(&self) -> bool {
        !self.inner.source.is_none()
    }

    /// May this request pass?
    async fn judge(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        peer: IpAddr,
    ) -> Verdict {
        if foreign(headers) {
            return Verdict::Foreign;
        }
        let at_home = names::is_own(&host(uri, headers), &self.inner.hosts);
        if at_home && matches!(*method, Method::GET | Method::HEAD) {
            return Verdict::Pass;
        }
        let given = bearer(headers);
        if !at_home && given.is_none() {
            return Verdict::Misnamed;
        }
        let wanted = match self.inner.source.hash().await {
            Ok(Some(hash)) => hash,
            Ok(None) => return Verdict::NoToken,
            Err(error) => {
                tracing::error!(%error, "nothing can be changed over the admin port");
                return Verdict::FileAway;
            }
        };
        let peer = network(peer);
        let now = Instant::now();
        // Held from the look at the count to the counting: of many requests at a time no more than
        // the allowed number is compared.
        let mut wrong = self.wrong();
        if let Some(wait) = wrong.closed(peer, now) {
            return Verdict::TooMany(wait);
        }
        let Some(given) = given else { return Verdict::Missing };
        if is_same(given, &wanted) {
            return Verdict::Pass;
        }
        wrong.count(peer, now);
        drop(wrong);
        tracing::warn!(%peer, "a wrong admin token");
        Verdict::Wrong
    }

    fn wrong(&self) -> std::sync::MutexGuard<'_, Wrong> {
        self.inner.wrong.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Foreign,
    Misnamed,
    NoToken,
    FileAway,
    Missing,
    Wrong,
    TooMany(Duration),
}

/// The middleware.
pub(super) async fn stand(
    State(guard): State<Guard>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let (method, uri, headers) = (request.method(), request.uri(), request.headers());
    let verdict = guard.judge(method, uri, headers, peer.ip()).await;
    let (status, message) = match &verdict {
        Verdict::Pass => return next.run(request).await,
        Verdict::Foreign => {
            (StatusCode::FORBIDDEN, "requests of pages of another origin are refused")
        }
        Verdict::Misnamed => (
            StatusCode::MISDIRECTED_REQUEST,
            "this service does not know itself by this name: add it to ADMIN_HOSTS, come by an \
             address, or send the admin token",
        ),
        Verdict::NoToken => (
            StatusCode::FORBIDDEN,
            "nothing can be changed here: neither ADMIN_TOKEN nor ADMIN_TOKEN_FILE is set",
        ),
        Verdict::FileAway => {
            (StatusCode::SERVICE_UNAVAILABLE, "the file of the admin token cannot be used")
        }
        Verdict::Missing => (
            StatusCode::UNAUTHORIZED,
            "this needs the admin token: Authorization: Bearer <ADMIN_TOKEN>",
        ),
        Verdict::Wrong => (StatusCode::UNAUTHORIZED, "this is not the admin token"),
        Verdict::TooMany(_) => (StatusCode::TOO_MANY_REQUESTS, "too many wrong tokens"),
    };
    let mut response = (status, Json(json!({ "error": message }))).into_response();
    match verdict {
        Verdict::Missing | Verdict::Wrong => {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        Verdict::TooMany(wait) => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        _ => {}
    }
    response
}

/// Does a browser send this for a page of another origin? Programs send neither header.
fn foreign(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    if let Some(site) = text(SEC_FETCH_SITE)
        && !matches!(site, b"same-origin" | b"none")
    {
        return true;
    }
    let Some(origin) = text(ORIGIN) else { return false };
    let own = text(HOST).unwrap_or_default();
    ![&b"http://"[..], b"https://"].iter().any(|scheme| origin.strip_prefix(*scheme) == Some(own))
}

/// The name the client came by; none is as good as a local one, because browsers always send it.
fn host(uri: &Uri, headers: &HeaderMap) -> String {
    if let Some(authority) = uri.authority() {
        return authority.as_str().to_owned();
    }
    headers
        .get(HOST)
        .map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned())
        .unwrap_or_default()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::wrong::{WINDOW, WRONG_MAX};
    use super::*;
    use crate::config::Secret;

    const TOKEN: &str = "0123456789abcdef";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        });
        pairs.collect()
    }

    fn address(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    async fn guard() -> Guard {
        Guard::new(&AdminToken::Given(Secret::new(TOKEN)), &[]).await.unwrap()
    }

    async fn post(guard: &Guard, peer: u8, token: &str) -> Verdict {
        let headers = headers(&[("authorization", &format!("Bearer {token}"))]);
        guard.judge(&Method::POST, &Uri::default(), &headers, address(peer)).await
    }

    #[tokio::test]
    async fn reading_is_free_and_changing_needs_the_token() {
        let guard = guard().await;
        let none = HeaderMap::new();
        assert_eq!(
            guard.judge(&Method::GET, &Uri::default(), &none, address(1)).await,
            Verdict::Pass
        );
        for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
            assert_eq!(
                guard.judge(&method, &Uri::default(), &none, address(1)).await,
                Verdict::Missing
            );
        }
        assert_eq!(post(&guard, 1, TOKEN).await, Verdict::Pass);
        assert_eq!(post(&guard, 1, "0123456789abcdeF").await, Verdict::Wrong);
        assert_eq!(post(&guard, 1, "0123456789abcde").await, Verdict::Wrong);
        let basic = headers(&[("authorization", &format!("Basic {TOKEN}"))]);
        assert_eq!(
            guard.judge(&Method::POST, &Uri::default(), &basic, address(1)).await,
            Verdict::Missing
        );
    }

    #[tokio::test]
    async fn without_a_token_in_the_settings_nothing_can_be_changed() {
        let guard = Guard::new(&AdminToken::None, &[]).await.unwrap();
        assert!(!guard.allows_changes());
        assert_eq!(post(&guard, 1, "").await, Verdict::NoToken);
        assert_eq!(post(&guard, 1, TOKEN).await, Verdict::NoToken);
    }

    #[tokio::test]
    async fn an_address_with_ten_wrong_tokens_waits_a_minute_and_no_other_does() {
        let guard = guard().await;
        for _ in 0..WRONG_MAX {
            assert_eq!(post(&guard, 1, "wrong-wrong-wrong").await, Verdict::Wrong);
        }
        assert!(matches!(post(&guard, 1, TOKEN).await, Verdict::TooMany(_)));
        assert_eq!(post(&guard, 2, TOKEN).await, Verdict::Pass);
        let later = Instant::now() + WINDOW;
        assert_eq!(guard.wrong().closed(address(1), later), None);
    }

    #[tokio::test]
    async fn what_a_page_of_another_origin_sends_is_refused() {
        let guard = guard().await;
        let judge = async |method: Method, pairs: &[(&'static str, &str)]| {
            let mut all = vec![("authorization", "Bearer 0123456789abcdef"), ("host", "m:9090")];
            all.extend_from_slice(pairs);
            guard.judge(&method, &Uri::default(), &headers(&all), address(1)).await
        };
        let own = [("origin", "http://m:9090"), ("sec-fetch-site", "same-origin")];
        assert_eq!(judge(Method::POST, &own).await, Verdict::Pass);
        assert_eq!(judge(Method::POST, &[("origin", "https://m:9090")]).await, Verdict::Pass);
        assert_eq!(judge(Method::POST, &[("origin", "http://evil")]).await, Verdict::Foreign);
        assert_eq!(judge(Method::POST, &[("origin", "null")]).await, Verdict::Foreign);
        for site in ["cross-site", "same-site"] {
            let verdict = judge(Method::GET, &[("sec-fetch-site", site)]).await;
            assert_eq!(verdict, Verdict::Foreign);
        }
        assert_eq!(judge(Method::GET, &[("sec-fetch-site", "none")]).await, Verdict::Pass);
    }

    #[tokio::test]
    async fn a_new_token_in_the_file_is_good_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        assert!(Guard::new(&AdminToken::File(path.clone()), &[]).await.is_err(), "no file");
        std::fs::write(&path, "short\n").unwrap();
        assert!(Guard::new(&AdminToken::File(path.clone()), &[]).await.is_err(), "too short");
        std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
        let guard = Guard::new(&AdminToken::File(path.clone()), &[]).await.unwrap();
        assert_eq!(post(&guard, 1, TOKEN).await, Verdict::Pass);
        std::fs::write(&path, "another-token-of-some-length").unwrap();
        assert_eq!(post(&guard, 1, TOKEN).await, Verdict::Wrong);
        assert_eq!(post(&guard, 1, "another-token-of-some-length").await, Verdict::Pass);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(post(&guard, 1, TOKEN).await, Verdict::FileAway);
    }

    #[tokio::test]
    async fn by_a_name_that_is_not_ours_nothing_is_read_without_the_token() {
        let token = AdminToken::Given(Secret::new(TOKEN));
        let guard = Guard::new(&token, &["mirror.example.com".to_owned()]).await.unwrap();
        let get = async |uri: &str, pairs: &[(&'static str, &str)]| {
            let uri: Uri = uri.parse().unwrap();
            guard.judge(&Method::GET, &uri, &headers(pairs), address(1)).await
        };
        let own = ("host", "mirror.example.com:9090");
        let other = ("host", "rebound.example:9090");
        let token = ("authorization", "Bearer 0123456789abcdef");
        assert_eq!(get("/x", &[own]).await, Verdict::Pass);
        assert_eq!(get("/x", &[other]).await, Verdict::Misnamed);
        assert_eq!(get("http://rebound.example/x", &[own]).await, Verdict::Misnamed);
        assert_eq!(get("/x", &[other, token]).await, Verdict::Pass, "a program that holds it");
        let wrong = ("authorization", "Bearer 0123456789abcdeX");
        assert_eq!(get("/x", &[other, wrong]).await, Verdict::Wrong);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_wrong_tokens_at_a_time_ten_are_compared() {
        let guard = guard().await;
        let tries = (0..200).map(|_| {
            let guard = guard.clone();
            tokio::spawn(async move { post(&guard, 1, "wrong-wrong-wrong").await })
        });
        let mut wrong = 0;
        for tried in futures_util::future::join_all(tries).await {
            wrong += u32::from(tried.unwrap() == Verdict::Wrong);
        }
        assert_eq!(wrong, WRONG_MAX);
    }
}
