//! Names of S3 event notifications: what a request did, as other programs are told of it.

use serde::{Deserialize, Serialize};

use super::operation::Change;

/// Which event a request makes, if it takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventName {
    /// `ObjectCreated:Put`
    #[serde(rename = "ObjectCreated:Put")]
    CreatedPut,
    /// `ObjectCreated:Post`
    #[serde(rename = "ObjectCreated:Post")]
    CreatedPost,
    /// `ObjectCreated:Copy`
    #[serde(rename = "ObjectCreated:Copy")]
    CreatedCopy,
    /// `ObjectCreated:CompleteMultipartUpload`
    #[serde(rename = "ObjectCreated:CompleteMultipartUpload")]
    CreatedComplete,
    /// `ObjectRemoved:Delete`
    #[serde(rename = "ObjectRemoved:Delete")]
    Removed,
    /// `ObjectRemoved:DeleteMarkerCreated`
    #[serde(rename = "ObjectRemoved:DeleteMarkerCreated")]
    MarkerCreated,
    /// `ObjectTagging:Put`
    #[serde(rename = "ObjectTagging:Put")]
    TaggingPut,
    /// `ObjectTagging:Delete`
    #[serde(rename = "ObjectTagging:Delete")]
    TaggingDelete,
    /// `ObjectAcl:Put`
    #[serde(rename = "ObjectAcl:Put")]
    AclPut,
    /// A change that the request does not tell: what main has afterwards names it.
    #[serde(rename = "any")]
    Any,
}

impl EventName {
    /// The event of an operation by its API name and the change of one key. `None` for what S3
    /// does not notify of either.
    pub fn of(operation: &str, change: Change) -> Option<Self> {
        Some(match (operation, change) {
            // S3 has no event for these.
            (_, Change::Bucket)
            | (
                "PutObjectRetention"
                | "PutObjectLegalHold"
                | "UpdateObjectEncryption"
                | "PutObjectAnnotation"
                | "DeleteObjectAnnotation",
                _,
            ) => return None,
            ("PostObject", _) => Self::CreatedPost,
            ("PutObject" | "AppendObject", _) | (_, Change::Put) => Self::CreatedPut,
            (_, Change::Copy) => Self::CreatedCopy,
            (_, Change::Complete) => Self::CreatedComplete,
            ("DeleteObject" | "DeleteObjects", _) | (_, Change::Delete) => Self::Removed,
            ("DeleteObjectTagging", _) => Self::TaggingDelete,
            (_, Change::Tagging) => Self::TaggingPut,
            ("PutObjectAcl", _) => Self::AclPut,
            (_, Change::Other) => Self::Any,
        })
    }

    /// As S3 writes it; [`EventName::Any`] has no name of its own.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreatedPut | Self::Any => "ObjectCreated:Put",
            Self::CreatedPost => "ObjectCreated:Post",
            Self::CreatedCopy => "ObjectCreated:Copy",
            Self::CreatedComplete => "ObjectCreated:CompleteMultipartUpload",
            Self::Removed => "ObjectRemoved:Delete",
            Self::MarkerCreated => "ObjectRemoved:DeleteMarkerCreated",
            Self::TaggingPut => "ObjectTagging:Put",
            Self::TaggingDelete => "ObjectTagging:Delete",
            Self::AclPut => "ObjectAcl:Put",
        }
    }

    /// Does the key exist afterwards?
    pub fn leaves_an_object(self) -> bool {
        !matches!(self, Self::Removed | Self::MarkerCreated | Self::Any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_of_a_key_has_the_event_s3_would_send() {
        let name = |operation, change| EventName::of(operation, change).map(EventName::as_str);
        assert_eq!(name("PutObject", Change::Put), Some("ObjectCreated:Put"));
        assert_eq!(name("PostObject", Change::Put), Some("ObjectCreated:Post"));
        assert_eq!(name("CopyObject", Change::Copy), Some("ObjectCreated:Copy"));
        assert_eq!(name("DeleteObject", Change::Delete), Some("ObjectRemoved:Delete"));
        // A version of its own.
        assert_eq!(name("DeleteObject", Change::Other), Some("ObjectRemoved:Delete"));
        assert_eq!(name("DeleteObjectTagging", Change::Tagging), Some("ObjectTagging:Delete"));
        assert_eq!(name("PutObjectTagging", Change::Tagging), Some("ObjectTagging:Put"));
        assert_eq!(name("PutObjectAcl", Change::Other), Some("ObjectAcl:Put"));
        assert_eq!(
            name("CompleteMultipartUpload", Change::Complete),
            Some("ObjectCreated:CompleteMultipartUpload")
        );
        assert_eq!(EventName::of("RenameObject", Change::Other), Some(EventName::Any));
    }

    #[test]
    fn what_s3_does_not_notify_of_is_no_event() {
        assert_eq!(EventName::of("CreateBucket", Change::Bucket), None);
        assert_eq!(EventName::of("PutObjectRetention", Change::Other), None);
    }

    #[test]
    fn the_journal_keeps_names_as_s3_writes_them() {
        let text = serde_json::to_string(&EventName::MarkerCreated).unwrap();
        assert_eq!(text, "\"ObjectRemoved:DeleteMarkerCreated\"");
        assert_eq!(serde_json::from_str::<EventName>("\"any\"").unwrap(), EventName::Any);
    }
}
