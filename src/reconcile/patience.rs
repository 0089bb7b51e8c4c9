//! Questions that are asked again before a run gives up.

use std::fmt::Display;
use std::time::Duration;

/// Tries of one step, and of one page of a listing.
pub(super) const TRIES_MAX: u32 = 5;
/// First pause between tries, doubled.
pub(super) const PAUSE: Duration = Duration::from_millis(500);

/// Asks until there is an answer, a refusal that waiting does not change, or patience ends.
pub(super) async fn tried<A, E: Display, F: Future<Output = Result<A, E>>>(
    ask: impl Fn() -> F,
    is_transient: impl Fn(&E) -> bool,
) -> Result<A, E> {
    let (mut tries, mut pause) = (1, PAUSE);
    loop {
        match ask().await {
            Err(error) if is_transient(&error) && tries < TRIES_MAX => {
                tracing::warn!(%error, "it is tried again");
                tries += 1;
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            result => return result,
        }
    }
}
