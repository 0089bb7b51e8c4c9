//! The regression gate: CPU per request as a ratio to nginx in the same run, against the
//! committed ratios. Absolute times differ from machine to machine; these ratios hardly do.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use crate::Fault;
use crate::table::Row;

/// How much worse than the committed ratio fails.
const TOLERANCE: f64 = 1.15;

/// Ratios by scenario.
pub(crate) type Ratios = BTreeMap<String, f64>;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("benches/baseline.json")
}

/// CPU per request (per GiB for large bodies) of s3-mirror until its mirror has everything, over
/// that of nginx.
pub(crate) fn ratio(rows: &[Row]) -> Result<f64, Fault> {
    let cpu = |peer: &str| rows.iter().find(|row| row.peer == peer).map(|row| row.cpu_drained);
    match (cpu("s3-mirror"), cpu("nginx")) {
        (Some(ours), Some(nginx)) if nginx > 0.0 => Ok(ours / nginx),
        _ => Err("the gate needs nginx; scripts/bench installs it".into()),
    }
}

/// Compares with the committed ratios; an error names every scenario that became worse.
pub(crate) fn check(ratios: &Ratios) -> Result<(), Fault> {
    let text = fs::read_to_string(file())?;
    let committed: Ratios = serde_json::from_str(&text)?;
    println!("\n| CPU, s3-mirror / nginx | now | committed | limit |\n|---|---:|---:|---:|");
    let mut worse = Vec::new();
    for (name, ratio) in ratios {
        let Some(before) = committed.get(name) else {
            return Err(format!("{}: nothing committed for {name}", file().display()).into());
        };
        let limit = before * TOLERANCE;
        println!("| {name} | {ratio:.2} | {before:.2} | {limit:.2} |");
        if *ratio > limit {
            worse.push(format!("{name}: {ratio:.2} > {limit:.2}"));
        }
    }
    if worse.is_empty() { Ok(()) } else { Err(format!("slower: {}", worse.join("; ")).into()) }
}

/// Replaces the committed ratios.
pub(crate) fn accept(ratios: &Ratios) -> Result<(), Fault> {
    let rounded: Ratios = ratios
        .iter()
        .map(|(name, ratio)| (name.clone(), (ratio * 100.0).round() / 100.0))
        .collect();
    fs::write(file(), serde_json::to_string_pretty(&rounded)? + "\n")?;
    println!("\nwritten: {}", file().display());
    Ok(())
}
