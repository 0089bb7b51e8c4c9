//! The XML of S3, as little of it as a proxy needs: the bodies of `DeleteObjects` and
//! `CompleteMultipartUpload`, and results whose root tells success. What is written stands in `write`.
//!
//! Text is gathered from text, entity and CDATA events alike, because the parser hands out
//! `a&amp;b` in three pieces; code that reads one of them cuts keys short.

mod write;

use quick_xml::Reader;
use quick_xml::events::Event;

pub use write::{
    complete_document, error_document, legal_hold_document, location_document, post_document,
    retention_document, tagging_document,
};

/// A `DeleteObjects` request names at most this many keys.
pub const DELETE_KEYS_MAX: usize = 1000;

/// The document is not what S3 defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "The XML you provided was not well-formed or did not validate against our published schema"
)]
pub struct MalformedXml;

/// A flat view of a document: calls `visit(path, text)` at the end of every element, `path`
/// being the local names from the root down.
pub(super) fn walk(
    xml: &[u8],
    visit: impl FnMut(&[String], &str) -> Result<(), MalformedXml>,
) -> Result<String, MalformedXml> {
    walk_through(xml, false, visit)
}

/// The same of a document in which nothing stands beside elements and text.
fn walk_strictly(
    xml: &[u8],
    visit: impl FnMut(&[String], &str) -> Result<(), MalformedXml>,
) -> Result<String, MalformedXml> {
    walk_through(xml, true, visit)
}

fn walk_through(
    xml: &[u8],
    strictly: bool,
    mut visit: impl FnMut(&[String], &str) -> Result<(), MalformedXml>,
) -> Result<String, MalformedXml> {
    const DEPTH_MAX: usize = 16;
    let xml = std::str::from_utf8(xml).map_err(|_| MalformedXml)?;
    let mut reader = Reader::from_str(xml.trim_start());
    let mut path: Vec<String> = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    let mut root = None;
    loop {
        match reader.read_event().map_err(|_| MalformedXml)? {
            Event::Start(tag) => {
                if path.len() == DEPTH_MAX || (path.is_empty() && root.is_some()) {
                    return Err(MalformedXml);
                }
                let name = tag.local_name().as_ref().to_owned();
                root.get_or_insert_with(|| name.clone());
                path.push(name);
                texts.push(String::new());
            }
            Event::Empty(tag) => {
                let name = tag.local_name().as_ref().to_owned();
                root.get_or_insert_with(|| name.clone());
                path.push(name);
                visit(&path, "")?;
                path.pop();
            }
            Event::End(_) => {
                let text = texts.pop().ok_or(MalformedXml)?;
                visit(&path, &text)?;
                path.pop();
            }
            Event::Text(text) => {
                if let Some(top) = texts.last_mut() {
                    top.push_str(&text);
                }
            }
            Event::CData(text) => {
                if let Some(top) = texts.last_mut() {
                    top.push_str(&text);
                }
            }
            Event::GeneralRef(entity) => {
                let top = texts.last_mut().ok_or(MalformedXml)?;
                if let Some(char) = entity.resolve_char_ref().map_err(|_| MalformedXml)? {
                    top.push(char);
                } else {
                    let known = quick_xml::escape::resolve_xml_entity(&entity);
                    top.push_str(known.ok_or(MalformedXml)?);
                }
            }
            Event::Eof => break,
            Event::Comment(_) | Event::PI(_) | Event::DocType(_) if strictly => {
                return Err(MalformedXml);
            }
            _ => {}
        }
    }
    if path.is_empty() { root.ok_or(MalformedXml) } else { Err(MalformedXml) }
}

pub(super) fn ends_with(path: &[String], tail: &[&str]) -> bool {
    path.len() == tail.len() && path.iter().zip(tail).all(|(a, b)| a == b)
}

/// One key of a `DeleteObjects` request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedKey {
    /// The key.
    pub key: String,
    /// Is one version of it named? The delete of one version leaves whatever version is then the
    /// newest.
    pub version: bool,
}

/// The keys of a `DeleteObjects` request, in order, each once.
pub fn delete_keys(xml: &[u8]) -> Result<Vec<NamedKey>, MalformedXml> {
    let mut keys: Vec<NamedKey> = Vec::new();
    let mut places = std::collections::HashMap::new();
    let mut count = 0usize;
    let (mut name, mut version) = (None, None);
    let root = walk_strictly(xml, |path, text| {
        // Of two keys, and of a key in pieces, services take one or the other.
        if ends_with(path, &["Delete", "Object", "Key"]) {
            once(&mut name, text.to_owned())?;
        } else if ends_with(path, &["Delete", "Object", "VersionId"]) {
            once(&mut version, !text.trim().is_empty())?;
        } else if path.len() > 3 {
            return Err(MalformedXml);
        } else if ends_with(path, &["Delete", "Object"]) {
            count += 1;
            let key = name.take().filter(|name| !name.is_empty() && count <= DELETE_KEYS_MAX);
            let key = key.ok_or(MalformedXml)?;
            let version = version.take().unwrap_or_default();
            if let Some(&place) = places.get(&key) {
                let known: Option<&mut NamedKey> = keys.get_mut(place);
                known.ok_or(MalformedXml)?.version |= version;
            } else {
                places.insert(key.clone(), keys.len());
                keys.push(NamedKey { key, version });
            }
        }
        Ok(())
    })?;
    if root == "Delete" && !keys.is_empty() { Ok(keys) } else { Err(MalformedXml) }
}

