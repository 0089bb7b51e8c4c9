//! S3 Inventory reports, as Amazon S3 and its kin write them: `manifest.json` and CSV. Pure.
//!
//! Bytes of a report are fed in pieces; a record comes out when its line is complete. A report
//! holds keys percent-encoded, with `+` for a space; old versions and delete markers are no
//! current objects.

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::encode::decode;
use super::listing::Listed;
use super::state::unquoted;

/// Longest field, in bytes: a key of 1024 bytes, each percent-encoded, several times over.
const FIELD_BYTES_MAX: usize = 16 * 1024;
/// Most fields of a record.
const FIELDS_MAX: usize = 64;

/// Why a report cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The manifest is none.
    #[error("this is no manifest of an S3 Inventory report: {0}")]
    Manifest(String),
    /// ORC and Parquet are not read.
    #[error("the report is in {0}; only CSV can be read: have the inventory written as CSV")]
    Format(String),
    /// The schema lacks a column.
    #[error("the report has no column {0}; an import needs Key, Size and LastModifiedDate")]
    Column(&'static str),
    /// A record does not fit the schema.
    #[error("record {record}: {what}")]
    Record {
        /// Which, from 1.
        record: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// What a report consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Bucket that was listed.
    pub bucket: String,
    /// When the report was begun.
    pub created: OffsetDateTime,
    /// Columns of its files.
    pub columns: Columns,
    /// Keys of its files, in the bucket that holds the report.
    pub files: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawManifest {
    source_bucket: String,
    creation_timestamp: String,
    file_format: String,
    file_schema: String,
    files: Vec<RawFile>,
}

#[derive(Deserialize)]
struct RawFile {
    key: String,
}

/// Reads `manifest.json`.
pub fn manifest(json: &[u8]) -> Result<Manifest, ReportError> {
    let raw: RawManifest =
        serde_json::from_slice(json).map_err(|error| ReportError::Manifest(error.to_string()))?;
    if !raw.file_format.eq_ignore_ascii_case("CSV") {
        return Err(ReportError::Format(raw.file_format));
    }
    let created = raw.creation_timestamp.parse::<i128>().ok();
    let created = created
        .and_then(|ms| OffsetDateTime::from_unix_timestamp_nanos(ms * 1_000_000).ok())
        .ok_or_else(|| ReportError::Manifest("creationTimestamp is no time".into()))?;
    Ok(Manifest {
        bucket: raw.source_bucket,
        created,
        columns: Columns::parse(&raw.file_schema)?,
        files: raw.files.into_iter().map(|file| file.key).collect(),
    })
}

/// Where the fields that count are in a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    key: usize,
    size: usize,
    last_modified: usize,
    etag: Option<usize>,
    version_id: Option<usize>,
    is_latest: Option<usize>,
    is_delete_marker: Option<usize>,
}

impl Columns {
    /// Reads a schema such as `Bucket, Key, Size, LastModifiedDate, ETag`.
    pub fn parse(schema: &str) -> Result<Self, ReportError> {
        let names: Vec<&str> = schema.split(',').map(str::trim).collect();
        let find = |name: &str| names.iter().position(|known| known.eq_ignore_ascii_case(name));
        let must = |name| find(name).ok_or(ReportError::Column(name));
        Ok(Self {
            key: must("Key")?,
            size: must("Size")?,
            last_modified: must("LastModifiedDate")?,
            etag: find("ETag"),
            version_id: find("VersionId"),
            is_latest: find("IsLatest"),
            is_delete_marker: find("IsDeleteMarker"),
        })
    }

    /// The current object that a record tells, with its version; `None` for old versions and
    /// delete markers.
    fn object(&self, record: &Record) -> Result<Option<Reported>, &'static str> {
        let is = |at: Option<usize>, value: &str| {
            at.and_then(|at| record.text(at)).is_some_and(|text| text.eq_ignore_ascii_case(value))
        };
        if is(self.is_latest, "false") || is(self.is_delete_marker, "true") {
            return Ok(None);
        }
        let key = record.text(self.key).ok_or("it has no key")?;
        let key = decode(key, true).ok_or("its key is not encoded UTF-8")?.into_owned();
        let size = record.text(self.size).and_then(|text| text.parse().ok());
        let time = record.text(self.last_modified);
        let time = time.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
        let some = |at: Option<usize>| {
            at.and_then(|at| record.text(at)).filter(|text| !text.is_empty() && *text != "null")
        };
        Ok(Some(Reported {
            listed: Listed {
                key,
                etag: some(self.etag).map(unquoted).unwrap_or_default().to_owned(),
                size: size.ok_or("its size is no number")?,
                last_modified: Some(time.ok_or("its time is none")?),
            },
            version_id: some(self.version_id).map(str::to_owned),
        }))
    }
}

