//! `restore`: from the mirror back to main, on the worst day. Needs no running service.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tokio::sync::oneshot;

use super::jobs::bytes;
use super::print;
use super::{CANNOT_START, DIFFERENT, FAILED, read_config};
use crate::config::{Config, InventoryConfig};
use crate::journal::{self, Journal, OpenError};
use crate::reconcile::restore::{Event, Plan, Restore, Restored};
use crate::upstream::Upstream;

/// Arguments of `restore`.
#[derive(Args)]
#[command(after_help = "\
Reads the service's own settings (MAIN_*, MIRROR_*, DATA_DIR). Stop the service first: see
docs/runbooks/restore-from-mirror.md. What its journal knows to be newer on main is left
as it is; without the journal only times tell.

Examples:
  s3-mirror restore --dry-run                     what would be copied, and nothing is
  s3-mirror restore --bucket photos --prefix 2024/
  s3-mirror restore                               everything; run it again after an interruption

Exit codes: 0 main has everything the mirror has; 1 keys that are newer on main were
left as they are; 3 some keys were not copied; 64 wrong settings; 69 a service cannot
be reached, or it cannot go on; 130 ended by Ctrl-C.")]
pub(super) struct RestoreArgs {
    /// Only this bucket of main
    #[arg(long)]
    bucket: Option<String>,
    /// Only keys that begin with this; needs --bucket
    #[arg(long, default_value = "", requires = "bucket", hide_default_value = true)]
    prefix: String,
    /// Tell what would be copied, and copy nothing
    #[arg(long)]
    dry_run: bool,
    /// Overwrite keys that are newer on main too
    #[arg(long)]
    overwrite: bool,
    /// Look at so many keys per second at most
    #[arg(long, value_name = "KEYS")]
    rate: Option<u64>,
    /// Copy so many bytes per second at most, such as 50MiB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    bandwidth: Option<u64>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Runs it; yields the exit code.
pub(super) async fn restore(args: RestoreArgs) -> u8 {
    let config = match read_config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let json = args.json;
    let plan = Plan {
        bucket: args.bucket,
        prefix: args.prefix,
        dry_run: args.dry_run,
        overwrite: args.overwrite,
        rate: args.rate,
        bandwidth: args.bandwidth,
    };
    tokio::select! {
        result = run(&config, plan, json) => match result {
            Ok(done) => end(&done, args.dry_run, json),
            Err(reason) => {
                eprintln!("s3-mirror: {reason}");
                CANNOT_START
            }
        },
        _ = tokio::signal::ctrl_c() => {
            eprintln!("s3-mirror: ended; run it again, what is on main already is skipped");
            130
        }
    }
}

async fn run(config: &Config, plan: Plan, json: bool) -> Result<Restored, String> {
    let main = Upstream::new(&config.main).await.map_err(|error| error.to_string())?;
    let mirror = Upstream::new(&config.mirror).await.map_err(|error| error.to_string())?;
    let prefix = config.mirror_bucket_prefix.clone();
    let (journal, writer) = open_journal(config, plan.dry_run).await?.unzip();
    let restore = Restore::new(Arc::new(main), Arc::new(mirror), prefix, journal, plan);
    let bar = if json || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new_spinner()
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed}, {msg}") {
        bar.set_style(style);
    }
    let done = restore.run(|event| match event {
        Event::Progress(done) if json => print::line(&json!(done).to_string()),
        Event::Progress(done) => bar.set_message(line(done)),
        Event::Would { bucket, key, size } if json => {
            print::line(&json!({ "bucket": bucket, "key": key, "size": size }).to_string());
        }
        Event::Would { bucket, key, size } => {
            bar.suspend(|| print::line(&format!("would copy {bucket}/{key} ({size} bytes)")));
        }
        Event::Failed { bucket, key, reason } if json => {
            print::line(&json!({ "bucket": bucket, "key": key, "error": reason }).to_string());
        }
        Event::Failed { bucket, key, reason } => {
            bar.suspend(|| eprintln!("not copied: {bucket}/{key}: {reason}"));
        }
    });
    let done = done.await;
    bar.finish_and_clear();
    drop(restore);
    if let Some(writer) = writer {
        // With it the lock of the directory goes.
        writer.await.ok();
    }
    done
}

/// The journal of the service that has stopped, if there is one.
async fn open_journal(
    config: &Config,
    dry_run: bool,
) -> Result<Option<(Journal, oneshot::Receiver<()>)>, String> {
    if !config.data_dir.join("journal.sqlite").exists() {
        eprintln!(
            "s3-mirror: no journal in DATA_DIR {}: what main has and the mirror has not got yet cannot be \
             told from what is older on main",
            config.data_dir.display()
        );
        return Ok(None);
    }
    let inventory = !matches!(config.inventory, InventoryConfig::Disabled);
    let (data_dir, sync) = (config.data_dir.clone(), config.journal_sync);
    match Journal::open(&journal::Settings { data_dir, sync, inventory }).await {
        Ok((journal, _, writer)) => {
            let writer = journal::on_its_own_thread(writer).map_err(|error| error.to_string())?;
            // With a large backlog there is no finding a key otherwise; the service takes it away.
            journal.index_keys(true).await;
            Ok(Some((journal, writer)))
        }
        Err(OpenError::InUse(path)) if dry_run => {
            let path = path.display();
            eprintln!("s3-mirror: the service runs on {path}: what its journal knows is left out");
            Ok(None)
        }
        Err(OpenError::InUse(path)) => {
            Err(format!("the service runs on {}: stop it first", path.display()))
        }
        Err(error) => Err(error.to_string()),
    }
}

fn end(done: &Restored, dry_run: bool, json: bool) -> u8 {
    let code = match done {
        Restored { failed: 1.., .. } => FAILED,
        Restored { newer_on_main: 1.., .. } => DIFFERENT,
        _ => 0,
    };
    if json {
        let mut value = json!(done);
        value["finished"] = true.into();
        print::line(&value.to_string());
    } else {
        print::line(&format!(
            "{}{}",
            if dry_run { "nothing was copied; " } else { "" },
            line(done)
        ));
    }
    code
}

fn line(done: &Restored) -> String {
    let Restored { scanned, restored, bytes, equal, newer_on_main, only_on_main, failed } = done;
    format!(
        "{scanned} keys of the mirror: {restored} to main ({bytes} bytes), {equal} equal, \
         {newer_on_main} newer on main, {failed} failed; {only_on_main} on main only"
    )
}