/// Takes the one value of an element.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), MalformedXml> {
    if place.replace(value).is_some() { Err(MalformedXml) } else { Ok(()) }
}

/// The keys of a `DeleteObjects` result that were *not* surely deleted.
pub fn delete_errors(xml: &[u8]) -> Result<std::collections::HashSet<String>, MalformedXml> {
    let mut keys = std::collections::HashSet::new();
    let root = walk(xml, |path, text| {
        if ends_with(path, &["DeleteResult", "Error", "Key"]) {
            keys.insert(text.to_owned());
        }
        Ok(())
    })?;
    if root == "DeleteResult" { Ok(keys) } else { Err(MalformedXml) }
}

/// One part as a `CompleteMultipartUpload` request lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedPart {
    /// 1 to 10 000, not necessarily contiguous.
    pub number: u32,
    /// Without quotes.
    pub etag: String,
}

/// The parts of a `CompleteMultipartUpload` request.
pub fn complete_parts(xml: &[u8]) -> Result<Vec<ListedPart>, MalformedXml> {
    let mut parts = Vec::new();
    let (mut number, mut etag) = (None, None);
    let root = walk(xml, |path, text| {
        if ends_with(path, &["CompleteMultipartUpload", "Part", "PartNumber"]) {
            number = Some(text.trim().parse().map_err(|_| MalformedXml)?);
        } else if ends_with(path, &["CompleteMultipartUpload", "Part", "ETag"]) {
            etag = Some(super::state::unquoted(text).to_owned());
        } else if ends_with(path, &["CompleteMultipartUpload", "Part"]) {
            let part = number.take().zip(etag.take()).ok_or(MalformedXml)?;
            parts.push(ListedPart { number: part.0, etag: part.1 });
        }
        Ok(())
    })?;
    if root == "CompleteMultipartUpload" { Ok(parts) } else { Err(MalformedXml) }
}

/// A part of a `ListParts` answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPart {
    /// Part number.
    pub number: u32,
    /// Without quotes.
    pub etag: String,
    /// Bytes.
    pub size: u64,
}

/// One page of `ListParts`: its parts, and the marker of the next page if there is one.
pub fn list_parts(xml: &[u8]) -> Result<(Vec<StoredPart>, Option<String>), MalformedXml> {
    let mut parts = Vec::new();
    let (mut number, mut etag, mut size) = (None, None, None);
    let (mut truncated, mut marker) = (false, None);
    walk(xml, |path, text| {
        match path.get(1).map(String::as_str) {
            Some("IsTruncated") => truncated = text.trim() == "true",
            Some("NextPartNumberMarker") => marker = Some(text.trim().to_owned()),
            Some("Part") => match path.get(2).map(String::as_str) {
                Some("PartNumber") => number = text.trim().parse().ok(),
                Some("ETag") => etag = Some(super::state::unquoted(text).to_owned()),
                Some("Size") => size = text.trim().parse().ok(),
                None => parts.push(StoredPart {
                    number: number.take().ok_or(MalformedXml)?,
                    etag: etag.take().ok_or(MalformedXml)?,
                    size: size.take().ok_or(MalformedXml)?,
                }),
                Some(_) => {}
            },
            _ => {}
        }
        Ok(())
    })?;
    Ok((parts, marker.filter(|_| truncated)))
}

/// Name of the root element and, when it has them directly below, `ETag`, `LastModified`,
/// `Code` and `Message`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResultDocument {
    /// Root element without prefix.
    pub root: String,
    /// `ETag` without quotes.
    pub etag: Option<String>,
    /// `LastModified`, ISO 8601.
    pub last_modified: Option<String>,
    /// Error code.
    pub code: Option<String>,
    /// `Region` or `BucketRegion` of an error: where the bucket is.
    pub region: Option<String>,
    /// `Endpoint` of an error: host and perhaps port.
    pub endpoint: Option<String>,
    /// `UploadId` of a multipart upload that was begun.
    pub upload_id: Option<String>,
}

