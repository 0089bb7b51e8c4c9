//! Re-reading the file of client credentials when it changes.
//!
//! Promises: a file that cannot be read or is faulty changes nothing; it is reported once, not at
//! every look. A change during reading is seen by the next look, because the file's stamp is taken
//! before its content.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt as _;

use super::Authenticator;
use super::credentials::{Credentials, CredentialsError};

/// The largest file accepted: some ten thousand clients.
pub const FILE_BYTES_MAX: u64 = 4 << 20;
/// How often the file is looked at by default.
pub const POLL_INTERVAL: Duration = Duration::from_secs(5);

/// A file of credentials and what it looked like when last read.
#[derive(Debug)]
pub struct CredentialsFile {
    path: PathBuf,
    seen: Option<Stamp>,
}

/// Tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: SystemTime,
    bytes: u64,
}

impl CredentialsFile {
    /// Reads the file for the first time.
    pub async fn open(path: impl Into<PathBuf>) -> Result<(Self, Credentials), CredentialsError> {
        let mut file = Self { path: path.into(), seen: None };
        let credentials = file.poll().await?;
        // The first look always reads: an unseen file is a changed one, a missing one an error.
        let credentials =
            credentials.ok_or_else(|| CredentialsError::one("the file is missing"))?;
        Ok((file, credentials))
    }

    /// Reads the file if it has changed since the last call; `None` if it has not.
    ///
    /// Errors are reported once per change of the file, a missing file as long as it is missing.
    pub async fn poll(&mut self) -> Result<Option<Credentials>, CredentialsError> {
        let stamp = match self.stamp().await {
            Ok(stamp) => stamp,
            Err(error) => {
                self.seen = None;
                return Err(unreadable(&error));
            }
        };
        if self.seen == Some(stamp) {
            return Ok(None);
        }
        self.seen = Some(stamp);
        let text = match self.read().await {
            Ok(text) => text,
            Err(error) => {
                // The content was not seen; the next look tries again.
                self.seen = None;
                return Err(unreadable(&error));
            }
        };
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(CredentialsError::one("the file is larger than 4 MiB"));
        }
        Credentials::parse(&text).map(Some)
    }

    /// Looks at the file every `interval` for ever and gives changes to `authenticator`; `report`
    /// hears of every change (how many clients there are now) and every fault, equal faults in a
    /// row once.
    ///
    /// May be dropped at any time.
    pub async fn watch(
        mut self,
        authenticator: &Authenticator,
        interval: Duration,
        mut report: impl FnMut(Result<usize, &CredentialsError>),
    ) {
        let mut latest_fault = None;
        loop {
            tokio::time::sleep(interval).await;
            match self.poll().await {
                Ok(None) => {}
                Ok(Some(credentials)) => {
                    latest_fault = None;
                    let clients = credentials.len();
                    authenticator.replace(credentials);
                    report(Ok(clients));
                }
                Err(fault) if latest_fault.as_ref() == Some(&fault) => {}
                Err(fault) => {
                    report(Err(&fault));
                    latest_fault = Some(fault);
                }
            }
        }
    }

    async fn stamp(&self) -> std::io::Result<Stamp> {
        let metadata = tokio::fs::metadata(&self.path).await?;
        Ok(Stamp { modified: metadata.modified()?, bytes: metadata.len() })
    }

    async fn read(&self) -> std::io::Result<Vec<u8>> {
        let file = tokio::fs::File::open(&self.path).await?;
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).await?;
        Ok(text)
    }
}

fn unreadable(error: &std::io::Error) -> CredentialsError {
    CredentialsError::one(format!("the file cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_text(id: &str) -> String {
        format!(
            r#"[{{"access_key_id": "{id}", "secret_access_key": "s",
                 "buckets": [{{"bucket": "*", "access": "read"}}]}}]"#
        )
    }

    #[tokio::test]
    async fn a_changed_file_is_read_again_and_a_bad_one_reported_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clients.json");
        assert!(CredentialsFile::open(&path).await.is_err());

        std::fs::write(&path, file_text("first")).unwrap();
        let (mut file, credentials) = CredentialsFile::open(&path).await.unwrap();
        assert!(credentials.client("first").is_some());
        assert_eq!(file.poll().await, Ok(None));

        std::fs::write(&path, "[{").unwrap();
        assert!(file.poll().await.is_err());
        assert_eq!(file.poll().await, Ok(None));

        std::fs::remove_file(&path).unwrap();
        assert!(file.poll().await.is_err());

        std::fs::write(&path, file_text("second-client")).unwrap();
        let credentials = file.poll().await.unwrap().unwrap();
        assert!(credentials.client("first").is_none());
        assert!(credentials.client("second-client").is_some());
    }

    #[tokio::test]
    async fn an_oversized_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clients.json");
        let bytes = usize::try_from(FILE_BYTES_MAX).unwrap() + 1;
        std::fs::write(&path, vec![b' '; bytes]).unwrap();
        let error = CredentialsFile::open(&path).await.unwrap_err();
        assert!(error.to_string().contains("larger than 4 MiB"));
    }

    #[tokio::test]
    async fn watching_replaces_good_credentials_and_keeps_them_over_bad_ones() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("clients.json");
        std::fs::write(&path, file_text("first")).unwrap();
        let (file, credentials) = CredentialsFile::open(&path).await.unwrap();
        let authenticator = Authenticator::new(credentials, None);

        let (reports, mut heard) = tokio::sync::mpsc::channel(8);
        let watching = file.watch(&authenticator, Duration::from_millis(5), |report| {
            reports.try_send(report.is_ok()).unwrap();
        });
        let driving = async {
            std::fs::write(&path, "[]").unwrap();
            assert_eq!(heard.recv().await, Some(false));
            assert!(authenticator.knows("first"));
            std::fs::write(&path, file_text("another")).unwrap();
            assert_eq!(heard.recv().await, Some(true));
        };
        tokio::select! {
            () = watching => unreachable!("watching never ends"),
            () = driving => {}
        }
        assert!(authenticator.knows("another") && !authenticator.knows("first"));
    }
}
