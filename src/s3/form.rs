//! `multipart/form-data` as browsers send it to S3 (RFC 7578): fields first, then one file.
//!
//! An incremental reader over pieces of any size, fed by its caller. Fields are gathered, with a
//! limit on everything before the file; the file is handed out piece by piece as it arrives and
//! never held, but for the few bytes that may turn out to be the beginning of the delimiter. What
//! follows the file is read over, as S3 does.

mod disposition;
#[cfg(test)]
mod tests;

use bytes::{Bytes, BytesMut};

use disposition::{Disposition, part_disposition};

/// The most that may stand before the file, names and values and their framing, in bytes: S3's
/// limit of the form without the file.
pub const HEAD_BYTES_MAX: usize = 20 * 1024;
/// The longest boundary (RFC 2046, 5.1.1).
const BOUNDARY_BYTES_MAX: usize = 70;

/// Why a body is not a form, or not one that uploads a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// `Content-Type` names no usable boundary.
    #[error("The Content-Type header has no usable boundary.")]
    Boundary,
    /// The framing is broken.
    #[error("The body of your POST request is not well-formed multipart/form-data.")]
    Malformed,
    /// More than [`HEAD_BYTES_MAX`] before the file.
    #[error("Your POST request fields preceding the upload file were too large.")]
    HeadTooLong,
    /// The form ended, and no field was named `file`.
    #[error("POST requires exactly one file upload per request.")]
    NoFile,
    /// The input ended inside the form.
    #[error("The request body ended before the form did.")]
    Truncated,
}

/// What reading on brought.
#[derive(Debug, PartialEq, Eq)]
pub enum FormEvent {
    /// The input is used up.
    NeedMore,
    /// The file begins; [`FormReader::take_head`] has what stood before it.
    File,
    /// A piece of the file.
    Data(Bytes),
    /// The file has ended; the rest of the input may be read over with [`FormReader::read`].
    End,
}

/// What stood before the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormHead {
    /// Names and values in order of arrival.
    pub fields: Vec<(String, String)>,
    /// The name of the file on the client's machine, without directories; empty if it has none.
    pub filename: String,
}

impl FormHead {
    /// The first value of a field, whatever the case of its name.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first delimiter: text for people.
    Preamble,
    /// Right behind a delimiter: `--` for the last one, or the end of the line.
    Delimited,
    Headers,
    Value,
    File,
    /// The file has ended and its end was not told yet.
    FileEnded,
    Epilogue,
}

/// Reads one form.
#[derive(Debug)]
pub struct FormReader {
    /// CRLF, `--` and the boundary. CR is its first byte and no other, which makes searching simple.
    delimiter: Bytes,
    /// How many bytes of the delimiter the input so far ends with.
    matched: usize,
    state: State,
    /// Headers, a value, or what follows a delimiter, gathered.
    gathered: BytesMut,
    name: String,
    head: FormHead,
    /// Has the file ended?
    ended: bool,
    consumed: u64,
}

impl FormReader {
    /// A reader for a body with this `Content-Type`.
    pub fn new(content_type: &str) -> Result<Self, FormError> {
        let boundary = disposition::boundary(content_type).ok_or(FormError::Boundary)?;
        let fits = (1..=BOUNDARY_BYTES_MAX).contains(&boundary.len());
        if !fits || boundary.bytes().any(|byte| !(b' '..=b'~').contains(&byte)) {
            return Err(FormError::Boundary);
        }
        Ok(Self {
            delimiter: Bytes::from(format!("\r\n--{boundary}")),
            // The first delimiter may open the body: as if a line had ended before it.
            matched: 2,
            state: State::Preamble,
            gathered: BytesMut::new(),
            name: String::new(),
            head: FormHead::default(),
            ended: false,
            consumed: 0,
        })
    }

    /// What stood before the file; call it once, at [`FormEvent::File`].
    pub fn take_head(&mut self) -> FormHead {
        std::mem::take(&mut self.head)
    }

    /// Bytes of input read so far.
    pub fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Bytes behind the file if the form ends with it, as every browser but for its submit button
    /// and every common library writes it: delimiter, `--` and the end of the line.
    pub fn usual_end_bytes(&self) -> u64 {
        u64::try_from(self.delimiter.len()).unwrap_or(u64::MAX).saturating_add(4)
    }

