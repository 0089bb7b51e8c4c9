//! The tables of the file: made when they are wanted, and the views over all of them.

use sqlx::{AssertSqlSafe, Row as _, Sqlite, Transaction};

use super::super::schema::{sqlite_shared, sqlite_table, sqlite_views};
use super::super::table::{Candidate, REGISTRY, candidates};

pub(super) async fn ensure_shared(
    transaction: &mut Transaction<'_, Sqlite>,
) -> Result<(), sqlx::Error> {
    for sql in sqlite_shared() {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut **transaction).await?;
    }
    Ok(())
}

/// The bucket's table, made if missing, and whether it was.
pub(super) async fn ensure_table(
    transaction: &mut Transaction<'_, Sqlite>,
    bucket: &str,
) -> Result<(String, bool), sqlx::Error> {
    ensure_shared(transaction).await?;
    let owned = format!("SELECT table_name FROM {REGISTRY} WHERE bucket = ?1");
    let known: Option<String> = sqlx::query_scalar(AssertSqlSafe(owned))
        .bind(bucket)
        .fetch_optional(&mut **transaction)
        .await?;
    let mut table = known.clone();
    for Candidate { name, only_if_exists } in candidates(bucket) {
        if table.is_some() {
            break;
        }
        let taken = format!(
            "SELECT EXISTS (SELECT 1 FROM {REGISTRY} WHERE table_name = ?1)
                 OR EXISTS (SELECT 1 FROM sqlite_master WHERE name = ?1 COLLATE NOCASE)"
        );
        let taken: bool = sqlx::query_scalar(AssertSqlSafe(taken))
            .bind(&name)
            .fetch_one(&mut **transaction)
            .await?;
        if !taken && !only_if_exists {
            table = Some(name);
        }
    }
    let table = table.ok_or_else(|| {
        sqlx::Error::Protocol("every name for the bucket's table is taken".into())
    })?;
    let exists: bool =
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = ?1)")
            .bind(&table)
            .fetch_one(&mut **transaction)
            .await?;
    if !exists {
        for sql in sqlite_table(&table) {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut **transaction).await?;
        }
        tracing::info!(bucket, table, "an inventory table was created");
    }
    if known.is_none() {
        let insert = format!("INSERT INTO {REGISTRY} (bucket, table_name) VALUES (?1, ?2)");
        sqlx::query(AssertSqlSafe(insert))
            .bind(bucket)
            .bind(&table)
            .execute(&mut **transaction)
            .await?;
    }
    Ok((table, !exists))
}

/// Makes the views over the tables that stand. `SQLite` has no dynamic SQL, so they are made anew
/// when a table comes; a view naming a dropped table would fail as a whole.
pub(super) async fn make_views(
    transaction: &mut Transaction<'_, Sqlite>,
) -> Result<(), sqlx::Error> {
    let list = format!(
        "SELECT bucket, table_name FROM {REGISTRY} WHERE table_name IN
             (SELECT name FROM sqlite_master WHERE type = 'table') ORDER BY bucket"
    );
    let rows = sqlx::query(AssertSqlSafe(list)).fetch_all(&mut **transaction).await?;
    let tables: Vec<(String, String)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    for sql in sqlite_views(&tables) {
        sqlx::query(AssertSqlSafe(sql)).execute(&mut **transaction).await?;
    }
    Ok(())
}
