//! The files of an S3 Inventory report: in a bucket of main, or in a directory beside their
//! manifest; plain or packed by gzip.
//!
//! # Bounds
//! A file is read in pieces of at most 4 KiB packed, which unpack to a thousand times as much at
//! the very worst.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http::Method;
use http_body_util::BodyExt as _;
use tokio::io::AsyncReadExt as _;

use crate::s3::report::{Columns, Manifest, Records, Reported, manifest};
use crate::upstream::ask::{AskError, Question};
use crate::upstream::{Received, Upstream};

/// Packed bytes that are unpacked at a time.
const PIECE_BYTES: usize = 4096;
/// Longest manifest: a report of a billion keys has some thousand files.
const MANIFEST_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// First bytes of a gzip file.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Where a report is.
#[derive(Clone)]
pub enum Source {
    /// In this bucket of main.
    Bucket(Arc<Upstream>, String),
    /// In the directory of the manifest.
    Directory(PathBuf),
}

impl Source {
    /// Reads the manifest at `place`: a file, or `s3://bucket/key` on main.
    ///
    /// # Errors
    /// For people: it cannot be read, or is none.
    pub async fn open(place: &str, main: &Arc<Upstream>) -> Result<(Self, Manifest), String> {
        let (source, json) = if let Some(rest) = place.strip_prefix("s3://") {
            let (bucket, key) = rest.split_once('/').ok_or("s3:// wants a bucket and a key")?;
            let what = "GetObject";
            let question = Question::bare(what, Method::GET, Some(bucket), Some(key));
            let answer = main.ask(question).await.and_then(|answer| answer.success(what));
            let answer = answer.map_err(|error| format!("{place}: {error}"))?;
            (Self::Bucket(main.clone(), bucket.to_owned()), answer.document)
        } else {
            let path = Path::new(place);
            let failed = |error: std::io::Error| format!("{place}: {error}");
            let length = tokio::fs::metadata(path).await.map_err(failed)?.len();
            if length > MANIFEST_BYTES_MAX {
                return Err(format!("{place}: it is too long for a manifest"));
            }
            let json = tokio::fs::read(path).await.map_err(failed)?;
            let directory = path.parent().unwrap_or(Path::new("")).to_owned();
            (Self::Directory(directory), Bytes::from(json))
        };
        let manifest = manifest(&json).map_err(|error| format!("{place}: {error}"))?;
        Ok((source, manifest))
    }
}

/// Is there more?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    More,
    Last,
}

/// Where bytes come from.
enum Bytewise {
    Body(Received),
    File(tokio::fs::File),
}

/// How bytes are unpacked.
enum Packing {
    /// The first bytes have not been seen.
    Unknown,
    Plain,
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

/// One file of a report under way.
pub(super) struct ReportFile {
    name: String,
    bytes: Bytewise,
    waiting: Bytes,
    packing: Packing,
    records: Records,
}

impl ReportFile {
    pub(super) async fn open(source: &Source, key: &str, columns: Columns) -> Result<Self, String> {
        let bytes = match source {
            Source::Bucket(main, bucket) => {
                let question = Question::bare("GetObject", Method::GET, Some(bucket), Some(key));
                let response = main.open(question).await.and_then(|response| {
                    let status = response.status().as_u16();
                    let what = "GetObject";
                    if status == 200 {
                        return Ok(response);
                    }
                    Err(AskError::Refused { what, status, code: String::new() })
                });
                Bytewise::Body(response.map_err(|e| format!("{key}: {e}"))?.into_body())
            }
            Source::Directory(directory) => Bytewise::File(beside(directory, key).await?),
        };
        Ok(Self {
            name: key.to_owned(),
            bytes,
            waiting: Bytes::new(),
            packing: Packing::Unknown,
            records: Records::new(columns),
        })
    }

    /// Reads on; current objects go to `found`.
    pub(super) async fn next(&mut self, found: &mut Vec<Reported>) -> Result<Piece, String> {
        if self.waiting.is_empty() {
            self.waiting = self.read().await?;
        }
        let told = |name: &str, error: &dyn std::fmt::Display| format!("{name}: {error}");
        if self.waiting.is_empty() {
            if let Packing::Gzip(decoder) = &mut self.packing {
                decoder.try_finish().map_err(|error| told(&self.name, &error))?;
                let rest = std::mem::take(decoder.get_mut());
                self.records
                    .feed(&rest, |object| found.push(object))
                    .map_err(|error| told(&self.name, &error))?;
            }
            self.records
                .end(|object| found.push(object))
                .map_err(|error| told(&self.name, &error))?;
            return Ok(Piece::Last);
        }
        if matches!(self.packing, Packing::Unknown) {
            // A piece of a single byte cannot be told; it gets company.
            while self.waiting.len() < GZIP.len() {
                let more = self.read().await?;
                if more.is_empty() {
                    break;
                }
                self.waiting = [&self.waiting[..], &more[..]].concat().into();
            }
            let packed = self.waiting.starts_with(&GZIP);
            self.packing = if packed {
                Packing::Gzip(Box::new(MultiGzDecoder::new(Vec::new())))
            } else {
                Packing::Plain
            };
        }
        let piece = self.waiting.split_to(self.waiting.len().min(PIECE_BYTES));
        match &mut self.packing {
            Packing::Gzip(decoder) => {
                decoder.write_all(&piece).map_err(|error| told(&self.name, &error))?;
                let plain = std::mem::take(decoder.get_mut());
                self.records.feed(&plain, |object| found.push(object))
            }
            Packing::Plain | Packing::Unknown => {
                self.records.feed(&piece, |object| found.push(object))
            }
        }
        .map_err(|error| told(&self.name, &error))?;
        Ok(Piece::More)
    }

    /// The next bytes; none at the end.
    async fn read(&mut self) -> Result<Bytes, String> {
        match &mut self.bytes {
            Bytewise::File(file) => {
                let mut buffer = vec![0; PIECE_BYTES];
                let length = file.read(&mut buffer).await;
                buffer.truncate(length.map_err(|error| format!("{}: {error}", self.name))?);
                Ok(buffer.into())
            }
            Bytewise::Body(body) => {
                while let Some(frame) = body.frame().await {
                    let frame = frame.map_err(|error| {
                        format!("{}: {}", self.name, crate::upstream::describe(&error))
                    })?;
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(data);
                    }
                }
                Ok(Bytes::new())
            }
        }
    }
}

/// Finds a file of a report that was copied somewhere together with its manifest: beside it, or
/// where reports have their data.
async fn beside(directory: &Path, key: &str) -> Result<tokio::fs::File, String> {
    let name = key.rsplit('/').next().unwrap_or(key);
    for place in [
        directory.join(name),
        directory.join("data").join(name),
        directory.join("..").join("data").join(name),
    ] {
        match tokio::fs::File::open(&place).await {
            Ok(file) => return Ok(file),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", place.display())),
        }
    }
    Err(format!("{name} is neither beside the manifest nor in data/ or ../data/"))
}