/// A current object of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// As a listing tells it.
    pub listed: Listed,
    /// Its version, where there are versions.
    pub version_id: Option<String>,
}

/// One line under way, as one buffer and where its fields end.
#[derive(Debug, Default)]
struct Record {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Record {
    fn text(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)?;
        let start = if at == 0 { 0 } else { *self.ends.get(at - 1)? };
        std::str::from_utf8(self.bytes.get(start..end)?).ok()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first byte of a field.
    Start,
    Plain,
    Quoted,
    /// Behind a quote within quotes: the end of the field, or half of a quote.
    Quote,
}

/// Reads a CSV file that comes in pieces.
#[derive(Debug)]
pub struct Records {
    columns: Columns,
    at: At,
    record: Record,
    number: u64,
}

impl Records {
    /// A reader at the beginning of a file.
    pub fn new(columns: Columns) -> Self {
        Self { columns, at: At::Start, record: Record::default(), number: 0 }
    }

    /// Takes the next piece; current objects go to `found`.
    pub fn feed(
        &mut self,
        piece: &[u8],
        mut found: impl FnMut(Reported),
    ) -> Result<(), ReportError> {
        for byte in piece {
            match (self.at, *byte) {
                (At::Start, b'"') => self.at = At::Quoted,
                (At::Quoted, b'"') => self.at = At::Quote,
                (At::Quoted, byte) => self.push(byte)?,
                (At::Quote, b'"') => {
                    self.at = At::Quoted;
                    self.push(b'"')?;
                }
                (_, b',') => self.end_field()?,
                (_, b'\n') => self.end_record(&mut found)?,
                // Of a line end in two characters; keys have theirs encoded.
                (_, b'\r') => {}
                (At::Quote, _) => return Err(self.fault("a quote that ends no field")),
                (At::Start | At::Plain, byte) => {
                    self.at = At::Plain;
                    self.push(byte)?;
                }
            }
        }
        Ok(())
    }

    /// The file has ended; its last line may lack its end.
    pub fn end(&mut self, mut found: impl FnMut(Reported)) -> Result<(), ReportError> {
        match self.at {
            At::Quoted => Err(self.fault("it ends within quotes")),
            At::Start if self.record.ends.is_empty() => Ok(()),
            _ => self.end_record(&mut found),
        }
    }

    /// Records read so far, old versions and delete markers among them.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn fault(&self, what: &'static str) -> ReportError {
        ReportError::Record { record: self.number + 1, what }
    }

    fn push(&mut self, byte: u8) -> Result<(), ReportError> {
        let start = self.record.ends.last().copied().unwrap_or(0);
        if self.record.bytes.len() - start >= FIELD_BYTES_MAX {
            return Err(self.fault("a field is too long"));
        }
        self.record.bytes.push(byte);
        Ok(())
    }

    fn end_field(&mut self) -> Result<(), ReportError> {
        if self.record.ends.len() >= FIELDS_MAX {
            return Err(self.fault("it has too many fields"));
        }
        self.record.ends.push(self.record.bytes.len());
        self.at = At::Start;
        Ok(())
    }

