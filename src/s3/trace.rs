//! W3C trace context: which trace a request belongs to.

use http::HeaderMap;
use http::header::HeaderName;

use super::headers::find;

/// The header.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A span as others are told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not zero.
    pub trace: [u8; 16],
    /// The span in it; not zero.
    pub span: [u8; 8],
    /// Is the trace recorded?
    pub sampled: bool,
}

impl TraceParent {
    /// That of a request, if it names a valid one.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(find(headers, "traceparent")?.to_str().ok()?)
    }

    /// Reads `00-<trace>-<span>-<flags>`. Nothing else of it is kept, because clients write into it
    /// what they like.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let [version, trace, span, flags] =
            [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let [version] = digits(version)?;
        let (trace, span, [flags]) = (digits(trace)?, digits(span)?, digits(flags)?);
        // Versions to come may append parts; `ff` is none.
        let whole = version != 0 || parts.next().is_none();
        let valid = version != 0xff && trace != [0; 16] && span != [0; 8];
        (valid && whole).then_some(Self { trace, span, sampled: flags & 1 == 1 })
    }

    /// The trace alone, as logs name it.
    pub fn trace_id(&self) -> String {
        hex::encode(self.trace)
    }
}

/// Exactly so many bytes in lower-case hexadecimal digits.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

impl std::fmt::Display for TraceParent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let flags = u8::from(self.sampled);
        write!(f, "00-{}-{}-{flags:02x}", hex::encode(self.trace), hex::encode(self.span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    fn of(text: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(text).unwrap());
        TraceParent::of(&headers).map(|parent| parent.trace_id())
    }

    #[test]
    fn the_example_of_the_standard_is_read_and_a_later_version_may_say_more() {
        assert_eq!(of(&format!("00-{TRACE}-00f067aa0ba902b7-01")).as_deref(), Some(TRACE));
        assert_eq!(of(&format!("01-{TRACE}-00f067aa0ba902b7-01-more")).as_deref(), Some(TRACE));
        assert_eq!(TraceParent::of(&HeaderMap::new()), None);
    }

    #[test]
    fn what_was_read_is_written_alike() {
        for flags in ["00", "01"] {
            let text = format!("00-{TRACE}-00f067aa0ba902b7-{flags}");
            assert_eq!(TraceParent::parse(&text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_not_a_trace_is_none() {
        for wrong in [
            format!("00-{TRACE}-00f067aa0ba902b7-01-more"),
            format!("ff-{TRACE}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            format!("00-{TRACE}-0000000000000000-01"),
            format!("00-{TRACE}-00f067aa0ba902b7"),
            format!("00-{TRACE}0-00f067aa0ba902b7-01"),
            "password".to_owned(),
            String::new(),
        ] {
            assert_eq!(of(&wrong), None, "{wrong}");
        }
    }
}
