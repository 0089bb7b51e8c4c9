//! aws-chunked bodies: however the input is cut, the same comes out, and never more than announced.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use s3_mirror_fuzz::pieces;
use s3_mirror_fuzz::s3::chunked::{ChunkedDecoder, Decoded, StreamingForm};

const TRAILER: &str = "x-amz-checksum-crc32";

fn decode(form: StreamingForm, length: u64, input: Vec<Bytes>) -> Option<Vec<u8>> {
    let names: &[&str] = if form == StreamingForm::Signed { &[] } else { &[TRAILER] };
    let mut decoder = ChunkedDecoder::new(form, Some(length), names, None).ok()?;
    let mut out = Vec::new();
    let mut ended = false;
    for mut piece in input {
        if ended && !piece.is_empty() {
            return None; // as the proxy refuses what follows the last chunk
        }
        while !piece.is_empty() {
            if ended {
                return None;
            }
            match decoder.decode(&mut piece).ok()? {
                Decoded::Data(data) => out.extend_from_slice(&data),
                Decoded::NeedMore => assert!(piece.is_empty(), "input is left"),
                Decoded::End(trailers) => {
                    assert_eq!(trailers.decoded_bytes, out.len() as u64);
                    ended = true;
                }
            }
            assert!(out.len() as u64 <= length);
        }
    }
    (ended && out.len() as u64 == length).then_some(out)
}

fuzz_target!(|data: &[u8]| {
    let [form, length, rest @ ..] = data else { return };
    let form = match form % 4 {
        0 => StreamingForm::Signed,
        1 => StreamingForm::SignedTrailer,
        2 => StreamingForm::UnsignedTrailer,
        _ => StreamingForm::Undeclared,
    };
    let Some((cut, body)) = pieces(rest) else { return };
    let length = u64::from(*length);
    let whole = decode(form, length, vec![Bytes::copy_from_slice(body)]);
    assert_eq!(whole, decode(form, length, cut));
});
