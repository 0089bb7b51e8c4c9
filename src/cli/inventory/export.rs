//! `inventory export`: rows to a file that other programs read.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::json;

use super::super::{FAILED, print};
use super::{NAMED_MAX, Parts, bar, cannot, named, parts};
use crate::inventory::export::{Filter, Format};
use crate::inventory::store::{Store, StoreError};

/// Arguments of `inventory export`.
#[derive(Args)]
#[command(after_help = "\
Reads the service's own settings (POSTGRES_*, DATA_DIR), page by page, also while the service runs.

Formats:
  csv             all columns, with a header
  ndjson          all columns, one JSON object per line
  files-from      keys of one bucket for `rclone --files-from`
  files-from-raw  the same for `rclone --files-from-raw`, which takes more keys
  s3-batch        bucket and key, for S3 Batch Operations; --versions adds the version

Examples:
  s3-mirror inventory export --format csv --output objects.csv
  s3-mirror inventory export --bucket photos --pending --format files-from |
    rclone copy --files-from - main:photos mirror:photos

Exit codes: 0 done; 3 the format cannot name some keys, which are left out and told on stderr;
64 wrong settings; 69 the database cannot be reached, or the file not written; 130 ended by Ctrl-C.")]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(super) struct ExportArgs {
    /// Only this bucket
    #[arg(
        long,
        required_if_eq_any([("format", "files-from"), ("format", "files-from-raw")])
    )]
    bucket: Option<String>,
    /// Only keys that begin with this; needs --bucket
    #[arg(long, default_value = "", requires = "bucket", hide_default_value = true)]
    prefix: String,
    /// What is written
    #[arg(long, value_enum, default_value = "csv")]
    format: Kind,
    /// With s3-batch: the version of each object, as a third column
    #[arg(long)]
    versions: bool,
    /// Only what the mirror has not confirmed
    #[arg(long)]
    pending: bool,
    /// Rows of deleted keys too
    #[arg(long)]
    deleted: bool,
    /// Write this file, which appears when it is whole; without it stdout
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Tell how it went as JSON: on stdout with --output, else on stderr
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Csv,
    Ndjson,
    FilesFrom,
    FilesFromRaw,
    S3Batch,
}

/// How it went.
#[derive(Default, Serialize)]
struct Exported {
    /// Rows that were written.
    rows: u64,
    /// Their bytes.
    bytes: u64,
    /// Rows that the format cannot name.
    left_out: u64,
}

/// Where rows go.
struct Sink {
    out: Box<dyn Write + Send>,
    /// The file under way and its name to be.
    file: Option<(PathBuf, PathBuf)>,
}

impl Sink {
    fn open(output: Option<&Path>) -> io::Result<Self> {
        let Some(path) = output else {
            return Ok(Self { out: Box::new(BufWriter::new(io::stdout())), file: None });
        };
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let out = Box::new(BufWriter::new(File::create(&part)?));
        Ok(Self { out, file: Some((part, path.to_owned())) })
    }

    fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        match self.file {
            Some((part, path)) => std::fs::rename(part, path),
            None => Ok(()),
        }
    }
}

/// Why an export ended early.
enum Ended {
    /// Whoever reads stdout wants no more.
    Enough,
    Failed(String),
}

impl From<io::Error> for Ended {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Enough,
            _ => Self::Failed(format!("the rows cannot be written: {error}")),
        }
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Runs it; yields the exit code.
pub(super) async fn export(args: ExportArgs) -> u8 {
    let Parts { store, .. } = match parts(false).await {
        Ok(parts) => parts,
        Err(code) => return code,
    };
    let format = match args.format {
        Kind::Csv => Format::Csv,
        Kind::Ndjson => Format::Ndjson,
        Kind::FilesFrom => Format::FilesFrom,
        Kind::FilesFromRaw => Format::FilesFromRaw,
        Kind::S3Batch => Format::S3Batch { versions: args.versions },
    };
    let written = write(&store, &args, format).await;
    store.close().await;
    match written {
        Err(Ended::Enough) => 0,
        Err(Ended::Failed(reason)) => cannot(&reason),
        Ok(done) => end(&done, &args),
    }
}

async fn write(store: &Store, args: &ExportArgs, format: Format) -> Result<Exported, Ended> {
    let filter =
        Filter { prefix: args.prefix.clone(), pending: args.pending, deleted: args.deleted };
    let buckets = match &args.bucket {
        Some(bucket) => vec![bucket.clone()],
        None => store.buckets().await?,
    };
    let mut sink = Sink::open(args.output.as_deref())?;
    let bar = bar(args.json);
    let mut done = Exported::default();
    sink.out.write_all(format.header().as_bytes())?;
    let mut text = String::new();
    for bucket in &buckets {
        let mut after = 0;
        loop {
            let page = store.scan(bucket, after).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            text.clear();
            for row in page.iter().filter(|row| filter.takes(row)) {
                match format.push(bucket, row, &mut text) {
                    Ok(()) => done.rows += 1,
                    Err(why) => {
                        done.left_out += 1;
                        if done.left_out <= NAMED_MAX {
                            let left_out = format!("left out, as {}", why.0);
                            named(&bar, false, [bucket, &row.path], ("error", &left_out));
                        }
                    }
                }
            }
            done.bytes += u64::try_from(text.len()).unwrap_or(0);
            sink.out.write_all(text.as_bytes())?;
            bar.set_message(format!("{} rows, {} bytes", done.rows, done.bytes));
        }
    }
    bar.finish_and_clear();
    sink.finish()?;
    Ok(done)
}

fn end(done: &Exported, args: &ExportArgs) -> u8 {
    let text = if args.json {
        let mut value = json!(done);
        value["finished"] = true.into();
        value.to_string()
    } else {
        format!("{} rows written, {} left out", done.rows, done.left_out)
    };
    // stdout may be the file itself.
    if args.output.is_some() {
        print::line(&text);
    } else {
        eprintln!("{text}");
    }
    if done.left_out > 0 { FAILED } else { 0 }
}
