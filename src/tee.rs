//! The tee: bodies kept while they stream to main, so that mirroring them costs no read of main.
//!
//! A cache and nothing more: losing any of it costs a read of main, never data. Small bodies are
//! kept in memory, larger ones in files, each kind within its budget (`TEE_MEMORY_BYTES`,
//! `TEE_SPOOL_BYTES`). Room is reserved for the whole body before its first byte is kept and
//! given back when the last handle drops, so the sum never exceeds the budget.

mod spool;

use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{Stream, unfold};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::oneshot;

use crate::s3::state::replicated_headers;
use spool::{Spool, SpoolWriter};

/// No single body takes more than this share of the memory, so that one large upload does not
/// push a thousand small ones to the read of main.
const MEMORY_SHARE: u64 = 16;
/// Likewise of the spool.
const SPOOL_SHARE: u64 = 4;

/// The budgets; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tee {
    memory: Arc<Budget>,
    disk: Arc<Budget>,
    spool: Option<Spool>,
}

#[derive(Debug)]
struct Budget {
    used: AtomicU64,
    limit: u64,
    share: u64,
}

#[derive(Debug)]
struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    fn new(limit: u64, share: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit, share })
    }

    fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        if bytes > self.limit / self.share {
            return None;
        }
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Reservation { budget: self.clone(), bytes })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Bytes that a kept body costs beside itself: handles, its place in the lanes.
const OVERHEAD: u64 = 512;

/// What was sent beside a body and belongs to the object.
///
/// Values are copies: a value as it came shares the whole buffer its request was read into.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct KeptHeaders {
    /// Content headers and user metadata, sorted.
    pub replicated: Vec<(HeaderName, HeaderValue)>,
    /// `x-amz-tagging`.
    pub tagging: Option<String>,
}

impl KeptHeaders {
    /// Copies what belongs to the object from the headers of its request.
    pub fn of(request: &HeaderMap) -> Self {
        let mut replicated = replicated_headers(request);
        for (name, value) in &mut replicated {
            // Both were valid where they come from.
            let copy = HeaderValue::from_bytes(value.as_bytes());
            *value = copy.unwrap_or_else(|_| HeaderValue::from_static(""));
            *name =
                HeaderName::from_bytes(name.as_str().as_bytes()).unwrap_or_else(|_| name.clone());
        }
        let tagging = request.get("x-amz-tagging").and_then(|value| value.to_str().ok());
        Self { replicated, tagging: tagging.map(str::to_owned) }
    }

    fn bytes(&self) -> u64 {
        let sizes =
            self.replicated.iter().map(|(name, value)| name.as_str().len() + value.len() + 80);
        let tagging = self.tagging.as_ref().map_or(0, String::len);
        u64::try_from(sizes.sum::<usize>() + tagging).unwrap_or(u64::MAX)
    }

    /// The media type, if one was sent.
    pub fn content_type(&self) -> Option<&HeaderValue> {
        let found = self.replicated.iter().find(|(name, _)| name == http::header::CONTENT_TYPE);
        found.map(|(_, value)| value)
    }
}

/// A body being kept.
#[derive(Debug)]
pub struct TeeWriter {
    sink: Sink,
    headers: KeptHeaders,
    length: u64,
    received: u64,
    reservation: Reservation,
}

#[derive(Debug)]
enum Sink {
    Memory(BytesMut),
    Spool(SpoolWriter),
}

/// A body that was kept, with what was sent beside it.
#[derive(Clone)]
pub struct TeedBody {
    content: Content,
    length: u64,
    headers: Arc<KeptHeaders>,
    reservation: Arc<Reservation>,
}

#[derive(Clone)]
enum Content {
    Memory(Bytes),
    Spool(Arc<File>, Arc<Mutex<Written>>),
}

/// Whether the spool thread has written all of a file.
enum Written {
    Waiting(oneshot::Receiver<bool>),
    Known(bool),
}

impl std::fmt::Debug for TeedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TeedBody({} bytes)", self.length)
    }
}

