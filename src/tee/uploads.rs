//! Parts of multipart uploads, kept until their upload completes.
//!
//! Only uploads that began here are kept, because what belongs to the object is sent with their
//! beginning. An upload of which one part cannot be kept is given up as a whole: the object would
//! have to be read from main anyway, so its other parts need not take room. Like everything here
//! a cache: nothing of it survives the process.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::body::{Content, TeedBody};
use super::budget::Reservation;
use super::headers::KeptHeaders;

/// Uploads at a time; beyond that the one untouched longest is given up.
const UPLOADS_MAX: usize = 1024;
/// An upload nothing was heard of for so long is given up.
const IDLE: Duration = Duration::from_hours(1);
/// And for so long, when its room is wanted for something that is happening now.
const IDLE_WHEN_CROWDED: Duration = Duration::from_mins(1);

/// An upload that is about to begin.
#[derive(Debug)]
pub struct NewUpload {
    pub(super) headers: KeptHeaders,
    pub(super) reservation: Reservation,
}

/// Uploads under way.
#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<HashMap<String, Upload>>);

#[derive(Debug)]
struct Upload {
    headers: Arc<KeptHeaders>,
    reservation: Arc<Reservation>,
    /// `ETag` and body by number.
    parts: BTreeMap<u32, (String, TeedBody)>,
    /// Of the parts that are here.
    bytes: u64,
    touched: Instant,
}

impl Uploads {
    /// An upload has begun.
    pub(super) fn begun(&self, upload_id: String, new: NewUpload, now: Instant) {
        let mut uploads = self.lock();
        let mut given_up: Vec<Upload> =
            uploads.extract_if(|_, upload| upload.touched + IDLE <= now).map(second).collect();
        if uploads.len() >= UPLOADS_MAX {
            given_up.extend(longest_untouched(&mut uploads, now));
        }
        let (headers, reservation) = (Arc::new(new.headers), Arc::new(new.reservation));
        let parts = BTreeMap::new();
        let upload = Upload { headers, reservation, parts, bytes: 0, touched: now };
        given_up.extend(uploads.insert(upload_id, upload));
        // Closing files takes time that others should not wait for.
        drop(uploads);
    }

    /// May a part of `length` bytes be kept? Not if its upload is unknown, or would then have more
    /// than `bytes_max`; the latter gives it up.
    pub(super) fn expects(
        &self,
        upload_id: &str,
        length: u64,
        bytes_max: u64,
        now: Instant,
    ) -> bool {
        let mut uploads = self.lock();
        let Some(upload) = uploads.get_mut(upload_id) else { return false };
        upload.touched = now;
        if upload.bytes.saturating_add(length) <= bytes_max {
            return true;
        }
        let given_up = uploads.remove(upload_id);
        drop(uploads);
        drop(given_up);
        false
    }

    /// Main has a part. One that was not kept (`None`) gives its upload up.
    pub(super) fn part(
        &self,
        upload_id: &str,
        number: u32,
        etag: &str,
        body: Option<TeedBody>,
        now: Instant,
    ) {
        let mut uploads = self.lock();
        let replaced = match (uploads.get_mut(upload_id), body) {
            (Some(upload), Some(body)) => {
                upload.touched = now;
                upload.bytes = upload.bytes.saturating_add(body.length());
                let replaced = upload.parts.insert(number, (etag.to_owned(), body));
                let freed = replaced.as_ref().map_or(0, |(_, body)| body.length());
                upload.bytes = upload.bytes.saturating_sub(freed);
                replaced
            }
            (_, body) => {
                let given_up = uploads.remove(upload_id);
                drop(uploads);
                drop((given_up, body));
                return;
            }
        };
        drop(uploads);
        drop(replaced);
    }

    /// The upload is over, or not worth keeping.
    pub(super) fn give_up(&self, upload_id: &str) {
        let given_up = self.lock().remove(upload_id);
        drop(given_up);
    }

    /// Gives up the upload untouched longest, if it has been for a while. True: there is more room
    /// now.
    pub(super) fn make_room(&self, now: Instant) -> bool {
        let given_up = longest_untouched(&mut self.lock(), now.checked_sub(IDLE_WHEN_CROWDED));
        given_up.is_some()
    }

