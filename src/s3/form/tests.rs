//! The reader under every split of its input.

use proptest::prelude::*;

use super::*;

const TYPE: &str = "multipart/form-data; boundary=BOUND";

fn part(name: &str, filename: Option<&str>, value: &[u8]) -> Vec<u8> {
    let filename = filename.map(|name| format!("; filename=\"{name}\"")).unwrap_or_default();
    let head =
        format!("--BOUND\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n");
    [head.as_bytes(), value, b"\r\n"].concat()
}

fn form(file: &[u8], after: &[u8]) -> Vec<u8> {
    let parts = [
        part("key", None, b"a/${filename}"),
        part("acl", None, b""),
        part("file", Some("n"), file),
    ];
    [parts.concat().as_slice(), after, b"--BOUND--\r\n"].concat()
}

/// Head, bytes of the file, and whether the form was whole.
fn run(pieces: impl IntoIterator<Item = Bytes>) -> Result<(FormHead, Vec<u8>), FormError> {
    let mut reader = FormReader::new(TYPE).unwrap();
    let (mut head, mut file, mut total) = (FormHead::default(), Vec::new(), 0);
    for mut piece in pieces {
        total += piece.len();
        loop {
            match reader.read(&mut piece)? {
                FormEvent::NeedMore => break,
                FormEvent::File => head = reader.take_head(),
                FormEvent::Data(data) => file.extend_from_slice(&data),
                FormEvent::End => {}
            }
        }
        assert!(piece.is_empty(), "input is left");
    }
    reader.finish_input()?;
    assert_eq!(reader.consumed(), total as u64);
    Ok((head, file))
}

fn whole(body: &[u8]) -> Result<(FormHead, Vec<u8>), FormError> {
    run([Bytes::copy_from_slice(body)])
}

#[test]
fn fields_and_file_come_out_whole_at_every_cut() {
    let file = b"x\r\n--BOUN\r\n\r\r\n--\r\n--BOUn--\r\n";
    let body = form(file, b"");
    let expected =
        vec![("key".to_owned(), "a/${filename}".to_owned()), ("acl".to_owned(), String::new())];
    for at in 0..=body.len() {
        let (first, second) = body.split_at(at);
        let pieces = [Bytes::copy_from_slice(first), Bytes::copy_from_slice(second)];
        let (head, found) = run(pieces).unwrap();
        assert_eq!(head.fields, expected, "cut at {at}");
        assert_eq!(head.filename, "n");
        assert_eq!(found, file, "cut at {at}");
    }
    let bytewise = body.iter().map(|byte| Bytes::copy_from_slice(&[*byte]));
    assert_eq!(run(bytewise).unwrap().1, file);
}

#[test]
fn what_follows_the_file_is_read_over() {
    let submit = part("submit", None, b"Upload");
    assert_eq!(whole(&form(b"data", &submit)).unwrap().1, b"data");
    let mut epilogue = form(b"data", b"");
    epilogue.extend_from_slice(b"anything\r\n--BOUND\r\n");
    assert_eq!(whole(&epilogue).unwrap().1, b"data");
    // Some libraries leave the last line open.
    let open = form(b"data", b"");
    assert_eq!(whole(&open[..open.len() - 2]).unwrap().1, b"data");
}

#[test]
fn an_empty_file_is_a_file() {
    let (head, file) = whole(&form(b"", b"")).unwrap();
    assert_eq!((head.filename.as_str(), file.len()), ("n", 0));
}

#[test]
fn a_preamble_and_white_space_behind_a_delimiter_are_allowed() {
    let body = b"for people\r\n--BOUND \t\r\nContent-Disposition: form-data; name=file\r\n\r\nx\r\n--BOUND--";
    assert_eq!(whole(body).unwrap().1, b"x");
}

#[test]
fn a_boundary_inside_the_file_cuts_nothing_off() {
    let file = b"a\r\n--BOUNDARY\r\nb";
    assert_eq!(whole(&form(file, b"")), Err(FormError::Malformed));
}

#[test]
fn fields_are_bounded_and_the_file_is_not() {
    let long = [part("a", None, &vec![b'x'; HEAD_BYTES_MAX]), form(b"", b"")].concat();
    assert_eq!(whole(&long), Err(FormError::HeadTooLong));
    assert_eq!(whole(&vec![b'x'; HEAD_BYTES_MAX + 1]), Err(FormError::HeadTooLong));
    let headers = [b"--BOUND\r\n".as_slice(), &vec![b'x'; HEAD_BYTES_MAX]].concat();
    assert_eq!(whole(&headers), Err(FormError::HeadTooLong));
    let large = vec![b'\r'; 10 * HEAD_BYTES_MAX];
    assert_eq!(whole(&form(&large, b"")).unwrap().1, large);
}

#[test]
fn a_form_without_file_or_end_is_no_upload() {
    let none = [part("key", None, b"k").as_slice(), b"--BOUND--\r\n"].concat();
    assert_eq!(whole(&none), Err(FormError::NoFile));
    let body = form(b"data", b"");
    for at in 0..body.len() - 3 {
        assert_eq!(whole(&body[..at]), Err(FormError::Truncated), "{at}");
    }
}

#[test]
fn other_content_types_are_no_forms() {
    for kind in ["text/plain", "multipart/form-data", "multipart/form-data; boundary="] {
        assert_eq!(FormReader::new(kind).err(), Some(FormError::Boundary), "{kind}");
    }
    let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
    assert_eq!(FormReader::new(&long).err(), Some(FormError::Boundary));
}

#[test]
fn the_usual_end_is_known_before_the_file_is_read() {
    let body = form(b"data", b"");
    let mut reader = FormReader::new(TYPE).unwrap();
    let mut input = Bytes::from(body.clone());
    assert_eq!(reader.read(&mut input), Ok(FormEvent::File));
    let length = body.len() as u64 - reader.consumed() - reader.usual_end_bytes();
    assert_eq!(length, 4);
}

proptest! {
    #[test]
    fn any_file_survives_any_cuts(
        // Few letters, so that half delimiters are frequent.
        file in prop::collection::vec(prop::sample::select(b"\r\n-BOUN".to_vec()), 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let body = form(&file, b"");
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        places.extend([0, body.len()]);
        places.sort_unstable();
        let pieces = places.windows(2).map(|pair| Bytes::copy_from_slice(&body[pair[0]..pair[1]]));
        prop_assert_eq!(run(pieces).map(|(_, file)| file), Ok(file));
    }

    #[test]
    fn no_input_makes_it_panic_or_lose_count(
        body in prop::collection::vec(prop::sample::select(b"\r\n-BOUND:;= \"filename*".to_vec()), 0..400),
    ) {
        let mut reader = FormReader::new(TYPE).unwrap();
        let mut input = Bytes::from(body.clone());
        while let Ok(event) = reader.read(&mut input) {
            if event == FormEvent::NeedMore {
                prop_assert_eq!(reader.consumed(), body.len() as u64);
                break;
            }
        }
    }
}
