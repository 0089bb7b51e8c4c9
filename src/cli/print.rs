//! The service's answers as text for a person at a terminal.
//!
//! Names of keys come from clients: control characters are never printed as they are, because a
//! terminal would obey them.

use std::io::Write as _;

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// One line on stdout. Whoever closes the pipe early (`head`) wants no more.
pub(super) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{text}").is_err() {
        tracing::trace!("stdout is closed");
    }
}

/// `status`
pub(super) fn status(status: &Value, health: &Value) {
    for text in status_lines(status, health) {
        line(&text);
    }
}

fn status_lines(status: &Value, health: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    if !status.is_null() {
        let uptime = seconds_between(&status["started_ms"], &status["now_ms"]);
        lines.push(format!("s3-mirror {}, up {}", plain(&status["version"]), duration(uptime)));
        lines.push(String::new());
    }
    let findings = health["findings"].as_array().map_or(&[][..], Vec::as_slice);
    if findings.is_empty() {
        lines.push("  IN STEP   the mirror has everything that main has accepted".to_owned());
    }
    for finding in findings {
        let word = match finding["state"].as_str() {
            Some("behind") => "BEHIND",
            Some("parked") => "PARKED",
            Some("stopped") => "STOPPED",
            _ => "FAILING",
        };
        lines.push(format!("  {word:<9} {}", plain(&finding["what"])));
        lines.push(format!("      why   {}", plain(&finding["why"])));
        lines.push(format!("       do   {}", plain(&finding["todo"])));
    }
    if status.is_null() {
        return lines;
    }
    lines.push(String::new());
    let (mirror, inventory, pace) = (&status["mirror"], &status["inventory"], &status["pace"]);
    lines.push(format!(
        "  mirror     {} waiting ({}), oldest {}; {} parked; {} deletes held",
        number(&mirror["pending_operations"]),
        size(&mirror["pending_bytes"]),
        duration(mirror["oldest_pending_seconds"].as_f64().unwrap_or(0.0)),
        number(&mirror["parked"]),
        number(&mirror["held_deletes"]),
    ));
    lines.push(if inventory["enabled"] == Value::Bool(false) {
        "  inventory  none".to_owned()
    } else {
        format!(
            "  inventory  {} rows waiting; {} parked",
            number(&inventory["pending_rows"]),
            number(&inventory["parked_rows"])
        )
    });
    let per_second = |name: &str| format!("{:.1}", pace[name].as_f64().unwrap_or(0.0));
    lines.push(format!(
        "  pace       {} requests/s ({} failed); {} keys/s mirrored ({}/s); {} failed tries/s",
        per_second("requests"),
        per_second("failed_requests"),
        per_second("mirrored"),
        bytes(pace["mirrored_bytes"].as_f64().unwrap_or(0.0)),
        per_second("mirror_errors"),
    ));
    for (name, label) in [("main", "main"), ("mirror", "mirror"), ("database", "database")] {
        let reach = &health[name];
        if reach.is_null() {
            continue;
        }
        let how = if reach["reachable"] == Value::Bool(true) {
            format!("reachable, {} ms", number(&reach["connect_ms"]))
        } else {
            format!("NOT REACHABLE: {}", plain(&reach["error"]))
        };
        lines.push(format!("  {label:<10} {} {how}", plain(&reach["address"])));
    }
    lines
}

/// One parked key.
pub(super) fn parked(entry: &Value) {
    let what = match (entry["mirror"].as_bool(), entry["inventory"].as_bool()) {
        (Some(true), Some(true)) => "copy and row",
        (Some(true), _) => "copy",
        _ => "row",
    };
    let since = entry["parked_ms"].as_i64().or_else(|| entry["accepted_ms"].as_i64());
    line(&format!("{}/{}", plain(&entry["bucket"]), plain(&entry["key"])));
    line(&format!(
        "    {what} of a {} since {}, {}, {} tries",
        plain(&entry["change"]),
        moment(since),
        size(&entry["bytes"]),
        number(&entry["attempts"]),
    ));
    line(&format!("    {}", plain(&entry["reason"])));
}

