//! The command line. `serve` is the default; exit codes follow `sysexits.h` where one fits.

mod doctor;
mod inventory;
mod jobs;
mod operate;
mod print;
mod restore;
mod service;
mod stopped;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::app;
use crate::config::{Config, Environment};
use crate::dev;
use crate::shutdown::StopSignals;
use crate::telemetry;
use crate::upstream::describe;

/// The configuration is wrong (`EX_USAGE`).
const CONFIG_FAULT: u8 = 64;
/// The service cannot start: a port is taken, the journal is in use or unreadable
/// (`EX_UNAVAILABLE`).
const CANNOT_START: u8 = 69;
/// The service wants another token (`EX_NOPERM`).
const FORBIDDEN: u8 = 77;
/// What was compared differs.
const DIFFERENT: u8 = 1;
/// It could not be done, or not for every key.
const FAILED: u8 = 3;
/// A person ended it.
const CANCELLED: u8 = 4;

/// A streaming S3 proxy that brings every accepted write to a second S3 and to an SQL inventory.
///
/// Configuration is read from environment variables; see docs/configuration.md.
#[derive(Parser)]
#[command(
    name = "s3-mirror",
    version,
    about,
    after_help = "\
Examples:
  s3-mirror dev                         everything on this machine, nothing else needed
  s3-mirror doctor                      before the first day: what will be mirrored, and what not
  s3-mirror                             the proxy, as the environment says
  s3-mirror status                      is the mirror behind, why, and what is to be done
  s3-mirror help verify                 one command, with its examples and exit codes

Exit codes: 0 it went well; 2 wrong command line; 64 wrong settings; 69 it cannot start, or what it
needs cannot be reached; 77 wrong or missing token. Each command tells those of its own."
)]
struct CommandLine {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy (the default)
    #[command(after_help = "\
Runs until SIGTERM or SIGINT: then it takes no more requests, ends those under way, and settles what
it can within DRAIN_TIMEOUT_SECONDS; what is left is in the journal. A second signal ends it at once.

Examples:
  MAIN_S3_ENDPOINT=https://s3.eu-central-1.amazonaws.com MIRROR_S3_ENDPOINT=https://s3.example.com \\
    s3-mirror serve
  set -a; . ./s3-mirror.env; s3-mirror serve

Exit codes: 0 ended by a signal, and orderly; 64 wrong settings, each told on stderr; 69 it cannot
start: a port is taken, or the journal is in use or unreadable.")]
    Serve,
    /// Run the proxy with two embedded S3 stores: nothing else is needed
    Dev(DevArgs),
    /// Is the mirror behind, why, and what is to be done
    Status(operate::StatusArgs),
    /// List the keys that a permanent error has stopped
    Failed(stopped::FailedArgs),
    /// Try parked keys again
    Retry(stopped::RetryArgs),
    /// Give parked keys up
    Discard(stopped::DiscardArgs),
    /// Tell everything that is known of one key
    Explain(operate::ExplainArgs),
    /// Stop mirroring until it is resumed; writes wait in the journal
    Pause(operate::PauseArgs),
    /// Let mirroring go on
    Resume(operate::ResumeArgs),
    /// Let deletes that were held back from the mirror be made there
    Release(operate::ReleaseArgs),
    /// Print a completion script for a shell
    #[command(after_help = "\
Examples:
  s3-mirror completions bash > /etc/bash_completion.d/s3-mirror
  s3-mirror completions zsh > \"${fpath[1]}/_s3-mirror\"

Exit codes: 0 printed; 2 no such shell.")]
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Bring to mirror and inventory what was on main before the proxy
    Backfill(jobs::BackfillArgs),
    /// Compare main, mirror and inventory, and repair what differs
    Verify(jobs::VerifyArgs),
    /// List, watch and cancel backfills and verifications
    Jobs(jobs::JobsArgs),
    /// Import into the inventory, check and export it
    Inventory(inventory::InventoryArgs),
    /// Bring back to main what the mirror has
    Restore(restore::RestoreArgs),
    /// Try main, mirror and database, and tell what will and will not be mirrored
    Doctor(doctor::DoctorArgs),
    /// Run one embedded S3 store, for tests and compose files
    Store(StoreArgs),
}

#[derive(Args)]
#[command(after_help = "\
For a look at it, and for tests of applications: any keys are taken, and nothing has to be set. The
settings of `serve` are not read.

