//! Answers of an S3: however the bytes are cut, the same comes out, and never more than announced.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use s3_mirror_fuzz::pieces;
use s3_mirror_fuzz::upstream::wire::read;

fuzz_target!(|data: &[u8]| {
    let [kind, rest @ ..] = data else { return };
    let bodyless = kind % 4 == 0;
    let Some((cut, input)) = pieces(rest) else { return };
    let whole = read(vec![Bytes::copy_from_slice(input)], bodyless).ok();
    if let Some(answer) = &whole {
        assert!(!answer.status.is_informational());
        assert!(answer.headers.len() <= 1000);
        assert!(answer.announced.is_none_or(|length| length == answer.body.len() as u64));
        assert!(answer.body.len() <= input.len());
    }
    assert_eq!(whole, read(cut, bodyless).ok());
});
