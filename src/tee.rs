//! The tee: bodies kept while they stream to main, so that mirroring them costs no read of main.
//!
//! A cache and nothing more: losing any of it costs a read of main, never data. Small bodies are
//! kept in memory, larger ones in files, each kind within its budget (`TEE_MEMORY_BYTES`,
//! `TEE_SPOOL_BYTES`). Room is reserved for the whole body before its first byte is kept and
//! given back when the last handle drops, so the sum never exceeds the budget. Parts of multipart
//! uploads are bodies like any other, and wait for their upload to complete (`uploads`).

mod body;
mod budget;
mod headers;
mod spool;
mod uploads;

use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use tokio::time::Instant;

pub use body::TeedBody;
use body::{Content, SpooledFile};
use budget::{Budget, Reservation};
pub use headers::KeptHeaders;
use spool::{Spool, SpoolWriter};
pub use uploads::NewUpload;
use uploads::Uploads;

/// No single body takes more than this share of the memory, so that one large upload does not
/// push a thousand small ones to the read of main.
const MEMORY_SHARE: u64 = 16;
/// Likewise of the spool.
const SPOOL_SHARE: u64 = 4;
/// And all parts of one upload together, of memory and spool.
const UPLOAD_SHARE: u64 = 2;
/// Files at a time: each is an open descriptor, of which a process often has 1024, and clients'
/// connections need theirs.
const FILES_MAX: u64 = 512;

/// The budgets; cheap to clone.
#[derive(Clone)]
pub struct Tee {
    memory: Arc<Budget>,
    disk: Arc<Budget>,
    files: Arc<Budget>,
    spool: Option<Spool>,
    uploads: Arc<Uploads>,
    wanted: Wanted,
}

/// Will what is kept be taken soon?
type Wanted = Arc<dyn Fn() -> bool + Send + Sync>;

/// Bytes that a kept body costs beside itself: handles, its place in the lanes.
const OVERHEAD: u64 = 512;

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
    Spool(SpoolWriter, Reservation),
}

impl std::fmt::Debug for Tee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (memory, spool) = self.used();
        write!(f, "Tee({memory} bytes in memory, {spool} in files)")
    }
}

impl Tee {
    /// Keeps up to so many bytes over all requests; 0 turns either kind off. The files are below
    /// `data_dir`. Memory is filled in any case, because that costs next to nothing; files are begun
    /// only while somebody is there to take them (`wanted`).
    pub fn open(
        (memory_bytes, spool_bytes): (u64, u64),
        data_dir: &Path,
        wanted: impl Fn() -> bool + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let spool = (spool_bytes > 0).then(|| Spool::open(&data_dir.join("spool"))).transpose()?;
        Ok(Self {
            memory: Budget::new(memory_bytes, MEMORY_SHARE),
            disk: Budget::new(spool_bytes, SPOOL_SHARE),
            files: Budget::new(FILES_MAX, 1),
            spool,
            uploads: Arc::default(),
            wanted: Arc::new(wanted),
        })
    }

    /// Starts keeping a body of `length` bytes. `None`: too large, or no room right now.
    pub fn begin(&self, length: u64, request: &HeaderMap) -> Option<TeeWriter> {
        let weight = length.saturating_add(KeptHeaders::weight(request) + OVERHEAD);
        let (sink, reservation) = self.room(length, weight)?;
        // Only now, because copying them is wasted where there is no room.
        let headers = KeptHeaders::of(request);
        Some(TeeWriter { sink, headers, length, received: 0, reservation })
    }

    /// Copies what belongs to an object that is about to be uploaded in parts. `None`: no room.
    pub fn new_upload(&self, request: &HeaderMap) -> Option<NewUpload> {
        let reservation = self.memory.reserve(KeptHeaders::weight(request) + OVERHEAD)?;
        Some(NewUpload { headers: KeptHeaders::of(request), reservation })
    }

    /// Main calls the upload so; its parts may come.
    pub fn upload_begun(&self, upload_id: String, new: NewUpload) {
        self.uploads.begun(upload_id, new, Instant::now());
    }

