//! Which span the requests of a task belong to, so that what the service on the other side traces
//! joins ours.
//!
//! Whoever works in the name of a span wraps that work in [`traced`]; nothing else has to know of
//! it. Requests that carry a `traceparent` of their own, as those of clients do, keep it.

use http::header::{HeaderMap, HeaderValue};

use crate::s3::trace::{TRACEPARENT, TraceParent};

tokio::task_local! {
    static SPAN: TraceParent;
}

/// Runs `work`; every request it sends to a service names `span` as its parent. What it spawns is
/// not part of it.
pub async fn traced<T>(span: TraceParent, work: impl Future<Output = T>) -> T {
    SPAN.scope(span, work).await
}

/// Adds the header, if there is a span to name.
pub(super) fn mark(headers: &mut HeaderMap) {
    let Ok(span) = SPAN.try_with(|span| *span) else { return };
    if let Ok(value) = HeaderValue::from_str(&span.to_string()) {
        headers.entry(TRACEPARENT).or_insert(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(mut headers: HeaderMap) -> Option<String> {
        mark(&mut headers);
        headers.get(TRACEPARENT).map(|value| value.to_str().unwrap().to_owned())
    }

    #[tokio::test]
    async fn only_requests_of_traced_work_are_marked_and_one_of_its_own_stays() {
        let span = TraceParent { trace: [1; 16], span: [2; 8], sampled: true };
        assert_eq!(marked(HeaderMap::new()), None);
        let told = traced(span, async { marked(HeaderMap::new()) }).await;
        assert_eq!(told, Some(span.to_string()));
        let own = HeaderValue::from_static("own");
        let kept = traced(span, async { marked([(TRACEPARENT, own)].into_iter().collect()) }).await;
        assert_eq!(kept.as_deref(), Some("own"));
    }
}
