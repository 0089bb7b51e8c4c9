//! `doctor`: will it work, and what will not be mirrored? Needs no running service.

use std::process::ExitCode;

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tokio::sync::watch;

use super::{CANNOT_START, CONFIG_FAULT, print, read_config};
use crate::app;
use crate::config::{Config, InventoryConfig};
use crate::doctor::finding::{Finding, Level, Probe, Side};
use crate::doctor::outlook::outlook;
use crate::doctor::{self, Place, Stop};
use crate::inventory::store::Store;
use crate::shutdown::StopSignals;
use crate::upstream::Upstream;

/// A person ended it.
const ENDED: u8 = 130;

/// Arguments of `doctor`.
#[derive(Args)]
#[command(after_help = "\
Reads the service's own settings (MAIN_*, MIRROR_*, POSTGRES_*, DATA_DIR). Writes a few
small objects below .s3-mirror-doctor/<random>/ in the bucket of --bucket, or in a bucket
s3-mirror-doctor-<random> that it makes, and removes them, also on Ctrl-C and SIGTERM.

Examples:
  s3-mirror doctor                      before the first day
  s3-mirror doctor --bucket photos      in this bucket (on the mirror: its copy), which has
                                        the rights and the versioning that count
  s3-mirror doctor --mirror-only --json

Exit codes: 0 all is well; 1 something will not be mirrored, or works differently;
2 something essential fails, or cleaning up did; 64 wrong settings; 69 it cannot begin;
130 ended by a signal.")]
pub(super) struct DoctorArgs {
    /// Write in this bucket of main, and in its copy on the mirror
    #[arg(long)]
    bucket: Option<String>,
    /// Look at main only
    #[arg(long, conflicts_with = "mirror_only")]
    main_only: bool,
    /// Look at the mirror only
    #[arg(long)]
    mirror_only: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
}

/// Runs it.
pub(super) async fn doctor(args: DoctorArgs) -> ExitCode {
    let config = match read_config() {
        Ok(config) => config,
        Err(code) => return ExitCode::from(code),
    };
    if args.bucket.as_ref().is_some_and(|bucket| bucket.is_empty() || bucket.contains('/')) {
        eprintln!("s3-mirror: --bucket wants the name of a bucket");
        return ExitCode::from(CONFIG_FAULT);
    }
    let mut signals = match StopSignals::listen() {
        Ok(signals) => signals,
        Err(error) => return super::cannot_start(&error),
    };
    let (set, flag) = watch::channel(false);
    let stop = Stop::new(flag);
    let prefix = &config.mirror_bucket_prefix;
    let copy = args.bucket.as_ref().map(|bucket| format!("{prefix}{bucket}"));
    let main = Place::new(args.bucket.clone(), true, "");
    let mirror = Place::new(copy, false, prefix);
    let traces = format!("main: {}; mirror: {}", main.traces(), mirror.traces());
    let ended = async {
        signals.next().await;
        eprintln!("s3-mirror: ending; what was written is removed first");
        set.send_replace(true);
        signals.next().await;
    };
    tokio::select! {
        code = examine(&config, &args, [main, mirror], &stop) => ExitCode::from(code),
        () = ended => {
            eprintln!("s3-mirror: ended before cleaning up; what may be left: {traces}");
            ExitCode::from(ENDED)
        }
    }
}

async fn examine(config: &Config, args: &DoctorArgs, places: [Place; 2], stop: &Stop) -> u8 {
    let [main, mirror] = places;
    let sides = [
        (Side::Main, &config.main, main, !args.mirror_only),
        (Side::Mirror, &config.mirror, mirror, !args.main_only),
    ];
    let mut findings = Vec::new();
    let mut tell = |finding: Finding| {
        show(&finding, args.json);
        findings.push(finding);
    };
    for (side, endpoint, place, wanted) in sides {
        if !wanted || stop.is_set() {
            continue;
        }
        match Upstream::new(endpoint).await {
            Ok(upstream) => {
                title(side, &endpoint.url(), args.json);
                doctor::service(side, &upstream, place, stop, &mut tell).await;
            }
            Err(error) => {
                eprintln!("s3-mirror: {error}");
                return CANNOT_START;
            }
        }
    }
    if !args.main_only && !args.mirror_only && !stop.is_set() {
        if let Some(finding) = versions(config, args.bucket.as_deref()).await {
            tell(finding);
        }
        tell(database(config, args.json).await);
    }
    conclude(config, args.json, &findings, stop.is_set())
}

