//! A person may end it at any moment; what is under way then is given a little time.

use std::time::Duration;

use tokio::sync::watch;

/// How long a request that is under way may go on: one that is dropped may still take effect.
const GRACE: Duration = Duration::from_secs(10);

/// Tells when to stop.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Follows a flag that turns true.
    pub fn new(flag: watch::Receiver<bool>) -> Self {
        Self(flag)
    }

    /// Is it time?
    pub fn is_set(&self) -> bool {
        *self.0.borrow()
    }

    /// Resolves a little after it is set; never while it is not.
    pub(super) async fn grace(&self) {
        let mut flag = self.0.clone();
        if flag.wait_for(|set| *set).await.is_err() {
            return std::future::pending().await;
        }
        tokio::time::sleep(GRACE).await;
    }
}
