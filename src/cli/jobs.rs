//! `backfill`, `verify` and `jobs`: starting a job in the running service and watching it.
//!
//! The job is the service's: it goes on when the one who watches leaves, and over a restart.

use std::io::IsTerminal as _;
use std::time::Duration;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::print;
use super::service::{Service, ServiceArgs, ServiceError};
use super::{DIFFERENT, FAILED};
use crate::reconcile::job::{Kind, Spec, State, View};
use crate::shutdown::StopSignals;

/// How often the service is asked.
const POLL: Duration = Duration::from_millis(500);
/// Times in a row that the service may be away, as in a restart, before the watch ends.
const MISSES_MAX: u32 = 240;
/// Ended by Ctrl-C, as a shell says it; the job goes on.
const INTERRUPTED: u8 = 130;

#[derive(Args)]
pub(super) struct Scope {
    /// Only this bucket of main
    #[arg(long)]
    bucket: Option<String>,
    /// Only keys that begin with this; needs --bucket
    #[arg(long, default_value = "", requires = "bucket", hide_default_value = true)]
    prefix: String,
    /// Look at so many keys per second at most
    #[arg(long, value_name = "KEYS")]
    rate: Option<u64>,
    /// Move or read so many bytes per second at most, such as 50MiB
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    bandwidth: Option<u64>,
    /// Start the job and do not wait for it
    #[arg(long)]
    detach: bool,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

/// Arguments of `backfill`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  s3-mirror backfill                              everything of every bucket
  s3-mirror backfill --bucket photos --prefix 2024/
  s3-mirror backfill --rate 500 --bandwidth 50MiB --detach

Exit codes: 0 done; 3 failed, or some keys could not be mirrored; 4 cancelled;
69 the service cannot be reached; 77 wrong token; 130 left by Ctrl-C (the job goes on).")]
pub(super) struct BackfillArgs {
    #[command(flatten)]
    scope: Scope,
}

/// Arguments of `verify`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  s3-mirror verify                                sizes and ETags, by listing
  s3-mirror verify --bucket photos --deep         contents, headers and tags too
  s3-mirror verify --repair                       and have what differs brought over
  s3-mirror verify --repair --delete-extra        and remove what main does not have

Exit codes: 0 no difference was found (of keys whose ETags cannot be compared, which are
counted, only sizes without --deep); 1 they differ (with --repair: something is left);
3 failed, or some keys could not be looked at; 4 cancelled; 69 the service cannot
be reached; 77 wrong token; 130 left by Ctrl-C (the job goes on).")]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    scope: Scope,
    /// Compare contents, headers and tags: every object is read on both sides
    #[arg(long)]
    deep: bool,
    /// Have what differs brought into step
    #[arg(long)]
    repair: bool,
    /// With --repair: remove from the mirror what main does not have
    #[arg(long, requires = "repair")]
    delete_extra: bool,
}

/// Arguments of `jobs`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  s3-mirror jobs                                  what runs and what has ended
  s3-mirror jobs watch verify-20261121T120000Z-1a2b
  s3-mirror jobs cancel verify-20261121T120000Z-1a2b

Exit codes: 0 listed; 69 the service cannot be reached. Those of watching and cancelling:
`s3-mirror jobs watch --help`, `s3-mirror jobs cancel --help`.")]
pub(super) struct JobsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    /// Print one JSON object per line
    #[arg(long, global = true)]
    json: bool,
    #[command(flatten)]
    service: ServiceArgs,
}

#[derive(Subcommand)]
enum Action {
    /// Watch a job to its end
    #[command(after_help = "\
Example:
  s3-mirror jobs watch verify-20261121T120000Z-1a2b

Exit codes: 0 it is done, and a verification agrees; 1 a verification found that they differ;
3 it failed, or some keys could not be compared or mirrored, or there is no such job;
4 it was cancelled; 69 the service cannot be reached; 130 left by Ctrl-C (the job goes on).")]
    Watch {
        /// Name of the job
        id: String,
    },
    /// End a job
    #[command(after_help = "\
What the job has handed to the journal is still done.

Example:
  s3-mirror jobs cancel verify-20261121T120000Z-1a2b

Exit codes: 0 it ends; 3 there is no such job, or it has ended; 69 the service cannot be reached;
77 wrong or missing token.")]
    Cancel {
        /// Name of the job
        id: String,
    },
}

