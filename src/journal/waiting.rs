//! Who waits for the writer, and for what.

use tokio::sync::oneshot;

use super::pending::Pending;
use super::tally::Counted;
use super::writer::{AppendError, Command, Done};

/// Those whose commands are being written.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// For intents, which are safe as soon as the log has them.
    appends: Vec<Done>,
    /// For everything that was said before.
    others: Vec<Done>,
    /// For the figures of it.
    asking: Vec<oneshot::Sender<Option<Counted>>>,
    flushes: bool,
}

impl Waiting {
    /// Takes in a command and leaves to `pending` what there is to write of it. With `is_full` memory what
    /// somebody waits for is refused.
    pub(super) fn take(&mut self, mut command: Command, is_full: bool, pending: &mut Pending) {
        // What a person asked for acts on everything that was said before.
        self.flushes |= matches!(
            command,
            Command::Operate { .. } | Command::Flush { .. } | Command::Count { .. }
        );
        let (done, waits) = match &mut command {
            Command::Append { done, .. } => (done.take(), &mut self.appends),
            Command::Operate { done, .. } => (done.take(), &mut self.others),
            _ => (None, &mut self.others),
        };
        match done {
            Some(done) if is_full => {
                answer(done, Err(AppendError::Full));
                return pending.refuse(&command);
            }
            done => waits.extend(done),
        }
        match command {
            Command::Flush { done } => self.others.push(done),
            Command::Count { done } => self.asking.push(done),
            // Main can be asked for the sizes of parts.
            Command::Part { .. } if is_full => {}
            command => pending.take(command),
        }
    }

    /// Does somebody wait for everything, since this was last asked?
    pub(super) fn flushes(&mut self) -> bool {
        std::mem::take(&mut self.flushes)
    }

    /// What became of the intents.
    pub(super) fn answer_appends(&mut self, result: Result<(), AppendError>) {
        self.appends.drain(..).for_each(|done| answer(done, result));
    }

    /// What became of everything.
    pub(super) fn answer(&mut self, result: Result<(), AppendError>) {
        self.answer_appends(result);
        self.others.drain(..).for_each(|done| answer(done, result));
    }

    /// Does somebody want the figures?
    pub(super) fn asks(&self) -> bool {
        !self.asking.is_empty()
    }

    /// The figures, if there are any.
    pub(super) fn tell(&mut self, counted: Option<&Counted>) {
        for done in self.asking.drain(..) {
            if done.send(counted.cloned()).is_err() {
                tracing::trace!("nobody waits for the figures any more");
            }
        }
    }
}

fn answer(done: Done, result: Result<(), AppendError>) {
    // Whoever no longer waits needs no answer.
    if done.send(result).is_err() {
        tracing::trace!("an append was committed after its request had gone");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use smallvec::smallvec;

    use super::*;
    use crate::journal::entry::{NewIntent, ObjectKey};
    use crate::s3::operation::Change;

    fn append(sequence: i64, done: Option<Done>) -> Command {
        let intent = NewIntent {
            object: ObjectKey::new("b", "k"),
            change: Change::Put,
            request_id: "r".into(),
            accepted_ms: 1,
            facts: None,
        };
        Command::Append { rows: smallvec![(sequence, Arc::new(intent))], done }
    }

    #[test]
    fn full_memory_refuses_who_waits_and_keeps_nothing_of_what_is_said_of_it() {
        let (mut waiting, mut pending) = (Waiting::default(), Pending::default());
        let (done, mut refused) = oneshot::channel();
        waiting.take(append(1, Some(done)), true, &mut pending);
        assert_eq!(refused.try_recv().unwrap(), Err(AppendError::Full));
        assert_eq!(pending.len(), 0);
        waiting.take(Command::Close { sequence: 1 }, true, &mut pending);
        assert_eq!(pending.len(), 0, "there is nothing to be closed");
        waiting.take(append(2, None), true, &mut pending);
        assert_eq!(pending.appends.len(), 1, "nobody waits who could be told");
    }

    #[test]
    fn parts_are_not_kept_in_full_memory() {
        let part = || Command::Part {
            upload_id: "u".into(),
            number: 1,
            etag: "e".into(),
            size: 1,
            at_ms: 1,
        };
        for (is_full, kept) in [(true, 0), (false, 1)] {
            let (mut waiting, mut pending) = (Waiting::default(), Pending::default());
            waiting.take(part(), is_full, &mut pending);
            assert_eq!(pending.later.parts.len(), kept);
        }
    }

    #[test]
    fn intents_are_answered_before_those_who_wait_for_everything() {
        let (mut waiting, mut pending) = (Waiting::default(), Pending::default());
        let (done, mut appended) = oneshot::channel();
        waiting.take(append(1, Some(done)), false, &mut pending);
        assert!(!waiting.flushes());
        let (done, mut flushed) = oneshot::channel();
        waiting.take(Command::Flush { done }, false, &mut pending);
        assert!(waiting.flushes() && !waiting.flushes());
        waiting.answer_appends(Ok(()));
        assert_eq!(appended.try_recv().unwrap(), Ok(()));
        flushed.try_recv().unwrap_err();
        waiting.answer(Err(AppendError::Unavailable));
        assert_eq!(flushed.try_recv().unwrap(), Err(AppendError::Unavailable));
    }
}
