//! `inventory import|check|export`. None needs the running service, and none disturbs it.

mod export;
mod import;

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{CANNOT_START, CONFIG_FAULT, DIFFERENT, FAILED, print, read_config};
use crate::app;
use crate::config::{Config, InventoryConfig};
use crate::inventory::store::Store;
use crate::reconcile::check::{Check, Checked, Event, Plan};
use crate::upstream::Upstream;

/// Ended by Ctrl-C, as a shell says it.
const INTERRUPTED: u8 = 130;
/// Keys that are wrong, or failed, are named up to this many; all are counted.
const NAMED_MAX: u64 = 1000;

/// Arguments of `inventory`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  s3-mirror inventory import --bucket photos
  s3-mirror inventory check
  s3-mirror inventory export --format csv --output objects.csv

Exit codes: 0 done; those of each command: `s3-mirror inventory check --help`.")]
pub(super) struct InventoryArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Write rows for what was on main before the proxy
    Import(import::ImportArgs),
    /// Compare the inventory with main
    Check(CheckArgs),
    /// Write rows to a file that other programs read
    Export(export::ExportArgs),
}

/// Arguments of `inventory check`.
#[derive(Args)]
#[command(after_help = "\
Reads the service's own settings (MAIN_*, POSTGRES_*, DATA_DIR). Changes nothing; what differs is
mended by `inventory import`, or by `verify --repair`, which looks at the mirror too.

Examples:
  s3-mirror inventory check                       every bucket
  s3-mirror inventory check --bucket photos --prefix 2024/ --json

Exit codes: 0 every row tells what main has; 1 some do not; 3 some keys could not be looked at;
64 wrong settings; 69 main or the database cannot be reached; 130 ended by Ctrl-C.")]
struct CheckArgs {
    /// Only this bucket of main
    #[arg(long)]
    bucket: Option<String>,
    /// Only keys that begin with this; needs --bucket
    #[arg(long, default_value = "", requires = "bucket", hide_default_value = true)]
    prefix: String,
    /// Look at so many keys per second at most
    #[arg(long, value_name = "KEYS")]
    rate: Option<u64>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// What a command needs, or the exit code it ends with.
struct Parts {
    config: Config,
    store: Arc<Store>,
}

/// Runs it; yields the exit code.
pub(super) async fn inventory(args: InventoryArgs) -> u8 {
    let ended = async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let work = async {
        match args.action {
            Action::Import(args) => import::import(args).await,
            Action::Check(args) => check(args).await,
            Action::Export(args) => export::export(args).await,
        }
    };
    tokio::select! {
        code = work => code,
        () = ended => {
            eprintln!("s3-mirror: ended; what was written stays");
            INTERRUPTED
        }
    }
}

/// Settings and inventory; without `write` nothing is made in it.
async fn parts(write: bool) -> Result<Parts, u8> {
    let config = read_config()?;
    let store = match &config.inventory {
        InventoryConfig::Disabled => {
            eprintln!("s3-mirror: no inventory is kept (DISABLE_DATABASE)");
            return Err(CONFIG_FAULT);
        }
        InventoryConfig::Sqlite if !write => {
            let file = config.data_dir.join("inventory.sqlite");
            Store::sqlite_read_only(&file).await.map(Some).map_err(|e| e.to_string())
        }
        _ => app::inventory::store(&config).await.map_err(|error| error.to_string()),
    };
    match store {
        Ok(Some(store)) => Ok(Parts { config, store: Arc::new(store) }),
        Ok(None) => Err(CONFIG_FAULT),
        Err(reason) => Err(cannot(&reason)),
    }
}

async fn main_of(config: &Config) -> Result<Arc<Upstream>, u8> {
    match Upstream::new(&config.main).await {
        Ok(main) => Ok(Arc::new(main)),
        Err(error) => Err(cannot(&error.to_string())),
    }
}

/// Tells why it cannot go on.
fn cannot(reason: &str) -> u8 {
    eprintln!("s3-mirror: {reason}");
    CANNOT_START
}

/// Progress on a terminal, unless the output is for a program.
fn bar(json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed}, {msg}") {
        bar.set_style(style);
    }
    bar
}

/// Names a key and what is to be said of it, on stdout for a program and on stderr for a person.
fn named(bar: &ProgressBar, json: bool, [bucket, key]: [&str; 2], (word, text): (&str, &str)) {
    if json {
        print::line(&json!({ "bucket": bucket, "key": key, word: text }).to_string());
    } else {
        let key = print::plain(&json!(key));
        let text = print::plain(&json!(text));
        bar.suspend(|| eprintln!("{text}: {bucket}/{key}"));
    }
}

async fn check(args: CheckArgs) -> u8 {
    let Parts { config, store } = match parts(false).await {
        Ok(parts) => parts,
        Err(code) => return code,
    };
    let main = match main_of(&config).await {
        Ok(main) => main,
        Err(code) => return code,
    };
    let json = args.json;
    let bar = bar(json);
    let (mut told, mut last) = (0, Checked::default());
    let plan = Plan { bucket: args.bucket, prefix: args.prefix, rate: args.rate };
    let check = Check { main, store, plan };
    let done = check.run(|event| match event {
        Event::Progress(done) if json => {
            // A bucket without keys moves nothing.
            if *done != last {
                print::line(&json!(done).to_string());
                last = done.clone();
            }
        }
        Event::Progress(done) => bar.set_message(line(done)),
        Event::Drift { bucket, key, what } => {
            told += 1;
            if told <= NAMED_MAX {
                named(&bar, json, [bucket, key], ("drift", what));
            }
        }
        Event::Failed { bucket, key, reason } => {
            named(&bar, json, [bucket, key], ("error", reason));
        }
    });
    let done = done.await;
    bar.finish_and_clear();
    let done = match done {
        Ok(done) => done,
        Err(reason) => return cannot(&reason),
    };
    if json {
        let mut value = json!(done);
        value["finished"] = true.into();
        print::line(&value.to_string());
    } else {
        if told > NAMED_MAX {
            eprintln!("the first {NAMED_MAX} are named");
        }
        print::line(&line(&done));
    }
    match done {
        Checked { failed: 1.., .. } => FAILED,
        _ if done.drift() > 0 => DIFFERENT,
        _ => 0,
    }
}

fn line(done: &Checked) -> String {
    let Checked { scanned, missing, different, extra, failed } = done;
    format!(
        "{scanned} keys of main: {missing} without a row, {different} with a row that differs, \
         {extra} rows without an object, {failed} not looked at"
    )
}