impl Tee {
    /// Keeps up to so many bytes over all requests; 0 turns either kind off. The files are below
    /// `data_dir`.
    pub fn open(memory_bytes: u64, spool_bytes: u64, data_dir: &Path) -> std::io::Result<Self> {
        let spool = (spool_bytes > 0).then(|| Spool::open(&data_dir.join("spool"))).transpose()?;
        Ok(Self {
            memory: Budget::new(memory_bytes, MEMORY_SHARE),
            disk: Budget::new(spool_bytes, SPOOL_SHARE),
            spool,
        })
    }

    /// Starts keeping a body of `length` bytes. `None`: too large, or no room right now.
    pub fn begin(&self, length: u64, request: &HeaderMap) -> Option<TeeWriter> {
        let headers = KeptHeaders::of(request);
        let weight = length.saturating_add(headers.bytes() + OVERHEAD);
        if let Some(reservation) = self.memory.reserve(weight) {
            let capacity = usize::try_from(length).ok()?;
            let sink = Sink::Memory(BytesMut::with_capacity(capacity));
            return Some(TeeWriter { sink, headers, length, received: 0, reservation });
        }
        let spool = self.spool.as_ref()?;
        let reservation = self.disk.reserve(weight)?;
        let sink = Sink::Spool(spool.begin()?);
        Some(TeeWriter { sink, headers, length, received: 0, reservation })
    }

    /// Bytes in use: memory, spool.
    pub fn used(&self) -> (u64, u64) {
        let used = |budget: &Budget| budget.used.load(Ordering::Relaxed);
        (used(&self.memory), used(&self.disk))
    }
}

impl TeeWriter {
    /// Keeps the next piece. A body longer than announced is not kept.
    pub fn write(&mut self, data: &Bytes) {
        self.received += u64::try_from(data.len()).unwrap_or(u64::MAX);
        if self.received > self.length {
            return;
        }
        match &mut self.sink {
            Sink::Memory(buffer) => buffer.extend_from_slice(data),
            Sink::Spool(spool) => spool.write(data),
        }
    }

    /// The body, if it is whole.
    pub fn finish(self) -> Option<TeedBody> {
        if self.received != self.length {
            return None;
        }
        let content = match self.sink {
            Sink::Memory(buffer) => Content::Memory(buffer.freeze()),
            Sink::Spool(spool) => {
                let (file, written) = spool.finish()?;
                Content::Spool(file, Arc::new(Mutex::new(Written::Waiting(written))))
            }
        };
        Some(TeedBody {
            content,
            length: self.received,
            headers: Arc::new(self.headers),
            reservation: Arc::new(self.reservation),
        })
    }
}

impl TeedBody {
    /// Bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What was sent beside it.
    pub fn headers(&self) -> &KeptHeaders {
        &self.headers
    }

