//! Looking through a bucket of a million rows: how long each kind of question takes, in milliseconds
//! at best and at worst of five.
//!
//! `scripts/bench inventory [filter]`, the filter a part of `SQLite`, `PostgreSQL` or `PostgreSQL,
//! older table`. The database is on the same machine, a cluster of its own without `fsync`. That every
//! question goes by an index is the tests' matter (`tests/inventory_store/browse.rs`).
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the rules are for the product; a benchmark measures real time"
)]
#![allow(clippy::print_stdout, reason = "the report goes to the standard output")]

#[path = "../../tests/support/inventory.rs"]
mod inventory;
#[path = "../../tests/support/postgres.rs"]
mod postgres;

use std::time::Instant;

use inventory::{Database, fill, present};
use s3_mirror::inventory::browse::{Browser, Wanted};
use s3_mirror::inventory::postgres::PostgresSettings;

type Fault = Box<dyn std::error::Error + Send + Sync>;

const ROWS: u64 = 1_000_000;
/// Times that each question is asked.
const RUNS: usize = 5;
const TABLE: &str = "bucket_b";

fn main() -> Result<(), Fault> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    if !arguments.iter().any(|argument| argument == "--bench") {
        // `cargo test --all-targets` runs every bench without arguments.
        println!("nothing measured; scripts/bench inventory runs this");
        return Ok(());
    }
    arguments.retain(|argument| argument != "--bench");
    let filter = arguments.first().cloned().unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if "SQLite".contains(&filter) {
            measure("SQLite", &made(Database::sqlite().await, None).await?).await?;
        }
        if "PostgreSQL".contains(&filter) {
            measure("PostgreSQL", &made(Database::postgres().await, None).await?).await?;
        }
        if "PostgreSQL, older table".contains(&filter) {
            // Tables of earlier versions have the collation of their database.
            let database = made(Database::postgres().await, Some("en-x-icu")).await?;
            measure("PostgreSQL, older table", &database).await?;
        }
        Ok(())
    })
}

/// The same database with the table of the bucket, made by its first row.
async fn made(database: Database, collation: Option<&str>) -> Result<Database, Fault> {
    database.store().await.write(&[present("b", "zzz/last", 1)]).await?;
    if let Some(collation) = collation {
        let sql =
            format!("ALTER TABLE {TABLE} ALTER COLUMN path TYPE TEXT COLLATE \"{collation}\"");
        database.execute(&sql).await;
    }
    Ok(database)
}

async fn measure(name: &str, database: &Database) -> Result<(), Fault> {
    let began = Instant::now();
    fill(database, TABLE, ROWS).await;
    println!(
        "{name}: loaded in {} s\n\n| | ms | rows | keys looked at |",
        began.elapsed().as_secs()
    );
    println!("|---|---:|---:|---:|");
    let browser = match database {
        Database::Postgres { url, .. } => {
            database.execute(&format!("VACUUM ANALYZE {TABLE}")).await;
            Browser::postgres(PostgresSettings::from_url(url)?)?
        }
        Database::Sqlite { directory, .. } => {
            Browser::sqlite(&directory.path().join("inventory.db"))
        }
    };
    let page = || Wanted { bucket: "b".into(), limit: 100, ..Wanted::default() };
    let after = |key: &str| Wanted { after: Some(key.into()), ..page() };
    let prefix = |prefix: &str| Wanted { prefix: prefix.into(), ..page() };
    let part = |part: &str| Wanted { contains: part.into(), ..page() };
    for (what, wanted) in [
        ("first page", page()),
        ("page in the middle", after("2026/15/500000.bin")),
        ("last page", after("2026/29/999000.bin")),
        ("prefix", prefix("2026/29/99")),
        ("prefix of nothing", prefix("2026/31/")),
        ("part that many have", part("70.bin")),
        ("part that none has", part("nowhere")),
        ("what the mirror lacks: one", Wanted { pending: true, ..page() }),
    ] {
        time(&browser, what, &wanted).await?;
    }
    database.execute(&format!("UPDATE {TABLE} SET is_backed_up = FALSE")).await;
    let pending = Wanted { pending: true, ..page() };
    time(&browser, "what the mirror lacks: all", &pending).await?;
    let began = Instant::now();
    browser.totals().await?;
    println!("| totals of the bucket | {} | | |\n", began.elapsed().as_millis());
    Ok(())
}

/// Prints the best and the worst time.
async fn time(browser: &Browser, what: &str, wanted: &Wanted) -> Result<(), Fault> {
    let mut took = Vec::new();
    let mut told = String::new();
    for _ in 0..RUNS {
        let began = Instant::now();
        let page = browser.page(wanted).await?;
        took.push(began.elapsed().as_millis());
        told = format!("{} | {}", page.rows.len(), page.looked_at);
    }
    took.sort_unstable();
    println!("| {what} | {} to {} | {told} |", took[0], took[RUNS - 1]);
    Ok(())
}
