//! The answer to one question of the examination.

use serde::Serialize;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The S3 that answers clients.
    Main,
    /// The S3 that receives copies.
    Mirror,
    /// The inventory's database.
    Database,
}

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of the operations")]
pub enum Probe {
    Credentials,
    Clock,
    Bucket,
    Put,
    Head,
    Get,
    List,
    Multipart,
    Copy,
    Tagging,
    Versioning,
    Checksums,
    Conditions,
    Delete,
    Latency,
    Tables,
    Cleanup,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Something will not be mirrored, or works differently.
    Differs,
    /// Something essential does not work.
    Fails,
}

/// The answer to one question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Who was asked.
    pub side: Side,
    /// What was asked.
    pub probe: Probe,
    /// How it went.
    pub level: Level,
    /// What was seen.
    pub what: String,
    /// What that means, where it is not as it should be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub means: Option<String>,
}

impl Finding {
    /// A finding that explains itself.
    pub fn new(side: Side, probe: Probe, level: Level, what: impl Into<String>) -> Self {
        Self { side, probe, level, what: what.into(), means: None }
    }

    /// With what it means.
    #[must_use]
    pub fn meaning(mut self, means: impl Into<String>) -> Self {
        self.means = Some(means.into());
        self
    }
}
