//! The fence of the inventory: why several proxies that share one database leave true rows.
//!
//! # How a second writer is noticed
//! Each row carries its `writer`: the number of the proxy that wrote it last, a number that belongs
//! to one journal. Whoever replaces a row of another number writes its own with a minus sign, and
//! the sign stays: from then on the row is *contested*, and every write of it is told so by the
//! statement itself, which looks at the very row version that it replaces, under that row's lock.
//! Rows that one proxy alone writes, all of them where there is one proxy, are never contested, and
//! nothing here costs them anything.
//!
//! # Why this converges
//! After a contested row has been written, and before the journal forgets it, main is asked what
//! the key is now. If that is not what the row says, the row is written anew ([`Verdict::Again`])
//! or, when the row claimed that the mirror has it, the whole key is looked at anew
//! ([`Verdict::Anew`]): its mirror, then its row. So whoever writes a contested row last has seen
//! after that write that the row is true. Any later change of main has an entry of its own in the
//! journal of the proxy it went through, and so a later row. The last writer's row cannot stay at
//! `is_backed_up = FALSE` either: a row that says so is followed by one that says otherwise once
//! that proxy's copy, or its look at both sides, is confirmed.
//!
//! If only one proxy ever wrote the row, its own lane keeps the order: one row of a key at a time,
//! the newest last. Where the journal cannot tell which is the newest, it says that the row is
//! doubtful, and main is asked as it is about a contested one: when changes of the key overlapped, so
//! that they may have settled in another order than they were numbered, and when a row comes from
//! disk behind one that was written meanwhile (`journal::lane`).
//!
//! # Statements that land late
//! A statement whose answer never came may take effect after newer rows, of this proxy or another.
//! Its keys are looked at anew after [`LATE`], by which time the server has done it or never will.
//!
//! # Crash
//! A row that was written and not yet checked is still in the journal, and is written and checked
//! again.

use std::time::Duration;

use super::row::RowState;
use crate::journal::Journal;

/// When keys of an unanswered statement are looked at once more: the server gives a statement
/// thirty seconds, and so much again is for the way there.
pub(super) const LATE: Duration = Duration::from_mins(1);

/// Name of the journal's note that holds the number.
const WRITER: &str = "inventory.writer";

/// [`LATE`] from now. Whole ten seconds, so that a database that goes silent again and again leaves
/// one such note a key and not one a try.
pub(super) fn late_ms(now_ms: i64) -> i64 {
    const STEP_MS: i64 = 10_000;
    let late_ms = i64::try_from(LATE.as_millis()).unwrap_or(i64::MAX);
    now_ms.saturating_add(late_ms) / STEP_MS * STEP_MS + STEP_MS
}

/// The number this journal writes under; made once, and kept with the journal. One that cannot be
/// kept is as good for as long as the process lives: the rows of the next one are contested then.
pub(super) async fn writer(journal: &Journal) -> i64 {
    let kept = journal.note(WRITER).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the inventory's number cannot be read from the journal");
        None
    });
    if let Some(number) = kept.and_then(|text| text.parse().ok()).filter(|number| *number > 0) {
        return number;
    }
    let number = fastrand::i64(1..);
    if let Err(error) = journal.set_note(WRITER, Some(&number.to_string())).await {
        tracing::warn!(%error, "the inventory's number cannot be kept in the journal");
    }
    number
}

/// What to do about a contested row that was just written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Main is what the row says.
    True,
    /// Main has moved on: write the row again, from what main says then.
    Again,
    /// Main has moved on from a state that the row calls mirrored: copy and write anew.
    Anew,
}

/// Judges a row that was written, by what main was found to be after that.
pub(super) fn judge(written: &RowState, mirrored: bool, now: &RowState) -> Verdict {
    match (written == now, mirrored) {
        (true, _) => Verdict::True,
        (false, false) => Verdict::Again,
        (false, true) => Verdict::Anew,
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn only_what_main_says_now_is_true() {
        let state = |etag: &str, second| RowState::Present {
            size: 1,
            content_type: "text/plain".into(),
            last_modified: OffsetDateTime::from_unix_timestamp(second).unwrap(),
            etag: Some(etag.into()),
            version_id: None,
        };
        assert_eq!(judge(&state("a", 1), true, &state("a", 1)), Verdict::True);
        assert_eq!(judge(&RowState::Absent, false, &RowState::Absent), Verdict::True);
        assert_eq!(judge(&state("a", 1), false, &state("b", 1)), Verdict::Again);
        // A change of metadata alone shows in the time.
        assert_eq!(judge(&state("a", 1), true, &state("a", 2)), Verdict::Anew);
        assert_eq!(judge(&state("a", 1), true, &RowState::Absent), Verdict::Anew);
        assert_eq!(judge(&RowState::Absent, false, &state("a", 1)), Verdict::Again);
    }
}
