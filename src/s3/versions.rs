//! The versions of one key: a page of `ListObjectVersions`. Pure.
//!
//! The order of the document is the order in which the store keeps the versions, newest first.
//! Times do not tell it: they are whole seconds, and that of a multipart object on Amazon S3 is
//! when its upload began.

use std::collections::HashMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::address::Query;
use super::encode::decode;
use super::state::unquoted;
use super::xml::{MalformedXml, ends_with, walk};

/// The ID of the version that a bucket without versioning, or with versioning suspended, writes.
pub const NULL_VERSION: &str = "null";

/// One version of a key, or a delete marker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its ID.
    pub id: String,
    /// Is it a delete marker?
    pub marker: bool,
    /// `ETag` without quotes; empty for a marker.
    pub etag: String,
    /// Bytes; 0 for a marker.
    pub size: u64,
    /// By the store's clock.
    pub modified: Option<OffsetDateTime>,
}

impl Version {
    /// Are both the same as far as two stores can tell: markers, or objects of the same `ETag` and
    /// size?
    pub fn same_content(&self, other: &Self) -> bool {
        self.content() == other.content()
    }

    /// What [`Self::same_content`] compares.
    pub fn content(&self) -> (bool, &str, u64) {
        (self.marker, &self.etag, self.size)
    }
}

/// One page of the versions of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Newest first.
    pub versions: Vec<Version>,
    /// Where the next page begins, `(key, version ID)`, if there is more of this key.
    pub next: Option<(String, String)>,
}

/// The canonical query of one page of at most `count` versions.
pub fn page_query(key: &str, from: Option<&(String, String)>, count: usize) -> Query {
    let mut query = Query::default();
    query.push("versions", "");
    query.push("encoding-type", "url");
    query.push("prefix", key);
    query.push("max-keys", &count.to_string());
    if let Some((key, version)) = from {
        query.push("key-marker", key);
        query.push("version-id-marker", version);
    }
    query
}

/// Reads an answer, as far as it is about `key`: keys that begin with it follow behind.
pub fn page(xml: &[u8], wanted: &str) -> Result<Page, MalformedXml> {
    let mut listed: Vec<(String, Version)> = Vec::new();
    let (mut encoded, mut truncated) = (false, false);
    let mut next_version = None;
    let (mut key, mut id, mut etag, mut size, mut time) = (None, None, None, None, None);
    let root = walk(xml, |path, text| {
        match path.get(1).map(String::as_str) {
            Some("EncodingType") => encoded = text.trim().eq_ignore_ascii_case("url"),
            Some("IsTruncated") => truncated = text.trim() == "true",
            Some("NextVersionIdMarker") => next_version = Some(text.trim().to_owned()),
            Some(kind @ ("Version" | "DeleteMarker")) => match path.get(2).map(String::as_str) {
                Some("Key") => key = Some(text.to_owned()),
                Some("VersionId") => id = Some(text.trim().to_owned()),
                Some("ETag") => etag = Some(unquoted(text).to_owned()),
                Some("Size") => size = text.trim().parse().ok(),
                Some("LastModified") => time = OffsetDateTime::parse(text.trim(), &Rfc3339).ok(),
                None => {
                    let marker = kind == "DeleteMarker";
                    let (etag, size) = (etag.take(), size.take());
                    let version = Version {
                        id: id.take().ok_or(MalformedXml)?,
                        marker,
                        etag: etag.filter(|_| !marker).unwrap_or_default(),
                        size: if marker { 0 } else { size.ok_or(MalformedXml)? },
                        modified: time.take(),
                    };
                    listed.push((key.take().ok_or(MalformedXml)?, version));
                }
                Some(_) => {}
            },
            _ => {}
        }
        Ok(())
    })?;
    if !matches!(root.as_str(), "ListVersionsResult" | "ListObjectVersionsResult") {
        return Err(MalformedXml);
    }
    let plain = |key: String| -> Result<String, MalformedXml> {
        if encoded { Ok(decode(&key, true).ok_or(MalformedXml)?.into_owned()) } else { Ok(key) }
    };
    let mut page = Page::default();
    let mut beyond = false;
    for (key, version) in listed {
        if plain(key)? == wanted {
            page.versions.push(version);
        } else {
            beyond = true;
        }
    }
    if truncated && !beyond {
        // The marker's key is not read: some stores encode it, and others do not although they say so.
        let last = page.versions.last().map(|version| version.id.clone());
        let from =
            last.map(|last| next_version.filter(|id: &String| !id.is_empty()).unwrap_or(last));
        page.next = from.map(|from| (wanted.to_owned(), from));
    }
    Ok(page)
}

