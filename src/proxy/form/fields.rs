//! The fields of a form as the headers of the `PutObject` it stands for: pure.

use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERER, USER_AGENT};

use crate::proxy::error::S3Error;
use crate::s3::encode::encode_into;
use crate::s3::form::{FormHead, HEAD_BYTES_MAX};
use crate::s3::headers::{is_auth_parameter, stripped_from_request};
use crate::s3::xml;

/// What stands for the name of the file in any field.
const FILENAME: &str = "${filename}";
/// Fields beside the `x-amz-` ones that are headers of the object.
const OBJECT_FIELDS: [&str; 7] = [
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
];
/// Fields that would make the upload something else.
const NOT_IN_FORMS: [&str; 3] = ["x-amz-copy-source", "x-amz-rename-source", "x-amz-write-offset"];
/// Fields about the framing of a body that a form does not have.
const FRAMING: [&str; 2] = ["x-amz-decoded-content-length", "x-amz-trailer"];

/// Puts the name of the file where the fields ask for it.
pub(super) fn named(mut head: FormHead) -> Result<FormHead, S3Error> {
    let mut bytes = 0usize;
    for (_, value) in &mut head.fields {
        if value.contains(FILENAME) {
            let count = value.matches(FILENAME).count();
            bytes = bytes.saturating_add(count.saturating_mul(head.filename.len()));
            // Many places for a long name: more than the form itself may have.
            if bytes > HEAD_BYTES_MAX {
                return Err(crate::s3::form::FormError::HeadTooLong.into());
            }
            *value = value.replace(FILENAME, &head.filename);
        }
    }
    Ok(head)
}

/// The headers of the object. The first of several fields of a name counts.
pub(super) fn object_headers(head: &FormHead) -> Result<HeaderMap, S3Error> {
    let mut headers = HeaderMap::new();
    for (field, value) in &head.fields {
        let field = field.to_ascii_lowercase();
        let tagging;
        let (name, value) = match field.as_str() {
            "acl" => ("x-amz-acl", value.as_str()),
            "tagging" => {
                tagging = tagging_header(value)?;
                ("x-amz-tagging", tagging.as_str())
            }
            _ => (field.as_str(), value.as_str()),
        };
        if NOT_IN_FORMS.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(unusable(name));
        }
        if !is_object_field(name) {
            continue;
        }
        let header = HeaderName::try_from(name).map_err(|_| unusable(name))?;
        if stripped_from_request(&header) || headers.contains_key(&header) {
            continue;
        }
        let value = HeaderValue::from_bytes(value.as_bytes()).map_err(|_| unusable(name))?;
        headers.insert(header, value);
    }
    Ok(headers)
}

fn is_object_field(name: &str) -> bool {
    OBJECT_FIELDS.contains(&name)
        || (name.starts_with("x-amz-") && !is_auth_parameter(name) && !FRAMING.contains(&name))
}

/// What main may judge by (CORS, bucket policies) beside the fields.
pub(super) fn keep_request_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for name in [ORIGIN, REFERER, USER_AGENT] {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

/// The document of a `tagging` field as the header has it.
fn tagging_header(document: &str) -> Result<String, S3Error> {
    let tags = xml::tags(document.as_bytes())?;
    let mut header = String::new();
    for (key, value) in tags {
        if !header.is_empty() {
            header.push('&');
        }
        encode_into(&mut header, key.as_bytes(), false);
        header.push('=');
        encode_into(&mut header, value.as_bytes(), false);
    }
    Ok(header)
}

fn unusable(name: &str) -> S3Error {
    S3Error::new(
        StatusCode::BAD_REQUEST,
        "InvalidArgument",
        "A field of the form cannot be a header of the object.",
    )
    .with("ArgumentName", name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(fields: &[(&str, &str)]) -> FormHead {
        let fields = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        FormHead { fields, filename: "a b.txt".into() }
    }

    #[test]
    fn fields_of_the_object_become_its_headers_and_the_rest_stays_here() {
        let headers = object_headers(&head(&[
            ("key", "k"),
            ("acl", "private"),
            ("Content-Type", "text/plain"),
            ("content-type", "second/one"),
            ("x-amz-meta-name", "ü"),
            ("x-amz-storage-class", "STANDARD"),
            ("Policy", "p"),
            ("x-amz-signature", "s"),
            ("x-amz-credential", "c"),
            ("x-amz-date", "d"),
            ("x-amz-security-token", "t"),
            ("x-amz-content-sha256", "h"),
            ("x-amz-decoded-content-length", "1"),
            ("success_action_status", "201"),
            ("x-ignore-me", "1"),
            ("submit", "Upload"),
        ]))
        .unwrap();
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "x-amz-acl", "x-amz-meta-name", "x-amz-storage-class"]);
        assert_eq!(headers["content-type"], "text/plain");
        assert_eq!(headers["x-amz-meta-name"].as_bytes(), "ü".as_bytes());
    }

    #[test]
    fn a_form_cannot_become_a_copy() {
        for name in ["x-amz-copy-source", "X-Amz-Copy-Source-Range", "x-amz-rename-source"] {
            assert_eq!(
                object_headers(&head(&[(name, "b/k")])).unwrap_err().code,
                "InvalidArgument"
            );
        }
        assert!(object_headers(&head(&[("x-amz-meta-a", "line\nbreak")])).is_err());
        assert!(object_headers(&head(&[("x-amz-meta-ü", "no name of a header")])).is_err());
    }

    #[test]
    fn tags_are_taken_over_from_their_document() {
        let tagging = "<Tagging><TagSet><Tag><Key>a b</Key><Value>1&amp;2</Value></Tag>\
            <Tag><Key>c</Key><Value/></Tag></TagSet></Tagging>";
        let headers = object_headers(&head(&[("tagging", tagging)])).unwrap();
        assert_eq!(headers["x-amz-tagging"], "a%20b=1%262&c=");
        assert!(object_headers(&head(&[("tagging", "a=b")])).is_err());
    }

    #[test]
    fn the_name_of_the_file_is_put_in_every_field_within_bounds() {
        let named_head = named(head(&[("key", "u/${filename}"), ("x-amz-meta-n", "${filename}!")]));
        let fields = named_head.unwrap().fields;
        assert_eq!((fields[0].1.as_str(), fields[1].1.as_str()), ("u/a b.txt", "a b.txt!"));
        let mut many = head(&[("key", &FILENAME.repeat(1000))]);
        many.filename = "x".repeat(1000);
        assert!(named(many).is_err());
    }
}
