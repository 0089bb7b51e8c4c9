//! Signed chunks and trailers: published vectors, and everything that must not verify.

use super::*;

fn bytes32(hex: &str) -> [u8; 32] {
    hex::decode(hex).unwrap().try_into().unwrap()
}

fn aws_example(signatures: [&str; 3], trailer: &str) -> Vec<u8> {
    let mut body = format!("10000;chunk-signature={}\r\n", signatures[0]).into_bytes();
    body.extend_from_slice(&vec![b'a'; 65536]);
    body.extend_from_slice(format!("\r\n400;chunk-signature={}\r\n", signatures[1]).as_bytes());
    body.extend_from_slice(&[b'a'; 1024]);
    body.extend_from_slice(format!("\r\n0;chunk-signature={}\r\n", signatures[2]).as_bytes());
    body.extend_from_slice(trailer.as_bytes());
    body
}

/// AWS: "Transferring Payload in Multiple Chunks", the worked example.
#[test]
fn aws_example_of_signed_chunks_verifies() {
    let seed = bytes32("4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9");
    let body = aws_example(
        [
            "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
            "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
            "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
        ],
        "\r\n",
    );
    assert_eq!(body.len(), 66824);
    let form = StreamingForm::Signed;
    let decoder = ChunkedDecoder::new(form, Some(66560), &[], Some(verifier(seed))).unwrap();
    let (data, end) = run(decoder, [Bytes::from(body)]);
    assert_eq!(data, vec![b'a'; 66560]);
    assert_eq!(end, Ok(Trailers { checksum: None, decoded_bytes: 66560 }));
}

/// AWS: "Signature calculations for trailing headers", the worked example; with the line end the
/// documentation shows behind the checksum and with the one clients send.
#[test]
fn aws_example_of_a_signed_trailer_verifies() {
    let seed = bytes32("106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e");
    for line_end in ["\r\n", "\n\r\n"] {
        let trailer = format!(
            "x-amz-checksum-crc32c:sOO8/Q=={line_end}x-amz-trailer-signature:\
             d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
        );
        let body = aws_example(
            [
                "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
                "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
                "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
            ],
            &trailer,
        );
        let form = StreamingForm::SignedTrailer;
        let names = ["x-amz-checksum-crc32c"];
        let decoder = ChunkedDecoder::new(form, Some(66560), &names, Some(verifier(seed))).unwrap();
        let (data, end) = run(decoder, body.chunks(1000).map(Bytes::copy_from_slice));
        assert_eq!(data.len(), 66560);
        let checksum = end.unwrap().checksum.unwrap();
        assert_eq!((checksum.algorithm, &*checksum.value), (ChecksumAlgorithm::Crc32c, "sOO8/Q=="));
    }
}

#[test]
fn a_bad_chunk_signature_keeps_back_the_chunks_last_data_and_the_end() {
    let data = vec![b'x'; 300];
    let good = encode(StreamingForm::Signed, &data, 100, None);
    // Flip one bit of the third chunk's data.
    let mut bad = good.clone();
    let at = bad.len() - 120;
    bad[at] ^= 1;
    for piece_bytes in [1, 50, 1000] {
        let new = || {
            let form = StreamingForm::Signed;
            ChunkedDecoder::new(form, Some(300), &[], Some(verifier(SEED))).unwrap()
        };
        let (decoded, end) = run(new(), good.chunks(piece_bytes).map(Bytes::copy_from_slice));
        assert_eq!((decoded, end.is_ok()), (data.clone(), true));
        let (decoded, end) = run(new(), bad.chunks(piece_bytes).map(Bytes::copy_from_slice));
        assert!(decoded.len() < 300, "the last piece must not come out");
        let error = end.unwrap_err();
        assert_eq!((error.s3_code(), error.status()), ("SignatureDoesNotMatch", 403));
    }
}

#[test]
fn a_bad_or_missing_trailer_signature_is_an_error_before_the_end() {
    let good = encode(StreamingForm::SignedTrailer, b"hello", 5, Some(ChecksumAlgorithm::Crc32));
    let text = String::from_utf8(good).unwrap();
    let (head, _) = text.split_once("x-amz-trailer-signature").unwrap();
    let zeros = "0".repeat(64);
    let bad = [format!("{head}\r\n"), format!("{head}x-amz-trailer-signature:{zeros}\r\n\r\n")];
    for body in bad {
        let form = StreamingForm::SignedTrailer;
        let names = ["x-amz-checksum-crc32"];
        let checked = ChunkedDecoder::new(form, Some(5), &names, Some(verifier(SEED))).unwrap();
        let (_, end) = run(checked, [Bytes::from(body.clone())]);
        assert_eq!(end, Err(ChunkedError::SignatureMismatch));
        // Without a key there is nothing to check it with; the checksum still counts.
        let unchecked = ChunkedDecoder::new(form, Some(5), &names, None).unwrap();
        assert!(run(unchecked, [Bytes::from(body)]).1.is_ok());
    }
}

#[test]
fn a_signature_line_anywhere_but_last_is_malformed() {
    let zeros = "0".repeat(64);
    let signature = format!("x-amz-trailer-signature:{zeros}\r\n");
    for lines in [
        format!("{signature}x-amz-checksum-crc32:NhCmhg==\r\n\r\n"),
        format!("x-amz-checksum-crc32:NhCmhg==\r\n{signature}{signature}\r\n"),
        "x-amz-checksum-crc32:NhCmhg==\r\nx-amz-trailer-signature:00\r\n\r\n".to_owned(),
    ] {
        let body =
            format!("5;chunk-signature={zeros}\r\nhello\r\n0;chunk-signature={zeros}\r\n{lines}");
        let names = ["x-amz-checksum-crc32"];
        let decoder =
            ChunkedDecoder::new(StreamingForm::SignedTrailer, Some(5), &names, None).unwrap();
        let (_, end) = run(decoder, [Bytes::from(body)]);
        assert_eq!(end.unwrap_err().s3_code(), "MalformedTrailerError");
    }
}

#[test]
fn signatures_must_be_there_in_signed_forms_and_nowhere_else() {
    let zeros = "0".repeat(64);
    let signed = format!("5;chunk-signature={zeros}\r\nhello\r\n0;chunk-signature={zeros}\r\n\r\n");
    let plain = "5\r\nhello\r\n0\r\n\r\n".to_owned();
    let half = format!("5;chunk-signature={zeros}\r\nhello\r\n0\r\n\r\n");
    for (form, signed_ok, plain_ok, half_ok) in [
        (StreamingForm::Signed, true, false, false),
        (StreamingForm::SignedTrailer, true, false, false),
        (StreamingForm::UnsignedTrailer, false, true, false),
        (StreamingForm::Undeclared, true, true, true),
    ] {
        for (body, ok) in [(&signed, signed_ok), (&plain, plain_ok), (&half, half_ok)] {
            let decoder = ChunkedDecoder::new(form, Some(5), &[], None).unwrap();
            let (_, end) = run(decoder, [Bytes::from(body.clone())]);
            assert_eq!(end.is_ok(), ok, "{form:?} {body:?}");
        }
    }
}

#[test]
fn sigv4a_forms_are_recognised_and_not_implemented() {
    for form in [StreamingForm::Ecdsa, StreamingForm::EcdsaTrailer] {
        let error = ChunkedDecoder::new(form, None, &[], None).unwrap_err();
        assert_eq!((error.s3_code(), error.status()), ("NotImplemented", 501));
    }
}
