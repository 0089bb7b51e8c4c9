//! Is the mirror behind, why, and what is to be done: in words for whoever is on call.
//!
//! Pure: from what is known to findings, the most urgent first. Nothing found means in step.

use serde::Serialize;

/// How it stands as a whole; each is the exit code of `status`, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// Everything has arrived, or is about to.
    InStep,
    /// Keys or rows are stopped by a permanent error.
    Parked,
    /// Changes wait for longer than they should.
    Behind,
    /// A person or the delete brake has stopped something.
    Stopped,
    /// The service itself is not well.
    Failing,
}

/// One thing to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What it makes of the whole.
    pub(super) state: State,
    /// What is the matter.
    pub(super) what: String,
    /// Why, as far as known.
    pub(super) why: String,
    /// What to do about it.
    pub(super) todo: String,
}

/// What is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) ready: bool,
    pub(super) journal_failing: bool,
    /// Bytes that are left, where they are few.
    pub(super) short_of_room: Option<u64>,
    /// Since when, in seconds, and why.
    pub(super) paused: Option<(f64, Option<String>)>,
    /// Bucket and reason.
    pub(super) brakes: Vec<(String, String)>,
    pub(super) pending: i64,
    pub(super) oldest_seconds: f64,
    pub(super) parked: i64,
    pub(super) parked_rows: i64,
    pub(super) pending_rows: i64,
    pub(super) events_pending: i64,
    pub(super) events_seconds: f64,
    /// Why the last try to deliver events failed.
    pub(super) events_error: Option<String>,
    /// Events that are refused by themselves, and why one of them is.
    pub(super) events_refused: (i64, Option<String>),
    /// The workers rest, because nobody answered them.
    pub(super) unreachable: bool,
    /// What a knock at main, mirror, database told; `None`: all is well.
    pub(super) main_error: Option<String>,
    pub(super) mirror_error: Option<String>,
    pub(super) database_error: Option<String>,
    /// Since when, in seconds, rows cannot be written, and why.
    pub(super) rows_error: Option<(f64, String)>,
    /// The most frequent last error of keys that are tried again, and of parked ones.
    pub(super) retrying: Option<String>,
    pub(super) parking: Option<String>,
}

/// The findings; a change is late when it waits for longer than `late_seconds`.
pub(super) fn findings(known: &Known, late_seconds: f64) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |state, what: String, why: String, todo: &str| {
        found.push(Finding { state, what, why, todo: todo.to_owned() });
    };
    if known.journal_failing {
        add(
            State::Failing,
            "the journal cannot be written".into(),
            "the disk of DATA_DIR is full or failing; a crash now would forget writes".into(),
            "make room on the disk, or mend it; do not restart the service before",
        );
    }
    if !known.ready {
        add(
            State::Failing,
            "the service takes no traffic".into(),
            "it is starting or stopping".into(),
            "wait a moment; then look at its log",
        );
    }
    if let Some(error) = &known.main_error {
        add(
            State::Failing,
            "main cannot be reached".into(),
            error.clone(),
            "mend main or the way to it: clients get errors; nothing that was accepted is lost",
        );
    }
    if let Some((seconds, reason)) = &known.paused {
        add(
            State::Stopped,
            format!("mirroring has been paused for {}", age(*seconds)),
            reason.clone().unwrap_or_else(|| "the operator gave no reason".into()),
            "s3-mirror resume, when the reason is gone",
        );
    }
    for (bucket, reason) in known.brakes.iter().take(5) {
        add(
            State::Stopped,
            format!("deletes of {bucket} are held back from the mirror"),
            reason.clone(),
            &format!(
                "find out who deletes; if it is meant, s3-mirror release {bucket}; if not, the \
                 mirror still has the objects"
            ),
        );
    }
    let late = known.pending > 0 && known.oldest_seconds > late_seconds;
    if late && known.paused.is_none() {
        let (why, todo) = why_late(known);
        add(
            State::Behind,
            format!(
                "the mirror is {} behind: {} changes wait",
                age(known.oldest_seconds),
                known.pending
            ),
            why,
            todo,
        );
    } else if known.mirror_error.is_some() || known.unreachable {
        add(
            State::Behind,
            "the mirror cannot be reached".into(),
            known.mirror_error.clone().unwrap_or_else(|| "the workers get no answer".into()),
            "mend the mirror or the way to it; changes wait in the journal and nothing is lost",
        );
    }
    if let Some((what, why, todo)) = of_rows(known, late_seconds) {
        add(State::Behind, what, why, todo);
    }
    if known.parked + known.parked_rows > 0 {
        add(
            State::Parked,
            parked(known.parked, known.parked_rows),
            known.parking.clone().unwrap_or_else(|| "not recorded".into()),
            "s3-mirror failed lists them; mend the cause, then s3-mirror retry --all",
        );
    }
    found.extend(events(known, late_seconds));
    found.extend(known.short_of_room.map(short));
    found.sort_by_key(|finding| std::cmp::Reverse(finding.state));
    found
}

