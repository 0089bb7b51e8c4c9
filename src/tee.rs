//! The tee: bodies kept while they stream to main, so that mirroring them costs no read of main.
//!
//! A cache and nothing more: losing any of it costs a read of main, never data. Memory is
//! reserved for the whole body before its first byte is kept and given back when the last handle
//! drops, so the sum never exceeds the budget.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// No single body takes more than this share of the budget, so that one large upload does not
/// push a thousand small ones to the read of main.
const SHARE: u64 = 16;

/// The budget; cheap to clone.
#[derive(Debug, Clone)]
pub struct Tee {
    memory: Arc<Budget>,
}

#[derive(Debug)]
struct Budget {
    used: AtomicU64,
    limit: u64,
}

#[derive(Debug)]
struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A body being kept.
#[derive(Debug)]
pub struct TeeWriter {
    buffer: BytesMut,
    overran: bool,
    reservation: Reservation,
}

/// A body that was kept, whole, with what was sent beside it.
#[derive(Clone)]
pub struct TeedBody {
    bytes: Bytes,
    headers: Arc<HeaderMap>,
    _reservation: Arc<Reservation>,
}

impl std::fmt::Debug for TeedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TeedBody({} bytes)", self.bytes.len())
    }
}

impl Tee {
    /// A tee that keeps up to `memory_bytes` over all requests; 0 turns it off.
    pub fn new(memory_bytes: u64) -> Self {
        Self { memory: Arc::new(Budget { used: AtomicU64::new(0), limit: memory_bytes }) }
    }

    /// Starts keeping a body of `length` bytes. `None`: too large, or no room right now.
    pub fn begin(&self, length: u64) -> Option<TeeWriter> {
        let budget = &self.memory;
        if length > budget.limit / SHARE {
            return None;
        }
        let reserve = |used: u64| used.checked_add(length).filter(|sum| *sum <= budget.limit);
        budget.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, reserve).ok()?;
        let reservation = Reservation { budget: budget.clone(), bytes: length };
        let capacity = usize::try_from(length).ok()?;
        Some(TeeWriter { buffer: BytesMut::with_capacity(capacity), overran: false, reservation })
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.memory.used.load(Ordering::Relaxed)
    }
}

impl TeeWriter {
    /// Keeps the next piece. A body longer than announced is cut, and [`TeeWriter::finish`]
    /// then yields nothing.
    pub fn write(&mut self, data: &[u8]) {
        let length = u64::try_from(self.buffer.len() + data.len()).unwrap_or(u64::MAX);
        self.overran |= length > self.reservation.bytes;
        if !self.overran {
            self.buffer.extend_from_slice(data);
        }
    }

    /// The body, if it is whole, with the headers of its request.
    pub fn finish(self, headers: HeaderMap) -> Option<TeedBody> {
        let whole = u64::try_from(self.buffer.len()) == Ok(self.reservation.bytes);
        (whole && !self.overran).then(|| TeedBody {
            bytes: self.buffer.freeze(),
            headers: Arc::new(headers),
            _reservation: Arc::new(self.reservation),
        })
    }
}

impl TeedBody {
    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The headers that belong to the object, and `x-amz-tagging`.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_bounds_what_is_kept_and_comes_back() {
        let tee = Tee::new(160);
        let bodies: Vec<_> = (0..16).map(|_| tee.begin(10).unwrap()).collect();
        assert!(tee.begin(1).is_none());
        drop(bodies);
        assert_eq!(tee.used(), 0);
        assert!(tee.begin(11).is_none(), "more than one share");
    }

    #[test]
    fn only_a_whole_body_is_handed_out() {
        let tee = Tee::new(1600);
        let mut short = tee.begin(3).unwrap();
        short.write(b"ab");
        assert!(short.finish(HeaderMap::new()).is_none());
        let mut whole = tee.begin(3).unwrap();
        whole.write(b"ab");
        whole.write(b"c");
        let body = whole.finish(HeaderMap::new()).unwrap();
        assert_eq!((&body.bytes()[..], tee.used()), (&b"abc"[..], 3));
        drop(body);
        assert_eq!(tee.used(), 0);
    }
}
