//! The operator's page: plain HTML, CSS and JavaScript modules, built into the binary.
//!
//! # Promises
//! - Nothing is loaded from anywhere else, and nothing inline is run: the content security policy
//!   says so, and the browser holds the page to it.
//! - Every answer of the admin port forbids framing and guessing of types.

use axum::Router;
use axum::http::HeaderValue;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use super::Admin;

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
                      connect-src 'self'; form-action 'none'; frame-ancestors 'none'; \
                      base-uri 'none'; require-trusted-types-for 'script'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Path, type and content.
const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("page/index.html")),
    ("/page/style.css", CSS, include_str!("page/style.css")),
    ("/page/icon.svg", SVG, include_str!("page/icon.svg")),
    ("/page/main.js", JS, include_str!("page/main.js")),
    ("/page/api.js", JS, include_str!("page/api.js")),
    ("/page/dom.js", JS, include_str!("page/dom.js")),
    ("/page/words.js", JS, include_str!("page/words.js")),
    ("/page/chart.js", JS, include_str!("page/chart.js")),
    ("/page/overview.js", JS, include_str!("page/overview.js")),
    ("/page/buckets.js", JS, include_str!("page/buckets.js")),
    ("/page/inventory.js", JS, include_str!("page/inventory.js")),
    ("/page/explain.js", JS, include_str!("page/explain.js")),
    ("/page/parked.js", JS, include_str!("page/parked.js")),
    ("/page/events.js", JS, include_str!("page/events.js")),
    ("/page/bulk.js", JS, include_str!("page/bulk.js")),
    ("/page/jobs.js", JS, include_str!("page/jobs.js")),
    ("/page/settings.js", JS, include_str!("page/settings.js")),
];

/// The page's files.
pub(super) fn routes() -> Router<Admin> {
    FILES.iter().fold(Router::new(), |router, &(path, kind, text)| {
        // A new version of the binary brings new files under the same names.
        let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")];
        router.route(path, get(async move || (headers, text).into_response()))
    })
}

/// What every answer says about how it may be used.
pub(super) async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (X_FRAME_OPTIONS, "DENY"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_of_the_page_names_another_origin_or_writes_markup() {
        for (path, _, text) in FILES {
            let bare = text.replace("http://www.w3.org/", "");
            assert!(!bare.contains("://"), "{path}");
            for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("]
            {
                assert!(!text.contains(word), "{path}: {word}");
            }
            assert!(!text.contains(" style=") && !text.contains(" onclick="), "{path}");
        }
    }

    #[test]
    fn every_module_a_file_imports_is_there() {
        for (path, _, text) in FILES {
            for piece in text.split("from \"./").skip(1) {
                let name = piece.split('"').next().unwrap();
                let whole = format!("/page/{name}");
                assert!(FILES.iter().any(|(file, ..)| *file == whole), "{path} imports {name}");
            }
        }
    }
}
