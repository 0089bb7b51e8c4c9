//! Targets of requests: what can be parsed is sent in one form, and that form means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s3_mirror_fuzz::s3::address::{Address, KEY_BYTES_MAX, Query};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (host, target) = text.split_once('\n').unwrap_or(("h", text));
    let (path, query) = match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    };
    let domains = ["s3.local".to_owned(), "local".to_owned()];
    let Ok(address) = Address::parse(host, path, query, &domains) else { return };
    assert!(address.key.as_ref().is_none_or(|key| !key.is_empty() && key.len() <= KEY_BYTES_MAX));
    let canonical = address.query.canonical();
    let again = Query::parse(&canonical).expect("a canonical query can be read");
    assert_eq!(again.canonical(), canonical);
    let sent = address.path();
    assert!(sent.bytes().all(|b| b.is_ascii_graphic()) && !sent.contains(['?', '#']));
    // A bucket that is a path of its own cannot be written in path style; such names do not exist.
    if address.bucket.as_deref().is_some_and(|bucket| !bucket.is_empty()) {
        let again = Address::parse("h", &sent, Some(&canonical), &[]).expect("what is sent can be read");
        assert_eq!((&again.bucket, &again.key), (&address.bucket, &address.key));
        assert_eq!(again.path(), sent);
    }
});
