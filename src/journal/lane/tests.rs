use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Work(Sequence, ObjectKey, Sequence);

/// Stands for the age of one that was doubted.
const DOUBTED: Sequence = -1;

impl Item for Work {
    const ORDERED: bool = true;
    fn sequence(&self) -> Sequence {
        self.0
    }
    fn object(&self) -> &ObjectKey {
        &self.1
    }
    fn supersede(&mut self, older: &Self) {
        self.2 = self.2.min(older.2);
    }
    fn tells_more(&self, _: Option<&Self>) -> bool {
        false
    }
    fn doubt(&mut self) {
        self.2 = DOUBTED;
    }
}

fn work(sequence: Sequence, key: &str) -> Work {
    Work(sequence, ObjectKey::new("b", key), sequence)
}

/// The two halves of [`Lane::begin_refill`], wherever there is room.
impl Lane<Work> {
    fn refill_begun(&mut self) {
        self.refill_from = None;
    }

    fn watch_releases(&mut self) {
        self.released = Some(HashMap::default());
    }
}

#[test]
fn one_key_is_claimed_once_at_a_time_and_the_newest_waits() {
    let mut lane = Lane::new(8);
    assert_eq!(lane.offer(work(1, "a")), Offered::Ready);
    let first = lane.claim().unwrap();
    assert_eq!(lane.offer(work(2, "a")), Offered::Ready);
    assert_eq!(lane.offer(work(3, "a")), Offered::Supersedes(work(2, "a")));
    assert!(lane.claim().is_none(), "the key is claimed");
    assert!(lane.newer_waits(&first.1, 1) && !lane.newer_waits(&first.1, 3));
    assert!(lane.release(&first.1));
    let third = lane.claim().unwrap();
    assert_eq!((third.0, third.2), (3, 2), "the age of the oldest is kept");
    assert!(!lane.release(&third.1));
}

#[test]
fn an_older_entry_found_late_is_covered_by_the_newer_one() {
    let mut lane = Lane::new(8);
    lane.offer(work(5, "a"));
    assert_eq!(lane.offer(work(4, "a")), Offered::SupersededBy(work(4, "a")));
    assert_eq!(lane.claim().unwrap().2, 4);
    assert_eq!(lane.offer(work(5, "a")), Offered::Known);
}

#[test]
fn a_full_lane_remembers_where_to_read_on_disk() {
    let mut lane: Lane<Work> = Lane::new(2);
    lane.refill_begun();
    lane.offer(work(1, "a"));
    lane.offer(work(2, "b"));
    assert_eq!(lane.offer(work(9, "c")), Offered::Full);
    assert_eq!(lane.offer(work(7, "d")), Offered::Full);
    assert_eq!(lane.wants_refill(), None, "no room yet");
    let a = lane.claim().unwrap();
    lane.release(&a.1);
    assert_eq!(lane.wants_refill(), Some(6));
}

#[test]
fn while_some_wait_on_disk_only_what_is_new_leaves_them_room() {
    let mut lane: Lane<Work> = Lane::new(8);
    lane.refill_begun();
    for sequence in 1..=8 {
        assert_eq!(lane.offer_live(work(sequence, &sequence.to_string())), Offered::Ready);
    }
    assert_eq!(lane.offer_live(work(9, "9")), Offered::Full);
    let done = |lane: &mut Lane<Work>| {
        let item = lane.claim().unwrap();
        lane.release(&item.1);
    };
    done(&mut lane);
    // A place is free, and the one that has waited for it is on disk.
    assert!(!lane.has_room());
    assert_eq!(lane.offer_live(work(10, "10")), Offered::Full);
    assert_eq!(lane.offer_live(work(11, "8")), Offered::Supersedes(work(8, "8")), "it is here");
    assert_eq!(lane.wants_refill(), None);
    done(&mut lane);
    done(&mut lane);
    let from = lane.wants_refill().unwrap();
    assert_eq!(from, 8);
    lane.refill_begun();
    lane.watch_releases();
    for sequence in [9, 10] {
        let key = sequence.to_string();
        assert_eq!(lane.offer_from_disk(work(sequence, &key)), Offered::Ready);
    }
    lane.refill_ended();
    done(&mut lane);
    assert!(lane.has_room(), "nothing is on disk only");
    assert_eq!(lane.offer_live(work(12, "12")), Offered::Ready);
}

