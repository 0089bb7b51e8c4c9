//! The operator's commands: they ask the running service, and tell it what to do.

use clap::Args;
use serde_json::{Value, json};

use super::print::{self, line};
use super::service::{Service, ServiceArgs, ServiceError};
use crate::s3::encode::encode_into;

/// Keys of one page.
const PAGE: u32 = 500;

/// How to print.
#[derive(Args, Debug, Clone)]
pub(super) struct Common {
    /// Print JSON: one object per line
    #[arg(long)]
    pub(super) json: bool,
    #[command(flatten)]
    pub(super) service: ServiceArgs,
}

/// `status`
#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 in step, 1 behind, 3 keys or rows are parked, 4 paused or \
deletes held back, 5 the service is not well, 69 it cannot be reached. Of several the gravest \
counts: 5, 4, 1, 3.

Examples:
  s3-mirror status
  s3-mirror status --late-after 900 --json
  kubectl exec s3-mirror-0 -- s3-mirror status")]
pub(super) struct StatusArgs {
    /// Seconds that a change may wait before the mirror counts as behind
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    late_after: u32,
    #[command(flatten)]
    common: Common,
}

/// Which parked keys.
#[derive(Args, Debug)]
pub(super) struct Which {
    /// Only of this bucket
    #[arg(long)]
    bucket: Option<String>,
    /// Only this key; needs --bucket
    #[arg(long, requires = "bucket")]
    key: Option<String>,
}

/// `failed`
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 nothing is parked, or refused; 3 what is was listed; 69 the \
service cannot be reached.

Examples:
  s3-mirror failed
  s3-mirror failed --bucket photos --json | jq -r .reason | sort | uniq -c
  s3-mirror failed --events"
)]
pub(super) struct FailedArgs {
    #[command(flatten)]
    which: Which,
    /// Instead: events that the receiver refuses by themselves
    #[arg(long)]
    events: bool,
    /// With --events: those that wait too
    #[arg(long, requires = "events")]
    waiting: bool,
    #[command(flatten)]
    common: Common,
}

/// `retry`, `discard`
#[derive(Args, Debug)]
pub(super) struct HandleArgs {
    #[command(flatten)]
    which: Which,
    /// All of all buckets
    #[arg(long, conflicts_with = "bucket", required_unless_present = "bucket")]
    all: bool,
    /// Instead of parked keys: events that the receiver refuses by themselves
    #[arg(long)]
    events: bool,
    #[command(flatten)]
    common: Common,
}

/// `retry`
#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 done, 1 nothing that matches is parked or refused, 69 the \
service cannot be reached, 77 wrong or missing token.

Examples:
  s3-mirror retry --all
  s3-mirror retry --all --events
  s3-mirror retry --bucket photos --key 2026/cat.jpg")]
pub(super) struct RetryArgs {
    #[command(flatten)]
    handle: HandleArgs,
}

/// `discard`
#[derive(Args, Debug)]
#[command(after_help = "What is given up stays as it is on the mirror, until the key is written \
anew or a verification repairs it. With --events: the receiver is not told of these, and what waits \
behind them goes on. Without --yes all is listed and nothing is done.

Exit codes: 0 done, 1 nothing that matches is parked or refused, 2 --yes is missing, 69 the service cannot be \
reached, 77 wrong or missing token.

Examples:
  s3-mirror discard --bucket photos --key too-long-for-the-mirror
  s3-mirror discard --bucket photos --key too-long-for-the-mirror --yes
  s3-mirror discard --events --bucket photos --key refused.jpg --yes
  s3-mirror discard --events --waiting --all --yes")]
pub(super) struct DiscardArgs {
    #[command(flatten)]
    handle: HandleArgs,
    /// With --events: those that wait too, for a receiver that is gone for good
    #[arg(long, requires = "events")]
    waiting: bool,
    /// Really give them up
    #[arg(long)]
    yes: bool,
}

/// `explain`
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 told, 1 main and mirror differ and nothing waits, 3 the key \
is parked, 69 the service cannot be reached.

Examples:
  s3-mirror explain photos/2026/cat.jpg
  s3-mirror explain --no-compare photos/2026/cat.jpg"
)]
pub(super) struct ExplainArgs {
    /// BUCKET/KEY
    #[arg(value_name = "BUCKET/KEY")]
    object: String,
    /// Do not ask main and mirror (one HEAD each)
    #[arg(long)]
    no_compare: bool,
    #[command(flatten)]
    common: Common,
}

/// `pause`
#[derive(Args, Debug)]
#[command(after_help = "Writes go on and wait in the journal, also over a restart, until `resume`.

Exit codes: 0 paused, 69 the service cannot be reached, 77 wrong or missing token.

Example:
  s3-mirror pause --reason 'the mirror moves to another rack'")]
