//! From a mixed batch of rows to statements: the part of writing that both stores share.
//!
//! Rows are grouped by bucket, cut into bounded statements, and each statement is all-or-nothing.
//! If a statement fails because of a row, it is halved until that row stands alone: the price is
//! about twice the logarithm of the batch in statements, paid only for poison. If it fails because
//! of its table, that table's remaining rows are handed back; if because of the database, nothing
//! more is started.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::OnceLock;

use futures_util::{StreamExt, stream};

use super::import::AsOf;
use super::row::{Row, RowFault};
use super::store::StoreError;

/// Why one statement was not applied, by what it says about the others.
#[derive(Debug)]
pub(super) enum Failure {
    /// A value in the statement was refused.
    Row(String),
    /// The table takes no rows now.
    Table(String),
    /// The database is away or refuses work: other tables would fare no better.
    Store(StoreError),
}

/// What rows are written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// They are news of a change; in whose name, if in anybody's.
    Change(Option<i64>),
    /// They are what a listing told.
    Import(AsOf),
}

/// What a database must do for [`write`].
pub(super) trait Backend: Sync {
    /// Most rows in one statement. Bounds the memory of one statement on both sides.
    const ROWS_PER_STATEMENT_MAX: usize;

    /// How many tables are written at a time.
    fn tables_in_parallel(&self) -> usize;

    /// Brings these rows (one bucket, unique keys, no NUL, sorted by key) to the bucket's table in
    /// one all-or-nothing step. Transient trouble worth an immediate second try is dealt with here.
    fn apply(
        &self,
        bucket: &str,
        rows: &[&Row],
        purpose: Purpose,
    ) -> impl Future<Output = Result<Applied, Failure>> + Send;
}

/// What one statement that was applied told.
#[derive(Debug, Default)]
pub(super) struct Applied {
    /// Paths of rows that another process has written too.
    pub(super) contested: Vec<String>,
    /// An earlier try of this statement had no answer: it may still take effect, over later rows.
    pub(super) late: bool,
    /// Rows that an import added and updated.
    pub(super) taken: (u64, u64),
}

/// What became of the rows of one [`write`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows, by index, that were not stored; all others are durable.
    pub faults: Vec<(usize, RowFault)>,
    /// Stored rows, by index, that another process has written too: see `inventory::fence`.
    pub contested: Vec<usize>,
    /// Rows, by index and stored or not, of statements that had no answer: they may take effect
    /// later, over newer ones.
    pub late: Vec<usize>,
    /// Rows that an import added and updated.
    pub taken: (u64, u64),
}

/// See [`super::store::Store::write_as`].
pub(super) async fn write<B: Backend>(
    backend: &B,
    rows: &[Row],
    purpose: Purpose,
) -> Result<Written, StoreError> {
    let mut written = Written::default();
    let groups = group(rows, &mut written.faults);
    let away = OnceLock::new();
    let mut pending = Vec::with_capacity(groups.len());
    for group in groups {
        pending.push(write_group(backend, group, purpose, &away));
    }
    let ends: Vec<GroupEnd> =
        stream::iter(pending).buffer_unordered(backend.tables_in_parallel()).collect().await;

    let anything_settled = ends.iter().any(|end| end.settled);
    let mut store_error = None;
    for end in ends {
        written.faults.extend(end.faults);
        written.contested.extend(end.contested);
        written.late.extend(end.late);
        written.taken.0 += end.taken.0;
        written.taken.1 += end.taken.1;
        if let Some(error) = end.store_error {
            let reason = error.to_string();
            if matches!(error, StoreError::Unanswered(_)) {
                written.late.extend(&end.held_back);
            }
            let held_back = |index| (index, RowFault::TableUnavailable { reason: reason.clone() });
            written.faults.extend(end.held_back.into_iter().map(held_back));
            store_error = Some(error);
        }
    }
    match store_error {
        Some(error) if !anything_settled => Err(error),
        _ => {
            written.faults.sort_by_key(|(index, _)| *index);
            Ok(written)
        }
    }
}

/// The rows of one bucket, sorted by key, with their places in the caller's list.
struct Group<'a> {
    bucket: &'a str,
    places: Vec<usize>,
    rows: Vec<&'a Row>,
}

