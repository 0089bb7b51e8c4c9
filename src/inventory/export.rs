//! Rows as other programs read them: CSV, JSON lines, lists for rclone, manifests for S3 Batch
//! Operations. Pure text.

use super::read::StoredRow;

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// All columns, with a header.
    Csv,
    /// All columns, one JSON object per line.
    Ndjson,
    /// Keys, as `rclone --files-from` reads them.
    FilesFrom,
    /// Keys, as `rclone --files-from-raw` reads them.
    FilesFromRaw,
    /// Bucket and key, as S3 Batch Operations reads them; with the version, if so asked.
    S3Batch {
        /// Is there a third column?
        versions: bool,
    },
}

/// Which rows are written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Keys that begin with this.
    pub prefix: String,
    /// Only what the mirror has not confirmed.
    pub pending: bool,
    /// Rows of deleted keys too.
    pub deleted: bool,
}

impl Filter {
    /// Is this row written?
    pub fn takes(&self, row: &StoredRow) -> bool {
        row.path.starts_with(&self.prefix)
            && (self.deleted || !row.deleted)
            && (!self.pending || !row.is_backed_up)
    }
}

/// This format has no way to name the key; why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unnameable(pub &'static str);

impl Format {
    /// What stands before the rows.
    pub fn header(self) -> &'static str {
        match self {
            Self::Csv => {
                "bucket,path,size,content_type,last_modified,etag,version_id,is_backed_up,deleted\n"
            }
            _ => "",
        }
    }

    /// Adds one row, its line end included.
    pub fn push(self, bucket: &str, row: &StoredRow, out: &mut String) -> Result<(), Unnameable> {
        match self {
            Self::Csv => {
                let size = row.size.to_string();
                let text = |flag: bool| if flag { "true" } else { "false" };
                let none = String::new();
                let fields = [
                    bucket,
                    &row.path,
                    &size,
                    &row.content_type,
                    &row.last_modified,
                    row.etag.as_ref().unwrap_or(&none),
                    row.version_id.as_ref().unwrap_or(&none),
                    text(row.is_backed_up),
                    text(row.deleted),
                ];
                push_csv(&fields, out);
            }
            Self::Ndjson => {
                let line = Line { bucket, row };
                // A row of text and numbers always has a form in JSON.
                out.push_str(&serde_json::to_string(&line).unwrap_or_default());
                out.push('\n');
            }
            Self::FilesFrom | Self::FilesFromRaw => {
                nameable(&row.path, self == Self::FilesFromRaw)?;
                out.push_str(&row.path);
                out.push('\n');
            }
            Self::S3Batch { versions } => {
                let key = encoded(&row.path);
                match (versions, &row.version_id) {
                    (false, _) => push_csv(&[bucket, &key], out),
                    (true, Some(version)) => push_csv(&[bucket, &key, version], out),
                    (true, None) => return Err(Unnameable("no version of it is known")),
                }
            }
        }
        Ok(())
    }
}

#[derive(serde::Serialize)]
struct Line<'a> {
    bucket: &'a str,
    #[serde(flatten)]
    row: &'a StoredRow,
}

/// One record of CSV (RFC 4180).
fn push_csv(fields: &[&str], out: &mut String) {
    for (at, field) in fields.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        if field.contains(['"', ',', '\n', '\r']) {
            out.push('"');
            out.push_str(&field.replace('"', "\"\""));
            out.push('"');
        } else {
            out.push_str(field);
        }
    }
    out.push('\n');
}

/// rclone cleans paths: what it would change names another key, or none.
fn nameable(key: &str, raw: bool) -> Result<(), Unnameable> {
    if key.contains(['\n', '\r']) {
        return Err(Unnameable("it has a line end"));
    }
    if key.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(Unnameable("it has an empty part, or one of dots"));
    }
    let comment = key.starts_with(['#', ';']);
    if !raw && (comment || key.trim() != key) {
        return Err(Unnameable("it begins like a comment, or has spaces around it"));
    }
    Ok(())
}

/// As the manifests of S3 Batch Operations have keys: percent-encoded, slashes left.
fn encoded(key: &str) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(text, "%{byte:02X}").unwrap_or_default();
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(path: &str) -> StoredRow {
        StoredRow {
            id: 1,
            path: path.into(),
            size: 7,
            content_type: "text/plain; a=\"b\"".into(),
            last_modified: "2026-11-21T06:41:17Z".into(),
            etag: Some("e".into()),
            version_id: None,
            is_backed_up: true,
            deleted: false,
        }
    }

    fn line(format: Format, path: &str) -> Result<String, Unnameable> {
        let mut out = String::new();
        format.push("b", &row(path), &mut out).map(|()| out)
    }

    #[test]
    fn csv_and_json_take_every_key() {
        assert_eq!(
            line(Format::Csv, "a,\"b\"\nc").unwrap(),
            "b,\"a,\"\"b\"\"\nc\",7,\"text/plain; a=\"\"b\"\"\",2026-11-21T06:41:17Z,e,,true,false\n"
        );
        let json = line(Format::Ndjson, "a\n\"ü").unwrap();
        assert_eq!(json.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["bucket"], &value["path"]), (&"b".into(), &"a\n\"ü".into()));
        assert_eq!((&value["size"], &value["version_id"]), (&7.into(), &serde_json::Value::Null));
    }

    #[test]
    fn a_list_for_rclone_names_every_key_as_it_is_or_refuses_it() {
        let plain = |key| line(Format::FilesFrom, key);
        let raw = |key| line(Format::FilesFromRaw, key);
        assert_eq!(plain("a b/ü,\"#.txt").unwrap(), "a b/ü,\"#.txt\n");
        for key in ["#a", ";a", " a", "a "] {
            assert!(plain(key).is_err() && raw(key).is_ok(), "{key}");
        }
        for key in ["a\nb", "/a", "a/", "a//b", "a/../b", "./a", "."] {
            assert!(plain(key).is_err() && raw(key).is_err(), "{key}");
        }
    }

    #[test]
    fn a_batch_manifest_encodes_keys_and_has_versions_only_if_asked() {
        let plain = Format::S3Batch { versions: false };
        assert_eq!(line(plain, "a b/ü,+.txt").unwrap(), "b,a%20b/%C3%BC%2C%2B.txt\n");
        let versions = Format::S3Batch { versions: true };
        assert!(line(versions, "k").is_err());
        let known = StoredRow { version_id: Some("v1".into()), ..row("k") };
        let mut out = String::new();
        versions.push("b", &known, &mut out).unwrap();
        assert_eq!(out, "b,k,v1\n");
    }

    #[test]
    fn a_filter_takes_present_objects_unless_told_otherwise() {
        let gone = StoredRow { deleted: true, ..row("p/k") };
        let waits = StoredRow { is_backed_up: false, ..row("p/k") };
        assert!(Filter::default().takes(&row("k")) && !Filter::default().takes(&gone));
        assert!(Filter { deleted: true, ..Filter::default() }.takes(&gone));
        let pending = Filter { pending: true, ..Filter::default() };
        assert!(pending.takes(&waits) && !pending.takes(&row("k")));
        let prefix = Filter { prefix: "p/".into(), ..Filter::default() };
        assert!(prefix.takes(&row("p/k")) && !prefix.takes(&row("k")));
    }
}
