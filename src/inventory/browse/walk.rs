//! A page that is looked for window by window, and how far one answer goes.
//!
//! # Bounds
//! One answer looks at [`LOOK_AT_MAX`] entries of the index at most, however large the table is and
//! however little is found; the next page goes on from there.

use super::search::{FEW, Search, Statement};
use super::{Found, Page};

/// Entries of the index that one answer looks at.
pub const LOOK_AT_MAX: u64 = 100_000;
/// Entries of the first window: enough for a whole page where nearly every row is wanted.
const WINDOW: u64 = 1_000;
/// How much larger each window is than the one before.
const GROWTH: u64 = 8;

/// Whoever runs the statements.
pub(in super::super) trait Ask {
    type Error;

    /// A key, perhaps, and a number.
    async fn reached(&mut self, statement: Statement)
    -> Result<(Option<String>, u64), Self::Error>;
    /// A number.
    async fn number(&mut self, statement: Statement) -> Result<u64, Self::Error>;
    /// Rows.
    async fn rows(&mut self, statement: Statement) -> Result<Vec<Found>, Self::Error>;
}

/// Looks for a page of at most `limit` rows.
pub(in super::super) async fn page<A: Ask>(
    database: &mut A,
    search: Search<'_>,
    limit: usize,
) -> Result<Page, A::Error> {
    let mut after = search.wanted.after.clone();
    // One more than the page holds tells whether there is another page.
    let more = limit.saturating_add(1);
    if search.wanted.pending && database.number(search.lacking()).await? <= FEW {
        let rows = database.rows(search.few(after.as_deref(), more)).await?;
        let looked_at = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        return Ok(cut(rows, limit, None, looked_at));
    }
    let (mut found, mut looked_at, mut window) = (Vec::new(), 0, WINDOW);
    loop {
        let (last, rows) = database.reached(search.window(after.as_deref(), window)).await?;
        let Some(last) = last else { return Ok(cut(found, limit, None, looked_at)) };
        looked_at += rows;
        let missing = more.saturating_sub(found.len());
        found.extend(database.rows(search.rows(after.as_deref(), &last, missing)).await?);
        if found.len() > limit || rows < window {
            return Ok(cut(found, limit, None, looked_at));
        }
        if looked_at >= LOOK_AT_MAX {
            return Ok(cut(found, limit, Some(last), looked_at));
        }
        after = Some(last);
        window = (window * GROWTH).min(LOOK_AT_MAX - looked_at);
    }
}

/// A page of what was found; `reached` is where an unfinished search stands.
fn cut(mut rows: Vec<Found>, limit: usize, reached: Option<String>, looked_at: u64) -> Page {
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = if more { rows.last().map(|row| row.key.clone()) } else { reached };
    Page { rows, next, looked_at }
}