/// How one bucket's rows ended.
#[derive(Default)]
struct GroupEnd {
    /// Whether the database gave a verdict on anything: a stored row, or a fault of row or table.
    settled: bool,
    faults: Vec<(usize, RowFault)>,
    contested: Vec<usize>,
    late: Vec<usize>,
    taken: (u64, u64),
    /// Rows not tried, or tried in vain, because of `store_error`.
    held_back: Vec<usize>,
    store_error: Option<StoreError>,
}

/// Sorts rows into buckets. Of duplicates the last wins: two rows of one key in one statement would
/// make `PostgreSQL` refuse all of it.
fn group<'a>(rows: &'a [Row], faults: &mut Vec<(usize, RowFault)>) -> Vec<Group<'a>> {
    let mut buckets: HashMap<&str, HashMap<&str, usize>> = HashMap::new();
    for (place, row) in rows.iter().enumerate() {
        if let Some(reason) = row.unstorable() {
            faults.push((place, RowFault::Unstorable { reason: reason.to_owned() }));
            continue;
        }
        buckets.entry(&row.bucket).or_default().insert(&row.key, place);
    }
    let mut groups = Vec::with_capacity(buckets.len());
    for (bucket, keys) in buckets {
        let mut keys: Vec<(&str, usize)> = keys.into_iter().collect();
        // One order of keys in every process: two proxies on one table then seldom deadlock.
        keys.sort_unstable();
        groups.push(Group {
            bucket,
            rows: keys.iter().filter_map(|(_, place)| rows.get(*place)).collect(),
            places: keys.into_iter().map(|(_, place)| place).collect(),
        });
    }
    groups
}

async fn write_group<B: Backend>(
    backend: &B,
    group: Group<'_>,
    purpose: Purpose,
    away: &OnceLock<StoreError>,
) -> GroupEnd {
    let mut end = GroupEnd::default();
    let mut todo = pieces(group.rows.len(), B::ROWS_PER_STATEMENT_MAX);
    while let Some(piece) = todo.pop() {
        let failure = if let Some(error) = away.get() {
            Failure::Store(error.clone())
        } else {
            match backend.apply(group.bucket, &group.rows[piece.clone()], purpose).await {
                Ok(applied) => {
                    end.settled = true;
                    end.taken.0 += applied.taken.0;
                    end.taken.1 += applied.taken.1;
                    if applied.late {
                        end.late.extend(&group.places[piece]);
                    }
                    end.contested.extend(applied.contested.iter().filter_map(|path| {
                        let at = group.rows.binary_search_by(|row| row.key.as_str().cmp(path));
                        group.places.get(at.ok()?).copied()
                    }));
                    continue;
                }
                Err(failure) => failure,
            }
        };
        let rest = |piece: Range<usize>, todo: &mut Vec<Range<usize>>| -> Vec<usize> {
            std::iter::once(piece)
                .chain(todo.drain(..))
                .flat_map(|piece| group.places[piece].to_vec())
                .collect()
        };
        match failure {
            Failure::Row(reason) if piece.len() == 1 => {
                end.settled = true;
                end.faults.push((group.places[piece.start], RowFault::Unstorable { reason }));
            }
            Failure::Row(_) => {
                let middle = piece.start + piece.len() / 2;
                todo.push(middle..piece.end);
                todo.push(piece.start..middle);
            }
            Failure::Table(reason) => {
                end.settled = true;
                for place in rest(piece, &mut todo) {
                    let reason = reason.clone();
                    end.faults.push((place, RowFault::TableUnavailable { reason }));
                }
            }
            Failure::Store(error) => {
                end.held_back = rest(piece, &mut todo);
                end.store_error = Some(away.get_or_init(|| error).clone());
            }
        }
    }
    end
}

