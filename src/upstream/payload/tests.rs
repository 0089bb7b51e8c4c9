use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::BytesMut;
use http::header::AUTHORIZATION;
use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;

use super::*;
use crate::config::Secret;
use crate::s3::chunked::{
    ChunkVerifier, ChunkedDecoder, Decoded, SigningKey, StreamingForm, Trailers,
};
use crate::upstream::credentials::Credentials;
use crate::upstream::sign::{Signer, Unsigned};
use crate::upstream::{empty, full, sized};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// 20130524T000000Z
const NOW: Duration = Duration::from_hours(380_376);
const SCOPE: &str = "20130524/us-east-1/s3/aws4_request";
const CRC32: &str = "x-amz-checksum-crc32";

fn credentials() -> Arc<Credentials> {
    Arc::new(Credentials {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
        secret_access_key: Secret::new(SECRET),
        session_token: None,
    })
}

/// The object in pieces of so many bytes, and behind it a trailer.
fn pieces(data: &[u8], piece: usize, trailer: Option<&'static str>) -> Vec<Frame<Bytes>> {
    let mut frames: Vec<_> =
        data.chunks(piece.max(1)).map(|piece| Frame::data(Bytes::copy_from_slice(piece))).collect();
    if let Some(value) = trailer {
        let mut trailers = HeaderMap::new();
        trailers.insert(CRC32, HeaderValue::from_static(value));
        frames.push(Frame::trailers(trailers));
    }
    frames
}

fn body(frames: Vec<Frame<Bytes>>, length: usize) -> Body {
    let frames = frames.into_iter().map(Ok::<_, BoxError>);
    sized(StreamBody::new(futures_util::stream::iter(frames)), u64::try_from(length).unwrap())
}

/// Signs head and body; yields what a server gets, or the error that cuts it off.
async fn sent(
    body: Body,
    payload: HeaderValue,
    headers: &mut HeaderMap,
) -> Result<BytesMut, BoxError> {
    let (payload, chunked) = signed(payload, &body, headers);
    assert!(chunked);
    let signer = Signer::new("us-east-1");
    let now = SystemTime::UNIX_EPOCH + NOW;
    let unsigned = Unsigned {
        method: &http::Method::PUT,
        path: "/b/k",
        query: "",
        host: &HeaderValue::from_static("s3.example"),
        payload: &payload,
        headers: &headers.clone(),
    };
    let seed = signer.write(&credentials(), now, &unsigned, |_| false, &mut BytesMut::new())?;
    headers.insert(AUTHORIZATION, HeaderValue::from_bytes(&seed)?);
    let mut body = in_chunks(body, signer.chunks(&credentials(), now, seed)?, headers);
    let announced = body.size_hint().exact();
    let mut wire = BytesMut::new();
    while let Some(frame) = body.frame().await {
        wire.extend_from_slice(frame?.data_ref().unwrap());
    }
    assert_eq!(announced, u64::try_from(wire.len()).ok());
    Ok(wire)
}

