//! Multipart uploads that have begun and are not over: a page of `ListMultipartUploads`. Pure.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::address::Query;
use super::encode::decode;
use super::xml::{MalformedXml, walk};

/// Uploads asked for: the most that Amazon S3 answers.
const UPLOADS_MAX: usize = 1000;

/// One upload that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Its ID.
    pub id: String,
    /// When it began, by the store's clock.
    pub begun: Option<OffsetDateTime>,
}

/// The canonical query for the uploads of one key. One page tells them: those of keys that begin with
/// this one come behind.
pub fn page_query(key: &str) -> Query {
    let mut query = Query::default();
    query.push("uploads", "");
    query.push("encoding-type", "url");
    query.push("prefix", key);
    query.push("max-uploads", &UPLOADS_MAX.to_string());
    query
}

/// Reads an answer, as far as it is about `key`.
pub fn page(xml: &[u8], wanted: &str) -> Result<Vec<Unfinished>, MalformedXml> {
    let mut listed: Vec<(String, Unfinished)> = Vec::new();
    let mut encoded = false;
    let (mut key, mut id, mut begun) = (None, None, None);
    let root = walk(xml, |path, text| {
        match path.get(1).map(String::as_str) {
            Some("EncodingType") => encoded = text.trim().eq_ignore_ascii_case("url"),
            Some("Upload") => match path.get(2).map(String::as_str) {
                Some("Key") => key = Some(text.to_owned()),
                Some("UploadId") => id = Some(text.trim().to_owned()),
                Some("Initiated") => begun = OffsetDateTime::parse(text.trim(), &Rfc3339).ok(),
                None => {
                    let id = id.take().ok_or(MalformedXml)?;
                    let upload = Unfinished { id, begun: begun.take() };
                    listed.push((key.take().ok_or(MalformedXml)?, upload));
                }
                Some(_) => {}
            },
            _ => {}
        }
        Ok(())
    })?;
    if root != "ListMultipartUploadsResult" {
        return Err(MalformedXml);
    }
    let mut uploads = Vec::new();
    for (key, upload) in listed {
        let is_wanted =
            if encoded { decode(&key, true).ok_or(MalformedXml)? == wanted } else { key == wanted };
        if is_wanted {
            uploads.push(upload);
        }
    }
    Ok(uploads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uploads_of_exactly_the_key_are_told() {
        let xml = b"<ListMultipartUploadsResult><EncodingType>url</EncodingType>\
            <Upload><Key>a%2Bb</Key><UploadId>1</UploadId>\
            <Initiator><ID>i</ID></Initiator><Owner><ID>o</ID></Owner>\
            <Initiated>2026-11-21T06:41:17.000Z</Initiated></Upload>\
            <Upload><Key>a%2Bb</Key><UploadId>2</UploadId></Upload>\
            <Upload><Key>a%2Bb%2Fc</Key><UploadId>3</UploadId></Upload>\
            </ListMultipartUploadsResult>";
        let uploads = page(xml, "a+b").unwrap();
        let ids: Vec<&str> = uploads.iter().map(|upload| upload.id.as_str()).collect();
        assert_eq!(ids, ["1", "2"]);
        assert_eq!(uploads[0].begun.unwrap().unix_timestamp(), 1_795_243_277);
        assert_eq!(uploads[1].begun, None);
    }

    #[test]
    fn an_error_document_is_no_empty_page() {
        assert_eq!(page(b"<Error><Code>SlowDown</Code></Error>", "k"), Err(MalformedXml));
        assert_eq!(page(b"<ListMultipartUploadsResult/>", "k"), Ok(Vec::new()));
    }
}