/// Reads the result document of a mutation, or an error document.
pub fn result_document(xml: &[u8]) -> Result<ResultDocument, MalformedXml> {
    let mut document = ResultDocument::default();
    document.root = walk(xml, |path, text| {
        if path.len() == 2 {
            match path.get(1).map(String::as_str) {
                Some("ETag") => document.etag = Some(super::state::unquoted(text).to_owned()),
                Some("LastModified") => document.last_modified = Some(text.trim().to_owned()),
                Some("UploadId") => document.upload_id = Some(text.trim().to_owned()),
                Some("Region" | "BucketRegion") => document.region = Some(text.trim().to_owned()),
                Some("Endpoint") => document.endpoint = Some(text.trim().to_owned()),
                Some("Code") => document.code = Some(text.trim().to_owned()),
                _ => {}
            }
        }
        Ok(())
    })?;
    Ok(document)
}

/// The tags of a `GetObjectTagging` answer, sorted.
pub fn tags(xml: &[u8]) -> Result<Vec<(String, String)>, MalformedXml> {
    let mut tags = Vec::new();
    let (mut key, mut value) = (None, None);
    let root = walk(xml, |path, text| {
        if ends_with(path, &["Tagging", "TagSet", "Tag", "Key"]) {
            key = Some(text.to_owned());
        } else if ends_with(path, &["Tagging", "TagSet", "Tag", "Value"]) {
            value = Some(text.to_owned());
        } else if ends_with(path, &["Tagging", "TagSet", "Tag"]) {
            let key = key.take().ok_or(MalformedXml)?;
            tags.push((key, value.take().unwrap_or_default()));
        }
        Ok(())
    })?;
    tags.sort();
    if root == "Tagging" { Ok(tags) } else { Err(MalformedXml) }
}

/// `Status` of a `GetBucketVersioning` answer; `None` where versioning was never switched on.
pub fn versioning(xml: &[u8]) -> Result<Option<String>, MalformedXml> {
    let mut status = None;
    let root = walk(xml, |path, text| {
        if ends_with(path, &["VersioningConfiguration", "Status"]) {
            status = Some(text.trim().to_owned());
        }
        Ok(())
    })?;
    if root == "VersioningConfiguration" { Ok(status) } else { Err(MalformedXml) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versioning_that_was_never_switched_on_has_no_status() {
        let document = |inner: &str| {
            format!("<VersioningConfiguration xmlns=\"a\">{inner}</VersioningConfiguration>")
        };
        assert_eq!(versioning(document("").as_bytes()), Ok(None));
        let enabled = document("<Status>Enabled</Status>");
        assert_eq!(versioning(enabled.as_bytes()), Ok(Some("Enabled".into())));
        assert_eq!(versioning(b"<Error/>"), Err(MalformedXml));
    }

    #[test]
    fn keys_survive_entities_cdata_and_control_characters() {
        let xml = "<?xml version=\"1.0\"?><Delete xmlns=\"x\"><Quiet>true</Quiet>\
            <Object><Key>a&amp;b&lt;c&gt;</Key></Object>\
            <Object><Key> sp <![CDATA[<&>]]></Key><VersionId>v</VersionId></Object>\
            <Object><Key>n&#10;r&#x0D;\u{1}</Key></Object><Object><Key>a&amp;b&lt;c&gt;</Key></Object>\
            </Delete>";
        let keys = delete_keys(xml.as_bytes()).unwrap();
        let named: Vec<_> = keys.iter().map(|named| (named.key.as_str(), named.version)).collect();
        assert_eq!(named, [("a&b<c>", false), (" sp <&>", true), ("n\nr\r\u{1}", false)]);
    }

    #[test]
    fn broken_documents_are_refused() {
        for xml in [
            "",
            "<Delete>",
            "<Delete></Delete>",
            "<Delete><Object><Key>&x;</Key></Object></Delete>",
            "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>",
            "<Delete><Object><Key>a<!-- -->b</Key></Object></Delete>",
            "<Delete><Object><Key>a<Key>b</Key></Key></Object></Delete>",
            "<Delete><Object><Key>a<x/></Key></Object></Delete>",
            "<Delete><Object><Key>a</Key><VersionId/><VersionId>v</VersionId></Object></Delete>",
            "<!DOCTYPE Delete><Delete><Object><Key>a</Key></Object></Delete>",
        ] {
            assert_eq!(delete_keys(xml.as_bytes()), Err(MalformedXml), "{xml}");
        }
    }

    #[test]
    fn a_result_is_told_from_an_error_behind_leading_whitespace() {
        let xml = b"  \n <?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>";
        let document = result_document(xml).unwrap();
        assert_eq!(
            (document.root.as_str(), document.code.as_deref()),
            ("Error", Some("InternalError"))
        );
    }

    #[test]
    fn part_etags_compare_without_quotes_however_they_are_written() {
        let xml = "<CompleteMultipartUpload><Part><ETag>&quot;aa&#34;</ETag><PartNumber>3</PartNumber></Part>\
            <Part><PartNumber>7</PartNumber><ETag>bb</ETag></Part></CompleteMultipartUpload>";
        let parts = complete_parts(xml.as_bytes()).unwrap();
        assert_eq!(parts[0], ListedPart { number: 3, etag: "aa".into() });
        assert_eq!(parts[1], ListedPart { number: 7, etag: "bb".into() });
    }
}
