//! The documentation tells the truth: settings, metrics, columns and links are those of the code.
#![allow(clippy::unwrap_used, reason = "a test says that it failed by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use prometheus_client::registry::Registry;
use s3_mirror::config::{Config, Environment};
use s3_mirror::inventory::schema;
use s3_mirror::metrics::Metrics;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files below `directory` with one of these endings, generated and foreign folders left out.
fn files(directory: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    const SKIPPED: [&str; 4] = ["target", "node_modules", "data", "results"];
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if !name.starts_with('.') && !SKIPPED.contains(&name) {
                files(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

/// Rows of the tables in a Markdown text whose first cell is one word in backticks, as
/// (word, second cell).
fn rows(markdown: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in markdown.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let word = cells[0].strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
        if let Some(word) = word.filter(|word| !word.contains('`')) {
            found.push((word.to_owned(), (*cells.get(1).unwrap_or(&"")).to_owned()));
        }
    }
    found
}

/// One section of a Markdown text, its heading left out.
fn section<'a>(markdown: &'a str, heading: &str) -> &'a str {
    let begin = format!("\n## {heading}\n");
    let (_, rest) = markdown.split_once(&begin).unwrap_or_else(|| panic!("no section `{heading}`"));
    rest.split_once("\n## ").map_or(rest, |(section, _)| section)
}

fn is_variable(word: &str) -> bool {
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// Settings of a table: name to default; empty for none.
fn settings_of(markdown: &str) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for (name, default) in rows(markdown).into_iter().filter(|(name, _)| is_variable(name)) {
        let default = match default.as_str() {
            "" | "**required**" => String::new(),
            quoted => {
                let bare = quoted.strip_prefix('`').and_then(|cell| cell.strip_suffix('`'));
                bare.unwrap_or_else(|| panic!("{name}: default {quoted}")).to_owned()
            }
        };
        assert!(settings.insert(name.clone(), default).is_none(), "{name} is there twice");
    }
    settings
}

/// Settings of `.env.example`: name to default.
fn settings_of_example() -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    for line in read(".env.example").lines() {
        if let Some((name, default)) = line.trim_start_matches('#').split_once('=')
            && is_variable(name)
        {
            let known = settings.insert(name.to_owned(), default.to_owned());
            assert!(known.is_none(), "{name} is there twice");
        }
    }
    settings
}

/// Settings the code reads: the fields of `Environment`.
fn settings_of_code() -> BTreeSet<String> {
    let source = read("src/config/env.rs");
    let (_, fields) = source.split_once("pub struct Environment {").unwrap();
    let (fields, _) = fields.split_once("\n}").unwrap();
    let names = fields.lines().filter_map(|line| {
        let (name, kind) = line.trim().strip_prefix("pub ")?.split_once(": ")?;
        assert_eq!(kind, "Option<String>,", "{name}");
        Some(name.to_ascii_uppercase())
    });
    names.collect()
}

#[test]
fn every_setting_is_documented_everywhere_and_no_other() {
    let code = settings_of_code();
    assert!(code.len() > 20, "the fields of Environment were not found: {code:?}");
    let readme = read("README.md");
    let page = read("docs/configuration.md");
    for (place, documented) in [
        ("README.md", settings_of(section(&readme, "Configuration"))),
        ("docs/configuration.md", settings_of(&page)),
        (".env.example", settings_of_example()),
    ] {
        let documented: BTreeSet<String> = documented.into_keys().collect();
        assert_eq!(documented, code, "{place} and src/config/env.rs differ");
    }
}

/// Settings that values of the chart's own stand for, or that are the chart's to decide.
const OF_THE_CHART: &[&str] = &[
    "ADMIN_ADDR",
    "ADMIN_TOKEN",
    "ADMIN_TOKEN_FILE",
    "CLIENT_CREDENTIALS_FILE",
    "DATA_DIR",
    "DISABLE_DATABASE",
    "DRAIN_TIMEOUT_SECONDS",
    "EVENTS_WEBHOOK_SECRET",
    "EVENTS_WEBHOOK_URL",
    "LISTEN_ADDR",
    "LOG_LEVEL",
    "MAIN_ACCESS_KEY",
    "MAIN_REGION",
    "MAIN_S3_ENDPOINT",
    "MAIN_SECRET_KEY",
    "MIRROR_ACCESS_KEY",
    "MIRROR_BUCKET_PREFIX",
    "MIRROR_REGION",
    "MIRROR_S3_ENDPOINT",
    "MIRROR_SECRET_KEY",
    "POSTGRES_DB",
    "POSTGRES_HOST",
    "POSTGRES_PASSWORD",
    "POSTGRES_PORT",
    "POSTGRES_SSLMODE",
    "POSTGRES_URL",
    "POSTGRES_USER",
    "PROXY_DOMAIN",
    "TLS_CERT_FILE",
    "TLS_KEY_FILE",
];

