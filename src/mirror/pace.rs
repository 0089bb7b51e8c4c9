//! Budgets of the mirror: bytes and requests per second.
//!
//! A bucket of tokens that may be overdrawn: whoever comes takes what it needs at once and waits
//! until the bucket would have held it. So the sum keeps to the rate, everybody is served in the
//! order of coming, and nothing larger than the bucket starves.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::unfold;
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use tokio::time::Instant;

use crate::upstream::{Body, BoxError, sized};

/// What may be taken at once after a quiet time, in seconds of the rate.
const BURST: f64 = 0.25;
/// Bodies up to here are paid for as a whole before they are sent, so that none is left standing
/// half-way, which servers take for a dead client. Larger ones are paid for piece by piece.
const WHOLE_BYTES_MAX: u64 = 256 * 1024;
/// A piece.
const PIECE_BYTES: usize = 64 * 1024;

/// The budgets; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    bytes: Option<Arc<Bucket>>,
    requests: Option<Arc<Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// Per second.
    rate: f64,
    /// When the bucket is full again.
    full_at: Mutex<Instant>,
}

impl Bucket {
    fn new(rate: u64) -> Option<Arc<Self>> {
        #[allow(clippy::cast_precision_loss, reason = "a rate need not be exact to the byte")]
        let rate = rate as f64;
        let full_at = Mutex::new(Instant::now());
        (rate > 0.0).then(|| Arc::new(Self { rate, full_at }))
    }

    /// Takes so many at `now`; when they may be used.
    fn take(&self, amount: u64, now: Instant) -> Instant {
        #[allow(clippy::cast_precision_loss, reason = "likewise")]
        let cost = Duration::from_secs_f64(amount as f64 / self.rate);
        let burst = Duration::from_secs_f64(BURST);
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        *full_at = (*full_at).max(now) + cost;
        now.max(full_at.checked_sub(burst.max(cost)).unwrap_or(now))
    }
}

impl Pace {
    /// Rates per second; 0 for no limit.
    pub(super) fn new(bytes: u64, requests: u64) -> Self {
        Self { bytes: Bucket::new(bytes), requests: Bucket::new(requests) }
    }

    /// Waits until a request may be sent. Cancel-safe.
    pub(super) async fn request(&self) {
        take(self.requests.as_deref(), 1).await;
    }

    /// Waits until a body may be sent, or makes it wait piece by piece.
    pub(super) async fn body(&self, body: Body, length: u64) -> Body {
        let Some(bucket) = self.bytes.clone().filter(|_| length > 0) else { return body };
        if length <= WHOLE_BYTES_MAX {
            take(Some(&bucket), length).await;
            return body;
        }
        let pieces = unfold((body, Bytes::new(), bucket), async |(mut body, mut data, bucket)| {
            while data.is_empty() {
                match body.frame().await? {
                    Ok(frame) => data = frame.into_data().unwrap_or_default(),
                    Err(error) => return Some((Err(error), (body, data, bucket))),
                }
            }
            let piece = data.split_to(data.len().min(PIECE_BYTES));
            take(Some(&bucket), u64::try_from(piece.len()).unwrap_or(u64::MAX)).await;
            Some((Ok::<_, BoxError>(Frame::data(piece)), (body, data, bucket)))
        });
        sized(StreamBody::new(Box::pin(pieces)), length)
    }

    /// Time that so many bytes may take because of the budget alone, while `others` send too.
    pub(super) fn longest(&self, length: u64, others: usize) -> Duration {
        let Some(bucket) = &self.bytes else { return Duration::ZERO };
        #[allow(clippy::cast_precision_loss, reason = "a generous time-out")]
        let seconds = length as f64 / bucket.rate * others as f64;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
    }
}

async fn take(bucket: Option<&Bucket>, amount: u64) {
    if let Some(bucket) = bucket {
        tokio::time::sleep_until(bucket.take(amount, Instant::now())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_any_time_but_for_one_burst() {
        let bucket = Bucket::new(1000).unwrap();
        let begun = Instant::now();
        // 100 at a time: a quarter of a second's worth is free, then ten a second.
        let waits: Vec<u128> =
            (0..40).map(|_| bucket.take(100, begun).duration_since(begun).as_millis()).collect();
        assert_eq!(waits[..4], [0, 0, 50, 150]);
        assert_eq!(waits[39], 3750);
        // A quiet time fills the bucket and no more than that.
        let later = begun + Duration::from_mins(1);
        let waits: Vec<u128> =
            (0..4).map(|_| bucket.take(100, later).duration_since(later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 50, 150]);
    }

    #[test]
    fn what_is_larger_than_the_bucket_is_let_through_and_paid_for_by_the_next() {
        let bucket = Bucket::new(1000).unwrap();
        let begun = Instant::now();
        assert_eq!(bucket.take(5000, begun), begun);
        assert_eq!(bucket.take(100, begun).duration_since(begun).as_millis(), 4850);
    }

    #[tokio::test]
    async fn a_body_comes_out_whole_in_pieces() {
        let pace = Pace::new(1 << 40, 0);
        let data = Bytes::from(vec![7; 300 * 1024]);
        let length = u64::try_from(data.len()).unwrap();
        let mut body = pace.body(crate::upstream::full(data.clone()), length).await;
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(length));
        let mut out = Vec::new();
        while let Some(frame) = body.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= PIECE_BYTES);
            out.extend_from_slice(&piece);
        }
        assert_eq!(out, data);
    }

    #[tokio::test]
    async fn without_budgets_nothing_waits() {
        let pace = Pace::new(0, 0);
        pace.request().await;
        let body = pace.body(crate::upstream::full(Bytes::from_static(b"x")), 1).await;
        assert_eq!(http_body::Body::size_hint(&body).exact(), Some(1));
        assert_eq!(pace.longest(u64::MAX, 9), Duration::ZERO);
    }
}