#[test]
fn what_comes_from_disk_while_a_newer_item_of_its_key_is_claimed_is_doubted() {
    let mut lane = Lane::new(8);
    lane.offer(work(5, "a"));
    let newer = lane.claim().unwrap();
    lane.watch_releases();
    assert_eq!(lane.offer_from_disk(work(5, "a")), Offered::Known);
    assert_eq!(lane.offer_from_disk(work(4, "a")), Offered::Ready);
    assert!(lane.release(&newer.1));
    assert_eq!(lane.claim().unwrap().2, DOUBTED);
    // One that is newer than what is claimed comes in its turn.
    let mut lane = Lane::new(8);
    lane.offer(work(5, "a"));
    let older = lane.claim().unwrap();
    assert_eq!(lane.offer_from_disk(work(6, "a")), Offered::Ready);
    lane.release(&older.1);
    assert_eq!(lane.claim().unwrap().2, 6);
}

#[test]
fn what_comes_from_disk_behind_a_newer_item_of_its_key_is_doubted() {
    let mut lane: Lane<Work> = Lane::new(2);
    lane.refill_begun();
    lane.offer(work(1, "a"));
    lane.offer(work(2, "b"));
    assert_eq!(lane.offer(work(3, "c")), Offered::Full);
    // While one of "c" is on disk only, a newer one finds room and is done.
    let done = |lane: &mut Lane<Work>| {
        let item = lane.claim().unwrap();
        lane.release(&item.1);
    };
    done(&mut lane);
    lane.offer(work(4, "c"));
    done(&mut lane);
    done(&mut lane);
    lane.refill_begun();
    lane.watch_releases();
    assert_eq!(lane.offer_from_disk(work(3, "c")), Offered::Ready);
    assert_eq!(lane.offer_from_disk(work(5, "d")), Offered::Ready);
    lane.refill_ended();
    assert_eq!(lane.claim().unwrap().2, DOUBTED);
    assert_eq!(lane.claim().unwrap().2, 5, "nothing newer of it was done");
    // From here on everything is in memory, in its order.
    lane.release(&ObjectKey::new("b", "d"));
    lane.watch_releases();
    assert_eq!(lane.offer_from_disk(work(6, "d")), Offered::Ready);
    assert_eq!(lane.claim().unwrap().2, 6);
}

#[test]
fn a_failed_key_rests_whatever_comes_meanwhile_and_its_newest_item_is_claimed() {
    let mut lane = Lane::new(8);
    lane.offer(work(1, "a"));
    let failed = lane.claim().unwrap();
    let until = Instant::now() + std::time::Duration::from_mins(1);
    assert_eq!(lane.rest(failed, until, false), Offered::Ready);
    assert_eq!(lane.offer(work(2, "a")), Offered::Supersedes(work(1, "a")));
    assert!(lane.claim().is_none(), "it rests");
    assert_eq!(lane.wake(until - std::time::Duration::from_millis(1)), 0);
    assert_eq!(lane.wake(until), 1);
    let item = lane.claim().unwrap();
    assert_eq!((item.0, item.2), (2, 1));
    lane.offer(work(3, "a"));
    assert_eq!(lane.rest(item.clone(), until, true), Offered::SupersededBy(item));
    assert_eq!((lane.wake_all(), lane.claim().unwrap().0), (1, 3));
}

