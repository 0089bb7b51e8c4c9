//! Framing and trailers: what real clients send, and every malformation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;

fn decode_unsigned(body: &[u8], length: u64, names: &[&str]) -> Result<Vec<u8>, ChunkedError> {
    let decoder = ChunkedDecoder::new(StreamingForm::UnsignedTrailer, Some(length), names, None)?;
    let (data, end) = run(decoder, [Bytes::copy_from_slice(body)]);
    end.map(|trailers| {
        assert_eq!(trailers.decoded_bytes, data.len() as u64);
        data
    })
}

fn code(result: Result<Vec<u8>, ChunkedError>) -> &'static str {
    result.map_or_else(|error| error.s3_code(), |_| "ok")
}

#[test]
fn every_verifiable_algorithm_is_checked_in_the_trailer() {
    for algorithm in ChecksumAlgorithm::ALL {
        let names = [algorithm.header_name()];
        if algorithm.hasher().is_none() {
            assert_eq!(code(decode_unsigned(b"", 0, &names)), "InvalidRequest");
            continue;
        }
        let form = StreamingForm::UnsignedTrailer;
        let body = encode(form, b"some data", 9, Some(algorithm));
        assert_eq!(decode_unsigned(&body, 9, &names).unwrap(), b"some data");
        let other = encode(form, b"some dota", 9, Some(algorithm));
        let text = String::from_utf8(other).unwrap().replace("dota", "data");
        assert_ne!(text.as_bytes(), body);
        assert_eq!(code(decode_unsigned(text.as_bytes(), 9, &names)), "BadDigest");
    }
}

#[test]
fn trailers_that_cannot_be_verified_are_refused_before_the_body() {
    for names in [
        &["x-amz-checksum-xxhash3"][..],
        &["x-amz-checksum-blake3"],
        &["x-amz-meta-note"],
        &["x-amz-checksum-crc32", "x-amz-checksum-sha1"],
    ] {
        let form = StreamingForm::UnsignedTrailer;
        let error = ChunkedDecoder::new(form, None, names, None).unwrap_err();
        assert_eq!((error.s3_code(), error.status()), ("InvalidRequest", 400), "{names:?}");
    }
}

#[test]
fn malformed_trailers_are_named_as_such() {
    let crc32 = ["x-amz-checksum-crc32"];
    let good = "x-amz-checksum-crc32:NhCmhg==";
    for (trailer, names, expected) in [
        (format!("{good}\r\n\r\n"), &crc32[..], "ok"),
        (format!("{good}\n\r\n\r\n"), &crc32, "ok"),
        ("X-Amz-Checksum-CRC32: NhCmhg== \r\n\r\n".to_owned(), &crc32, "ok"),
        ("\r\n".to_owned(), &[], "ok"),
        ("\r\n".to_owned(), &crc32, "MalformedTrailerError"),
        ("\n".to_owned(), &[], "MalformedTrailerError"),
        (format!("{good}\r\n\r\n"), &[], "MalformedTrailerError"),
        (format!("{good}\r\n{good}\r\n\r\n"), &crc32, "MalformedTrailerError"),
        (format!("{good}\n\n\r\n"), &crc32, "MalformedTrailerError"),
        (format!("{good}\n{good}\r\n\r\n"), &crc32, "MalformedTrailerError"),
        ("x-amz-checksum-crc32\r\n\r\n".to_owned(), &crc32, "MalformedTrailerError"),
        ("x-amz-checksum-crc32c:NhCmhg==\r\n\r\n".to_owned(), &crc32, "MalformedTrailerError"),
        ("x-amz-checksum-crc32:NhCmhg\r\n\r\n".to_owned(), &crc32, "InvalidRequest"),
        ("x-amz-checksum-crc32:NhCmhgA=\r\n\r\n".to_owned(), &crc32, "InvalidRequest"),
        ("x-amz-checksum-crc32:AAAAAA==\r\n\r\n".to_owned(), &crc32, "BadDigest"),
        (format!("{good}\r\n\r\nx"), &crc32, "IncompleteBody"),
        (format!("{good}\r\n"), &crc32, "IncompleteBody"),
        (format!("{good}\n\r\n"), &crc32, "IncompleteBody"),
        ("y".repeat(TRAILER_BYTES_MAX), &crc32, "MalformedTrailerError"),
    ] {
        let body = format!("5\r\nhello\r\n0\r\n{trailer}");
        assert_eq!(code(decode_unsigned(body.as_bytes(), 5, names)), expected, "{trailer:?}");
    }
}

