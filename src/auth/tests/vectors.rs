//! The worked examples of the AWS documentation ("Signature Calculations for the Authorization
//! Header", "Authenticating Requests: Using Query Parameters", "Transferring Payload in Multiple
//! Chunks").

use super::*;
use crate::s3::chunked::{ChunkedDecoder, Decoded};

const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn example(
    method: &'static str,
    target: &str,
    hash: &str,
    signed: &str,
    signature: &str,
) -> Request {
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential={KEY_ID}/20130524/us-east-1/s3/aws4_request,\
         SignedHeaders={signed},Signature={signature}"
    );
    let mut request = Request::new(method, target)
        .header("x-amz-content-sha256", hash)
        .header("x-amz-date", NOW)
        .header("authorization", &authorization);
    request.host = "examplebucket.s3.amazonaws.com".to_owned();
    request
}

#[test]
fn get_object_with_a_range() {
    let request = example(
        "GET",
        "/test.txt",
        EMPTY,
        "host;range;x-amz-content-sha256;x-amz-date",
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    );
    assert_eq!(request.clone().header("range", "bytes=0-9").code(), ("ok", 200));
    assert_eq!(request.header("range", "bytes=0-8").code(), ("SignatureDoesNotMatch", 403));
}

#[test]
fn put_object_with_a_dollar_in_its_key_and_a_date_header() {
    let request = example(
        "PUT",
        "/test%24file.text",
        "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
        "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    );
    let mut request = request
        .header("date", "Fri, 24 May 2013 00:00:00 GMT")
        .header("x-amz-storage-class", "REDUCED_REDUNDANCY");
    assert_eq!(request.code(), ("ok", 200));
    // The same key, not escaped on the way.
    request.path = "/test$file.text".to_owned();
    assert_eq!(request.code(), ("ok", 200));
}

#[test]
fn get_bucket_lifecycle_and_list_objects() {
    let signed = "host;x-amz-content-sha256;x-amz-date";
    let lifecycle = "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543";
    assert_eq!(example("GET", "/?lifecycle", EMPTY, signed, lifecycle).code(), ("ok", 200));
    let list = "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7";
    for target in ["/?max-keys=2&prefix=J", "/?prefix=J&max-keys=2"] {
        assert_eq!(example("GET", target, EMPTY, signed, list).code(), ("ok", 200));
    }
}

#[test]
fn presigned_get_object() {
    let target = format!(
        "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY_ID}%2F20130524%2Fus-east-1\
         %2Fs3%2Faws4_request&X-Amz-Date={NOW}&X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
         &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404"
    );
    let mut request = Request::new("GET", &target);
    request.host = "examplebucket.s3.amazonaws.com".to_owned();
    assert_eq!(request.code(), ("ok", 200));
    let identity = request.verified(&authenticator(), "20130524T235959Z").unwrap();
    assert_eq!((identity.kind(), identity.payload()), (Kind::Presigned, PayloadMode::Unsigned));
}

/// The seed signature of the chunk example, then its first chunk with the verifier the identity
/// gives.
#[test]
fn streaming_put_object_hands_out_its_seed() {
    let request = example(
        "PUT",
        "/examplebucket/chunkObject.txt",
        "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        "content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;\
         x-amz-decoded-content-length;x-amz-storage-class",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
    );
    let mut request = request
        .header("content-encoding", "aws-chunked")
        .header("content-length", "66824")
        .header("x-amz-decoded-content-length", "66560")
        .header("x-amz-storage-class", "REDUCED_REDUNDANCY");
    request.host = "s3.amazonaws.com".to_owned();
    let identity = request.verified(&authenticator(), NOW).unwrap();

    let verifier = identity.chunk_verifier();
    assert!(verifier.is_some());
    let mut decoder =
        ChunkedDecoder::from_headers(StreamingForm::Signed, &request.headers, verifier).unwrap();
    let mut body = b"10000;chunk-signature=\
        ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"
        .to_vec();
    body.extend_from_slice(&vec![b'a'; 65536]);
    let mut body = bytes::Bytes::from(body);
    let Ok(Decoded::Data(data)) = decoder.decode(&mut body) else { panic!("not verified") };
    assert_eq!(data.len(), 65536);
}
