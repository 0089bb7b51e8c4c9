//! Which S3 operation a request is, and what it can change.
//!
//! Nothing is refused for being unknown: the name is for logs and metrics, the effect decides
//! whether an intent is written. A mutating request that is not recognised but addresses a key
//! counts as a change of that key, because replication copies main's current state anyway.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};

use super::address::Address;
use super::headers::find;

/// What a request can change on main.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    Read,
    /// The addressed key.
    Key(Change),
    /// The keys named in the body (`DeleteObjects`).
    Keys,
    /// Only the state of a multipart upload; no key changes until it completes.
    Upload,
    /// The bucket itself comes or goes.
    Bucket,
    /// Settings of a bucket or the account, which are not mirrored.
    Settings,
}

/// How a key changes; the names follow S3 event types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// `ObjectCreated:Put`
    Put,
    /// `ObjectCreated:Copy`
    Copy,
    /// `ObjectCreated:CompleteMultipartUpload`
    Complete,
    /// `ObjectRemoved:*`
    Delete,
    /// `ObjectTagging:*`
    Tagging,
    /// Any other change: main is asked what became of the key.
    Other,
    /// The bucket itself came or went; the key is empty.
    Bucket,
}

impl Change {
    /// Stable number for the journal.
    pub const fn code(self) -> i64 {
        match self {
            Self::Put => 0,
            Self::Copy => 1,
            Self::Complete => 2,
            Self::Delete => 3,
            Self::Tagging => 4,
            Self::Other => 5,
            Self::Bucket => 6,
        }
    }

    /// Inverse of [`Change::code`]; a number from a newer version reads as [`Change::Other`],
    /// which is always right because main is asked.
    pub const fn from_code(code: i64) -> Self {
        match code {
            0 => Self::Put,
            1 => Self::Copy,
            2 => Self::Complete,
            3 => Self::Delete,
            4 => Self::Tagging,
            6 => Self::Bucket,
            _ => Self::Other,
        }
    }
}

/// An S3 operation by its API name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// API name, or `Unknown` with the method's family.
    pub name: &'static str,
    /// What it can change.
    pub effect: Effect,
}

const fn op(name: &'static str, effect: Effect) -> Operation {
    Operation { name, effect }
}

impl Operation {
    /// Classifies a request by method, address and headers.
    pub fn of(method: &Method, address: &Address, headers: &HeaderMap) -> Self {
        match (address.bucket.is_some(), address.key.is_some()) {
            (true, true) => object(method, address, headers),
            (true, false) => bucket(method, address, headers),
            _ => service(method),
        }
    }

    /// Must the outcome be judged by the body of a 200? These answer success or an error
    /// inside it, after whitespace that keeps the connection alive.
    pub fn judged_by_body(self) -> bool {
        matches!(
            self.name,
            "CopyObject" | "UploadPartCopy" | "CompleteMultipartUpload" | "DeleteObjects"
        )
    }
}

fn service(method: &Method) -> Operation {
    if is_read(method) { op("ListBuckets", Effect::Read) } else { op("Unknown", Effect::Settings) }
}

