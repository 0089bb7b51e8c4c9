//! What stands still: parked keys and refused events, listed, tried again, given up.

use clap::Args;
use serde_json::{Value, json};

use super::operate::{Common, query};
use super::print::{self, line};
use super::service::{Service, ServiceError};

/// Keys of one page.
const PAGE: u32 = 500;

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

#[cfg(test)]
mod tests {
    use super::*;

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
