//! `inventory import`: rows for what was on main before the proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::Instant;

use super::super::{FAILED, print};
use super::{Parts, bar, cannot, main_of, named, parts};
use crate::reconcile::import::{Event, Import, Imported, Plan, Position};
use crate::reconcile::report_files::Source;
use crate::upstream::Upstream;

/// Where the position is kept, in the data directory.
const POSITION_FILE: &str = "inventory-import.json";
/// How often it is written.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// Arguments of `inventory import`.
#[derive(Args)]
#[command(after_help = "\
Reads the service's own settings (MAIN_*, POSTGRES_*, DATA_DIR). The service may run meanwhile: what
it has written since is newer and stays. An interrupted import goes on where it was, from a file in
DATA_DIR. Nothing is copied to the mirror: `backfill` does that, and writes rows as well.

A listing tells no media type: content_type of a new row is empty, unless --head is given. What the
mirror has counts as not mirrored, unless --mirror is given.

Examples:
  s3-mirror inventory import                          every bucket, by one listing of each
  s3-mirror inventory import --bucket photos --mirror --head
  s3-mirror inventory import --report s3://reports/photos/all/2026-11-21T00-00Z/manifest.json

Exit codes: 0 done; 3 some keys have no row; 64 wrong settings; 69 main or the database
cannot be reached; 130 ended by Ctrl-C (run it again to go on).")]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(super) struct ImportArgs {
    /// Only this bucket of main
    #[arg(long)]
    bucket: Option<String>,
    /// Only keys that begin with this; needs --bucket
    #[arg(long, default_value = "", requires = "bucket", hide_default_value = true)]
    prefix: String,
    /// Read a report of S3 Inventory (CSV, gzip or not) instead of listing: its manifest.json, as a
    /// file or as `s3://bucket/key` on main
    #[arg(long, value_name = "MANIFEST", conflicts_with = "mirror")]
    report: Option<String>,
    /// Ask main about every key: media type, version and exact time (one request each)
    #[arg(long)]
    head: bool,
    /// List the mirror too, and mark what is the same there as mirrored
    #[arg(long)]
    mirror: bool,
    /// Take so many keys per second at most
    #[arg(long, value_name = "KEYS")]
    rate: Option<u64>,
    /// Begin anew, wherever an earlier import was interrupted
    #[arg(long)]
    restart: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// What an interrupted import was about, and where it was.
#[derive(Serialize, Deserialize)]
struct Kept {
    scope: serde_json::Value,
    at: Position,
    done: Imported,
}

/// The file of the position.
struct Place {
    file: PathBuf,
    scope: serde_json::Value,
    saved: Instant,
    warned: bool,
}

impl Place {
    fn read(&self) -> Option<(Position, Imported)> {
        let text = std::fs::read(&self.file).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        (kept.scope == self.scope).then_some((kept.at, kept.done))
    }

    /// Replaces the file, so that it is whole at any moment.
    fn save(&mut self, at: &Position, done: &Imported) {
        if self.saved.elapsed() < SAVE_EVERY {
            return;
        }
        self.saved = Instant::now();
        let kept = json!({ "scope": self.scope, "at": at, "done": done }).to_string();
        let fresh = self.file.with_extension("new");
        let saved = std::fs::write(&fresh, kept).and_then(|()| std::fs::rename(&fresh, &self.file));
        if let Err(error) = saved
            && !self.warned
        {
            self.warned = true;
            eprintln!(
                "s3-mirror: {}: {error}; an interrupted import would begin anew",
                self.file.display()
            );
        }
    }

    fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.file)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("s3-mirror: {}: {error}", self.file.display());
        }
    }
}

/// Runs it; yields the exit code.
pub(super) async fn import(args: ImportArgs) -> u8 {
    let Parts { config, store } = match parts(true).await {
        Ok(parts) => parts,
        Err(code) => return code,
    };
    let main = match main_of(&config).await {
        Ok(main) => main,
        Err(code) => return code,
    };
    let mirror = match Upstream::new(&config.mirror).await {
        Ok(mirror) => (Arc::new(mirror), config.mirror_bucket_prefix.clone()),
        Err(error) => return cannot(&error.to_string()),
    };
    let mut place = Place {
        file: Path::new(&config.data_dir).join(POSITION_FILE),
        scope: json!({
            "main": config.main.url(), "bucket": args.bucket, "prefix": args.prefix,
            "report": args.report, "head": args.head, "mirror": args.mirror,
        }),
        saved: Instant::now(),
        warned: false,
    };
    let begin = if args.restart { None } else { place.read() };
    if begin.is_some() {
        eprintln!("s3-mirror: going on where an earlier import was; --restart begins anew");
    }
    let begin = begin.unwrap_or_default();
    let json = args.json;
    let bar = bar(json);
    let plan = Plan {
        bucket: args.bucket,
        prefix: args.prefix,
        head: args.head,
        mirror: args.mirror,
        rate: args.rate,
    };
    let import = Import { main: main.clone(), mirror, store: store.clone(), plan };
    let mut last = Imported::default();
    let tell = |event: Event<'_>| match event {
        Event::Progress(done, at) => {
            place.save(at, done);
            if json && *done != last {
                print::line(&json!(done).to_string());
                last = done.clone();
            } else if !json {
                bar.set_message(line(done));
            }
        }
        Event::Failed { bucket, key, reason } => {
            named(&bar, json, [bucket, key], ("error", reason));
        }
    };
    let done = match &args.report {
        None => import.from_listing(begin, tell).await,
        Some(report) => match Source::open(report, &main).await {
            Ok((source, manifest)) => import.from_report(&manifest, &source, begin, tell).await,
            Err(reason) => Err(reason),
        },
    };
    bar.finish_and_clear();
    store.close().await;
    let done = match done {
        Ok(done) => done,
        Err(reason) => return cannot(&format!("{reason}; run it again to go on")),
    };
    place.remove();
    if json {
        let mut value = json!(done);
        value["finished"] = true.into();
        print::line(&value.to_string());
    } else {
        print::line(&line(&done));
    }
    if done.failed > 0 { FAILED } else { 0 }
}

fn line(done: &Imported) -> String {
    let Imported { scanned, added, updated, failed } = done;
    let left = scanned.saturating_sub(added + updated + failed);
    format!(
        "{scanned} keys listed: {added} rows added, {updated} brought up to date, {left} left as \
         they were, {failed} failed"
    )
}