pub(super) struct PauseArgs {
    /// Why; shown to whoever looks at the status
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// `resume`
#[derive(Args, Debug)]
#[command(
    after_help = "Exit codes: 0 mirroring goes on, 1 it was not paused, 69 the service cannot \
be reached, 77 wrong or missing token.

Example:
  s3-mirror resume"
)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    common: Common,
}

/// `release`
#[derive(Args, Debug)]
#[command(after_help = "Exit codes: 0 the deletes are made on the mirror, 1 none of this bucket \
were held back, 69 the service cannot be reached, 77 wrong or missing token.

Example:
  s3-mirror release photos")]
pub(super) struct ReleaseArgs {
    /// The bucket on main
    bucket: String,
    #[command(flatten)]
    common: Common,
}

/// A query string.
fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        let Some(value) = value else { continue };
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        encode_into(&mut text, value.as_bytes(), false);
    }
    text
}

pub(super) async fn status(args: StatusArgs) -> Result<u8, ServiceError> {
    let service = Service::new(&args.common.service)?;
    let late = args.late_after.to_string();
    let health =
        service.get(&format!("/api/v1/health{}", query(&[("late_seconds", Some(&late))]))).await?;
    let status = service.get("/api/v1/status").await?;
    let code = match health["state"].as_str() {
        Some("in_step") => 0,
        Some("behind") => 1,
        Some("parked") => 3,
        Some("stopped") => 4,
        _ => 5,
    };
    if args.common.json {
        line(&json!({ "status": status, "health": health }).to_string());
    } else {
        print::status(&status, &health);
    }
    Ok(code)
}

/// Shows every parked key; yields how many.
async fn list(service: &Service, which: &Which, json: bool) -> Result<u64, ServiceError> {
    let mut after: Value = Value::Null;
    let mut count = 0;
    loop {
        let limit = PAGE.to_string();
        let sequence = after["sequence"].as_i64().map(|sequence| sequence.to_string());
        let path = query(&[
            ("bucket", which.bucket.as_deref()),
            ("key", which.key.as_deref()),
            ("after_bucket", after["bucket"].as_str()),
            ("after_key", after["key"].as_str()),
            ("after_sequence", sequence.as_deref()),
            ("limit", Some(&limit)),
        ]);
        let mut page = service.get(&format!("/api/v1/parked{path}")).await?;
        count += show(&page["parked"], json, print::parked);
        after = page["next"].take();
        if after.is_null() {
            return Ok(count);
        }
    }
}

/// Shows every refused event, and those that wait if so wished; yields how many.
async fn list_events(
    service: &Service,
    which: &Which,
    waiting: bool,
    json: bool,
) -> Result<u64, ServiceError> {
    let mut after: Option<String> = None;
    let mut count = 0;
    loop {
        let limit = PAGE.to_string();
        let path = query(&[
            ("bucket", which.bucket.as_deref()),
            ("key", which.key.as_deref()),
            ("waiting", waiting.then_some("true")),
            ("after", after.as_deref()),
            ("limit", Some(&limit)),
        ]);
        let page = service.get(&format!("/api/v1/events{path}")).await?;
        count += show(&page["events"], json, print::event);
        after = page["next"].as_i64().map(|next| next.to_string());
        if after.is_none() {
            return Ok(count);
        }
    }
}

/// Shows a page; yields how many there were.
fn show(page: &Value, json: bool, print: impl Fn(&Value)) -> u64 {
    let entries = page.as_array().map_or(&[][..], Vec::as_slice);
    for entry in entries {
        if json {
            line(&entry.to_string());
        } else {
            print(entry);
        }
    }
    entries.len() as u64
}

pub(super) async fn failed(args: FailedArgs) -> Result<u8, ServiceError> {
    let service = Service::new(&args.common.service)?;
    let json = args.common.json;
    let (count, one, state) = if args.events {
        let count = list_events(&service, &args.which, args.waiting, json).await?;
        (count, "event", if args.waiting { "not taken" } else { "refused" })
    } else {
        (list(&service, &args.which, json).await?, "key", "parked")
    };
    if !json {
        line(&match count {
            0 => format!("nothing is {state}"),
            1 => format!("one {one} is {state}"),
            more => format!("{more} {one}s are {state}"),
        });
    }
    Ok(if count == 0 { 0 } else { super::FAILED })
}

/// Has something done to all that is chosen, piece by piece.
async fn handle(args: &HandleArgs, what: &str, waiting: bool) -> Result<u8, ServiceError> {
    let service = Service::new(&args.common.service)?;
    let kind = if args.events { "events" } else { "parked" };
    let mut chosen = if args.all {
        json!({ "all": true })
    } else {
        json!({ "bucket": args.which.bucket, "key": args.which.key })
    };
    if waiting {
        chosen["waiting"] = json!(true);
    }
    let mut total = Value::Null;
    loop {
        let mut handled = service.post(&format!("/api/v1/{kind}/{what}"), &chosen).await?;
        chosen["after"] = handled["next"].take();
        add(&mut total, handled);
        if chosen["after"].is_null() {
            break;
        }
    }
    if args.common.json {
        line(&total.to_string());
    } else {
        print::handled(kind, what, &total);
    }
    Ok(u8::from(total["entries"].as_u64() == Some(0)))
}

