//! The lane of large objects: only some of the workers are ever busy with them, so that small
//! ones always find a free one.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::journal::Work;

/// From here on an object is large: copying it takes a noticeable part of a second.
pub(super) const LARGE_BYTES: u64 = 16 << 20;
/// Share of the workers that may copy large objects.
const SHARE: usize = 4;
/// Large objects that wait in memory, claimed; more wait on disk, so that they do not fill the
/// journal's lane either.
const QUEUE_MAX: usize = 256;
/// Shortest and longest wait on disk.
const PAUSE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_mins(1));
/// Each that waits there makes it longer, so that a long backlog is not looked through all the
/// time.
const PAUSE_EACH: Duration = Duration::from_millis(5);

/// Who copies large objects, and what waits for that.
#[derive(Debug)]
pub(super) struct Large<T = Work> {
    state: Mutex<State<T>>,
    at_once: usize,
}

#[derive(Debug)]
struct State<T> {
    active: usize,
    queue: VecDeque<T>,
    /// How many found no room since somebody last found the queue empty.
    overflow: u32,
}

/// What becomes of large work.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entered<T> {
    /// To be copied now; call [`Large::leave`] afterwards.
    Now(T),
    /// Somebody who leaves will take it.
    Queued,
    /// There is no room to wait; to be tried again after this time.
    Full(T, Duration),
}

impl<T> Large<T> {
    pub(super) fn new(workers: usize) -> Self {
        // One of two at least is left for small objects; one alone does everything.
        let at_once = (workers / SHARE).max(1);
        let state = Mutex::new(State { active: 0, queue: VecDeque::new(), overflow: 0 });
        Self { state, at_once }
    }

    pub(super) fn enter(&self, work: T) -> Entered<T> {
        let mut state = self.lock();
        if state.active < self.at_once {
            state.active += 1;
            return Entered::Now(work);
        }
        if state.queue.len() >= QUEUE_MAX {
            state.overflow = state.overflow.saturating_add(1);
            let pause = PAUSE.0 + PAUSE_EACH.saturating_mul(state.overflow);
            return Entered::Full(work, pause.min(PAUSE.1));
        }
        state.queue.push_back(work);
        Entered::Queued
    }

    /// A copy is over. Yields the next one, for which the caller stays.
    pub(super) fn leave(&self) -> Option<T> {
        let mut state = self.lock();
        let next = state.queue.pop_front();
        if next.is_none() {
            state.active -= 1;
            state.overflow = 0;
        }
        next
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_the_workers_takes_large_objects_and_those_who_leave_take_the_next() {
        let large = Large::new(8);
        assert_eq!(large.enter(1), Entered::Now(1));
        assert_eq!(large.enter(2), Entered::Now(2));
        assert_eq!(large.enter(3), Entered::Queued);
        assert_eq!(large.leave(), Some(3));
        assert_eq!((large.leave(), large.leave()), (None, None));
        assert_eq!(large.enter(4), Entered::Now(4));
    }

    #[test]
    fn what_finds_no_room_to_wait_is_given_back() {
        let large = Large::new(1);
        assert_eq!(large.enter(0), Entered::Now(0));
        for number in 0..QUEUE_MAX {
            assert_eq!(large.enter(number), Entered::Queued);
        }
        assert_eq!(large.enter(9999), Entered::Full(9999, PAUSE.0 + PAUSE_EACH));
        assert_eq!(large.enter(9999), Entered::Full(9999, PAUSE.0 + PAUSE_EACH * 2));
    }
}
