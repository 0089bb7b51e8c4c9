//! Request and response documents, gathered with a limit.

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::Body;
use http_body_util::BodyExt as _;

use super::error::S3Error;

/// Longest body of `DeleteObjects` (1000 keys of 1 KiB, escaped) and `CompleteMultipartUpload`
/// (10 000 parts with checksums).
pub(super) const DOCUMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Gathers a document of bounded size.
pub(super) async fn collect<B>(mut body: B) -> Result<Bytes, S3Error>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<S3Error>,
{
    let mut document = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(Into::into)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        if document.len() + data.len() > DOCUMENT_BYTES_MAX {
            return Err(S3Error::new(
                StatusCode::BAD_REQUEST,
                "MaxMessageLengthExceeded",
                "Your request was too big.",
            ));
        }
        document.extend_from_slice(data);
    }
    Ok(document.freeze())
}