#[test]
fn every_setting_can_be_set_by_the_chart() {
    let schema = read("charts/s3-mirror/values.schema.json");
    let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
    let settings = schema["properties"]["settings"]["properties"].as_object().unwrap();
    let own = OF_THE_CHART.iter().map(|name| (*name).to_owned());
    let known: BTreeSet<String> = settings.keys().cloned().chain(own).collect();
    assert_eq!(
        known,
        settings_of_code(),
        "`settings` of charts/s3-mirror/values.schema.json (a secret needs a value of its own, and \
         its name in OF_THE_CHART) and src/config/env.rs differ"
    );
}

#[test]
fn every_metric_is_on_the_board() {
    let board = read("charts/s3-mirror/files/dashboard.json");
    for name in metrics_of_code().into_keys() {
        assert!(
            board.contains(&name),
            "{name} is in no panel of charts/s3-mirror/files/dashboard.json"
        );
    }
}

#[test]
fn documented_defaults_are_the_same_everywhere() {
    let example = settings_of_example();
    let readme = read("README.md");
    assert_eq!(settings_of(section(&readme, "Configuration")), example, "README.md");
    assert_eq!(settings_of(&read("docs/configuration.md")), example, "docs/configuration.md");
}

#[test]
fn documented_defaults_are_what_the_code_takes() {
    // The one that has no default, and what makes the database settings count.
    let least = [("MIRROR_S3_ENDPOINT", "http://mirror.test"), ("POSTGRES_PASSWORD", "any")];
    let least: Vec<_> = least.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let said = settings_of_example().into_iter().filter(|(name, default)| {
        // Unsaid it leaves the choice to the URL; with the parts it means `disable`.
        !default.is_empty() && name != "POSTGRES_SSLMODE"
    });
    let said: Vec<_> = said.chain(least.clone()).collect();
    assert!(said.len() > 15, "{said:?}");
    let config = |pairs: Vec<(String, String)>| {
        let environment = Environment::from_pairs(pairs.into_iter()).unwrap();
        format!("{:#?}", Config::from_environment(&environment).unwrap())
    };
    assert_eq!(config(said), config(least));
}

/// Metrics as `/metrics` shows them: name to type.
fn metrics_of_code() -> BTreeMap<String, String> {
    let mut registry = Registry::default();
    let metrics = Metrics::new(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    drop(metrics);
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    types
        .map(|(name, kind)| {
            let total = if kind == "counter" { "_total" } else { "" };
            (format!("{name}{total}"), kind.to_owned())
        })
        .collect()
}

#[test]
fn every_metric_is_documented_with_its_type_and_no_other() {
    let page = read("docs/metrics.md");
    let (table, _) = page.split_once("## What to alert on").unwrap();
    let documented: BTreeMap<String, String> = rows(table)
        .into_iter()
        .filter(|(name, _)| name.starts_with("s3_proxy_"))
        .map(|(name, kind)| (name, kind.split(',').next().unwrap_or_default().to_owned()))
        .collect();
    assert_eq!(documented, metrics_of_code());
}

#[test]
fn alerts_boards_and_pages_name_no_metric_that_does_not_exist() {
    let known = metrics_of_code();
    let exists = |word: &str| {
        known.contains_key(word)
            || ["_bucket", "_sum", "_count"].iter().any(|part| {
                let base = word.strip_suffix(part);
                base.is_some_and(|base| known.get(base).is_some_and(|kind| kind == "histogram"))
            })
    };
    let mut found = Vec::new();
    files(&root(), &[".md", ".yaml", ".yml", ".json"], &mut found);
    let mut seen = 0;
    for file in found {
        let text = fs::read_to_string(&file).unwrap();
        let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        for name in text.split(word).filter(|name| name.starts_with("s3_proxy_")) {
            assert!(exists(name), "{}: {name}", file.display());
            seen += 1;
        }
    }
    assert!(seen > 20, "only {seen} names found");
}

#[test]
fn the_readme_lists_the_columns_of_the_inventory_in_order() {
    let readme = read("README.md");
    let documented = rows(section(&readme, "Inventory"));
    let columns: Vec<&str> = schema::COLUMNS.iter().map(|column| column.name).collect();
    let names: Vec<&str> = documented.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, columns);
    for (column, (name, kind)) in schema::COLUMNS.iter().zip(&documented) {
        // In a new table the uniqueness of `path` is a constraint with a name.
        let kind = kind.trim_matches('`').replace("UNIQUE ", "");
        assert_eq!(kind, column.postgres, "{name}");
    }
    let contract: Vec<&str> = schema::contract_columns().collect();
    assert_eq!(contract.len(), 9);
    assert!(section(&readme, "Inventory").contains("The first nine columns"));
}