fn short(free_bytes: u64) -> Finding {
    Finding {
        state: State::Failing,
        what: format!("the disk of DATA_DIR is nearly full: {} MiB are left", free_bytes >> 20),
        why: "the journal grows while changes wait, and others may use the disk too".into(),
        todo: "make room or enlarge the volume; when it is full, writes are served that a crash \
               would forget"
            .into(),
    }
}

/// What is wrong with the receiver of events.
fn events(known: &Known, late_seconds: f64) -> Vec<Finding> {
    let mut found = Vec::new();
    if known.events_pending > 0 && known.events_seconds > late_seconds {
        let (late, waiting) = (age(known.events_seconds), known.events_pending);
        let why = known.events_error.clone();
        found.push(Finding {
            state: State::Behind,
            what: format!("the webhook is {late} behind: {waiting} events wait"),
            why: why.unwrap_or_else(|| {
                "no error is known: more happens than the receiver takes".into()
            }),
            todo: "mend the receiver or the way to it; events wait in the journal and nothing is \
                   lost"
                .into(),
        });
    }
    if let (refused @ 1.., reason) = &known.events_refused {
        found.push(Finding {
            state: State::Parked,
            what: format!("the receiver of events refuses {refused} of them"),
            why: reason.clone().unwrap_or_else(|| "not recorded".into()),
            todo: "see them with `s3-mirror failed --events`, mend the receiver, then \
                   `s3-mirror retry --events --all`; later events of the same keys wait behind \
                   these. What it will never take: `s3-mirror discard --events`"
                .into(),
        });
    }
    found
}

/// What keeps rows from being written: what, why, what to do.
fn of_rows(known: &Known, late_seconds: f64) -> Option<(String, String, &'static str)> {
    let rows = known.pending_rows;
    if let Some(error) = &known.database_error {
        let what = format!("the inventory database does not answer: {rows} rows wait");
        let todo =
            "mend the database or the way to it; rows wait in the journal and nothing is lost";
        return Some((what, error.clone(), todo));
    }
    let (seconds, error) =
        known.rows_error.as_ref().filter(|(seconds, _)| *seconds > late_seconds)?;
    let since = age(*seconds);
    let what = format!("the inventory takes no rows, or not all, for {since}: {rows} wait");
    let todo =
        "mend the table or the rights of its role; rows wait in the journal and nothing is lost";
    Some((what, error.clone(), todo))
}

fn parked(keys: i64, rows: i64) -> String {
    let of = |count: i64, one: &str, more: &str| {
        if count == 1 { one.to_owned() } else { format!("{count} {more}") }
    };
    let keys_text =
        of(keys, "one change will not reach the mirror", "changes will not reach the mirror");
    let rows_text =
        of(rows, "one row will not reach the inventory", "rows will not reach the inventory");
    let alone = if keys + rows == 1 { "by itself" } else { "by themselves" };
    match (keys, rows) {
        (_, 0) => format!("{keys_text} {alone}"),
        (0, _) => format!("{rows_text} {alone}"),
        _ => format!("{keys_text}, and {rows_text}, {alone}"),
    }
}

fn why_late(known: &Known) -> (String, &'static str) {
    if let Some(error) = &known.mirror_error {
        let todo =
            "mend the mirror or the way to it; copying goes on by itself and nothing is lost";
        return (format!("the mirror cannot be reached: {error}"), todo);
    }
    if let Some(error) = &known.retrying {
        let todo = if known.unreachable {
            "see who of main and mirror does not answer; copying goes on by itself"
        } else {
            "mend what the error says; keys are tried again by themselves, or at once with \
             s3-mirror retry --all"
        };
        return (error.clone(), todo);
    }
    let todo = "watch whether the backlog shrinks; if not, raise MIRROR_CONCURRENCY or find what \
                slows main or mirror down";
    ("no error is known: there is more to copy than is copied".into(), todo)
}