/// One event that the receiver has not taken.
pub(super) fn event(event: &Value) {
    line(&format!("{}/{}", plain(&event["bucket"]), plain(&event["key"])));
    let what = plain(&event["event"]);
    let since = moment(event["accepted_ms"].as_i64());
    if event["refused"] == Value::Bool(true) {
        let times = number(&event["attempts"]);
        let again = moment(event["next_try_ms"].as_i64());
        line(&format!("    {what} of {since}, refused {times} times, sent again at {again}"));
        line(&format!("    {}", plain(&event["reason"])));
    } else {
        line(&format!("    {what} of {since}, waits"));
    }
}

/// `retry`, `discard`
pub(super) fn handled(kind: &str, what: &str, handled: &Value) {
    let count = number(&handled["entries"]);
    let them = if kind == "events" {
        format!("{count} events")
    } else {
        format!("{count} changes ({})", size(&handled["bytes"]))
    };
    let done = match (kind, what) {
        (_, "discard") => "were given up",
        ("events", _) => "are sent again",
        _ => "are tried again",
    };
    line(&format!("{them} {done}:"));
    let keys = handled["keys"].as_array().map_or(&[][..], Vec::as_slice);
    for key in keys {
        line(&format!("  {}", plain(key)));
    }
    let more = handled["entries"].as_u64().unwrap_or(0).saturating_sub(keys.len() as u64);
    if more > 0 {
        line(&format!("  and {more} more; the log names each"));
    }
    if handled["left"].as_u64().unwrap_or(0) > 0 {
        line(&format!(
            "{} were left, because the inventory has yet to write their row",
            number(&handled["left"])
        ));
    }
}

/// `explain`
pub(super) fn explained(told: &Value) {
    line(&format!("{}/{}", plain(&told["bucket"]), plain(&told["key"])));
    line(&format!("  {}", plain(&told["summary"])));
    line("");
    let entries = told["entries"].as_array().map_or(&[][..], Vec::as_slice);
    line(&match entries.len() {
        0 => "  on their way: nothing".to_owned(),
        1 => "  on their way: 1 change".to_owned(),
        more => format!("  on their way: {more} changes"),
    });
    for entry in entries {
        line(&format!(
            "    {}  {}, outcome {}; mirror {}, inventory {}; request {}",
            moment(entry["accepted_ms"].as_i64()),
            plain(&entry["change"]),
            plain(&entry["outcome"]),
            plain(&entry["mirror"]),
            plain(&entry["inventory"]),
            plain(&entry["request_id"]),
        ));
        if entry["error"].is_string() {
            line(&format!(
                "        {} failed tries, the last: {}",
                number(&entry["attempts"]),
                plain(&entry["error"])
            ));
        }
        if let Some(next_ms) = entry["next_try_ms"].as_i64() {
            let next = moment(Some(next_ms));
            // While nobody answers over there, one key at a time is tried.
            let due = told["now_ms"].as_i64().is_some_and(|now_ms| next_ms < now_ms);
            let when = if due { "as soon as the mirror answers, due since" } else { "at" };
            line(&format!("        next try {when} {next}"));
        }
    }
    for at in told["rechecks_ms"].as_array().map_or(&[][..], Vec::as_slice) {
        line(&format!("  looked at once more at {}", moment(at.as_i64())));
    }
    let row = &told["row"]["row"];
    line(&match told["row"].as_str() {
        Some("no_inventory") => "  inventory: none (DISABLE_DATABASE)".to_owned(),
        Some(_) => "  inventory: no row".to_owned(),
        None if row.is_null() => format!("  inventory: {}", plain(&told["row"]["unavailable"])),
        None => format!(
            "  inventory: {} {}, {}, modified {}, {}",
            if row["deleted"] == Value::Bool(true) { "deleted;" } else { "object of" },
            size(&row["size"]),
            plain(&row["content_type"]),
            plain(&row["last_modified"]),
            if row["is_backed_up"] == Value::Bool(true) { "mirrored" } else { "NOT mirrored" },
        ),
    });
    line(&format!("  mirrored:  {}", plain(&told["mirrored_at"])));
    line(&format!("  verified:  {}", plain(&told["verified_at"])));
    for side in ["main", "mirror"] {
        let state = &told["compared"][side];
        match state["state"].as_str() {
            None => {}
            Some("present") => line(&format!(
                "  {side:<8} {}: {}, ETag {}, modified {}, {} tags",
                plain(&state["bucket"]),
                size(&state["size"]),
                plain(&state["etag"]),
                plain(&state["last_modified"]),
                number(&state["tags"]),
            )),
            Some("absent") => line(&format!("  {side:<8} {}: absent", plain(&state["bucket"]))),
            Some(_) => line(&format!(
                "  {side:<8} {}: {}",
                plain(&state["bucket"]),
                plain(&state["error"])
            )),
        }
    }
}

