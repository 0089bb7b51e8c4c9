//! What a verification found, as a dated file: one JSON document a person or a script reads.

use std::path::Path;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use super::job::{Progress, View};

/// Reports kept; older ones are removed.
const KEPT: usize = 20;
/// Differences listed one by one; beyond that they are counted.
pub const LISTED_MAX: usize = 1000;

/// How a key is not in step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// On main and not on the mirror.
    OnlyMain,
    /// On the mirror and not on main.
    OnlyMirror,
    /// Sizes or `ETag`s differ.
    Content,
    /// The bytes differ although size and `ETag` are the same.
    Bytes,
    /// Content headers or user metadata differ.
    Headers,
    /// Tags differ.
    Tags,
    /// The inventory has no row, or calls the key deleted.
    RowMissing,
    /// The row tells another size or `ETag`.
    RowDiffers,
    /// The row tells of an object that is not there.
    RowExtra,
}

/// One key that is not in step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Bucket on main.
    pub bucket: String,
    /// Key.
    pub key: String,
    /// How.
    pub what: What,
}

/// The document.
#[derive(Debug, Serialize)]
struct Report<'a> {
    written_at: String,
    job: &'a View,
    /// Nothing differs, and nothing was left open.
    agree: bool,
    buckets: u64,
    differences: &'a [Difference],
    differences_not_listed: u64,
    remarks: Vec<&'a str>,
}

/// What every report says, because people take silence for agreement.
const ALWAYS: &str = "Objects, their headers and tags are compared; bucket settings (policies, \
                      lifecycle, notifications, CORS, versioning) are neither compared nor copied.";

/// Writes the report of a finished job and removes old ones; yields its file name.
pub async fn write(
    directory: &Path,
    view: &View,
    progress: &Progress,
) -> Result<String, std::io::Error> {
    let listed = u64::try_from(progress.differences.len()).unwrap_or(u64::MAX);
    let remarks = std::iter::once(ALWAYS).chain(progress.remarks.iter().map(String::as_str));
    let report = Report {
        written_at: date(OffsetDateTime::now_utc()),
        job: view,
        agree: view.differences == 0 && view.compared_all(),
        buckets: progress.buckets,
        differences: &progress.differences,
        differences_not_listed: view.differences.saturating_sub(listed),
        remarks: remarks.collect(),
    };
    let text = serde_json::to_vec_pretty(&report)?;
    tokio::fs::create_dir_all(directory).await?;
    let name = format!("{}.json", view.id);
    // Under its name it is whole: readers may come at any moment.
    let unfinished = directory.join(format!(".{name}"));
    tokio::fs::write(&unfinished, text).await?;
    tokio::fs::rename(&unfinished, directory.join(&name)).await?;
    prune(directory).await?;
    Ok(name)
}

/// Removes all but the newest; names begin with the date after the kind of the job.
async fn prune(directory: &Path) -> Result<(), std::io::Error> {
    let mut names = Vec::new();
    let mut entries = tokio::fs::read_dir(directory).await?;
    while let Some(entry) = entries.next_entry().await? {
        if let Ok(name) = entry.file_name().into_string()
            && name.starts_with("verify-")
            && Path::new(&name).extension().is_some_and(|ending| ending == "json")
        {
            names.push(name);
        }
    }
    names.sort();
    for name in names.iter().rev().skip(KEPT) {
        tokio::fs::remove_file(directory.join(name)).await?;
    }
    Ok(())
}

fn date(time: OffsetDateTime) -> String {
    time.format(&time::format_description::well_known::Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_reports_stay_and_other_files_are_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        for number in 0..KEPT + 3 {
            let name = format!("verify-20261121T0000{number:02}Z-a.json");
            std::fs::write(directory.path().join(name), "{}").unwrap();
        }
        std::fs::write(directory.path().join("notes.txt"), "mine").unwrap();
        prune(directory.path()).await.unwrap();
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, KEPT + 1);
        assert!(!directory.path().join("verify-20261121T000002Z-a.json").exists());
        assert!(directory.path().join("verify-20261121T000003Z-a.json").exists());
    }
}
