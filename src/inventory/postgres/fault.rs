//! What a `PostgreSQL` error says about the rest of the work: pure, by SQLSTATE.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use super::super::schema::COLUMNS;
use super::settings::chain;

/// The verdict on one failed statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A value was refused: the statement without that row would do.
    Row,
    /// The table or a shared object is not what was expected: look at it again, repair, try once
    /// more.
    Repair,
    /// The table takes no rows now; other tables are not concerned.
    Table,
    /// Lost a race with another transaction: the same again, at once.
    Again,
    /// This connection has ended or is of no use: the same again on a new one.
    Connection,
    /// The change feed is full; the rows would do without it.
    Feed,
    /// The server refuses work.
    Store,
}

/// Judges an error of a statement (not of connecting).
pub(super) fn verdict(error: &Error) -> Verdict {
    let Some(answer) = error.as_db_error() else {
        // No answer at all: closed, reset, or a protocol error.
        return Verdict::Connection;
    };
    let foreign_column =
        answer.column().is_some_and(|name| COLUMNS.iter().all(|column| column.name != name));
    // The queue of notifications is full, because some listener does not read. It has the code of a
    // value that is too large; only the place in the server tells it apart.
    if answer.code() == &SqlState::PROGRAM_LIMIT_EXCEEDED && of_notify(answer.routine()) {
        return Verdict::Feed;
    }
    // A number that another row has: the sequence is behind its table, as after a logical replication.
    if answer.code() == &SqlState::UNIQUE_VIOLATION && of_id(answer.constraint()) {
        return Verdict::Repair;
    }
    by_code(answer.code(), foreign_column)
}

/// Is this function of the server the one that queues notifications?
fn of_notify(routine: Option<&str>) -> bool {
    routine.is_some_and(|name| name.contains("Notify"))
}

/// Is this the primary key, as `PostgreSQL` names it?
fn of_id(constraint: Option<&str>) -> bool {
    constraint.is_some_and(|name| name.ends_with("_pkey"))
}

fn by_code(code: &SqlState, foreign_column: bool) -> Verdict {
    let class = code.code().get(..2).unwrap_or_default();
    match code.code() {
        // A person added a column that must not be null: every row would be refused alike.
        "23502" if foreign_column => Verdict::Table,
        // Undefined table, column, schema, object; no unique index on `path`; a changed type; a
        // cached plan or prepared statement that is no longer there.
        "42P01" | "42703" | "3F000" | "42704" | "42P10" | "42804" | "42883" | "0A000" | "26000"
        // Another proxy made the same object at the same instant.
        | "42P07" | "42710" | "42701" | "XX000" => Verdict::Repair,
        // Serialization failure, deadlock.
        "40001" | "40P01" => Verdict::Again,
        // The server is going down or has cut this connection; after a failover an old connection
        // may lead to a node that only reads.
        "57P01" | "57P02" | "57P03" | "57P05" | "25006" | "25P03" => Verdict::Connection,
        // Lock timeout, statement timeout, object in use, numbers used up: one table's trouble.
        "55P03" | "57014" | "55006" | "2200H" => Verdict::Table,
        // Raised by a trigger that a person added; it may look at the values.
        "P0001" => Verdict::Row,
        _ => match class {
            // Data exception, constraint violation, program limit (an index row too large), WITH
            // CHECK OPTION.
            "22" | "23" | "44" => Verdict::Row,
            "54" if code != &SqlState::TOO_MANY_COLUMNS => Verdict::Row,
            // Connection exception; the session's transaction state is not what it should be.
            "08" | "25" => Verdict::Connection,
            // Syntax error or access rule (a missing privilege among them), internal error (a
            // damaged block), a trigger's own error.
            "42" | "XX" | "P0" | "2F" | "38" | "39" | "09" | "0L" | "0P" | "54" => Verdict::Table,
            // Resources (disk full, too many connections), operator, system, authorisation.
            _ => Verdict::Store,
        },
    }
}

/// An error for people: message and SQLSTATE. The detail is left out, as it quotes column values.
pub(super) fn reason(error: &Error) -> String {
    match error.as_db_error() {
        Some(answer) => format!("{} (SQLSTATE {})", answer.message(), answer.code().code()),
        None => chain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_judged_by_whom_they_concern() {
        let judge = |code: &str| by_code(&SqlState::from_code(code), false);
        assert_eq!(judge("22021"), Verdict::Row);
        assert_eq!(judge("23514"), Verdict::Row);
        assert_eq!(judge("54000"), Verdict::Row);
        assert_eq!(judge("42P01"), Verdict::Repair);
        assert_eq!(judge("42501"), Verdict::Table);
        assert_eq!(judge("55P03"), Verdict::Table);
        assert_eq!(judge("40P01"), Verdict::Again);
        assert_eq!(judge("57P01"), Verdict::Connection);
        assert_eq!(judge("25006"), Verdict::Connection);
        assert_eq!(judge("53100"), Verdict::Store);
        assert_eq!(judge("28P01"), Verdict::Store);
        assert_eq!(judge("23502"), Verdict::Row);
        assert_eq!((judge("23505"), judge("2200H")), (Verdict::Row, Verdict::Table));
        assert!(of_id(Some("bucket_b_pkey")) && !of_id(Some("bucket_b_etag_key")) && !of_id(None));
        assert!(of_notify(Some("PreCommit_Notify")) && !of_notify(Some("_bt_check_third_page")));
        let null = SqlState::NOT_NULL_VIOLATION;
        assert_eq!(by_code(&null, true), Verdict::Table);
    }
}