/// Text without what a terminal would obey.
pub(super) fn plain(value: &Value) -> String {
    let text = match value {
        Value::Null => return "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    // Beside control characters: those that turn the direction of text around.
    let obeyed =
        |c: char| c.is_control() || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if obeyed(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// With spaces between thousands.
fn number(value: &Value) -> String {
    let digits = value.as_i64().unwrap_or(0).to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) && !text.ends_with('-') {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

fn size(value: &Value) -> String {
    bytes(value.as_f64().unwrap_or(0.0))
}

fn bytes(amount: f64) -> String {
    let mut amount = amount;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            let decimals = usize::from(unit != "B" && amount < 100.0);
            return format!("{amount:.decimals$} {unit}");
        }
        amount /= 1024.0;
    }
    format!("{amount:.1} PiB")
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 0.05 => "0 s".to_owned(),
        s if s < 10.0 => format!("{s:.1} s"),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

fn seconds_between(from: &Value, to: &Value) -> f64 {
    let ms = to.as_i64().unwrap_or(0).saturating_sub(from.as_i64().unwrap_or(0)).max(0);
    std::time::Duration::from_millis(ms.unsigned_abs()).as_secs_f64()
}

/// A moment in UTC, to the second.
fn moment(ms: Option<i64>) -> String {
    let moment = ms.and_then(|ms| OffsetDateTime::from_unix_timestamp(ms / 1000).ok());
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_terminal_would_obey_is_shown_and_not_obeyed() {
        assert_eq!(plain(&json!("a\u{1b}[2Jb\n\u{202e}ü")), "a\\u{1b}[2Jb\\n\\u{202e}ü");
        assert_eq!(plain(&Value::Null), "-");
    }

    #[test]
    fn figures_read_well() {
        assert_eq!(number(&json!(1_234_567)), "1 234 567");
        assert_eq!(number(&json!(-1234)), "-1 234");
        assert_eq!(bytes(3.2 * 1024.0 * 1024.0), "3.2 MiB");
        assert_eq!(bytes(12.0), "12 B");
        assert_eq!(duration(1100.0), "18 min");
        assert_eq!(moment(Some(0)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn status_tells_the_finding_its_reason_and_what_to_do_before_any_figure() {
        let status = json!({"version": "1", "started_ms": 0, "now_ms": 60_000});
        let health = json!({"findings": [
            {"state": "behind", "what": "it is behind", "why": "because", "todo": "mend it"}]});
        let text = status_lines(&status, &health).join("\n");
        let place = |word: &str| text.find(word).unwrap_or_else(|| panic!("{word} in {text}"));
        assert!(place("BEHIND") < place("because") && place("because") < place("mend it"));
        assert!(place("mend it") < place("  mirror "));
        let well = status_lines(&status, &json!({"findings": []})).join("\n");
        assert!(well.contains("IN STEP"));
    }
}
