//! So many units a second and no more: keys for `--rate`, bytes for `--bandwidth`.
//!
//! A debt model: whoever takes pays first and waits until the debt before was paid off. So one
//! large object goes through at full speed and whatever follows waits for its share; over time
//! the pace holds.

use std::time::Duration;

use tokio::time::Instant;

/// A pace; without a limit it never waits.
#[derive(Debug, Clone)]
pub struct Pace {
    per_second: Option<u64>,
    free_at: Instant,
}

impl Pace {
    /// A pace of that many units a second.
    pub fn new(per_second: Option<u64>) -> Self {
        Self { per_second: per_second.filter(|limit| *limit > 0), free_at: Instant::now() }
    }

    /// Takes `units`, after the units before have had their time. Cancel-safe: a wait that is
    /// given up has taken nothing.
    pub async fn take(&mut self, units: u64) {
        let Some(per_second) = self.per_second else { return };
        tokio::time::sleep_until(self.free_at).await;
        self.free_at = self.free_at.max(Instant::now()) + time_for(units, per_second);
    }
}

fn time_for(units: u64, per_second: u64) -> Duration {
    let nanos = u128::from(units) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_units_by_pace() {
        assert_eq!(time_for(500, 1000), Duration::from_millis(500));
        assert_eq!(time_for(5 << 40, 1 << 20), Duration::from_secs(5 << 20));
    }

    #[tokio::test]
    async fn what_was_taken_is_waited_for_by_the_next() {
        let begun = Instant::now();
        let mut pace = Pace::new(Some(100));
        pace.take(5).await;
        assert!(begun.elapsed() < Duration::from_millis(50), "the first does not wait");
        pace.take(5).await;
        assert!(begun.elapsed() >= Duration::from_millis(50));
        Pace::new(None).take(u64::MAX).await;
    }
}
