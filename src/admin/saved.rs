//! Answers that are expensive to find.
//!
//! **P5** An answer serves for [`SHARE`] times as long as it took, so that whoever asks again and
//! again, a page that stays open say, keeps the disk and a processor busy for a tenth of the time
//! at most. A cheap one is found anew each time.

use std::time::Duration;

use tokio::time::Instant;

/// How many times as long as it took an answer serves.
const SHARE: u32 = 10;
/// What is cheaper than this is never saved.
const CHEAP: Duration = Duration::from_millis(20);

/// The last answer to one question.
pub(super) struct Saved<T>(tokio::sync::Mutex<Option<Kept<T>>>);

struct Kept<T> {
    answer: T,
    until: Instant,
}

impl<T> Default for Saved<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(None))
    }
}

impl<T: Clone> Saved<T> {
    /// The saved answer, or what `find` finds. One at a time finds; others wait for it.
    pub(super) async fn or<E>(&self, find: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let mut saved = self.0.lock().await;
        let begun = Instant::now();
        if let Some(kept) = &*saved
            && begun < kept.until
        {
            return Ok(kept.answer.clone());
        }
        let answer = find.await?;
        let now = Instant::now();
        let until = serves_until(now, now - begun);
        *saved = until.map(|until| Kept { answer: answer.clone(), until });
        Ok(answer)
    }
}

/// Until when an answer serves that has just been found.
fn serves_until(now: Instant, took: Duration) -> Option<Instant> {
    (took > CHEAP).then(|| now + took * SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expensive_answer_serves_for_ten_times_as_long_as_it_took_and_a_cheap_one_not_at_all() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(serves_until(now, second), Some(now + second * 10));
        assert_eq!(serves_until(now, Duration::from_millis(1)), None);
    }

    #[tokio::test]
    async fn what_was_cheap_is_found_each_time_and_what_serves_is_not_found_anew() {
        let saved = Saved::default();
        assert_eq!(saved.or(async { Ok::<u32, ()>(1) }).await, Ok(1));
        assert_eq!(saved.or(async { Ok::<u32, ()>(2) }).await, Ok(2));
        assert_eq!(saved.or(async { Err::<u32, ()>(()) }).await, Err(()));
        let until = Instant::now() + Duration::from_hours(1);
        *saved.0.lock().await = Some(Kept { answer: 3, until });
        assert_eq!(saved.or(async { Ok::<u32, ()>(4) }).await, Ok(3));
        *saved.0.lock().await = Some(Kept { answer: 3, until: Instant::now() });
        assert_eq!(saved.or(async { Ok::<u32, ()>(5) }).await, Ok(5));
    }
}