#[test]
fn every_promise_has_its_place() {
    let (semantics, readme) = (read("docs/semantics.md"), read("README.md"));
    for number in 1..=9 {
        assert!(semantics.contains(&format!("\n## P{number} ")), "docs/semantics.md: P{number}");
        assert!(readme.contains(&format!("\n- **P{number} ")), "README.md: P{number}");
    }
}

#[test]
fn the_first_screen_of_the_readme_has_both_commands() {
    let readme = read("README.md");
    let screen: Vec<&str> = readme.lines().take(30).collect();
    for command in ["cargo run --release -- dev", "scripts/test"] {
        assert!(screen.iter().any(|line| line.starts_with(command)), "{command}");
    }
}

/// Names by which the headings of a Markdown text are linked to.
fn anchors(markdown: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut found = BTreeSet::new();
    for line in markdown.lines() {
        if line.starts_with("```") {
            fenced = !fenced;
        }
        if fenced || !line.starts_with('#') {
            continue;
        }
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        found.insert(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
    }
    found
}

/// Targets of the links in a Markdown text: `[text](target)` outside code.
fn links(markdown: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in markdown.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        // What stands between backticks is code: every other piece.
        let prose: Vec<&str> = line.split('`').step_by(2).collect();
        for piece in prose.join("`").split("](").skip(1) {
            if let Some((target, _)) = piece.split_once(')') {
                found.push(target.to_owned());
            }
        }
    }
    found
}

/// Words in backticks of the form `path::name`, in rows of tables.
fn tests_named(markdown: &str) -> Vec<(&str, &str)> {
    let cells =
        markdown.lines().filter(|line| line.starts_with("| ")).flat_map(|line| line.split('|'));
    let words = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    words.filter_map(|word| word.rsplit_once("::")).collect()
}

#[test]
fn every_test_that_shows_a_fact_exists() {
    let page = read("docs/s3-facts.md");
    let named = tests_named(&page);
    assert!(named.len() > 100, "only {} tests are named", named.len());
    let mut missing = Vec::new();
    for (path, name) in named {
        let path = if path.starts_with("src/") { path.to_owned() } else { format!("tests/{path}") };
        let keyword = if path.starts_with("src/") { "fn" } else { "def" };
        let text = fs::read_to_string(root().join(&path)).unwrap_or_default();
        if !text.contains(&format!("{keyword} {name}(")) {
            missing.push(format!("{path}::{name}"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    for row in page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| Seen")) {
        assert!(!tests_named(row).is_empty(), "a fact without a test: {row}");
    }
}

#[test]
fn every_link_inside_the_repository_leads_somewhere() {
    let mut pages = Vec::new();
    files(&root(), &[".md"], &mut pages);
    let mut broken = Vec::new();
    let mut seen = 0;
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link.as_str(), ""));
            let target =
                if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            let leads = target.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor));
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(seen > 30, "only {seen} links found");
}

#[test]
fn the_profile_of_releases_is_of_the_pinned_compiler() {
    let pinned = read("rust-toolchain.toml");
    let pinned = pinned.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap();
    let mut found = Vec::new();
    files(&root().join("benches/profile"), &[".compiler"], &mut found);
    assert!(!found.is_empty());
    for file in found {
        let version = fs::read_to_string(&file).unwrap();
        let version = version.split_whitespace().nth(1).unwrap();
        // Another compiler gives functions other names, so that the profile is of no use to it.
        assert_eq!(version, pinned.trim_matches('"'), "{}: run scripts/profile", file.display());
        assert!(file.with_extension("profdata").exists());
    }
}
