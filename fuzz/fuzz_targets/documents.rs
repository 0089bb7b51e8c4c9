//! XML from clients and from main: read or refused, and read alike by everybody.
#![no_main]

use libfuzzer_sys::fuzz_target;
use s3_mirror_fuzz::s3::xml;

fuzz_target!(|data: &[u8]| {
    if let Ok(keys) = xml::delete_keys(data) {
        assert!(!keys.is_empty() && keys.len() <= xml::DELETE_KEYS_MAX);
        let mut names: Vec<&str> = keys.iter().map(|named| named.key.as_str()).collect();
        assert!(names.iter().all(|name| !name.is_empty()));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), keys.len(), "each key once");
    }
    if let Ok(tags) = xml::tags(data) {
        let written = xml::tagging_document(&tags);
        let read = xml::tags(written.as_bytes()).expect("what is written can be read");
        assert_eq!(read.len(), tags.len());
    }
    if let Ok(parts) = xml::complete_parts(data) {
        let listed = parts.iter().map(|part| (part.number, part.etag.as_str()));
        let written = xml::complete_document(listed);
        assert_eq!(xml::complete_parts(written.as_bytes()).map(|read| read.len()), Ok(parts.len()));
    }
    let _ = xml::list_parts(data);
    let _ = xml::delete_errors(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let error = xml::error_document("Code", text, text, "id", &[("Element", text.to_owned())]);
        let read = xml::result_document(error.as_bytes()).expect("our own errors can be read");
        assert_eq!((read.root.as_str(), read.code.as_deref()), ("Error", Some("Code")));
    }
});
