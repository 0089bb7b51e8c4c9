//! The operator's commands: they ask the running service, and tell it what to do.

use clap::Args;
use serde_json::{Value, json};

use super::print::{self, line};
use super::service::{Service, ServiceArgs, ServiceError};
use crate::s3::encode::encode_into;

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
pub(super) fn query(pairs: &[(&str, Option<&str>)]) -> String {
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
    let code = match health["state"].as_str() {
        Some("in_step") => 0,
        Some("behind") => 1,
        Some("parked") => 3,
        Some("stopped") => 4,
        _ => 5,
    };
    let status = match service.get("/api/v1/status").await {
        // A journal that hangs tells no figures, and why has been told.
        Err(ServiceError::Refused(500.., _)) if code == 5 => Value::Null,
        status => status?,
    };
    if args.common.json {
        line(&json!({ "status": status, "health": health }).to_string());
    } else {
        print::status(&status, &health);
    }
    Ok(code)
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
}