Examples:
  s3-mirror dev
  s3-mirror dev --data-dir /tmp/s3 --listen 127.0.0.1:8081 --admin 127.0.0.1:9091
  aws --endpoint-url http://127.0.0.1:8080 s3 mb s3://bucket

Exit codes: 0 ended by a signal; 64 wrong settings; 69 it cannot start: a port is taken, or the
directory is in use.")]
struct DevArgs {
    /// Where everything is kept
    #[arg(long, default_value = "./data/dev")]
    data_dir: PathBuf,
    /// Where S3 is served
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Where probes, metrics and status are served
    #[arg(long, default_value = "127.0.0.1:9090")]
    admin: SocketAddr,
    /// Where the main store is served
    #[arg(long, default_value = "127.0.0.1:9001")]
    main: SocketAddr,
    /// Where the mirror store is served
    #[arg(long, default_value = "127.0.0.1:9002")]
    mirror: SocketAddr,
}

#[derive(Args)]
#[command(after_help = "\
Examples:
  s3-mirror store --listen 127.0.0.1:9001 --data-dir /tmp/main --access-key k --secret-key secret
  s3-mirror store --listen 0.0.0.0:9002 --data-dir /data --access-key k --secret-key secret \\
    --domain s3.localhost:9002 --fsync

Exit codes: 0 ended by a signal; 69 it cannot start: the port is taken, or the directory cannot be
used.")]
struct StoreArgs {
    /// Where S3 is served
    #[arg(long)]
    listen: SocketAddr,
    /// Where objects are kept
    #[arg(long)]
    data_dir: PathBuf,
    /// The access key ID it knows
    #[arg(long)]
    access_key: String,
    /// Its secret access key
    #[arg(long)]
    secret_key: String,
    /// Base domain for virtual-hosted-style addressing, with port; may be repeated
    #[arg(long)]
    domain: Vec<String>,
    /// Sync every write to the disk
    #[arg(long)]
    fsync: bool,
}

/// How long calls that block are waited for at the end.
const BLOCKED_TIMEOUT: Duration = Duration::from_secs(2);

/// Threads for everything but requests, which have one per core of their own: as many. With half as
/// many, copies get less of the processor than the writes they follow when there is not enough of it,
/// and the mirror falls behind.
fn background_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Runs what the command line asks for.
pub fn run() -> ExitCode {
    let command = CommandLine::parse().command.unwrap_or(Command::Serve);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = match builder.worker_threads(background_threads()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return cannot_start(&error),
    };
    let code = runtime.block_on(async {
        match command {
            Command::Serve => serve().await,
            Command::Dev(args) => Box::pin(develop(args)).await,
            Command::Store(args) => store(args).await,
            Command::Status(args) => told(operate::status(args).await),
            Command::Failed(args) => told(stopped::failed(args).await),
            Command::Retry(args) => told(stopped::retry(args).await),
            Command::Discard(args) => told(stopped::discard(args).await),
            Command::Explain(args) => told(operate::explain(args).await),
            Command::Pause(args) => told(operate::pause(args).await),
            Command::Resume(args) => told(operate::resume(args).await),
            Command::Release(args) => told(operate::release(args).await),
            Command::Completions { shell } => {
                let mut command = CommandLine::command();
                let name = command.get_name().to_owned();
                clap_complete::generate(shell, &mut command, name, &mut std::io::stdout());
                ExitCode::SUCCESS
            }
            Command::Backfill(args) => told(jobs::backfill(args).await),
            Command::Verify(args) => told(jobs::verify(args).await),
            Command::Restore(args) => ExitCode::from(restore::restore(args).await),
            Command::Inventory(args) => ExitCode::from(Box::pin(inventory::inventory(args)).await),
            Command::Doctor(args) => doctor::doctor(args).await,
            Command::Jobs(args) => told(jobs::jobs(args).await),
        }
    });
    // Not for ever on a file system that hangs.
    runtime.shutdown_timeout(BLOCKED_TIMEOUT);
    code
}

fn cannot_start(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("s3-mirror: {}", describe(error));
    ExitCode::from(CANNOT_START)
}

/// The end of a command that talks to the service.
fn told(result: Result<u8, service::ServiceError>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("s3-mirror: {error}");
            ExitCode::from(error.code())
        }
    }
}