/// Cuts `0..rows` into pieces of at most `rows_max`, last piece first, to be popped in order.
fn pieces(rows: usize, rows_max: usize) -> Vec<Range<usize>> {
    let starts: Vec<usize> = (0..rows).step_by(rows_max).collect();
    starts.into_iter().rev().map(|start| start..rows.min(start + rows_max)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::row::RowState;
    use super::*;

    const NAMED: Purpose = Purpose::Change(Some(1));

    /// Refuses keys with "bad", the table "stuck", and everything in "away".
    #[derive(Default)]
    struct Picky {
        stored: Mutex<Vec<String>>,
        statements: Mutex<usize>,
    }

    impl Backend for Picky {
        const ROWS_PER_STATEMENT_MAX: usize = 64;

        fn tables_in_parallel(&self) -> usize {
            2
        }

        async fn apply(
            &self,
            bucket: &str,
            rows: &[&Row],
            purpose: Purpose,
        ) -> Result<Applied, Failure> {
            *self.statements.lock().unwrap() += 1;
            match bucket {
                "stuck" => return Err(Failure::Table("locked".into())),
                "away" => return Err(Failure::Store(StoreError::Unavailable("down".into()))),
                "silent" => return Err(Failure::Store(StoreError::Unanswered("lost".into()))),
                _ => {}
            }
            if rows.iter().any(|row| row.key.contains("bad")) {
                return Err(Failure::Row("refused".into()));
            }
            self.stored.lock().unwrap().extend(rows.iter().map(|row| row.key.clone()));
            let ours = rows.iter().filter(|row| purpose == NAMED && row.key.contains("shared"));
            let contested = ours.map(|row| row.key.clone()).collect();
            Ok(Applied { contested, ..Applied::default() })
        }
    }

    fn row(bucket: &str, key: &str) -> Row {
        Row {
            bucket: bucket.into(),
            key: key.into(),
            state: RowState::Absent,
            mirrored: false,
            unsure: false,
            last_error: None,
        }
    }

    #[tokio::test]
    async fn only_the_refused_row_faults() {
        let store = Picky::default();
        let mut rows: Vec<Row> = (0..200).map(|n| row("b", &format!("k{n:03}"))).collect();
        rows[77].key = "k077bad".into();
        let faults = write(&store, &rows, NAMED).await.unwrap().faults;
        assert_eq!(faults, [(77, RowFault::Unstorable { reason: "refused".into() })]);
        assert_eq!(store.stored.lock().unwrap().len(), 199);
        assert!(*store.statements.lock().unwrap() <= 20);
    }

    #[tokio::test]
    async fn a_stuck_table_stops_no_other_table() {
        let store = Picky::default();
        let rows = [row("stuck", "a"), row("b", "c"), row("stuck", "d\0")];
        let faults = write(&store, &rows, NAMED).await.unwrap().faults;
        assert_eq!(faults.len(), 2);
        assert!(faults[0].0 == 0 && faults[0].1.is_transient());
        assert!(faults[1].0 == 2 && !faults[1].1.is_transient());
        assert_eq!(*store.stored.lock().unwrap(), ["c"]);
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_an_error_unless_something_was_settled() {
        let store = Picky::default();
        let error = write(&store, &[row("away", "a"), row("away", "b")], Purpose::Change(None))
            .await
            .unwrap_err();
        assert!(error.is_transient());
        let faults =
            write(&store, &[row("stuck", "x"), row("away", "a")], Purpose::Change(None)).await;
        if let Ok(Written { faults, .. }) = faults {
            assert!(faults.iter().all(|(_, fault)| fault.is_transient()));
            assert_eq!(faults.len(), 2);
        }
    }

    #[tokio::test]
    async fn the_last_of_two_rows_for_one_key_wins() {
        let store = Picky::default();
        let faults =
            write(&store, &[row("b", "k"), row("b", "k")], Purpose::Change(None)).await.unwrap();
        assert_eq!(faults, Written::default());
        assert_eq!(*store.stored.lock().unwrap(), ["k"]);
    }
    #[tokio::test]
    async fn contested_and_late_rows_are_told_by_their_place() {
        let store = Picky::default();
        // Which table is begun first is left open; once the database is silent no other is.
        let rows = [row("stuck", "x"), row("silent", "s")];
        match write(&store, &rows, NAMED).await {
            Ok(written) => assert_eq!(written.late, [1]),
            Err(error) => assert_eq!(error, StoreError::Unanswered("lost".into())),
        }
        let written = write(&store, &[row("b", "y"), row("b", "a shared")], NAMED).await.unwrap();
        assert_eq!((written.contested, written.late), (vec![1], vec![]));
    }
}