fn is_read(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

fn object(method: &Method, address: &Address, headers: &HeaderMap) -> Operation {
    let query = &address.query;
    let has = |name: &str| query.has(name);
    // An empty one is none to Ceph, which then deletes or writes the object itself.
    let has_upload = query.get("uploadId").is_some_and(|id| !id.is_empty());
    let sub = |pairs: &[(&str, &'static str)]| {
        pairs.iter().find(|(flag, _)| query.has(flag)).map(|(_, name)| *name)
    };
    match *method {
        Method::HEAD => op("HeadObject", Effect::Read),
        Method::OPTIONS => op("Preflight", Effect::Read),
        Method::GET => {
            let name = sub(&[
                ("uploadId", "ListParts"),
                ("tagging", "GetObjectTagging"),
                ("acl", "GetObjectAcl"),
                ("attributes", "GetObjectAttributes"),
                ("retention", "GetObjectRetention"),
                ("legal-hold", "GetObjectLegalHold"),
                ("torrent", "GetObjectTorrent"),
            ]);
            op(name.unwrap_or("GetObject"), Effect::Read)
        }
        // One without the other is a part to some services, and to Garage the object itself.
        Method::PUT if has("uploadId") && !(has_upload && has("partNumber")) => {
            op("Unknown", Effect::Key(Change::Other))
        }
        Method::PUT if has_upload => {
            let copy = find(headers, "x-amz-copy-source").is_some();
            op(if copy { "UploadPartCopy" } else { "UploadPart" }, Effect::Upload)
        }
        Method::PUT if has("tagging") => op("PutObjectTagging", Effect::Key(Change::Tagging)),
        Method::PUT => {
            let name = sub(&[
                ("acl", "PutObjectAcl"),
                ("retention", "PutObjectRetention"),
                ("legal-hold", "PutObjectLegalHold"),
                ("renameObject", "RenameObject"),
                ("encryption", "UpdateObjectEncryption"),
                ("annotation", "PutObjectAnnotation"),
                ("append", "AppendObject"),
            ]);
            match name {
                Some(name) => op(name, Effect::Key(Change::Other)),
                None if find(headers, "x-amz-copy-source").is_some() => {
                    op("CopyObject", Effect::Key(Change::Copy))
                }
                None if find(headers, "x-amz-write-offset-bytes").is_some() => {
                    op("PutObject", Effect::Key(Change::Other))
                }
                None if query.names().any(is_subresource) => {
                    op("Unknown", Effect::Key(Change::Other))
                }
                None => op("PutObject", Effect::Key(Change::Put)),
            }
        }
        Method::POST if has("uploads") => op("CreateMultipartUpload", Effect::Upload),
        Method::POST if has_upload => op("CompleteMultipartUpload", Effect::Key(Change::Complete)),
        Method::POST if has("select") && query.get("select-type") == Some("2") => {
            op("SelectObjectContent", Effect::Read)
        }
        Method::POST if has("restore") => op("RestoreObject", Effect::Settings),
        Method::DELETE if has_upload => op("AbortMultipartUpload", Effect::Upload),
        Method::DELETE if has("uploadId") => op("Unknown", Effect::Key(Change::Other)),
        Method::DELETE if has("tagging") => op("DeleteObjectTagging", Effect::Key(Change::Tagging)),
        Method::DELETE if has("annotation") => {
            op("DeleteObjectAnnotation", Effect::Key(Change::Other))
        }
        // The delete of one version leaves whatever version is now the newest: main is asked.
        Method::DELETE if has("versionId") => op("DeleteObject", Effect::Key(Change::Other)),
        Method::DELETE => op("DeleteObject", Effect::Key(Change::Delete)),
        _ => op("Unknown", Effect::Key(Change::Other)),
    }
}

/// Is the body a form with a file?
pub fn is_form(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let kind = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii().eq_ignore_ascii_case(b"multipart/form-data")
}

/// Parameters that make another operation of a request on a key.
const SUBRESOURCES: &[&str] = &[
    "acl",
    "annotation",
    "append",
    "attributes",
    "delete",
    "encryption",
    "legal-hold",
    "renameObject",
    "restore",
    "retention",
    "select",
    "tagging",
    "torrent",
    "uploadId",
    "uploads",
];

/// Does the query of a request on a key name two operations? Which of them is meant each service
/// decides for itself, so that it could be another than the one that was allowed and noted here.
pub fn is_ambiguous(address: &Address) -> bool {
    let named = address.query.names().filter(|name| SUBRESOURCES.contains(name));
    address.key.is_some() && named.count() > 1
}

/// Parameters of `PutObject` that name no subresource.
fn is_subresource(name: &str) -> bool {
    name != "x-id" && !name.to_ascii_lowercase().starts_with("x-amz-")
}

/// Subresources of a bucket and the API names of reading them.
const BUCKET_READS: &[(&str, &str)] = &[
    ("list-type", "ListObjectsV2"),
    ("versions", "ListObjectVersions"),
    ("uploads", "ListMultipartUploads"),
    ("location", "GetBucketLocation"),
    ("versioning", "GetBucketVersioning"),
    ("acl", "GetBucketAcl"),
    ("policyStatus", "GetBucketPolicyStatus"),
    ("policy", "GetBucketPolicy"),
    ("cors", "GetBucketCors"),
    ("lifecycle", "GetBucketLifecycleConfiguration"),
    ("encryption", "GetBucketEncryption"),
    ("website", "GetBucketWebsite"),
    ("notification", "GetBucketNotificationConfiguration"),
    ("tagging", "GetBucketTagging"),
    ("replication", "GetBucketReplication"),
    ("logging", "GetBucketLogging"),
    ("object-lock", "GetObjectLockConfiguration"),
];

fn bucket(method: &Method, address: &Address, headers: &HeaderMap) -> Operation {
    let query = &address.query;
    let settings = query.names().any(is_subresource);
    match *method {
        Method::HEAD => op("HeadBucket", Effect::Read),
        Method::OPTIONS => op("Preflight", Effect::Read),
        Method::GET => {
            let name = BUCKET_READS.iter().find(|(flag, _)| query.has(flag)).map(|(_, name)| *name);
            op(name.unwrap_or("ListObjects"), Effect::Read)
        }
        Method::POST if query.has("delete") => op("DeleteObjects", Effect::Keys),
        Method::PUT if settings => op("PutBucketSetting", Effect::Settings),
        Method::PUT => op("CreateBucket", Effect::Bucket),
        Method::DELETE if settings => op("DeleteBucketSetting", Effect::Settings),
        Method::DELETE => op("DeleteBucket", Effect::Bucket),
        // A form upload; the form names the key. Some services take it whatever the parameters.
        Method::POST if !settings || is_form(headers) => op("PostObject", Effect::Key(Change::Put)),
        _ => op("Unknown", Effect::Settings),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(method: &str, path_and_query: &str, header: Option<&'static str>) -> Operation {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        let address = Address::parse("h", path, query, &[]).unwrap();
        let mut headers = HeaderMap::new();
        if let Some(name) = header {
            headers.insert(name, http::HeaderValue::from_static("x"));
        }
        Operation::of(&method.parse().unwrap(), &address, &headers)
    }

    #[test]
    fn operations_are_told_apart_by_method_subresource_and_header() {
        for (method, target, header, name, effect) in [
            ("PUT", "/b/k?x-id=PutObject", None, "PutObject", Effect::Key(Change::Put)),
            ("PUT", "/b/k", Some("x-amz-copy-source"), "CopyObject", Effect::Key(Change::Copy)),
            ("PUT", "/b/k?partNumber=1&uploadId=u", None, "UploadPart", Effect::Upload),
            ("PUT", "/b/k?uploadId=u", None, "Unknown", Effect::Key(Change::Other)),
            ("PUT", "/b/k?partNumber=1&uploadId=", None, "Unknown", Effect::Key(Change::Other)),
            ("POST", "/b/k?uploadId=", None, "Unknown", Effect::Key(Change::Other)),
            ("DELETE", "/b/k?uploadId=", None, "Unknown", Effect::Key(Change::Other)),
            ("POST", "/b/k?select&select-type=2", None, "SelectObjectContent", Effect::Read),
            ("POST", "/b/k?select", None, "Unknown", Effect::Key(Change::Other)),
            ("POST", "/b?invented", None, "Unknown", Effect::Settings),
            ("POST", "/b/k?uploads=", None, "CreateMultipartUpload", Effect::Upload),
            (
                "POST",
                "/b/k?uploadId=u",
                None,
                "CompleteMultipartUpload",
                Effect::Key(Change::Complete),
            ),
            ("DELETE", "/b/k?uploadId=u", None, "AbortMultipartUpload", Effect::Upload),
            ("DELETE", "/b/k", None, "DeleteObject", Effect::Key(Change::Delete)),
            ("DELETE", "/b/k?versionId=v", None, "DeleteObject", Effect::Key(Change::Other)),
            ("PUT", "/b/k?tagging", None, "PutObjectTagging", Effect::Key(Change::Tagging)),
            ("POST", "/b?delete", None, "DeleteObjects", Effect::Keys),
            ("POST", "/b", None, "PostObject", Effect::Key(Change::Put)),
            ("PUT", "/b", None, "CreateBucket", Effect::Bucket),
            ("PUT", "/b?versioning", None, "PutBucketSetting", Effect::Settings),
            ("GET", "/b?list-type=2", None, "ListObjectsV2", Effect::Read),
            ("GET", "/", None, "ListBuckets", Effect::Read),
        ] {
            let operation = of(method, target, header);
            assert_eq!((operation.name, operation.effect), (name, effect), "{method} {target}");
        }
    }

    #[test]
    fn a_form_is_an_upload_whatever_the_parameters_beside_it() {
        let address = Address::parse("h", "/b", Some("invented"), &[]).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, "Multipart/Form-Data; boundary=x".parse().unwrap());
        let operation = Operation::of(&Method::POST, &address, &headers);
        assert_eq!(operation.effect, Effect::Key(Change::Put));
    }

    #[test]
    fn two_operations_in_one_request_are_ambiguous_and_parameters_of_one_are_not() {
        let is =
            |path: &str, query| is_ambiguous(&Address::parse("h", path, Some(query), &[]).unwrap());
        for query in [
            "select&select-type=2&delete",
            "tagging&uploadId=u&partNumber=1",
            "uploadId=a&uploadId=b",
        ] {
            assert!(is("/b/k", query), "{query}");
        }
        for query in [
            "partNumber=1&uploadId=u&x-id=UploadPart",
            "tagging&versionId=v",
            "append&position=0",
            "",
        ] {
            assert!(!is("/b/k", query), "{query}");
        }
        assert!(!is("/b", "acl&policy"));
    }

    #[test]
    fn an_unknown_mutation_of_a_key_is_a_change_of_that_key() {
        assert_eq!(of("PUT", "/b/k?invented", None).effect, Effect::Key(Change::Other));
        assert_eq!(of("PATCH", "/b/k", None).effect, Effect::Key(Change::Other));
    }
}
