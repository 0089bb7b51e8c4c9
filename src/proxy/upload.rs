//! A client's body on its way to main.
//!
//! Streams piece by piece: decodes aws-chunked framing, counts, copies to the tee, and holds the
//! last piece back until two things are certain: the body is complete and good (trailer checksum
//! included), and the intent is durable (P2). At most one piece is held, so memory does not grow
//! with the body.
//!
//! A body that carried a checksum in its trailer is framed again as one unsigned chunk with that
//! trailer, so that main stores the client's checksum; any other decoded body goes plain. Where main
//! wants payloads signed, [`crate::upstream::payload`] frames and signs whatever comes from here.

mod framing;
mod transfer;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};

use super::error::S3Error;
use super::source::Source;
use crate::http1::splice::{Pipe, SpliceBody};
use crate::journal::{AppendError, Durable};
use crate::s3::checksum::ChecksumAlgorithm;
use crate::s3::chunked::{ChunkedDecoder, Decoded, Trailers};
use crate::tee::TeeWriter;
use crate::upstream::BoxError;
pub(super) use framing::Framing;
pub(super) use transfer::Transfer;

/// What the body waits for before its last bytes go.
#[derive(Debug)]
pub(super) struct Gate {
    /// The append that must be durable.
    pub(super) durable: Durable,
    /// Fail the upload when it cannot be?
    pub(super) required: bool,
}

/// A [`Gate`] being waited for.
struct Waiting {
    durable: Pin<Box<dyn Future<Output = Result<(), AppendError>> + Send>>,
    required: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Streaming,
    /// All is here and good; the held piece waits for the gate.
    Tail,
    Done,
}

/// The body as it is polled by who sends it.
pub(super) struct UploadBody {
    source: Source,
    decoder: Option<Box<ChunkedDecoder>>,
    undecoded: Bytes,
    framing: Framing,
    prefix: Option<Bytes>,
    held: Option<Bytes>,
    suffix: Option<Bytes>,
    trailer: Option<(ChecksumAlgorithm, HeaderValue)>,
    gate: Option<Waiting>,
    tee: Option<TeeWriter>,
    length: Option<u64>,
    received: u64,
    phase: Phase,
    transfer: Arc<Transfer>,
}

/// Parts an [`UploadBody`] is made of.
pub(super) struct Plan {
    pub(super) decoder: Option<Box<ChunkedDecoder>>,
    pub(super) framing: Framing,
    /// Bytes of the object, if announced.
    pub(super) length: Option<u64>,
    pub(super) gate: Option<Gate>,
    /// Keeps the body.
    pub(super) tee: Option<TeeWriter>,
}

impl UploadBody {
    pub(super) fn new(source: Source, plan: Plan) -> (Self, Arc<Transfer>) {
        let transfer = Arc::new(Transfer::default());
        let prefix = plan.length.and_then(|length| plan.framing.prefix(length));
        let body = Self {
            source,
            decoder: plan.decoder,
            undecoded: Bytes::new(),
            framing: plan.framing,
            prefix,
            held: None,
            suffix: None,
            trailer: None,
            gate: plan.gate.map(|gate| Waiting {
                durable: Box::pin(gate.durable.wait()),
                required: gate.required,
            }),
            tee: plan.tee,
            length: plan.length,
            received: 0,
            phase: Phase::Streaming,
            transfer: transfer.clone(),
        };
        (body, transfer)
    }

    fn fail<T>(&mut self, fault: S3Error) -> Poll<Option<Result<T, BoxError>>> {
        self.phase = Phase::Done;
        self.held = None;
        let error = BoxError::from(fault.message.clone());
        self.transfer.fail(fault);
        Poll::Ready(Some(Err(error)))
    }

    /// Takes in a piece of the object; yields what may go on now.
    fn accept(&mut self, data: Bytes) -> Option<Bytes> {
        self.count(data.len());
        if let Some(tee) = &mut self.tee {
            tee.write(&data);
        }
        let sure_to_continue =
            self.decoder.is_none() && self.length.is_some_and(|length| self.received < length);
        if sure_to_continue { Some(data) } else { self.held.replace(data) }
    }

    /// Does nobody here want to see the bytes?
    fn passes_unseen(&self) -> bool {
        matches!(self.framing, Framing::Plain)
            && self.decoder.is_none()
            && self.tee.is_none()
            && self.length.is_some()
    }

    fn count(&mut self, bytes: usize) {
        self.received += u64::try_from(bytes).unwrap_or(0);
        self.transfer.count(self.received);
    }

    fn complete(&mut self, trailers: Option<Trailers>) -> Result<(), S3Error> {
        if self.length.is_some_and(|length| length != self.received) {
            return Err(S3Error::new(
                http::StatusCode::BAD_REQUEST,
                "IncompleteBody",
                "You did not provide the number of bytes specified by the Content-Length HTTP header",
            ));
        }
        if let Framing::OneChunk(algorithm) | Framing::Signed(algorithm) = self.framing {
            let checksum = trailers.and_then(|trailers| trailers.checksum);
            let Some(checksum) = checksum else {
                return Err(S3Error::invalid_request("The announced trailer was not sent."));
            };
            self.suffix = self.framing.suffix(self.received, &checksum.value);
            if let Framing::Signed(_) = self.framing
                && let Ok(value) = HeaderValue::from_str(&checksum.value)
            {
                self.trailer = Some((algorithm, value));
            }
        }
        self.phase = Phase::Tail;
        Ok(())
    }

