//! A bucket of one service, key by key: pages are read as they are needed, one at a time.
//!
//! # Bounds
//! One page of at most 1000 keys is in memory.
//!
//! # Trouble
//! A question that may be answered later is asked again, with pauses up to 15 seconds; a
//! listing in the service does so for ever, because a main that is away for a night must not end
//! a job of a week. A store whose token leads in a circle is an error, not an endless loop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::s3::listing::{From, Listed};
use crate::upstream::Upstream;
use crate::upstream::ask::AskError;

/// First pause before a question is asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What a listing is of.
pub struct Place {
    /// The service.
    pub upstream: Arc<Upstream>,
    /// Its name in reasons: `main` or `mirror`.
    pub who: &'static str,
    /// Bucket, as this service names it.
    pub bucket: String,
    /// Only keys that begin with this.
    pub prefix: String,
    /// Is a bucket that is not there one without keys?
    pub may_be_missing: bool,
    /// Tries of one page; `None` for as many as it takes.
    pub tries_max: Option<u32>,
}

/// A listing under way.
pub struct Lister {
    place: Place,
    from: From,
    ended: bool,
    page: VecDeque<Listed>,
    /// The last key of the last page.
    last: Option<String>,
    in_order: bool,
}

impl Lister {
    /// A listing that begins behind `after`.
    pub fn new(place: Place, after: Option<String>) -> Self {
        let from = after.map_or(From::Start, From::After);
        let page = VecDeque::new();
        Self { place, from, ended: false, page, last: None, in_order: true }
    }

    /// The next key, if there is one, without taking it.
    pub async fn peek(&mut self) -> Result<Option<&Listed>, String> {
        while self.page.is_empty() && !self.ended {
            self.read().await?;
        }
        Ok(self.page.front())
    }

    /// Takes the key that [`Lister::peek`] showed.
    pub fn take(&mut self) -> Option<Listed> {
        self.page.pop_front()
    }

    /// Have all keys so far come in the order of their bytes, as S3 lists?
    pub fn in_order(&self) -> bool {
        self.in_order
    }

    async fn read(&mut self) -> Result<(), String> {
        let Place { upstream, who, bucket, prefix, may_be_missing, tries_max } = &self.place;
        let (mut tries, mut pause) = (0u32, PAUSE);
        let page = loop {
            match upstream.list(bucket, prefix, &self.from).await {
                Ok(page) => break page,
                Err(error) if *may_be_missing && error.bucket_missing() => {
                    self.ended = true;
                    return Ok(());
                }
                Err(error) => {
                    tries += 1;
                    let gives_up = tries_max.is_some_and(|max| tries >= max);
                    if gives_up || !worth_waiting(&error) {
                        return Err(format!("{who}: bucket {bucket}: {error}"));
                    }
                    tracing::warn!(who, bucket, %error, tries, "a listing waits");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        };
        for object in &page.objects {
            let follows = self.last.as_ref().is_none_or(|last| *last < object.key);
            self.in_order &= follows;
            self.last = Some(object.key.clone());
        }
        let next = match (page.truncated, page.token, page.objects.last()) {
            (false, ..) => None,
            (true, Some(token), _) => Some(From::Token(token)),
            (true, None, Some(last)) => Some(From::After(last.key.clone())),
            (true, None, None) => {
                return Err(format!("{who}: bucket {bucket}: an empty page that is not the last"));
            }
        };
        match next {
            None => self.ended = true,
            Some(next) if next == self.from => {
                return Err(format!("{who}: bucket {bucket}: the listing leads in a circle"));
            }
            Some(next) => self.from = next,
        }
        self.page.extend(page.objects);
        Ok(())
    }
}

/// Credentials and permissions get mended while a job waits; a bucket that is not there, or an
/// answer that is no listing, does not change by waiting.
fn worth_waiting(error: &AskError) -> bool {
    error.is_transient() || matches!(error, AskError::Refused { status: 401 | 403, .. })
}