#[test]
fn malformed_framing_is_an_incomplete_body() {
    let long = format!("5;chunk-signature={}\r\nhello\r\n0\r\n\r\n", "0".repeat(2000));
    let padded = format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(16));
    for body in [
        "",
        "5",
        "5\r\nhello",
        "5\r\nhello\r\n",
        "5\r\nhello\r\n0\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "4\r\nhell\r\n0\r\n\r\n",
        "6\r\nhello!\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5;name=value\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "10000000000000000\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\nffffffffffffffff\r\n",
        "5\r\nhello\r\n0\r\n\r\n5\r\nagain\r\n",
        &long,
        &padded,
    ] {
        assert_eq!(code(decode_unsigned(body.as_bytes(), 5, &[])), "IncompleteBody", "{body:?}");
    }
    let sum = "ffffffffffffffff\r\n";
    let form = StreamingForm::UnsignedTrailer;
    let mut decoder = ChunkedDecoder::new(form, None, &[], None).unwrap();
    assert_eq!(decoder.decode(&mut Bytes::from(sum)), Ok(Decoded::NeedMore));
}

#[test]
fn small_chunks_are_refused_only_on_demand_and_never_as_the_last() {
    let body = encode(StreamingForm::UnsignedTrailer, &[1; 9000], 8000, None);
    assert!(decode_unsigned(&body, 9000, &[]).is_ok());
    let form = StreamingForm::UnsignedTrailer;
    let strict = || {
        let decoder = ChunkedDecoder::new(form, None, &[], None).unwrap();
        decoder.with_chunk_bytes_min(AWS_CHUNK_BYTES_MIN)
    };
    assert_eq!(run(strict(), [Bytes::from(body)]).1, Err(ChunkedError::InvalidChunkSize));
    let body = encode(form, &[1; 9000], 8192, None);
    assert!(run(strict(), [Bytes::from(body)]).1.is_ok());
}

/// The AWS CLI's CRT client sends a whole part as one chunk: nothing of it may be kept or copied.
#[test]
fn one_chunk_of_8_mib_passes_as_slices_of_the_input() {
    let data = vec![42u8; 8 << 20];
    let algorithm = ChecksumAlgorithm::Crc64Nvme;
    let body = Bytes::from(encode(StreamingForm::UnsignedTrailer, &data, 8 << 20, Some(algorithm)));
    let range = body.as_ptr_range();
    let names = [algorithm.header_name()];
    let form = StreamingForm::UnsignedTrailer;
    let mut decoder = ChunkedDecoder::new(form, Some(8 << 20), &names, None).unwrap();
    let mut total = 0;
    for start in (0..body.len()).step_by(16 << 10) {
        let mut piece = body.slice(start..body.len().min(start + (16 << 10)));
        while let Decoded::Data(slice) = decoder.decode(&mut piece).unwrap() {
            assert!(range.contains(&slice.as_ptr()), "copied");
            total += slice.len();
        }
        assert!(decoder.line.capacity() <= 2 * CHUNK_HEADER_BYTES_MAX);
    }
    assert_eq!(total, 8 << 20);
    assert_eq!(decoder.finish_input(), Ok(()));
}

/// Framing as the SDKs write it: boto3 and JS end the body with the trailer, minio-go signs 64 KiB
/// chunks.
#[test]
fn headers_of_real_clients_set_up_the_decoder() {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-decoded-content-length", "11".parse().unwrap());
    headers.insert("x-amz-trailer", "x-amz-checksum-crc32".parse().unwrap());
    let body = "b\r\nhello world\r\n0\r\nx-amz-checksum-crc32:DUoRhQ==\r\n\r\n";
    let form = StreamingForm::UnsignedTrailer;
    let decoder = ChunkedDecoder::from_headers(form, &headers, None).unwrap();
    let (data, end) = run(decoder, [Bytes::from(body)]);
    assert_eq!(data, b"hello world");
    assert_eq!(
        end.unwrap().checksum.unwrap().value,
        STANDARD.encode(0x0d4a_1185_u32.to_be_bytes())
    );

    let data = vec![3u8; 200_000];
    let body = encode(StreamingForm::Signed, &data, 65536, None);
    let verifier = Some(verifier(SEED));
    let decoder = ChunkedDecoder::new(StreamingForm::Signed, Some(200_000), &[], verifier).unwrap();
    let (output, end) = run(decoder, body.chunks(16384).map(Bytes::copy_from_slice));
    assert_eq!((output, end.is_ok()), (data, true));
}
