//! Medians, and the table they are printed in.

use std::time::Duration;

use crate::scenario::{Sample, Scenario};

/// Medians of the rounds of one peer in one scenario.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) peer: &'static str,
    pub(crate) requests_per_second: f64,
    pub(crate) mib_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// CPU time of the peer: microseconds per request, or milliseconds per GiB of a large body.
    pub(crate) cpu: f64,
    /// The same with what it did until the mirror had everything.
    pub(crate) cpu_drained: f64,
    pub(crate) drain_seconds: f64,
    pub(crate) resident_mib: f64,
    /// Over all rounds.
    pub(crate) errors: u64,
}

impl Row {
    pub(crate) fn of(peer: &'static str, scenario: &Scenario, samples: &[Sample]) -> Self {
        let by = |figure: &dyn Fn(&Sample) -> f64| median(samples.iter().map(figure).collect());
        let cpu = |time: Duration, sample: &Sample| {
            if scenario.large() {
                time.as_secs_f64() * 1e3 / (float(sample.bytes) / float(1 << 30))
            } else {
                time.as_secs_f64() * 1e6 / float(sample.requests)
            }
        };
        Self {
            peer,
            requests_per_second: by(&|s| float(s.requests) / s.took.as_secs_f64()),
            mib_per_second: by(&|s| float(s.bytes) / float(1 << 20) / s.took.as_secs_f64()),
            p50_ms: by(&|s| s.p50.as_secs_f64() * 1e3),
            p99_ms: by(&|s| s.p99.as_secs_f64() * 1e3),
            cpu: by(&|s| cpu(s.cpu, s)),
            cpu_drained: by(&|s| cpu(s.cpu_drained, s)),
            drain_seconds: by(&|s| s.drain.as_secs_f64()),
            resident_mib: by(&|s| float(s.resident_kib) / 1024.0),
            errors: samples.iter().map(|sample| sample.errors).sum(),
        }
    }
}

/// Counts as far as they occur here are exact in a double.
pub(crate) fn float(count: u64) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "figures for people, far below 2^53")]
    let float = count as f64;
    float
}

/// The middle, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Prints the rows of a scenario as Markdown.
pub(crate) fn print(scenario: &Scenario, rows: &[Row]) {
    let unit = if scenario.large() { "CPU ms/GiB" } else { "CPU µs/request" };
    println!("\n### {}\n", scenario.name);
    print!("| | requests/s | MiB/s | p50 ms | p99 ms | added p50 ms | {unit} |");
    println!("{} RSS MiB |", if scenario.writes() { " with mirroring | drain s |" } else { "" });
    print!("|---|---:|---:|---:|---:|---:|---:|---:|");
    println!("{}", if scenario.writes() { "---:|---:|" } else { "" });
    let direct = rows.iter().find(|row| row.peer == "direct").map_or(0.0, |row| row.p50_ms);
    for row in rows {
        print!(
            "| {} | {:.0} | {:.1} | {:.3} | {:.3} | {:.3} | {:.1} |",
            row.peer,
            row.requests_per_second,
            row.mib_per_second,
            row.p50_ms,
            row.p99_ms,
            row.p50_ms - direct,
            row.cpu
        );
        if scenario.writes() {
            print!(" {:.1} | {:.2} |", row.cpu_drained, row.drain_seconds);
        }
        println!(" {:.1} |", row.resident_mib);
    }
    for row in rows.iter().filter(|row| row.errors > 0) {
        println!("\n{}: {} requests failed.", row.peer, row.errors);
    }
}