    fn end_record(&mut self, found: &mut impl FnMut(Reported)) -> Result<(), ReportError> {
        if self.at == At::Start && self.record.ends.is_empty() {
            return Ok(());
        }
        self.end_field()?;
        match self.columns.object(&self.record) {
            Ok(object) => {
                if let Some(object) = object {
                    found(object);
                }
            }
            Err(what) => return Err(self.fault(what)),
        }
        self.number += 1;
        self.record.bytes.clear();
        self.record.ends.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCHEMA: &str =
        "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag";

    fn read(csv: &[u8], piece: usize) -> Result<Vec<Reported>, ReportError> {
        let mut records = Records::new(Columns::parse(SCHEMA)?);
        let mut found = Vec::new();
        for piece in csv.chunks(piece.max(1)) {
            records.feed(piece, |object| found.push(object))?;
        }
        records.end(|object| found.push(object))?;
        Ok(found)
    }

    fn line(key: &str, latest: bool, marker: bool, size: &str) -> String {
        format!(
            "\"b\",\"{key}\",\"v1\",\"{latest}\",\"{marker}\",{size},\"2026-11-21T06:41:17.000Z\",\
             \"0123\"\n"
        )
    }

    #[test]
    fn a_manifest_tells_where_the_report_is_and_how_old() {
        let json = |format: &str| {
            serde_json::json!({
                "sourceBucket": "photos", "destinationBucket": "arn:aws:s3:::reports",
                "version": "2016-11-30", "creationTimestamp": "1795243277000",
                "fileFormat": format, "fileSchema": SCHEMA,
                "files": [{"key": "photos/all/data/1.csv.gz", "size": 7, "MD5checksum": "x"}],
            })
            .to_string()
        };
        let read = manifest(json("CSV").as_bytes()).unwrap();
        assert_eq!(
            (read.bucket.as_str(), read.created.unix_timestamp()),
            ("photos", 1_795_243_277)
        );
        assert_eq!(read.files, ["photos/all/data/1.csv.gz"]);
        assert!(matches!(manifest(json("Parquet").as_bytes()), Err(ReportError::Format(_))));
        assert!(matches!(manifest(b"{}"), Err(ReportError::Manifest(_))));
        assert_eq!(Columns::parse("Bucket, Key"), Err(ReportError::Column("Size")));
    }

    #[test]
    fn only_current_objects_are_told_and_keys_are_decoded() {
        let csv = [
            line("a+b%2B%C3%BC%2Cc", true, false, "7"),
            line("old", false, false, "7"),
            line("gone", true, true, "\"\""),
        ]
        .concat();
        for piece in [1, 7, 1000] {
            let found = read(csv.as_bytes(), piece).unwrap();
            assert_eq!(found.len(), 1);
            assert_eq!((found[0].listed.key.as_str(), found[0].listed.size), ("a b+ü,c", 7));
            assert_eq!(found[0].listed.etag, "0123");
            assert_eq!(found[0].version_id.as_deref(), Some("v1"));
        }
    }

    #[test]
    fn a_file_without_a_last_line_end_and_with_two_characters_for_one_is_read() {
        let csv = line("a", true, false, "1").replace('\n', "\r\n") + &line("b", true, false, "2");
        assert_eq!(read(csv.trim_end().as_bytes(), 3).unwrap().len(), 2);
        assert_eq!(read(b"\n\n", 1).unwrap(), []);
    }

    #[test]
    fn what_does_not_fit_is_an_error_with_its_place() {
        let good = line("a", true, false, "1");
        let fault = |bad: &str| read(format!("{good}{bad}").as_bytes(), 5).unwrap_err().to_string();
        assert!(fault("\"b\",\"k\"\n").contains("record 2"));
        assert!(fault(&line("k", true, false, "many")).contains("size"));
        assert!(fault(&line("%ff", true, false, "1")).contains("UTF-8"));
        assert!(fault("\"b").contains("within quotes"));
        assert!(fault("\"b\"x,\n").contains("quote"));
        assert!(fault(&"x".repeat(FIELD_BYTES_MAX + 1)).contains("too long"));
        assert!(fault(&",".repeat(FIELDS_MAX + 1)).contains("too many"));
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_read_alike_and_without_a_panic(
            csv in proptest::collection::vec(
                prop_oneof![Just(b'"'), Just(b','), Just(b'\n'), any::<u8>()], 0..200),
            piece in 1usize..20,
        ) {
            prop_assert_eq!(read(&csv, piece), read(&csv, 1000));
        }
    }
}
