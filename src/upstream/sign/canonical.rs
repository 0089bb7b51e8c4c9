//! The canonical request of `SigV4`, hashed as it is formed.

use sha2::{Digest as _, Sha256};

/// Room for an ordinary canonical request, on the stack.
const GATHERED_BYTES: usize = 1024;

/// SHA-256 of the canonical request. `covered` is sorted by name, `names` are its names with `;` between them,
/// `line` is method, path and query.
pub(super) fn hash(
    line: [&str; 3],
    covered: &[(&str, &[u8])],
    names: &[u8],
    payload: &[u8],
) -> [u8; 32] {
    let mut hashed = Gathered::new();
    write(line, covered, names, payload, |piece| hashed.put(piece));
    hashed.finish()
}

fn write(
    line: [&str; 3],
    covered: &[(&str, &[u8])],
    names: &[u8],
    payload: &[u8],
    mut put: impl FnMut(&[u8]),
) {
    for part in line {
        put(part.as_bytes());
        put(b"\n");
    }
    for group in covered.chunk_by(|a, b| a.0 == b.0) {
        for (at, (name, value)) in group.iter().enumerate() {
            if at == 0 {
                put(name.as_bytes());
                put(b":");
            } else {
                put(b",");
            }
            put_trimmed(value, &mut put);
        }
        put(b"\n");
    }
    put(b"\n");
    put(names);
    put(b"\n");
    put(payload);
}

/// Trims and collapses runs of spaces, as the specification wants it.
fn put_trimmed(value: &[u8], mut put: impl FnMut(&[u8])) {
    let value = value.trim_ascii();
    // Most values hold none.
    if !value.contains(&b' ') {
        return put(value);
    }
    let words = value.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            put(b" ");
        }
        put(word);
    }
}

/// Short pieces are gathered before they are hashed: to begin on each costs more than to copy it.
struct Gathered {
    pieces: [u8; GATHERED_BYTES],
    length: usize,
    hash: Sha256,
}

impl Gathered {
    fn new() -> Self {
        Self { pieces: [0; GATHERED_BYTES], length: 0, hash: Sha256::new() }
    }

    fn put(&mut self, piece: &[u8]) {
        let end = self.length + piece.len();
        if let Some(room) = self.pieces.get_mut(self.length..end) {
            room.copy_from_slice(piece);
            self.length = end;
        } else {
            self.hash.update(&self.pieces[..self.length]);
            self.hash.update(piece);
            self.length = 0;
        }
    }

    fn finish(mut self) -> [u8; 32] {
        self.hash.update(&self.pieces[..self.length]);
        self.hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: [&str; 3], covered: &[(&str, &[u8])], names: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        write(line, covered, names, b"UNSIGNED-PAYLOAD", |piece| out.extend_from_slice(piece));
        out
    }

    #[test]
    fn repeated_headers_are_signed_as_one() {
        let covered: [(&str, &[u8]); 3] =
            [("x-amz-meta-a", b"0"), ("x-amz-meta-b", b"2"), ("x-amz-meta-b", b"1")];
        assert_eq!(
            written(["PUT", "/b/k", "a="], &covered, b"x-amz-meta-a;x-amz-meta-b"),
            b"PUT\n/b/k\na=\nx-amz-meta-a:0\nx-amz-meta-b:2,1\n\n\
              x-amz-meta-a;x-amz-meta-b\nUNSIGNED-PAYLOAD"
        );
    }

    #[test]
    fn runs_of_spaces_collapse_and_other_bytes_stay() {
        let mut out = Vec::new();
        put_trimmed(b"  a   b\xfc  ", |piece| out.extend_from_slice(piece));
        assert_eq!(out, b"a b\xfc");
    }

    #[test]
    fn the_hash_is_that_of_the_whole_however_long_it_is() {
        for bytes in [0, 1, 300, GATHERED_BYTES, 3 * GATHERED_BYTES] {
            let value = vec![b'v'; bytes];
            let covered: [(&str, &[u8]); 2] = [("x-amz-meta-a", &value), ("x-amz-meta-b", b"1")];
            let line = ["GET", "/b/k", ""];
            let whole = written(line, &covered, b"n");
            let hashed = hash(line, &covered, b"n", b"UNSIGNED-PAYLOAD");
            assert_eq!(hashed, <[u8; 32]>::from(Sha256::digest(&whole)), "{bytes}");
        }
    }
}