#[test]
fn keys_of_jobs_come_behind_every_live_key_and_never_take_all_workers() {
    let mut lane = Lane::new(8);
    lane.limit_background(2);
    for (sequence, key) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        assert_eq!(lane.offer_background(work(sequence, key)), Offered::Ready);
    }
    lane.offer(work(5, "live"));
    assert_eq!(lane.claim().unwrap().0, 5, "live first");
    let first = lane.claim().unwrap();
    let second = lane.claim().unwrap();
    assert_eq!((first.0, second.0), (1, 2));
    assert!(lane.claim().is_none(), "two at a time");
    lane.offer(work(6, "more"));
    assert_eq!(lane.claim().unwrap().0, 6, "there is room for live keys");
    lane.release(&first.1);
    assert_eq!(lane.claim().unwrap().0, 3);
    // What fails rests and comes back to the line of jobs.
    let until = Instant::now();
    assert_eq!(lane.rest(second, until, false), Offered::Ready);
    assert_eq!(lane.claim().unwrap().0, 4);
    lane.wake(until);
    assert!(lane.claim().is_none());
    lane.release(&ObjectKey::new("b", "c"));
    assert_eq!(lane.claim().unwrap().0, 2);
}

#[test]
fn a_live_item_makes_the_key_of_a_job_live() {
    let mut lane = Lane::new(8);
    lane.limit_background(1);
    lane.offer_background(work(1, "a"));
    lane.offer_background(work(2, "b"));
    let a = lane.claim().unwrap();
    assert!(lane.claim().is_none());
    assert_eq!(lane.offer(work(3, "b")), Offered::Supersedes(work(2, "b")));
    assert_eq!(lane.claim().unwrap().0, 3, "claimed as a live key");
    // A live item while the key is claimed for the job: the claim counts as live.
    assert_eq!(lane.offer(work(4, "a")), Offered::Ready);
    lane.offer_background(work(5, "c"));
    assert_eq!(lane.claim().unwrap().0, 5);
    assert!(lane.release(&a.1));
    assert_eq!(lane.claim().unwrap().0, 4);
    assert!(!lane.release(&a.1));
    assert_eq!(lane.offer_background(work(6, "b")), Offered::Ready, "behind the claimed one");
}

#[test]
fn an_item_put_back_is_claimed_again_unless_a_newer_one_came() {
    let mut lane = Lane::new(4);
    lane.offer(work(1, "a"));
    let item = lane.claim().unwrap();
    lane.put_back(item);
    let item = lane.claim().unwrap();
    lane.offer(work(2, "a"));
    lane.put_back(item);
    assert_eq!(lane.claim().unwrap().0, 2);
    assert!(lane.claim().is_none());
}

#[test]
fn what_was_released_while_disk_was_read_is_not_offered_again() {
    let mut lane = Lane::new(4);
    lane.watch_releases();
    lane.offer(work(1, "a"));
    let item = lane.claim().unwrap();
    lane.release(&item.1);
    assert_eq!(lane.offer_from_disk(work(1, "a")), Offered::Known);
    assert_eq!(lane.offer_from_disk(work(0, "a")), Offered::SupersededBy(work(0, "a")));
    assert!(lane.claim().is_none());
    assert_eq!(lane.offer_from_disk(work(2, "a")), Offered::Ready);
    lane.refill_ended();
    let item = lane.claim().unwrap();
    lane.release(&item.1);
    assert_eq!(lane.offer_from_disk(work(2, "a")), Offered::Ready);
}

#[test]
fn keys_that_keep_failing_leave_their_place_while_others_wait_on_disk() {
    let mut lane = Lane::new(8);
    lane.refill_begun();
    for (at, key) in ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().enumerate() {
        lane.offer(work(Sequence::try_from(at).unwrap(), key));
    }
    let until = Instant::now() + std::time::Duration::from_hours(1);
    let rest = |lane: &mut Lane<Work>| {
        let failed = lane.claim().unwrap();
        let leave = lane.is_pressed();
        lane.rest(failed, until, leave)
    };
    assert_eq!(rest(&mut lane), Offered::Full, "the lane is filling up");
    assert_eq!(rest(&mut lane), Offered::Ready, "nobody waits");
    lane.refill_continues(100);
    assert_eq!((lane.begin_refill(), lane.room_for_due()), (None, 0));
    assert_eq!([rest(&mut lane), rest(&mut lane)], [Offered::Full, Offered::Full]);
    assert_eq!(lane.begin_refill(), Some(100));
}