/// The settings of the service; faults are told, and the exit code is yielded.
fn read_config() -> Result<Config, u8> {
    let config = Environment::read()
        .map_err(|error| vec![error])
        .and_then(|environment| Config::from_environment(&environment));
    config.map_err(|faults| {
        for fault in faults {
            eprintln!("s3-mirror: {fault}");
        }
        CONFIG_FAULT
    })
}

async fn serve() -> ExitCode {
    let config = match read_config() {
        Ok(config) => config,
        Err(code) => return ExitCode::from(code),
    };
    let _log = telemetry::init(config.log_level);
    let mut signals = match StopSignals::listen() {
        Ok(signals) => signals,
        Err(error) => return cannot_start(&error),
    };
    let stop = async move {
        let signal = signals.next().await;
        tracing::info!(signal, "stopping");
        // A second signal means now.
        tokio::spawn(async move {
            signals.next().await;
            std::process::abort();
        });
    };
    match app::serve(config, stop).await {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => cannot_start(&error),
    }
}

async fn develop(args: DevArgs) -> ExitCode {
    let _log = telemetry::init(tracing::level_filters::LevelFilter::WARN);
    let settings = dev::Settings {
        data_dir: args.data_dir,
        listen: args.listen,
        admin: args.admin,
        main: args.main,
        mirror: args.mirror,
    };
    let mut signals = match StopSignals::listen() {
        Ok(signals) => signals,
        Err(error) => return cannot_start(&error),
    };
    let stop = async move {
        signals.next().await;
    };
    match dev::run(settings, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cannot_start(&error),
    }
}

async fn store(args: StoreArgs) -> ExitCode {
    let _log = telemetry::init(tracing::level_filters::LevelFilter::WARN);
    let config = dev::store::StoreConfig {
        data_dir: args.data_dir,
        access_key_id: args.access_key,
        secret_access_key: args.secret_key,
        domains: args.domain,
        fsync: args.fsync,
    };
    let mut signals = match StopSignals::listen() {
        Ok(signals) => signals,
        Err(error) => return cannot_start(&error),
    };
    let stop = async move {
        signals.next().await;
    };
    match dev::serve_store(config, args.listen, stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cannot_start(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that can be typed, with its whole name.
    fn commands(command: &clap::Command, name: &str, found: &mut Vec<(String, String)>) {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        found.push((name.to_owned(), help));
        for below in command.get_subcommands() {
            commands(below, &format!("{name} {}", below.get_name()), found);
        }
    }

    #[test]
    fn the_help_of_every_command_has_examples_of_itself_and_tells_its_exit_codes() {
        let mut found = Vec::new();
        commands(&CommandLine::command(), "s3-mirror", &mut found);
        assert!(found.len() > 20, "{found:?}");
        for (name, help) in &found {
            let examples = help.split_once("Example").map_or("", |(_, examples)| examples);
            assert!(examples.contains(name.as_str()), "{name} has no example of itself:\n{help}");
            assert!(help.contains("Exit codes: 0 "), "{name} tells no exit codes:\n{help}");
        }
    }

    #[test]
    fn every_example_is_a_command_line_that_would_be_taken() {
        let mut found = Vec::new();
        commands(&CommandLine::command(), "s3-mirror", &mut found);
        let mut tried = 0;
        for (name, help) in &found {
            let examples = help.split_once("Example").map_or("", |(_, examples)| examples);
            for line in examples.lines().filter(|line| line.starts_with("  ")) {
                // What stands behind several spaces is a remark; what pipes lead to is not ours.
                let Some((_, ours)) = line.split_once("s3-mirror") else { continue };
                let ours = ours.split("   ").next().unwrap_or_default();
                let ours = ours.split(['|', '>']).next().unwrap_or_default();
                if line.trim_start().starts_with("kubectl")
                    || line.trim_end().ends_with('\\')
                    || ours.starts_with('.')
                {
                    continue;
                }
                // What stands between quotes is one word.
                let words = ours.split('\'').enumerate().flat_map(|(at, part)| {
                    let quoted = at % 2 == 1;
                    let split = (!quoted).then(|| part.split_whitespace());
                    quoted.then_some(part).into_iter().chain(split.into_iter().flatten())
                });
                let parsed = CommandLine::try_parse_from(std::iter::once("s3-mirror").chain(words));
                if let Err(error) = parsed
                    && !matches!(error.kind(), clap::error::ErrorKind::DisplayHelp)
                {
                    panic!("an example of {name} is not taken: {line}\n{error}");
                }
                tried += 1;
            }
        }
        assert!(tried > 40, "only {tried} examples were found");
    }
}
