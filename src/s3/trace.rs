//! W3C trace context: which trace a request belongs to. The header itself is passed on unchanged,
//! as any other.

use http::HeaderMap;

use super::headers::find;

/// The trace ID of `traceparent`, if it is a valid one: 32 hexadecimal digits, not all zero. Nothing
/// else of it reaches a log, because clients write into it what they like.
pub fn trace_id(headers: &HeaderMap) -> Option<&str> {
    let text = find(headers, "traceparent")?.to_str().ok()?;
    let mut parts = text.split('-');
    let (version, trace, parent, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'a'..=b'f'))
    };
    let zero = |text: &str| text.bytes().all(|byte| byte == b'0');
    // Versions to come may append parts; `ff` is none.
    let whole = version != "00" || parts.next().is_none();
    let valid = hex(version, 2) && version != "ff" && hex(trace, 32) && hex(parent, 16);
    (valid && whole && hex(flags, 2) && !zero(trace) && !zero(parent)).then_some(trace)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn of(text: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::from_str(text).unwrap());
        trace_id(&headers).map(str::to_owned)
    }

    #[test]
    fn the_example_of_the_standard_is_read_and_a_later_version_may_say_more() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(of(&format!("00-{trace}-00f067aa0ba902b7-01")).as_deref(), Some(trace));
        assert_eq!(of(&format!("01-{trace}-00f067aa0ba902b7-01-more")).as_deref(), Some(trace));
        assert_eq!(trace_id(&HeaderMap::new()), None);
    }

    #[test]
    fn what_is_not_a_trace_is_none() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for wrong in [
            format!("00-{trace}-00f067aa0ba902b7-01-more"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", trace.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{trace}-0000000000000000-01"),
            format!("00-{trace}-00f067aa0ba902b7"),
            "password".to_owned(),
            String::new(),
        ] {
            assert_eq!(of(&wrong), None, "{wrong}");
        }
    }
}
