//! What is known of an upload, shared by the body that streams and whoever judges what became of it.
//!
//! # Promises
//! - Its last bytes go or stay, and whoever decides first decides for good: a request that is judged to have
//!   been without effect can have none later.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::proxy::error::S3Error;
use crate::tee::TeedBody;

/// The request cannot take effect yet.
const HELD: u8 = 0;
/// Its last bytes are on their way.
const RELEASED: u8 = 1;
/// It never will: its last bytes stay here.
const WITHHELD: u8 = 2;

/// What is known of an upload while and after it streams; shared with whoever judges it.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Transfer {
    tail: AtomicU8,
    bytes: AtomicU64,
    fault: OnceLock<S3Error>,
    teed: Mutex<Option<TeedBody>>,
}

impl Transfer {
    /// Lets the last bytes go, so that the request can take effect. False: it was decided that
    /// they never will.
    pub(in crate::proxy) fn release(&self) -> bool {
        let decided =
            self.tail.compare_exchange(HELD, RELEASED, Ordering::AcqRel, Ordering::Acquire);
        decided.is_ok() || decided == Err(RELEASED)
    }

    /// Keeps the last bytes back for good. False: they are already on their way.
    pub(in crate::proxy) fn withhold(&self) -> bool {
        let decided =
            self.tail.compare_exchange(HELD, WITHHELD, Ordering::AcqRel, Ordering::Acquire);
        decided.is_ok() || decided == Err(WITHHELD)
    }

    /// So many bytes of the object have been received by now.
    pub(super) fn count(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Bytes of the object received so far.
    pub(in crate::proxy) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Says what is wrong with the body. The first fault is the cause of all others.
    pub(super) fn fail(&self, fault: S3Error) {
        self.fault.get_or_init(|| fault);
    }

    /// What was wrong with the body, if that is why the upload ended.
    pub(in crate::proxy) fn fault(&self) -> Option<S3Error> {
        self.fault.get().cloned()
    }

    /// Keeps a body.
    pub(in crate::proxy) fn keep(&self, body: Option<TeedBody>) {
        *self.teed.lock().unwrap_or_else(PoisonError::into_inner) = body;
    }

    /// The kept body.
    pub(in crate::proxy) fn take_teed(&self) -> Option<TeedBody> {
        self.teed.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_decides_first_whether_the_last_bytes_go_decides_for_good() {
        let transfer = Transfer::default();
        assert!(transfer.release() && transfer.release());
        assert!(!transfer.withhold(), "they are on their way");
        let transfer = Transfer::default();
        assert!(transfer.withhold() && transfer.withhold());
        assert!(!transfer.release(), "it was judged to be without effect");
    }

    #[test]
    fn the_first_fault_is_told() {
        let transfer = Transfer::default();
        assert!(transfer.fault().is_none());
        transfer.fail(S3Error::internal("the cause"));
        transfer.fail(S3Error::internal("what followed"));
        assert_eq!(transfer.fault().unwrap().message, "the cause");
    }
}
