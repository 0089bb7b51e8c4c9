//! Tools for the decoder's tests: a client-side encoder and a caller.

mod framing;
mod properties;
mod signatures;

use sha2::{Digest as _, Sha256};

use super::*;
use crate::s3::checksum::ChecksumAlgorithm;

/// The secret, time and scope of the AWS documentation's streaming examples.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const AMZ_DATE: &str = "20130524T000000Z";
const SCOPE: &str = "20130524/us-east-1/s3/aws4_request";
const SEED: [u8; 32] = [7; 32];

fn verifier(seed: [u8; 32]) -> ChunkVerifier {
    let key = SigningKey::derive(SECRET, "20130524", "us-east-1", "s3");
    ChunkVerifier::new(key, AMZ_DATE.to_owned(), SCOPE.to_owned(), seed)
}

/// Feeds `pieces`, as a caller would, and gives the data and what the end said.
fn run(
    mut decoder: ChunkedDecoder,
    pieces: impl IntoIterator<Item = Bytes>,
) -> (Vec<u8>, Result<Trailers, ChunkedError>) {
    let mut data = Vec::new();
    let mut end = None;
    for mut piece in pieces {
        loop {
            match decoder.decode(&mut piece) {
                Ok(Decoded::Data(slice)) => {
                    assert!(!slice.is_empty());
                    data.extend_from_slice(&slice);
                }
                Ok(Decoded::NeedMore) => break assert!(piece.is_empty()),
                Ok(Decoded::End(trailers)) => assert!(end.replace(trailers).is_none()),
                Err(error) => {
                    assert_eq!(decoder.finish_input(), Err(error.clone()));
                    assert_eq!(decoder.decode(&mut Bytes::from_static(b"x")), Err(error.clone()));
                    return (data, Err(error));
                }
            }
        }
    }
    let result = decoder.finish_input().map(|()| end.clone().unwrap());
    assert_eq!(result.is_ok(), end.is_some());
    (data, result)
}

/// Frames `data` the way a client does; signs chunks and trailer in the signed forms.
fn encode(
    form: StreamingForm,
    data: &[u8],
    chunk_bytes: usize,
    checksum: Option<ChecksumAlgorithm>,
) -> Vec<u8> {
    let key = SigningKey::derive(SECRET, "20130524", "us-east-1", "s3");
    let mut previous = SEED;
    let mut sign = |label: &str, tail: String| {
        let previous_hex = hex::encode(previous);
        let text = format!("{label}\n{AMZ_DATE}\n{SCOPE}\n{previous_hex}\n{tail}");
        previous = key.sign(text.as_bytes());
        hex::encode(previous)
    };
    let mut body = Vec::new();
    let mut chunks: Vec<&[u8]> = data.chunks(chunk_bytes).collect();
    chunks.push(&[]);
    for chunk in chunks {
        body.extend_from_slice(format!("{:x}", chunk.len()).as_bytes());
        if form.has_signatures() {
            let hashes = [Sha256::digest(b""), Sha256::digest(chunk)].map(hex::encode);
            let signature = sign("AWS4-HMAC-SHA256-PAYLOAD", hashes.join("\n"));
            body.extend_from_slice(format!(";chunk-signature={signature}").as_bytes());
        }
        body.extend_from_slice(b"\r\n");
        if !chunk.is_empty() {
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
    }
    let mut signed_lines = String::new();
    if let Some(algorithm) = checksum {
        let mut hasher = algorithm.hasher().unwrap();
        hasher.update(data);
        let line = format!("{}:{}", algorithm.header_name(), hasher.finish());
        signed_lines = format!("{line}\n");
        body.extend_from_slice(format!("{line}\r\n").as_bytes());
    }
    if form == StreamingForm::SignedTrailer {
        let hash = hex::encode(Sha256::digest(&signed_lines));
        let signature = sign("AWS4-HMAC-SHA256-TRAILER", hash);
        body.extend_from_slice(format!("x-amz-trailer-signature:{signature}\r\n").as_bytes());
    }
    body.extend_from_slice(b"\r\n");
    body
}