/// The worst of it.
pub(super) fn state(findings: &[Finding]) -> State {
    findings.iter().map(|finding| finding.state).max().unwrap_or(State::InStep)
}

/// `45 seconds`, `18 minutes`, `3 hours`, `2 days`.
fn age(seconds: f64) -> String {
    let (amount, unit) = match seconds {
        s if s < 120.0 => (s, "seconds"),
        s if s < 7200.0 => (s / 60.0, "minutes"),
        s if s < 172_800.0 => (s / 3600.0, "hours"),
        s => (s / 86_400.0, "days"),
    };
    format!("{amount:.0} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> Known {
        Known { ready: true, pending: 3, oldest_seconds: 2.0, ..Known::default() }
    }

    fn states(known: &Known) -> Vec<State> {
        findings(known, 60.0).iter().map(|finding| finding.state).collect()
    }

    #[test]
    fn a_few_young_changes_are_in_step() {
        assert_eq!(states(&well()), []);
        assert_eq!(state(&[]), State::InStep);
    }

    #[test]
    fn lateness_tells_the_mirror_s_own_error_first_and_then_the_most_frequent_one() {
        let mut known = Known { oldest_seconds: 1100.0, ..well() };
        let first = |known: &Known| findings(known, 60.0).remove(0);
        assert_eq!(first(&known).what, "the mirror is 18 minutes behind: 3 changes wait");
        assert!(first(&known).why.contains("no error is known"));
        known.retrying = Some("mirror refused PutObject: 403 AccessDenied".into());
        assert!(first(&known).why.contains("AccessDenied"));
        known.mirror_error = Some("connection refused".into());
        assert!(first(&known).why.contains("connection refused"));
    }

    #[test]
    fn the_most_urgent_comes_first_and_a_pause_explains_the_lag() {
        let known = Known {
            oldest_seconds: 1e6,
            paused: Some((600.0, Some("maintenance".into()))),
            parked: 2,
            journal_failing: true,
            ..well()
        };
        assert_eq!(states(&known), [State::Failing, State::Stopped, State::Parked]);
        assert_eq!(state(&findings(&known, 60.0)), State::Failing);
    }

    #[test]
    fn what_is_parked_is_counted_in_words() {
        assert_eq!(parked(1, 0), "one change will not reach the mirror by itself");
        assert_eq!(parked(0, 2), "2 rows will not reach the inventory by themselves");
    }

    #[test]
    fn a_brake_names_its_bucket_and_the_command() {
        let known = Known { brakes: vec![("photos".into(), "900 deletes".into())], ..well() };
        let finding = findings(&known, 60.0).remove(0);
        assert!(finding.what.contains("photos") && finding.todo.contains("release photos"));
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_told_before_the_journal_fails() {
        let known = Known { short_of_room: Some(300 << 20), ..well() };
        assert_eq!(states(&known), [State::Failing]);
        assert!(findings(&known, 60.0)[0].what.ends_with("300 MiB are left"));
    }

    #[test]
    fn a_receiver_of_events_that_is_late_or_refuses_is_told_with_its_reason() {
        let known = Known {
            events_pending: 4,
            events_seconds: 600.0,
            events_error: Some("the receiver answered 503".into()),
            events_refused: (2, Some("the receiver answered 400".into())),
            ..well()
        };
        let found = findings(&known, 60.0);
        assert_eq!(states(&known), [State::Behind, State::Parked]);
        assert_eq!(found[0].what, "the webhook is 10 minutes behind: 4 events wait");
        assert!(found[0].why.contains("503") && found[1].why.contains("400"));
    }

    #[test]
    fn rows_that_cannot_be_written_for_long_are_told_though_the_database_answers() {
        let error = |seconds| Some((seconds, "permission denied".to_owned()));
        let known = Known { rows_error: error(90.0), pending_rows: 7, ..well() };
        assert_eq!(states(&known), [State::Behind]);
        assert!(findings(&known, 60.0)[0].what.ends_with(": 7 wait"));
        assert!(states(&Known { rows_error: error(5.0), ..well() }).is_empty());
    }

    #[test]
    fn an_unreachable_mirror_is_told_before_anything_is_late() {
        let known = Known { mirror_error: Some("refused".into()), ..well() };
        assert_eq!(states(&known), [State::Behind]);
    }
}
