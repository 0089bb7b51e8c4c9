//! Documents as they are written: bodies of requests, and answers of our own.
//!
//! Every text is escaped; characters that XML cannot hold become `?`.

const DECLARATION: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// The body of `CreateBucket` for a region that has to be named.
pub fn location_document(region: &str) -> String {
    let mut out = String::from("<CreateBucketConfiguration>");
    element(&mut out, "LocationConstraint", region);
    out.push_str("</CreateBucketConfiguration>");
    out
}

/// The body of `CompleteMultipartUpload`, from part numbers and ETags without quotes.
pub fn complete_document<'a>(parts: impl Iterator<Item = (u32, &'a str)>) -> String {
    let mut out = String::from("<CompleteMultipartUpload>");
    for (number, etag) in parts {
        out.push_str("<Part><PartNumber>");
        out.push_str(&number.to_string());
        out.push_str("</PartNumber><ETag>&quot;");
        escape_into(&mut out, etag);
        out.push_str("&quot;</ETag></Part>");
    }
    out.push_str("</CompleteMultipartUpload>");
    out
}

/// The body of `PutObjectRetention`.
pub fn retention_document(mode: &str, until: &str) -> String {
    let mut out = String::from("<Retention>");
    element(&mut out, "Mode", mode);
    element(&mut out, "RetainUntilDate", until);
    out.push_str("</Retention>");
    out
}

/// The body of `PutObjectLegalHold`.
pub fn legal_hold_document(on: bool) -> String {
    let status = if on { "ON" } else { "OFF" };
    format!("<LegalHold><Status>{status}</Status></LegalHold>")
}

/// The body of `PutObjectTagging`.
pub fn tagging_document(tags: &[(String, String)]) -> String {
    let mut out = String::from("<Tagging><TagSet>");
    for (key, value) in tags {
        out.push_str("<Tag>");
        element(&mut out, "Key", key);
        element(&mut out, "Value", value);
        out.push_str("</Tag>");
    }
    out.push_str("</TagSet></Tagging>");
    out
}

/// The answer to a form upload that asked for one. `etag` is as main wrote it, with its quotes.
pub fn post_document(location: &str, bucket: &str, key: &str, etag: &str) -> String {
    let mut out = format!("{DECLARATION}<PostResponse>");
    for (name, text) in [("Location", location), ("Bucket", bucket), ("Key", key), ("ETag", etag)] {
        element(&mut out, name, text);
    }
    out.push_str("</PostResponse>");
    out
}

/// An S3 error document, `elements` being what some codes tell beside the usual.
pub fn error_document(
    code: &str,
    message: &str,
    resource: &str,
    request_id: &str,
    elements: &[(&'static str, String)],
) -> String {
    let mut out = String::with_capacity(256);
    out.push_str(DECLARATION);
    out.push_str("<Error>");
    let usual = [
        ("Code", code),
        ("Message", message),
        ("Resource", resource),
        ("RequestId", request_id),
        ("HostId", "s3-mirror"),
    ];
    let further = elements.iter().map(|(name, text)| (*name, text.as_str()));
    for (name, text) in usual.into_iter().chain(further) {
        element(&mut out, name, text);
    }
    out.push_str("</Error>");
    out
}

fn element(out: &mut String, name: &str, text: &str) {
    out.push('<');
    out.push_str(name);
    out.push('>');
    escape_into(out, text);
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

fn escape_into(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'.. => {
                out.push(char);
            }
            _ => out.push('?'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_send_is_escaped() {
        let xml =
            error_document("NoSuchKey", "m", "/b/<k>&\u{0}", "id", &[("Region", "a<".into())]);
        assert!(xml.contains("<Resource>/b/&lt;k&gt;&amp;?</Resource>"), "{xml}");
        assert!(xml.ends_with("<HostId>s3-mirror</HostId><Region>a&lt;</Region></Error>"), "{xml}");
        assert!(location_document("eu<1").contains("<LocationConstraint>eu&lt;1</"));
        let tags = [("k&".to_owned(), "v".to_owned())];
        assert_eq!(
            tagging_document(&tags),
            "<Tagging><TagSet><Tag><Key>k&amp;</Key><Value>v</Value></Tag></TagSet></Tagging>"
        );
    }
}