    /// Reads on until there is something to send or the body has ended.
    fn poll_stream(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if let Some(decoder) = &mut self.decoder
                && !self.undecoded.is_empty()
            {
                match decoder.decode(&mut self.undecoded) {
                    Ok(Decoded::Data(data)) => {
                        if let Some(piece) = self.accept(data) {
                            return Poll::Ready(Some(Ok(Frame::data(piece))));
                        }
                    }
                    Ok(Decoded::NeedMore) => {}
                    Ok(Decoded::End(trailers)) => {
                        if let Err(fault) = self.complete(Some(trailers)) {
                            return self.fail(fault);
                        }
                        return Poll::Ready(None);
                    }
                    Err(error) => return self.fail(error.into()),
                }
                continue;
            }
            match ready!(Pin::new(&mut self.source).poll_frame(context)) {
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else {
                        continue;
                    };
                    if self.decoder.is_some() {
                        self.undecoded = data;
                    } else if let Some(piece) = self.accept(data) {
                        return Poll::Ready(Some(Ok(Frame::data(piece))));
                    } else if self.length == Some(self.received) {
                        self.phase = Phase::Tail;
                        return Poll::Ready(None);
                    }
                }
                Some(Err(error)) => return self.fail(error),
                None => {
                    if let Some(decoder) = &mut self.decoder
                        && let Err(error) = decoder.finish_input()
                    {
                        return self.fail(error.into());
                    }
                    if let Err(fault) = self.complete(None) {
                        return self.fail(fault);
                    }
                    return Poll::Ready(None);
                }
            }
        }
    }

    /// Behind the last piece nothing may follow; reading the end keeps the connection usable.
    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S3Error>> {
        if !self.undecoded.is_empty() {
            return Poll::Ready(Err(S3Error::invalid_request("Data follows the last chunk.")));
        }
        while !self.source.is_end_stream() {
            match ready!(Pin::new(&mut self.source).poll_frame(context)) {
                None => break,
                Some(Ok(frame)) if frame.data_ref().is_none_or(Bytes::is_empty) => {}
                Some(Ok(_)) => {
                    return Poll::Ready(Err(S3Error::invalid_request(
                        "Data follows the last chunk.",
                    )));
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn poll_tail(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Err(fault) = ready!(self.poll_end(context)) {
            return self.fail(fault);
        }
        if let Some(Waiting { durable, required }) = &mut self.gate {
            let required = *required;
            let appended = ready!(durable.as_mut().poll(context));
            self.gate = None;
            if let Err(error) = appended
                && (required || error == AppendError::Full)
            {
                return self.fail(S3Error::slow_down(error.to_string()));
            }
        }
        if let Some(tee) = self.tee.take() {
            self.transfer.keep(tee.finish());
        }
        if !self.transfer.release() {
            return self.fail(S3Error::internal("main answered before it had the whole body"));
        }
        self.phase = Phase::Done;
        Poll::Ready(self.rest().map(Ok))
    }

    /// What follows once everything may go.
    fn rest(&mut self) -> Option<Frame<Bytes>> {
        if let Some(data) = self.held.take().or_else(|| self.suffix.take()) {
            return Some(Frame::data(data));
        }
        let (algorithm, value) = self.trailer.take()?;
        let name = HeaderName::from_static(algorithm.header_name());
        Some(Frame::trailers(HeaderMap::from_iter([(name, value)])))
    }
}

/// What nobody here wants to see can be moved, up to the last bytes, with which the request takes
/// effect.
impl SpliceBody for UploadBody {
    fn splices(&self) -> bool {
        self.passes_unseen() && self.source.splices()
    }

    fn poll_splice(
        &mut self,
        context: &mut Context<'_>,
        pipe: &mut Pipe,
        max: usize,
    ) -> Poll<Option<Result<usize, BoxError>>> {
        if self.phase != Phase::Streaming || self.held.is_some() || !self.passes_unseen() {
            return Poll::Ready(None);
        }
        match ready!(self.source.poll_splice(context, pipe, max)) {
            Some(Ok(moved)) => {
                self.count(moved);
                Poll::Ready(Some(Ok(moved)))
            }
            Some(Err(fault)) => self.fail(fault),
            None => Poll::Ready(None),
        }
    }
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Some(prefix) = this.prefix.take() {
            return Poll::Ready(Some(Ok(Frame::data(prefix))));
        }
        if this.phase == Phase::Streaming
            && let Some(frame) = ready!(this.poll_stream(context))
        {
            return Poll::Ready(Some(frame));
        }
        match this.phase {
            Phase::Streaming | Phase::Tail => this.poll_tail(context),
            Phase::Done => Poll::Ready(this.rest().map(Ok)),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            Some(length) => SizeHint::with_exact(self.framing.wire_length(length)),
            None => SizeHint::default(),
        }
    }
}
