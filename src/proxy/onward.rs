//! A change goes on when nobody waits for it any more.
//!
//! Main may have accepted a write whose client has left, so its intent has to be settled by what main
//! answers. Whoever waits for an [`Onward`] runs it himself, as most wait to the end and a task of its own
//! would cost every write two more wakings; dropped before its end it becomes that task.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::FutureExt as _;
use futures_util::future::CatchUnwind;
use tokio::runtime::Handle;

/// Work that is done to its end, or what it panicked with.
pub(super) struct Onward<F: Future<Output: Send> + Send + 'static> {
    /// None at its end.
    work: Option<Pin<Box<CatchUnwind<AssertUnwindSafe<F>>>>>,
}

impl<F: Future<Output: Send> + Send + 'static> Onward<F> {
    /// Work that has not begun: it does with the first poll, or when it is dropped.
    pub(super) fn new(work: F) -> Self {
        // Nothing that it shares with others is left half-changed: locks are not held across calls that
        // can fail, and what they guard says so where it is locked.
        Self { work: Some(Box::pin(AssertUnwindSafe(work).catch_unwind())) }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Onward<F> {
    type Output = Result<F::Output, Box<dyn Any + Send>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.work = None;
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Onward<F> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take()
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(async move {
                if let Err(panic) = work.await {
                    failed(&*panic);
                }
            });
        }
    }
}

/// Tells of a panic.
pub(super) fn failed(panic: &(dyn Any + Send)) {
    tracing::error!(panic = describe(panic), "a request failed unexpectedly");
}

fn describe(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Notify;

    use super::*;

    /// Work that waits to be told, and tells when it is done.
    fn work(
        told: &Arc<Notify>,
        done: &Arc<Notify>,
    ) -> Onward<impl Future<Output = u8> + Send + use<>> {
        let (told, done) = (told.clone(), done.clone());
        Onward::new(async move {
            told.notified().await;
            done.notify_one();
            7
        })
    }

    #[tokio::test]
    async fn who_waits_gets_what_it_comes_to() {
        let (told, done) = <(Arc<Notify>, Arc<Notify>)>::default();
        told.notify_one();
        assert_eq!(work(&told, &done).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn nobody_waits_and_it_is_done_all_the_same() {
        let (told, done) = <(Arc<Notify>, Arc<Notify>)>::default();
        let begun = tokio::time::timeout(Duration::ZERO, work(&told, &done)).await;
        assert!(begun.is_err(), "it was dropped where it waits");
        told.notify_one();
        done.notified().await;
        // Nor does it need to have begun.
        drop(work(&told, &done));
        told.notify_one();
        done.notified().await;
    }

    #[tokio::test]
    async fn a_panic_is_told_and_not_run_again() {
        let failing = Onward::new(async { panic!("no {}", "more") });
        let panic: Result<(), _> = failing.await;
        assert_eq!(describe(&*panic.unwrap_err()), "no more");
    }
}
