//! What a bucket lists: one page of `ListObjectsV2`, and the names of `ListBuckets`. Pure.
//!
//! Keys are asked for with `encoding-type=url`, because XML cannot hold every character a key
//! may have. Stores that ignore the question answer plain keys; the answer says which it is.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::address::Query;
use super::encode::decode;
use super::state::unquoted;
use super::xml::{MalformedXml, ends_with, walk};

/// Keys asked for per page: the most that Amazon S3 answers.
pub const PAGE_KEYS: usize = 1000;

/// One object as a listing tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Key, decoded.
    pub key: String,
    /// `ETag` without quotes; empty where the store lists none.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// By the store's clock.
    pub last_modified: Option<OffsetDateTime>,
}

/// One page of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Objects in the store's order.
    pub objects: Vec<Listed>,
    /// Is there more behind them?
    pub truncated: bool,
    /// What to ask for it with; some stores give none, and then the last key serves.
    pub token: Option<String>,
}

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// At the first key.
    Start,
    /// Behind this key.
    After(String),
    /// Where the store's own token says.
    Token(String),
}

/// The canonical query of one page.
pub fn page_query(prefix: &str, from: &From) -> String {
    let mut query = Query::default();
    query.push("list-type", "2");
    query.push("encoding-type", "url");
    query.push("max-keys", &PAGE_KEYS.to_string());
    if !prefix.is_empty() {
        query.push("prefix", prefix);
    }
    match from {
        From::Start => {}
        From::After(key) => query.push("start-after", key),
        From::Token(token) => query.push("continuation-token", token),
    }
    query.canonical()
}

/// Reads a `ListObjectsV2` answer.
pub fn page(xml: &[u8]) -> Result<Page, MalformedXml> {
    let mut page = Page::default();
    let mut encoded = false;
    let (mut key, mut etag, mut size, mut time) = (None, None, None, None);
    let root = walk(xml, |path, text| {
        if path.len() < 2 {
            return Ok(());
        }
        match path.get(1).map(String::as_str) {
            Some("EncodingType") => encoded = text.trim() == "url",
            Some("IsTruncated") => page.truncated = text.trim() == "true",
            Some("NextContinuationToken") => page.token = Some(text.to_owned()),
            Some("Contents") => match path.get(2).map(String::as_str) {
                Some("Key") => key = Some(text.to_owned()),
                Some("ETag") => etag = Some(unquoted(text).to_owned()),
                Some("Size") => size = text.trim().parse().ok(),
                Some("LastModified") => time = OffsetDateTime::parse(text.trim(), &Rfc3339).ok(),
                None => page.objects.push(Listed {
                    key: key.take().ok_or(MalformedXml)?,
                    etag: etag.take().unwrap_or_default(),
                    size: size.take().ok_or(MalformedXml)?,
                    last_modified: time.take(),
                }),
                Some(_) => {}
            },
            _ => {}
        }
        Ok(())
    })?;
    if root != "ListBucketResult" {
        return Err(MalformedXml);
    }
    if encoded {
        for object in &mut page.objects {
            object.key = decode(&object.key, true).ok_or(MalformedXml)?.into_owned();
        }
    }
    page.token = page.token.filter(|token| page.truncated && !token.is_empty());
    Ok(page)
}

/// Reads a `ListBuckets` answer: names, and the token of the next page if there is one.
pub fn buckets(xml: &[u8]) -> Result<(Vec<String>, Option<String>), MalformedXml> {
    let (mut names, mut token) = (Vec::new(), None);
    let root = walk(xml, |path, text| {
        if ends_with(path, &["ListAllMyBucketsResult", "Buckets", "Bucket", "Name"]) {
            names.push(text.to_owned());
        } else if ends_with(path, &["ListAllMyBucketsResult", "ContinuationToken"]) {
            token = Some(text.to_owned()).filter(|token| !token.is_empty());
        }
        Ok(())
    })?;
    if root == "ListAllMyBucketsResult" { Ok((names, token)) } else { Err(MalformedXml) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_decoded_only_if_the_store_says_that_it_encoded() {
        let xml = |encoding: &str| {
            format!(
                "<ListBucketResult xmlns=\"x\"><IsTruncated>true</IsTruncated><Contents>\
                 <Key>a%2Bb+c</Key><LastModified>2026-11-21T06:41:17.000Z</LastModified>\
                 <ETag>&quot;e&quot;</ETag><Size>7</Size><Owner><ID>o</ID></Owner></Contents>\
                 {encoding}<NextContinuationToken>t=</NextContinuationToken></ListBucketResult>"
            )
        };
        let page_of = |encoding| page(xml(encoding).as_bytes()).unwrap();
        let encoded = page_of("<EncodingType>url</EncodingType>");
        assert_eq!(encoded.objects[0].key, "a+b c");
        assert_eq!((encoded.objects[0].size, encoded.objects[0].etag.as_str()), (7, "e"));
        assert_eq!(encoded.objects[0].last_modified.unwrap().unix_timestamp(), 1_795_243_277);
        assert_eq!(encoded.token.as_deref(), Some("t="));
        assert_eq!(page_of("").objects[0].key, "a%2Bb+c");
    }

    #[test]
    fn an_error_document_is_no_empty_page() {
        assert_eq!(page(b"<Error><Code>SlowDown</Code></Error>"), Err(MalformedXml));
        assert!(page(b"<ListBucketResult/>").unwrap().objects.is_empty());
        assert_eq!(buckets(b"<Error/>"), Err(MalformedXml));
    }

    #[test]
    fn the_query_of_a_page_is_canonical() {
        let query = page_query("p/ü", &From::After("a b".into()));
        let expected =
            "encoding-type=url&list-type=2&max-keys=1000&prefix=p%2F%C3%BC&start-after=a%20b";
        assert_eq!(query, expected);
    }
}