/// Adds what one piece came to; of the names the first stay.
fn add(total: &mut Value, piece: Value) {
    if total.is_null() {
        *total = piece;
        if let Some(fields) = total.as_object_mut() {
            fields.remove("next");
        }
        return;
    }
    for figure in ["entries", "bytes", "left"] {
        let sum = total[figure].as_i64().unwrap_or(0) + piece[figure].as_i64().unwrap_or(0);
        total[figure] = json!(sum);
    }
}

pub(super) async fn retry(args: RetryArgs) -> Result<u8, ServiceError> {
    handle(&args.handle, "retry", false).await
}

pub(super) async fn discard(args: DiscardArgs) -> Result<u8, ServiceError> {
    if args.yes {
        return handle(&args.handle, "discard", args.waiting).await;
    }
    let service = Service::new(&args.handle.common.service)?;
    let (which, json) = (&args.handle.which, args.handle.common.json);
    let (count, what) = if args.handle.events {
        (list_events(&service, which, args.waiting, json).await?, "events")
    } else {
        (list(&service, which, json).await?, "changes")
    };
    if count == 0 {
        let state = if args.handle.events { "refused" } else { "parked" };
        eprintln!("s3-mirror: nothing that matches is {state}");
        return Ok(1);
    }
    eprintln!("s3-mirror: {count} {what} would be given up; nothing was done. Say --yes to do it.");
    Ok(2)
}

pub(super) async fn explain(args: ExplainArgs) -> Result<u8, ServiceError> {
    let service = Service::new(&args.common.service)?;
    let (bucket, key) = args.object.split_once('/').unwrap_or((&args.object, ""));
    let compare = if args.no_compare { "false" } else { "true" };
    let path = query(&[("bucket", Some(bucket)), ("key", Some(key)), ("compare", Some(compare))]);
    let told = service.get(&format!("/api/v1/explain{path}")).await?;
    if args.common.json {
        line(&told.to_string());
    } else {
        print::explained(&told);
    }
    let entries = told["entries"].as_array().map_or(&[][..], Vec::as_slice);
    let parked = |entry: &Value| entry["mirror"] == "parked" || entry["inventory"] == "parked";
    Ok(if entries.iter().any(parked) {
        super::FAILED
    } else {
        u8::from(entries.is_empty() && told["compared"]["equal"] == json!(false))
    })
}

pub(super) async fn pause(args: PauseArgs) -> Result<u8, ServiceError> {
    let service = Service::new(&args.common.service)?;
    let answer = service.post("/api/v1/pause", &json!({ "reason": args.reason })).await?;
    said(&args.common, &answer, "mirroring is paused; writes wait in the journal until `resume`");
    Ok(0)
}

pub(super) async fn resume(args: ResumeArgs) -> Result<u8, ServiceError> {
    let service = Service::new(&args.common.service)?;
    let answer = service.post("/api/v1/resume", &json!({})).await?;
    let resumed = answer["resumed"] == json!(true);
    let words = if resumed { "mirroring goes on" } else { "mirroring was not paused" };
    said(&args.common, &answer, words);
    Ok(u8::from(!resumed))
}

pub(super) async fn release(args: ReleaseArgs) -> Result<u8, ServiceError> {
    let service = Service::new(&args.common.service)?;
    match service.post("/api/v1/release", &json!({ "bucket": args.bucket })).await {
        Ok(answer) => {
            let words = format!("the held deletes of {} are made on the mirror now", args.bucket);
            said(&args.common, &answer, &words);
            Ok(0)
        }
        Err(ServiceError::Refused(404, reason)) => {
            eprintln!("s3-mirror: {reason}");
            Ok(1)
        }
        Err(error) => Err(error),
    }
}

fn said(common: &Common, answer: &Value, words: &str) {
    if common.json {
        line(&answer.to_string());
    } else {
        line(words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_travel_in_the_query_byte_for_byte() {
        let path = query(&[("a", None), ("key", Some("a b/ü&=?#%")), ("x", Some("1"))]);
        assert_eq!(path, "?key=a%20b%2F%C3%BC%26%3D%3F%23%25&x=1");
        assert_eq!(query(&[]), "");
    }

    #[test]
    fn what_was_done_in_pieces_is_told_as_one() {
        let mut total = Value::Null;
        for entries in [3, 4] {
            let next = json!({ "bucket": "b", "key": "k", "sequence": 1 });
            let keys = [format!("b/{entries}")];
            add(
                &mut total,
                json!({ "entries": entries, "bytes": 10, "left": 1, "keys": keys, "next": next }),
            );
        }
        assert_eq!(total, json!({ "entries": 7, "bytes": 20, "left": 2, "keys": ["b/3"] }));
    }
}
