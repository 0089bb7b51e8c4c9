//! Logs: one JSON object per line on stdout, written by one thread.
//!
//! `level` and `time` come first, then the message and the fields of the event. A slow reader of
//! stdout must not slow requests down: lines wait in a bounded queue, and when it is full they
//! are dropped and their number is logged once there is room.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use time::OffsetDateTime;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::prelude::*;

/// Lines waiting for stdout.
const LINES: usize = 8192;
/// How long lines are gathered while they keep coming. Whoever sends a line to a thread that waits
/// for it pays for waking it, and a write for each line costs more than the line.
const GATHERING: Duration = Duration::from_millis(5);

/// Keeps the writing thread; dropping it writes out what waits.
pub struct LogGuard {
    sender: Option<SyncSender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        if let Some(sender) = self.sender.take() {
            // An empty line is the end.
            if sender.send(String::new()).is_ok()
                && let Some(thread) = self.thread.take()
                && thread.join().is_err()
            {
                // The log is gone, and with it the place to say so.
            }
        }
    }
}

struct JsonLines {
    sender: SyncSender<String>,
    dropped: AtomicU64,
}

/// Installs the subscriber. May be called once per process; later calls change nothing.
pub fn init(level: LevelFilter) -> LogGuard {
    let (sender, receiver) = sync_channel(LINES);
    let thread =
        std::thread::Builder::new().name("log".into()).spawn(move || write(&receiver)).ok();
    let layer = JsonLines { sender: sender.clone(), dropped: AtomicU64::new(0) };
    // The libraries below log their own doings at info and debug; ours are what is asked for.
    let filter = tracing_subscriber::filter::Targets::new()
        .with_target("s3_mirror", level)
        // It logs whole requests, signatures included.
        .with_target("s3s", LevelFilter::OFF)
        .with_default(level.min(LevelFilter::WARN));
    if tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().is_err() {
        tracing::debug!("logging was set up before");
    }
    LogGuard { sender: Some(sender), thread }
}

fn write(lines: &Receiver<String>) {
    while let Ok(line) = lines.recv() {
        // Locked for one batch only: others print to stdout too.
        let mut out = std::io::stdout().lock();
        // More lines may wait: take them along before flushing.
        for line in std::iter::once(line).chain(lines.try_iter().take(LINES)) {
            if line.is_empty() {
                return drop(out.flush());
            }
            // A disk that is full has room again some day: the next line is tried anew.
            out.write_all(line.as_bytes()).ok();
        }
        out.flush().ok();
        drop(out);
        std::thread::sleep(GATHERING);
    }
}

impl<S: Subscriber> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = String::with_capacity(384);
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        line.push_str("{\"level\":\"");
        line.push_str(level);
        line.push_str("\",\"time\":\"");
        push_time(&mut line, OffsetDateTime::now_utc());
        line.push('"');
        event.record(&mut Fields(&mut line));
        line.push_str("}\n");
        if self.sender.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        } else if self.dropped.load(Ordering::Relaxed) > 0 {
            let lost = self.dropped.swap(0, Ordering::Relaxed);
            let note = format!(
                "{{\"level\":\"warn\",\"message\":\"log lines dropped\",\"lines\":{lost}}}\n"
            );
            if self.sender.try_send(note).is_err() {
                self.dropped.fetch_add(lost, Ordering::Relaxed);
            }
        }
    }
}

/// `2024-01-01T12:00:00.123456Z`
fn push_time(line: &mut String, now: OffsetDateTime) {
    let year = u32::try_from(now.year()).unwrap_or(0);
    for (number, digits, mark) in [
        (year, 4, '-'),
        (u8::from(now.month()).into(), 2, '-'),
        (now.day().into(), 2, 'T'),
        (now.hour().into(), 2, ':'),
        (now.minute().into(), 2, ':'),
        (now.second().into(), 2, '.'),
        (now.microsecond(), 6, 'Z'),
    ] {
        push_digits(line, number, digits);
        line.push(mark);
    }
}

/// Exactly so many decimal digits.
fn push_digits(line: &mut String, number: u32, digits: u32) {
    for power in (0..digits).rev() {
        let digit = number / 10_u32.pow(power) % 10;
        line.push(char::from_digit(digit, 10).unwrap_or('0'));
    }
}

/// A JSON string.
fn push_json(line: &mut String, text: &str) {
    line.push('"');
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        line.push_str(text);
    } else {
        for char in text.chars() {
            match char {
                '"' => line.push_str("\\\""),
                '\\' => line.push_str("\\\\"),
                control if control < ' ' => {
                    // Writing to a String cannot fail.
                    write!(line, "\\u{:04x}", u32::from(control)).unwrap_or_default();
                }
                other => line.push(other),
            }
        }
    }
    line.push('"');
}

struct Fields<'a>(&'a mut String);

impl Fields<'_> {
    fn name(&mut self, field: &Field) {
        self.0.push_str(",\"");
        self.0.push_str(field.name());
        self.0.push_str("\":");
    }

    fn plain(&mut self, field: &Field, value: impl std::fmt::Display) {
        self.name(field);
        // Writing to a String cannot fail.
        write!(self.0, "{value}").unwrap_or_default();
    }
}

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        push_json(self.0, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.name(field);
        self.0.push_str(itoa::Buffer::new().format(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.name(field);
        self.0.push_str(itoa::Buffer::new().format(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.plain(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_is_one_line_of_json() {
        for text in ["plain", "q\"b\\s", "line\nbreak\t\u{1}", "ü€😀\u{7f}"] {
            let mut line = String::new();
            push_json(&mut line, text);
            assert!(!line.contains('\n'));
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }
    }

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let mut line = String::new();
        push_time(
            &mut line,
            OffsetDateTime::from_unix_timestamp_nanos(1_704_110_400_000_042_000).unwrap(),
        );
        assert_eq!(line, "2024-01-01T12:00:00.000042Z");
    }
}
