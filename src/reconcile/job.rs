//! What a job is asked to do, how far it is, and how it ended. Plain data.

use serde::{Deserialize, Serialize};

use super::report::Difference;

/// Keys per second at most, unless told otherwise: no limit.
pub type Limit = Option<u64>;

/// What kind of job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Brings over what the mirror or the inventory lacks.
    Backfill,
    /// Compares main, mirror and inventory.
    Verify,
}

impl Kind {
    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Backfill => "backfill",
            Self::Verify => "verify",
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// What to do.
    pub kind: Kind,
    /// Only this bucket of main; all without it.
    #[serde(default)]
    pub bucket: Option<String>,
    /// Only keys that begin with this.
    #[serde(default)]
    pub prefix: String,
    /// Verify: compare contents, headers and tags too.
    #[serde(default)]
    pub deep: bool,
    /// Verify: have what differs brought into step.
    #[serde(default)]
    pub repair: bool,
    /// Verify with repair: remove from the mirror what main does not have.
    #[serde(default)]
    pub delete_extra: bool,
    /// Keys looked at per second, at most.
    #[serde(default)]
    pub rate: Limit,
    /// Bytes per second, at most: of the objects to be copied, or read when comparing contents.
    #[serde(default)]
    pub bandwidth: Limit,
}

impl Spec {
    /// A verification of everything, by listing.
    pub fn verify() -> Self {
        Self {
            kind: Kind::Verify,
            bucket: None,
            prefix: String::new(),
            deep: false,
            repair: false,
            delete_extra: false,
            rate: None,
            bandwidth: None,
        }
    }

    /// Says what is wrong with it, if anything is.
    pub fn fault(&self) -> Option<&'static str> {
        let verify = self.kind == Kind::Verify;
        match self {
            _ if self.rate == Some(0) || self.bandwidth == Some(0) => {
                Some("rate and bandwidth must be at least 1")
            }
            Self { bucket: Some(bucket), .. } if bucket.is_empty() || bucket.contains('/') => {
                Some("bucket must be the name of one bucket")
            }
            _ if !verify && (self.deep || self.repair || self.delete_extra) => {
                Some("deep, repair and delete_extra are for verify")
            }
            _ if self.delete_extra && !self.repair => Some("delete_extra needs repair"),
            _ if self.bucket.is_none() && !self.prefix.is_empty() => Some("prefix needs a bucket"),
            _ => None,
        }
    }
}

/// Where a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// At work.
    Running,
    /// At its end.
    Done,
    /// It could not go on; the message says why.
    Failed,
    /// A person ended it.
    Cancelled,
    /// The process ended under it; it goes on when the next one starts.
    Interrupted,
}

/// How many keys there were of what.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Keys of main that were looked at.
    pub scanned: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Keys handed to the journal.
    pub queued: u64,
    /// Of those, confirmed by the mirror.
    pub confirmed: u64,
    /// Of those, parked.
    pub parked: u64,
    /// On main and not on the mirror.
    pub only_main: u64,
    /// On the mirror and not on main.
    pub only_mirror: u64,
    /// On both, and different.
    pub different: u64,
    /// Not or wrongly in the inventory.
    pub inventory: u64,
    /// Same size, and `ETag`s that cannot be compared: only `--deep` tells.
    pub incomparable: u64,
    /// Differences that are changes on their way.
    pub in_flight: u64,
    /// Keys that could not be looked at.
    pub errors: u64,
}

impl Counts {
    /// Everything that is not in step.
    pub fn differences(&self) -> u64 {
        self.only_main + self.only_mirror + self.different + self.inventory
    }
}

/// How far a job is: what a restart needs to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// Buckets before this one are done.
    pub bucket: String,
    /// The last key of main's listing that is done.
    pub main_after: Option<String>,
    /// The same of the mirror's. Each side goes on in its own order.
    pub mirror_after: Option<String>,
    /// Buckets done.
    pub buckets: u64,
    /// What was found.
    pub counts: Counts,
    /// The first differences, for the report.
    pub differences: Vec<Difference>,
    /// Keys of this bucket that were changing when they were looked at.
    pub later: Vec<String>,
    /// What a person should know about how the comparison was made.
    pub remarks: Vec<String>,
}

impl Progress {
    /// Notes something once.
    pub fn remark(&mut self, text: &str) {
        const REMARKS_MAX: usize = 100;
        if self.remarks.len() < REMARKS_MAX && !self.remarks.iter().any(|known| known == text) {
            self.remarks.push(text.to_owned());
        }
    }
}

/// A job as it is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Its name.
    pub id: String,
    /// What was asked for.
    #[serde(flatten)]
    pub spec: Spec,
    /// Where it is.
    pub state: State,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// Milliseconds since 1970; none while it runs.
    pub finished_ms: Option<i64>,
    /// Keys of main that were looked at.
    pub scanned: u64,
    /// Keys of main there are to look at, once they have been counted.
    pub total: Option<u64>,
    /// Keys handed to the journal.
    pub queued: u64,
    /// Bytes of the keys that were looked at.
    pub bytes: u64,
    /// Keys that are not in step.
    pub differences: u64,
    /// Keys that could not be looked at or mirrored.
    pub errors: u64,
    /// Seconds to go, once the keys have been counted.
    pub eta_seconds: Option<u64>,
    /// What a person should know.
    pub message: String,
    /// The figures one by one.
    pub counts: Counts,
    /// File name of the report, below `reports` in the data directory.
    pub report: Option<String>,
}

impl View {
    /// Has it left no key open: none that failed, kept changing, or of which a listing tells only the
    /// size?
    pub fn compared_all(&self) -> bool {
        self.errors == 0
            && self.counts.in_flight == 0
            && (self.spec.deep || self.counts.incomparable == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> Spec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn contradictions_are_refused() {
        for (json, sound) in [
            (r#"{"kind":"backfill"}"#, true),
            (r#"{"kind":"verify","bucket":"b","prefix":"p/","deep":true,"repair":true}"#, true),
            (r#"{"kind":"verify","repair":true,"delete_extra":true}"#, true),
            (r#"{"kind":"verify","delete_extra":true}"#, false),
            (r#"{"kind":"backfill","deep":true}"#, false),
            (r#"{"kind":"backfill","prefix":"p"}"#, false),
            (r#"{"kind":"verify","bucket":""}"#, false),
            (r#"{"kind":"verify","rate":0}"#, false),
        ] {
            assert_eq!(spec(json).fault().is_none(), sound, "{json}");
        }
        assert!(serde_json::from_str::<Spec>(r#"{"kind":"verify","prefx":"a"}"#).is_err());
    }

    #[test]
    fn progress_written_by_another_version_is_read() {
        let progress: Progress = serde_json::from_str(r#"{"bucket":"b","new_field":1}"#).unwrap();
        assert_eq!(progress.bucket, "b");
    }
}