pub(super) fn bytes(text: &str) -> Result<u64, String> {
    crate::config::parse::bytes(text)
        .ok_or_else(|| "a number of bytes, such as 1048576 or 50MiB".to_owned())
}

/// Runs `backfill`; yields the exit code.
pub(super) async fn backfill(args: BackfillArgs) -> Result<u8, ServiceError> {
    let spec = spec(Kind::Backfill, &args.scope);
    start(args.scope, spec).await
}

/// Runs `verify`; yields the exit code.
pub(super) async fn verify(args: VerifyArgs) -> Result<u8, ServiceError> {
    let VerifyArgs { scope, deep, repair, delete_extra } = args;
    let spec = Spec { deep, repair, delete_extra, ..spec(Kind::Verify, &scope) };
    start(scope, spec).await
}

/// Runs `jobs`; yields the exit code.
pub(super) async fn jobs(args: JobsArgs) -> Result<u8, ServiceError> {
    let service = Service::new(&args.service)?;
    match args.action {
        Some(Action::Watch { id }) => watch(&service, &id, args.json).await,
        Some(Action::Cancel { id }) => {
            service.post(&format!("/api/v1/jobs/{id}/cancel"), &json!({})).await?;
            say(args.json, &json!({ "id": id, "cancelled": true }), &format!("{id} is cancelled"));
            Ok(0)
        }
        None => {
            for view in views(service.get("/api/v1/jobs").await?)? {
                let value = serde_json::to_value(&view).unwrap_or_default();
                say(args.json, &value, &line(&view));
            }
            Ok(0)
        }
    }
}

fn spec(kind: Kind, scope: &Scope) -> Spec {
    Spec {
        kind,
        bucket: scope.bucket.clone(),
        prefix: scope.prefix.clone(),
        rate: scope.rate,
        bandwidth: scope.bandwidth,
        ..Spec::verify()
    }
}

async fn start(scope: Scope, spec: Spec) -> Result<u8, ServiceError> {
    let service = Service::new(&scope.service)?;
    let body = serde_json::to_value(&spec).unwrap_or_default();
    let answer = service.post("/api/v1/jobs", &body).await?;
    let id = answer.get("id").and_then(|id| id.as_str()).unwrap_or_default().to_owned();
    if scope.detach {
        say(scope.json, &json!({ "id": id }), &format!("{id} was started"));
        return Ok(0);
    }
    watch(&service, &id, scope.json).await
}