    /// The upload was completed of these parts, `(number, ETag)` in order. Yields the object if
    /// all of them are here.
    pub(super) fn completed<'a>(
        &self,
        upload_id: &str,
        listed: impl Iterator<Item = (u32, &'a str)>,
    ) -> Option<TeedBody> {
        let mut upload = self.lock().remove(upload_id)?;
        let mut parts = Vec::new();
        for (number, listed_etag) in listed {
            let (etag, body) = upload.parts.remove(&number)?;
            if etag != listed_etag {
                return None;
            }
            parts.push(body);
        }
        let length = parts.iter().map(TeedBody::length).sum();
        let content = Content::Parts(parts.into());
        (length > 0).then(|| TeedBody {
            content,
            length,
            headers: upload.headers,
            _reservation: upload.reservation,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn second<A, B>(pair: (A, B)) -> B {
    pair.1
}

/// Takes out the upload that was touched first, if that was before `before`.
fn longest_untouched(
    uploads: &mut HashMap<String, Upload>,
    before: impl Into<Option<Instant>>,
) -> Option<Upload> {
    let before = before.into()?;
    let (id, upload) = uploads.iter().min_by_key(|(_, upload)| upload.touched)?;
    if upload.touched > before {
        return None;
    }
    let id = id.clone();
    uploads.remove(&id)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::super::tests::tee;
    use super::super::{OVERHEAD, Tee};
    use super::*;

    fn begin(tee: &Tee, upload_id: &str) {
        let mut request = HeaderMap::new();
        request.insert("x-amz-meta-a", HeaderValue::from_static("1"));
        tee.upload_begun(upload_id.to_owned(), tee.new_upload(&request).unwrap());
    }

    fn part(tee: &Tee, upload_id: &str, number: u32, etag: &str, data: &'static [u8]) -> bool {
        let Some(mut writer) = tee.begin_part(upload_id, data.len().try_into().unwrap()) else {
            return false;
        };
        writer.write(&Bytes::from_static(data));
        tee.keep_part(upload_id, number, etag, writer.finish());
        true
    }

    #[tokio::test]
    async fn an_object_is_its_listed_parts_with_what_was_sent_at_the_beginning() {
        let (_directory, tee) = tee(1 << 20, 0);
        begin(&tee, "u");
        assert!(part(&tee, "u", 2, "two", b"world"));
        assert!(part(&tee, "u", 1, "old", b"HELLO "));
        assert!(part(&tee, "u", 1, "one", b"hello "));
        assert!(part(&tee, "u", 9, "nine", b"left out"));
        let body = tee.completed("u", [(1, "one"), (2, "two")].into_iter()).unwrap();
        assert_eq!((body.length(), body.parts().unwrap().len()), (11, 2));
        assert_eq!(body.headers().replicated.len(), 1);
        assert!(body.whole().await);
        drop(body);
        assert_eq!(tee.used(), (0, 0), "all room is given back");
    }

    #[test]
    fn a_part_that_is_missing_or_another_one_makes_the_object_not_kept() {
        let (_directory, tee) = tee(1 << 20, 0);
        for listed in [vec![(1, "one"), (2, "two")], vec![(1, "other")]] {
            begin(&tee, "u");
            assert!(part(&tee, "u", 1, "one", b"hello"));
            assert!(tee.completed("u", listed.into_iter()).is_none());
            assert_eq!(tee.used(), (0, 0));
        }
        assert!(!part(&tee, "unknown", 1, "one", b"hello"), "it began elsewhere");
    }

    #[test]
    fn an_upload_with_a_part_there_is_no_room_for_takes_no_room_at_all() {
        let (_directory, tee) = tee(16 * (OVERHEAD + 1000), 0);
        begin(&tee, "u");
        assert!(part(&tee, "u", 1, "one", b"hello"));
        assert!(tee.begin_part("u", 100_000).is_none());
        assert_eq!(tee.used(), (0, 0));
        assert!(!part(&tee, "u", 2, "two", b"x"));
        begin(&tee, "copied");
        assert!(part(&tee, "copied", 1, "one", b"hello"));
        tee.give_up("copied");
        assert_eq!(tee.used(), (0, 0));
    }

    #[test]
    fn forgotten_uploads_make_room_for_others() {
        let (_directory, tee) = tee(16 * (OVERHEAD + 1000), 0);
        let now = Instant::now();
        begin(&tee, "forgotten");
        assert!(part(&tee, "forgotten", 1, "e", &[0; 1000]));
        begin(&tee, "alive");
        assert!(part(&tee, "alive", 1, "e", b"x"));
        let none = HeaderMap::new();
        let bodies: Vec<_> = std::iter::from_fn(|| tee.begin(1000, &none)).collect();
        assert!(!bodies.is_empty() && tee.begin(1000, &none).is_none(), "full");
        assert!(!tee.uploads.make_room(now), "nobody is forgotten yet");
        tee.uploads.expects("alive", 1, 1000, now + IDLE_WHEN_CROWDED);
        let later = Instant::now() + IDLE_WHEN_CROWDED;
        assert!(tee.uploads.make_room(later));
        assert!(tee.begin(1000, &none).is_some());
        assert!(!part(&tee, "forgotten", 2, "e", b"x") && part(&tee, "alive", 2, "e", b"x"));
    }

    #[test]
    fn the_number_of_uploads_and_their_age_are_bounded() {
        let (_directory, tee) = tee(64 << 20, 0);
        let mut now = Instant::now();
        let none = HeaderMap::new();
        for number in 0..=UPLOADS_MAX {
            now += Duration::from_millis(1);
            tee.uploads.begun(number.to_string(), tee.new_upload(&none).unwrap(), now);
        }
        let expects = |upload_id: &str, now| tee.uploads.expects(upload_id, 1, 1000, now);
        assert!(!expects("0", now) && expects("1", now));
        now += IDLE;
        tee.uploads.begun("new".into(), tee.new_upload(&none).unwrap(), now);
        assert!(!expects("1", now) && expects("new", now));
        assert_eq!(tee.used().0, OVERHEAD);
    }
}
