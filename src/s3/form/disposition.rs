//! The headers of a form: the boundary of the whole, name and filename of each part.
//!
//! Browsers, libraries and command line tools quote differently; all of their forms are read.

use crate::s3::encode::decode;

/// What a part says of itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Disposition {
    /// Name of the field.
    pub(super) name: String,
    /// Name of the file without directories, if the part is one.
    pub(super) filename: Option<String>,
}

/// The boundary in a `Content-Type` of `multipart/form-data`.
pub(super) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    let mut found = Parameters(parameters).filter(|(name, _)| name == "boundary");
    let boundary = found.next()?.1;
    // Two boundaries: two readers could see two different forms.
    found.next().is_none().then_some(boundary)
}

/// Name and filename from the headers of a part, which end with an empty line.
pub(super) fn part_disposition(headers: &[u8]) -> Option<Disposition> {
    let headers = std::str::from_utf8(headers).ok()?;
    let mut dispositions = headers.split("\r\n").filter_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    });
    let value = dispositions.next()?;
    if dispositions.next().is_some() {
        return None;
    }
    let (kind, parameters) = value.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("form-data") {
        return None;
    }
    let (mut field, mut filename, mut extended) = (None, None, None);
    for (name, value) in Parameters(parameters) {
        let slot = match name.as_str() {
            "name" => &mut field,
            "filename" => &mut filename,
            "filename*" => &mut extended,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return None;
        }
    }
    let extended = extended.as_deref().and_then(extended_value);
    let filename = extended.or(filename).map(|name| without_directories(&name).to_owned());
    Some(Disposition { name: field?, filename })
}

/// Some clients send the whole path.
fn without_directories(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

/// RFC 5987: `UTF-8'language'percent-encoded`.
fn extended_value(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_, text) = rest.split_once('\'')?;
    charset.eq_ignore_ascii_case("utf-8").then(|| decode(text, false))?.map(Into::into)
}

/// `name=value; name="quoted"`, names in lower case.
struct Parameters<'t>(&'t str);

impl Iterator for Parameters<'_> {
    type Item = (String, String);

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.0.trim_start_matches([' ', '\t', ';', '\r', '\n']);
        let (name, rest) = text.split_once('=')?;
        let rest = rest.trim_start();
        let (value, rest) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_value(quoted)?
        } else {
            let (value, rest) = rest.split_once(';').unwrap_or((rest, ""));
            (value.trim().to_owned(), rest)
        };
        self.0 = rest;
        Some((name.trim().to_ascii_lowercase(), value))
    }
}

/// Up to the closing quote. Only `\"` is an escape: some clients send paths with backslashes.
/// Browsers write a quote as `%22` and line ends as `%0D` and `%0A`; nothing else is encoded.
fn quoted_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => {
                let value = value.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
                return Some((value, text.get(at + 1..)?));
            }
            '\\' if chars.peek().is_some_and(|(_, next)| *next == '"') => {
                chars.next();
                value.push('"');
            }
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Option<Disposition> {
        part_disposition(format!("Content-Disposition: {value}\r\n\r\n").as_bytes())
    }

    #[test]
    fn boundaries_are_read_quoted_and_unquoted() {
        for (value, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("Multipart/Form-Data; charset=utf-8; Boundary=\"a b\"", Some("a b")),
            ("multipart/form-data;boundary=----WebKit", Some("----WebKit")),
            ("multipart/mixed; boundary=abc", None),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=a; boundary=b", None),
            ("multipart/form-data; boundary=\"open", None),
        ] {
            assert_eq!(boundary(value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn names_of_all_clients_are_read() {
        for (value, name, filename) in [
            ("form-data; name=\"key\"", "key", None),
            ("form-data; name=key", "key", None),
            ("form-data; name=\"file\"; filename=\"a b.txt\"", "file", Some("a b.txt")),
            ("form-data; name=\"file\"; filename=\"C:\\dir\\a.txt\"", "file", Some("a.txt")),
            ("form-data; name=\"file\"; filename=\"/tmp/a.txt\"", "file", Some("a.txt")),
            (
                "form-data; name=\"file\"; filename=\"q\\\"uo%22te;.txt\"",
                "file",
                Some("q\"uo\"te;.txt"),
            ),
            ("form-data; name=\"file\"; filename=\"100%25\"", "file", Some("100%25")),
            (
                "form-data; name=\"file\"; filename=\"?\"; filename*=utf-8''%C3%BC",
                "file",
                Some("ü"),
            ),
            ("form-data; name=\"file\"; filename=\"\"", "file", Some("")),
        ] {
            let found = of(value).unwrap();
            assert_eq!(
                (found.name.as_str(), found.filename.as_deref()),
                (name, filename),
                "{value}"
            );
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused() {
        for value in [
            "form-data; name=\"a\"; name=\"b\"",
            "form-data; filename=\"a\"",
            "attachment; name=\"a\"",
            "form-data",
            "form-data; name=\"open",
        ] {
            assert_eq!(of(value), None, "{value}");
        }
        let twice = "Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b\r\n\r\n";
        assert_eq!(part_disposition(twice.as_bytes()), None);
    }
}
