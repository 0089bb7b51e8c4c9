//! Forms: however the input is cut, the same fields and the same file come out.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use s3_mirror_fuzz::pieces;
use s3_mirror_fuzz::s3::form::{FormError, FormEvent, FormHead, FormReader, HEAD_BYTES_MAX};

fn read(input: Vec<Bytes>) -> Result<(FormHead, Vec<u8>), FormError> {
    let mut reader = FormReader::new("multipart/form-data; boundary=B").expect("a boundary");
    let (mut head, mut file, mut total) = (FormHead::default(), Vec::new(), 0);
    for mut piece in input {
        total += piece.len() as u64;
        loop {
            match reader.read(&mut piece)? {
                FormEvent::NeedMore => break,
                FormEvent::File => head = reader.take_head(),
                FormEvent::Data(data) => file.extend_from_slice(&data),
                FormEvent::End => {}
            }
        }
        assert!(piece.is_empty() && reader.consumed() == total);
    }
    reader.finish_input()?;
    Ok((head, file))
}

fuzz_target!(|data: &[u8]| {
    let Some((cut, body)) = pieces(data) else { return };
    let whole = read(vec![Bytes::copy_from_slice(body)]);
    if let Ok((head, file)) = &whole {
        let bytes: usize = head.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(bytes <= HEAD_BYTES_MAX && file.len() < body.len());
        assert!(!head.filename.contains(['/', '\\']));
    }
    assert_eq!(whole, read(cut));
});