    /// Starts keeping a part of `length` bytes. `None`: its upload did not begin here, or there is
    /// no room, and then nothing of the upload is kept.
    pub fn begin_part(&self, upload_id: &str, length: u64) -> Option<TeeWriter> {
        let bytes_max = self.memory.limit.saturating_add(self.disk.limit) / UPLOAD_SHARE;
        if !self.uploads.expects(upload_id, length, bytes_max, Instant::now()) {
            return None;
        }
        let Some((sink, reservation)) = self.room(length, length.saturating_add(OVERHEAD)) else {
            self.uploads.give_up(upload_id);
            return None;
        };
        let headers = KeptHeaders::default();
        Some(TeeWriter { sink, headers, length, received: 0, reservation })
    }

    /// Main has this part; one that was not kept makes its upload one that is not kept.
    pub fn keep_part(&self, upload_id: &str, number: u32, etag: &str, body: Option<TeedBody>) {
        self.uploads.part(upload_id, number, etag, body, Instant::now());
    }

    /// Drops what is kept of an upload.
    pub fn give_up(&self, upload_id: &str) {
        self.uploads.give_up(upload_id);
    }

    /// Main has completed the upload of these parts, `(number, ETag)` in order: the object, if all
    /// of it was kept.
    pub fn completed<'a>(
        &self,
        upload_id: &str,
        listed: impl Iterator<Item = (u32, &'a str)>,
    ) -> Option<TeedBody> {
        self.uploads.completed(upload_id, listed)
    }

    /// Finds room; forgotten uploads give theirs.
    fn room(&self, length: u64, weight: u64) -> Option<(Sink, Reservation)> {
        let spool = self.spool.as_ref().filter(|_| self.disk.allows(weight) && (self.wanted)());
        if spool.is_none() && !self.memory.allows(weight) {
            return None;
        }
        loop {
            if let Some(reservation) = self.memory.reserve(weight) {
                let capacity = usize::try_from(length).ok()?;
                return Some((Sink::Memory(BytesMut::with_capacity(capacity)), reservation));
            }
            if let Some(spool) = spool
                && let Some(reservation) = self.disk.reserve(weight)
                && let Some(place) = self.files.reserve(1)
            {
                return Some((Sink::Spool(spool.begin()?, place), reservation));
            }
            if !self.uploads.make_room(Instant::now()) {
                return None;
            }
        }
    }

    /// Bytes in use: memory, spool.
    pub fn used(&self) -> (u64, u64) {
        (self.memory.used(), self.disk.used())
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
            Sink::Spool(spool, _) => spool.write(data),
        }
    }

    /// The body, if it is whole.
    pub fn finish(self) -> Option<TeedBody> {
        if self.received != self.length {
            return None;
        }
        let content = match self.sink {
            Sink::Memory(buffer) => Content::Memory(buffer.freeze()),
            Sink::Spool(spool, place) => {
                let (file, written) = spool.finish()?;
                Content::Spool(Arc::new(SpooledFile::new(file, written, place)))
            }
        };
        Some(TeedBody {
            content,
            length: self.received,
            headers: Arc::new(self.headers),
            _reservation: Arc::new(self.reservation),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::TryStreamExt as _;
    use http::HeaderValue;

    use super::*;

    pub(super) fn tee(memory: u64, spool: u64) -> (tempfile::TempDir, Tee) {
        let directory = tempfile::tempdir().unwrap();
        let tee = Tee::open((memory, spool), directory.path(), || true).unwrap();
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
    fn while_nobody_takes_what_is_kept_no_file_is_begun() {
        let directory = tempfile::tempdir().unwrap();
        let is_wanted = Arc::new(AtomicBool::new(false));
        let wanted = is_wanted.clone();
        let wanted = move || wanted.load(Ordering::Relaxed);
        let tee = Tee::open((1 << 16, 1 << 20), directory.path(), wanted).unwrap();
        let large = 1 << 14;
        assert!(tee.begin(large, &HeaderMap::new()).is_none());
        assert!(tee.begin(16, &HeaderMap::new()).is_some(), "memory is there for the taking");
        is_wanted.store(true, Ordering::Relaxed);
        assert!(tee.begin(large, &HeaderMap::new()).is_some());
    }

    #[test]
    fn without_a_spool_large_bodies_are_not_kept() {
        let (directory, tee) = tee(16, 0);
        assert!(tee.begin(11, &HeaderMap::new()).is_none());
        assert!(!directory.path().join("spool").exists());
    }
}
