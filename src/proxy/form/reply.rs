//! What a form wants to be told when its file has been stored: pure.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HOST, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Response, StatusCode, Uri};

use bytes::Bytes;

use crate::proxy::response::ResponseBody;
use crate::s3::address::{Address, path_style};
use crate::s3::encode::encode_into;
use crate::s3::form::FormHead;
use crate::s3::xml;

/// How success is answered.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    /// 204 or 200 without a body.
    Empty(StatusCode),
    /// 201 with a document.
    Document,
    /// 303 to a page of the application.
    Redirect(String),
}

/// The answer to a form, prepared before its fields are gone.
#[derive(Debug)]
pub(super) struct Reply {
    wish: Wish,
    location: String,
    bucket: String,
    key: String,
}

impl Reply {
    pub(super) fn new(
        head: &FormHead,
        parts: &Parts,
        tls: bool,
        form: &Address,
        bucket: &str,
        key: &str,
    ) -> Self {
        let redirect = head.field("success_action_redirect").or_else(|| head.field("redirect"));
        let wish =
            match (redirect.filter(|url| is_web_page(url)), head.field("success_action_status")) {
                (Some(url), _) => Wish::Redirect(url.to_owned()),
                (None, Some("200")) => Wish::Empty(StatusCode::OK),
                (None, Some("201")) => Wish::Document,
                _ => Wish::Empty(StatusCode::NO_CONTENT),
            };
        let location = location(parts, tls, form, bucket, key);
        Self { wish, location, bucket: bucket.to_owned(), key: key.to_owned() }
    }

    /// Main's success in the words of the form.
    pub(super) fn of(&self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.remove(CONTENT_TYPE);
        let etag = parts.headers.get(ETAG).and_then(|etag| etag.to_str().ok()).unwrap_or_default();
        let (status, document, location) = match &self.wish {
            Wish::Empty(status) => (*status, String::new(), self.location.clone()),
            Wish::Document => {
                let document = xml::post_document(&self.location, &self.bucket, &self.key, etag);
                (StatusCode::CREATED, document, self.location.clone())
            }
            Wish::Redirect(url) => {
                let url = redirect(url, &self.bucket, &self.key, etag);
                (StatusCode::SEE_OTHER, String::new(), url)
            }
        };
        parts.status = status;
        if !document.is_empty() {
            parts.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
        }
        // Both kinds of location are URIs by now; without one the answer is still right.
        if let Ok(value) = HeaderValue::try_from(location) {
            parts.headers.insert(LOCATION, value);
        }
        Response::from_parts(parts, body.replaced(status, Bytes::from(document)))
    }
}

/// Anything else is passed over, as S3 does.
fn is_web_page(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|h| !h.is_empty())
}

/// The page with bucket, key and `ETag` in its query.
fn redirect(url: &str, bucket: &str, key: &str, etag: &str) -> String {
    let (page, fragment) = match url.split_once('#') {
        Some((page, fragment)) => (page, Some(fragment)),
        None => (url, None),
    };
    let mut out = page.to_owned();
    let mut separator = if page.contains('?') { '&' } else { '?' };
    for (name, value) in [("bucket", bucket), ("key", key), ("etag", etag)] {
        out.push(separator);
        out.push_str(name);
        out.push('=');
        encode_into(&mut out, value.as_bytes(), false);
        separator = '&';
    }
    if let Some(fragment) = fragment {
        out.push('#');
        out.push_str(fragment);
    }
    out
}

/// Where the object is to be found, in the client's own way of addressing.
fn location(parts: &Parts, tls: bool, form: &Address, bucket: &str, key: &str) -> String {
    let header = parts.headers.get(HOST).and_then(|host| host.to_str().ok());
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or(header);
    let secure =
        tls || parts.headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https");
    let scheme = if secure { "https" } else { "http" };
    let path_names_bucket = !parts.uri.path().trim_start_matches('/').is_empty()
        && form.bucket.as_deref() == Some(bucket);
    let path = if path_names_bucket {
        path_style(Some(bucket), Some(key))
    } else {
        let mut path = String::from("/");
        encode_into(&mut path, key.as_bytes(), true);
        path
    };
    format!("{scheme}://{}{path}", host.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(fields: &[(&str, &str)], host: &str, path: &str) -> Reply {
        let fields = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let head = FormHead { fields, filename: String::new() };
        let request = http::Request::builder().method("POST").uri(path).header(HOST, host);
        let (parts, ()) = request.body(()).unwrap().into_parts();
        let form = Address::parse(host, path, None, &["s3.local".to_owned()]).unwrap();
        Reply::new(&head, &parts, false, &form, "b", "a/ü k")
    }

    #[test]
    fn the_form_chooses_its_answer() {
        let wish = |fields: &[(&str, &str)]| reply(fields, "h", "/b").wish;
        assert_eq!(wish(&[]), Wish::Empty(StatusCode::NO_CONTENT));
        assert_eq!(wish(&[("success_action_status", "200")]), Wish::Empty(StatusCode::OK));
        assert_eq!(wish(&[("Success_Action_Status", "201")]), Wish::Document);
        let other = Wish::Empty(StatusCode::NO_CONTENT);
        assert_eq!(wish(&[("success_action_status", "404")]), other);
        let page = "https://app.example/done";
        let both = [("success_action_redirect", page), ("success_action_status", "201")];
        assert_eq!(wish(&both), Wish::Redirect(page.into()));
        assert_eq!(wish(&[("redirect", page)]), Wish::Redirect(page.into()));
        for bad in ["javascript:alert(1)", "/relative", "not a url", "http://"] {
            let none = Wish::Empty(StatusCode::NO_CONTENT);
            assert_eq!(wish(&[("success_action_redirect", bad)]), none, "{bad}");
        }
    }

    #[test]
    fn the_location_is_in_the_clients_own_style() {
        assert_eq!(reply(&[], "h:80", "/b").location, "http://h:80/b/a/%C3%BC%20k");
        assert_eq!(reply(&[], "b.s3.local", "/").location, "http://b.s3.local/a/%C3%BC%20k");
    }

    #[test]
    fn a_redirect_tells_what_was_stored() {
        assert_eq!(
            redirect("http://h/done?x=1#top", "b", "a/k&", "\"e\""),
            "http://h/done?x=1&bucket=b&key=a%2Fk%26&etag=%22e%22#top"
        );
        assert_eq!(redirect("http://h/", "b", "k", ""), "http://h/?bucket=b&key=k&etag=");
    }
}
