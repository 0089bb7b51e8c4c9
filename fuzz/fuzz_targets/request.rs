//! Requests of clients: however the bytes are cut, the same ones come out, and no bytes are read twice
//! or in two ways.
#![no_main]

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use libfuzzer_sys::fuzz_target;
use s3_mirror_fuzz::pieces;
use s3_mirror_fuzz::proxy::http1::{Request, read};

fuzz_target!(|data: &[u8]| {
    let Some((cut, input)) = pieces(data) else { return };
    let whole = read(vec![Bytes::copy_from_slice(input)]);
    let mut bytes = 0;
    for request in &whole {
        check(request);
        bytes += request.body.len();
    }
    assert!(bytes <= input.len());
    assert_eq!(whole, read(cut));
});

/// What whoever reads the request behind us must not be able to read otherwise.
fn check(request: &Request) {
    let Request { headers, body, announced, version, .. } = request;
    assert!(headers.len() <= 1000);
    assert!(announced.is_none_or(|length| length == body.len() as u64));
    let lengths: Vec<_> = headers.get_all(CONTENT_LENGTH).iter().collect();
    match is_chunked(headers) {
        true => {
            assert!(lengths.is_empty());
            assert_eq!(*version, Version::HTTP_11);
        }
        false => {
            let length = body.len().to_string();
            assert!(lengths.is_empty() && body.is_empty() || !lengths.is_empty());
            assert!(lengths.iter().all(|each| means(each.as_bytes(), &length)));
        }
    }
}

fn is_chunked(headers: &HeaderMap) -> bool {
    headers.get(TRANSFER_ENCODING).is_some_and(|coding| {
        assert!(coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
        assert_eq!(headers.get_all(TRANSFER_ENCODING).iter().count(), 1);
        true
    })
}

/// Leading zeros are allowed, and so are equal values in a list (RFC 9112, 6.3).
fn means(value: &[u8], length: &str) -> bool {
    let text = std::str::from_utf8(value).expect("digits");
    text.split(',').all(|each| {
        let digits = each.trim().trim_start_matches('0');
        digits == length || digits.is_empty() && length == "0"
    })
}
