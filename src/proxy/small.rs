//! Small bodies whose checksum stands behind them: the checksum is put in front.
//!
//! A trailer is the youngest form a checksum can have, and many services know only the older one, a
//! header. What is sent in one piece anyway is therefore gathered and decoded first: main stores the
//! client's checksum whichever forms it knows, and a body that is not what its trailer says is
//! refused before anything is recorded or sent. Larger bodies stream and keep their trailer.
//!
//! # Limits
//! [`INLINE_BODY_BYTES`] a request.

use bytes::BytesMut;
use http_body_util::BodyExt as _;

use super::error::S3Error;
use super::source::Source;
use super::upload::{Framing, Plan, UploadBody};
use super::{Admitted, INLINE_BODY_BYTES};

/// Decodes a small body with a checksum in its trailer; leaves any other as it is.
pub(super) async fn checksum_in_front(
    admitted: &mut Admitted,
    body: Source,
) -> Result<Source, S3Error> {
    let small = admitted.length.is_some_and(|length| length <= INLINE_BODY_BYTES);
    let Some(algorithm) = admitted.checksum_behind.filter(|_| small) else { return Ok(body) };
    let plan = Plan {
        decoder: admitted.decoder.take(),
        // The bytes of the object, then the trailer as such.
        framing: Framing::Signed(algorithm),
        length: admitted.length,
        gate: None,
        tee: None,
    };
    let (mut upload, transfer) = UploadBody::new(body, plan);
    let capacity = usize::try_from(admitted.length.unwrap_or(0)).unwrap_or(0);
    let mut whole = BytesMut::with_capacity(capacity);
    while let Some(frame) = upload.frame().await {
        let frame = frame.map_err(|error| {
            transfer.fault().unwrap_or_else(|| S3Error::internal(error.to_string()))
        })?;
        match frame.into_data() {
            Ok(data) => whole.extend_from_slice(&data),
            Err(frame) => {
                admitted.parts.headers.extend(frame.into_trailers().unwrap_or_default());
            }
        }
    }
    admitted.framing = Framing::Plain;
    Ok(Source::whole(whole.freeze()))
}