    /// Reads on; takes what it uses from `input`.
    pub fn read(&mut self, input: &mut Bytes) -> Result<FormEvent, FormError> {
        loop {
            match self.state {
                State::Epilogue => {
                    self.consume(input, input.len());
                    return Ok(FormEvent::NeedMore);
                }
                State::FileEnded => {
                    // Nothing behind the file counts, but for how its delimiter goes on.
                    let Some(byte) = self.next_byte(input)? else { return Ok(FormEvent::NeedMore) };
                    if !self.delimiter_line(byte)? {
                        continue;
                    }
                    self.state = State::Epilogue;
                    self.ended = true;
                    return Ok(FormEvent::End);
                }
                State::Delimited => {
                    let Some(byte) = self.next_byte(input)? else { return Ok(FormEvent::NeedMore) };
                    if self.delimiter_line(byte)? {
                        let last = self.gathered.starts_with(b"-");
                        self.gathered.clear();
                        if last {
                            return Err(FormError::NoFile);
                        }
                        self.state = State::Headers;
                    }
                }
                State::Headers => {
                    let Some(byte) = self.next_byte(input)? else { return Ok(FormEvent::NeedMore) };
                    self.gathered.extend_from_slice(&[byte]);
                    let empty = self.gathered.as_ref() == b"\r\n";
                    if (empty || self.gathered.ends_with(b"\r\n\r\n"))
                        && let Some(event) = self.part_begins()?
                    {
                        return Ok(event);
                    }
                }
                State::Preamble | State::Value | State::File => {
                    let before = input.len();
                    let scanned = self.scan(input);
                    let used = before - input.len();
                    self.consumed += u64::try_from(used).unwrap_or(0);
                    if self.state != State::File {
                        self.within_head()?;
                    }
                    match scanned {
                        Scanned::Data(data) if self.state == State::File => {
                            return Ok(FormEvent::Data(data));
                        }
                        Scanned::Data(data) if self.state == State::Value => {
                            self.gathered.extend_from_slice(&data);
                        }
                        Scanned::Data(_) => {}
                        Scanned::NeedMore => return Ok(FormEvent::NeedMore),
                        Scanned::Delimiter => self.part_ended()?,
                    }
                }
            }
        }
    }

    /// The input has ended: was the form over?
    pub fn finish_input(&self) -> Result<(), FormError> {
        if self.ended { Ok(()) } else { Err(FormError::Truncated) }
    }

    fn consume(&mut self, input: &mut Bytes, count: usize) -> Bytes {
        self.consumed += u64::try_from(count).unwrap_or(0);
        input.split_to(count)
    }

    /// The next byte, counted against the limit of the head.
    fn next_byte(&mut self, input: &mut Bytes) -> Result<Option<u8>, FormError> {
        let Some(&byte) = input.first() else { return Ok(None) };
        self.consume(input, 1);
        if self.state != State::FileEnded {
            self.within_head()?;
        }
        Ok(Some(byte))
    }

    fn within_head(&self) -> Result<(), FormError> {
        let within = usize::try_from(self.consumed).is_ok_and(|read| read <= HEAD_BYTES_MAX);
        if within { Ok(()) } else { Err(FormError::HeadTooLong) }
    }

    /// What follows a delimiter: `--`, or white space and CRLF. True once it is whole. Anything
    /// else would mean that the boundary stands inside a part, which must not be cut there.
    fn delimiter_line(&mut self, byte: u8) -> Result<bool, FormError> {
        match (self.gathered.last().copied(), byte) {
            (None, b'-' | b'\r' | b' ' | b'\t') | (Some(b' ' | b'\t'), b' ' | b'\t' | b'\r') => {
                // One of each kind tells as much as many.
                self.gathered.clear();
                self.gathered.extend_from_slice(&[byte]);
                Ok(false)
            }
            (Some(b'-'), b'-') | (Some(b'\r'), b'\n') => Ok(true),
            _ => Err(FormError::Malformed),
        }
    }

    fn part_begins(&mut self) -> Result<Option<FormEvent>, FormError> {
        let headers = self.gathered.split();
        let Disposition { name, filename } =
            part_disposition(&headers).ok_or(FormError::Malformed)?;
        if name.eq_ignore_ascii_case("file") {
            self.head.filename = filename.unwrap_or_default();
            self.state = State::File;
            return Ok(Some(FormEvent::File));
        }
        self.name = name;
        self.state = State::Value;
        Ok(None)
    }

    fn part_ended(&mut self) -> Result<(), FormError> {
        match self.state {
            State::File => self.state = State::FileEnded,
            State::Value => {
                let value = self.gathered.split();
                let value = std::str::from_utf8(&value).map_err(|_| FormError::Malformed)?;
                self.head.fields.push((std::mem::take(&mut self.name), value.to_owned()));
                self.state = State::Delimited;
            }
            _ => self.state = State::Delimited,
        }
        Ok(())
    }

    /// Splits off what cannot belong to a delimiter.
    fn scan(&mut self, input: &mut Bytes) -> Scanned {
        let delimiter = self.delimiter.clone();
        loop {
            if self.matched == delimiter.len() {
                self.matched = 0;
                return Scanned::Delimiter;
            }
            let Some(&byte) = input.first() else { return Scanned::NeedMore };
            if delimiter.get(self.matched) == Some(&byte) {
                self.matched += 1;
                bytes::Buf::advance(input, 1);
                continue;
            }
            if self.matched > 0 {
                // It looked like a delimiter and is not. The opening of the body is matched by
                // two bytes that are not there; what is before the first part counts for nothing.
                let data = delimiter.slice(..self.matched);
                self.matched = 0;
                return Scanned::Data(data);
            }
            let plain = input.iter().position(|&byte| byte == b'\r').unwrap_or(input.len());
            return Scanned::Data(input.split_to(plain));
        }
    }
}

enum Scanned {
    Data(Bytes),
    NeedMore,
    Delimiter,
}