    /// The bytes, if they are in memory.
    pub fn bytes(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes),
            Content::Spool(..) => None,
        }
    }

    /// Is all of it there? Waits until the disk has it; false when the disk failed.
    pub async fn whole(&self) -> bool {
        let Content::Spool(_, written) = &self.content else { return true };
        let lock = || written.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = std::mem::replace(&mut *lock(), Written::Known(false));
        let whole = match taken {
            Written::Known(whole) => whole,
            Written::Waiting(receiver) => receiver.await.unwrap_or(false),
        };
        *lock() = Written::Known(whole);
        whole
    }

    /// The bytes, piece by piece.
    pub fn stream(&self) -> impl Stream<Item = std::io::Result<Bytes>> + Send + use<> {
        let (content, length) = (self.content.clone(), self.length);
        // The reservation lives as long as the reading.
        let reservation = self.reservation.clone();
        unfold((content, 0, reservation), move |(content, at, reservation)| async move {
            if at >= length {
                return None;
            }
            let piece = match &content {
                Content::Memory(bytes) => Ok(bytes.clone()),
                Content::Spool(file, _) => spool::read(file.clone(), at, length - at).await,
            };
            let next = piece
                .as_ref()
                .map_or(length, |piece| at + u64::try_from(piece.len()).unwrap_or(length));
            Some((piece, (content, next, reservation)))
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt as _;

    use super::*;

    fn tee(memory: u64, spool: u64) -> (tempfile::TempDir, Tee) {
        let directory = tempfile::tempdir().unwrap();
        let tee = Tee::open(memory, spool, directory.path()).unwrap();
        (directory, tee)
    }

    fn kept(tee: &Tee, pieces: &[&'static [u8]]) -> Option<TeedBody> {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut writer = tee.begin(length.try_into().unwrap(), &HeaderMap::new())?;
        for piece in pieces {
            writer.write(&Bytes::from_static(piece));
        }
        writer.finish()
    }

    #[test]
    fn the_budget_bounds_what_is_kept_and_comes_back() {
        const BODY: u64 = 1000;
        let (_directory, tee) = tee(16 * (BODY + OVERHEAD), 0);
        let none = HeaderMap::new();
        let bodies: Vec<_> = (0..16).map(|_| tee.begin(BODY, &none).unwrap()).collect();
        assert!(tee.begin(1, &none).is_none());
        drop(bodies);
        assert_eq!(tee.used(), (0, 0));
        assert!(tee.begin(BODY + 1, &none).is_none(), "more than one share");
    }

    #[test]
    fn only_a_whole_body_is_handed_out() {
        let (_directory, tee) = tee(1 << 20, 0);
        for (announced, sent) in [(3, &b"ab"[..]), (3, &b"abcd"[..])] {
            let mut writer = tee.begin(announced, &HeaderMap::new()).unwrap();
            writer.write(&Bytes::copy_from_slice(sent));
            assert!(writer.finish().is_none());
        }
        let body = kept(&tee, &[b"ab", b"c"]).unwrap();
        assert_eq!((body.bytes().unwrap().as_ref(), tee.used()), (&b"abc"[..], (3 + OVERHEAD, 0)));
        drop(body);
        assert_eq!(tee.used(), (0, 0));
    }

    #[test]
    fn only_what_belongs_to_the_object_is_kept_beside_it() {
        let mut request = HeaderMap::new();
        for (name, value) in [
            ("x-amz-meta-a", "1"),
            ("content-type", "text/plain"),
            ("x-amz-tagging", "k=v"),
            ("x-amz-acl", "private"),
            ("user-agent", "a client"),
        ] {
            request.insert(name, HeaderValue::from_static(value));
        }
        let kept = KeptHeaders::of(&request);
        assert_eq!(kept.replicated.len(), 2);
        assert_eq!(kept.content_type().unwrap(), "text/plain");
        assert_eq!(kept.tagging.as_deref(), Some("k=v"));
    }

    #[tokio::test]
    async fn what_memory_has_no_room_for_goes_to_a_file_that_has_no_name() {
        let (directory, tee) = tee(16, 1 << 16);
        let room = 11 + OVERHEAD;
        let body = kept(&tee, &[b"hello ", b"spool"]).unwrap();
        assert!(body.bytes().is_none() && body.whole().await);
        assert_eq!(tee.used(), (0, room));
        let left = std::fs::read_dir(directory.path().join("spool")).unwrap().count();
        assert_eq!(left, 0, "nothing is left behind, whatever happens now");
        let stream = body.stream();
        drop(body);
        assert_eq!(tee.used(), (0, room), "reading keeps the room");
        let pieces: Vec<Bytes> = Box::pin(stream).try_collect().await.unwrap();
        assert_eq!(pieces.concat(), b"hello spool");
        assert_eq!(tee.used(), (0, 0));
    }

    #[test]
    fn without_a_spool_large_bodies_are_not_kept() {
        let (directory, tee) = tee(16, 0);
        assert!(tee.begin(11, &HeaderMap::new()).is_none());
        assert!(!directory.path().join("spool").exists());
    }
}
