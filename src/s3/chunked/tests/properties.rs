//! The decoder under random input, random cuts and random damage.

use proptest::prelude::*;

use super::*;

fn forms() -> impl Strategy<Value = StreamingForm> {
    prop::sample::select(vec![
        StreamingForm::Signed,
        StreamingForm::SignedTrailer,
        StreamingForm::UnsignedTrailer,
        StreamingForm::Undeclared,
    ])
}

fn cut(body: &[u8], cuts: &[prop::sample::Index]) -> Vec<Bytes> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    places.extend([0, body.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| Bytes::copy_from_slice(&body[pair[0]..pair[1]])).collect()
}

fn decoder_for(form: StreamingForm, length: u64, checked: bool) -> ChunkedDecoder {
    let names: &[&str] = if form.may_have_trailer() { &["x-amz-checksum-sha256"] } else { &[] };
    ChunkedDecoder::new(form, Some(length), names, checked.then(|| verifier(SEED))).unwrap()
}

fn encode_for(form: StreamingForm, data: &[u8], chunk_bytes: usize) -> Vec<u8> {
    encode(form, data, chunk_bytes, form.may_have_trailer().then_some(ChecksumAlgorithm::Sha256))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_split_of_the_input_decodes_to_the_same_bytes(
        form in forms(),
        data in prop::collection::vec(any::<u8>(), 0..3000),
        chunk_bytes in 1usize..1500,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..40),
        checked: bool,
    ) {
        let body = encode_for(form, &data, chunk_bytes);
        let decoder = decoder_for(form, data.len() as u64, checked);
        let (decoded, end) = run(decoder, cut(&body, &cuts));
        prop_assert_eq!(&decoded, &data);
        prop_assert_eq!(end.map(|trailers| trailers.decoded_bytes), Ok(data.len() as u64));
    }

    #[test]
    fn a_truncated_body_never_reports_its_end(
        form in forms(),
        data in prop::collection::vec(any::<u8>(), 0..300),
        chunk_bytes in 1usize..200,
        at in any::<prop::sample::Index>(),
        checked: bool,
    ) {
        let mut body = encode_for(form, &data, chunk_bytes);
        body.truncate(at.index(body.len()));
        let decoder = decoder_for(form, data.len() as u64, checked);
        let (_, end) = run(decoder, [Bytes::from(body)]);
        prop_assert!(end.is_err());
    }

    #[test]
    fn a_changed_byte_never_gives_other_data_in_a_verified_body(
        data in prop::collection::vec(any::<u8>(), 0..300),
        chunk_bytes in 1usize..200,
        at in any::<prop::sample::Index>(),
        flip in 1u8..=255,
    ) {
        let form = StreamingForm::SignedTrailer;
        let mut body = encode_for(form, &data, chunk_bytes);
        let at = at.index(body.len());
        body[at] ^= flip;
        let decoder = decoder_for(form, data.len() as u64, true);
        let (decoded, end) = run(decoder, [Bytes::from(body)]);
        // Letter case of hex digits and names may change without changing the meaning.
        prop_assert!(end.is_err() || decoded == data);
    }

    #[test]
    fn random_garbage_never_panics_whatever_its_split(
        form in forms(),
        garbage in prop::collection::vec(
            prop::sample::select(b"0123456789abcdefF\r\n\r\n;=:x-chunk-signature".to_vec()),
            0..400,
        ),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
        length in prop::option::of(0u64..50),
    ) {
        let new = || ChunkedDecoder::new(form, length, &[], None).unwrap();
        let (data, end) = run(new(), [Bytes::from(garbage.clone())]);
        let (split_data, split_end) = run(new(), cut(&garbage, &cuts));
        prop_assert_eq!(data, split_data);
        prop_assert_eq!(end, split_end);
    }

    #[test]
    fn random_bytes_never_panic(
        form in forms(),
        garbage in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let decoder = ChunkedDecoder::new(form, None, &[], None).unwrap();
        prop_assert!(run(decoder, [Bytes::from(garbage)]).0.len() <= 200);
    }
}