/// As a server reads it: signatures of all chunks, framing, length and trailer are verified.
fn received(wire: BytesMut, headers: &HeaderMap, form: StreamingForm) -> (Vec<u8>, Trailers) {
    let authorization = headers[AUTHORIZATION].to_str().unwrap();
    let mut seed = [0; 32];
    hex::decode_to_slice(authorization.rsplit('=').next().unwrap(), &mut seed).unwrap();
    let key = SigningKey::derive(SECRET, "20130524", "us-east-1", "s3");
    let verifier = ChunkVerifier::new(key, "20130524T000000Z".into(), SCOPE.into(), seed);
    let length = headers[DECODED_LENGTH].to_str().unwrap().parse().unwrap();
    let trailers: Vec<&str> =
        headers.get(TRAILER).map(|name| name.to_str().unwrap()).into_iter().collect();
    let mut decoder = ChunkedDecoder::new(form, Some(length), &trailers, Some(verifier)).unwrap();
    let mut input = wire.freeze();
    let mut data = Vec::new();
    loop {
        match decoder.decode(&mut input).unwrap() {
            Decoded::Data(piece) => data.extend_from_slice(&piece),
            Decoded::NeedMore => panic!("the end is missing"),
            Decoded::End(trailers) => {
                assert!(input.is_empty());
                return (data, trailers);
            }
        }
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_server_that_verifies_every_chunk_gets_the_object(
        data in proptest::collection::vec(any::<u8>(), 1..200_000),
        piece in 1_usize..150_000,
    ) {
        let mut headers = HeaderMap::new();
        let body = body(pieces(&data, piece, None), data.len());
        let wire = block_on(sent(body, UNSIGNED_PAYLOAD, &mut headers)).unwrap();
        let (got, _) = received(wire, &headers, StreamingForm::Signed);
        prop_assert!(got == data);
    }
}

#[tokio::test]
async fn whole_chunks_have_no_empty_one_behind_them_but_the_last() {
    for length in [65_535, 65_536, 65_537, 131_072] {
        let data = vec![9; length];
        let mut headers = HeaderMap::new();
        let body = body(pieces(&data, length, None), length);
        let wire = sent(body, UNSIGNED_PAYLOAD, &mut headers).await.unwrap();
        assert_eq!(received(wire, &headers, StreamingForm::Signed).0, data);
    }
}

#[tokio::test]
async fn the_clients_checksum_travels_in_a_signed_trailer() {
    for data in [&b""[..], b"123456789"] {
        let value = if data.is_empty() { "AAAAAA==" } else { "y/Q5Jg==" };
        let mut headers = HeaderMap::new();
        headers.insert(TRAILER, HeaderValue::from_static(CRC32));
        let body = body(pieces(data, 4, Some(value)), data.len());
        let wire = sent(body, SIGNED_TRAILER, &mut headers).await.unwrap();
        let (got, trailers) = received(wire, &headers, StreamingForm::SignedTrailer);
        assert_eq!(got, data);
        assert_eq!(trailers.checksum.unwrap().value, value);
    }
}

#[tokio::test]
async fn a_body_of_another_length_never_gets_its_last_signature() {
    for announced in [5, 13] {
        let mut headers = HeaderMap::new();
        let body = body(pieces(b"123456789", 3, None), announced);
        assert!(sent(body, UNSIGNED_PAYLOAD, &mut headers).await.is_err());
    }
    let mut headers = HeaderMap::new();
    headers.insert(TRAILER, HeaderValue::from_static(CRC32));
    let body = body(pieces(b"123456789", 3, None), 9);
    assert!(sent(body, SIGNED_TRAILER, &mut headers).await.is_err(), "no trailer came");
}

#[test]
fn what_is_in_memory_goes_with_its_hash_and_what_has_one_keeps_it() {
    let hash = HeaderValue::from_static(
        "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225",
    );
    let nothing = HeaderValue::from_static(
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    );
    let document = full(Bytes::from_static(b"123456789"));
    for (payload, body, expected) in [
        (UNSIGNED_PAYLOAD, document, &hash),
        (UNSIGNED_PAYLOAD, empty(), &nothing),
        (UNSIGNED_PAYLOAD, body(Vec::new(), 0), &nothing),
        (hash.clone(), body(pieces(b"123456789", 9, None), 9), &hash),
    ] {
        let mut headers = HeaderMap::new();
        assert_eq!(signed(payload, &body, &mut headers), (expected.clone(), false));
        assert!(headers.is_empty());
    }
}

/// "Signature Calculations for the Authorization Header: Transferring Payload in Multiple Chunks",
/// Amazon S3 API reference: 66 560 times the letter a.
#[tokio::test]
async fn the_published_example_of_signed_chunks_is_reproduced() {
    let seed = *b"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9";
    let headers = HeaderMap::new();
    let now = SystemTime::UNIX_EPOCH + NOW;
    let signer = Signer::new("us-east-1").chunks(&credentials(), now, seed).unwrap();
    let data = vec![b'a'; 66_560];
    let mut body = in_chunks(body(pieces(&data, 10_000, None), data.len()), signer, &headers);
    let mut wire = BytesMut::new();
    while let Some(frame) = body.frame().await {
        wire.extend_from_slice(frame.unwrap().data_ref().unwrap());
    }
    let text = String::from_utf8(wire.to_vec()).unwrap();
    for head in [
        "10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        "400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        "0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ] {
        assert!(text.contains(&format!("{head}\r\n")), "{head}");
    }
    assert_eq!(text.len(), 66_824);
}
