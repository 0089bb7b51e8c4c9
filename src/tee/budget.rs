//! Room for what is kept: taken as a whole, and given back when the last handle drops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes, or files, that may be in use at a time.
#[derive(Debug)]
pub(super) struct Budget {
    used: AtomicU64,
    /// In all.
    pub(super) limit: u64,
    /// One taker gets this part of the limit at most.
    share: u64,
}

/// Room that is given back when it is dropped.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    amount: u64,
}

impl Budget {
    pub(super) fn new(limit: u64, share: u64) -> Arc<Self> {
        Arc::new(Self { used: AtomicU64::new(0), limit, share })
    }

    /// May one body take so much, if there is room?
    pub(super) fn allows(&self, amount: u64) -> bool {
        amount <= self.limit / self.share
    }

    pub(super) fn reserve(self: &Arc<Self>, amount: u64) -> Option<Reservation> {
        if !self.allows(amount) {
            return None;
        }
        let add = |used: u64| used.checked_add(amount).filter(|sum| *sum <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        Some(Reservation { budget: self.clone(), amount })
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}