/// The keys that a `DeleteObjects` result says to have been deleted, each with the ID of the delete
/// marker that did it, where there are versions. A quiet result names none.
pub fn deleted(xml: &[u8]) -> Result<HashMap<String, Option<String>>, MalformedXml> {
    let mut keys: HashMap<String, Option<String>> = HashMap::new();
    let (mut key, mut id) = (None, None);
    // A marker that was itself deleted by its ID tells its ID too.
    let mut named = false;
    walk(xml, |path, text| {
        if ends_with(path, &["DeleteResult", "Deleted", "Key"]) {
            key = Some(text.to_owned());
        } else if ends_with(path, &["DeleteResult", "Deleted", "DeleteMarkerVersionId"]) {
            id = Some(text.trim().to_owned());
        } else if ends_with(path, &["DeleteResult", "Deleted", "VersionId"]) {
            named = true;
        } else if ends_with(path, &["DeleteResult", "Deleted"]) {
            let id = id.take().filter(|_| !std::mem::take(&mut named));
            named = false;
            if let Some(key) = key.take() {
                let marker = keys.entry(key).or_default();
                *marker = id.or(marker.take());
            }
        }
        Ok(())
    })?;
    Ok(keys)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(rest: &str) -> String {
        format!(
            "<ListVersionsResult xmlns=\"x\"><EncodingType>url</EncodingType>\
             <Version><Key>a%2Bb</Key><VersionId>3</VersionId><IsLatest>true</IsLatest>\
             <LastModified>2026-11-29T08:35:59.827Z</LastModified><ETag>&quot;e&quot;</ETag>\
             <Size>7</Size><Owner><ID>o</ID></Owner></Version>\
             <DeleteMarker><Key>a%2Bb</Key><VersionId>2</VersionId></DeleteMarker>\
             <Version><Key>a%2Bb</Key><VersionId>null</VersionId><ETag>\"f\"</ETag><Size>0</Size>\
             </Version>{rest}</ListVersionsResult>"
        )
    }

    #[test]
    fn versions_and_markers_come_in_the_order_of_the_document() {
        let page = page(document("").as_bytes(), "a+b").unwrap();
        let told: Vec<_> = page.versions.iter().map(|v| (v.id.as_str(), v.content())).collect();
        assert_eq!(told, [("3", (false, "e", 7)), ("2", (true, "", 0)), ("null", (false, "f", 0))]);
        assert_eq!(page.versions[0].modified.unwrap().unix_timestamp(), 1_795_941_359);
        assert_eq!(page.next, None);
    }

    #[test]
    fn a_page_goes_on_only_while_it_is_about_the_key() {
        let more = "<IsTruncated>true</IsTruncated><NextKeyMarker>a%</NextKeyMarker>\
                    <NextVersionIdMarker>null</NextVersionIdMarker>";
        let next = page(document(more).as_bytes(), "a+b").unwrap().next;
        assert_eq!(next, Some(("a+b".to_owned(), "null".to_owned())));
        let other = format!(
            "{more}<Version><Key>a%2Bbc</Key><VersionId>1</VersionId><Size>1</Size></Version>"
        );
        let found = page(document(&other).as_bytes(), "a+b").unwrap();
        assert_eq!((found.versions.len(), found.next), (3, None));
        assert_eq!(page(document("").as_bytes(), "other").unwrap(), Page::default());
        assert!(page(b"<Error/>", "k").is_err());
    }

    #[test]
    fn the_markers_that_deletes_made_are_told_by_key() {
        let xml = b"<DeleteResult><Deleted><Key>a</Key><DeleteMarker>true</DeleteMarker>\
            <DeleteMarkerVersionId>m1</DeleteMarkerVersionId></Deleted><Deleted><Key>b</Key>\
            </Deleted><Deleted><Key>c</Key><DeleteMarkerVersionId>m2</DeleteMarkerVersionId>\
            <VersionId>m2</VersionId></Deleted></DeleteResult>";
        let keys = deleted(xml).unwrap();
        assert_eq!(keys.len(), 3);
        assert_eq!(keys["a"].as_deref(), Some("m1"));
        assert_eq!((&keys["b"], &keys["c"]), (&None, &None));
    }
}