/// Are the versions of the named bucket kept on the mirror?
async fn versions(config: &Config, bucket: Option<&str>) -> Option<Finding> {
    let bucket = bucket?;
    let main = Upstream::new(&config.main).await.ok()?;
    let mirror = Upstream::new(&config.mirror).await.ok()?;
    let copy = format!("{}{bucket}", config.mirror_bucket_prefix);
    doctor::versions((&main, bucket), (&mirror, &copy), config.mirroring.versions).await
}

async fn database(config: &Config, json: bool) -> Finding {
    match &config.inventory {
        InventoryConfig::Disabled => {
            title(Side::Database, "none", json);
            let what = "no inventory is kept (DISABLE_DATABASE)";
            Finding::new(Side::Database, Probe::Tables, Level::Ok, what)
        }
        InventoryConfig::Sqlite => {
            title(Side::Database, "SQLite in DATA_DIR", json);
            doctor::sqlite(&config.data_dir).await
        }
        InventoryConfig::Postgres(postgres) => {
            title(Side::Database, "PostgreSQL", json);
            let store = match app::inventory::postgres_settings(postgres).await {
                Ok(settings) => Store::postgres(settings).await,
                Err(error) => Err(error),
            };
            match store {
                Ok(store) => doctor::database(&store).await,
                Err(error) => {
                    let what = error.to_string();
                    Finding::new(Side::Database, Probe::Tables, Level::Fails, what)
                }
            }
        }
    }
}

fn title(side: Side, place: &str, json: bool) {
    if !json {
        print::line(&format!("{} ({place})", word(side)));
    }
}

fn show(finding: &Finding, json: bool) {
    if json {
        return print::line(&json!(finding).to_string());
    }
    let (level, probe) = (word(finding.level), word(finding.probe));
    print::line(&format!("  {level:<8} {probe:<12} {}", print::plain(&json!(finding.what))));
    if let Some(means) = &finding.means {
        print::line(&format!("  {:<21} -> {}", "", print::plain(&json!(means))));
    }
}

/// Tells what follows; yields the exit code.
fn conclude(config: &Config, json: bool, findings: &[Finding], ended: bool) -> u8 {
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (differs, fails) = (count(Level::Differs), count(Level::Fails));
    let code = match (fails, differs) {
        _ if ended => ENDED,
        (1.., _) => 2,
        (_, 1..) => 1,
        _ => 0,
    };
    let lines = if ended { Vec::new() } else { outlook(findings, &config.mirroring) };
    if json {
        for line in &lines {
            print::line(&json!(line).to_string());
        }
        let end = json!({ "finished": !ended, "ok": count(Level::Ok), "differs": differs,
            "fails": fails, "exit_code": code });
        print::line(&end.to_string());
        return code;
    }
    for (mirrored, title) in [(true, "will be mirrored"), (false, "will not be mirrored")] {
        let mut first = true;
        for line in lines.iter().filter(|line| line.mirrored == mirrored) {
            if std::mem::take(&mut first) {
                print::line(title);
            }
            print::line(&format!("  {}", line.what));
        }
    }
    print::line(match code {
        ENDED => "ended before everything was tried",
        2 => "something essential fails",
        1 => "it works; what differs is told above",
        _ => "all is well",
    });
    code
}

/// The name of a value that is a word in JSON.
fn word(value: impl Serialize) -> String {
    json!(value).as_str().unwrap_or_default().to_owned()
}