async fn watch(service: &Service, id: &str, json: bool) -> Result<u8, ServiceError> {
    let mut signals =
        StopSignals::listen().map_err(|error| ServiceError::Settings(error.to_string()))?;
    let bar = bar(json);
    let mut last = None;
    let mut misses = 0;
    loop {
        match service.get(&format!("/api/v1/jobs/{id}")).await {
            Ok(value) => {
                misses = 0;
                let view = view(value)?;
                if last.as_ref() != Some(&view) {
                    show(&bar, json, &view);
                }
                if view.state != State::Running {
                    bar.finish_and_clear();
                    end(json, &view);
                    return Ok(exit_code(&view));
                }
                last = Some(view);
            }
            // The service may be restarting; the job goes on with it.
            Err(error @ ServiceError::Unreachable(..)) if last.is_some() => {
                misses += 1;
                if misses > MISSES_MAX {
                    return Err(error);
                }
                bar.set_message("the service does not answer; waiting for it");
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = signals.next() => {
                bar.finish_and_clear();
                eprintln!(
                    "{id} goes on in the service; `s3-mirror jobs watch {id}` comes back to it"
                );
                return Ok(INTERRUPTED);
            }
        }
    }
}

/// 0 in step, 1 different, 3 failed or incomplete, 4 cancelled.
fn exit_code(view: &View) -> u8 {
    match view.state {
        State::Cancelled => super::CANCELLED,
        State::Failed | State::Interrupted => FAILED,
        _ if view.errors > 0 => FAILED,
        _ if view.spec.kind == Kind::Backfill => 0,
        _ if view.spec.repair && view.queued >= view.differences => 0,
        _ if view.differences > 0 => DIFFERENT,
        _ => 0,
    }
}

fn bar(json: bool) -> ProgressBar {
    if json || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn show(bar: &ProgressBar, json: bool, view: &View) {
    if json {
        print::line(&serde_json::to_string(view).unwrap_or_default());
        return;
    }
    let template = if view.total.is_some() {
        "{wide_bar} {pos}/{len} keys, {msg}"
    } else {
        "{spinner} {pos} keys, {elapsed}, {msg}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if let Some(total) = view.total {
        bar.set_length(total);
    }
    bar.set_position(view.scanned);
    let eta = view.eta_seconds.map(|left| format!("{} to go; ", duration(left)));
    bar.set_message(format!("{}{}", eta.unwrap_or_default(), view.message));
}

fn end(json: bool, view: &View) {
    if json {
        return;
    }
    print::line(&line(view));
    if let Some(report) = &view.report {
        print::line(&format!("report: reports/{report} in the data directory of the service"));
    }
}

fn line(view: &View) -> String {
    let state = match view.state {
        State::Running => "running",
        State::Done => "done",
        State::Failed => "failed",
        State::Cancelled => "cancelled",
        State::Interrupted => "interrupted",
    };
    format!("{}: {state}: {}", view.id, view.message)
}

fn duration(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds} s"),
        (0, _) => format!("{minutes} min"),
        _ => format!("{hours} h {minutes} min"),
    }
}

fn views(value: serde_json::Value) -> Result<Vec<View>, ServiceError> {
    serde_json::from_value(value).map_err(|error| other_version(&error))
}

fn view(value: serde_json::Value) -> Result<View, ServiceError> {
    serde_json::from_value(value).map_err(|error| other_version(&error))
}

fn other_version(error: &serde_json::Error) -> ServiceError {
    ServiceError::Settings(format!("the service seems to be another version: {error}"))
}

fn say(json: bool, value: &serde_json::Value, text: &str) {
    if json { print::line(&value.to_string()) } else { print::line(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(state: State, errors: u64, differences: u64, repaired: Option<u64>) -> View {
        let spec = Spec { repair: repaired.is_some(), ..Spec::verify() };
        let value = json!({
            "id": "j", "kind": "verify", "repair": spec.repair, "state": state, "started_ms": 0,
            "finished_ms": 1, "scanned": 1, "total": null, "queued": repaired.unwrap_or(0),
            "bytes": 0, "differences": differences, "errors": errors, "eta_seconds": null,
            "message": "", "counts": {}, "report": null,
        });
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_exit_code_tells_the_result() {
        assert_eq!(exit_code(&ended(State::Done, 0, 0, None)), 0);
        assert_eq!(exit_code(&ended(State::Done, 0, 2, None)), DIFFERENT);
        assert_eq!(exit_code(&ended(State::Done, 0, 2, Some(2))), 0);
        assert_eq!(exit_code(&ended(State::Done, 0, 2, Some(1))), DIFFERENT);
        assert_eq!(exit_code(&ended(State::Done, 1, 2, Some(2))), FAILED);
        assert_eq!(exit_code(&ended(State::Failed, 0, 0, None)), FAILED);
        assert_eq!(exit_code(&ended(State::Cancelled, 0, 0, None)), super::super::CANCELLED);
    }

    #[test]
    fn times_to_go_are_readable() {
        assert_eq!([duration(9), duration(61), duration(7_300)], ["9 s", "1 min", "2 h 1 min"]);
    }
}
